"""Arrays and PIL images to pictures and back: the boundary of the Python interface."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from zssr_gan.errors import ImageError
from zssr_gan.imaging.picture import Metadata, Picture, from_samples, to_samples


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
