"""Optimisers and learning-rate schedules of a fleet: Adam and Muon with a rate, a step and a stop for each network.

`torch.optim` knows one rate for a tensor. Networks may begin at different times, so each has an iteration of its own;
with the slope test they begin a multiple of `RECORD_EVERY` iterations apart, so that all record errors together.

Shapes: N networks, P parameters of one, R C the rows and columns of a weight matrix, T the last recorded errors.
"""

import math
from weakref import ref

import torch
from torch import Tensor

from zssr_gan.networks.zssr import ZSSR
from zssr_gan.ops.chain import Adam
from zssr_gan.settings.zeroshot import CosineSchedule, OptimiserSettings, SlopeSchedule
from zssr_gan.zeroshot.state import PerNetwork

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as Kingma and Ba give them

MUON_RATIO = 10.0  # Muon's rate as a multiple of the schedule's: its steps have singular values of about 1

MUON_MOMENTUM = 0.95  # as Jordan et al. give it

WARM_UP = 0.05  # share of the iterations in which the cosine schedule's rate rises

RECORD_EVERY, CHECK_EVERY = 50, 60  # iterations between two records of the error, and between two slope tests (ZSSR's)

WINDOW = 256  # iterations that the line is fitted to, and that pass after a change before the next test

DIVIDE = 10.0  # of the rate

_BLOCK = 1 << 17  # weights that Adam moves at once on a CPU: with their gradient and moments 2 MiB


