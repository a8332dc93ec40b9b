"""Find each image's own motion in a set whose people or cameras moved each in its own way.

The images of a set have in common how fast their spectra fall; they differ in where motion has taken energy away. So
the power spectrum of image i is modelled as `a_i P(f) |K_i(f)|^2 + N`: P common, K_i a line, N the noise. P and the
probabilities of a grid of lines are found in turn (expectation-maximisation with the multiplicative steps of Fevotte,
Bertin and Durrieu 2009). What all images share, such as the lens, is in P; recurrence tells it.

Shapes: B images, K lines of the grid (the first is no motion), f frequencies that are compared, H W rows and columns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from zssr_gan.degradation.certainty import needed_recurrence
from zssr_gan.degradation.model import MotionBlur
from zssr_gan.degradation.noise import SIDE
from zssr_gan.degradation.recurrence import NO_BLUR, Fit, Recurrence, Tiles
from zssr_gan.degradation.spectra import hann, radii, transformed, windows
from zssr_gan.imaging.colour import LEVELS, luma_of

_SIDES = (16, 12)  # pixels of the windows, the first that quarters of most images hold
_STEP = 2  # pixels between two windows
_LOWEST, _HIGHEST = 0.05, 0.75  # cycles a pixel, those compared
_FALL = -2.5  # exponent of the power spectrum that the search for P begins with
_FINER = 8  # frequencies of a spectrum before a window smooths it, for one after

_MOTIONS = (
    MotionBlur(length=0),
    *(MotionBlur(length=n / 4, angle_degrees=15 * turn) for n in range(4, 17) for turn in range(12)),
)

_ITERATIONS = 12
_TEMPERATURE, _AREA = 4.0, 1024
"""Deviance of an image of so many pixels that stands for one e-fold of probability: neighbours are not independent, and
faces differ by more than motion."""

_FEWEST, _MOST = 10, 100  # images that tell whether a set moved: more say no more
_SURE = (1.5, 3.0)
"""Standard errors by which lines fit better, in the other half and at half the size. Sets of 10 to 60 faces that moved
have 1.8 to 8.5 and 3.6 to 13; of one camera, faces have at most -1.9 in the other half, and crops of photographs, whose
textures are unlike, up to 2.6 there but less than 0 at half the size."""

_WIDTH_STEP, _WIDEST = 0.1, 1.2  # LR pixels, of a lens
_LEAST_WIDTH = 0.3  # LR pixels: what images seem to have that no lens blurred


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """What lines do to the mean power spectrum of windows."""

    transfer_Kf: Tensor
    counts_f: Tensor
    """Frequencies of the whole Fourier transform that each stands for."""
    start_f: Tensor
    """Where the search for the common spectrum begins."""


@lru_cache(maxsize=4)
def _grid(side: int) -> _Grid:
    """For windows of so many pixels a side."""
    fine = side * _FINER
    y, x = torch.fft.fftfreq(fine)[:, None], torch.fft.fftfreq(fine)[None]
    law = 1 / (x.square() + y.square() + (0.5 / side) ** 2)
    window = torch.zeros(fine, fine)
    window[:side, :side] = hann(side)
    leakage = torch.fft.fft2(torch.fft.fft2(window).abs().square())

    def smoothed(power: Tensor) -> Tensor:
        every: Tensor = torch.fft.ifft2(torch.fft.fft2(power) * leakage).real
        return every[::_FINER, ::_FINER][:, : side // 2 + 1]

    def passed(motion: MotionBlur) -> Tensor:
        angle = math.radians(motion.angle_degrees)
        return torch.sinc(motion.length * (x * math.cos(angle) + y * math.sin(angle))).square()

    counts = torch.full((side, side // 2 + 1), 2.0)
    counts[:, [0, -1]] = 1
    compared, plain = _compared(side), smoothed(law)
    transfer_Kf = torch.stack([(smoothed(law * passed(motion)) / plain)[compared] for motion in _MOTIONS])
    return _Grid(transfer_Kf.clamp(min=1e-6), counts[compared], radii(side)[compared] ** _FALL)


def _compared(side: int) -> Tensor:
    radius = radii(side)
    return (radius > _LOWEST) & (radius < _HIGHEST)


def _power(luma: Tensor, side: int) -> Tensor:
    """`f`: mean power of all windows of `H W`, in squared levels."""
    spectrum, _ = transformed(windows(luma * LEVELS, side, _STEP).flatten(0, 1))
    return spectrum.abs().square().mean(0)[_compared(side)]


def _half(luma: Tensor, side: int, number: int) -> Tensor:
    """The power of two opposite quarters: halves so differ neither by top and bottom nor by left and right."""
    height, width = luma.shape[0] // 2, luma.shape[1] // 2
    rows = [luma[:height], luma[-height:]][:: 1 if number else -1]
    return (_power(rows[0][:, :width], side) + _power(rows[1][:, -width:], side)) / 2


def _fit(power_Bf: Tensor, common_f: Tensor, noise: float, grid: _Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Deviance of each image under each line `B K`, with the gains `B K` and the powers `B K f` that fit best."""
    clean_Kf, counts_f = common_f * grid.transfer_Kf, grid.counts_f
    apart = power_Bf[:, None].clamp(min=0.01).log() - clean_Kf.log()
    gain_BK = ((apart * counts_f).sum(-1) / counts_f.sum()).exp()
    for _ in range(5):
        made = gain_BK[..., None] * clean_Kf + noise
        more, less = (clean_Kf * power_Bf[:, None] / made.square(), clean_Kf / made)
        gain_BK = gain_BK * ((more * counts_f).sum(-1) / (less * counts_f).sum(-1)).sqrt()
    made = gain_BK[..., None] * clean_Kf + noise
    ratio = (power_Bf[:, None] / made).clamp(min=1e-6)
    return ((ratio - ratio.log() - 1) * counts_f).sum(-1), gain_BK, made


