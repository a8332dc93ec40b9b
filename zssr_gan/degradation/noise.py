"""How noisy images are: read from what colours do not share, and, of one picture, from its quietest parts too.

Shapes: C channels, H W rows and columns, S windows, n their side, u v frequencies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.estimate import Brightness
from zssr_gan.degradation.model import Jpeg, Noise
from zssr_gan.degradation.spectra import radii, transformed, windows
from zssr_gan.imaging.colour import LEVELS, LUMA, has_colours, luma_of
from zssr_gan.imaging.resize import resize

SIDE = 8  # pixels of a window

LUMA_NOISE = math.sqrt(sum(weight**2 for weight in LUMA))
"""Noise of luma for noise 1 of red, green and blue, each for itself."""

_MEDIAN = 0.6745  # of the magnitudes of a normal distribution of deviation 1

_ROUNDING = 1 / 12
"""Variance of rounding to whole levels, in squared levels."""

_LEAST = 4.0  # levels of luma: less does no harm, and fine texture looks like it

_LEAST_OF_COLOURS = 3.0  # levels of each channel

_HIGH, _HIGHEST, _MIDDLE = (0.45, 1.0), (0.5, 1.0), (0.3, 0.42)  # bands in cycles a pixel

_FLAT = 0.58
"""Least ratio of the energies at the highest and at middle frequencies: 1 of white noise, below 0.55 of brick, grass
and gravel."""

_LOUD = (1.2, 250.0)
"""Levels, and levels times pixels of a side: hardly any scene without noise is louder in its quietest parts."""

_WINDOWS = 20_000  # more say no more

_QUIET, _QUIETEST = 0.25, 0.1  # shares of the windows, those with the least at low frequencies

_PASSES = 0.113
"""Share of white noise's energy at the highest frequencies that is left there after bicubic halving."""

_SMALLEST, _LARGE = 16, 48  # pixels a side: of less nothing is seen; below the second few windows are quiet

_SMALL_FIT = (1.523, 0.156, 1.279)
"""`log(sigma + 4) = a + b log(level + 0.3)^2 + c correlation`: fitted to 24,000 gray pictures of 16 to 46 px of
scikit-image (12 scenes), Set5 and 61 faces, without noise and with noise of 3 to 30 levels. Of scenes that were left
out of the fit, noise of 10 levels comes out as 6.4 to 12.6 in 96 of 100 at 24 px and more, and none as less than 6.3 in
98 of 100."""

_SMALL_LEAST, _SMALL_ERROR = 3.0, 0.15  # levels, and the standard error of the logarithm

_WHITE, _NOT_WHITE = -0.02, 6.5
"""The correlation that 87 of 100 pictures with noise of 10 levels exceed, 97 with noise of 15; and what is
assumed at most below it, in levels: noise of 10 levels gains most of what it can, and grain of 15 loses little."""


@dataclass(frozen=True, slots=True)
class SeenNoise:
    """The noise that one picture shows."""

    noise: Noise
    error: float
    """Standard error of its standard deviation, [0, 1] units."""


