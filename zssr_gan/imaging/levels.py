"""The 8-bit levels that images are kept on, and that small differences are told in."""

from typing import Final

import torch
from torch import Tensor

LEVELS: Final = 255
"""Of an 8-bit pixel, above 0."""


def to_levels(pixels: Tensor) -> Tensor:
    """The nearest levels, uint8, of pixels in [0, 1]; what lies beyond is cut off."""
    return pixels.mul(LEVELS).round().clamp(0, LEVELS).to(torch.uint8)


def from_levels(levels: Tensor) -> Tensor:
    """Pixels, float32 in [0, 1]."""
    return levels.float().div_(LEVELS)
