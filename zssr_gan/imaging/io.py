"""Image files to pictures and back: the one door through which pixels come in and go out.

A file's header is checked first; only then are pixels decoded. Whatever a decoder raises on damaged bytes becomes one
ImageError of one sentence.
"""

import contextlib
import io
import json
import logging
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from zssr_gan.errors import ImageError
from zssr_gan.imaging.picture import Decoded, Metadata, Picture, Samples, check_size, from_samples, quantise, to_samples

# EXIF, colour profiles and resolution: what is checked and mended when a file is read.
#
# Sources: EXIF 2.32 (JEITA CP-3451E) for the block and its orientation tag; ICC.1:2022, section 7.2, for profiles.


# TIFF's text tags that describe the picture, not its storage: document, description, make, model, software, date,
# artist, host, copyright.
_DESCRIPTIVE = (269, 270, 271, 272, 305, 306, 315, 316, 33432)

_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))

_PREFIX = b"Exif\x00\x00"

_ORIENTATION = 0x0112


def upright_exif(raw: bytes) -> tuple[int, bytes]:
    """The orientation (1 to 8) that an EXIF block asks for, and the block with the tag reset to 1.

    Every other byte stays where it is, so that maker notes, which hold offsets into the block, stay readable.
    Raises some exception where the block cannot be read or could not be written into a TIFF file.
    """
    exif = raw.removeprefix(_PREFIX)
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (start,) = struct.unpack_from(order + "L", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    orientation = 1
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(order + "H", exif, entry)
        if tag == _ORIENTATION:
            (orientation,) = struct.unpack_from(order + "H", exif, entry + 8)
            exif = exif[: entry + 8] + struct.pack(order + "HH", 1, 0) + exif[entry + 12 :]
    for tag, fields in tiff_directories(exif).items():
        directory_bytes(tag, fields, 0)
    return (orientation if 1 <= orientation <= 8 else 1), exif


def tiff_texts(exif: bytes | None) -> dict[int, str]:
    """What a block says of the picture in words, by TIFF tag."""
    block = _load(exif)
    return {tag: str(block[tag]) for tag in _DESCRIPTIVE if tag in block}


def tiff_directories(exif: bytes | None) -> dict[int, dict[int, Any]]:
    """The sub-directories of a block (how it was taken; where) by the TIFF tag that points at them."""
    block = _load(exif)
    return {tag: dict(fields) for tag in _DIRECTORIES if (fields := block.get_ifd(tag))}


def directory_bytes(tag: int, fields: Mapping[int, Any], offset: int) -> bytes:
    """A sub-directory for a little-endian TIFF file in which it begins at byte `offset`."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II", group=tag)
    for key, value in fields.items():
        directory[key] = value
    return directory.tobytes(offset)


def _load(exif: bytes | None) -> Image.Exif:
    block = Image.Exif()
    if exif is not None:
        block.load(exif)
    return block


def turn_upright(samples: Samples, orientation: int) -> Samples:
    """The pixels (`H W C`) as they are to be seen, for an EXIF orientation of 1 to 8; a view, nothing is copied."""
    if orientation in (5, 6, 7, 8):
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def exif_of_tiff(data: bytes) -> bytes | None:
    """The EXIF block of a TIFF file, whose own directory holds what describes the picture beside how it is stored.

    Raises some exception where the directory cannot be read.
    """
    source = Image.Exif()
    source.load_from_fp(io.BytesIO(data))
    block = Image.Exif()
    for tag in (*_DESCRIPTIVE, _ORIENTATION):
        if tag in source:
            value = source[tag]
            # As bytes: Pillow reads text as Latin-1, but would write its accents as question marks.
            block[tag] = value.encode("latin-1", "replace") if isinstance(value, str) else value
    for directory in _DIRECTORIES:
        if entries := source.get_ifd(directory):
            block[directory] = entries
    return block.tobytes().removeprefix(_PREFIX) if len(block) else None


def profile_fits(icc: bytes, channels: int) -> bool:
    """Whether a profile is one for pictures of `channels` colours (1 gray, 3 RGB), by its header's colour space."""
    return len(icc) >= 128 and icc[36:40] == b"acsp" and icc[16:20] == {1: b"GRAY", 3: b"RGB "}[channels]


def plausible_dpi(dpi: object) -> tuple[float, float] | None:
    """The resolution in pixels an inch (x, y) where it is one: files hold zeros, infinities and nonsense there."""
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return (x, y) if 0.1 <= x <= 1e6 and 0.1 <= y <= 1e6 else None  # false for NaN as well


def cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """A CMYK image as sRGB, through its own profile where that works, and the sentence that says so."""
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is None:
            return image.convert("RGB"), "CMYK was converted to RGB by the plain formula: its profile is damaged."
        return converted, "CMYK was converted to sRGB through the embedded colour profile."
    return image.convert("RGB"), "CMYK was converted to RGB by the plain formula: it has no colour profile."


# PNG beyond what Pillow does: 16 bits in colour, and a writer for every depth with metadata and text.
#
# Pixels go through imagecodecs (libpng behind a typed, living package, which TIFF needs as well): Pillow cuts 16-bit
# colour to 8 bits, pypng is slow and untyped, OpenCV is larger and drops metadata. The ancillary chunks are spliced in
# behind the header. Source: PNG specification, third edition (W3C, 2025), sections 5 and 11.


SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER_END = 33  # signature 8, then IHDR: length 4, type 4, content 13, checksum 4

_INCH = 0.0254  # metres

_LEVEL = 4  # of 9: 48 megapixels in some 4 s; 6 takes four times as long for a file 2 % smaller


def bit_depth(data: bytes) -> int:
    """Bits of one sample (1, 2, 4, 8 or 16), from the header. Raises IndexError where that is cut off."""
    return data[24]


def decode_png16(data: bytes) -> Samples:
    """The pixels of a 16-bit PNG, `H W C` uint16, a transparent colour as alpha. Raises imagecodecs' errors."""
    samples = np.asarray(imagecodecs.png_decode(data))
    return samples if samples.ndim == 3 else samples[:, :, np.newaxis]


def encode_png(samples: Samples, metadata: Metadata, text: Mapping[str, str]) -> bytes:
    """A PNG file of `samples` (`H W C`); `text` goes into tEXt chunks, or iTXt where Latin-1 does not hold it.

    Raises ValueError where a key is not 1 to 79 Latin-1 characters.
    """
    plain = samples[:, :, 0] if samples.shape[2] == 1 else samples
    pixels = imagecodecs.png_encode(plain, _LEVEL)
    return b"".join([pixels[:_HEADER_END], *_ancillary(metadata, text), memoryview(pixels)[_HEADER_END:]])


def _ancillary(metadata: Metadata, text: Mapping[str, str]) -> Iterator[bytes]:
    if metadata.icc is not None:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi is not None:
        x, y = (round(dpi / _INCH) for dpi in metadata.dpi)
        yield _chunk(b"pHYs", struct.pack(">LLB", x, y, 1))
    if metadata.exif is not None:
        yield _chunk(b"eXIf", metadata.exif)
    for key, value in text.items():
        if not (1 <= len(key) <= 79 and key.isprintable() and max(key) <= "\xff"):
            raise ValueError(f"a PNG text key is 1 to 79 Latin-1 characters, not {key!r}")
        keyword = key.encode("latin-1")
        try:
            yield _chunk(b"tEXt", keyword + b"\0" + value.encode("latin-1"))
        except UnicodeEncodeError:
            # The zeros: end of the key, not compressed (two), no language, no translated key.
            yield _chunk(b"iTXt", keyword + b"\0\0\0\0\0" + value.encode())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


# TIFF in and out, through tifffile and imagecodecs.
#
# Not through Pillow, which cuts 16-bit colour to 8 bits, and whose libtiff tells the terminal what is wrong with a
# file.
# Source: TIFF 6.0 (Adobe, 1992) and its supplements; tags and codes are named there.


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
    kept: Samples = samples[:, :, :colours]
    notices: list[str] = []
    alpha = samples[:, :, colours : colours + 1]
    if extra[:1] == [associated]:
        top = np.iinfo(samples.dtype).max
        straight = kept * (top / np.maximum(alpha, 1, dtype=np.float32))
        kept = kept.copy()
        kept[...] = np.minimum(np.rint(straight), top)
        notices.append("Colours premultiplied by alpha were divided by it.")
    if extra[:1] in ([associated], [unassociated]):
        kept = np.concatenate([kept, alpha], axis=2)
    if kept.shape[2] < samples.shape[2]:
        dropped = samples.shape[2] - kept.shape[2]
        notices.append(f"{dropped} channel(s) that are neither colour nor alpha were left out.")
    return kept, notices


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
        kept = {} if description is None else {"ImageDescription": description}
        description = json.dumps({**kept, **text})
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


__all__ = ["Metadata", "Picture", "decode_picture", "encode_picture", "quantise", "read_picture", "read_provenance"]

_READABLE = "PNG, JPEG, TIFF, BMP and WebP"


# Pillow's modes and the one each is read as; those not named here (float, 32 bits, Lab, HSV) are refused.
_READ_AS = {
    "1": "L", "L": "L", "LA": "LA", "La": "LA",
    "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB",
}  # fmt: skip

_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}


