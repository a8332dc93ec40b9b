"""How likely blocks of 8x8 pixels are under a quantisation table, against pixels that no JPEG has touched.

The cosine coefficients of a compressed block lie at whole multiples of the table's steps, moved by the decoder's
rounding to whole levels (Fan and de Queiroz 2003; Lukas and Fridrich 2003). Without compression a coefficient has a
smooth density that falls off from 0: a mixture of Gaussians of mean 0, fitted to the windows at all 64 phases of the
grid. With a table, the density's mass in each cell sits at the cell's centre.

Shapes: N windows or blocks, 63 coefficients (all but the mean), T tables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import torch
from torch import Tensor

from zssr_gan.degradation.jpeg import COSINES, Table, block_coefficients

ROUNDING = math.sqrt(1 / 12)
"""Standard deviation of what rounding to whole levels moves a coefficient by."""

_SCALES = torch.tensor([ROUNDING * 2**power for power in range(12)])  # of the mixture, levels

_FITS = 12  # iterations of expectation and maximisation

_PRIOR = 20.0  # windows that the prior counts as

_CLASSES = 4

_FITTED = 1000  # windows that the mixture is fitted to

_OUTLIERS = 0.02
"""Share of a compressed image's coefficients that are not on the lattice: clipped levels."""

_LOST = 0.5
"""How likely a block with clipped pixels has lost its lattice."""

_AT_ONCE = 400_000  # values, for memory and the cache

_LARGEST = 1100  # levels; no coefficient of 8x8 levels is larger


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows of 8x8 pixels of an image, or of parts of it."""

    coefficients: Tensor
    """`N 63`, absolute values, levels."""
    phases: Tensor
    """`N`, 0 to 63: 8 x row + column of a window's corner, both modulo 8."""
    clipped: Tensor
    """`N`, whether a channel is 0 or 255 somewhere: such a block may have lost its lattice."""

    def at(self, keep: Tensor) -> Self:
        """Those that `keep` (`N`, truth values or places) names."""
        return type(self)(self.coefficients[keep], self.phases[keep], self.clipped[keep])

    def distinct(self) -> Self:
        """Those that differ: of a drawn pattern that repeats itself, one copy is evidence."""
        levels = torch.cat([self.phases[:, None], (4 * self.coefficients).round().long()], 1)
        _, first = np.unique(levels.numpy(), axis=0, return_index=True)
        return self.at(torch.from_numpy(np.sort(first)))