def _common(power_Bf: Tensor, noise: float, grid: _Grid) -> Tensor:
    """`f`: the power spectrum that the images have in common, but for their motions."""
    common_f = grid.start_f
    for _ in range(_ITERATIONS):
        deviance_BK, gain_BK, made = _fit(power_Bf, common_f, noise, grid)
        weight_BK = torch.softmax(-deviance_BK / _TEMPERATURE, 1) * gain_BK
        more = torch.einsum("bk,kf,bkf->f", weight_BK, grid.transfer_Kf, power_Bf[:, None] / made.square())
        less = torch.einsum("bk,kf,bkf->f", weight_BK, grid.transfer_Kf, 1 / made)
        common_f = common_f * (more / less).sqrt()
    return common_f


def _choose(deviance_BK: Tensor, common_f: Tensor, grid: _Grid, area_B: Tensor) -> Tensor:
    """`B`: the line that is expected to be wrong by the least energy; where an image tells little, a short one."""
    likely_BK = torch.softmax(-deviance_BK * (area_B.clamp(max=_AREA) / _AREA / _TEMPERATURE)[:, None], 1)
    amplitude_Kf = (common_f * grid.counts_f * grid.transfer_Kf).sqrt()
    return (likely_BK @ torch.cdist(amplitude_Kf, amplitude_Kf).square()).argmin(1)


