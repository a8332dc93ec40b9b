"""The degradation of a case, estimated from its own LR images: blur, noise and compression, with how sure it is.

Shapes: C channels, H W rows and columns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from zssr_gan.degradation.estimate import Brightness, Certainty, Estimate
from zssr_gan.degradation.jpeg import block_coefficients, compress, nearest_quality, quality_of, read_tables, tables_of
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import adjoint
from zssr_gan.degradation.spectra import LEVELS, noise_variances, radii, transformed, windows
from zssr_gan.imaging.colour import LUMA, luma_of, psnr_db
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.provenance import CaseImage
from zssr_gan.seeds import content_hash, derive_seed
from zssr_gan.settings.base import Settings

# Settings of how a case's degradation is estimated. They know no torch.


class EstimationSettings(Settings):
    """How the degradation of a case is estimated from its LR images."""

    tiles: int = Field(200, ge=8)
    """At most so many parts of images are looked at, evenly chosen."""
    tile: int = Field(64, ge=16, le=512)
    """Largest side of a tile in pixels; larger images are cut into tiles."""
    window_step: int = Field(2, ge=1, le=8)
    """Pixels between two windows of 8x8."""
    survival_weight: float = Field(0.2, ge=0)
    """Of JPEG files: weight of how often coefficients survive, the power spectrum's being 1."""
    quiet_share: float = Field(0.2, gt=0, le=1)
    """Share of the windows, those with the least at low frequencies, that tell compressed images' noise."""
    colours_trusted: float = Field(1.5, ge=1)
    """Noise that is read from what colours do not share is believed where freeing it does not make the misfit smaller
    by this factor."""
    noise_tolerance: float = Field(1.02, ge=1)
    """Of compressed images: the least noise is taken whose misfit is within this factor of the best."""
    trials: int = Field(150, ge=20)
    """Blurs tried in one search, at most."""
    tolerance: float = Field(0.005, gt=0)
    """A search ends where its blurs differ by less, in pixels of the LR image."""
    parts: int = Field(5, ge=2, le=32)
    """The set is dealt into so many parts; how their estimates differ tells how sure the whole is."""
    fewest: int = Field(10, ge=2)
    """Tiles that an estimate needs."""
    certainty: float = Field(2.0, gt=0)
    """The estimate is used where it is further from bicubic than its own uncertainty by this factor ..."""
    recurrence: float = Field(8.0, ge=1)
    """... and the images recur under it so much better than under bicubic: the ratio of the misfits. No scene recurs
    exactly, so that images that were not blurred have a ratio of 1 to 6 and seem blurred by 0.3 LR pixels."""


# JPEG's quality from pixels alone: an image that was compressed has cosine coefficients on the table's multiples.
#
# Rounding to whole levels moves them off again by about half a level, so steps of 3 and more leave a lattice that is
# plainly seen (Fan and de Queiroz 2003; Lukas and Fridrich 2003). Blocks are taken to begin in an image's corner.


_QUALITIES = range(30, 96)

_BLOCKS = 20_000  # more say no more

_LEAST = 0.35
"""Mean of cos(2 pi coefficient / step) above which there is a lattice: 1 is a perfect one, 0 none."""

_FEWEST = 50  # coefficients that a quality is judged by


