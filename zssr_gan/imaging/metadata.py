"""EXIF, XMP, IPTC, colour profiles and resolution: what is checked and repaired when an image file is read.

Sources: EXIF 2.32 (JEITA CP-3451E) for the block and its tags; ICC.1:2022, section 7.2, for profiles; XMP part 1
(ISO 16684-1) and IPTC-NAA IIM 4.2 for the two other blocks.
"""

import contextlib
import io
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from zssr_gan.imaging.directory import KINDS, WHOLE_NUMBERS, Block, Directory
from zssr_gan.imaging.picture import Decoded, Metadata, Picture, Samples, from_samples

# TIFF's text tags that describe the picture, not its storage: document, description, make, model, software, date,
# artist, host, copyright.
TEXTS = (269, 270, 271, 272, 305, 306, 315, 316, 33432)

# Windows' title, comment, author, keywords and subject: bytes of little-endian UTF-16, in a block of either order.
UTF16_TEXTS = range(0x9C9B, 0x9CA0)

RATINGS = (0x4746, 0x4749)  # Windows' stars, and percent

_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))

EXIF_PREFIX = b"Exif\x00\x00"

ORIENTATION, X_RESOLUTION, _Y_RESOLUTION, UNIT = 274, 282, 283, 296

_WIDTHS, _HEIGHTS = (256, 0xA002), (257, 0xA003)  # ImageWidth and PixelXDimension, and so on

TRANSPOSED = (5, 6, 7, 8)  # orientations that swap rows and columns

IPTC_MARK = 0x1C

_LARGEST_XMP = 2**24


def assemble(decoded: Decoded) -> Picture:
    """Turn the pixels upright and keep of the metadata what is sound; the rest is named in the notices."""
    notices = list(decoded.notices)
    channels = 1 if decoded.samples.shape[2] <= 2 else 3
    exif, icc, xmp, iptc = decoded.exif, decoded.icc, decoded.xmp, decoded.iptc
    orientation = decoded.orientation or 1
    if exif is not None:
        exif = exif.removeprefix(EXIF_PREFIX)
        try:
            orientation = decoded.orientation or _orientation(Block(exif))
            exif = upright_exif(exif, transposed=orientation in TRANSPOSED)
        except Exception:  # a damaged EXIF block must not cost the pixels; its parser raises anything
            exif = None
            notices.append("Its EXIF data could not be read and was left out.")
    if icc is not None and not profile_fits(icc, channels):
        icc = None
        notices.append("A colour profile that does not fit its pixels was left out.")
    if xmp is not None and (xmp := _upright_xmp(xmp)) is None:
        notices.append("Its XMP data could not be read and was left out.")
    if iptc is not None and iptc[:1] != bytes([IPTC_MARK]):
        iptc = None
        notices.append("Its IPTC data could not be read and was left out.")
    dpi = plausible_dpi(found := decoded.dpi or exif_dpi(decoded.exif))
    if dpi is None and isinstance(found, tuple) and any(found):
        notices.append("Its resolution (dpi) makes no sense and was left out.")
    if dpi is not None and orientation in TRANSPOSED:
        dpi = dpi[::-1]
    if decoded.samples.shape[2] in (2, 4) and not decoded.samples[:, :, -1].any():
        notices.append("Its alpha is 0 in every pixel: viewers show nothing of it, nor of the result.")
    colour, texts = tuple(decoded.colour.items()), tuple(decoded.texts.items())
    metadata = Metadata(exif, icc, dpi, xmp, iptc, colour, texts, decoded.background)
    return from_samples(turn_upright(decoded.samples, orientation), metadata, tuple(notices))


def _orientation(block: Block) -> int:
    return orientation_in(block, block.directory(block.first))


def orientation_in(block: Block, directory: Directory) -> int:
    """The orientation (1 to 8) that a directory asks for, in any type of whole numbers; 1 where it has none."""
    entry = directory.fields.get(ORIENTATION)
    if entry is None or KINDS.get(entry.kind, "s") not in WHOLE_NUMBERS:
        return 1
    values = block.numbers(entry)
    return int(values[0]) if values and values[0] in range(1, 9) else 1


def upright_exif(exif: bytes, *, transposed: bool = False) -> bytes:
    """An EXIF block for upright pixels: orientation 1, resolution of swapped axes swapped, no thumbnail.

    Every other byte stays where it is, so that maker notes, which hold offsets into the block, stay readable.
    Raises some exception where the block cannot be read or could not be written into a TIFF file.
    """
    block = Block(data := bytearray(exif))
    directory = block.directory(block.first)
    if entry := directory.fields.get(ORIENTATION):
        block.set_number(entry, 1)
    x, y = (directory.fields.get(tag) for tag in (X_RESOLUTION, _Y_RESOLUTION))
    if transposed and x and y:
        data[x.at + 2 : x.at + 12], data[y.at + 2 : y.at + 12] = data[y.at + 2 : y.at + 12], data[x.at + 2 : x.at + 12]
    if directory.following:
        _drop_thumbnails(block, directory)
    tiff_texts(bytes(data))
    for tag, fields in tiff_directories(bytes(data)).items():
        directory_bytes(tag, fields, 0)
    return bytes(data)