# They report damage to their logs and go on: what matters of it is checked, and nothing is to reach the terminal.
for _library in ("tifffile", "imagecodecs"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

_one_at_a_time = threading.Lock()


def read_picture(path: Path, *, max_megapixels: float = 100.0) -> Picture:
    """Read an image file; its name opens the message of every error. Raises ImageError, as `decode_picture` does."""
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, not an image file.")
        if not path.is_file():
            raise ImageError(f"{path}: is not a file." if path.exists() else f"{path}: does not exist.")
        # Raw 16-bit RGBA is 8 bytes a pixel; far above it no picture within the limit is that large.
        if path.stat().st_size > 16e6 * max_megapixels + 2**26:
            raise ImageError(f"{path}: is too large a file for an image of at most {max_megapixels:g} megapixels.")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}).") from error
    return decode_picture(data, str(path), max_megapixels=max_megapixels)


def decode_picture(data: bytes, name: str, *, max_megapixels: float = 100.0) -> Picture:
    """Decode an image file's bytes: 8 or 16 bits by what the file says, gray stays gray, EXIF orientation applied.

    `name` opens the message of every error. Raises ImageError where the bytes are no image of a kind that is read, are
    damaged or truncated, hold no pixels, several pages, more than `max_megapixels` (10^6 pixels), or samples of a kind
    that is not read.
    """
    kind = _kind(data)
    if kind is None:
        what = f"is not an image of a kind that is read ({_READABLE})." if data else "is empty."
        raise ImageError(f"{name}: {what}")
    try:
        with _one_at_a_time, _pillow_quiet():
            pixels = max_megapixels * 1e6
            decoded = decode_tiff(data, pixels) if kind == "TIFF" else _decode_with_pillow(data, kind, pixels)
            return _assemble(decoded)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__
    except MemoryError as error:
        raise ImageError(f"{name}: needs more memory to decode than this machine gives.") from error
    except Exception as error:  # decoders raise anything on damaged bytes: struct.error, KeyError, zlib.error, ...
        reason = "" if isinstance(error, UnidentifiedImageError) else str(error).strip().partition("\n")[0]
        detail = f" ({reason})" if reason else ""
        raise ImageError(f"{name}: the {kind} file is damaged or truncated{detail}.") from error


