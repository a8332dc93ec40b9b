"""Write TIFF files by tifffile, with EXIF's sub-directories, which it has no writer for."""

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import tifffile

from zssr_gan.errors import ImageError
from zssr_gan.imaging.metadata import RATINGS, directory_bytes, text_of, tiff_directories, tiff_numbers, tiff_texts
from zssr_gan.imaging.picture import Metadata, Samples
from zssr_gan.imaging.profiles import profile_for

_CLASSIC_LIMIT = 2**32 - 2**20  # classic TIFF holds 32-bit offsets; a little is kept for directories

_DESCRIPTION, _XMP, _IPTC = 270, 700, 33723

_BYTE, _ASCII, _SHORT, _LONG = 1, 2, 3, 4


def encode_tiff(samples: Samples, metadata: Metadata, text: Mapping[str, str]) -> bytes:
    """A TIFF file of `samples` (`H W C`), Deflate with prediction; `text` goes into ImageDescription as a JSON object.

    An ImageDescription of the EXIF block is kept as a key of that object. Raises ImageError above 4 GiB.
    """
    if samples.nbytes > _CLASSIC_LIMIT:
        raise ImageError("the result is larger than the 4 GiB that a TIFF file holds; write PNG")
    texts = tiff_texts(metadata.exif)
    description = texts.pop(_DESCRIPTION, None)
    if text or metadata.texts:
        own = {} if description is None else {"ImageDescription": text_of(description)}
        description = json.dumps({**own, **dict(metadata.texts), **text}).encode()
    grayscale = samples.shape[2] <= 2
    icc, _ = profile_for(metadata, 1 if grayscale else 3)
    numbers = tiff_numbers(metadata.exif)
    blocks = {_XMP: metadata.xmp, _IPTC: metadata.iptc}
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples[:, :, 0] if samples.shape[2] == 1 else samples,
        byteorder="<",
        photometric="minisblack" if grayscale else "rgb",
        planarconfig=None if samples.shape[2] == 1 else "contig",
        extrasamples=["unassalpha"] if samples.shape[2] in (2, 4) else None,
        compression="zlib",
        compressionargs={"level": 6},
        predictor=True,
        rowsperstrip=64,
        iccprofile=icc,
        resolution=metadata.dpi,
        resolutionunit=None if metadata.dpi is None else "inch",
        description=None if description is None else description + b"\0",
        metadata=None,
        software=False,
        extratags=[
            *((tag, _ASCII, 0, value + b"\0", True) for tag, value in texts.items()),
            *((tag, _SHORT if tag in RATINGS else _BYTE, len(n), n, True) for tag, n in numbers.items()),
            *((tag, _BYTE, len(value), value, True) for tag, value in blocks.items() if value),
        ],
    )
    if directories := tiff_directories(metadata.exif):
        _append_directories(buffer, directories)
    return buffer.getvalue()


def _append_directories(buffer: io.BytesIO, directories: Mapping[int, dict[int, Any]]) -> None:
    """Add EXIF's sub-directories to a finished file, which tifffile has no writer for.

    They go to its end, and behind them a copy of the main directory that points at them: the offsets in its
    entries are absolute, so they hold from there too.
    """
    buffer.seek(4)
    buffer.seek(*struct.unpack("<L", buffer.read(4)))
    (count,) = struct.unpack("<H", buffer.read(2))
    entries = [buffer.read(12) for _ in range(count)]
    for tag, fields in directories.items():
        offset = _even_end(buffer)
        buffer.write(directory_bytes(tag, fields, offset))
        entries.append(struct.pack("<HHLL", tag, _LONG, 1, offset))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    offset = _even_end(buffer)
    buffer.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
    buffer.seek(4)
    buffer.write(struct.pack("<L", offset))


def _even_end(buffer: io.BytesIO) -> int:
    """Move to the end, or one byte beyond it: directories begin at even offsets."""
    end = buffer.seek(0, io.SEEK_END)
    return end + buffer.write(bytes(end % 2))
