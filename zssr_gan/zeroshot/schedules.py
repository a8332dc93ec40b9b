"""Learning rates, one a member: the original's slope test, and a fixed-budget cosine."""

import math
from typing import Protocol

import torch
from torch import Tensor

from zssr_gan.config import CosineSchedule, SlopeSchedule


class Schedule(Protocol):
    """What the training loop asks of a schedule. Iterations count from 0; tensors have one entry a member."""

    def rates(self, iteration: int, /) -> Tensor:
        """`N` learning rates of this iteration; 0 for a member that has stopped."""

    def wants_error(self, iteration: int, /) -> bool:
        """Whether `observe` needs the reconstruction error after this iteration."""

    def observe(self, iteration: int, error: Tensor | None, /) -> None:
        """Take note of the end of an iteration, and of the `N` mean squared errors where they were wanted."""

    def finished(self) -> bool:
        """Whether all members have stopped."""


class Slope:
    """The original's test, and the seed paper's reading of it: lower the rate when the error no longer falls.

    Every `record_every` iterations the reconstruction error of the whole image is recorded. Every `check_every`
    iterations, if more than `window` have passed since the member's last change, a line is fitted to the errors of
    the last `window` iterations; where `ratio * (-slope)` is below the slope's standard deviation, the rate is
    divided. A member stops when its rate reaches `stop_lr`.
    """

    def __init__(self, settings: SlopeSchedule, members: int) -> None:
        self.settings = settings
        self.rate = torch.full((members,), settings.lr, dtype=torch.float64)
        self.changed_at = torch.zeros(members, dtype=torch.int64)
        self.at: list[int] = []
        self.errors: list[Tensor] = []

    @property
    def stopped(self) -> Tensor:
        """`N` bool: whose rate has reached the end. The margin is for 1e-3 / 10 / 10 / 10, which is not 1e-6."""
        return self.rate <= self.settings.stop_lr * 1.001

    def rates(self, _iteration: int) -> Tensor:
        """See `Schedule`."""
        return torch.where(self.stopped, torch.zeros_like(self.rate), self.rate)

    def wants_error(self, iteration: int) -> bool:
        """See `Schedule`."""
        return iteration % self.settings.record_every == 0

    def observe(self, iteration: int, error: Tensor | None) -> None:
        """See `Schedule`."""
        s = self.settings
        if error is not None:
            self.at.append(iteration)
            self.errors.append(error.double().cpu())
        points = s.window // s.record_every
        if (iteration + 1) % s.check_every or len(self.errors) < points:
            return
        due = (iteration - self.changed_at > s.window) & ~self.stopped
        slope, deviation = fit_slope(self.at[-points:], torch.stack(self.errors[-points:]), s.covariance)
        lower = due & (-s.ratio * slope < deviation)
        self.rate = torch.where(lower, self.rate / s.divide, self.rate)
        self.changed_at = torch.where(lower, iteration, self.changed_at)

    def finished(self) -> bool:
        """See `Schedule`."""
        return bool(self.stopped.all())


def fit_slope(at: list[int], errors: Tensor, covariance: str) -> tuple[Tensor, Tensor]:
    """Least-squares line through each member's errors.

    Args:
        at: T iterations.
        errors: `T N` float64.
        covariance: `unbiased` divides the residuals by T - 2; `numpy-1.15` by T - 4, as numpy.polyfit(cov=True) did
            before its version 1.16 (at least 1, so that few points stay defined).

    Returns:
        `N` slopes and `N` standard deviations of the slope.
    """
    x = torch.tensor(at, dtype=torch.float64)[:, None]
    centred = x - x.mean()
    spread = (centred**2).sum()
    slope = (centred * errors).sum(0) / spread
    residual = errors - errors.mean(0) - slope * centred
    freedom = max(1, len(at) - (4 if covariance == "numpy-1.15" else 2))
    return slope, ((residual**2).sum(0) / freedom / spread).sqrt()


class Cosine:
    """Linear warm-up, then half a cosine to zero over a fixed number of iterations."""

    def __init__(self, settings: CosineSchedule, members: int) -> None:
        self.settings = settings
        self.members = members

    def rates(self, iteration: int) -> Tensor:
        """See `Schedule`."""
        s = self.settings
        rise = min(1.0, (iteration + 1) / (s.warm_up * s.iterations + 1))
        fall = 0.5 + 0.5 * math.cos(math.pi * iteration / s.iterations)
        return torch.full((self.members,), s.lr * rise * fall, dtype=torch.float64)

    def wants_error(self, _iteration: int) -> bool:
        """See `Schedule`."""
        return False

    def observe(self, _iteration: int, _error: Tensor | None) -> None:
        """See `Schedule`."""

    def finished(self) -> bool:
        """See `Schedule`."""
        return False


def make_schedule(settings: SlopeSchedule | CosineSchedule, members: int) -> Schedule:
    """The schedule that the settings describe, for so many members."""
    return Slope(settings, members) if isinstance(settings, SlopeSchedule) else Cosine(settings, members)
