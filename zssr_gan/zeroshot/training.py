"""The arithmetic of training N per-image CNNs side by side: a single image (N = 1) and many of one size are one code.

Members share nothing but the size of their images: weights, draws, learning rate, stop are a member's own. They may
begin at different times, in the place of others that have stopped.

Shapes: N members, B crops, C channels, H W rows and columns, P parameters of a member, T the last iterations.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zssr_gan.config import GuardSettings, ZeroShotSettings
from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.zeroshot.optimiser import FleetOptimiser
from zssr_gan.zeroshot.pairs import PairSampler, PairSource, Task
from zssr_gan.zeroshot.schedules import make_schedule
from zssr_gan.zeroshot.seeds import derive_seed, generator

_RECORD_SIDE = 512  # the reconstruction error of a larger image is that of its middle: memory
_LOOK = 10  # iterations between two looks for NaN: each makes the CPU wait for the device
_RECENT = 50  # iterations that a member's last loss is the mean of

OnIteration = Callable[[int, float, float], None]
"""Called with the iterations done, the mean loss and the highest learning rate."""


@dataclass(frozen=True, slots=True)
class Training:
    """What training needs beside the settings: where the pairs come from, and on what it runs."""

    task: Task
    precision: str
    """`fp32` or `bf16` (products in bfloat16; weights, sums and losses in float32)."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """What one network is to be trained on. Members of one fleet agree in everything but the values."""

    image_CHW: Tensor
    """The LR image, [0, 1]."""
    seed: int
    """All that its random draws depend on."""
    fathers: list[Tensor] = field(default_factory=list)
    """Further images `C h w` to learn from (gradual steps)."""
    learn_HW: Tensor | None = None
    """1 where it may learn from a pixel, 0 where that is held out."""
    start_P: Tensor | None = None
    """Weights to go on from, else fresh ones."""

    def again(self, attempt: int) -> "Member":
        """The same from other first weights and draws."""
        seed = derive_seed(self.seed, "restart", attempt)
        return Member(self.image_CHW, seed, self.fathers, self.learn_HW)

    @property
    def form(self) -> tuple[object, ...]:
        """What members must agree in to be trained side by side."""
        shapes = tuple(tuple(image.shape) for image in (self.image_CHW, *self.fathers))
        return shapes, self.learn_HW is None, self.image_CHW.device


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of a member."""

    weights_P: Tensor
    iterations: int
    loss: float
    """Mean absolute error over its last 50 iterations, [0, 1] units."""
    dead: bool
    """Whether it hands the interpolated image through, or gives NaN or infinity."""


