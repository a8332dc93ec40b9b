"""Find the blur under which shrunk LR images look like LR images: recurrence across scales, pooled over a case.

Michaeli and Irani (2013) argue that the right blur of an image is the one that makes its small patches recur most in
its own shrunk copy, and KernelGAN (Bell-Kligler et al. 2019) has a discriminator compare them. One tiny face holds too
few patches for either. A case holds enough for plain statistics: the mean power spectrum of all 8x8 windows, and, of
JPEG files, how often each cosine coefficient survives. The images are shrunk by a Gaussian of three numbers, go through
the camera's noise and compression, and the Gaussian is moved (Nelder and Mead 1965) until their statistics agree.

Shapes: B tiles, H W their rows and columns, S windows, n = 8 their side, u v frequencies.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.degradation.jpeg import block_coefficients, compress
from zssr_gan.degradation.model import Blur, Degradation, DegradedDownscale, GaussianBlur, Jpeg
from zssr_gan.degradation.noise import SIDE, quiet_spectra
from zssr_gan.degradation.spectra import radii, transformed, windows
from zssr_gan.imaging.colour import LEVELS


@dataclass(frozen=True, slots=True)
class EstimationSettings:
    """Constants of an estimate from LR images, which its file lists; no file sets them."""

    tiles: int = 200
    """At most so many parts of images are looked at, evenly chosen."""
    tile: int = 64
    """Largest side of a tile in pixels; larger images are cut into tiles."""
    window_step: int = 2
    """Pixels between two windows of 8x8."""
    survival_weight: float = 0.2
    """Of JPEG files: weight of how often coefficients survive, the power spectrum's being 1."""
    quiet_share: float = 0.2
    """Share of the windows, those with the least at low frequencies, that tell compressed images' noise."""
    colours_trusted: float = 1.5
    """Noise that is read from what colours do not share is used where freeing it does not make the misfit smaller
    by this factor."""
    noise_tolerance: float = 1.02
    """Of compressed images: the least noise is taken whose misfit is within this factor of the best."""
    trials: int = 150
    """Blurs tried in one search, at most."""
    tolerance: float = 0.005
    """A search ends where its blurs differ by less, in pixels of the LR image."""
    parts: int = 5
    """The set is dealt into so many parts; how their estimates differ tells how sure the whole is."""
    fewest: int = 10
    """Tiles that an estimate needs."""
    certainty: float = 2.0
    """The estimate is used where it is further from bicubic than its own uncertainty by this factor ..."""
    motion: float = 1.12
    """Motion is taken where it fits so many times as well as a Gaussian, in each comparison of held-out images ..."""
    one_direction: float = 1.3
    """... or where the images are blurred in one direction only and a Gaussian fits not so many times as well."""
    defocus: float = 1.04
    """Defocus is taken where it fits so many times as well as a Gaussian; a round Gaussian fits 1.06 times as well as a
    disk where it is the truth, an elongated one no better than a line under JPEG."""
    recurrence: float = 5.0
    """... and the images recur under it so many times as well as under bicubic: the ratio of the misfits ..."""
    recurrence_gain: float = 5.7
    """... which, times the difference of the misfits, is so large. No scene recurs exactly: images that were not
    blurred seem blurred by 0.3 LR pixels. Of a hundred of them the ratio is 1 to 6; of few tiny ones it is up to 9, by
    chance, but the difference at most 0.5 (that of single photographs 0.9)."""


NO_BLUR = GaussianBlur(sigma_major=0, sigma_minor=0)

_LOWEST, _HIGHEST = 0.05, 0.75  # cycles a pixel, those compared

_QUIETEST, _HIGH = 0.05, 0.45  # share of the windows, and cycles a pixel, that a ceiling of the noise is read from

_MOST_NOISE, _NOISE_STEP = 10 / LEVELS, 0.2 / LEVELS  # of luma, tried where images were compressed

_LEAST_WIDTH = 0.01  # LR pixels

_WIDEST = 3.0  # LR pixels: what no camera does


# Where a search begins, and how far its first steps go: the lower triangular root of the blur's covariance (LR pixels),
# and luma's noise.
_STARTS = ((0.6, 0.3, 0.6), (0.6, -0.3, 0.6))

_NOISE = 0.005

_REACH = np.array([0.3, 0.25, 0.3, 0.006])

_REACH_CLOSE_BY = np.array([0.1, 0.1, 0.1, 0.006])


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Luma of parts of the LR images, as many as there are of each size: `B H W` in [0, 1] each."""

    groups: tuple[Tensor, ...]

    def __len__(self) -> int:
        return sum(len(group) for group in self.groups)

    def of_side(self, least: int) -> "Tiles":
        """The tiles of at least so many pixels a side."""
        return Tiles(tuple(group for group in self.groups if min(group.shape[1:]) >= least))

    def part(self, number: int, of: int) -> "Tiles":
        """Every `of`-th tile, from `number` on, counted through all sizes."""
        cut, before = [], 0
        for group in self.groups:
            cut.append(group[(number - before) % of :: of])
            before += len(group)
        return Tiles(tuple(group for group in cut if len(group)))


@dataclass(frozen=True, slots=True)
class Fit:
    """A blur that fits."""

    blur: Blur
    noise: float
    """Standard deviation of luma's noise, [0, 1] units."""
    misfit: float
    """Mean square of what the logarithms of the statistics are apart, weighed."""


