"""JPEG's loss as arithmetic on tensors, and the quantisation tables that say how much of it there was.

Baseline JPEG (ITU-T T.81): YCbCr of full range, chroma averaged over 2x2 pixels, cosine transform of 8x8 blocks,
coefficients rounded to whole multiples of a table. Only the rounding loses anything, so only that is done, no entropy
coding. Rounding hands gradients through as they are, so that a loss can look through it.

Shapes: B images, C channels (1 gray, 3 RGB), H W rows and columns, n m rows and columns of 8x8 blocks.
"""

import io
import math
from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zssr_gan.imaging.colour import LUMA

Table = tuple[int, ...]
"""64 whole numbers, row by row from the lowest frequency."""


@cache
def tables_of(quality: int) -> tuple[Table, Table]:
    """libjpeg's tables of luma and chroma for a quality of 1 to 100, as Pillow's encoder writes them."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    found = read_tables(file.getvalue())
    assert found is not None
    return found[0], found[1]


def quality_of(luma: Table) -> int | None:
    """The quality with this luma table, or None where an encoder has tables of its own."""
    return next((quality for quality in range(100, 0, -1) if tables_of(quality)[0] == tuple(luma)), None)


def transposed(table: Table) -> Table:
    """The table with rows and columns swapped, which a picture has that was turned by a quarter."""
    return tuple(table[8 * column + row] for row in range(8) for column in range(8))


def is_own_table(luma: Table, quality: int) -> bool:
    """Whether the table is not libjpeg's for this quality, as it is or turned; the step of the mean is left out."""
    known, _ = tables_of(quality)
    return luma[1:] not in (known[1:], transposed(known)[1:])


def quality_words(quality: int, *, own_table: bool) -> str:
    """How a person reads a quality of JPEG, or of an encoder with a table of its own."""
    return f"of an encoder's own table, near quality {quality}" if own_table else f"quality {quality}"


def nearest_quality(luma: Table) -> int:
    """The quality with the luma table most like this one, by the logarithms of its numbers."""
    return int(np.abs(_log_tables() - np.log(luma)).sum(1).argmin()) + 1


@cache
def _log_tables() -> np.ndarray:
    """100 64: logarithms of the luma tables of qualities 1 to 100."""
    return np.log([tables_of(quality)[0] for quality in range(1, 101)])


def read_tables(data: bytes) -> tuple[Table, Table, bool] | None:
    """Tables of luma and chroma, and whether chroma was averaged over 2x2 pixels, from a JPEG file's header.

    None where the bytes are no JPEG file, or one that cannot be read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            tables: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]  # JPEG images have it
            layers = image.layer  # type: ignore[attr-defined]  # (id, horizontal, vertical, table) of each component
    except Exception:  # as every decoder, it raises anything on damaged bytes, and damaged bytes have no tables
        return None
    if not tables or not all(len(table) == 64 and min(table) > 0 for table in tables.values()):
        return None
    found = [tuple(tables.get(number, tables[min(tables)])) for number in (layers[0][3], layers[-1][3])]
    halved = len(layers) == 3 and layers[0][1] * layers[0][2] == 4 and layers[1][1] * layers[1][2] == 1
    return found[0], found[1], halved


def compress(x: Tensor, luma: Table, chroma: Table, *, halved: bool = True) -> Tensor:
    """What is left of `B C H W` in [0, 1] after JPEG: 8-bit levels, as a decoder gives them.

    Args:
        x: images; each begins with a whole block.
        luma, chroma: the tables.
        halved: whether chroma is averaged over 2x2 pixels (4:2:0), as most encoders do.
    """
    levels = _rounded(x.float().clamp(0, 1) * 255)
    if x.shape[1] == 1:
        return _rounded(_quantised(levels, luma).clamp(0, 255)) / 255
    matrix, back = _constant("to YCbCr", levels.dtype, levels.device), _constant("to RGB", levels.dtype, levels.device)
    y, *others = (matrix @ levels.flatten(2)).unflatten(2, levels.shape[2:]).split(1, 1)
    y = _rounded(_quantised(_rounded(y), luma).clamp(0, 255))
    chroma_planes = torch.cat(others, 1)
    if halved:
        height, width = x.shape[-2:]
        padded = F.pad(chroma_planes, (0, width % 2, 0, height % 2), mode="replicate")
        small = _quantised(_rounded(F.avg_pool2d(padded, 2)), chroma, offset=0)
        small = _rounded(small.clamp(-128, 127))
        # libjpeg's "fancy upsampling" weighs neighbours 3 : 1, which is linear interpolation.
        large = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        chroma_planes = large[..., :height, :width]
    else:
        chroma_planes = _quantised(_rounded(chroma_planes), chroma, offset=0).clamp(-128, 127)
    planes = torch.cat([y, _rounded(chroma_planes)], 1)
    rgb = (back @ planes.flatten(2)).unflatten(2, levels.shape[2:])
    return _rounded(rgb.clamp(0, 255)) / 255


def block_coefficients(levels: Tensor) -> Tensor:
    """Orthonormal cosine transform of the whole 8x8 blocks of `B H W` (0 to 255): `B n m 8 8`."""
    blocks = (levels - 128)[:, : levels.shape[1] // 8 * 8, : levels.shape[2] // 8 * 8].unfold(1, 8, 8).unfold(2, 8, 8)
    transform = _constant("cosines", levels.dtype, levels.device)
    return transform @ blocks @ transform.T


def _quantised(levels: Tensor, table: Table, offset: float = 128) -> Tensor:
    """`B C H W` with the coefficients of its blocks rounded to multiples of the table."""
    height, width = levels.shape[-2:]
    padded = F.pad(levels, (0, -width % 8, 0, -height % 8), mode="replicate") - offset
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
    transform = _constant("cosines", levels.dtype, levels.device)
    steps = _constant(table, levels.dtype, levels.device).reshape(8, 8)
    coefficients = _rounded(transform @ blocks @ transform.T / steps) * steps
    back = (transform.T @ coefficients @ transform).transpose(3, 4).reshape(padded.shape)
    return back[..., :height, :width] + offset


def _rounded(x: Tensor) -> Tensor:
    """Rounded, with the gradient of not rounding."""
    return x + (x.round() - x).detach() if x.requires_grad else x.round()


_COSINES = torch.from_numpy(
    np.array(
        [[math.sqrt((1 + (u > 0)) / 8) * math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)] for u in range(8)],
        dtype=np.float32,
    )
)


# JFIF 1.02, full range, chroma about 0.
_TO_YCBCR = torch.tensor([LUMA, [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

_CONSTANTS = {"cosines": _COSINES, "to YCbCr": _TO_YCBCR, "to RGB": torch.linalg.inv(_TO_YCBCR)}


@lru_cache(maxsize=128)
def _constant(of: str | Table, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A matrix of `_CONSTANTS`, or a table, on a device, copied once: to copy it makes the host wait for a GPU."""
    return _CONSTANTS[of].to(device, dtype) if isinstance(of, str) else torch.tensor(of, dtype=dtype).to(device)