def quality_of_pixels(images: Sequence[Tensor]) -> int | None:
    """The quality of libjpeg's that most images `C H W` in [0, 1] were compressed with, or None where they were not."""
    blocks: list[Tensor] = []
    for image in images:
        luma = luma_of(image)
        if min(luma.shape) >= 8:
            blocks.append(block_coefficients(luma[None] * LEVELS).reshape(-1, 64))
    if not blocks:
        return None
    coefficients = torch.cat(blocks)
    coefficients = coefficients[:: max(1, len(coefficients) // _BLOCKS)]
    scores = {quality: _score(coefficients, quality) for quality in _QUALITIES}
    best = max(scores, key=lambda quality: scores[quality])
    return best if scores[best] > _LEAST else None


def _score(coefficients: Tensor, quality: int) -> float:
    steps = torch.tensor(tables_of(quality)[0], dtype=torch.float32)
    # Below half a step every coefficient is near a multiple, 0, lattice or not; and a step of 2 is lost in rounding.
    told = (coefficients.abs() > steps / 2) & (steps >= 3)
    told[:, 0] = False
    if int(told.sum()) < _FEWEST:
        return -1.0
    return float(torch.cos(2 * math.pi * coefficients / steps)[told].mean())


# The blur under which shrunk LR images look like LR images: recurrence across scales, pooled over a case.
#
# Michaeli and Irani (2013) argue that the right blur of an image is the one that makes its small patches recur most in
# its own shrunk copy, and KernelGAN (Bell-Kligler et al. 2019) has a discriminator compare them. One tiny face holds
# too
# few patches for either. A case holds enough for plain statistics: the mean power spectrum of all 8x8 windows, and, of
# JPEG files, how often each cosine coefficient survives. The images are shrunk by a Gaussian of three numbers, go
# through
# the camera's noise and compression, and the Gaussian is moved (Nelder and Mead 1965) until their statistics agree.
#
# Shapes: B tiles, H W their rows and columns, S windows, n = 8 their side, u v frequencies.


LUMA_NOISE = math.sqrt(sum(weight**2 for weight in LUMA))
"""Noise of luma for noise 1 of red, green and blue, each for itself."""

SIDE = 8

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

    blur: GaussianBlur
    noise: float
    """Standard deviation of luma's noise, [0, 1] units."""
    misfit: float
    """Mean square of what the logarithms of the statistics are apart, weighed."""


class Recurrence:
    """Statistics of a case's tiles, and of their shrunk copies under any blur and noise.

    Args:
        tiles: at least 16 pixels a side.
        kept: JPEG's tables where the images were compressed.
        settings: weights.
        seed: of the noise that shrunk copies are given.
    """

    def __init__(self, tiles: Tiles, kept: Jpeg | None, settings: EstimationSettings, seed: int) -> None:
        self.tiles, self.kept, self.settings = tiles, kept, settings
        radius = radii(SIDE)
        self._compared = (radius > _LOWEST) & (radius < _HIGHEST)
        self._low = (radius > 0.1) & (radius < 0.3)
        made = torch.Generator().manual_seed(seed)
        self._noise = [
            torch.randn((len(group), 1, group.shape[1] // 2, group.shape[2] // 2), generator=made)
            for group in tiles.groups
        ]
        levels = [group * LEVELS for group in tiles.groups]
        self._all, self._quiet = self._statistics(levels)
        self.most_noise = math.inf if kept is not None else self._ceiling(levels)
        """Standard deviation that luma's noise cannot exceed, [0, 1] units: what the quietest windows hold of the
        highest frequencies. Compression takes noise away, so there is none where the images were compressed."""

    def misfit(self, blur: GaussianBlur, noise: float, *, quiet: bool = False) -> float:
        """How unlike the tiles their shrunk copies are; `quiet` looks at their quietest windows too."""
        everywhere, quietest = self._statistics(self._shrunk(blur, noise))
        apart = _distance(everywhere, self._all)
        return apart + _distance(quietest, self._quiet) if quiet else apart

    def _shrunk(self, blur: GaussianBlur, noise: float) -> list[Tensor]:
        """Levels of the tiles at half their size, as the camera would have kept them."""
        downscale = DegradedDownscale(Degradation(blur=blur))
        # The tiles' own noise comes through the shrinking in part; the rest is added.
        missing = noise * math.sqrt(max(0.0, 1 - _energy(downscale)))
        out = []
        for group, drawn in zip(self.tiles.groups, self._noise, strict=True):
            small = downscale(group[:, None], (group.shape[1] // 2, group.shape[2] // 2)) + missing * drawn
            if self.kept is not None:
                small = compress(small, self.kept.luma, self.kept.chroma)
            out.append((small[:, 0].clamp(0, 1) * LEVELS).round())
        return out

    def _statistics(self, groups: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logarithms with their weights: of all windows (and blocks), and of the quietest windows."""
        energy = torch.cat([self._spectra(levels) for levels in groups])[:, self._compared]
        count = energy.shape[1]
        everywhere = [energy.mean(0).clamp(min=1e-3).log() / math.sqrt(count)]
        if self.kept is not None:
            steps = torch.tensor(self.kept.luma, dtype=torch.float32).reshape(8, 8)
            blocks = torch.cat([(block_coefficients(levels) / steps).round().reshape(-1, 64) for levels in groups])
            # With two of either beforehand, so that none is never or always (Agresti and Coull 1998).
            share = ((blocks[:, 1:] != 0).float().sum(0) + 2) / (len(blocks) + 4)
            everywhere.append(torch.logit(share) * math.sqrt(self.settings.survival_weight / share.numel()))
        busy = torch.cat([self._spectra(levels)[:, self._low].mean(1) for levels in groups])
        chosen = busy.argsort()[: max(1, round(self.settings.quiet_share * len(busy)))]
        quietest = [energy[chosen].mean(0).clamp(min=1e-3).log() / math.sqrt(count)]
        return everywhere, quietest

    def _ceiling(self, groups: list[Tensor]) -> float:
        step = self.settings.window_step
        all_Snn = torch.cat([windows(levels, SIDE, step).flatten(0, 2) for levels in groups])
        # What is clipped has no noise, and would be the quietest of all.
        all_Snn = all_Snn[(all_Snn.amin((1, 2)) > 0) & (all_Snn.amax((1, 2)) < LEVELS)]
        if not len(all_Snn):
            return 0.0
        energy = transformed(all_Snn)[0].abs().square()
        quietest = energy[:, self._low].mean(1).argsort()[: max(1, round(_QUIETEST * len(energy)))]
        variance = float(energy[quietest][:, radii(SIDE) > _HIGH].mean())
        return math.sqrt(max(0.0, variance - 1 / 12)) / LEVELS

    def _spectra(self, levels: Tensor) -> Tensor:
        """`S u v`: power of each window."""
        spectrum, _ = transformed(windows(levels, SIDE, self.settings.window_step).flatten(0, 2))
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


def fit_noise(recurrence: Recurrence, blur: GaussianBlur) -> float:
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
    return float(adjoint(downscale, (2 * side, 2 * side), (side, side), one)(one).square().sum())


def _root(blur: GaussianBlur) -> NDArray[np.float64]:
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


_SMALLEST = 2 * SIDE

_MULTIPLE = 4  # sides are cut to multiples of it, so that more tiles are of one size

_GRAY = 2 / LEVELS  # channels that differ by no more are one

_SIZES = 16  # sizes of tiles that are looked at, the most frequent first: each size costs a pass

OnEstimate = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """An LR image as an estimate takes it."""

    image: CaseImage
    pixels: Tensor
    """`C H W`, [0, 1]; as its file holds them, or `jpeg` would not be true of them."""
    jpeg: Jpeg | None = None
    """How its file was compressed."""


def jpeg_of(data: bytes) -> Jpeg | None:
    """How a file was compressed, by the tables in its header; None where it is no JPEG."""
    found = read_tables(data)
    if found is None:
        return None
    luma, chroma, halved = found
    return Jpeg(quality=quality_of(luma) or nearest_quality(luma), luma=luma, chroma=chroma, halved=halved)


def estimate_degradation(
    evidence: Sequence[Evidence],
    settings: EstimationSettings | None = None,
    *,
    seed: int = 0,
    on_estimate: OnEstimate | None = None,
) -> Estimate:
    """Estimate what a camera did to the images that it took, from them alone; their order does not matter.

    Args:
        evidence: the LR images, of any sizes. Those below 16 pixels a side have a part in noise and compression only.
        settings: constants.
        seed: of the noise in simulated images.
        on_estimate: called after every blur that is tried.
    """
    settings = settings or EstimationSettings()
    by_content = sorted(((content_hash(one.pixels), one) for one in evidence), key=lambda pair: pair[0])
    ordered = [one for _, one in by_content]
    seed = derive_seed("degradation", seed, *(content for content, _ in by_content))
    kept, jpeg_from, qualities = _compression(ordered)
    # A copy tells nothing new.
    distinct = {content: one.pixels for content, one in by_content}
    tiles = cut_tiles(list(distinct.values()), settings)
    noise, by_brightness = (None, ()) if kept is not None else _noise_of_colours([one.pixels for one in ordered])
    found: Fit | None = None
    certainty = None
    noise_from: Literal["colours", "recurrence", "nothing"] = "nothing" if noise is None else "colours"
    if len(tiles) < settings.fewest:
        parts = f"{len(tiles)} part{'' if len(tiles) == 1 else 's'}"
        why = (
            f"bicubic is assumed: {parts} of images of {_SMALLEST} pixels a side or more are too few to estimate a "
            f"blur from, {settings.fewest} are needed"
        )
        sure = False
    else:
        teller = _Teller(on_estimate, settings)
        recurrence = Recurrence(tiles, kept, settings, seed)
        step = teller.of("blur")
        if noise is not None:
            found = fit_blur(recurrence, noise.sigma * LUMA_NOISE, on_step=step)
            close_by = fit_blur(recurrence, None, start=found, on_step=step)
            if found.misfit > settings.colours_trusted * close_by.misfit:
                # Colours stored at half the size (JPEG's, a video's) have no noise left to tell; luma has.
                noise, by_brightness = None, ()
        if noise is None:
            found = fit_blur(recurrence, None, on_step=step)
            if kept is not None:
                found = Fit(found.blur, fit_noise(recurrence, found.blur), found.misfit)
            noise, noise_from = _noise_of_luma(found, ordered, kept), "recurrence"
        assert found is not None
        certainty = _certainty(recurrence, found, kept, settings, seed, teller.of("certainty"))
        sure, why = _verdict(certainty, settings)
        if not sure:
            why = f"bicubic is assumed: {why}"
            if noise_from == "recurrence":  # found together with a blur that is not believed
                noise, noise_from = None, "nothing"
    used = Degradation(
        blur=found.blur if found is not None and sure else None,
        noise=noise if noise is not None and noise.sigma > 0 else None,
        jpeg=kept,
    )
    return Estimate(
        degradation=used,
        degradation_sha256=used.sha256,
        blur_estimated=None if found is None else found.blur,
        fallback=not sure,
        why=why,
        certainty=certainty,
        noise_from=noise_from,
        noise_by_brightness=by_brightness,
        jpeg_from=jpeg_from,
        jpeg_qualities=qualities,
        images=tuple(sorted((one.image for one in ordered), key=lambda image: (image.sha256, image.name))),
        settings=settings.model_dump(mode="json"),
        seed=seed,
        versions={"zssr-gan": metadata.version("zssr-gan"), "torch": torch.__version__},
    )


def _verdict(certainty: Certainty, settings: EstimationSettings) -> tuple[bool, str]:
    """Whether the blur is used, and why, in one sentence."""
    away, unsure = (10 ** (-db / 20) for db in (certainty.bicubic_db, certainty.spread_db))
    better = certainty.misfit_bicubic / max(certainty.misfit, 1e-9)
    if away <= settings.certainty * unsure:
        return False, (
            f"the blur is {away / max(unsure, 1e-9):.1f} times as far from bicubic as its standard error "
            f"({settings.certainty:g} times are needed)"
        )
    why = f"the images recur {better:.1f} times as well under the blur as under bicubic's"
    return better >= settings.recurrence, f"{why} ({settings.recurrence:g} times are needed)"


def cut_tiles(images: Sequence[Tensor], settings: EstimationSettings) -> Tiles:
    """Luma of images `C H W`, the larger ones cut; blocks of 8x8 that begin in an image's corner begin in a tile's.

    Where the images are few, the tiles are smaller, so that there are more: parts of them are to be compared.
    """
    lumas = [luma_of(image) for image in images]
    side = settings.tile // 8 * 8
    groups = _groups(lumas, side)
    while sum(map(len, groups)) < 2 * settings.fewest and side >= 4 * _SMALLEST:
        side = side // 16 * 8
        groups = _groups(lumas, side)
    # Evenly chosen of each size.
    every = math.ceil(max(1.0, sum(map(len, groups)) / settings.tiles))
    return Tiles(tuple(torch.stack(group[::every]) for group in groups))


def _groups(lumas: Sequence[Tensor], side: int) -> list[list[Tensor]]:
    """Tiles of at most `side` pixels by their sizes, the most frequent first."""
    by_size: dict[Size, list[Tensor]] = {}
    for luma in lumas:
        for top in range(0, luma.shape[0], side):
            for left in range(0, luma.shape[1], side):
                tile = luma[top : top + side, left : left + side]
                rows, columns = (n // _MULTIPLE * _MULTIPLE for n in tile.shape)
                if min(rows, columns) >= _SMALLEST:
                    by_size.setdefault((rows, columns), []).append(tile[:rows, :columns])
    return sorted(by_size.values(), key=len, reverse=True)[:_SIZES]


def _compression(
    evidence: Sequence[Evidence],
) -> tuple[Jpeg | None, Literal["tables", "pixels", "nothing"], dict[str, int]]:
    """What most images went through: where more than half were compressed, the middle of their qualities."""
    known = sorted((one.jpeg for one in evidence if one.jpeg is not None), key=lambda kept: kept.quality)
    if 2 * len(known) > len(evidence):
        counts: dict[str, int] = {}
        for kept in known:
            counts[str(kept.quality)] = counts.get(str(kept.quality), 0) + 1
        return known[len(known) // 2], "tables", counts
    quality = quality_of_pixels([one.pixels for one in evidence])
    if quality is None:
        return None, "nothing", {}
    return Jpeg.of_quality(quality), "pixels", {str(quality): len(evidence)}


def _noise_of_colours(images: list[Tensor]) -> tuple[Noise | None, tuple[Brightness, ...]]:
    """The noise where the images have colours, and its variance as a straight line over brightness."""
    coloured = [image.cpu() for image in images if _has_colours(image) and min(image.shape[-2:]) >= SIDE]
    if not coloured:
        return None, ()
    found = noise_variances(coloured)
    if sum(count for _, _, count in found) < 16:
        return None, ()
    bright, variance, counts = (torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True))
    middle, slope = _line(bright - 0.5, variance, counts)
    middle = max(middle, 0.0)
    # As much of it may depend on brightness as leaves black and white a variance of at least 0.
    shot = 0.0 if middle == 0 else min(1.0, max(0.0, slope / 2 / middle))
    at = tuple(
        Brightness(brightness=round(b, 4), sigma=math.sqrt(v) / LEVELS)
        for b, v in zip(bright.tolist(), variance.tolist(), strict=True)
    )
    return Noise(sigma=min(0.5, math.sqrt(middle) / LEVELS), shot=shot), at


def _noise_of_luma(found: Fit, evidence: Sequence[Evidence], kept: Jpeg | None) -> Noise:
    """The noise of images that has luma's. Before JPEG each colour had its own; without, what is left of it is gray."""
    coloured = kept is not None and 2 * sum(_has_colours(one.pixels) for one in evidence) > len(evidence)
    return Noise(sigma=min(0.5, found.noise / (LUMA_NOISE if coloured else 1)), coloured=coloured)


def _has_colours(pixels: Tensor) -> bool:
    """Whether channels differ: gray footage is often kept as RGB."""
    return len(pixels) == 3 and float((pixels - pixels.mean(0)).abs().max()) > _GRAY


def _line(x: Tensor, y: Tensor, weight: Tensor) -> tuple[float, float]:
    """Value at 0 and slope of the straight line through points, by weighed least squares."""
    design = torch.stack([torch.ones_like(x), x], 1) * weight.sqrt()[:, None]
    fit = torch.linalg.lstsq(design, (y * weight.sqrt())[:, None]).solution[:, 0]
    return float(fit[0]), float(fit[1])


def _certainty(
    whole: Recurrence,
    found: Fit,
    kept: Jpeg | None,
    settings: EstimationSettings,
    seed: int,
    on_step: Callable[[], None],
) -> Certainty:
    parts = min(settings.parts, len(whole.tiles))
    fits = []
    for number in range(parts):
        part = Recurrence(whole.tiles.part(number, parts), kept, settings, derive_seed(seed, "part", number))
        fits.append(fit_blur(part, found.noise, start=found, on_step=on_step).blur)
    widths = torch.tensor([[blur.sigma_major, blur.sigma_minor] for blur in fits], dtype=torch.float64)
    error = widths.std(0) / math.sqrt(parts)
    none = GaussianBlur(sigma_major=0, sigma_minor=0)
    apart = sum(_apart(whole.tiles, found.blur, blur) for blur in fits) / (parts * (parts - 1))
    return Certainty(
        blurs=tuple(fits),
        tiles=len(whole.tiles),
        sigma_major=float(error[0]),
        sigma_minor=float(error[1]),
        spread_db=psnr_db(apart),
        bicubic_db=psnr_db(_apart(whole.tiles, found.blur, none)),
        misfit=found.misfit,
        misfit_bicubic=whole.misfit(none, found.noise),
    )


def _apart(tiles: Tiles, one: GaussianBlur, other: GaussianBlur) -> float:
    """Mean square of what two blurs make different of the interpolated tiles, [0, 1] units."""
    total, count = 0.0, 0
    a, b = (Degradation(blur=blur).downscale for blur in (one, other))
    for group in tiles.groups:
        size = (group.shape[1], group.shape[2])
        large = resize(group[:, None], (2 * size[0], 2 * size[1]))
        difference = a(large, size) - b(large, size)
        total, count = total + float(difference.square().sum()), count + difference.numel()
    return total / count


class _Teller:
    """Counts the blurs tried in each phase."""

    def __init__(self, on_estimate: OnEstimate | None, settings: EstimationSettings) -> None:
        self.on_estimate = on_estimate
        self.most = {"blur": 7 * settings.trials, "certainty": settings.parts * (settings.trials // 3)}

    def of(self, what: str) -> Callable[[], None]:
        done = 0

        def tell() -> None:
            nonlocal done
            done += 1
            if self.on_estimate is not None:
                self.on_estimate(what, done, self.most[what])

        return tell