def of_size(metadata: Metadata, width: int, height: int) -> Metadata:
    """The metadata of pixels of this size: EXIF and XMP say it where they said one."""
    exif, xmp = metadata.exif, metadata.xmp
    if exif is not None:
        block = Block(data := bytearray(exif))
        first = block.directory(block.first)
        places = [first]
        with contextlib.suppress(struct.error, IndexError):  # without a directory of how it was taken
            places.append(block.directory(int(block.numbers(first.fields.get(int(ExifTags.IFD.Exif)))[0])))
        for tags, value in ((_WIDTHS, width), (_HEIGHTS, height)):
            for entry in (place.fields[tag] for place in places for tag in tags if tag in place.fields):
                block.set_long(entry, value)
        exif = bytes(data)
    if xmp is not None:
        for names, value in ((rb"exif:PixelXDimension|tiff:ImageWidth", width),
                             (rb"exif:PixelYDimension|tiff:ImageLength", height)):  # fmt: skip
            xmp = re.sub(rb"((?:%s)\s*=\s*[\"']|<(?:%s)>\s*)\d+" % (names, names), rb"\g<1>%d" % value, xmp)
    return replace(metadata, exif=exif, xmp=xmp)


def exif_of_turned(exif: bytes, orientation: int | None = None) -> bytes:
    """An EXIF block of pixels turned already, by `orientation` or its own: axes swapped; a damaged one as it is."""
    try:
        block = exif.removeprefix(EXIF_PREFIX)
        turned = (orientation or _orientation(Block(block))) in TRANSPOSED
        return upright_exif(block, transposed=True) if turned else exif
    except Exception:  # it is left out, and named, where the picture is assembled
        return exif


def _drop_thumbnails(block: Block, directory: Directory) -> None:
    """Zero what follows the first directory of a block, and cut it off where it is the block's end."""
    data = block.data
    assert isinstance(data, bytearray)
    spans, seen, at = [], {block.first}, directory.following
    data[directory.end - 4 : directory.end] = bytes(4)
    while at and at not in seen:
        seen.add(at)
        try:
            further = block.directory(at)
        except Exception:  # nothing points at it any more
            break
        if at < directory.end:
            raise ValueError("a thumbnail's directory lies in the first one")
        spans.append((at, further.end))
        for start, length in ((0x201, 0x202), (273, 279)):
            places, sizes = (block.numbers(further.fields.get(tag)) for tag in (start, length))
            spans += [(int(a), int(a + b)) for a, b in zip(places, sizes, strict=False) if a > directory.end]
        at = further.following
    for start, end in sorted(spans, reverse=True):
        end = min(end, len(data))
        if end >= len(data) - 1:  # a byte of padding may follow
            del data[start:]
        else:
            data[start:end] = bytes(max(0, end - start))


def _upright_xmp(xmp: bytes) -> bytes | None:
    """An XMP packet for upright pixels, without thumbnails; None where it is no XML."""
    xmp = xmp.rstrip(b"\0")
    try:
        if len(xmp) > _LARGEST_XMP or b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:
            return None
        ElementTree.fromstring(xmp.strip())
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    xmp = re.sub(rb"<(xmp|xap):Thumbnails>.*?</\1:Thumbnails>", b"", xmp, flags=re.DOTALL)
    xmp = re.sub(rb"(tiff:Orientation\s*=\s*[\"'])\d+", rb"\g<1>1", xmp)
    return re.sub(rb"(<tiff:Orientation>\s*)\d+", rb"\g<1>1", xmp)


def exif_dpi(exif: bytes | None) -> tuple[float, ...] | None:
    """The resolution that an EXIF block names, pixels an inch in x and y; None where it names none or is damaged."""
    if exif is None:
        return None
    try:
        block = Block(exif.removeprefix(EXIF_PREFIX))
        return resolution_in(block, block.directory(block.first))
    except Exception:  # as above
        return None


def resolution_in(block: Block, directory: Directory) -> tuple[float, ...] | None:
    """Pixels an inch in x and y, where a directory says it in inches or centimetres; 0 where that is no number."""
    unit = block.numbers(directory.fields.get(UNIT)) or (2,)
    entries = [directory.fields.get(tag) for tag in (X_RESOLUTION, _Y_RESOLUTION)]
    if None in entries or unit[0] not in (2, 3):
        return None
    return tuple((*block.numbers(entry), 0)[0] * (1.0 if unit[0] == 2 else 2.54) for entry in entries)