class FleetOptimiser(PerNetwork):
    """Adam on a fleet's weights, or Muon on its inner convolutions and Adam on the rest.

    The moving average of the weights starts with a low decay, (1 + t) / (10 + t), as it would else remember the
    initialisation.

    Args:
        network: its `weights_NP` are changed in place.
        settings: kind, decay of the average, clipping.
        fused: precision of the products of Triton's kernels, which move the weights within the backward pass (Adam
            without clipping alone); then `result` has the weights, and the network's own stay as they were.
    """

    def __init__(self, network: ZSSR, settings: OptimiserSettings, fused: torch.dtype | None = None) -> None:
        self.network, self.settings = network, settings
        # A network lays its inner matrices first, so that both parts are views of the weights.
        self.matrices = network.inner_matrices if settings.kind == "muon" else (0, 0, 0)
        inner, weights_NP = math.prod(self.matrices), network.weights_NP.detach()
        self.momentum_NP = torch.zeros_like(weights_NP[:, :inner])  # Muon's
        self.mean_NP, self.square_NP = (torch.zeros_like(weights_NP[:, inner:]) for _ in range(2))  # Adam's moments
        self.average_NP = weights_NP.clone() if settings.average else None
        self.steps_N1 = torch.zeros(network.members, 1, device=weights_NP.device)
        self.packed_NP = self.reduced_NP = None
        if fused is not None:
            assert settings.kind == "adam"
            assert not settings.clip
            self.packed_NP = network.chain.pack(weights_NP)
            self.reduced_NP = self.packed_NP.to(fused)
            self.average_NP = self.packed_NP.clone() if settings.average else None
            self.rates_N, self.epsilons_N = (torch.zeros_like(self.steps_N1[:, 0]) for _ in range(2))
            optimiser = ref(self)  # the network does not hold it: both are freed as soon as a fleet ends

            def convolve(x_NBHWC: Tensor) -> Tensor:
                held = optimiser()
                assert held is not None
                return held._convolve(x_NBHWC)

            network.convolutions = convolve

    def descend(self, loss: Tensor, rates: Tensor) -> None:
        """Follow the gradient of a loss to the networks' weights at `rates` (float32): see `step`."""
        if self.packed_NP is None:
            (gradient,) = torch.autograd.grad(loss, self.network.weights_NP)
            self.step(gradient, rates)
            return
        self.steps_N1 += 1
        for corrected_N, made_N1 in zip((self.rates_N, self.epsilons_N), self._correct(rates[:, None]), strict=True):
            corrected_N.copy_(made_N1[:, 0])
        loss.backward()
        self._follow(self.packed_NP, rates[:, None])

    def _convolve(self, x_NBHWC: Tensor) -> Tensor:
        """The network's convolutions, whose backward pass moves the weights."""
        assert self.packed_NP is not None
        assert self.reduced_NP is not None
        values = (self.packed_NP, self.reduced_NP, self.mean_NP, self.square_NP, self.rates_N, self.epsilons_N)
        adam = Adam(*values, (BETA_1, BETA_2))
        return self.network.chain(x_NBHWC.to(self.reduced_NP.dtype), self.packed_NP.detach().requires_grad_(), adam)

    @torch.no_grad()
    def step(self, gradient_NP: Tensor, rates: Tensor) -> None:
        """Move the weights against the gradient at `rates` (`N`, where the weights are; 0 leaves a network
        as it is)."""
        s, weights_NP = self.settings, self.network.weights_NP
        if s.clip:
            norm = gradient_NP.norm(dim=1, keepdim=True)
            gradient_NP = gradient_NP * (s.clip / norm.clamp(min=s.clip))
        rates_N1, inner = rates.to(gradient_NP)[:, None], self.momentum_NP.shape[1]
        self.steps_N1 += 1
        self._adam(weights_NP[:, inner:], gradient_NP[:, inner:], rates_N1)
        if inner:
            self._muon(weights_NP[:, :inner], gradient_NP[:, :inner], rates_N1)
        self._follow(weights_NP, rates_N1)

    @torch.no_grad()
    def _follow(self, weights_NP: Tensor, rates_N1: Tensor) -> None:
        """Move the average towards the weights."""
        if self.average_NP is not None:
            decay_N1 = ((1 + self.steps_N1) / (10 + self.steps_N1)).clamp(max=self.settings.average)
            # The average of a network that has stopped does not move while the others go on.
            self.average_NP.lerp_(weights_NP, (1 - decay_N1) * (rates_N1 > 0))

    def _correct(self, rates_N1: Tensor) -> tuple[Tensor, Tensor]:
        """Rates and epsilons with Adam's corrections for bias in them, `N 1`."""
        # 1 - beta^t; by expm1, since in float32 the first steps would lose digits.
        unbias_mean, unbias_square = (-torch.expm1(self.steps_N1 * math.log(beta)) for beta in (BETA_1, BETA_2))
        root_N1 = unbias_square.sqrt()
        return rates_N1 * root_N1 / unbias_mean, EPSILON * root_N1

    def _adam(self, weights_NP: Tensor, gradient_NP: Tensor, rates_N1: Tensor) -> None:
        """Kingma and Ba 2015, algorithm 1."""
        rates_N1, epsilon_N1 = self._correct(rates_N1)
        # On a CPU all operations are done on one block after another, which stays in the core's cache.
        width = weights_NP.shape[1] if weights_NP.device.type != "cpu" else max(1, _BLOCK // len(weights_NP))
        tensors = (weights_NP, gradient_NP, self.mean_NP, self.square_NP)
        for weights, gradient, mean, square in zip(*(t.split(width, 1) for t in tensors), strict=True):
            mean.lerp_(gradient, 1 - BETA_1)
            square.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
            weights.sub_((mean / square.sqrt().add_(epsilon_N1)).mul_(rates_N1))

    def _muon(self, weights_NP: Tensor, gradient_NP: Tensor, rates_N1: Tensor) -> None:
        """See `muon_step`."""
        momentum, gradient = (x_NP.unflatten(1, self.matrices) for x_NP in (self.momentum_NP, gradient_NP))
        step_NP = muon_step(momentum, gradient).flatten(1)
        weights_NP.sub_(MUON_RATIO * rates_N1 * step_NP)

    def result(self, places: Tensor | None = None) -> Tensor:
        """A copy `N P` of the weights to use, of all or those at `places`: their moving average if there is one."""
        own_NP = self.network.weights_NP.detach() if self.packed_NP is None else self.packed_NP
        weights_NP = own_NP if self.average_NP is None else self.average_NP
        weights_NP = weights_NP.clone() if places is None else weights_NP[places]
        return weights_NP if self.packed_NP is None else self.network.chain.unpack(weights_NP)


def muon_step(momentum: Tensor, gradient: Tensor) -> Tensor:
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

    The Nesterov momentum of weight matrices, each replaced by the nearest matrix whose singular values are all about 1:
    what a rate of 1 subtracts from the weights.

    Args:
        momentum: `... R C` with R <= C, running mean of the gradients, updated in place.
        gradient: `... R C`.
    """
    momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
    return orthogonalise(torch.lerp(gradient, momentum, MUON_MOMENTUM))


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


class Slope(PerNetwork):
    """The original's schedule: the rate is divided where the reconstruction error no longer falls.

    Every `RECORD_EVERY` iterations the reconstruction error of the whole image is recorded. Every `CHECK_EVERY`
    iterations, if more than `WINDOW` have passed since the network's last change, a line is fitted to the errors of
    the last `WINDOW` iterations; where `ratio * (-slope)` is below the slope's standard deviation, the rate is
    divided. A network stops when its rate reaches `stop_lr`.
    """

    def __init__(self, settings: SlopeSchedule, networks: int) -> None:
        self.settings = settings
        self.stride = RECORD_EVERY
        self.rate_N = torch.full((networks,), settings.lr, dtype=torch.float64)
        self.changed_at_N = torch.zeros(networks, dtype=torch.int64)
        self.recorded_N = torch.zeros(networks, dtype=torch.int64)
        self.errors_NT = torch.zeros(networks, WINDOW // RECORD_EVERY, dtype=torch.float64)

    @property
    def stopped_N(self) -> Tensor:
        """Bool: whose rate has reached the end. The margin is for 1e-3 / 10 / 10 / 10, which is not 1e-6."""
        return self.rate_N <= self.settings.stop_lr * 1.001

    def rates(self, iteration_N: Tensor) -> Tensor:
        """`N` learning rates of each network's own iteration (from 0); 0 for one that has stopped."""
        return torch.where(self.stopped_N | (iteration_N >= self.settings.iterations), 0.0, self.rate_N)

    def wants_error(self, iteration_N: Tensor) -> bool:
        """Whether `observe` needs the reconstruction errors after this iteration."""
        return bool((iteration_N % RECORD_EVERY == 0).any())

    def observe(self, iteration_N: Tensor, error_N: Tensor | None) -> None:
        """End an iteration; `error_N` are mean squared errors, where they were wanted."""
        s = self.settings
        if error_N is not None:
            self.errors_NT = torch.cat([self.errors_NT[:, 1:], error_N.cpu().double()[:, None]], 1)
            self.recorded_N += 1
        due = ((iteration_N + 1) % CHECK_EVERY == 0) & (self.recorded_N >= self.errors_NT.shape[1])
        due &= (iteration_N - self.changed_at_N > WINDOW) & ~self.stopped_N
        if not due.any():
            return
        slope, deviation = fit_slope(self.errors_NT, RECORD_EVERY, s.covariance)
        lower = due & (-s.ratio * slope < deviation)
        self.rate_N = torch.where(lower, self.rate_N / DIVIDE, self.rate_N)
        self.changed_at_N = torch.where(lower, iteration_N, self.changed_at_N)


def fit_slope(errors_NT: Tensor, spacing: int, covariance: str) -> tuple[Tensor, Tensor]:
    """Least-squares line through each network's errors.

    Args:
        errors_NT: float64.
        spacing: iterations between two of them.
        covariance: `unbiased` divides the residuals by T - 2; `numpy-1.15` by T - 4, as numpy.polyfit(cov=True) did
            before its version 1.16 (at least 1, so that few points stay defined).

    Returns:
        `N` slopes (an iteration) and `N` standard deviations of the slope.
    """
    points = errors_NT.shape[1]
    centred_T = (torch.arange(points, dtype=torch.float64) - (points - 1) / 2) * spacing
    spread = (centred_T**2).sum()
    slope = (centred_T * errors_NT).sum(1) / spread
    residual = errors_NT - errors_NT.mean(1, keepdim=True) - slope[:, None] * centred_T
    freedom = max(1, points - (4 if covariance == "numpy-1.15" else 2))
    return slope, ((residual**2).sum(1) / freedom / spread).sqrt()


class Cosine:
    """Linear warm-up, then half a cosine to zero over a fixed number of iterations."""

    stride = 1

    def __init__(self, settings: CosineSchedule) -> None:
        self.settings = settings

    def rates(self, iteration_N: Tensor) -> Tensor:
        """`N` learning rates of each network's own iteration; 0 after the last."""
        s = self.settings
        rise = ((iteration_N + 1) / (WARM_UP * s.iterations + 1)).clamp(max=1)
        fall = 0.5 + 0.5 * (math.pi * iteration_N.double() / s.iterations).cos()
        return torch.where(iteration_N >= s.iterations, 0.0, s.lr * rise * fall)


def make_schedule(settings: SlopeSchedule | CosineSchedule, networks: int) -> Slope | Cosine:
    """The schedule that the settings describe, for so many networks."""
    return Slope(settings, networks) if isinstance(settings, SlopeSchedule) else Cosine(settings)