class Recurrence:
    """Statistics of a case's tiles, and of their shrunk copies under any blur and noise.

    Args:
        tiles: those of less than two windows a side are left out.
        compression: JPEG's tables where the images were compressed.
        settings: weights.
        seed: of the noise that shrunk copies are given.
        side: of the windows; wider ones tell shapes of blurs apart.
    """

    def __init__(
        self, tiles: Tiles, compression: Jpeg | None, settings: EstimationSettings, seed: int, side: int = SIDE
    ) -> None:
        tiles = tiles.of_side(2 * side)
        self.tiles, self.compression, self.settings, self.seed, self.side = tiles, compression, settings, seed, side
        radius = radii(side)
        self._compared = (radius > _LOWEST) & (radius < _HIGHEST)
        self._low = (radius > 0.1) & (radius < 0.3)
        made = torch.Generator().manual_seed(seed)
        self._noise = [
            torch.randn((len(group), 1, group.shape[1] // 2, group.shape[2] // 2), generator=made)
            for group in tiles.groups
        ]
        levels = [group * LEVELS for group in tiles.groups]
        self._all, self._quiet = self._statistics(levels, quiet=True)
        self.most_noise = math.inf if compression is not None else self._ceiling(levels)
        """Standard deviation that luma's noise cannot exceed, [0, 1] units: what the quietest windows hold of the
        highest frequencies. Compression takes noise away, so there is none where the images were compressed."""

    def of(self, tiles: Tiles, side: int, seed: int | None = None) -> "Recurrence":
        """The same of other tiles, in windows of another side."""
        return Recurrence(tiles, self.compression, self.settings, self.seed if seed is None else seed, side)

    def misfit(self, blur: Blur | Sequence[Blur], noise: float, *, quiet: bool = False) -> float:
        """How unlike the tiles their shrunk copies are; `quiet` looks at their quietest windows too.

        Args:
            blur: of all tiles, or of each group of them.
            noise: standard deviation of luma's noise, [0, 1] units.
            quiet: see above.
        """
        everywhere, quietest = self._statistics(self._shrunk(blur, noise), quiet=quiet)
        apart = _distance(everywhere, self._all)
        return apart + _distance(quietest, self._quiet) if quiet else apart

    def _shrunk(self, blur: Blur | Sequence[Blur], noise: float) -> list[Tensor]:
        """Levels of the tiles at half their size, as the camera would have stored them."""
        blurs = blur if isinstance(blur, Sequence) else [blur] * len(self.tiles.groups)
        made = {one: DegradedDownscale(Degradation(blur=one)) for one in set(blurs)}
        # The tiles' own noise comes through the shrinking in part; the rest is added.
        lost = {one: noise * math.sqrt(max(0.0, 1 - _energy(downscale))) for one, downscale in made.items()}
        out = []
        for group, drawn, one in zip(self.tiles.groups, self._noise, blurs, strict=True):
            downscale, missing = made[one], lost[one]
            small = downscale(group[:, None], (group.shape[1] // 2, group.shape[2] // 2)) + missing * drawn
            if self.compression is not None:
                small = compress(small, self.compression.luma, self.compression.chroma)
            out.append((small[:, 0].clamp(0, 1) * LEVELS).round())
        return out

    def _statistics(self, groups: list[Tensor], *, quiet: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Logarithms with their weights: of all windows (and blocks), and, where asked, of the quietest windows."""
        spectra = torch.cat([self._spectra(levels) for levels in groups])
        energy = spectra[:, self._compared]
        count = energy.shape[1]
        everywhere = [energy.mean(0).clamp(min=1e-3).log() / math.sqrt(count)]
        if self.compression is not None:
            steps = torch.tensor(self.compression.luma, dtype=torch.float32).reshape(8, 8)
            blocks = torch.cat([(block_coefficients(levels) / steps).round().reshape(-1, 64) for levels in groups])
            # With two of either beforehand, so that none is never or always (Agresti and Coull 1998).
            share = ((blocks[:, 1:] != 0).float().sum(0) + 2) / (len(blocks) + 4)
            everywhere.append(torch.logit(share) * math.sqrt(self.settings.survival_weight / share.numel()))
        if not quiet:
            return everywhere, []
        busy = spectra[:, self._low].mean(1)
        chosen = busy.argsort()[: max(1, round(self.settings.quiet_share * len(busy)))]
        quietest = [energy[chosen].mean(0).clamp(min=1e-3).log() / math.sqrt(count)]
        return everywhere, quietest

    def _ceiling(self, groups: list[Tensor]) -> float:
        step = self.settings.window_step
        spectra = quiet_spectra(torch.cat([windows(levels, SIDE, step).flatten(0, 2) for levels in groups]))
        if not len(spectra):
            return 0.0
        quietest = spectra[: max(1, round(_QUIETEST * len(spectra)))]
        variance = float(quietest[:, radii(SIDE) > _HIGH].mean())
        return math.sqrt(max(0.0, variance - 1 / 12)) / LEVELS

    def _spectra(self, levels: Tensor) -> Tensor:
        """`S u v`: power of each window."""
        spectrum, _ = transformed(windows(levels, self.side, self.settings.window_step).flatten(0, 2))
        return spectrum.abs().square()


def fit_blur(
    recurrence: Recurrence,
    noise: float | None,
    *,
    start: Fit | None = None,
    on_step: Callable[[], None] | None = None,
) -> Fit:
    """The blur that fits best, from a start in the middle or from a `start` close by.

    Args:
        recurrence: what is to fit.
        noise: standard deviation of luma's noise, [0, 1] units; None finds it together with the blur.
        start: begin here and look closer by.
        on_step: called after every blur that is tried.
    """
    from scipy.optimize import minimize  # costs half a second to import

    settings = recurrence.settings
    reach, trials = (_REACH, settings.trials) if start is None else (_REACH_CLOSE_BY, settings.trials // 3)
    # A wide and tilted blur has a twin that is tilted the other way: from between the two, a search ends in either.
    begins = [np.array(root) for root in _STARTS] if start is None else [_root(start.blur)]
    if noise is None:
        begins = [np.append(begin, _NOISE if start is None else start.noise) for begin in begins]

    def cost(point: NDArray[np.float64]) -> float:
        if on_step is not None:
            on_step()
        return recurrence.misfit(_blur(point), level(point))

    def level(point: NDArray[np.float64]) -> float:
        return min(abs(float(point[3])), recurrence.most_noise) if noise is None else noise

    def search(begin: NDArray[np.float64], opening: float) -> tuple[float, NDArray[np.float64]]:
        simplex = np.vstack([begin, begin + opening * np.diag(reach[: len(begin)])])
        options = {"initial_simplex": simplex, "xatol": settings.tolerance, "fatol": 1e-5, "maxfev": trials}
        found = minimize(cost, begin, method="Nelder-Mead", options=options)
        return float(found.fun), found.x

    misfit, point = min((search(begin, 1.0) for begin in begins), key=lambda found: found[0])
    if start is None:
        # A simplex that has shrunk too early looks converged: it is opened again once.
        misfit, point = search(point, 0.4)
    return Fit(_blur(point), level(point), misfit)


def fit_noise(recurrence: Recurrence, blur: Blur) -> float:
    """Standard deviation of luma's noise before compression, [0, 1] units, under which the quietest windows fit too.

    Rounded to the table's steps, much noise and little can look alike: of those that fit about as well as the best, the
    least is taken, since noise that was not there costs more detail than noise that was missed.
    """
    levels = [number * _NOISE_STEP for number in range(round(_MOST_NOISE / _NOISE_STEP) + 1)]
    misfits = [recurrence.misfit(blur, level, quiet=True) for level in levels]
    limit = recurrence.settings.noise_tolerance * min(misfits)
    return next(level for level, misfit in zip(levels, misfits, strict=True) if misfit <= limit)


def _distance(made: list[Tensor], wanted: list[Tensor]) -> float:
    return sum(float((a - b).square().sum()) for a, b in zip(made, wanted, strict=True))


def _energy(downscale: DegradedDownscale) -> float:
    """Variance of what white noise of variance 1 becomes at half the size."""
    side = 2 * downscale.reach + 8
    one = torch.zeros(1, 1, side, side)
    one[..., side // 2, side // 2] = 1
    return float(downscale.transpose(one, (2 * side, 2 * side)).square().sum())


def _root(blur: Blur) -> NDArray[np.float64]:
    """What a search moves, see `_STARTS`."""
    root = torch.linalg.cholesky(blur.covariance() + _LEAST_WIDTH**2 * torch.eye(2, dtype=torch.float64))
    return np.array([float(root[0, 0]), float(root[1, 0]), float(root[1, 1])])


def _blur(point: NDArray[np.float64]) -> GaussianBlur:
    a, b, c = (float(value) for value in point[:3])
    root = torch.tensor([[abs(a) + _LEAST_WIDTH, 0], [b, abs(c) + _LEAST_WIDTH]], dtype=torch.float64)
    covariance = root @ root.T
    # Cut off, or a wild trial would make a kernel larger than the image.
    values, vectors = torch.linalg.eigh(covariance)
    return GaussianBlur.of_covariance(vectors @ torch.diag(values.clamp(max=_WIDEST**2)) @ vectors.T)