def _utf16(raw: bytes) -> str | None:
    """Text in UTF-16, by its byte order mark or, where most characters are of an alphabet, without; None if it is not.

    Alphabets lie below U+2000; text of one byte a character, read so, lies above, as Chinese without a mark does.
    """
    if re.fullmatch(rb"[\t\n\r -~]*\0*", raw):  # ASCII; tabs could pass for Devanagari
        return None
    raw += bytes(len(raw) % 2)  # where a single zero was taken for its end
    marked = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    found = {}
    for encoding in ("utf-16",) if marked else ("utf-16-le", "utf-16-be"):
        with contextlib.suppress(UnicodeDecodeError):
            text = raw.decode(encoding).rstrip("\0")
            alphabetic = 2 * sum(ord(one) < 0x2000 for one in text) > len(text) > 1
            if marked or (alphabetic and all(one.isprintable() or one in "\t\n\r" for one in text)):
                found[text] = len({ord(one) >> 8 for one in text})
    return min(found, key=lambda text: found[text], default=None)


def text_of(raw: bytes) -> str:
    """Text of a file whose encoding is not said: UTF-16 or UTF-8 where it is that, else Latin-1."""
    if (text := _utf16(raw)) is not None:
        return text
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def tiff_texts(exif: bytes | None) -> dict[int, bytes]:
    """What a block says of the picture in words, by TIFF tag, in the bytes of its own encoding, or UTF-8 for UTF-16."""
    if exif is None:
        return {}
    block = Block(exif)
    fields = block.directory(block.first).fields
    found = {}
    for tag in TEXTS:
        if value := block.raw(fields.get(tag)):
            text = _utf16(value)
            found[tag] = value.partition(b"\0")[0] if text is None else text.encode()
    return found


def tiff_numbers(exif: bytes | None) -> dict[int, tuple[int, ...]]:
    """Windows' texts (numbers of a byte) and ratings (numbers of two bytes) that a block holds, by TIFF tag."""
    if exif is None:
        return {}
    block = Block(exif)
    fields = block.directory(block.first).fields
    found = {tag: tuple(block.raw(fields.get(tag)) or b"") for tag in UTF16_TEXTS}
    ratings = {tag: fields[tag] for tag in RATINGS if tag in fields and fields[tag].kind in (1, 3, 4)}
    found |= {tag: tuple(map(int, block.numbers(entry))) for tag, entry in ratings.items()}
    return {tag: values for tag, values in found.items() if values and max(values) < 2**16}


def tiff_directories(exif: bytes | None) -> dict[int, dict[int, Any]]:
    """The sub-directories of a block (how it was taken; where) by the TIFF tag that points at them."""
    block = Image.Exif()
    if exif is not None:
        block.load(exif)
    found = {tag: dict(block.get_ifd(tag)) for tag in _DIRECTORIES}
    for fields in found.values():
        fields.pop(int(ExifTags.IFD.Interop), None)  # a pointer to a further directory, which is not carried
    return {tag: fields for tag, fields in found.items() if fields}


def directory_bytes(tag: int, fields: Mapping[int, Any], offset: int) -> bytes:
    """A sub-directory for a little-endian TIFF file in which it begins at byte `offset`."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II", group=tag)
    for key, value in fields.items():
        directory[key] = value
    return directory.tobytes(offset)


def turn_upright(samples: Samples, orientation: int) -> Samples:
    """The pixels (`H W C`) as they are to be seen, for an EXIF orientation of 1 to 8; a view, nothing is copied."""
    if orientation in TRANSPOSED:
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def exif_block(source: Image.Exif) -> bytes | None:
    """The EXIF block out of a TIFF file's directory, which holds what describes the picture beside how it is stored.

    Raises some exception where a directory cannot be read.
    """
    block = Image.Exif()
    for tag in (*TEXTS, *UTF16_TEXTS, *RATINGS):
        if tag in source:
            value = source[tag]
            # As bytes: Pillow reads text as Latin-1, but would write its accents as question marks.
            block[tag] = value.encode("latin-1", "replace") if isinstance(value, str) else value
    for directory in _DIRECTORIES:
        if entries := source.get_ifd(directory):
            block[directory] = entries
    return block.tobytes().removeprefix(EXIF_PREFIX) if len(block) else None


def iptc_of_photoshop(block: bytes) -> bytes | None:
    """The IPTC records among Photoshop's image resources, or None. Source: Adobe's file formats, 2019, table 1."""
    at = 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        (resource,) = struct.unpack_from(">H", block, at + 4)
        at += 6 + (block[at + 6] + 2) // 2 * 2  # a name of even length, its own length byte counted in
        if at + 4 > len(block):
            return None
        (size,) = struct.unpack_from(">L", block, at)
        if resource == 0x0404:
            return block[at + 4 : at + 4 + size]
        at += 4 + (size + 1) // 2 * 2
    return None


def profile_fits(icc: bytes, channels: int) -> bool:
    """Whether a profile is one for pictures of `channels` colours (1 gray, 3 RGB), by its header's colour space."""
    sound = len(icc) >= 128 and icc[36:40] == b"acsp" and 128 <= int.from_bytes(icc[:4]) <= len(icc)
    return sound and icc[16:20] == {1: b"GRAY", 3: b"RGB "}[channels]


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
