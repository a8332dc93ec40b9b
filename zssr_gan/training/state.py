"""Which network learns at each step, and the state of a training: all that changes from step to step.

A step is a function of its number alone, so that a resumed run gives the same result.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from zssr_gan.distributed import DataParallel
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.settings.train import PatienceSettings, TrainSettings
from zssr_gan.training.optimisers import restore

NETWORKS: Final = ("generator", "discriminator")

_SAVED: Final = (*NETWORKS, "mean")
_VALUES: Final = ("step", "best", "best_phase", "accuracy", "rate", "stopped", "phase", "waiting", "sums")

CONTENT: Final = (*_VALUES, *_SAVED, "optimisers")
"""What a checkpoint holds of it, by name."""

_PLATEAU_FACTOR: Final = 0.5  # the rates of both networks are multiplied by it


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
        wanted = settings.alternation
        by_epochs = wanted.unit == "epochs"
        generator = wanted.generator * (epoch if by_epochs else 1)
        cycles = math.ceil(settings.epochs * epoch / generator)
        return cls(
            settings.pretrain * epoch, cycles, wanted.discriminator * (reals if by_epochs else 1), generator, epoch
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


@dataclass(eq=False)
class TrainingState:
    """All that changes during a training."""

    generator: GeneratorNetwork
    discriminator: nn.Module
    optimisers: Mapping[str, Sequence[torch.optim.Optimizer]]
    """Of each of the two networks."""
    accuracy: Tensor
    """Running mean of the share of images that the discriminator classifies correctly, on the device."""
    ema: float
    """Decay of the running mean of the generator's weights; with 0 the mean is the weights themselves, not a copy."""
    mean: GeneratorNetwork = field(init=False)
    """The generator with the running mean of its weights, which is what is used; its statistics of batch normalisation
    are those of the last validation."""
    step: int = 0
    best: float | None = None
    """The best figure of the phase: dB, or a training loss below 0; more is better."""
    best_phase: str = ""
    rate: float = 1.0
    """The share of the initial learning rates that `schedule: plateau` has left."""
    stopped: bool = False
    """Whether the training is over before its last step."""
    phase: str = ""
    """Of the last epoch that ended."""
    waiting: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Of `plateau` and `stop`, the lowest loss of the phase and the epochs since."""
    sums: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Of each network, the sum of each loss over the steps of this epoch in this process, and their number, `steps`."""

    def __post_init__(self) -> None:
        """The mean begins where the weights are."""
        self.mean = copy.deepcopy(self.generator).eval().requires_grad_(False)
        if not self.ema:
            for mean, now in zip(self.mean.parameters(), self.generator.parameters(), strict=True):
                mean.data = now.data

    @torch.no_grad()
    def update_mean(self, updates: int) -> None:
        """Move the mean towards the generator's weights after so many updates of them.

        Its decay is reached gradually, (1 + t) / (10 + t): else it would long be mostly the initial weights.
        """
        if self.ema:
            decay = min(self.ema, (1 + updates) / (10 + updates))
            torch._foreach_lerp_([*self.mean.parameters()], [*self.generator.parameters()], 1 - decay)

    def add(self, network: str, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step of a network to the epoch's sums."""
        sums = self.sums.setdefault(network, {})
        for name, value in {**losses, "steps": torch.ones((), device=self.accuracy.device)}.items():
            sums[name] = sums.get(name, 0) + value.detach().float()

    def share_sums(self, group: DataParallel) -> None:
        """Replace the sums by their mean over all processes, before rank 0 writes them; every process calls it."""
        for sums in self.sums.values():
            sums.update(zip(sums, group.mean(torch.stack(list(sums.values()))), strict=True))

    def end_epoch(
        self, step: Step, settings: TrainSettings, validation_loss: float | None, group: DataParallel
    ) -> dict[str, dict[str, float]]:
        """Return the mean losses of each network over the epoch and all processes, decide by them, and begin another.

        Every process calls it, and follows rank 0, which alone measures. `step`: the epoch's last.
        """
        means, plateau = dict[str, dict[str, float]](), settings.optimiser.plateau
        for network, sums in self.sums.items():
            steps = sums.pop("steps")
            values = group.mean(torch.stack(list(sums.values())) / steps).tolist()
            means[network] = dict(zip(sums, values, strict=True))
        self.sums = {}
        if step.phase != self.phase:  # another phase, another loss
            self.phase, self.waiting = step.phase, {}

        def is_over(name: str, patience: PatienceSettings) -> bool:
            loss = means["generator"]["loss"] if patience.of == "training" else validation_loss
            return group.any(group.ranks.rank == 0 and loss is not None and self._gives_up(name, patience, loss))

        if settings.optimiser.schedule == "plateau" and is_over("plateau", plateau):
            self.rate *= _PLATEAU_FACTOR
        last_phase = "adversarial" if settings.epochs else "pretrain"
        if settings.stop is not None and step.phase == last_phase and is_over("stop", settings.stop):
            self.stopped = True
        return means

    def _gives_up(self, name: str, settings: PatienceSettings, loss: float) -> bool:
        """Whether an epoch is the last of `patience` without a new lowest loss; counting then begins anew."""
        lowest, epochs = self.waiting.get(name, (math.inf, 0))
        epochs = 0 if loss < lowest else (epochs + 1) % settings.patience
        self.waiting[name] = (min(loss, lowest), epochs)
        return loss >= lowest and epochs == 0

    def is_best(self, step: Step, figure: float | None) -> bool:
        """Whether the generator is the best of its phase so far by its figure, which is then remembered."""
        # What content alone reaches in PSNR, no adversarial phase reaches again: each phase has its own best.
        beaten = step.phase == self.best_phase and self.best is not None
        if figure is None or (beaten and figure <= (self.best or 0.0)):
            return False
        self.best, self.best_phase = figure, step.phase
        return True

    def content(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        optimisers = {name: [one.state_dict() for one in those] for name, those in self.optimisers.items()}
        networks = {name: getattr(self, name).state_dict() for name in _SAVED}
        return {**{name: getattr(self, name) for name in _VALUES}, **networks, "optimisers": optimisers}

    @property
    def finite(self) -> bool:
        """Whether no tensor of it is NaN or infinite."""
        return all(bool(tensor.isfinite().all()) for tensor in _tensors_in(self.content()))

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        device = self.accuracy.device
        for name in _SAVED:
            getattr(self, name).load_state_dict(content[name])
        for name, optimisers in self.optimisers.items():
            for optimiser, values in zip(optimisers, content["optimisers"][name], strict=True):
                restore(optimiser, values)
        for name in _VALUES:
            setattr(self, name, content[name])
        self.accuracy = self.accuracy.to(device)
        self.sums = {who: {name: x.to(device) for name, x in sums.items()} for who, sums in self.sums.items()}


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(item)