def picture_noise(pixels: Tensor) -> SeenNoise | None:
    """The noise that is seen in one picture; None where there is little, or where texture could be taken for it.

    White noise is as strong in the quietest parts as anywhere, and shrinking takes it away, while a scene at half the
    size is as rich in detail as before (Field 1987): so noise is what the quietest windows hold of the highest
    frequencies, where the picture's copy at half the size holds less. Gray pictures below 48 pixels a side have few
    windows, see `small_noise`. In colours that are clipped somewhere in each window, luma shows the noise.

    Args:
        pixels: `C H W` in [0, 1], gray or RGB.
    """
    if min(pixels.shape[-2:]) < _SMALLEST:
        return None
    pixels = pixels.float().cpu()
    luma = luma_of(pixels) * LEVELS
    step = max(1, math.isqrt(luma.numel() // _WINDOWS))
    here = quiet_spectra(windows(luma, SIDE, step).flatten(0, 1))
    quiet, error = _energy(here, step, _QUIETEST)
    seen, side = math.sqrt(max(0.0, quiet - _ROUNDING)), math.sqrt(luma.numel())
    loud = seen > LUMA_NOISE * _LEAST_OF_COLOURS
    coloured = (loud or side < _LARGE) and has_colours(pixels)
    found = noise_variances([pixels], step=max(2, step)) if coloured else []
    if loud and found:
        of_colours = math.sqrt(sum(variance for _, variance, _ in found) / max(1, len(found)))
        # Noise of each colour for itself is in luma too.
        sigma = min(of_colours, seen / LUMA_NOISE)
        if sigma >= _LEAST_OF_COLOURS:
            return _seen(sigma, error / (2 * seen) / LUMA_NOISE, side, coloured=True)
    clipped = coloured and not found  # in each window some colour is: luma is all there is
    if side < _LARGE:
        return None if found else small_noise(luma, coloured=clipped)
    if seen < _LEAST:
        return None
    small, by = resize(luma[None], (luma.shape[0] // 2, luma.shape[1] // 2))[0], max(1, step // 2)
    there = quiet_spectra(windows(small, SIDE, by).flatten(0, 1))
    lost = max(_energy(here, step, share)[0] - _energy(there, by, share)[0] for share in (_QUIETEST, _QUIET))
    lost = math.copysign(math.sqrt(abs(lost) / (1 - _PASSES)), lost) / seen  # a share of what is seen; below 0: gained
    # The fewer windows there are, the less quiet is the quietest part of a scene without noise.
    louder = seen > _LOUD[0] + _LOUD[1] / side
    high, middle = (_energy(here, step, _QUIETEST, band)[0] for band in (_HIGHEST, _MIDDLE))
    if high < _FLAT * middle or not (lost > 0.3 or (louder and lost > -0.4)):
        return None
    share = LUMA_NOISE if clipped else 1.0
    return _seen(seen / share, error / (2 * seen) / share, side, coloured=clipped)


def small_noise(luma: Tensor, *, coloured: bool = False) -> SeenNoise | None:
    """The noise of a small picture's luma `H W`, in levels of 255; None where there is little.

    The Laplacians' difference of Immerkaer (1996) takes away what is smooth. What it leaves of white noise has its
    deviation (the median tells it), and a correlation of 1/6 two pixels on; texture has less.
    """
    mask = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]).div(6)[None, None]
    left = F.conv2d(luma[None, None], mask)[0, 0]
    clipped = ((luma <= 0) | (luma >= LEVELS)).float()[None, None]
    sound = F.max_pool2d(clipped, 3, 1)[0, 0] == 0
    if sound.float().mean() < 0.2:  # much is dark or bright, and its noise is clipped
        sound[:] = True
    level = float(left[sound].abs().median()) / _MEDIAN
    left = left * sound
    pairs = ((left[2:], left[:-2], sound[2:] & sound[:-2]), (left[:, 2:], left[:, :-2], sound[:, 2:] & sound[:, :-2]))
    products, count = (
        sum(float(x.sum()) for x in parts) for parts in ([a * b for a, b, _ in pairs], [m for *_, m in pairs])
    )
    variance = float(left.square().sum() / sound.sum())
    correlation = products / max(1.0, count) / max(variance, 1e-6)
    a, b, c = _SMALL_FIT
    sigma = math.exp(a + b * math.log(level + 0.3) ** 2 + c * correlation) - 4
    if correlation < _WHITE:
        sigma = min(sigma, _NOT_WHITE)
    if sigma < _SMALL_LEAST:
        return None
    share = LEVELS * (LUMA_NOISE if coloured else 1.0)
    return SeenNoise(Noise(sigma=min(0.5, sigma / share), coloured=coloured), _SMALL_ERROR * (sigma + 4) / share)


def _seen(sigma: float, error: float, side: float, *, coloured: bool) -> SeenNoise:
    """Noise in levels as it is said; of pictures up to 128 px it comes out too small by up to 4 / `side`."""
    noise = Noise(sigma=min(0.5, sigma / LEVELS), coloured=coloured)
    return SeenNoise(noise, math.hypot(error, 4 / side * sigma) / LEVELS)


def quiet_spectra(all_Snn: Tensor) -> Tensor:
    """`S u v`: power of windows `S n n` of levels, those with the least at low frequencies first, the clipped left out.

    What is clipped has no noise, and would be the quietest of all.
    """
    radius = radii(SIDE)
    all_Snn = all_Snn[(all_Snn.amin((1, 2)) > 0) & (all_Snn.amax((1, 2)) < LEVELS)]
    if not len(all_Snn):
        return all_Snn.new_zeros(0, *radius.shape)
    energy = transformed(all_Snn)[0].abs().square()
    return energy[energy[:, (radius > 0.1) & (radius < 0.3)].mean(1).argsort()]


def _energy(spectra: Tensor, step: int, share: float, band: tuple[float, float] = _HIGH) -> tuple[float, float]:
    """Mean of the first `share` of spectra in a band of frequencies (cycles a pixel), and its standard error."""
    if not len(spectra):
        return 0.0, 0.0
    radius = radii(SIDE)
    high_S = spectra[: max(1, round(share * len(spectra)))][:, (radius > band[0]) & (radius < band[1])].mean(1)
    # Windows that overlap tell the same in part.
    apart = max(1.0, len(high_S) * min(1.0, (step / (SIDE / 2)) ** 2))
    return float(high_S.mean()), float(high_S.std(correction=0)) / math.sqrt(apart)


_BINS = 4  # of brightness, each with as many windows

_QUIETEST = 0.1  # share of a bin's windows that is used: those with the least at low frequencies


def noise_variances(images: list[Tensor], step: int = 2) -> list[tuple[float, float, int]]:
    """How noisy colour images are at each brightness.

    What a camera sees in red, green and blue changes together at the highest frequencies; its noise does not. So the
    least eigenvalue of the channels' covariance there is the noise's variance, and a bound on it where colours are
    not quite parallel. (Patches' covariances are read so in Liu, Tanaka and Okutomi 2013, over pixels for channels.)

    Args:
        images: `3 H W` in [0, 1] each, at least 8 pixels a side.
        step: pixels between two windows.

    Returns:
        For each bin of brightness: mean brightness in [0, 1], variance in squared levels (of 255), windows
        used. Windows that touch black or white are left out: what is clipped has no noise.
    """
    side = SIDE
    radius = radii(side)
    low, high = (radius > 0.1) & (radius < 0.3), radius > 0.45
    spectra, brightness, busy = [], [], []
    for image in images:
        patches = windows(image * LEVELS, side, step).flatten(1, 2).transpose(0, 1)  # S 3 n n
        spectrum, means = transformed(patches)
        seen = ((patches.amin((2, 3)) > 0) & (patches.amax((2, 3)) < LEVELS)).all(1)
        spectra.append(spectrum[seen][..., high])
        brightness.append(means[seen].mean(1))
        busy.append(spectrum[seen][..., low].abs().square().mean((1, 2)))
    all_SCf, bright_S, busy_S = torch.cat(spectra), torch.cat(brightness), torch.cat(busy)
    found = []
    for part in bright_S.argsort().tensor_split(_BINS):
        if not len(part):
            continue
        quiet = part[busy_S[part].argsort()[: max(1, round(_QUIETEST * len(part)))]]
        values = all_SCf[quiet].transpose(0, 1).flatten(1)
        covariance = (values @ values.conj().T).real / values.shape[1]
        least = float(torch.linalg.eigvalsh(covariance.double())[0])
        found.append((float(bright_S[quiet].mean()) / LEVELS, max(0.0, least - _ROUNDING), len(quiet)))
    return found


def noise_of_colours(images: Sequence[Tensor]) -> tuple[Noise | None, tuple[Brightness, ...]]:
    """The noise where images `C H W` in [0, 1] have colours, and its variance as a straight line over brightness."""
    coloured = [image.cpu() for image in images if has_colours(image) and min(image.shape[-2:]) >= SIDE]
    if not coloured:
        return None, ()
    found = noise_variances(coloured)
    if sum(count for _, _, count in found) < 16:
        return None, ()
    bright, variance, counts = (torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True))
    # Value and slope at medium brightness, by weighed least squares.
    design = torch.stack([torch.ones_like(bright), bright - 0.5], 1) * counts.sqrt()[:, None]
    middle, slope = torch.linalg.lstsq(design, (variance * counts.sqrt())[:, None]).solution[:, 0].tolist()
    middle = max(middle, 0.0)
    # As much of it may depend on brightness as leaves black and white a variance of at least 0.
    shot = 0.0 if middle == 0 else min(1.0, max(0.0, slope / 2 / middle))
    at = tuple(
        Brightness(brightness=round(b, 4), sigma=math.sqrt(v) / LEVELS)
        for b, v in zip(bright.tolist(), variance.tolist(), strict=True)
    )
    return Noise(sigma=min(0.5, math.sqrt(middle) / LEVELS), shot=shot), at


def noise_of_luma(sigma: float, images: Sequence[Tensor], compression: Jpeg | None) -> Noise:
    """The noise of images `C H W` whose luma has noise `sigma`, both in [0, 1].

    Before JPEG each colour had its own; without, what is left of it is gray.
    """
    coloured = compression is not None and 2 * sum(has_colours(image) for image in images) > len(images)
    return Noise(sigma=min(0.5, sigma / (LUMA_NOISE if coloured else 1)), coloured=coloured)
