"""Luma, the brightness that is compared and compressed (ITU-R BT.601, full range as in JFIF)."""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue."""


def luma_of(image: Tensor) -> Tensor:
    """`H W` of an image `C H W`, on the CPU; a gray image's own values."""
    pixels = image.cpu()
    return (pixels * torch.tensor(LUMA)[:, None, None]).sum(0) if len(pixels) == 3 else pixels[0]
