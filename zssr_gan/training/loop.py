"""The training of a generator, in one piece: first by content alone, then in turns with a discriminator.

Every step is a function of its number and of the state: which network learns (`plan`), on which images (`sampling`),
which blocks are skipped. So a run that was stopped and goes on does what the uninterrupted one would have done, and a
signal waits for the end of a step.
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
from zssr_gan.training.checkpoints import NETWORKS, Checkpoints, MetricsLog, Soundness, TrainingState
from zssr_gan.training.dataset import Material, Reals
from zssr_gan.training.losses import Features, Objective
from zssr_gan.training.optimisers import compile_networks, optimisers_of
from zssr_gan.training.sampling import Cuttable, Drawn, Sampler
from zssr_gan.training.schedule import Ended, Plan, Turn, end_epoch, is_measured
from zssr_gan.training.validation import Figures, HeldOut

_ASK_OTHERS = 10  # steps: asking makes the device wait

_FORGET = 0.02  # of the running mean of the discriminator's accuracy, at each of its steps


@dataclass(frozen=True)
class Watchers:
    """Who is told what; all calls come between steps.

    `progress`: after each step that is logged, with its losses. `notice`: a sentence. `best`: a generator to be kept.
    `samples`: outputs on the images held out, to be drawn. `begun`: after which step a run begins or goes on. `logged`:
    a line of metrics.jsonl.
    """

    progress: Callable[[int, int, Mapping[str, float]], None] = lambda _done, _total, _losses: None
    notice: Callable[[str], None] = lambda _text: None
    best: Callable[[GeneratorNetwork, int, str, Figures], None] = lambda _generator, _step, _phase, _figures: None
    samples: Callable[[int, Sequence[Tensor]], None] = lambda _step, _outputs: None
    begun: Callable[[int], None] = lambda _step: None
    logged: Callable[[int, Mapping[str, JsonValue]], None] = lambda _step, _values: None


class Loop:
    """A training.

    Args:
        settings: the group `train`.
        material: what is learnt from.
        features: of the mediator, on the device; None where no loss needs it.
        seed: the run's; decides first weights, order, patches, turns and skipped blocks.
        machine: what it runs on.
        folder: of checkpoints and metrics.jsonl.
        facts: what a run must have in common with a checkpoint to go on from it.
        watchers: who is told what.
        group: of the processes that train together; entered already. None: this one alone.

    Raises:
        SettingsError: options that no network has or that do not fit the data; a checkpoint of another training.
    """

    def __init__(
        self,
        settings: TrainSettings,
        material: Material,
        features: Features | None,
        *,
        seed: int,
        machine: Machine,
        folder: Path,
        facts: Mapping[str, JsonValue],
        watchers: Watchers = Watchers(),
        group: DataParallel | None = None,
    ) -> None:
        self.settings, self.material, self.seed, self.machine = settings, material, seed, machine
        self.watchers = watchers
        self.group = group or DataParallel(Ranks.alone(), machine.device)
        ranks = self.group.ranks
        if settings.batch % ranks.world:
            raise SettingsError(
                f"train.batch: {settings.batch} images cannot be dealt evenly to {ranks.world} processes."
            )
        device, self.scale, channels = machine.device, material.scale, material.channels
        self.generator = generator_of(
            settings.generator, {"scale": self.scale, "channels": channels}, draws(seed, "generator")
        ).to(device)
        rows, columns = (settings.patch,) * 2 if settings.patch else material.inputs.size(0)
        self.discriminator = discriminator_of(
            settings.discriminator, channels, (self.scale * rows, self.scale * columns), draws(seed, "discriminator")
        ).to(device)
        self.objective = Objective(settings.losses, features, material.downscales, self.scale)
        self.state = TrainingState(
            self.generator,
            self.discriminator,
            {name: optimisers_of(getattr(self, name), settings.optimiser, name) for name in NETWORKS},
            accuracy=torch.tensor(0.5, device=device),
        )
        # Not in the mean, which rank 0 uses while the others do not.
        whole = [self.group.synchronise(network) for network in (self.generator, self.discriminator)]
        if not all(whole):
            watchers.notice(
                f"batch normalisation sees {settings.batch // ranks.world} images of a batch in each process, as torch "
                "cannot synchronise it here: set norm to false and none in the networks' options, or take one process"
            )
        if settings.compile:
            compile_networks(self.generator, self.discriminator, device)
        self.plan = Plan.of(settings, len(material.inputs), len(material.reals))
        sampler = self._sampler
        self.inputs, self.fakes = (sampler(material.inputs, name, settings.patch) for name in ("inputs", "fakes"))
        self.others = sampler(material.reals, "statistics", settings.patch)
        self.held_out = HeldOut(settings, material, self.objective, seed, device)
        self.reals = Reals(settings.reals, material, settings.patch, sampler)
        for warning in self.reals.check(self.discriminator.facts):
            watchers.notice(warning)
        self.checkpoints = Checkpoints(folder / "checkpoints", settings.every.keep, facts, watchers.notice)
        self.soundness = Soundness(self.checkpoints, self.group)
        self.log = MetricsLog(folder / "metrics.jsonl")
        # Lists: to walk through a network's modules for them takes longer than what is then done.
        self._weights = {name: list(getattr(self, name).parameters()) for name in NETWORKS}
        self._epoch: int | None = None
        self._ahead: ThreadPoolExecutor
        self._next: Future[Drawn]

    def _sampler(self, images: Cuttable, stream: str, patch: int | None) -> Sampler:
        ranks, batch = self.group.ranks, self.settings.batch
        shared = {"scale": self.scale, "batch": batch, "seed": self.seed, "rank": ranks.rank, "world": ranks.world}
        return Sampler(images, stream=stream, patch=patch, **shared)

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM, after the step was ended and a checkpoint written.
            NumericalError: NaN or infinity; the last good checkpoint is named.
            OutputError: the disk refuses.
            SettingsError: the newest checkpoint is of another training, is beyond the end, or cannot be read.
        """
        if (path := self.checkpoints.resume(self.state, self.group.ranks)) is not None:
            if self.state.step > self.plan.total:
                raise SettingsError(
                    f"train.epochs: {self.settings.epochs} end after {self.plan.total:,} steps, and {path} is after "
                    f"{self.state.step:,}: take no fewer epochs than before, or another run_dir to begin anew."
                )
            self.watchers.notice(f"goes on from {path}, step {self.state.step:,} of {self.plan.total:,}")
        if self.group.ranks.rank == 0:
            self.log.cut_back(self.state.step)
            self.watchers.begun(self.state.step)
        self.generator.train()
        self.discriminator.train()
        with ThreadPoolExecutor(1) as self._ahead:
            self._draw_ahead(self.state.step)
            try:
                with uninterrupted() as signals:
                    while self.state.step < self.plan.total and not self.state.epochs.stopped:
                        self._step(self._next.result())
                        if self._stops(bool(signals)):
                            self.state.epochs.share(self.group)
                            raise Terminated
            except KeyboardInterrupt:
                with uninterrupted():
                    self._keep()
                raise
        if self.state.epochs.stopped:
            self.watchers.notice(f"stopped early, after step {self.state.step:,}: {_why_stopped(self.settings)}")
        self.checkpoints.trust()  # its outputs were judged, and no step comes after it

    def _stops(self, here: bool) -> bool:
        """Whether a signal came, to any process: all stop after the same step, or some would wait for the others."""
        if self.group.ranks.world > 1 and self.state.step % _ASK_OTHERS:
            return False
        return self.group.any(here)

    def _batches(self, step: int) -> Drawn:
        """What a step is about."""
        if step >= self.plan.total:
            step = 0  # never used
        turn = self.plan.turn(step)
        if turn.who == "discriminator":
            return Drawn(self.fakes.batch(turn.number), self.reals.batch(turn.number))
        batch, losses, reals = self.inputs.batch(turn.number), self.settings.losses, dict[str, Tensor]()
        if losses.against_reals and turn.phase == "adversarial":
            reals = self.reals.beside(batch, turn.number)
        others = self.others.batch(turn.number).hr if losses.statistics else None
        return Drawn(batch, reals if others is None else {**reals, "statistics": others})

    def _draw_ahead(self, step: int) -> None:
        self._next = self._ahead.submit(self._batches, step)

    def _step(self, drawn: Drawn) -> None:
        """One update, and what is due after it."""
        turn = self.plan.turn(self.state.step)
        if turn.epoch != self._epoch:
            self._epoch = turn.epoch
            self.generator.draw_skipped(draws(self.seed, "skip", turn.epoch))
        drawn = drawn.to(self.machine.device)
        of_discriminator = turn.who == "discriminator"
        losses = self._losses_of_discriminator(drawn) if of_discriminator else self._losses_of_generator(drawn, turn)
        losses["gradient"] = self._update(turn, losses["loss"])
        self.state.step += 1
        self._after(turn, losses)

    def _losses_of_generator(self, drawn: Drawn, turn: Turn) -> dict[str, Tensor]:
        with self._autocast():
            sr = self.generator(drawn.lr.lr)
            found = self.objective.content(self.generator, sr, drawn.lr, drawn.reals.get("statistics"))
            if turn.phase == "adversarial":
                # Its own weights do not learn from this: their gradients are not even computed.
                self._let_learn(False)
                found["adversarial"] = self.objective.passing(self.discriminator, sr, drawn.reals, self.reals.weights)
                self._let_learn(True)
        return {**found, "loss": self.objective.total(found)}

    def _let_learn(self, learns: bool) -> None:
        for weight in self._weights["discriminator"]:
            weight.requires_grad = learns

    def _losses_of_discriminator(self, drawn: Drawn) -> dict[str, Tensor]:
        with self._autocast():
            with torch.no_grad():
                fakes = self.objective.fakes(self.generator(drawn.lr.lr), drawn.lr)
            on_reals = {kind: self.discriminator(real) for kind, real in drawn.reals.items()}
            found = self.objective.judged(on_reals, self.reals.weights, [self.discriminator(fake) for fake in fakes])
        found["accuracy"] = self.group.mean(found["accuracy"])
        self.state.accuracy = torch.lerp(self.state.accuracy, found["accuracy"], _FORGET)
        return found

    def _update(self, turn: Turn, loss: Tensor) -> Tensor:
        """Follow the gradient, whose norm it returns."""
        network, optimisers = getattr(self, turn.who), self.state.optimisers[turn.who]
        left = self._rate_left(turn)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * left
            optimiser.zero_grad(set_to_none=True)
        # The next batch is drawn beside the backward pass, which leaves Python free; else one would wait for the other.
        loss.register_hook(lambda _: self._draw_ahead(self.state.step + 1))
        loss.backward()
        self.group.average(network)
        norm = nn.utils.clip_grad_norm_(self._weights[turn.who], self.settings.optimiser.clip or math.inf)
        self.soundness.see(loss, norm)
        if self.machine.device.type == "cpu":  # elsewhere it would wait for the device at each step
            self.soundness.judge(self.state.step + 1, turn.who)
        for optimiser in optimisers:
            optimiser.step()
        if turn.who == "generator":
            self.state.follow(self.settings.ema, turn.number + 1)
        return norm

    def _rate_left(self, turn: Turn) -> float:
        """What the schedule leaves of the first rates at a step."""
        cosine = self.settings.optimiser.schedule == "cosine"
        return (1 + math.cos(math.pi * turn.done)) / 2 if cosine else self.state.epochs.rate

    def _after(self, turn: Turn, losses: Mapping[str, Tensor]) -> None:
        """What is due after a step: log, validation, samples, checkpoint. The last one has all of them."""
        step, every, last = self.state.step, self.settings.every, self.state.step == self.plan.total
        due = {kind: last or step % getattr(every, kind) == 0 for kind in ("validation", "samples", "checkpoint")}
        # Counted by each network: in turns of one step each, every tenth step would always be the same one's.
        due["log"] = last or (turn.number + 1) % every.log == 0
        self.state.epochs.add(turn.who, {name: value for name, value in losses.items() if name != "gradient"})
        ends = self.plan.ends_epoch(turn)
        if any(due.values()) or ends:
            self.soundness.judge(step, None)
        values = {}
        if due["log"]:
            means = self.group.mean(torch.stack([value.detach().float() for value in losses.values()]))
            values = dict(zip(losses, means.tolist(), strict=True))
        # The last step of a phase is validated as its last.
        measured = due["validation"] or due["samples"] or step == self.plan.pretrain
        made, figures = None, None
        if not self.group.ranks.rank and (measured or (ends and is_measured(self.settings))):
            made = self.held_out.outputs(self.state)
            self.soundness.judge_outputs(step, made)
            figures = self.held_out.figures(self.state, made)
        ended, rate = None, self.settings.optimiser.lr * self._rate_left(turn)
        if ends:
            loss = None if figures is None else figures.loss
            ended = end_epoch(self.state.epochs, self.settings, turn, loss, self.group)
        over = last or self.state.epochs.stopped
        if due["checkpoint"] or over:
            self.state.epochs.share(self.group)
        if self.group.ranks.rank:
            return
        if due["log"]:
            self._log({"phase": turn.phase, "who": turn.who, **values})
        if made is not None and (due["samples"] or over):
            self.watchers.samples(step, made)
        if figures is not None:
            self._validate(turn, figures, ended)
        if ended is not None:
            self._log({"phase": turn.phase, "epoch": ended.line(rate, None if figures is None else figures.values)})
        if due["checkpoint"] or over:
            self._keep()
        if due["log"]:
            self.watchers.progress(step, self.plan.total, values)

    def _validate(self, turn: Turn, figures: Figures, ended: Ended | None) -> None:
        """Log what was measured, and keep the generator if it is the best; `ended`: the epoch, where one has."""
        state = self.state
        accuracy = state.accuracy.item() if turn.phase == "adversarial" else None
        warnings = figures.warnings(accuracy)
        for warning in warnings:
            self.watchers.notice(f"step {state.step:,}: {warning}")
        values: dict[str, JsonValue] = {**figures.values, "accuracy": accuracy, "warnings": [*warnings]}
        self._log({"phase": turn.phase, "validation": values})
        if self.held_out.is_best(state, turn, figures, ended):
            self.watchers.best(state.mean, state.step, turn.phase, figures)

    def _log(self, values: Mapping[str, JsonValue]) -> None:
        self.log.append(self.state.step, values)
        self.watchers.logged(self.state.step, values)

    def _keep(self) -> None:
        """Write a checkpoint, unless this process is not the one that writes. NumericalError: it is not worth it."""
        if self.group.ranks.rank == 0:
            self.soundness.judge_state(self.state)
            self.log.flush()
            self.checkpoints.write(self.state)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.precision == "bf16")


def _why_stopped(settings: TrainSettings) -> str:
    assert settings.stop is not None, "who asked for it"
    return f"the {settings.stop.of} loss has not gained for {settings.stop.patience} epochs"
