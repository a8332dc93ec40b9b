"""Change the size of an image by antialiased bicubic interpolation.

Bicubic is Keys' kernel with a = -0.5, widened when shrinking, as MATLAB's imresize does; it is what the field's
protocols call 'bicubic' (torch: `interpolate(mode="bicubic", antialias=True)`).

Shapes: `B` batch, `C` channels, `H W` rows and columns. A size is (rows, columns), a scale is (y, x), per side.
"""

import math

import torch.nn.functional as F
from torch import Tensor

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
