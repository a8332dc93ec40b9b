"""Read TIFF files by tifffile and imagecodecs.

Pillow cuts 16-bit colour to 8 bits, and its libtiff writes what is wrong with a file to the terminal. tifffile gets one
directory, of the picture, with the fields that say how its pixels are stored: what is ill beside them costs no pixels.
Source: TIFF 6.0 (Adobe, 1992) and its supplements; tags and codes are named there.
"""

import io
import lzma
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from zssr_gan.errors import ImageError
from zssr_gan.imaging.directory import Block, Directory, exif_of, tiff_file
from zssr_gan.imaging.jpeg import checked_size
from zssr_gan.imaging.metadata import (
    IPTC_MARK,
    RATINGS,
    TEXTS,
    UTF16_TEXTS,
    cmyk_to_rgb,
    iptc_of_photoshop,
    orientation_in,
    resolution_in,
)
from zssr_gan.imaging.picture import Decoded, Samples, check_size

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _LENGTH, _PHOTOMETRIC = 254, 255, 256, 257, 262
_SUB_DIRECTORIES, _XMP, _IPTC, _PHOTOSHOP, _ICC = 330, 700, 33723, 34377, 34675
COLOUR_TAGS = (301, 318, 319)  # transfer function, white point, primaries

_STORAGE: Final = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339, 347,
     529, 530, 531, 532, 32997, 32998}
)  # fmt: skip
"""Tags that say how pixels are stored."""

_EXIF: Final = frozenset({34665, 34853})

# None, three of CCITT (fax), LZW, JPEG, Deflate (two codes), PackBits, LZMA, Zstandard: what cameras, scanners and
# libraries write. The exotic rest (JPEG 2000, JPEG XR, ...) is a wider door for hostile files than it is worth.
_NONE, _LZW, _JPEG, _PACKBITS, _LZMA, _ZSTANDARD, _DEFLATE = 1, 5, 7, 32773, 34925, 50000, (8, 32946)

_COMPRESSIONS = (_NONE, 2, 3, 4, _LZW, _JPEG, *_DEFLATE, _PACKBITS, _LZMA, _ZSTANDARD)

_MOST_CHANNELS = 64  # a program writes up to 56; tifffile takes memory for as many as the header says
_LARGEST_STRIP = 2**26  # bytes of one that is padded beyond the picture

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)


