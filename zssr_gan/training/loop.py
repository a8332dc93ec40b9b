"""The training of a generator: first by content alone, then alternating with a discriminator.

Every step is a function of its number and of the state: which network learns (`state.Schedule`), on which images
(`sampling`), which blocks are skipped. So a resumed run makes the steps of an uninterrupted one; a signal waits for the
end of a step.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from zssr_gan.devices import Machine
from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.errors import SettingsError
from zssr_gan.networks.registry import discriminator_of, generator_of
from zssr_gan.ops.graphs import Graphed
from zssr_gan.seeds import generator as draws
from zssr_gan.settings.train import TrainSettings
from zssr_gan.signals import Terminated, uninterrupted
from zssr_gan.training.checkpoints import Checkpoints
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import SILENT, Callbacks, MetricsLog
from zssr_gan.training.losses import Features, Objective
from zssr_gan.training.optimisers import compile_networks, optimisers_of, place_networks, set_rates
from zssr_gan.training.real_patches import RealPatches
from zssr_gan.training.sampling import Sampler, StepBatch
from zssr_gan.training.state import NETWORKS, Schedule, Step, TrainingState
from zssr_gan.training.validation import measure, outputs_of, retake_statistics, warnings_of

_ASK_OTHERS = 10  # steps: asking makes the device wait
_ACCURACY_DECAY = 0.02  # of the running mean of the discriminator's accuracy, at each of its steps


class Loop:
    """A training: `run` resumes from the newest checkpoint in `folder`, where metrics.jsonl stands too.

    `features`: of the mediator, on the device; None where no loss needs it. `seed` decides initial weights, order,
    patches, flips and skipped blocks. `facts`: what a run must have in common with a checkpoint to go on from it.
    `group`: the processes that train together, entered already; None: this one alone. Raises SettingsError for options
    that no network has or that do not fit the data.
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
        callbacks: Callbacks = SILENT,
        group: DataParallel | None = None,
    ) -> None:
        self.settings, self.data, self.seed, self.machine, self.callbacks = settings, data, seed, machine, callbacks
        self.group = group or DataParallel(Ranks.alone(), machine.device)
        ranks, device, channels, scale = self.group.ranks, machine.device, data.channels, data.scale
        if settings.batch % ranks.world:
            raise SettingsError(
                f"train.batch: {settings.batch} images cannot be dealt evenly to {ranks.world} processes."
            )
        given = {"scale": scale, "channels": channels}
        self.generator = generator_of(settings.generator, given, draws(seed, "generator"))
        rows, columns = (settings.patch,) * 2 if settings.patch else data.inputs.size(0)
        self.discriminator = discriminator_of(
            settings.discriminator, channels, (scale * rows, scale * columns), draws(seed, "discriminator")
        )
        place_networks((self.generator, self.discriminator, features), device)
        optimisers = {name: optimisers_of(getattr(self, name), settings.optimiser, name) for name in NETWORKS}
        accuracy = torch.tensor(0.5, device=device)
        self.state = TrainingState(self.generator, self.discriminator, optimisers, accuracy, settings.ema)
        # Not in the running mean of the generator, which rank 0 uses while the others do not.
        synchronised = [self.group.synchronise(network) for network in (self.generator, self.discriminator)]
        if not all(synchronised):
            callbacks.notice(
                f"batch normalisation sees {settings.batch // ranks.world} images of a batch in each process, as torch "
                "cannot synchronise it here: set norm to false and none in the networks' options, or take one process"
            )
        if settings.compile:
            compile_networks(self.generator, self.discriminator, device)
        self.objective = Objective(settings.losses, features, data.downscales, scale)
        self.schedule = Schedule.of(settings, len(data.inputs), len(data.reals))
        sampler = partial(Sampler, scale=scale, batch=settings.batch, seed=seed, device=device)
        share = partial(sampler, rank=ranks.rank, world=ranks.world)
        self.inputs = share(data.inputs, stream="inputs", patch=settings.patch)
        self.fakes = share(data.inputs, stream="fakes", patch=settings.patch)
        self._measured = sampler(data.inputs, stream="measured", patch=settings.patch)
        self.reals = RealPatches(settings.reals, data, settings.patch, share)
        for warning in self.reals.check(self.discriminator.facts):
            callbacks.notice(warning)
        self.checkpoints = Checkpoints(folder / "checkpoints", facts, callbacks.notice)
        self.log = MetricsLog(folder / "metrics.jsonl")
        # Lists: to walk through a network's modules for them takes longer than what is then done.
        self._weights = {name: list(getattr(self, name).parameters()) for name in NETWORKS}
        self._finite = torch.tensor(True, device=device)
        self._epoch: int | None = None
        self._skipped: Sequence[bool] = ()
        self._replays = device.type == "cuda" and ranks.world == 1 and self.objective.same_work
        self._graphs: dict[tuple[str, str], Graphed] = {}
        self._called: dict[str, nn.Module]
        self._ahead: ThreadPoolExecutor
        self._next: Future[StepBatch]

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
            notice(f"resumed from {path}, step {state.step:,} of {total:,}")
        if self.group.ranks.rank == 0:
            self.log.cut_back(state.step)
            self.callbacks.begun(state.step)
        self._called = {name: self.group.wrap(getattr(self, name)) for name in NETWORKS}
        self.generator.train()
        self.discriminator.train()
        with ThreadPoolExecutor(1) as self._ahead:
            self._draw_ahead(state.step)
            try:
                with uninterrupted() as signals:
                    while state.step < total and not state.stopped:
                        self._step(self._next.result())
                        # All processes stop after the same step, or some would wait for the others.
                        asks = self.group.ranks.world == 1 or state.step % _ASK_OTHERS == 0
                        if asks and self.group.any(bool(signals)):
                            state.share_sums(self.group)
                            raise Terminated
            except KeyboardInterrupt:
                with uninterrupted():
                    self._write_checkpoint()
                raise
        if state.stopped and (stop := self.settings.stop) is not None:
            why = f"the {stop.of} loss has not gained for {stop.patience} epochs"
            notice(f"stopped early, after step {state.step:,}: {why}")
        self.checkpoints.trust()  # its outputs were checked, and no step comes after it

    def _draw_ahead(self, number: int) -> None:
        self._next = self._ahead.submit(self._draw, number)

    def _draw(self, number: int) -> StepBatch:
        """What a step learns from."""
        step = self.schedule.at(number if number < self.schedule.total else 0)  # one beyond the end is never used
        if step.network == "discriminator":
            return StepBatch(self.fakes.batch(step.number), self.reals.batch(step.number))
        batch = self.inputs.batch(step.number)
        beside = self.settings.losses.against_reals and step.phase == "adversarial"
        return StepBatch(batch, self.reals.beside(batch, step.number) if beside else {})

    def _step(self, drawn: StepBatch) -> None:
        """One update, and what is due after it."""
        step = self.schedule.at(self.state.step)
        if step.epoch != self._epoch:
            self._epoch = step.epoch
            skipped = self.generator.draw_skipped(draws(self.seed, "skip", step.epoch))
            if skipped != self._skipped:  # other blocks, other kernels
                self._skipped, self._graphs = skipped, {}
        set_rates(self.state.optimisers[step.network], self._rate(step))
        drawn, device = drawn.to(self.machine.device), self.machine.device
        if device.type != "cpu":
            self._draw_ahead(self.state.step + 1)
        if self._replays:
            work = Graphed(lambda tensors: self._learn(step, drawn.holding(tensors)), device, self._replay_no_more)
            losses = self._graphs.setdefault((step.network, step.phase), work)(drawn.tensors)
        else:
            losses = self._learn(step, drawn)
        if step.network == "generator":
            self.state.update_mean(step.number + 1)
        self.state.step += 1
        self.state.add(step.network, {name: loss for name, loss in losses.items() if name != "gradient"})
        self._after(step, losses)

    def _replay_no_more(self, why: str) -> None:
        self._replays = False
        self.callbacks.notice(why)

    def _losses(self, step: Step, drawn: StepBatch) -> dict[str, Tensor]:
        """What the step's network minimises (`loss`), and its parts."""
        called = self._called[step.network]
        if step.network == "discriminator":
            with torch.no_grad():
                fake = self.generator(drawn.lr.lr)
            on_reals = {kind: called(real) for kind, real in drawn.reals.items()}
            losses = self.objective.discriminator(on_reals, self.reals.weights, called(fake))
            losses["accuracy"] = self.group.mean(losses["accuracy"])
            self.state.accuracy.lerp_(losses["accuracy"], _ACCURACY_DECAY)
            return losses
        sr = called(drawn.lr.lr)
        losses = self.objective.content(self.generator, sr, drawn.lr)
        if step.phase == "adversarial":
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

    def _learn(self, step: Step, drawn: StepBatch) -> dict[str, Tensor]:
        """Update the step's network. Its losses, and as `gradient` the norm of what it followed."""
        device, optimisers = self.machine.device.type, self.state.optimisers[step.network]
        with torch.autocast(device, torch.bfloat16, enabled=self.machine.precision == "bf16"):
            losses = self._losses(step, drawn)
        loss = losses["loss"]
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        if device == "cpu":
            # The next batch is drawn beside the backward pass, which leaves Python free; else one would wait for the
            # other.
            loss.register_hook(lambda _: self._draw_ahead(self.state.step + 1))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._weights[step.network], self.settings.optimiser.clip or math.inf)
        self._finite &= torch.isfinite(loss.detach()) & torch.isfinite(norm)
        if device == "cpu":  # elsewhere it would wait for the device at each step
            self._check_finite(f"step {self.state.step + 1:,}", f"the {step.network}")
        for optimiser in optimisers:
            optimiser.step()
        return {**{name: value.detach() for name, value in losses.items()}, "gradient": norm}

    def _check_finite(self, at: str, network: str) -> None:
        """Raise NumericalError where a loss or gradient of a step before was not finite; every process calls it."""
        if self.group.any(not self._finite):
            raise self.checkpoints.diverged(at, f"the loss or gradient of {network} is")
        self.checkpoints.trust()

    def _rate(self, step: Step) -> float:
        """The share of the initial learning rates that the schedule leaves at a step."""
        cosine = self.settings.optimiser.schedule == "cosine"
        return (1 + math.cos(math.pi * step.done)) / 2 if cosine else self.state.rate

    def _after(self, step: Step, losses: Mapping[str, Tensor]) -> None:
        """What is due after a step: log, validation, samples, checkpoint. The last one has all of them."""
        state, settings, leads, total = self.state, self.settings, self.group.ranks.rank == 0, self.schedule.total
        number, last, ends = state.step, state.step == total, self.schedule.ends_epoch(step)
        # Lines are counted by each network: with one step each in turn, every tenth would always be the same network's.
        counts = {"log": step.number + 1, "validation": number, "samples": number, "checkpoint": number}
        due = {name for name, count in counts.items() if last or count % getattr(settings.every, name) == 0}
        if due or ends:
            self._check_finite(f"at or before step {number:,}", "a network")
        values: dict[str, float] = {}
        if "log" in due:
            mean = self.group.mean(torch.stack([value.detach().float() for value in losses.values()]))
            values = dict(zip(losses, mean.tolist(), strict=True))
        outputs, figures = list[Tensor](), dict[str, float]()
        phase_ends = number == self.schedule.pretrain
        if leads and (due & {"validation", "samples"} or phase_ends or (ends and self._by_epochs)):
            outputs, figures = self.validate()
        means, rate = dict[str, dict[str, float]](), settings.optimiser.lr * self._rate(step)
        if ends:
            means = state.end_epoch(step, settings, figures.get("loss"), self.group)
        if state.stopped:
            due |= {"samples", "checkpoint"}
        if "checkpoint" in due:
            state.share_sums(self.group)
        if not leads:
            return
        if "log" in due:
            self._log({"phase": step.phase, "who": step.network, **values})
        if figures:
            if "samples" in due:
                self.callbacks.samples(number, total, outputs)
            accuracy = state.accuracy.item() if step.phase == "adversarial" else None
            warnings = warnings_of(figures, accuracy)
            for warning in warnings:
                self.callbacks.notice(f"step {number:,}: {warning}")
            self._log({"phase": step.phase, "validation": {**figures, "accuracy": accuracy, "warnings": [*warnings]}})
            if state.is_best(step, self._figure(figures, means)):
                self.callbacks.best(state.mean, number, step.phase, figures)
        if ends:
            epoch = {"number": step.epoch + 1, "rate": rate, **means, "validation": figures or None}
            self._log({"phase": step.phase, "epoch": epoch})  # type: ignore[dict-item]  # dicts of floats are JSON
        if "checkpoint" in due:
            self._write_checkpoint()
        if "log" in due:
            self.callbacks.progress(number, total, values)

    def validate(self) -> tuple[list[Tensor], dict[str, float]]:
        """Outputs of the mean generator on the images held out, `C sH sW` each, and their figures, with the content
        losses as `loss` where there are any. Raises NumericalError where an output is not finite."""
        held_out, device, mean = self.data.held_out, self.machine.device, self.state.mean
        retake_statistics(mean, self._measured, device)
        outputs = outputs_of(mean, held_out, device)
        if not all(bool(one.isfinite().all()) for one in outputs):
            raise self.checkpoints.diverged(f"step {self.state.step:,}", "the generator's outputs are")
        loss = self.objective.on_held_out(mean, outputs, held_out, device)
        figures = measure(outputs, held_out, self.data.downscales, paired=self.data.paired)
        return outputs, figures if loss is None else {**figures, "loss": loss}

    @property
    def _by_epochs(self) -> bool:
        """Whether the images held out are measured at the end of each epoch."""
        settings = self.settings
        plateau = settings.optimiser.schedule == "plateau" and settings.optimiser.plateau.of == "validation"
        return plateau or settings.stop is not None or settings.validation.best == "training_loss"

    def _figure(self, figures: Mapping[str, float], means: Mapping[str, Mapping[str, float]]) -> float | None:
        """By which generators are compared, more is better; `means`: losses of the epoch that ended, if one did."""
        best = self.settings.validation.best
        if best == "training_loss":
            return -means["generator"]["loss"] if means else None
        if best == "last":
            return float(self.state.step)
        return figures["residual_db" if best == "residual" else "truth_db" if self.data.paired else "synthetic_db"]

    def _log(self, values: Mapping[str, JsonValue]) -> None:
        self.log.append(self.state.step, values)
        self.callbacks.logged(self.state.step, values)

    def _write_checkpoint(self) -> None:
        """Write one, if this is the process that writes. Raises NumericalError where it is not worth it."""
        if self.group.ranks.rank == 0:
            if not (self._finite and self.state.finite):
                raise self.checkpoints.diverged(
                    f"at or before step {self.state.step:,}", "a loss, gradient or weight is"
                )
            self.log.flush()
            self.checkpoints.write(self.state)
