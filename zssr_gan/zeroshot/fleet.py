"""The arithmetic of training N per-image CNNs side by side: a single image (N = 1) and many of one size are one code.

Members share nothing but the size of their images: weights, draws, learning rate, stop are a member's own. They may
begin at different times, in the place of others that have stopped.

Shapes: N members, B crops, C channels, H W rows and columns, P parameters of a member, T the last iterations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from zssr_gan.networks.zssr import ZSSR, ZSSROptions
from zssr_gan.seeds import derive_seed, generator
from zssr_gan.settings.zeroshot import CosineSchedule, GuardSettings, OptimiserSettings, SlopeSchedule, ZeroShotSettings
from zssr_gan.zeroshot.pairs import PairSampler, PairSource, Task

# Optimisers over a fleet: one tensor of weights, and a learning rate for each member.
#
# `torch.optim` knows one rate for a tensor; a rate a member is what this file exists for.
#
# Shapes: N members, P parameters of one, L inner convolutions, R C the rows and columns of their weight matrices.


_BLOCK = 1 << 17  # weights that Adam moves at once on a CPU: with their gradient and moments 2 MiB


class FleetOptimiser:
    """Adam on a fleet's weights, or Muon on its inner convolutions and Adam on the rest.

    A moving average of the weights is kept beside them where the settings ask for one; its decay is reached
    gradually, (1 + t) / (10 + t).

    Args:
        network: its `weights_NP` are changed in place.
        settings: kind, decay of the average, clipping.
    """

    def __init__(self, network: ZSSR, settings: OptimiserSettings) -> None:
        self.network = network
        self.settings = settings
        self.average_NP = network.weights_NP.detach().clone() if settings.average else None
        self.steps_N1 = torch.zeros(network.members, 1, device=network.weights_NP.device)
        # A network lays its inner matrices first, so that each part is one view of the weights.
        matrices = network.inner_matrices if settings.kind == "muon" else (0, 0, 0)
        inner = matrices[0] * matrices[1] * matrices[2]
        weights = network.weights_NP.detach()
        self._parts: list[tuple[slice, _Adam | _Muon]] = [(slice(inner, None), _Adam(weights[:, inner:], settings))]
        if inner:
            self._parts.append((slice(0, inner), _Muon(weights[:, :inner], matrices, settings)))

    @torch.no_grad()
    def step(self, gradient_NP: Tensor, rates: Tensor) -> None:
        """Move the weights against the gradient at `rates` (`N`; 0 leaves a member as it is)."""
        s = self.settings
        if s.clip:
            norm = gradient_NP.norm(dim=1, keepdim=True)
            gradient_NP = gradient_NP * (s.clip / norm.clamp(min=s.clip))
        weights_NP = self.network.weights_NP
        rates_N1 = rates.to(gradient_NP)[:, None]
        self.steps_N1 += 1
        for part, rule in self._parts:
            rule.move(weights_NP[:, part], gradient_NP[:, part], self.steps_N1, rates_N1)
        if self.average_NP is not None:
            decay_N1 = ((1 + self.steps_N1) / (10 + self.steps_N1)).clamp(max=s.average)
            # A member that has stopped stands still, however long the others go on.
            self.average_NP.lerp_(weights_NP, (1 - decay_N1) * (rates_N1 > 0))

    def result(self, places: Tensor | None = None) -> Tensor:
        """A copy of the weights to use, of all members or those at `places`; `N P`.

        They are their moving average where one is kept, else the last ones.
        """
        weights_NP = self.network.weights_NP.detach() if self.average_NP is None else self.average_NP
        return weights_NP.clone() if places is None else weights_NP[places]

    @torch.no_grad()
    def put(self, places: Tensor) -> None:
        """Begin anew for the members at `places`, whose weights have just been set."""
        self.steps_N1[places] = 0
        if self.average_NP is not None:
            self.average_NP[places] = self.network.weights_NP[places]
        for _, rule in self._parts:
            for moment_NP in rule.moments:
                moment_NP[places] = 0

    def keep(self, places: Tensor) -> None:
        """Leave only the members at `places`; the network has done so already."""
        self.steps_N1 = self.steps_N1[places]
        if self.average_NP is not None:
            self.average_NP = self.average_NP[places]
        for _, rule in self._parts:
            rule.moments = [moment_NP[places] for moment_NP in rule.moments]


class _Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, weights_NP: Tensor, settings: OptimiserSettings) -> None:
        self.beta1, self.beta2, self.epsilon = settings.beta1, settings.beta2, settings.epsilon
        self.moments = [torch.zeros_like(weights_NP), torch.zeros_like(weights_NP)]

    def move(self, weights_NP: Tensor, gradient_NP: Tensor, steps_N1: Tensor, rates_N1: Tensor) -> None:
        """Move the weights in place."""
        # 1 - beta^t; by expm1, since in float32 the first steps would lose digits.
        unbias_mean, unbias_square = (-torch.expm1(steps_N1 * math.log(beta)) for beta in (self.beta1, self.beta2))
        root_N1 = unbias_square.sqrt()
        rates_N1, epsilon_N1 = rates_N1 * root_N1 / unbias_mean, self.epsilon * root_N1
        # On a CPU a block at a time goes through all of this in the core's cache: a fleet's weights would go through
        # memory at each operation.
        width = weights_NP.shape[1] if weights_NP.device.type != "cpu" else max(1, _BLOCK // len(weights_NP))
        tensors = (weights_NP, gradient_NP, *self.moments)
        for weights, gradient, mean, square in zip(*(t.split(width, 1) for t in tensors), strict=True):
            mean.lerp_(gradient, 1 - self.beta1)
            square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            weights.sub_((mean / square.sqrt().add_(epsilon_N1)).mul_(rates_N1))


class _Muon:
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": the Nesterov momentum of a weight
    matrix, replaced by the nearest matrix whose singular values are all about 1."""

    def __init__(self, weights_NP: Tensor, matrices: tuple[int, int, int], settings: OptimiserSettings) -> None:
        self.ratio, self.momentum = settings.muon_ratio, settings.muon_momentum
        self.moments = [torch.zeros_like(weights_NP)]
        self.matrices = matrices

    def move(self, weights_NP: Tensor, gradient_NP: Tensor, _steps_N1: Tensor, rates_N1: Tensor) -> None:
        """Move the weights in place."""
        (mean,) = self.moments
        mean.lerp_(gradient_NP, 1 - self.momentum)
        nesterov = torch.lerp(gradient_NP, mean, self.momentum)
        step_NP = orthogonalise(nesterov.unflatten(1, self.matrices)).flatten(1)
        weights_NP.sub_(self.ratio * rates_N1 * step_NP)