def encode_picture(picture: Picture, extension: str, text: Mapping[str, str] = {}) -> bytes:
    """The file of a picture: `extension` is "png", "tif" or "tiff", with or without a dot; `text` is its provenance.

    The same picture and text give the same bytes: no time goes in. Raises ImageError for another kind of file.
    """
    kind = extension.lower().removeprefix(".")
    if kind not in ("png", "tif", "tiff"):
        raise ImageError(f"results are written as PNG or TIFF, not as {extension!r}.")
    encode = encode_png if kind == "png" else encode_tiff
    samples = to_samples(picture)
    with _one_at_a_time, _pillow_quiet():
        return encode(samples, picture.metadata, text)


def read_provenance(path: Path) -> dict[str, str]:
    """The text that `encode_picture` put into a PNG or TIFF file; empty where there is none. Raises ImageError."""
    try:
        data = path.read_bytes()
        with _one_at_a_time, _pillow_quiet():
            if _kind(data) == "PNG":
                with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                    return {str(key): value for key, value in image.info.items() if isinstance(value, str)}
            if _kind(data) == "TIFF":
                fields = json.loads(description(data) or "{}")
                return {key: str(value) for key, value in fields.items()} if isinstance(fields, dict) else {}
    except json.JSONDecodeError:
        return {}
    except Exception as error:  # as in decode_picture
        raise ImageError(f"{path}: its text cannot be read ({error}).") from error
    return {}


