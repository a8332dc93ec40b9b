"""Which network learns at each step, and what is decided when an epoch ends (mean losses, learning rates, early stop).

A step is a function of its number alone, and the rest is state that checkpoints hold: a resumed run goes on exactly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.distributed import DataParallel
from zssr_gan.settings.train import PatienceSettings, TrainSettings


@dataclass(frozen=True, slots=True)
class Step:
    """One update of one network."""

    phase: Literal["pretrain", "adversarial"]
    network: Literal["generator", "discriminator"]
    number: int
    """How many updates this network had before."""
    epoch: int
    """Passes of the generator through its images, finished before: blocks are skipped anew in each."""
    done: float
    """Share of the training that is over, in [0, 1): for the schedule of learning rates."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The order of all steps.

    `pretrain`: steps of the generator by content alone. Then `cycles`, each `discriminator` steps of the one and
    `generator` steps of the other. `epoch`: steps in which the generator sees as many images as there are.
    """

    pretrain: int
    cycles: int
    discriminator: int
    generator: int
    epoch: int

    @classmethod
    def of(cls, settings: TrainSettings, lr_images: int, real_images: int) -> "Schedule":
        """The schedule for so many images of the generator and of the discriminator."""
        epoch, reals = (math.ceil(count / settings.batch) for count in (lr_images, real_images))
        alternation = settings.turns
        by_epochs = alternation.unit == "epochs"
        generator = alternation.generator * (epoch if by_epochs else 1)
        return cls(
            pretrain=settings.pretrain * epoch,
            cycles=math.ceil(settings.epochs * epoch / generator),
            discriminator=alternation.discriminator * (reals if by_epochs else 1),
            generator=generator,
            epoch=epoch,
        )

    @property
    def total(self) -> int:
        """All steps."""
        return self.pretrain + self.cycles * (self.discriminator + self.generator)

    def at(self, step: int) -> Step:
        """What step `step`, counted from 0, does."""
        done = step / self.total
        if step < self.pretrain:
            return Step("pretrain", "generator", step, step // self.epoch, done)
        cycle, place = divmod(step - self.pretrain, self.discriminator + self.generator)
        updates = self.pretrain + cycle * self.generator + max(0, place - self.discriminator)
        epoch = updates // self.epoch
        if place < self.discriminator:
            return Step("adversarial", "discriminator", cycle * self.discriminator + place, epoch, done)
        return Step("adversarial", "generator", updates, epoch, done)

    def ends_epoch(self, step: Step) -> bool:
        """Whether the generator has then passed once more through its images."""
        return step.network == "generator" and (step.number + 1) % self.epoch == 0


@dataclass
class Patience:
    """For how many epochs in a row a loss has not gained."""

    best: float | None = None
    epochs: int = 0

    def ends(self, loss: float, settings: PatienceSettings) -> bool:
        """Whether patience is at its end with this epoch; counting then begins anew."""
        if self.best is None or loss < self.best - settings.gain * abs(self.best):
            self.best, self.epochs = loss, 0
            return False
        self.epochs = (self.epochs + 1) % settings.patience
        return self.epochs == 0


@dataclass
class EpochState:
    """What is carried from epoch to epoch, and through one."""

    rate: float = 1.0
    """The share of the initial learning rates that a plateau has left."""
    stopped: bool = False
    """Whether the training is over before its last step."""
    phase: str = ""
    plateau: Patience = field(default_factory=Patience)
    stop: Patience = field(default_factory=Patience)
    sums: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Of each network, the sum of each of its losses over the steps of the epoch, in this process; `steps` counts."""

    def add(self, network: str, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step of a network."""
        sums = self.sums.setdefault(network, {})
        for name, value in {**losses, "steps": torch.ones((), device=losses["loss"].device)}.items():
            value = value.detach().float()
            sums[name] = sums[name] + value if name in sums else value

    def share(self, group: DataParallel) -> None:
        """Make the sums the mean of all processes, so that a checkpoint of one holds them; every process calls it."""
        if group.ranks.world > 1:
            for network, sums in self.sums.items():
                shared = group.mean(torch.stack(list(sums.values())))
                self.sums[network] = dict(zip(sums, shared, strict=True))

    def take_means(self, group: DataParallel) -> dict[str, dict[str, float]]:
        """Return each network's mean losses over the epoch and all processes, and begin another epoch."""
        means = {}
        for network, sums in self.sums.items():
            steps = sums.pop("steps")
            values = group.mean(torch.stack(list(sums.values())) / steps).tolist()
            means[network] = dict(zip(sums, values, strict=True))
        self.sums = {}
        return means

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], device: torch.device) -> "EpochState":
        """What `dataclasses.asdict` made of one."""
        sums = {name: {loss: x.to(device) for loss, x in losses.items()} for name, losses in values["sums"].items()}
        patience = {name: Patience(**values[name]) for name in ("plateau", "stop")}
        return cls(**{**values, **patience, "sums": sums})


@dataclass(frozen=True)
class EpochMeans:
    """An epoch that has ended: its number, counted from 1, and mean losses of each network."""

    number: int
    means: Mapping[str, Mapping[str, float]]

    @property
    def training_loss(self) -> float:
        """Of the generator, all that it minimises."""
        return self.means["generator"]["loss"]

    def line(self, rate: float, validation: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
        """As metrics.jsonl has it; `rate`: the generator's in that epoch's last step."""
        means: dict[str, JsonValue] = {network: dict(values) for network, values in self.means.items()}
        checked = None if validation is None else dict(validation)
        return {"number": self.number, "rate": rate, **means, "validation": checked}


def is_measured(settings: TrainSettings) -> bool:
    """Whether the images held out are measured at the end of each epoch."""
    plateau = settings.optimiser.schedule == "plateau" and settings.optimiser.plateau.of == "validation"
    return plateau or settings.stop is not None or settings.validation.best == "training_loss"


def end_epoch(
    state: EpochState, settings: TrainSettings, step: Step, validation_loss: float | None, group: DataParallel
) -> EpochMeans:
    """Take the epoch's means, and decide by them; every process calls it, and follows rank 0, which alone measures.

    Args:
        state: is changed.
        settings: the group `train`.
        step: the epoch's last.
        validation_loss: of the images held out; None in processes that do not measure.
        group: the processes that train together.
    """
    epoch = EpochMeans(step.epoch + 1, state.take_means(group))
    if step.phase != state.phase:  # another phase, another loss
        state.phase, state.plateau, state.stop = step.phase, Patience(), Patience()

    def is_over(patience: Patience, wanted: PatienceSettings) -> bool:
        loss = epoch.training_loss if wanted.of == "training" else validation_loss
        return group.any(group.ranks.rank == 0 and loss is not None and patience.ends(loss, wanted))

    if settings.optimiser.schedule == "plateau" and is_over(state.plateau, settings.optimiser.plateau):
        state.rate *= settings.optimiser.plateau.factor
    last_phase = "adversarial" if settings.epochs else "pretrain"
    if settings.stop is not None and step.phase == last_phase and is_over(state.stop, settings.stop):
        state.stopped = True
    return epoch
