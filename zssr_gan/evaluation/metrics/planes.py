"""Planes of an image that metrics compare: Y, or R, G and B, of its 8-bit levels.

Y is that of the field's protocols: ITU-R BT.601 with the weights of MATLAB's rgb2ycbcr, 16 to 235, not rounded (luma in
`zssr_gan.imaging.colour`, 0 to 255, is another). Gray counts as three equal channels.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Plane = Literal["Y", "RGB"]

Planes = NDArray[np.float64]
"""`P H W`, in levels of 255: one plane of Y, or three."""

_Y_WEIGHTS, _Y_OFFSET = (65.481, 128.553, 24.966), 16


def rounded(pixels: Tensor) -> Tensor:
    """Pixels as an 8-bit file holds them, [0, 1]."""
    return (pixels.clamp(0, 1) * 255).round() / 255


def planes_of(pixels: Tensor, plane: Plane, border: int = 0) -> Planes:
    """Planes of `C H W`, [0, 1] on 8-bit levels (`rounded`), without `border` pixels on each side; on the CPU."""
    colours = pixels.detach().cpu().double().expand(3, -1, -1)
    if plane == "Y":
        weights = torch.tensor(_Y_WEIGHTS, dtype=torch.float64)[:, None, None]
        planes = (_Y_OFFSET + (colours * weights).sum(0))[None]
    else:
        planes = (colours * 255).round()  # float32 does not hold the levels' fractions exactly
    height, width = planes.shape[1:]
    cropped: Planes = planes[:, border : height - border, border : width - border].numpy()
    return cropped
