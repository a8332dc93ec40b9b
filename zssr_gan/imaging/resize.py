"""Change the size of an image by antialiased bicubic interpolation.

Bicubic is Keys' kernel with a = -0.5, widened when shrinking, as MATLAB's imresize does; it is what the field's
protocols call 'bicubic' (torch: `interpolate(mode="bicubic", antialias=True)`).

Shapes: `B` batch, `C` channels, `H W` rows and columns. A size is (rows, columns), a scale is (y, x), per side.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]

Scale = tuple[float, float]

LARGEST_DENSE = 256
"""Pixels of a small image's side up to which bicubic's matrices are multiplied as they are, zeros and all."""


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


def resize_transpose(y: Tensor, size: Size) -> Tensor:
    """The transpose of `resize` from `size`, a linear map: `B C h w` to `B C H W`, `size` being (H, W).

    Sums are taken in a fixed order on every device; autograd's backward of `interpolate` adds in any order on CUDA.
    """
    if max(y.shape[-2:]) <= LARGEST_DENSE:
        rows, columns = (axis_matrix(*sides, y.dtype, y.device) for sides in zip(size, y.shape[-2:], strict=True))
        return rows.T @ y @ columns
    for dim, side in ((-1, size[1]), (-2, size[0])):  # columns first, while there are few rows: gathering them is slow
        if side == y.shape[dim]:
            continue
        index, weight = _readers(side, y.shape[dim], y.dtype, y.device)
        shape = (len(index), side, 1) if dim == -2 else (len(index), side)
        factors = weight.reshape(shape)
        total = y.index_select(dim, index[0]).mul_(factors[0])
        for read, factor in zip(index[1:], factors[1:], strict=True):
            total.addcmul_(y.index_select(dim, read), factor)
        y = total
    return y


@lru_cache(maxsize=32)
def axis_matrix(side: int, to: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`resize` of one axis from `side` to `to` pixels as a matrix `to side`."""
    return resize(torch.eye(side, dtype=torch.float64)[None], (to, side))[0].to(device, dtype)


@lru_cache(maxsize=64)
def _readers(side: int, to: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which pixels of `to` read each pixel of `side`, and with what weight: `T side` int64 and `dtype`."""
    ratio = side / to
    width = max(ratio, 1.0)

    def weights(read: Tensor, pixel: Tensor) -> Tensor:
        inside = (pixel >= 0) & (pixel < side) & (read >= 0) & (read < to)
        x = (pixel + 0.5 - (read + 0.5) * ratio).abs() / width
        return torch.where(inside, _keys(x), 0.0)

    every = torch.arange(to)[:, None]
    taps = torch.arange(-1, math.ceil(4 * width) + 1)
    sums = weights(every, ((every + 0.5) * ratio - 2 * width).floor().long() + taps).sum(1)
    pixel = torch.arange(side)[:, None]
    readers = ((pixel + 0.5 - 2 * width) / ratio - 0.5).ceil().long() + torch.arange(math.ceil(4 * width / ratio) + 1)
    index = readers.clamp(0, to - 1)
    weight = weights(readers, pixel) / sums[index]
    used = weight.any(0)
    return index.T[used].to(device), weight.T[used].to(device, dtype)


def _keys(x: Tensor) -> Tensor:
    """Keys' kernel (1981) with a = -0.5 at distances `x`."""
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
