"""Learning rates, one a member: the original's slope test, and a fixed-budget cosine.

Members may have begun at different times, so each has an iteration of its own; those of the original's schedule have
begun a multiple of `record_every` iterations apart, so that all record their errors at once.

Shapes: N members, T points in time.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from zssr_gan.config import CosineSchedule, SlopeSchedule


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