def orthogonalise(matrices: Tensor) -> Tensor:
    """The matrices with their singular values pushed to about 1, by five quintic Newton-Schulz iterations.

    Each iteration multiplies X by a polynomial in X X^T. Those polynomials commute, so all five are multiplied on the
    small square side, and X is touched twice only.

    Args:
        matrices: `... R C` with R <= C, as a convolution's weights are, flattened from its output channels.

    Returns:
        The same shape; singular values between about 0.7 and 1.2. Coefficients: Jordan et al. 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    product = identity
    for _ in range(5):
        polynomial = a * identity + b * gram + c * gram @ gram
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    result: Tensor = product @ x
    return result


# Learning rates, one a member: the original's slope test, and a fixed-budget cosine.
#
# Members may have begun at different times, so each has an iteration of its own; those of the original's schedule have
# begun a multiple of `record_every` iterations apart, so that all record their errors at once.
#
# Shapes: N members, T points in time.


class Schedule(Protocol):
    """What training asks of a schedule. `iteration_N` is each member's own, from 0."""

    stride: int
    """A member may begin a multiple of so many iterations after the others."""

    def rates(self, iteration_N: Tensor, /) -> Tensor:
        """`N` learning rates of this iteration; 0 for a member that has stopped."""

    def wants_error(self, iteration_N: Tensor, /) -> bool:
        """Whether `observe` needs the reconstruction error after this iteration."""

    def observe(self, iteration_N: Tensor, error_N: Tensor | None, /) -> None:
        """Take note of the end of an iteration, and of the mean squared errors where they were wanted."""

    def put(self, places: Tensor, /) -> None:
        """Begin anew for the members at `places`."""

    def keep(self, places: Tensor, /) -> None:
        """Leave only the members at `places`."""