def own_motions(
    images: Sequence[Tensor], whole: Recurrence, found: Fit, on_step: Callable[[], None]
) -> tuple[dict[int, MotionBlur], str]:
    """The motion of each image, by place, and why, in one sentence; none where the images do not say that they moved.

    They do where lines that were found in one half of an image fit its other half better than what all images have in
    common, and where the images recur at half the size under their lines clearly better than under bicubic.

    Args:
        images: `C H W`, [0, 1], not compressed; those smaller than a window have no motion.
        whole: what `found` was fitted to.
        found: the set's blur and noise.
        on_step: called after every blur that is tried.
    """
    lumas = [luma_of(image) for image in images]
    side = next((one for one in _SIDES if 2 * sum(min(luma.shape) >= 2 * one for luma in lumas) > len(lumas)), None)
    if side is None:
        return {}, ""
    large = [place for place, luma in enumerate(lumas) if min(luma.shape) >= 2 * side]
    large = large[:: math.ceil(len(large) / _MOST)]
    if len(large) < _FEWEST:
        return {}, ""
    noise, lines = (found.noise * LEVELS) ** 2 + 1 / 12, _grid(side)
    none = _Grid(lines.transfer_Kf[:1], lines.counts_f, lines.start_f)
    power_Bf = torch.stack([_power(lumas[place], side) for place in large])
    halves = [torch.stack([_half(lumas[place], side, number) for place in large]) for number in (0, 1)]
    area_B = torch.tensor([lumas[place].numel() for place in large])
    misfits, common_f = list[Tensor](), lines.start_f
    for tried in (none, lines):
        common_f = _common(power_Bf, noise, tried)
        deviances = [_fit(half, common_f, noise, tried)[0] for half in halves]
        chosen = [_choose(one, common_f, tried, area_B) for one in deviances]
        misfits.append(deviances[0].gather(1, chosen[1][:, None]) + deviances[1].gather(1, chosen[0][:, None]))
        on_step()
    in_other_half = _standard_errors(misfits[0] - misfits[1])
    if in_other_half < _SURE[0]:
        return {}, ""
    motions = dict[int, MotionBlur]()
    for place, luma in enumerate(lumas):
        if min(luma.shape) >= side:
            deviance_BK, _, _ = _fit(_power(luma, side)[None], common_f, noise, lines)
            motions[place] = _MOTIONS[int(_choose(deviance_BK, common_f, lines, torch.tensor([luma.numel()])))]
    moved = {place: motions[place] for place in large}
    lens, misfit, bicubic = _lens([(lumas[place], one) for place, one in moved.items()], whole, found.noise, on_step)
    motions = {place: motion.model_copy(update={"sigma": lens}) for place, motion in motions.items()}
    gains = []
    for place in large:
        alone = whole.of(Tiles((lumas[place][None],)), SIDE)
        gains.append(alone.misfit(found.blur, found.noise) - alone.misfit(motions[place], found.noise))
    at_half_size = _standard_errors(torch.tensor(gains))
    if at_half_size < _SURE[1] or bicubic < needed_recurrence(misfit, bicubic, whole.settings) * misfit:
        return {}, ""
    return motions, (
        f"the images moved each in its own way: motion that is found in one half of an image fits its other half, and "
        f"the image at half its size, better than one blur of all does (by {in_other_half:.1f} and {at_half_size:.1f} "
        f"standard errors), and {bicubic / misfit:.1f} times as well as bicubic"
    )


def _standard_errors(gain_B: Tensor) -> float:
    """The mean in its standard errors."""
    return float(gain_B.mean() / gain_B.std()) * math.sqrt(len(gain_B))


def _lens(
    moved: Sequence[tuple[Tensor, MotionBlur]], whole: Recurrence, noise: float, on_step: Callable[[], None]
) -> tuple[float, float, float]:
    """The width of the lens under which images recur best, each under its motion; the misfit there, and bicubic's."""
    groups: dict[tuple[MotionBlur, int, int], list[Tensor]] = {}
    most = whole.settings.tile
    for luma, motion in moved:
        height, width = (min(n, most) // 4 * 4 for n in luma.shape)
        groups.setdefault((motion, height, width), []).append(luma[:height, :width])
    recurrence = whole.of(Tiles(tuple(torch.stack(group) for group in groups.values())), SIDE)

    def misfit(sigma: float) -> float:
        on_step()
        return recurrence.misfit([motion.model_copy(update={"sigma": sigma}) for motion, _, _ in groups], noise)

    least, sigma = math.inf, 0.0
    while sigma < _WIDEST and (one := misfit(sigma)) <= least:  # one valley
        least, sigma = one, sigma + _WIDTH_STEP
    sigma -= _WIDTH_STEP
    return 0.0 if sigma < _LEAST_WIDTH + _WIDTH_STEP / 2 else round(sigma, 2), least, recurrence.misfit(NO_BLUR, noise)
