"""What each step of a training does, as a function of its number alone: so a resumed run goes on where it stopped."""

import math
from dataclasses import dataclass
from typing import Literal

from zssr_gan.stages import TrainSettings

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
