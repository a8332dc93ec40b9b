"""The training of a generator: first by content alone, then alternating with a discriminator.

Every step is a function of its number and of the state: which network learns (`schedule`), on which images
(`sampling`), which blocks are skipped. So a run that was stopped and goes on does what the uninterrupted one would have
done; a signal waits for the end of a step.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from zssr_gan.devices import Machine
from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.errors import SettingsError
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.registry import discriminator_of, generator_of
from zssr_gan.seeds import generator as draws
from zssr_gan.settings.train import TrainSettings
from zssr_gan.signals import Terminated, uninterrupted
from zssr_gan.training.checkpoints import NETWORKS, Checkpoints, FiniteCheck, TrainingState
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import MetricsLog
from zssr_gan.training.losses import Features, Objective
from zssr_gan.training.optimisers import compile_networks, optimisers_of
from zssr_gan.training.real_patches import RealPatches
from zssr_gan.training.sampling import PatchSource, Sampler, StepBatch
from zssr_gan.training.schedule import EpochMeans, Schedule, Step, end_epoch, is_measured
from zssr_gan.training.validation import Figures, Validation

_ASK_OTHERS = 10  # steps: asking makes the device wait
_ACCURACY_DECAY = 0.02  # of the running mean of the discriminator's accuracy, at each of its steps


@dataclass(frozen=True)
class Callbacks:
    """What the caller wants to hear of, between steps.

    `progress`: after each logged step, with its losses. `notice`: a sentence. `best`: a generator that is the best so
    far. `samples`: step, all steps, and outputs on the images held out. `begun`: the step after which a run begins.
    `logged`: a line of metrics.jsonl.
    """

    progress: Callable[[int, int, Mapping[str, float]], None] = lambda _done, _total, _losses: None
    notice: Callable[[str], None] = lambda _text: None
    best: Callable[[GeneratorNetwork, int, str, Figures], None] = lambda _generator, _step, _phase, _figures: None
    samples: Callable[[int, int, Sequence[Tensor]], None] = lambda _step, _total, _outputs: None
    begun: Callable[[int], None] = lambda _step: None
    logged: Callable[[int, Mapping[str, JsonValue]], None] = lambda _step, _values: None


class Loop:
    """A training.

    Args:
        settings: the group `train`.
        data: what is learnt from.
        features: of the mediator, on the device; None where no loss needs it.
        seed: the run's; decides initial weights, order, patches, flips and skipped blocks.
        machine: what it runs on.
        folder: of checkpoints and metrics.jsonl.
        facts: what a run must have in common with a checkpoint to go on from it.
        callbacks: what the caller wants to hear of.
        group: the processes that train together, entered already. None: this one alone.

    Raises:
        SettingsError: options that no network has or that do not fit the data; a checkpoint of another training.
    """

    def __init__(
        self,
        settings: TrainSettings,
        data: TrainingData,
        features: Features | None,
        *,
        seed: int,
        machine: Machine,
        folder: Path,
        facts: Mapping[str, JsonValue],
        callbacks: Callbacks = Callbacks(),
        group: DataParallel | None = None,
    ) -> None:
        self.settings, self.data, self.seed, self.machine, self.callbacks = settings, data, seed, machine, callbacks
        self.group = group or DataParallel(Ranks.alone(), machine.device)
        world = self.group.ranks.world
        if settings.batch % world:
            raise SettingsError(f"train.batch: {settings.batch} images cannot be dealt evenly to {world} processes.")
        device, self.scale, channels = machine.device, data.scale, data.channels
        self.generator = generator_of(
            settings.generator, {"scale": self.scale, "channels": channels}, draws(seed, "generator")
        ).to(device)
        rows, columns = (settings.patch,) * 2 if settings.patch else data.inputs.size(0)
        self.discriminator = discriminator_of(
            settings.discriminator, channels, (self.scale * rows, self.scale * columns), draws(seed, "discriminator")
        ).to(device)
        self.objective = Objective(settings.losses, features, data.downscales, self.scale)
        self.state = TrainingState(
            self.generator,
            self.discriminator,
            {name: optimisers_of(getattr(self, name), settings.optimiser, name) for name in NETWORKS},
            accuracy=torch.tensor(0.5, device=device),
        )
        # Not in the running mean of the generator, which rank 0 uses while the others do not.
        synchronised = [self.group.synchronise(network) for network in (self.generator, self.discriminator)]
        if not all(synchronised):
            callbacks.notice(
                f"batch normalisation sees {settings.batch // world} images of a batch in each process, as torch "
                "cannot synchronise it here: set norm to false and none in the networks' options, or take one process"
            )
        if settings.compile:
            compile_networks(self.generator, self.discriminator, device)
        self.schedule = Schedule.of(settings, len(data.inputs), len(data.reals))
        self.inputs, self.fakes = (self._sampler(data.inputs, name, settings.patch) for name in ("inputs", "fakes"))
        self.validation = Validation(settings, data, self.objective, seed, device)
        self.reals = RealPatches(settings.reals, data, settings.patch, self._sampler)
        for warning in self.reals.check(self.discriminator.facts):
            callbacks.notice(warning)
        self.checkpoints = Checkpoints(folder / "checkpoints", settings.every.keep, facts, callbacks.notice)
        self.finite = FiniteCheck(self.checkpoints, self.group)
        self.log = MetricsLog(folder / "metrics.jsonl")
        # Lists: to walk through a network's modules for them takes longer than what is then done.
        self._weights = {name: list(getattr(self, name).parameters()) for name in NETWORKS}
        self._epoch: int | None = None
        self._ahead: ThreadPoolExecutor
        self._next: Future[StepBatch]

    def _sampler(self, images: PatchSource, stream: str, patch: int | None) -> Sampler:
        ranks = self.group.ranks
        shared = {"scale": self.scale, "batch": self.settings.batch, "seed": self.seed}
        return Sampler(images, stream=stream, patch=patch, rank=ranks.rank, world=ranks.world, **shared)

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM, after the step was ended and a checkpoint written.
            NumericalError: NaN or infinity; the last good checkpoint is named.
            OutputError: the disk refuses.
            SettingsError: the newest checkpoint is of another training, is beyond the end, or cannot be read.
        """
        state, total, notice = self.state, self.schedule.total, self.callbacks.notice
        if (path := self.checkpoints.resume(state, self.group.ranks)) is not None:
            if state.step > total:
                raise SettingsError(
                    f"train.epochs: {self.settings.epochs} end after {total:,} steps, and {path} is after "
                    f"{state.step:,}: take no fewer epochs than before, or another run_dir to begin anew."
                )
            notice(f"goes on from {path}, step {state.step:,} of {total:,}")
        if self.group.ranks.rank == 0:
            self.log.cut_back(state.step)
            self.callbacks.begun(state.step)
        self.generator.train()
        self.discriminator.train()
        with ThreadPoolExecutor(1) as self._ahead:
            self._draw_ahead(state.step)
            try:
                with uninterrupted() as signals:
                    while state.step < total and not state.epochs.stopped:
                        self._step(self._next.result())
                        if self._stops(bool(signals)):
                            state.epochs.share(self.group)
                            raise Terminated
            except KeyboardInterrupt:
                with uninterrupted():
                    self._write_checkpoint()
                raise
        if state.epochs.stopped:
            stop = self.settings.stop
            assert stop is not None
            why = f"the {stop.of} loss has not gained for {stop.patience} epochs"
            notice(f"stopped early, after step {state.step:,}: {why}")
        self.checkpoints.trust()  # its outputs were checked, and no step comes after it

    def _stops(self, here: bool) -> bool:
        """Whether a signal came, to any process: all stop after the same step, or some would wait for the others."""
        if self.group.ranks.world > 1 and self.state.step % _ASK_OTHERS:
            return False
        return self.group.any(here)

    def _batches(self, number: int) -> StepBatch:
        """What a step learns from."""
        step = self.schedule.at(number if number < self.schedule.total else 0)  # one beyond the end is never used
        if step.network == "discriminator":
            return StepBatch(self.fakes.batch(step.number), self.reals.batch(step.number))
        batch = self.inputs.batch(step.number)
        beside = self.settings.losses.against_reals and step.phase == "adversarial"
        return StepBatch(batch, self.reals.beside(batch, step.number) if beside else {})

    def _draw_ahead(self, number: int) -> None:
        self._next = self._ahead.submit(self._batches, number)

    def _step(self, drawn: StepBatch) -> None:
        """One update, and what is due after it."""
        step = self.schedule.at(self.state.step)
        if step.epoch != self._epoch:
            self._epoch = step.epoch
            self.generator.draw_skipped(draws(self.seed, "skip", step.epoch))
        drawn = drawn.to(self.machine.device)
        losses = (
            self._discriminator_losses(drawn)
            if step.network == "discriminator"
            else self._generator_losses(drawn, adversarial=step.phase == "adversarial")
        )
        losses["gradient"] = self._update(step, losses["loss"])
        self.state.step += 1
        self._after(step, losses)

    def _generator_losses(self, drawn: StepBatch, *, adversarial: bool) -> dict[str, Tensor]:
        with self._autocast():
            sr = self.generator(drawn.lr.lr)
            losses = self.objective.content(self.generator, sr, drawn.lr)
            if adversarial:
                # Its own weights do not learn from this: their gradients are not even computed.
                self._require_gradients(False)
                losses["adversarial"] = self.objective.generator_adversarial(
                    self.discriminator, sr, drawn.reals, self.reals.weights
                )
                self._require_gradients(True)
        return {**losses, "loss": self.objective.total(losses)}

    def _require_gradients(self, required: bool) -> None:
        for weight in self._weights["discriminator"]:
            weight.requires_grad = required

    def _discriminator_losses(self, drawn: StepBatch) -> dict[str, Tensor]:
        with self._autocast():
            with torch.no_grad():
                fake = self.generator(drawn.lr.lr)
            on_reals = {kind: self.discriminator(real) for kind, real in drawn.reals.items()}
            losses = self.objective.discriminator(on_reals, self.reals.weights, self.discriminator(fake))
        losses["accuracy"] = self.group.mean(losses["accuracy"])
        self.state.accuracy = torch.lerp(self.state.accuracy, losses["accuracy"], _ACCURACY_DECAY)
        return losses

    def _update(self, step: Step, loss: Tensor) -> Tensor:
        """Follow the gradient, whose norm it returns."""
        network, optimisers = getattr(self, step.network), self.state.optimisers[step.network]
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * self._rate(step)
            optimiser.zero_grad(set_to_none=True)
        # The next batch is drawn beside the backward pass, which leaves Python free; else one would wait for the other.
        loss.register_hook(lambda _: self._draw_ahead(self.state.step + 1))
        loss.backward()
        self.group.average(network)
        norm = nn.utils.clip_grad_norm_(self._weights[step.network], self.settings.optimiser.clip or math.inf)
        self.finite.add(loss, norm)
        if self.machine.device.type == "cpu":  # elsewhere it would wait for the device at each step
            self.finite.check(self.state.step + 1, step.network)
        for optimiser in optimisers:
            optimiser.step()
        if step.network == "generator":
            self.state.update_mean(self.settings.ema, step.number + 1)
        return norm

    def _rate(self, step: Step) -> float:
        """The share of the initial learning rates that the schedule leaves at a step."""
        cosine = self.settings.optimiser.schedule == "cosine"
        return (1 + math.cos(math.pi * step.done)) / 2 if cosine else self.state.epochs.rate

    def _after(self, step: Step, losses: Mapping[str, Tensor]) -> None:
        """What is due after a step: log, validation, samples, checkpoint. The last one has all of them."""
        state, every, leads = self.state, self.settings.every, self.group.ranks.rank == 0
        number, last = state.step, state.step == self.schedule.total
        due = {kind: last or number % getattr(every, kind) == 0 for kind in ("validation", "samples", "checkpoint")}
        # Counted by each network: with one step each in turn, every tenth step would always be the same network's.
        due["log"] = last or (step.number + 1) % every.log == 0
        state.epochs.add(step.network, {name: value for name, value in losses.items() if name != "gradient"})
        ends = self.schedule.ends_epoch(step)
        if any(due.values()) or ends:
            self.finite.check(number, None)
        values = {}
        if due["log"]:
            means = self.group.mean(torch.stack([value.detach().float() for value in losses.values()]))
            values = dict(zip(losses, means.tolist(), strict=True))
        # The last step of a phase is validated as its last.
        measured = due["validation"] or due["samples"] or number == self.schedule.pretrain
        outputs, figures = None, None
        if leads and (measured or (ends and is_measured(self.settings))):
            outputs = self.validation.outputs(state)
            self.finite.check_outputs(number, outputs)
            figures = self.validation.figures(state, outputs)
        epoch, rate = None, self.settings.optimiser.lr * self._rate(step)
        if ends:
            loss = None if figures is None else figures.loss
            epoch = end_epoch(state.epochs, self.settings, step, loss, self.group)
        over = last or state.epochs.stopped
        if due["checkpoint"] or over:
            state.epochs.share(self.group)
        if not leads:
            return
        if due["log"]:
            self._log({"phase": step.phase, "who": step.network, **values})
        if outputs is not None and (due["samples"] or over):
            self.callbacks.samples(number, self.schedule.total, outputs)
        if figures is not None:
            self._validate(step, figures, epoch)
        if epoch is not None:
            line = epoch.line(rate, None if figures is None else figures.values)
            self._log({"phase": step.phase, "epoch": line})
        if due["checkpoint"] or over:
            self._write_checkpoint()
        if due["log"]:
            self.callbacks.progress(number, self.schedule.total, values)

    def _validate(self, step: Step, figures: Figures, epoch: EpochMeans | None) -> None:
        """Log what was measured, and hand on the generator if it is the best; `epoch`: the one that ended here."""
        accuracy = self.state.accuracy.item() if step.phase == "adversarial" else None
        warnings = figures.warnings(accuracy)
        for warning in warnings:
            self.callbacks.notice(f"step {self.state.step:,}: {warning}")
        values: dict[str, JsonValue] = {**figures.values, "accuracy": accuracy, "warnings": [*warnings]}
        self._log({"phase": step.phase, "validation": values})
        if self.validation.is_best(self.state, step, figures, epoch):
            self.callbacks.best(self.state.mean, self.state.step, step.phase, figures)

    def _log(self, values: Mapping[str, JsonValue]) -> None:
        self.log.append(self.state.step, values)
        self.callbacks.logged(self.state.step, values)

    def _write_checkpoint(self) -> None:
        """Write one, if this is the process that writes. Raises NumericalError where it is not worth it."""
        if self.group.ranks.rank == 0:
            self.finite.check_state(self.state)
            self.log.flush()
            self.checkpoints.write(self.state)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.precision == "bf16")
