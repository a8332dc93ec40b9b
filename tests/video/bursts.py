"""Bursts of a picture with a known motion, made the long way: warped at eight times the size, then shrunk."""

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from skimage import data
from torch import Tensor

from zssr_gan.degradation.model import Degradation, DegradedDownscale
from zssr_gan.imaging.resize import resize
from zssr_gan.video.registration import Motion

SIDE = 24
_FINE = 8


@cache
def scene(name: str = "astronaut") -> Tensor:
    """`3 H W` at eight times the size of a frame."""
    pixels = getattr(data, name)()[36:228, 136:328]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).double() / 255


def motion(count: int, *, affine: bool = False, light: bool = False, farthest: float = 1.2, seed: int = 0) -> Motion:
    """Of frames 0 to count - 1; 0 is the reference."""
    rng = torch.Generator().manual_seed(seed)
    away = (torch.arange(count) > 0).double()

    def draws(*shape: int) -> Tensor:
        return (2 * torch.rand(count, *shape, generator=rng, dtype=torch.float64) - 1) * away.reshape(
            -1, *[1] * len(shape)
        )

    linear = 0.05 * draws(2, 2) * affine
    return Motion(farthest * draws(2), linear, 1 + 0.1 * light * draws(), 0.02 * light * draws())


def burst(
    known: Motion, degradation: Degradation | None = None, scale: int = 2, *, noise: float = 0.0, colour: bool = False
) -> tuple[Tensor, Tensor]:
    """Frames `F C h w` and the truth `C sh sw` of the reference frame; noise in [0, 1] units."""
    image = scene() if colour else scene().mean(0, keepdim=True)
    rng = torch.Generator().manual_seed(1)
    grid = np.indices(image.shape[1:]).astype(float)
    middle, frames = (image.shape[-1] - 1) / 2, []
    large = (SIDE * scale, SIDE * scale)
    camera = DegradedDownscale(Degradation(blur=degradation.blur if degradation else None))
    for shift, linear, gain, bias in zip(known.shift, known.linear, known.gain, known.bias, strict=True):
        turned = np.tensordot(np.eye(2) + linear.numpy(), grid - middle, 1)
        place = middle + turned + _FINE * shift.numpy()[:, None, None]
        warped = [ndimage.map_coordinates(channel, place, order=3, mode="nearest") for channel in image.numpy()]
        small = camera(resize(torch.from_numpy(np.stack(warped)), large)[None], (SIDE, SIDE))[0]
        frames.append(gain * small + bias)
    pixels = torch.stack(frames).float()
    pixels += noise * torch.randn(pixels.shape, generator=rng)
    return pixels.clamp(0, 1), resize(image, large).clamp(0, 1).float()
