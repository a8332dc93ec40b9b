"""What each step of a training does, as a function of its number alone: so a resumed run goes on where it stopped."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.distributed import DataParallel
from zssr_gan.settings.train import PatienceSettings, TrainSettings

Phase = Literal["pretrain", "adversarial"]

Who = Literal["generator", "discriminator"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One step: one update of one network."""

    phase: Phase
    who: Who
    number: int
    """How many updates this network had before."""
    epoch: int
    """Passes of the generator through its images, finished before: blocks are skipped anew in each."""
    done: float
    """Share of the training that is over, in [0, 1): for the schedule of learning rates."""


@dataclass(frozen=True, slots=True)
class Plan:
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
    def of(cls, settings: TrainSettings, lr_images: int, real_images: int) -> "Plan":
        """The plan for so many images of the generator and of the discriminator."""
        epoch, reals = (math.ceil(count / settings.batch) for count in (lr_images, real_images))
        turns = settings.turns
        by_epochs = turns.unit == "epochs"
        ours = turns.generator * (epoch if by_epochs else 1)
        return cls(
            pretrain=settings.pretrain * epoch,
            cycles=math.ceil(settings.epochs * epoch / ours),
            discriminator=turns.discriminator * (reals if by_epochs else 1),
            generator=ours,
            epoch=epoch,
        )

    @property
    def total(self) -> int:
        """All steps."""
        return self.pretrain + self.cycles * (self.discriminator + self.generator)

    def turn(self, step: int) -> Turn:
        """What step `step`, counted from 0, does."""
        done = step / self.total
        if step < self.pretrain:
            return Turn("pretrain", "generator", step, step // self.epoch, done)
        cycle, place = divmod(step - self.pretrain, self.discriminator + self.generator)
        updates = self.pretrain + cycle * self.generator + max(0, place - self.discriminator)
        epoch = updates // self.epoch
        if place < self.discriminator:
            return Turn("adversarial", "discriminator", cycle * self.discriminator + place, epoch, done)
        return Turn("adversarial", "generator", updates, epoch, done)

    def ends_epoch(self, turn: Turn) -> bool:
        """Whether the generator has then passed once more through its images."""
        return turn.who == "generator" and (turn.number + 1) % self.epoch == 0


# What is known and decided when an epoch of the generator ends: mean losses, falling rates, early stopping.
#
# All of it is state of the training, so that a resumed one decides as the uninterrupted one. Of several processes the
# first decides, since it alone measures, and the others follow.


@dataclass
class Waiting:
    """How long a loss has not gained."""

    best: float | None = None
    epochs: int = 0
    """Without a gain, in a row."""

    def see(self, loss: float, settings: PatienceSettings) -> bool:
        """Whether patience is at its end with this epoch; waiting then begins anew."""
        if self.best is None or loss < self.best - settings.gain * abs(self.best):
            self.best, self.epochs = loss, 0
            return False
        self.epochs += 1
        if self.epochs < settings.patience:
            return False
        self.epochs = 0
        return True


@dataclass
class EpochState:
    """What is carried from epoch to epoch, and through one."""

    rate: float = 1.0
    """What a plateau has left of the first rates."""
    stopped: bool = False
    """Whether the training is over before its last step."""
    phase: str = ""
    plateau: Waiting = field(default_factory=Waiting)
    stop: Waiting = field(default_factory=Waiting)
    sums: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Of each network, the sum of each of its losses over the steps of the epoch, in this process; `steps` counts."""

    def add(self, who: str, losses: Mapping[str, Tensor]) -> None:
        """The losses of a step of a network."""
        sums = self.sums.setdefault(who, {})
        for name, value in {**losses, "steps": torch.ones((), device=losses["loss"].device)}.items():
            value = value.detach().float()
            sums[name] = sums[name] + value if name in sums else value

    def share(self, group: DataParallel) -> None:
        """Make the sums the mean of all processes, so that a checkpoint of one holds them; every process calls it."""
        if group.ranks.world > 1:
            for who, sums in self.sums.items():
                shared = group.mean(torch.stack(list(sums.values())))
                self.sums[who] = dict(zip(sums, shared, strict=True))

    def take_means(self, group: DataParallel) -> dict[str, dict[str, float]]:
        """Of each network the mean of each loss over the epoch and all processes; what comes next is another epoch."""
        means = {}
        for who, sums in self.sums.items():
            steps = sums.pop("steps")
            values = group.mean(torch.stack(list(sums.values())) / steps).tolist()
            means[who] = dict(zip(sums, values, strict=True))
        self.sums = {}
        return means

    def encode(self) -> dict[str, Any]:
        """As plain values and tensors."""
        sums = {who: {name: value.cpu() for name, value in its.items()} for who, its in self.sums.items()}
        return {**asdict(EpochState(self.rate, self.stopped, self.phase, self.plateau, self.stop)), "sums": sums}

    @classmethod
    def decode(cls, kept: Mapping[str, Any], device: torch.device) -> "EpochState":
        """What `encode` made."""
        sums = {who: {name: value.to(device) for name, value in its.items()} for who, its in kept["sums"].items()}
        waiting = {name: Waiting(**kept[name]) for name in ("plateau", "stop")}
        return cls(kept["rate"], kept["stopped"], kept["phase"], **waiting, sums=sums)


@dataclass(frozen=True)
class Ended:
    """An epoch that has ended: its number, counted from 1, and mean losses of each network."""

    number: int
    means: Mapping[str, Mapping[str, float]]

    @property
    def training_loss(self) -> float:
        """Of the generator, all that it minimises."""
        return self.means["generator"]["loss"]

    def line(self, rate: float, validation: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
        """As metrics.jsonl has it; `rate`: the generator's in that epoch's last step."""
        means: dict[str, JsonValue] = {who: dict(values) for who, values in self.means.items()}
        return {
            "number": self.number,
            "rate": rate,
            **means,
            "validation": None if validation is None else dict(validation),
        }


def is_measured(settings: TrainSettings) -> bool:
    """Whether the images held out are measured at the end of each epoch."""
    plateau = settings.optimiser.schedule == "plateau" and settings.optimiser.plateau.of == "validation"
    return plateau or settings.stop is not None or settings.validation.best == "training_loss"


def end_epoch(
    state: EpochState, settings: TrainSettings, turn: Turn, validation_loss: float | None, group: DataParallel
) -> Ended:
    """Take the epoch's means, and decide by them; every process calls it.

    Args:
        state: is changed.
        settings: the group `train`.
        turn: the epoch's last.
        validation_loss: of the images held out; None in processes that do not measure.
        group: the processes that train together.
    """
    ended = Ended(turn.epoch + 1, state.take_means(group))
    if turn.phase != state.phase:  # another phase, another loss
        state.phase, state.plateau, state.stop = turn.phase, Waiting(), Waiting()

    def is_over(waiting: Waiting, patience: PatienceSettings) -> bool:
        loss = ended.training_loss if patience.of == "training" else validation_loss
        return group.any(group.ranks.rank == 0 and loss is not None and waiting.see(loss, patience))

    if settings.optimiser.schedule == "plateau" and is_over(state.plateau, settings.optimiser.plateau):
        state.rate *= settings.optimiser.plateau.factor
    last_phase = "adversarial" if settings.epochs else "pretrain"
    if settings.stop is not None and turn.phase == last_phase and is_over(state.stop, settings.stop):
        state.stopped = True
    return ended
