"""Changing an image's size: antialiased bicubic, the downscale operators, and iterative back-projection.

Bicubic is Keys' kernel with a = -0.5, widened when shrinking, as MATLAB's imresize does; it is what the field's
protocols call 'bicubic' (torch: `interpolate(mode="bicubic", antialias=True)`).

Shapes: `B` batch, `C` channels, `H W` rows and columns. A size is (rows, columns), a scale is (y, x), per side.
"""

import math
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from zssr_gan.imaging import symmetries
from zssr_gan.imaging.kernels import centred_kernel, kernel_symmetries

Size = tuple[int, int]
Scale = tuple[float, float]


def enlarged_size(size: Size, scale: Scale) -> Size:
    """Size of an image enlarged by `scale`, halves rounded up, at least 1 pixel a side."""
    return (max(1, math.floor(size[0] * scale[0] + 0.5)), max(1, math.floor(size[1] * scale[1] + 0.5)))


def reduced_size(size: Size, scale: Scale) -> Size:
    """Size of an image reduced by `scale`, fractions rounded up (25 / 2 gives 13), at least 1 pixel a side."""
    # The small term keeps 33 / 1.1 at 30: floating point would make it 30.000000000000004.
    return (max(1, math.ceil(size[0] / scale[0] - 1e-9)), max(1, math.ceil(size[1] / scale[1] - 1e-9)))


def resize(x: Tensor, size: Size) -> Tensor:
    """Antialiased bicubic resize of `B C H W` or `C H W` to `size`; values may leave [0, 1] by overshoot."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    batch = x if x.dim() == 4 else x[None]
    out = F.interpolate(batch, size=size, mode="bicubic", align_corners=False, antialias=True)
    return out if x.dim() == 4 else out[0]


class Downscale(Protocol):
    """How a smaller image comes out of a larger one: the assumption that a zero-shot method learns from."""

    name: str
    multiple: int
    """Sides of the input should be multiples of this, else rows or columns at the end are not seen whole."""
    symmetries: tuple[int, ...]
    """The flips and turns that it commutes with: an image turned by another was not degraded like this."""
    reach: int
    """Pixels of the larger image that it looks at beyond what bicubic does."""

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Shrink `B C H W` to `size` (rows, columns)."""


class BicubicDownscale:
    """Antialiased bicubic, for any size."""

    name = "bicubic"
    multiple = 1
    symmetries = symmetries.ALL
    reach = 0

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Shrink `B C H W` to `size`."""
        return resize(x, size)


class KernelDownscale:
    """Correlate with a blur kernel, then keep every `scale`-th pixel (KernelGAN's convention, kernel in HR pixels).

    The kernel's centre of mass is first moved to the centre of the block of pixels that one LR pixel covers, so
    that a kernel which is off centre blurs but does not move the image (Shocher et al.'s `kernel_shift`).
    Pixels beyond the border repeat the border.

    Args:
        kernel: `k k`, any sum but zero; it is normalised.
        scale: whole factors (y, x), 1 to 8.
    """

    def __init__(self, kernel: Tensor, scale: tuple[int, int]) -> None:
        self.kernel = centred_kernel(kernel, scale)
        self.scale = scale
        self.name = "kernel"
        self.multiple = math.lcm(*scale)
        self.symmetries = kernel_symmetries(kernel)
        self.reach = max(self.kernel.shape) // 2

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Blur and subsample `B C H W` to `size`, which must be the input's size divided by the scale, rounded up."""
        if size != reduced_size((x.shape[-2], x.shape[-1]), self.scale):
            raise ValueError(f"a kernel for scale {self.scale} cannot shrink {tuple(x.shape[-2:])} to {size}")
        rows, columns = self.kernel.shape
        weight = self.kernel.to(x)[None, None].expand(x.shape[1], 1, -1, -1)
        # An odd kernel's centre is its middle pixel; centred_kernel made both sides odd.
        padded = F.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2), mode="replicate")
        return F.conv2d(padded, weight, stride=self.scale, groups=x.shape[1])


def back_project(sr: Tensor, lr: Tensor, downscale: Downscale, iterations: int) -> Tensor:
    """Iterative back-projection (Irani and Peleg 1991): push the result towards agreeing with the input.

    Each iteration shrinks the result, and adds the enlarged difference to the input. Works in place on `sr`.

    Args:
        sr: `B C sH sW`, changed in place.
        lr: `B C H W`.
        downscale: maps `sr`'s size to `lr`'s.
        iterations: 0 leaves `sr` as it is.
    """
    lr_size, sr_size = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
    for _ in range(iterations):
        sr += resize(lr - downscale(sr, lr_size), sr_size)
    return sr
