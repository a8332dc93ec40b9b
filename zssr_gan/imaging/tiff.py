"""Read and write TIFF files by tifffile and imagecodecs.

Pillow cuts 16-bit colour to 8 bits, and its libtiff writes what is wrong with a file to the terminal.
Source: TIFF 6.0 (Adobe, 1992) and its supplements; tags and codes are named there.
"""

import io
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from zssr_gan.errors import ImageError
from zssr_gan.imaging.metadata import cmyk_to_rgb, directory_bytes, exif_of_tiff, tiff_directories, tiff_texts
from zssr_gan.imaging.picture import Decoded, Metadata, Samples, check_size

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE_TYPE, _DESCRIPTION = 254, 270

_ASCII, _LONG = 2, 4

_CLASSIC_LIMIT = 2**32 - 2**20  # classic TIFF holds 32-bit offsets; a little is kept for directories


# None, three of CCITT (fax), LZW, JPEG, Deflate (two codes), PackBits, LZMA, Zstandard: what cameras, scanners and
# libraries write. The exotic rest (JPEG 2000, JPEG XR, ...) is a wider door for hostile files than it is worth.
_JPEG = 7

_COMPRESSIONS = (1, 2, 3, 4, 5, _JPEG, 8, 32946, 32773, 34925, 50000)


# Bytes of one value of each field type, BigTIFF's included.
_FIELD_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6


def decode_tiff(data: bytes, max_pixels: float) -> Decoded:
    """Take a TIFF file apart. Raises ImageError (without the file's name), and anything on damaged bytes."""
    pages = _count_pages(data)
    if pages > 1:
        raise ImageError(f"has {pages} pages, and only single images are read; split it first.")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        check_size(page.imagewidth, page.imagelength * page.imagedepth, max_pixels)
        _check_samples(page)
        _check_storage(page, data, max_pixels)
        icc = page.iccprofile
        samples, notices = _colours(page, _channels_last(page), icc)
        if page.photometric == _CMYK:
            icc = None
        dpi = _resolution(page)
    try:
        exif = exif_of_tiff(data)
    except Exception:  # damaged descriptions must not cost the pixels; Pillow raises anything on them
        exif = None
        notices.append("Its EXIF data could not be read and was left out.")
    return Decoded(samples, exif, icc, dpi, tuple(notices))


