"""What a picture is between its file and the networks, and its way back to integers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.errors import ImageError
from zssr_gan.imaging.colour import without_equal_channels

Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""Pixels as a file holds them: `H W C`, uint8 or uint16; C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha."""

_STRIP_ROWS = 256

_FAINT, _LARGEST_GAIN = 16, 1024.0  # the inverse of a used range; more would enlarge the levels of 16 bits themselves

_OUTSIDE, _MANY_OUTSIDE = 0.005, 0.05  # share of samples that may lie above a faint picture's range, and below it


@dataclass(frozen=True, slots=True)
class Metadata:
    """What travels with the pixels from the input file to the result.

    `exif`: a bare EXIF block, from its byte order mark on (no leading "Exif"), orientation reset to 1.
    `icc`: a colour profile that fits the picture's channels. `dpi`: pixels an inch in x and y. `xmp`: an XMP packet.
    `iptc`: IPTC-NAA records. `colour`: PNG's chunks of colour signalling beside a profile, (type, content) each.
    `texts`: keyword and text of PNG's text chunks. `background`: PNG's colour behind transparent pixels, bKGD.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    colour: tuple[tuple[str, bytes], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    background: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image: upright, straight (not premultiplied) colour.

    `pixels`: C H W float32 in [0, 1], C = 1 gray or 3 RGB. `alpha`: 1 H W float32 in [0, 1], or None.
    `bits`: 8 or 16, the depth of the file. `notices`: what reading changed, one sentence each. `footage`: whether it is
    a frame of a video, or of lossy WebP, whose codec changed it; None: its file does not say. `webp_step`: the step of
    luma's quantiser in a lossy WebP file, 8-bit levels.
    """

    pixels: Tensor
    alpha: Tensor | None
    bits: int
    metadata: Metadata
    notices: tuple[str, ...] = ()
    footage: bool | None = None
    webp_step: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A file taken apart: metadata as found, not checked; `samples` not turned upright yet.

    `orientation`: of the pixels, where the file says it beside or above its EXIF block. `colour`, `texts` and
    `background`: as in `Metadata`. `footage`, `webp_step`: as in `Picture`.
    """

    samples: Samples
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: object = None
    notices: tuple[str, ...] = ()
    xmp: bytes | None = None
    iptc: bytes | None = None
    colour: Mapping[str, bytes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    orientation: int | None = None
    background: bytes | None = None
    footage: bool | None = None
    webp_step: float | None = None


def check_size(width: int, height: int, max_pixels: float, channels: int = 1) -> None:
    """Compare a header's size with the limit, before decoding: pixels, and samples of more channels than RGB and alpha
    have. Raises ImageError (without the file's name)."""
    if width < 1 or height < 1:
        raise ImageError(f"has no pixels ({width} x {height})")
    if max(width, height) >= 2**31:
        raise ImageError("is damaged (its header says a size that no picture has)")
    if width * height > max_pixels:
        size = f"{width * height / 1e6:.1f} megapixels ({width} x {height})"
        raise ImageError(f"has {size}, more than the limit of {max_pixels / 1e6:g}")
    if width * height * channels > 4 * max_pixels:
        size = f"{width * height * channels / 1e6:.1f} million samples in {channels} channels"
        raise ImageError(f"has {size}, more than the limit of {4 * max_pixels / 1e6:g} million")


def stretch_of(pixels: Tensor) -> tuple[float, float]:
    """Low end and gain with which `(x - low) * gain` brings faint pixels ([0, 1]) to the whole range; else (0, 1).

    The gain is a power of two, so that division undoes it exactly. Pixels are faint that use at most 1/16 of the range;
    of bright and dark ones outside it, such as hot pixels, there may be few: they are not in [0, 1] afterwards.
    """
    low, high = (float(end) for end in pixels.aminmax())
    if high - low > 1 / _FAINT:
        low, high = _range_without(pixels, _OUTSIDE)
    if not 0 < high - low <= 1 / _FAINT:
        return 0.0, 1.0
    gain = min(2.0 ** math.floor(-math.log2(high - low)), _LARGEST_GAIN)
    return min(max(0.0, low - (1 / gain - (high - low)) / 2), 1 - 1 / gain), gain


def is_mostly_faint(pixels: Tensor) -> bool:
    """Whether [0, 1] pixels are faint but for 5 % above and 5 % below, which is too many for `stretch_of`."""
    low, high = _range_without(pixels, _MANY_OUTSIDE)
    return 0 < high - low <= 1 / _FAINT and stretch_of(pixels) == (0, 1)


def _range_without(pixels: Tensor, outside: float) -> tuple[float, float]:
    """Lowest and highest of the levels of 16 bits, but for this share of the samples at either end."""
    levels = 2**16
    counts = torch.histc(pixels.float(), levels, 0, 1).double().cumsum(0)
    few = max(1, int(outside * pixels.numel()))
    low = int(torch.searchsorted(counts, few, right=True)) / (levels - 1)
    return low, int(torch.searchsorted(counts, counts[-1] - few)) / (levels - 1)


def seen_colours(picture: Picture) -> Tensor:
    """Colours with those that alpha hides replaced by the nearest one that is seen; one channel where all are equal.

    What is hidden must not bleed into what is seen. Premultiplying would do that too, but a network sharpens the edge
    that it makes, and dividing by an interpolated alpha afterwards leaves dark fringes.
    """
    if picture.alpha is None or not (hidden := (picture.alpha[0] == 0)).any() or hidden.all():
        return without_equal_channels(picture.pixels)
    from scipy.ndimage import distance_transform_edt  # half a second to import, and few images have alpha

    rows, columns = distance_transform_edt(hidden.numpy(), return_distances=False, return_indices=True)
    return without_equal_channels(picture.pixels[:, torch.from_numpy(rows), torch.from_numpy(columns)])


def quantise(picture: Picture) -> Picture:
    """The picture that its file will hold, clamped and rounded to 2^bits levels, so that figures are the file's."""
    levels = 2**picture.bits - 1

    def rounded(x: Tensor) -> Tensor:
        return x.mul(levels).round_().clamp_(0, levels).div_(levels)

    alpha = None if picture.alpha is None else rounded(picture.alpha)
    return replace(picture, pixels=rounded(picture.pixels), alpha=alpha)


def to_samples(picture: Picture) -> Samples:
    """The integers of the file, alpha as the last channel: `H W C`, clamped and rounded.

    Works in strips of rows: beside the result it needs a few rows of memory, not a second float picture.
    """
    channels, height, width = picture.pixels.shape
    levels = 2**picture.bits - 1
    planes = [(picture.pixels, slice(0, channels))]
    if picture.alpha is not None:
        planes.append((picture.alpha, slice(channels, channels + 1)))
    shape = (height, width, planes[-1][1].stop)
    samples: Samples = np.empty(shape, np.uint8) if picture.bits == 8 else np.empty(shape, np.uint16)
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        for plane, place in planes:
            strip = plane[:, rows].mul(levels).round_().clamp_(0, levels)
            samples[rows, :, place] = strip.permute(1, 2, 0).numpy(force=True)
    return samples


def from_samples(samples: Samples, metadata: Metadata, notices: tuple[str, ...] = ()) -> Picture:
    """A picture from a file's integers (`H W C`, any strides); the depth is that of the dtype."""
    bits = samples.dtype.itemsize * 8
    channels = 1 if samples.shape[2] <= 2 else 3
    has_alpha = samples.shape[2] in (2, 4)

    def unit_range(part: Samples) -> Tensor:
        # Filled in place: a strided copy by astype would hold a second float picture for a moment.
        plane = np.empty((part.shape[2], *part.shape[:2]), np.float32)
        plane[...] = part.transpose(2, 0, 1)
        return torch.from_numpy(plane).div_(2**bits - 1)

    return Picture(
        pixels=unit_range(samples[:, :, :channels]),
        alpha=unit_range(samples[:, :, channels:]) if has_alpha else None,
        bits=bits,
        metadata=metadata,
        notices=notices,
    )
