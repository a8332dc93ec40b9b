"""Luma (ITU-R BT.601, full range as in JFIF), 8-bit levels, and PSNR."""

import math
from typing import Final

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue."""


def luma_of(image: Tensor) -> Tensor:
    """`H W` of an image `C H W`, on the CPU; a gray image's own values."""
    pixels = image.cpu()
    return (pixels * torch.tensor(LUMA)[:, None, None]).sum(0) if len(pixels) == 3 else pixels[0]


LEVELS: Final = 255
"""Of an 8-bit pixel, above 0."""


_GRAY = 2 / LEVELS  # channels that differ by no more are one


def has_colours(pixels: Tensor) -> bool:
    """Whether the channels of `C H W` in [0, 1] differ: gray footage is often stored as RGB."""
    return len(pixels) == 3 and float((pixels - pixels.mean(0)).abs().max()) > _GRAY


def without_equal_channels(pixels: Tensor) -> Tensor:
    """`1 H W` of an image `C H W` whose channels are all the same, else the image: gray pictures are stored as RGB."""
    return pixels[:1] if all(torch.equal(pixels[0], channel) for channel in pixels[1:]) else pixels


def to_levels(pixels: Tensor) -> Tensor:
    """The nearest levels, uint8, of pixels in [0, 1]; what lies beyond is cut off."""
    return pixels.mul(LEVELS).round().clamp(0, LEVELS).to(torch.uint8)


def from_levels(levels: Tensor) -> Tensor:
    """Pixels, float32 in [0, 1]."""
    return levels.float().div_(LEVELS)


HIGHEST_DB = 100.0
"""What an exact agreement counts as: infinity has no mean, and JSON no word for it."""


def psnr_db(mean_squared_error: float) -> float:
    """PSNR in dB of an error in [0, 1] units squared, at most 100."""
    return min(HIGHEST_DB, -10 * math.log10(max(mean_squared_error, 1e-10)))