def _count_pages(data: bytes) -> int:
    """The number of pictures in a file; reduced previews beside them do not count.

    Holds every field of every directory against the file, before tifffile takes memory for as many values as a damaged
    one says, or follows directories in a circle.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset_format, count_format, field_format = ("Q", "Q", "HHQ") if big else ("L", "H", "HHL")
    field_head = struct.calcsize(order + field_format)
    (at,) = struct.unpack_from(order + offset_format, data, 8 if big else 4)
    pages, seen = 0, set()
    while at and at not in seen:
        seen.add(at)
        pages += 1
        (fields,) = struct.unpack_from(order + count_format, data, at)
        at += struct.calcsize(order + count_format)
        for _ in range(fields):
            tag, kind, values = struct.unpack_from(order + field_format, data, at)
            if values * _FIELD_BYTES.get(kind, 1) > len(data):
                raise ImageError("the TIFF file is damaged or truncated (a field of its header exceeds the file).")
            if tag == _SUBFILE_TYPE:
                (flags,) = struct.unpack_from(order + ("L" if kind == _LONG else "H"), data, at + field_head)
                pages -= flags & 1
            at += field_head + struct.calcsize(order + offset_format)
        (at,) = struct.unpack_from(order + offset_format, data, at)
    return pages


def _check_samples(page: tifffile.TiffPage) -> None:
    bits: object = page.bitspersample  # tifffile promises an integer, and gives a tuple where channels differ
    unsigned = {1: "", 4: ""}  # 4 is "undefined", which is read as unsigned
    kinds = {2: "signed", 3: "floating-point"}
    if page.sampleformat not in unsigned or bits not in (1, 2, 4, 8, 16):
        kind = kinds.get(page.sampleformat, "such")
        raise ImageError(f"holds {kind} samples of {bits} bits; unsigned ones of up to 8, and of 16 bits, are read.")
    if page.compression not in _COMPRESSIONS:
        raise ImageError(f"is compressed in a way that is not read (TIFF code {int(page.compression)}).")
    subsampled = page.photometric == _YCBCR and page.compression != _JPEG
    deep = bits == 16 and page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
    if page.photometric not in range(7) or subsampled or deep:
        raise ImageError(f"holds colours in a way that is not read at {bits} bits (TIFF code {int(page.photometric)}).")


def _check_storage(page: tifffile.TiffPage, data: bytes, max_pixels: float) -> None:
    """Hold the header against the file: tifffile fills missing parts with zeros, and believes a header's sizes."""
    parts = [(start, start + length) for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not parts or any(not start < end <= len(data) for start, end in parts):
        raise ImageError("the TIFF file is damaged or truncated (pixels that its header names are missing).")
    part_pixels = math.prod(page.chunks)
    if part_pixels > 4 * max_pixels * page.samplesperpixel:
        raise ImageError("the TIFF file is damaged (its tiles are larger than the limit for a picture).")
    if page.compression == _JPEG:
        for start, end in parts:
            # A JPEG brings a size of its own, for which its decoder takes memory.
            with Image.open(io.BytesIO(data[start:end]), formats=["JPEG"]) as part:
                if math.prod(part.size) > 4 * part_pixels:
                    raise ImageError("the TIFF file is damaged (its JPEG parts are larger than its header says).")


def _channels_last(page: tifffile.TiffPage) -> Samples:
    """The stored numbers, `H W C`."""
    stored = np.asarray(page.asarray())
    match page.axes:
        case "YX":
            return stored[:, :, np.newaxis]
        case "YXS":
            return stored
        case "SYX":
            return stored.transpose(1, 2, 0)
    raise ImageError(f"holds pixels in more than two dimensions ({page.axes}), which are not read.")


def _colours(page: tifffile.TiffPage, stored: Samples, icc: bytes | None) -> tuple[Samples, list[str]]:
    """Gray or RGB with straight alpha, in 8 or 16 bits, and notices."""
    top = 2**page.bitspersample - 1
    if page.photometric == _PALETTE:
        if page.colormap is None:
            raise ImageError("the TIFF file is damaged (it has a palette image without a palette).")
        palette = (page.colormap >> 8).astype(np.uint8)
        return palette.T[stored[:, :, 0]], []
    if stored.dtype != np.uint16 and top < 255:
        shades: NDArray[np.uint8] = np.linspace(0, 255, top + 1).astype(np.uint8)
        stored = shades[stored.astype(np.uint8)]
    if page.photometric == _CMYK:
        height, width = stored.shape[:2]
        inks = np.ascontiguousarray(stored[:, :, :4]).tobytes()
        image, notice = cmyk_to_rgb(Image.frombuffer("CMYK", (width, height), inks, "raw", "CMYK", 0, 1), icc)
        return np.asarray(image), [notice]
    if page.photometric == _WHITE_IS_ZERO:
        stored = np.concatenate([~stored[:, :, :1], stored[:, :, 1:]], axis=2)
    gray = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return _with_alpha(stored, 1 if gray else 3, [int(kind) for kind in page.extrasamples])


def _with_alpha(samples: Samples, colours: int, extra: list[int]) -> tuple[Samples, list[str]]:
    """Of the channels beyond the colours keep an alpha; where the colours were premultiplied by it, divide."""
    associated, unassociated = 1, 2
    colour: Samples = samples[:, :, :colours]
    notices: list[str] = []
    alpha = samples[:, :, colours : colours + 1]
    if extra[:1] == [associated]:
        top = np.iinfo(samples.dtype).max
        straight = colour * (top / np.maximum(alpha, 1, dtype=np.float32))
        colour = colour.copy()
        colour[...] = np.minimum(np.rint(straight), top)
        notices.append("Colours premultiplied by alpha were divided by it.")
    if extra[:1] in ([associated], [unassociated]):
        colour = np.concatenate([colour, alpha], axis=2)
    if colour.shape[2] < samples.shape[2]:
        dropped = samples.shape[2] - colour.shape[2]
        notices.append(f"{dropped} channel(s) that are neither colour nor alpha were left out.")
    return colour, notices


def _resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Pixels an inch in x and y, where the file says it in inches or centimetres."""
    per_inch = {2: 1.0, 3: 2.54}.get(page.tags.valueof(296, default=2))
    values = [page.tags.valueof(tag) for tag in (282, 283)]
    if per_inch is None or None in values:
        return None
    x, y = (numerator / denominator * per_inch if denominator else 0.0 for numerator, denominator in values)
    return x, y


def encode_tiff(samples: Samples, metadata: Metadata, text: Mapping[str, str]) -> bytes:
    """A TIFF file of `samples` (`H W C`), Deflate with prediction; `text` goes into ImageDescription as a JSON object.

    An ImageDescription of the EXIF block is kept as a key of that object. Raises ImageError above 4 GiB.
    """
    if samples.nbytes > _CLASSIC_LIMIT:
        raise ImageError("the result is larger than the 4 GiB that a TIFF file holds; write PNG.")
    texts = tiff_texts(metadata.exif)
    description = texts.pop(_DESCRIPTION, None)
    if text:
        own = {} if description is None else {"ImageDescription": description}
        description = json.dumps({**own, **text})
    grayscale = samples.shape[2] <= 2
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
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        resolutionunit=None if metadata.dpi is None else "inch",
        description=None if description is None else _ascii(description),
        metadata=None,
        software=False,
        extratags=[(tag, _ASCII, 0, _ascii(value), True) for tag, value in texts.items()],
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


def _ascii(text: str) -> bytes:
    # Pillow reads these tags as Latin-1, which is also what most writers put there.
    return text.encode("latin-1", "replace") + b"\0"


def description(data: bytes) -> str | None:
    """The ImageDescription of a TIFF file, or None. Raises tifffile's errors."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        value = file.pages.first.tags.valueof(_DESCRIPTION)
    return value if isinstance(value, str) else None
