"""How likely blocks of 8x8 pixels are under a quantisation table, against pixels that no JPEG has touched.

The cosine coefficients of a compressed block lie at whole multiples of the table's steps, moved by the decoder's
rounding to whole levels (Fan and de Queiroz 2003; Lukas and Fridrich 2003). Without compression a coefficient has a
smooth density that falls off from 0: a mixture of Gaussians of mean 0, fitted to the windows at all 64 phases of the
grid. With a table, the density's mass in each cell sits at the cell's centre.

Shapes: N windows or blocks, 63 coefficients (all but the mean), T tables, P phases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import torch
from torch import Tensor

from zssr_gan.degradation.jpeg import Table, block_coefficients, compress
from zssr_gan.imaging.colour import LEVELS, luma_of

PHASES = 64

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

_FLAT = 1.0  # level; rounding alone moves a coefficient of a flat block by less

_BETWEEN = 1.3 * ROUNDING  # levels, between two saves

_LEAST_MOVED = 0.1  # levels

_MOVED_PRIOR = 10.0  # windows that the mean over all classes counts as

_FEWEST_LEVELS = 16  # a drawing or a flat place has fewer, and a lattice of its own

_LARGEST_SIDE = 96  # pixels; of a larger image, parts are tested
_PART = 31  # pixels: a window at each of 24 x 24 places, 9 at each phase
_PARTS = 16

_AT_ONCE = 400_000  # values, for memory and the cache

_LARGEST = 1100  # levels; no coefficient of 8x8 levels is larger


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image."""

    levels: Tensor
    """`H W`: luma in whole levels, 0 to 255."""
    clipped: Tensor
    """`H W`, whether a channel is 0 or 255 there."""
    row: int
    column: int
    """Of its corner in the image."""


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
        some = windows.coefficients[::every].T[:, None].contiguous()
        likelihoods = _half_normal(some, _SCALES[:, None])  # 63 K N
        whole = _fitted(likelihoods, torch.full(likelihoods.shape[:2], 1 / len(_SCALES)))
        weights = torch.stack([_fitted(likelihoods[..., classes[::every] == one], whole) for one in range(_CLASSES)])
        return cls(edges, weights, weights @ _below())


def _activity(coefficients: Tensor) -> Tensor:
    return (coefficients + ROUNDING).log().mean(-1)


def _fitted(likelihoods: Tensor, prior: Tensor) -> Tensor:
    """Weights `63 K` of the mixture with likelihoods `63 K N`."""
    weights = prior
    for _ in range(_FITS):
        density = weights[:, None] @ likelihoods  # 63 1 N
        weights = weights * (likelihoods @ density.reciprocal().mT)[..., 0] + _PRIOR * prior
        weights = weights / weights.sum(-1, keepdim=True)
    return weights


