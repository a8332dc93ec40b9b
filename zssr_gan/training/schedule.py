"""Which network learns at each step: a function of the step's number alone, so that a resumed run goes on exactly."""

import math
from dataclasses import dataclass
from typing import Literal

from zssr_gan.settings.train import TrainSettings


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
        turns = settings.turns
        by_epochs = turns.unit == "epochs"
        generator = turns.generator * (epoch if by_epochs else 1)
        cycles = math.ceil(settings.epochs * epoch / generator)
        return cls(
            settings.pretrain * epoch, cycles, turns.discriminator * (reals if by_epochs else 1), generator, epoch
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