def _kind(data: bytes) -> str | None:
    """The kind of file, in Pillow's name for it, by its first bytes: names lie."""
    if data.startswith(SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(SIGNATURES):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


@contextlib.contextmanager
def _pillow_quiet() -> Iterator[None]:
    """Without Pillow's warnings and its limit of pixels, one number for the process: ours is per call.

    Both are global, so callers hold `_one_at_a_time`.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _decode_with_pillow(data: bytes, kind: str, max_pixels: float) -> Decoded:
    """Everything but TIFF: Pillow, with libpng for the pixels of 16-bit PNG."""
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        check_size(*image.size, max_pixels)
        notices: tuple[str, ...] = ()
        frames = getattr(image, "n_frames", 1)
        if image.format == "MPO":
            # Phones append depth and gain maps to a photograph in this way; the photograph comes first.
            notices = (f"The JPEG file holds {frames} pictures (MPO): the first, which viewers show, was taken.",)
        elif frames > 1:
            raise ImageError(f"is animated, with {frames} pages, and only single images are read; split it first.")
        image.load()
        exif, icc, dpi = (image.info.get(key) for key in ("exif", "icc_profile", "dpi"))
        if kind == "PNG" and bit_depth(data) == 16:
            samples: Samples | None = None
        else:
            samples, icc, more = _samples(image, icc)
            notices += more
    if samples is None:
        samples = decode_png16(data)
    return Decoded(samples, exif, icc, dpi, notices)


def _samples(image: Image.Image, icc: bytes | None) -> tuple[Samples, bytes | None, tuple[str, ...]]:
    """A loaded 8-bit Pillow image as `H W C` uint8, the profile that its colours are still in, and notices."""
    notices: tuple[str, ...] = ()
    if image.mode == "CMYK":
        converted, notice = cmyk_to_rgb(image, icc)
        icc, notices = None, (notice,)
    else:
        mode = _READ_AS.get(image.mode)
        if mode is None:
            raise ImageError(f"holds pixels of a kind that is not read (Pillow's mode {image.mode!r}).")
        if image.has_transparency_data:
            mode = _WITH_ALPHA.get(mode, mode)
        converted = image if image.mode == mode else image.convert(mode)
    samples = np.asarray(converted)
    return (samples if samples.ndim == 3 else samples[:, :, np.newaxis]), icc, notices


def _assemble(decoded: Decoded) -> Picture:
    """Turn the pixels upright and keep of the metadata what is sound."""
    notices = list(decoded.notices)
    exif, orientation = decoded.exif, 1
    if exif is not None:
        try:
            orientation, exif = upright_exif(exif)
        except Exception:  # a damaged EXIF block must not cost the pixels; its parser raises anything
            exif = None
            notices.append("Its EXIF data could not be read and was left out.")
    icc = decoded.icc
    if icc is not None and not profile_fits(icc, 1 if decoded.samples.shape[2] <= 2 else 3):
        icc = None
        notices.append("A colour profile that does not fit its pixels was left out.")
    metadata = Metadata(exif, icc, plausible_dpi(decoded.dpi))
    return from_samples(turn_upright(decoded.samples, orientation), metadata, tuple(notices))
