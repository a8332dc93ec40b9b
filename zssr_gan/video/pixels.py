"""The pixels of a frame: luma as stored, or RGB, as tensors, or as a picture.

Sources: ITU-T H.273 (matrices and ranges), H.264 section 6.2 (where chroma samples lie in frames and fields).
"""

import numpy as np
import torch
from torch import Tensor

from zssr_gan.errors import VideoError
from zssr_gan.imaging.colour import LUMA
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.inference.region import Region
from zssr_gan.video.frames import Frame, Plane

_WEIGHTS = {
    "bt709": (0.2126, 0.0722), "bt470bg": (0.299, 0.114), "smpte170m": (0.299, 0.114), "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087), "bt2020nc": (0.2627, 0.0593),
}  # fmt: skip
"""Of red and blue in luma, by the matrix's name in H.273 and libav."""

_CENTRED = {"mjpeg", "mpeg1video", "h263", "h261", "flv1"}
"""Codecs whose U and V lie between the luma samples of a row; those of all others lie on the left one."""


def luma(frame: Frame) -> Tensor:
    """`1 H W` float32 of the luma as stored, black 0 and white 1; what a limited range stores beyond lies outside.

    Of RGB, the weighted sum by the frame's matrix, or BT.601's. Raises VideoError where the matrix is none that is
    read.
    """
    if not frame.is_rgb:
        return _levels(frame, frame.planes[0])[None]
    green, blue, red = (_levels(frame, plane) for plane in frame.planes)
    weights = _weights(frame)
    return (weights[0] * red + weights[1] * green + weights[2] * blue)[None]


def rgb(frame: Frame) -> Tensor:
    """`3 H W` float32, black 0 and white 1, not clamped; U and V interpolated linearly from where they lie.

    Of a frame without colours, three equal channels. Raises VideoError where the matrix is none that is read.
    """
    if frame.is_rgb:
        green, blue, red = (_levels(frame, plane) for plane in frame.planes)
        return torch.stack([red, green, blue])
    y = luma(frame)[0]
    if len(frame.planes) == 1:
        return y.expand(3, -1, -1).clone()
    vertical, horizontal = chroma_place(frame)
    u, v = (
        _interpolated(
            _interpolated(_levels(frame, plane, chroma=True), y.shape[0], vertical).T, y.shape[1], horizontal
        ).T
        for plane in frame.planes[1:]
    )
    kr, kg, kb = _weights(frame)
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return torch.stack([red, (y - kr * red - kb * blue) / kg, blue])


def picture_of_frame(frame: Frame, box: Region | None = None) -> Picture:
    """A frame, or the part within `box`, clamped to [0, 1]: gray where it has no colours, 16 bits where it has over 8.

    Raises VideoError as `rgb` does.
    """
    pixels = luma(frame) if frame.is_gray else rgb(frame)
    if box is not None:
        x, y, width, height = box
        pixels = pixels[:, y : y + height, x : x + width]
    pixels = pixels.clamp(0, 1).float().contiguous()
    bits = 16 if frame.bits > 8 else 8
    return Picture(pixels=pixels, alpha=None, bits=bits, metadata=Metadata(), footage=frame.footage)


def chroma_place(frame: Frame) -> tuple[float, float]:
    """Where a sample of U and V lies in its group of luma samples, down and across: 0 on the first, 1 on the last."""
    vertical = {None: 0.5, "top": 0.25, "bottom": 0.75}[frame.field]  # of two luma rows to a chroma row
    return vertical, 0.5 if frame.codec in _CENTRED else 0.0


def _weights(frame: Frame) -> tuple[float, float, float]:
    """Of red, green and blue in luma."""
    matrix = frame.assumed_matrix
    if matrix not in _WEIGHTS:
        raise VideoError(f"frame {frame.index} stores its colours by a matrix that is not read ({matrix}).")
    red, blue = _WEIGHTS[matrix]
    return red, LUMA[1] if red == LUMA[0] else 1 - red - blue, blue


def _levels(frame: Frame, plane: Plane, *, chroma: bool = False) -> Tensor:
    """A plane as float32: luma and RGB from 0 to 1, U and V from -0.5 to 0.5."""
    unit = 1 << (frame.bits - 8)
    limited = frame.assumed_range == "limited"
    if chroma:
        zero, span = 128 * unit, 224 * unit if limited else 256 * unit - 1
    else:
        zero, span = (16 * unit, 219 * unit) if limited else (0, 256 * unit - 1)
    return torch.from_numpy((plane.astype(np.float32) - zero) / span)


def _interpolated(rows: Tensor, size: int, offset: float) -> Tensor:
    """Rows (`H W`) interpolated linearly to `size`; `offset`: where of each group of new rows an old one lies, [0, 1].

    0 is on the first of the group, 0.5 in its middle: of two rows, 0.25 lies between the first and the middle.
    """
    factor = -(-size // len(rows))
    if factor == 1:
        return rows
    place = (torch.arange(size) - offset * (factor - 1)).div(factor).clamp(0, len(rows) - 1)
    low = place.floor().long()
    return torch.lerp(rows[low], rows[(low + 1).clamp_max(len(rows) - 1)], (place - low)[:, None])
