"""Which images of a set are sharper than the blur that was estimated from all: those of another camera, or resampled.

An image's small patterns recur in it at several sizes (Michaeli and Irani 2013): its copy, made half the size through
the true blur, is as sharp as itself. An image that a copy without blur fits clearly better was not blurred like the
others.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation
from zssr_gan.imaging.colour import luma_of

_SMALLEST = 12  # pixels a side: the copy of a smaller one says nothing


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