def decode_tiff(data: bytes, max_pixels: float) -> Decoded:
    """Take a TIFF file apart. Raises ImageError (without the file's name), and anything on damaged bytes."""
    notices: list[str] = []
    block = Block(data)
    places = _picture_among(block, notices)
    stored = places[0]
    if _STORAGE & set(stored.ill):
        raise ImageError.damaged("TIFF", "a field of its header exceeds the file")
    if stored.ill:
        names = ", ".join(map(str, stored.ill))
        notices.append(f"Damaged fields of its TIFF header (tags {names}) were left out.")
    alone = block.with_directory([block.copied_entry(e) for tag, e in sorted(stored.fields.items()) if tag in _STORAGE])
    icc = _raw(block, places, _ICC)
    with tifffile.TiffFile(io.BytesIO(alone)) as file:
        page = file.pages.first
        check_size(page.imagewidth, page.imagelength * page.imagedepth, max_pixels, page.samplesperpixel)
        _check_samples(page)
        _check_storage(page, data, max_pixels)
        by_libtiff = page.compression in (_LZW, _PACKBITS) or _may_be_padded(page)
        unpacked = _unpacked(block, stored, page, data) if by_libtiff else alone
    with tifffile.TiffFile(io.BytesIO(unpacked)) as file:
        page = file.pages.first
        samples, more = _colours(page, _channels_last(page), icc)
        if page.photometric == _CMYK:
            icc = None
    notices += more
    exif = _exif(block, places, notices)
    colour, said = tiff_colour(*(block.numbers(stored.fields.get(tag)) for tag in COLOUR_TAGS))
    notices += () if icc else said
    iptc = _raw(block, places, _IPTC)
    if iptc and iptc[0] != IPTC_MARK and iptc[3:4] == bytes([IPTC_MARK]):  # put there as numbers of the other order
        iptc = np.frombuffer(iptc[: len(iptc) // 4 * 4], ">u4").astype("<u4").tobytes()
    iptc = iptc or iptc_of_photoshop(_raw(block, places, _PHOTOSHOP) or b"")
    return Decoded(
        samples, exif, icc, resolution_in(block, stored), tuple(notices), _raw(block, places, _XMP), iptc,
        {} if icc else colour, orientation=_orientation(block, places),
    )  # fmt: skip


def description(data: bytes) -> bytes | None:
    """The ImageDescription of a TIFF file, or None. Raises struct.error or KeyError on a damaged one."""
    block = Block(data)
    return block.raw(block.directory(block.first).fields.get(270))


def _picture_among(block: Block, notices: list[str]) -> list[Directory]:
    """The directory of the picture, then the one that it is a sub-directory of, if it is one.

    Reduced previews and transparency masks beside a picture are no pages. Where only previews stand in the chain of
    pages, as in raw files, the largest sub-directory that is none is taken. Raises ImageError on several pages.
    """
    pages: list[Directory] = []
    at, seen = block.first, set[int]()
    while at and at not in seen:
        seen.add(at)
        try:
            pages.append(block.directory(at))
        except struct.error:
            if not pages:
                raise
            notices.append("The list of its pages is damaged behind the first.")
            break
        at = pages[-1].following
    pictures = [page for page in pages if not (_is_mask(block, page) or _is_preview(block, page))]
    if any(_is_mask(block, page) for page in pages) and len(pages) > 1:
        notices.append("A transparency mask beside the picture was left out.")
    if len(pictures) > 1:
        raise ImageError(f"has {len(pictures)} pages, and only single images are read; split it first")
    if pictures:
        return pictures
    found = [[sub, page] for page in pages for sub in _sub_directories(block, page)]
    found = [pair for pair in found if not (_is_mask(block, pair[0]) or _is_preview(block, pair[0]))]
    found = found or [[page] for page in pages if not _is_mask(block, page)]
    if not found:
        raise ImageError("holds a transparency mask, and no picture")
    return max(found, key=lambda pair: math.prod(_number(block, pair[0], tag) for tag in (_WIDTH, _LENGTH)))


def _number(block: Block, page: Directory, tag: int) -> int:
    return int((*block.numbers(page.fields.get(tag)), 0)[0])


def _is_preview(block: Block, page: Directory) -> bool:
    return bool(_number(block, page, _SUBFILE_TYPE) & 1) or _number(block, page, _OLD_SUBFILE_TYPE) == 2


def _is_mask(block: Block, page: Directory) -> bool:
    return bool(_number(block, page, _SUBFILE_TYPE) & 4) or _number(block, page, _PHOTOMETRIC) == _MASK


def _sub_directories(block: Block, page: Directory) -> list[Directory]:
    return [block.directory(int(at)) for at in block.numbers(page.fields.get(_SUB_DIRECTORIES))[:64]]


def _raw(block: Block, places: Sequence[Directory], tag: int) -> bytes | None:
    return next((block.raw(place.fields[tag]) for place in places if tag in place.fields), None)


def _orientation(block: Block, places: Sequence[Directory]) -> int:
    return next((turn for place in places if (turn := orientation_in(block, place)) != 1), 1)


def _exif(block: Block, places: Sequence[Directory], notices: list[str]) -> bytes | None:
    """The EXIF block of what describes the picture, not its storage: texts, ratings, how and where it was taken."""
    fields = {tag: entry for place in reversed(places) for tag, entry in place.fields.items()}
    directories: dict[int, Directory] = {}
    for tag in _EXIF & fields.keys():
        try:
            directories[tag] = block.directory(int(block.numbers(fields[tag])[0]))
        except (struct.error, IndexError):
            notices.append(f"Its EXIF data (TIFF tag {tag}) could not be read and was left out.")
    kinds = dict.fromkeys((*TEXTS, *UTF16_TEXTS), (1, 2, 7)) | dict.fromkeys(RATINGS, (1, 3, 4))
    own = {tag: entry for tag, entry in fields.items() if entry.kind in kinds.get(tag, ())}
    return exif_of(block, own, directories) if own or directories else None


def tiff_colour(
    transfer: Sequence[float], white: Sequence[float], primaries: Sequence[float]
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """PNG's chunks for white point and primaries of a TIFF, whose curve is a power of 2.2 unless said; and notices."""
    left_out = "Its transfer function (TIFF tag 301), which is no colour profile, was left out."
    notices = (left_out,) if transfer else ()
    if len(white) != 2 or len(primaries) != 6 or not all((*white, *primaries)) or max(*white, *primaries) > 1:
        return {}, notices
    xy = (round(value * 1e5) for value in (*white, *primaries))
    return {"gAMA": struct.pack(">L", 45455), "cHRM": struct.pack(">8L", *xy)}, notices


def _check_samples(page: tifffile.TiffPage) -> None:
    bits: object = page.bitspersample  # tifffile promises an integer, and gives a tuple where channels differ
    if not isinstance(bits, int):
        raise ImageError("holds channels of several depths; those of one depth are read")
    if page.samplesperpixel > _MOST_CHANNELS:
        raise ImageError(f"holds {page.samplesperpixel} channels; at most {_MOST_CHANNELS} are read")
    if page.sampleformat not in (1, 4) or bits not in (1, 2, 4, 8, 16):  # unsigned or undefined
        kind = {2: "signed", 3: "floating-point"}.get(page.sampleformat, "such")
        raise ImageError(f"holds {kind} samples of {bits} bits; unsigned ones of up to 8, and of 16 bits, are read")
    if page.compression not in _COMPRESSIONS:
        raise ImageError(f"is compressed in a way that is not read (TIFF code {int(page.compression)})")
    subsampled = page.photometric == _YCBCR and page.compression != _JPEG
    deep = bits == 16 and page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
    if page.photometric not in range(7) or subsampled or deep:
        raise ImageError(f"holds colours in a way that is not read at {bits} bits (TIFF code {int(page.photometric)})")


def _check_storage(page: tifffile.TiffPage, data: bytes, max_pixels: float) -> None:
    """Compare the header with the file: tifffile fills missing parts with zeros, and trusts a header's sizes."""
    parts = [(start, start + length) for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not parts or any(not start < end <= len(data) for start, end in parts):
        raise ImageError.damaged("TIFF", "pixels that its header names are missing")
    if page.compression in (_NONE, _LZMA, *_DEFLATE):
        _check_lengths(page, data, parts)
    part_pixels = math.prod(page.chunks)
    if part_pixels > 4 * max_pixels * page.samplesperpixel:
        raise ImageError("the TIFF file is damaged (its tiles are larger than the limit for a picture)")
    # A JPEG brings a size of its own, for which its decoder takes memory.
    sizes = (checked_size(data[start:end]) for start, end in parts if page.compression == _JPEG)
    if any(math.prod(size) > 4 * part_pixels for size in sizes):
        raise ImageError("the TIFF file is damaged (its JPEG parts are larger than its header says)")


def _sizes(page: tifffile.TiffPage) -> Iterator[tuple[int, int, int]]:
    """Of each strip or tile: bytes of a row, rows that the picture needs of it, and rows that it may hold."""
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    columns, rows = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    row_bytes = (columns * samples * page.bitspersample + 7) // 8
    strips = -(-page.imagelength // rows)
    said = page.tags.valueof(278, default=rows)  # more than the picture has, where tifffile gives those of the picture
    most = said if rows < said <= _LARGEST_STRIP // row_bytes and not page.is_tiled else rows
    for number in range(len(page.dataoffsets)):
        yield row_bytes, rows if page.is_tiled else min(rows, page.imagelength - number % strips * rows), most


def _may_be_padded(page: tifffile.TiffPage) -> bool:
    """Whether the last strip may hold more rows than the picture: tifffile's Deflate and Zstandard fail on such."""
    return page.compression in (_ZSTANDARD, *_DEFLATE) and any(left < rows for _, left, rows in _sizes(page))


def _check_lengths(page: tifffile.TiffPage, data: bytes, parts: Sequence[tuple[int, int]]) -> None:
    """Hold each strip or tile against the header, those by Deflate or LZMA unpacked to their checksum.

    tifffile stops at the last pixel, and fills what is missing with zeros.
    """
    for (start, end), (row_bytes, left, rows) in zip(parts, _sizes(page), strict=True):
        if page.compression == _NONE:
            if end - start < left * row_bytes:
                raise ImageError.damaged("TIFF", "a part is shorter than its header says")
            continue
        if page.compression == _LZMA:
            _check_lzma(data[start:end], left * row_bytes, rows * row_bytes)
            continue
        stream, size, rest = zlib.decompressobj(), 0, data[start:end]
        while not stream.eof and rest and size <= rows * row_bytes:
            size += len(stream.decompress(rest, 2**20))
            rest = stream.unconsumed_tail
        if not stream.eof or size not in (left * row_bytes, rows * row_bytes):
            raise ImageError.damaged("TIFF", "a deflated part does not fit its header")


def _check_lzma(part: bytes, least: int, most: int) -> None:
    """Unpack a part to the end of its stream, where its check stands. Raises lzma.LZMAError or ImageError."""
    stream, size = lzma.LZMADecompressor(), 0
    while not stream.eof and size <= most and (part or not stream.needs_input):
        size += len(stream.decompress(part, 2**20))
        part = b""
    if not stream.eof or size < least:
        raise ImageError.damaged("TIFF", "an LZMA part does not fit its header")


def _unpacked(block: Block, stored: Directory, page: tifffile.TiffPage, data: bytes) -> bytes:
    """The picture's file with Deflate, without padded strips, in the place of what libtiff unpacks.

    tifffile takes imagecodecs' own decoder, which does not check the first code of an LZW table: a damaged one ends the
    process. Raises imagecodecs.TiffError on damaged parts, those too short included.
    """
    order = block.order

    def unpacked(start: int, length: int, row_bytes: int, rows: int) -> bytes:
        head = {256: row_bytes, 257: rows, 258: 8, 259: page.compression, 262: 1, 266: page.fillorder, 278: rows}
        fields = {tag: (4, 1, struct.pack(order + "L", number)) for tag, number in head.items()}
        part: NDArray[np.uint8] = imagecodecs.tiff_decode(tiff_file(order, fields, [data[start : start + length]]))
        return zlib.compress(part.tobytes(), 0)  # stored: without compression, tifffile does not undo a prediction

    places = zip(page.dataoffsets, page.databytecounts, _sizes(page), strict=True)
    parts = (unpacked(start, length, row_bytes, rows) for start, length, (row_bytes, rows, _) in places)
    storage = {tag: entry for tag, entry in stored.fields.items() if tag in _STORAGE - {266}}
    fields = {tag: (entry.kind, entry.count, block.raw(entry) or b"") for tag, entry in storage.items()}
    return tiff_file(order, fields | {259: (3, 1, struct.pack(order + "H", _DEFLATE[0]))}, parts)


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
    raise ImageError(f"holds pixels in more than two dimensions ({page.axes}), which are not read")


def _colours(page: tifffile.TiffPage, stored: Samples, icc: bytes | None) -> tuple[Samples, list[str]]:
    """Gray or RGB with straight alpha, in 8 or 16 bits, and notices."""
    top = 2**page.bitspersample - 1
    if page.photometric == _PALETTE:
        if page.colormap is None:
            raise ImageError("the TIFF file is damaged (it has a palette image without a palette)")
        # As libtiff has it: where no entry is above 255, 8-bit values were put where 16-bit ones belong.
        palette = page.colormap if page.colormap.max() <= 255 else page.colormap >> 8
        coloured = palette.astype(np.uint8).T[stored[:, :, 0].astype(np.uint8)]
        return _with_alpha(
            np.concatenate([coloured, stored[:, :, 1:]], 2), 3, [int(kind) for kind in page.extrasamples]
        )
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
        # Where alpha is 0 the colours are left as they are stored.
        straight = colour * np.where(alpha == 0, 1, top / np.maximum(alpha, 1, dtype=np.float32))
        colour = colour.copy()
        colour[...] = np.minimum(np.rint(straight), top)
        notices.append("Colours premultiplied by alpha were divided by it.")
    if extra[:1] in ([associated], [unassociated]):
        colour = np.concatenate([colour, alpha], axis=2)
    if colour.shape[2] < samples.shape[2]:
        dropped = samples.shape[2] - colour.shape[2]
        notices.append(f"{dropped} channel(s) that are neither colour nor alpha were left out.")
    return colour, notices
