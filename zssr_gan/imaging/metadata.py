"""EXIF, colour profiles and resolution: what is checked and repaired when an image file is read.

Sources: EXIF 2.32 (JEITA CP-3451E) for the block and its orientation tag; ICC.1:2022, section 7.2, for profiles.
"""

import io
import struct
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from zssr_gan.imaging.picture import Samples

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
