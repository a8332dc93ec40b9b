"""The planes of a frame as numbers for a network, and the planes of its enlargement.

Luma (or red, green and blue) is taken as stored, with whatever a limited range holds beyond black and white, so that no
conversion of colours lies between the file and the result. U and V are interpolated from where they lie.

Shapes: C channels, H W rows and columns.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from zssr_gan.errors import VideoError
from zssr_gan.imaging.resize import Scale, Size, enlarged_size
from zssr_gan.inference.region import Region
from zssr_gan.video.frames import Frame, Plane
from zssr_gan.video.pixels import chroma_place

MARGIN = 16
"""Pixels around a region that the network sees too: as far as one of 16 layers looks."""

_BLOCK = 16  # what the network sees begins at a multiple of a codec's block


@dataclass(frozen=True, slots=True)
class Layout:
    """Planes by their pixel format: bits of a sample, luma samples to one of U and V down and across, and channels."""

    bits: int
    chroma: tuple[int, int] | None
    """None: there are no U and V."""
    rgb: bool

    @classmethod
    def of(cls, pixel_format: str) -> "Layout":
        """Of libav's name. Raises ValueError where it has none, or packs its samples."""
        import av

        found = av.VideoFormat(pixel_format, 64, 64)
        planar = len({one.plane for one in found.components}) == len(found.components)
        if not planar or any(one.is_alpha for one in found.components) or "f" in pixel_format.partition("gbrp")[2]:
            raise ValueError(f"{pixel_format} is not made of planes of whole numbers, without alpha")
        chroma = None
        if len(found.components) > 1 and not found.is_rgb:
            chroma = 64 // (found.chroma_height(64) or 64), 64 // (found.chroma_width(64) or 64)
        return cls(found.components[0].bits, chroma, found.is_rgb)


def white(bits: int, levels: str) -> int:
    """The code that stands for 1: 255 of eight bits, and of more what their range makes of it."""
    return 255 << (bits - 8) if levels == "limited" else (1 << bits) - 1


def stored(frame: Frame) -> Tensor:
    """`C H W` float32: luma, or red, green and blue, as stored, over `white`."""
    planes = [frame.planes[n] for n in (2, 0, 1)] if frame.is_rgb else [frame.planes[0]]
    codes = np.stack(planes).astype(np.float32)
    return torch.from_numpy(codes / np.float32(white(frame.bits, frame.assumed_range)))


def seen_part(x: Tensor, box: Region) -> tuple[Tensor, tuple[int, int]]:
    """A box of `C H W` with a margin, and where the box begins in it; the whole where the box is all of it.

    Its size depends on the box's alone; beyond the frame its border is repeated.
    """
    left, top, width, height = box
    if (height, width) == x.shape[-2:]:
        return x, (0, 0)
    first = [(edge - MARGIN) // _BLOCK * _BLOCK for edge in (top, left)]
    rows, columns = (
        torch.arange(begin, begin + side + 2 * MARGIN + _BLOCK).clamp(0, most - 1)
        for begin, side, most in zip(first, (height, width), x.shape[-2:], strict=True)
    )
    return x[:, rows][:, :, columns], (top - first[0], left - first[1])


def result_part(large: Tensor, place: tuple[int, int], size: Size, scale: Scale) -> Tensor:
    """What the network made of a box that begins at `place` of what it saw: `C sH sW`."""
    top, left = (math.floor(edge * factor + 0.5) for edge, factor in zip(place, scale, strict=True))
    rows, columns = enlarged_size(size, scale)
    return large[:, top : top + rows, left : left + columns]


def result_planes(large: Tensor, frame: Frame, box: Region, layout: Layout) -> tuple[Plane, ...]:
    """The planes of a frame's enlargement.

    Args:
        large: `C sH sW`, of `stored`, [0, 1].
        frame: that it was made of.
        box: the part of it.
        layout: of the planes.
    """
    kind = np.uint8 if layout.bits == 8 else np.uint16
    top = white(layout.bits, frame.assumed_range)
    codes = large.mul(top).round_().clamp_(0, top).numpy().astype(kind)
    if layout.rgb:
        return codes[1], codes[2], codes[0]
    if layout.chroma is None:
        return (codes[0],)
    neutral, most = 1 << (layout.bits - 1), (1 << layout.bits) - 1
    if len(frame.planes) == 1:
        return codes[0], *[np.full(_chroma_size(large, layout.chroma), neutral, kind)] * 2
    gain = white(layout.bits, frame.assumed_range) / white(frame.bits, frame.assumed_range)
    old = tuple(-(-side // side_of) for side, side_of in zip(frame.planes[0].shape, frame.planes[1].shape, strict=True))
    planes: list[Plane] = [codes[0]]
    for plane in frame.planes[1:]:
        around = torch.from_numpy(plane.astype(np.float32)) - (1 << (frame.bits - 1))
        for axis in (0, 1):
            first, side = (box[1], box[3]) if axis == 0 else (box[0], box[2])
            place = chroma_place(frame)[axis], chroma_place(frame)[axis] if frame.field and axis == 0 else _LEFT[axis]
            size = _chroma_size(large, layout.chroma)[axis]
            ratio = large.shape[1 + axis] / side
            matrix = _samples(around.shape[axis], size, first, ratio, (old[axis], layout.chroma[axis]), place)
            around = matrix @ around if axis == 0 else around @ matrix.T
        planes.append((around.mul(gain).round_() + neutral).clamp_(0, most).numpy().astype(kind))
    return tuple(planes)


_LEFT = (0.5, 0.0)
"""Where U and V of the result lie in their groups: as those of MPEG-2 and all later codecs."""


def _chroma_size(large: Tensor, chroma: tuple[int, int]) -> Size:
    return -(-large.shape[1] // chroma[0]), -(-large.shape[2] // chroma[1])


@lru_cache(maxsize=64)
def _samples(
    count: int, size: int, first: int, ratio: float, groups: tuple[int, int], places: tuple[float, float]
) -> Tensor:
    """`size count`: samples of a row of U or V, from those of the frame, by Keys' cubic (1981, a = -0.5).

    Args:
        count: samples of the frame.
        size: of the result.
        first: luma pixel of the frame at which the result begins.
        ratio: pixels of the result to one of the frame.
        groups: luma pixels to a sample, in the frame and in the result.
        places: of samples in their groups, there and there.
    """
    luma = torch.arange(size, dtype=torch.float64) * groups[1] + places[1] * (groups[1] - 1)
    at = ((luma + 0.5) / ratio - 0.5 + first - places[0] * (groups[0] - 1)) / groups[0]
    taps = at.floor()[:, None] + torch.arange(-1, 3)
    x = (at[:, None] - taps).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, far)
    matrix = torch.zeros(size, count, dtype=torch.float64)
    return matrix.scatter_add_(1, taps.long().clamp(0, count - 1), weights).float()


def check_size(frame: Frame, first: Size) -> None:
    """Refuse a video whose frames change their size. Raises VideoError."""
    if frame.planes[0].shape != first:
        sizes = " and ".join(f"{w}x{h}" for h, w in (first, frame.planes[0].shape))
        raise VideoError(f"its frames have several sizes ({sizes}, from frame {frame.index} on): cut it in parts.")