class Slope:
    """The original's test, and the seed paper's reading of it: lower the rate when the error no longer falls.

    Every `record_every` iterations the reconstruction error of the whole image is recorded. Every `check_every`
    iterations, if more than `window` have passed since the member's last change, a line is fitted to the errors of
    the last `window` iterations; where `ratio * (-slope)` is below the slope's standard deviation, the rate is
    divided. A member stops when its rate reaches `stop_lr`.
    """

    def __init__(self, settings: SlopeSchedule, members: int) -> None:
        self.settings = settings
        self.stride = settings.record_every
        self.rate_N = torch.full((members,), settings.lr, dtype=torch.float64)
        self.changed_at_N = torch.zeros(members, dtype=torch.int64)
        self.recorded_N = torch.zeros(members, dtype=torch.int64)
        self.errors_TN = torch.zeros(settings.window // settings.record_every, members, dtype=torch.float64)

    @property
    def stopped(self) -> Tensor:
        """`N` bool: whose rate has reached the end. The margin is for 1e-3 / 10 / 10 / 10, which is not 1e-6."""
        return self.rate_N <= self.settings.stop_lr * 1.001

    def rates(self, iteration_N: Tensor) -> Tensor:
        """See `Schedule`."""
        return torch.where(self.stopped | (iteration_N >= self.settings.iterations), 0.0, self.rate_N)

    def wants_error(self, iteration_N: Tensor) -> bool:
        """See `Schedule`."""
        return bool((iteration_N % self.settings.record_every == 0).any())

    def observe(self, iteration_N: Tensor, error_N: Tensor | None) -> None:
        """See `Schedule`."""
        s = self.settings
        if error_N is not None:
            self.errors_TN = torch.cat([self.errors_TN[1:], error_N.cpu().double()[None]])
            self.recorded_N += 1
        due = ((iteration_N + 1) % s.check_every == 0) & (self.recorded_N >= len(self.errors_TN))
        due &= (iteration_N - self.changed_at_N > s.window) & ~self.stopped
        if not due.any():
            return
        slope, deviation = fit_slope(self.errors_TN, s.record_every, s.covariance)
        lower = due & (-s.ratio * slope < deviation)
        self.rate_N = torch.where(lower, self.rate_N / s.divide, self.rate_N)
        self.changed_at_N = torch.where(lower, iteration_N, self.changed_at_N)

    def put(self, places: Tensor) -> None:
        """See `Schedule`."""
        self.rate_N[places] = self.settings.lr
        self.changed_at_N[places] = 0
        self.recorded_N[places] = 0

    def keep(self, places: Tensor) -> None:
        """See `Schedule`."""
        self.rate_N, self.changed_at_N, self.recorded_N = (
            state[places] for state in (self.rate_N, self.changed_at_N, self.recorded_N)
        )
        self.errors_TN = self.errors_TN[:, places]


def fit_slope(errors_TN: Tensor, spacing: int, covariance: str) -> tuple[Tensor, Tensor]:
    """Least-squares line through each member's errors.

    Args:
        errors_TN: float64.
        spacing: iterations between two of them.
        covariance: `unbiased` divides the residuals by T - 2; `numpy-1.15` by T - 4, as numpy.polyfit(cov=True) did
            before its version 1.16 (at least 1, so that few points stay defined).

    Returns:
        `N` slopes (an iteration) and `N` standard deviations of the slope.
    """
    points = len(errors_TN)
    centred_T1 = ((torch.arange(points, dtype=torch.float64) - (points - 1) / 2) * spacing)[:, None]
    spread = (centred_T1**2).sum()
    slope = (centred_T1 * errors_TN).sum(0) / spread
    residual = errors_TN - errors_TN.mean(0) - slope * centred_T1
    freedom = max(1, points - (4 if covariance == "numpy-1.15" else 2))
    return slope, ((residual**2).sum(0) / freedom / spread).sqrt()


class Cosine:
    """Linear warm-up, then half a cosine to zero over a fixed number of iterations."""

    stride = 1

    def __init__(self, settings: CosineSchedule) -> None:
        self.settings = settings

    def rates(self, iteration_N: Tensor) -> Tensor:
        """See `Schedule`."""
        s = self.settings
        rise = ((iteration_N + 1) / (s.warm_up * s.iterations + 1)).clamp(max=1)
        fall = 0.5 + 0.5 * (math.pi * iteration_N.double() / s.iterations).cos()
        return torch.where(iteration_N >= s.iterations, 0.0, s.lr * rise * fall)

    def wants_error(self, _iteration_N: Tensor) -> bool:
        """See `Schedule`."""
        return False

    def observe(self, _iteration_N: Tensor, _error_N: Tensor | None) -> None:
        """See `Schedule`."""

    def put(self, _places: Tensor) -> None:
        """See `Schedule`."""

    def keep(self, _places: Tensor) -> None:
        """See `Schedule`."""


def make_schedule(settings: SlopeSchedule | CosineSchedule, members: int) -> Schedule:
    """The schedule that the settings describe, for so many members."""
    return Slope(settings, members) if isinstance(settings, SlopeSchedule) else Cosine(settings)


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
