"""What a picture is between its file and the networks, and its way back to integers."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zssr_gan.errors import ImageError

Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""Pixels as a file holds them: `H W C`, uint8 or uint16; C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha."""

_STRIP_ROWS = 256


@dataclass(frozen=True, slots=True)
class Metadata:
    """What travels with the pixels from the input file to the result.

    `exif`: a bare EXIF block, from its byte order mark on (no leading "Exif"), orientation reset to 1.
    `icc`: a colour profile that fits the picture's channels. `dpi`: pixels an inch in x and y.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image: upright, straight (not premultiplied) colour.

    `pixels`: C H W float32 in [0, 1], C = 1 gray or 3 RGB. `alpha`: 1 H W float32 in [0, 1], or None.
    `bits`: 8 or 16, the depth of the file. `notices`: what reading changed, one sentence each.
    """

    pixels: Tensor
    alpha: Tensor | None
    bits: int
    metadata: Metadata
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A file taken apart: `exif`, `icc` and `dpi` as found, not checked; `samples` not turned upright yet."""

    samples: Samples
    exif: bytes | None
    icc: bytes | None
    dpi: object
    notices: tuple[str, ...]


def check_size(width: int, height: int, max_pixels: float) -> None:
    """Hold a header's size against the limit, before decoding. Raises ImageError (without the file's name)."""
    if width < 1 or height < 1:
        raise ImageError(f"has no pixels ({width} x {height}).")
    if width * height > max_pixels:
        size = f"{width * height / 1e6:.1f} megapixels ({width} x {height})"
        raise ImageError(f"has {size}, more than the limit of {max_pixels / 1e6:g}.")


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


def picture_of(image: NDArray[Any] | Image.Image) -> Picture:
    """A picture out of an array or a PIL image; floating point is taken at 16 bits.

    Args:
        image: `H W`, or `H W` with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) channels of uint8, uint16 or
            floating point in [0, 1], of either byte order; or PIL of mode L, LA, RGB, RGBA, P or I;16. Alpha is
            straight.

    Raises:
        TypeError: another kind, dtype, mode or shape.
        ImageError: a floating-point image outside [0, 1].
    """
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "LA", "RGB", "RGBA", "P", "I;16"):
            raise TypeError(f"a PIL image of mode L, LA, RGB, RGBA, P or I;16 is taken, not {image.mode}")
        if image.mode == "P":
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return picture_of(np.asarray(image))
    if not isinstance(image, np.ndarray):
        raise TypeError(f"a numpy array or a PIL image is taken, not {type(image).__name__}")
    samples = image[..., None] if image.ndim == 2 else image
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4):
        raise TypeError(f"an array is H W, or H W with 1 to 4 channels; this one has the shape {image.shape}")
    native = samples.dtype.newbyteorder("=")
    if native in (np.uint8, np.uint16):
        return from_samples(np.ascontiguousarray(samples, dtype=native), Metadata(None, None, None))
    if not np.issubdtype(samples.dtype, np.floating):
        raise TypeError(f"an array is uint8, uint16 or floating point, not {samples.dtype}")
    if samples.size and (not np.isfinite(samples).all() or samples.min() < 0 or samples.max() > 1):
        raise ImageError("a floating-point image must lie in [0, 1]")
    parts = torch.from_numpy(np.ascontiguousarray(samples.transpose(2, 0, 1), dtype=np.float32))
    colours = 1 if samples.shape[2] <= 2 else 3
    alpha = parts[colours:] if samples.shape[2] in (2, 4) else None
    return Picture(parts[:colours], alpha, 16, Metadata(None, None, None))


def like(image: NDArray[Any] | Image.Image, picture: Picture) -> Any:
    """The result in the kind, dtype and number of dimensions of what was given."""
    if isinstance(image, np.ndarray) and np.issubdtype(image.dtype, np.floating):
        parts = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
        out = torch.cat(parts).permute(1, 2, 0).numpy().astype(image.dtype)
    else:
        out = to_samples(picture)
        if isinstance(image, np.ndarray):
            out = out.astype(image.dtype, copy=False)  # its byte order
    if out.shape[2] == 1 and (isinstance(image, Image.Image) or image.ndim == 2):
        out = out[:, :, 0]
    return Image.fromarray(out) if isinstance(image, Image.Image) else out