def scores(windows: Windows, density: SmoothDensity, tables: Tensor, sigmas: Tensor) -> Tensor:
    """Logarithm of how much likelier each window's coefficients are under each table than under the density.

    Args:
        windows: taken for whole blocks.
        density: of the same image.
        tables: `T 63` steps.
        sigmas: `S A 63` or `S 1 1`: standard deviation of what has moved the coefficients since, levels.

    Returns:
        `S N T` nats.
    """
    out = windows.coefficients.new_empty(len(sigmas), len(windows.phases), len(tables))
    classes = torch.bucketize(_activity(windows.coefficients), density.edges)
    for one, sigma in enumerate(sigmas.expand(-1, len(density.weights), -1).unbind(1)):
        members = (classes == one).nonzero()[:, 0]
        coefficients, below = windows.coefficients[members], density.below[one]
        smooth = (_half_normal(coefficients[..., None], _SCALES) * density.weights[one]).sum(-1)
        at_once = max(1, _AT_ONCE // max(1, smooth.numel()))
        for start in range(0, len(tables), at_once):
            some = slice(start, start + at_once)
            out[:, members, some] = _nats(coefficients[:, None], smooth[:, None], below, tables[some], sigma)
    return _with_clipped(out, windows)


def _with_clipped(nats: Tensor, windows: Windows) -> Tensor:
    """`... N T`, changed in place where clipped pixels may have moved a block off its lattice."""
    lost = torch.tensor(math.log(_LOST))
    nats[..., windows.clipped, :] = torch.logaddexp(nats[..., windows.clipped, :] + math.log1p(-_LOST), lost)
    return nats


def saved_again_scores(windows: Windows, density: SmoothDensity, tables: Tensor, outer: Tensor) -> Tensor:
    """As `scores`, of blocks that were saved with each table first and then, on the same grid, with the steps `outer`.

    The second save rounds a multiple of the first's step to its own: some of its multiples become rare, others common.
    """
    out = windows.coefficients.new_zeros(len(windows.phases), len(tables))
    classes = torch.bucketize(_activity(windows.coefficients), density.edges)
    middles = (windows.coefficients / outer).round() * outer
    for one, below in enumerate(density.below):
        members = (classes == one).nonzero()[:, 0]
        blocks = middles[members][:, None]
        single = torch.where(blocks == 0, 0.5, 1.0) * _mass(below, blocks / outer, outer)
        nearest = (blocks / tables).round()
        double = torch.zeros_like(nearest)
        for cells in (nearest - 1, nearest, nearest + 1):
            share = _inside(cells * tables, blocks, outer) * _mass(below, cells.clamp(min=0), tables)
            # `_mass` counts cell 0 twice; above 0, it is reached from there on both sides.
            share = torch.where((cells == 0) & (blocks == 0), share / 2, share)
            double += torch.where(cells < 0, 0.0, share)
        ratio = (1 - _OUTLIERS) * double / single.clamp(min=1e-12) + _OUTLIERS
        # Steps far below the second save's leave no trace.
        nats = torch.where(2 * tables < outer, 0.0, ratio.log()).sum(-1)
        out[members] = torch.where((blocks == 0).all(-1), nats.clamp(max=0), nats)
    return _with_clipped(out, windows)


def _inside(at: Tensor, middle: Tensor, width: Tensor) -> Tensor:
    """Share of a Gaussian about `at`, of the rounding between two saves, within half a width of `middle`."""
    scale = math.sqrt(2) * _BETWEEN
    return 0.5 * (torch.erf((middle + width / 2 - at) / scale) - torch.erf((middle - width / 2 - at) / scale))


def step_scores(windows: Windows, density: SmoothDensity, steps: Tensor, sigma: float) -> Tensor:
    """As `scores`, for each frequency and step apart, summed over the windows of a phase: `P 63 Q` for steps `Q`.

    Flat windows, which fit any step, are left out.
    """
    out = windows.coefficients.new_zeros(PHASES, 63, len(steps))
    windows = windows.at(windows.coefficients.amax(1) > _FLAT)
    classes = torch.bucketize(_activity(windows.coefficients), density.edges)
    tables = steps[:, None].expand(-1, 63)
    for one, below in enumerate(density.below):
        for members in (classes == one).nonzero()[:, 0].split(max(1, _AT_ONCE // tables.numel())):
            coefficients = windows.coefficients[members]
            smooth = (_half_normal(coefficients[..., None], _SCALES) * density.weights[one]).sum(-1)
            ratio, off = _cells(coefficients[:, None], smooth[:, None], below, tables)[:2]
            nats = _density_at(off, tables, torch.tensor(sigma)).mul_(ratio).add_(_OUTLIERS).log_()
            out.index_add_(0, windows.phases[members], nats.mT)
    return out


def _nats(blocks: Tensor, smooth: Tensor, below: Tensor, steps: Tensor, sigmas: Tensor) -> Tensor:
    """`S N T` of blocks `N 1 63`, their density `N 1 63`, its distribution `63 M`, steps `T 63` and sigmas `S 63`."""
    ratio, off, cells = _cells(blocks, smooth, below, steps)
    near = (_density_at(off, steps, sigma) for sigma in sigmas)
    nats = torch.stack([one.mul_(ratio).add_(_OUTLIERS).log_().sum(-1) for one in near])
    # A block of zeros alone is a flat place, lattice or not.
    return torch.where(cells.sum(-1) == 0, nats.clamp(max=0), nats)


def _cells(blocks: Tensor, smooth: Tensor, below: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mass of each coefficient's cell over its density, its distance from the cell's centre, and the cell."""
    cells = (blocks / steps).round()
    off = (blocks - cells * steps).abs_()
    return _mass(below, cells, steps).mul_(1 - _OUTLIERS).div_(smooth), off, cells


def _density_at(off: Tensor, steps: Tensor, sigma: Tensor) -> Tensor:
    """Density at a distance from a cell's centre.

    The cell beside is taken to hold as much: it matters midway between two, where both are hardly likely.
    """
    return _normal(off, sigma).add_(_normal(steps - off, sigma))


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
    exponent = (x * (math.sqrt(0.5) / sigma)).square_().neg_().clamp_(min=-40)
    return exponent.exp_().div_(sigma * math.sqrt(2 * math.pi))


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


def tiles_of(image: Tensor) -> list[Tile]:
    """An image, or parts of a large one; none where it is smaller than a block."""
    levels = (image.detach().float().cpu() * LEVELS).round()
    clipped = ((levels <= 0) | (levels >= LEVELS)).any(0)
    # The decoder's luma is whole levels; what colours' rounding moved it by is rounded away.
    luma = (luma_of(levels / LEVELS) * LEVELS).round()
    height, width = luma.shape
    if min(height, width) < 8 or len(luma.unique()) < _FEWEST_LEVELS:
        return []
    if max(height, width) <= _LARGEST_SIDE:
        return [Tile(luma, clipped, 0, 0)]
    side = round(math.sqrt(_PARTS))
    rows, columns = (
        torch.linspace(0, max(0, length - _PART), side).long().unique().tolist() for length in (height, width)
    )
    areas = [
        (row, column, (slice(row, row + _PART), slice(column, column + _PART))) for row in rows for column in columns
    ]
    return [Tile(luma[area], clipped[area], row, column) for row, column, area in areas]


def windows_of(tiles: Sequence[Tile]) -> Windows:
    """The windows of parts of an image, each at least 8x8."""
    coefficients, phases, clipped = [], [], []
    for tile in tiles:
        pieces = tile.levels.unfold(0, 8, 1).unfold(1, 8, 1)
        places = zip((tile.row, tile.column), pieces.shape, strict=False)
        coefficients.append(block_coefficients(pieces.reshape(-1, 8, 8)).reshape(-1, 64)[:, 1:].abs())
        rows, columns = (torch.arange(start, start + number) % 8 for start, number in places)
        phases.append((8 * rows[:, None] + columns).flatten())
        clipped.append(tile.clipped.unfold(0, 8, 1).unfold(1, 8, 1).flatten(2).any(-1).flatten())
    return Windows(torch.cat(coefficients), torch.cat(phases), torch.cat(clipped))


def moved_by_saving(tiles: Sequence[Tile], outer: Table, density: SmoothDensity) -> Tensor:
    """`A 63`: how far a save with this table moves coefficients of blocks that do not begin with its own, levels.

    What the save moved these pixels by is not seen any more; so they are saved once more on a grid four pixels further.
    """
    squares = torch.full((len(density.edges) + 1, 63), _LEAST_MOVED**2)
    counts = torch.ones(len(squares), 1)
    for tile in tiles:
        inner = tile.levels[4:, 4:]
        if min(inner.shape) < 8:
            continue
        saved = compress(inner[None, None] / LEVELS, outer, outer)[0, 0] * LEVELS
        before, after = (
            block_coefficients(levels.unfold(0, 8, 1).unfold(1, 8, 1).reshape(-1, 8, 8)).reshape(-1, 64)[:, 1:]
            for levels in (inner, saved.round())
        )
        rows, columns = (torch.arange(side - 7) % 8 > 0 for side in inner.shape)
        apart = (rows[:, None] | columns).flatten()
        classes = torch.bucketize(_activity(before[apart].abs()), density.edges)
        squares.index_add_(0, classes, (after - before)[apart].square())
        counts.index_add_(0, classes, torch.ones(len(classes), 1))
    whole = squares.sum(0) / counts.sum()
    moved: Tensor = ((squares + _MOVED_PRIOR * whole) / (counts + _MOVED_PRIOR) + ROUNDING**2).sqrt()
    return moved
