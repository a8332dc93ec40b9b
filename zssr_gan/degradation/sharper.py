"""The blur of each image where a set is of several cameras, or its images were resampled each by another factor.

A set of several cameras has images of unlike sharpness, and the sharp ones recur under a narrower blur than the soft
ones. In a set of one camera sharpness differs by content alone: sharp and soft images recur under much the same blur.

An image's small patterns recur in it at several sizes (Michaeli and Irani 2013): its copy, made half the size through
the true blur, is as sharp as itself. An image that a copy without blur fits clearly better was not blurred like the
others.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zssr_gan.degradation.certainty import needed_recurrence
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur
from zssr_gan.degradation.recurrence import NO_BLUR, Fit, Recurrence, Tiles, fit_blur
from zssr_gan.imaging.colour import luma_of
from zssr_gan.seeds import derive_seed

_SMALLEST = 12  # pixels a side: the copy of a smaller one says nothing

_GROUPS = 3

_SEVERAL = 1.6
"""Variance of the softest group's blur over the sharpest's above which a set is of several cameras; in sets of one it
is at most 1.5."""

_MILDER = 0.5
"""Share of the variance of a group's blur that its images get: they differ among themselves too, and too much blur
makes strokes where too little leaves an image soft."""


def own_blurs(
    images: Sequence[Tensor],
    degradation: Degradation,
    whole: Recurrence,
    found: Fit,
    cut: Callable[[Sequence[Tensor]], Tiles],
    on_step: Callable[[], None],
) -> dict[int, Blur | None]:
    """Blur of the images that have another than their set, by place; None is bicubic.

    Where the set is of several cameras, each third by sharpness has its own blur, of half the variance that fits. A
    third of which the blur is not sure has that of the next sharper third, and the sharpest is taken as bicubic.

    Args:
        images: `C H W`, [0, 1].
        degradation: of the set; thirds are compared where its blur is a Gaussian.
        whole: what `found` was fitted to.
        found: the set's blur and noise.
        cut: makes tiles of images.
        on_step: called after every blur that is tried.
    """
    own = dict[int, Blur | None]()
    if isinstance(degradation.blur, GaussianBlur):
        groups = _groups(images, whole, found, cut, on_step)
        if groups:  # images that are too small to compare have the least blur
            own = dict.fromkeys(range(len(images)), groups[0][1])
        for places, blur in groups:
            own |= dict.fromkeys(places, blur)
    for place, image in enumerate(images):
        assumed = degradation.model_copy(update={"blur": own.get(place, degradation.blur)})
        if sharper_images([image], assumed) == [True]:
            own[place] = None
    return own


def _groups(
    images: Sequence[Tensor],
    whole: Recurrence,
    found: Fit,
    cut: Callable[[Sequence[Tensor]], Tiles],
    on_step: Callable[[], None],
) -> list[tuple[list[int], Blur | None]]:
    """Places of the images of each third, the sharpest first, with their blur; none where the set is of one camera."""
    settings, noise = whole.settings, found.noise**2 * torch.tensor([4.0, 4.0])
    sharpness = {
        place: _sharpness(luma_of(image), noise)
        for place, image in enumerate(images)
        if min(image.shape[-2:]) >= _SMALLEST
    }
    places = sorted(sharpness, key=lambda place: -sharpness[place])
    thirds = [places[n * len(places) // _GROUPS : (n + 1) * len(places) // _GROUPS] for n in range(_GROUPS)]
    tiles = [cut([images[place] for place in third]) for third in thirds]
    if min(len(third) for third in thirds) < settings.fewest or min(map(len, tiles)) < settings.fewest:
        return []
    seen = [whole.of(one, whole.side, derive_seed(whole.seed, "third", n)) for n, one in enumerate(tiles)]
    fits = [fit_blur(one, found.noise, start=found, on_step=on_step) for one in seen]
    variances = [float(fit.blur.covariance().trace()) for fit in fits]
    if variances[-1] < _SEVERAL * variances[0]:
        return []
    groups, blur = list[tuple[list[int], Blur | None]](), None
    for third, one, fit in zip(thirds, seen, fits, strict=True):
        bicubic = one.misfit(NO_BLUR, fit.noise)
        if bicubic >= needed_recurrence(fit.misfit, bicubic, settings) * fit.misfit:
            blur = GaussianBlur.of_covariance(_MILDER * fit.blur.covariance())
        groups.append((third, blur))
    return groups


def sharper_images(images: Sequence[Tensor], degradation: Degradation) -> list[bool]:
    """Whether each image `C H W` recurs at least twice as well under bicubic as under the blur of a degradation."""
    if degradation.blur is None:
        return [False] * len(images)
    sigma = 0.0 if degradation.noise is None else degradation.noise.sigma
    blurs = [degradation.model_copy(update={"noise": None, "jpeg": None}), Degradation()]
    return [_is_sharper(luma_of(image), blurs, sigma) for image in images]


def _is_sharper(luma: Tensor, blurs: list[Degradation], sigma: float) -> bool:
    height, width = (side // 2 for side in luma.shape)
    if min(height, width) < _SMALLEST // 2:
        return False
    luma = luma[: 2 * height, : 2 * width]
    own = _sharpness(luma, sigma**2 * torch.tensor([4.0, 4.0]))
    misfits = []
    for blur in blurs:
        copy = blur.downscale(luma[None, None], (height, width))[0, 0]
        misfits.append(abs(own - _sharpness(copy, sigma**2 * _noise_differences(blur))))
    return misfits[1] < misfits[0] / 2


def _sharpness(luma: Tensor, noise: Tensor) -> float:
    """Logarithm of how much neighbours differ against pixels two apart; `noise`: its part of both, summed over axes."""
    energies = [
        (luma[step:] - luma[:-step]).square().mean() + (luma[:, step:] - luma[:, :-step]).square().mean()
        for step in (1, 2)
    ]
    near, far = (max(float(energy - part), 1e-7) for energy, part in zip(energies, noise, strict=True))
    return math.log(near / far)


def _noise_differences(blur: Degradation) -> Tensor:
    """What white noise of variance 1 adds to the squared differences of the half-size copy, 1 and 2 pixels apart."""
    kernel = blur.kernel((2, 2))

    def covariance(rows: int, columns: int) -> Tensor:
        moved = kernel[rows:, columns:]
        return (moved * kernel[: moved.shape[0], : moved.shape[1]]).sum()

    return torch.stack([4 * covariance(0, 0) - 2 * covariance(2 * n, 0) - 2 * covariance(0, 2 * n) for n in (1, 2)])