class Fleet:
    """Members in training.

    Args:
        members: at least one; of one `form`.
        settings: network, pairs, schedule, optimiser.
        training: what pairs teach, precision.
    """

    def __init__(self, members: list[Member], settings: ZeroShotSettings, training: Training) -> None:
        self.settings = settings
        self.training = training
        self.iteration_N = torch.zeros(len(members), dtype=torch.int64)
        self.clock = 0
        self._broken_N = torch.zeros(len(members), dtype=torch.bool)
        self.images_NCHW = _stack([member.image_CHW for member in members])
        self.network = self._network(members)
        self.sampler = PairSampler(self._source(members), [member.seed for member in members])
        self.schedule = make_schedule(settings.schedule, len(members))
        self.optimiser = FleetOptimiser(self.network, settings.optimiser)
        self.recent_TN = self.images_NCHW.new_full((_RECENT, len(members)), torch.nan)

    @property
    def members(self) -> int:
        """N, those that have stopped included."""
        return len(self.iteration_N)

    @property
    def running_N(self) -> Tensor:
        """Bool, on the CPU: which members have not stopped, by their schedule or by NaN."""
        return self._rates() > 0

    def _rates(self) -> Tensor:
        return torch.where(self._broken_N, 0.0, self.schedule.rates(self.iteration_N))

    @property
    def may_put(self) -> bool:
        """Whether new members may begin now."""
        return self.clock % self.schedule.stride == 0

    @property
    def flop_of_a_step(self) -> float:
        """Floating-point operations of one member's iteration, 6 a multiply-add (forward, and twice that backward)."""
        factor, side = self.training.task.factor, self.sampler.source.side
        pixels = self.settings.pairs.batch * (side // factor[0]) * (side // factor[1])
        return 6.0 * self.network.multiply_adds_per_pixel * pixels

    def advance(self) -> Tensor:
        """One iteration of all that have not stopped; the members' losses `N`, on the device."""
        rates = self._rates()
        running = rates > 0
        x, y, mask = self.sampler.sample(self.iteration_N)
        with autocast(x.device, self.training.precision):
            out = self.network(x)
        losses = masked_l1(out, y, mask)
        # Members share no weights, so the gradient of the sum is each member's own.
        (gradient,) = torch.autograd.grad(losses.sum(), self.network.weights_NP)
        self.optimiser.step(gradient, rates)
        error = None
        if self.schedule.wants_error(self.iteration_N[running]):
            error = reconstruction_error(self.network, self.images_NCHW, self.training)
        self.schedule.observe(self.iteration_N, error)
        losses = losses.detach()
        row = self.clock % _RECENT
        self.recent_TN[row] = torch.where(running.to(x.device), losses, self.recent_TN[row])
        self.iteration_N += running
        self.clock += 1
        if self.clock % _LOOK == 0 or losses.device.type == "cpu":
            self._broken_N |= ~losses.isfinite().cpu()
        return losses

    @torch.no_grad()
    def results(self, places: Tensor) -> list[Trained]:
        """What came of the members at `places` (int64)."""
        weights_NP = self.optimiser.result(places)
        network = ZSSR(self.network.options, self.images_NCHW.shape[1], self.network.factor, weights_NP)
        dead = find_dead(network, self.images_NCHW[places], self.training, self.settings.guards)
        losses = self.recent_TN[:, places].nanmean(0).tolist()
        iterations = self.iteration_N[places].tolist()
        return [Trained(*each) for each in zip(weights_NP.unbind(), iterations, losses, dead, strict=True)]

    @torch.no_grad()
    def put(self, places: Tensor, members: list[Member]) -> None:
        """Let new members begin in the places of others, when `may_put`."""
        self.images_NCHW[places] = _stack([member.image_CHW for member in members])
        self.network.weights_NP[places] = self._network(members).weights_NP
        self.sampler.put(places, self._source(members), [member.seed for member in members])
        self.schedule.put(places)
        self.optimiser.put(places)
        self.recent_TN[:, places] = torch.nan
        self.iteration_N[places] = 0
        self._broken_N[places] = False

    @torch.no_grad()
    def keep(self, places: Tensor) -> None:
        """Go on with the members at `places` alone."""
        self.images_NCHW = self.images_NCHW[places]
        self.network.weights_NP.data = self.network.weights_NP[places]
        self.sampler.keep(places)
        self.schedule.keep(places)
        self.optimiser.keep(places)
        self.recent_TN = self.recent_TN[:, places]
        self.iteration_N, self._broken_N = self.iteration_N[places], self._broken_N[places]

    def _network(self, members: list[Member]) -> ZSSR:
        options = ZSSROptions(**self.settings.network.model_dump())
        first = members[0].image_CHW
        fresh = [generator("weights", member.seed) for member in members]
        network = ZSSR(options, len(first), self.training.task.factor, fresh).to(first.device)
        with torch.no_grad():
            for place, member in enumerate(members):
                if member.start_P is not None:
                    network.weights_NP[place] = member.start_P
        return network

    def _source(self, members: list[Member]) -> PairSource:
        fathers = [_stack(list(images)) for images in zip(*(member.fathers for member in members), strict=True)]
        masks = [member.learn_HW for member in members if member.learn_HW is not None]
        learn = torch.stack(masks) if masks else None
        images = _stack([member.image_CHW for member in members])
        return PairSource(self.settings.pairs, [images, *fathers], learn, self.training.task)


def _stack(images: list[Tensor]) -> Tensor:
    """`N ...`; of a single image a view: a photograph is large."""
    return images[0][None] if len(images) == 1 else torch.stack(images)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which networks run: bfloat16 products where `precision` is `bf16`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def masked_l1(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of each member over the pixels that count.

    Args:
        out, target: `N B C K K`.
        mask: `N B 1 K K`, 0 where a pixel does not count.

    Returns:
        `N`; 0 for a member none of whose pixels count.
    """
    difference = ((out - target).abs() * mask).flatten(1).sum(1)
    return difference / (mask.flatten(1).sum(1) * out.shape[2]).clamp(min=1)


@torch.no_grad()
def reconstruction_error(network: ZSSR, images_NCHW: Tensor, training: Training) -> Tensor:
    """Mean squared error of each member on its whole image shrunk and enlarged again; `N`, [0, 1] units squared."""
    x, y = _reconstruction_pair(images_NCHW, training.task)
    with autocast(x.device, training.precision):
        out: Tensor = network(x[:, None])[:, 0]
    return (out - y).square().flatten(1).mean(1)


@torch.no_grad()
def find_dead(network: ZSSR, images_NCHW: Tensor, training: Training, guards: GuardSettings) -> list[bool]:
    """Which members' networks do no more than interpolate where there is more to do, or give NaN or infinity."""
    x, y = _reconstruction_pair(images_NCHW, training.task)
    base = network.base(x[:, None])[:, 0]
    with autocast(x.device, training.precision):
        moved = (network(x[:, None])[:, 0] - base).flatten(1).std(1)
    missing = (y - base).flatten(1).square().mean(1).sqrt()
    alive = torch.isfinite(moved) & ((moved > guards.dead_share * missing) | (missing < guards.dead_error))
    return [not bool(one) for one in alive]


def _reconstruction_pair(images_NCHW: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Input and target of the images' own shrunk copies; of large images the middle."""
    top, left = (max(0, (side - _RECORD_SIDE) // 2) for side in images_NCHW.shape[-2:])
    target = task.cut(images_NCHW[..., top : top + _RECORD_SIDE, left : left + _RECORD_SIDE])
    return task.make_input(target), target