@dataclass(frozen=True, slots=True)
class SmoothDensity:
    """The density of each coefficient's absolute value where nothing was compressed, in windows of like activity.

    Flat and busy places differ, and a phase may have its blocks in the one by chance.
    """

    edges: Tensor
    """`A - 1`: activities that divide the classes."""
    weights: Tensor
    """`A 63 K` of the mixture's Gaussians."""
    below: Tensor
    """`A 63 M`: the share below 0, 0.5, 1, ... levels."""

    @classmethod
    def fit(cls, windows: Windows) -> Self:
        """By expectation and maximisation, in each class with the whole's as prior."""
        activity = _activity(windows.coefficients)
        edges = torch.quantile(activity, torch.arange(1, _CLASSES) / _CLASSES)
        classes = torch.bucketize(activity, edges)
        every = max(1, len(activity) // _FITTED)
        likelihoods = _half_normal(windows.coefficients[::every, :, None], _SCALES)  # N 63 K
        flat = torch.full(likelihoods.shape[1:], 1 / len(_SCALES))
        whole = _fitted(likelihoods, flat)
        weights = torch.stack([_fitted(likelihoods[classes[::every] == one], whole) for one in range(_CLASSES)])
        return cls(edges, weights, weights @ _below())


def _activity(coefficients: Tensor) -> Tensor:
    return (coefficients + ROUNDING).log().mean(-1)


def _fitted(likelihoods: Tensor, prior: Tensor) -> Tensor:
    """Weights `63 K` of the mixture with likelihoods `N 63 K`."""
    weights = prior
    for _ in range(_FITS):
        shares = likelihoods * weights
        shares /= shares.sum(-1, keepdim=True)
        weights = shares.sum(0) + _PRIOR * prior
        weights = weights / weights.sum(-1, keepdim=True)
    return weights


def scores(windows: Windows, density: SmoothDensity, tables: Tensor, sigmas: Tensor) -> Tensor:
    """Logarithm of how much likelier each window's coefficients are under each table than under the density.

    Args:
        windows: taken for whole blocks.
        density: of the same image.
        tables: `T 63` steps.
        sigmas: `63` or `1`: standard deviation of what has moved the coefficients since, levels.

    Returns:
        `N T` nats.
    """
    out = windows.coefficients.new_empty(len(windows.phases), len(tables))
    classes = torch.bucketize(_activity(windows.coefficients), density.edges)
    for one, (weights, below) in enumerate(zip(density.weights, density.below, strict=True)):
        members = (classes == one).nonzero()[:, 0]
        coefficients = windows.coefficients[members]
        smooth = (_half_normal(coefficients[..., None], _SCALES) * weights).sum(-1)
        at_once = max(1, _AT_ONCE // max(1, smooth.numel()))
        for start in range(0, len(tables), at_once):
            steps = tables[start : start + at_once]
            out[members, start : start + at_once] = _nats(coefficients[:, None], smooth[:, None], below, steps, sigmas)
    lost = math.log(_LOST)
    out[windows.clipped] = torch.logaddexp(out[windows.clipped] + math.log1p(-_LOST), torch.tensor(lost))
    return out


def _nats(blocks: Tensor, smooth: Tensor, below: Tensor, steps: Tensor, sigmas: Tensor) -> Tensor:
    """`N T` of blocks `N 1 63`, their density `N 1 63`, its distribution `63 M` and steps `T 63`."""
    cells = (blocks / steps).round()
    off = (blocks - cells * steps).abs_()
    # The cell beside is taken to hold as much: it matters midway between two, where both are hardly likely.
    near = _mass(below, cells, steps).mul_(_normal(off, sigmas).add_(_normal(steps - off, sigmas)))
    nats = (near.mul_(1 - _OUTLIERS) / smooth).add_(_OUTLIERS).log_().sum(-1)
    # A block of zeros alone is a flat place, lattice or not.
    return torch.where((cells == 0).all(-1), nats.clamp(max=0), nats)


def _mass(below: Tensor, cells: Tensor, steps: Tensor) -> Tensor:
    """Share of the density in whole-numbered cells `N T 63` of steps `T 63`; in cell 0 of absolute values, twice.

    A Gaussian about 0 lies on both sides of it, one about another cell's centre on this side alone.
    """
    last = below.shape[1] - 1
    places = below.shape[1] * torch.arange(len(below))
    middles = 2 * cells * steps
    upper = (middles + steps).clamp_(max=last).long().add_(places)
    lower = (middles - steps).clamp_(0, last).long().add_(places)
    mass = below.take(upper).sub_(below.take(lower))
    return torch.where(cells == 0, 2 * mass, mass)


def _normal(x: Tensor, sigma: Tensor) -> Tensor:
    # Limited, as numbers near 0 that are not normalised are slow.
    return torch.exp((-0.5 * (x / sigma).square()).clamp_(min=-40)) / (sigma * math.sqrt(2 * math.pi))


def _half_normal(x: Tensor, sigma: Tensor) -> Tensor:
    return 2 * _normal(x, sigma)


@cache
def _below() -> Tensor:
    """`K M`: the share of each of the mixture's Gaussians below 0, 0.5, 1, ... levels, signs left out."""
    at = torch.arange(0, 2 * _LARGEST) / 2
    return torch.erf(at / (_SCALES[:, None] * math.sqrt(2)))


def steps_of(tables: Sequence[Table]) -> Tensor:
    """`T 63`: the tables without the step of the mean."""
    return torch.tensor(tables, dtype=torch.float32)[:, 1:]


def windows_of(levels: Tensor, clipped: Tensor, row: int = 0, column: int = 0) -> Windows:
    """The windows of `H W` whole levels (0 to 255), at least 8x8.

    Args:
        levels: luma.
        clipped: `H W`, whether a channel is 0 or 255 there.
        row, column: of the corner in the image.
    """
    pieces = levels.unfold(0, 8, 1).unfold(1, 8, 1)
    height, width = pieces.shape[:2]
    found = block_coefficients(pieces.reshape(-1, 8, 8)).reshape(-1, 64)[:, 1:].abs()
    rows, columns = torch.arange(row, row + height) % 8, torch.arange(column, column + width) % 8
    touched = clipped.unfold(0, 8, 1).unfold(1, 8, 1).flatten(2).any(-1).flatten()
    return Windows(found, (8 * rows[:, None] + columns).flatten(), touched)


def moved_by_resaving(outer: Table) -> Tensor:
    """`63`: how far a later compression with this table moves the coefficients of another grid's blocks, levels.

    A block of the first grid holds parts of up to four of the second, whose coefficients are each off by a step's
    uniform error; the mean over all phases.
    """
    errors = torch.tensor(outer, dtype=torch.float32).reshape(8, 8).square() / 12
    spread = _energy_spread()
    return (spread @ errors @ spread.T + 2 * ROUNDING**2).sqrt().flatten()[1:]


@cache
def _energy_spread() -> Tensor:
    """`8 8`: the share of a frequency's energy that each frequency of a block moved by 1 to 7 pixels receives."""
    spread = torch.zeros(8, 8)
    for shift in range(1, 8):
        moved = torch.zeros(8, 8)
        moved[: 8 - shift] = COSINES.T[shift:]  # of the first block, the samples from `shift` on
        spread += (COSINES @ moved).square() / 7
        moved = torch.zeros(8, 8)
        moved[8 - shift :] = COSINES.T[:shift]
        spread += (COSINES @ moved).square() / 7
    return spread
