"""Image files to pictures and back: the only way by which pixels come in and go out.

A file's header is checked before any pixel is decoded. Whatever a decoder raises on damaged bytes becomes one
ImageError of one sentence.

PNG is written by imagecodecs (libpng), with its ancillary chunks inserted behind the header, and 16-bit PNG is read by
it: Pillow cuts 16-bit colour to 8 bits. Source: PNG specification, third edition (W3C, 2025), sections 5 and 11.
"""

import contextlib
import io
import json
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, UnidentifiedImageError

from zssr_gan.errors import ImageError
from zssr_gan.imaging.metadata import cmyk_to_rgb, plausible_dpi, profile_fits, turn_upright, upright_exif
from zssr_gan.imaging.picture import Decoded, Metadata, Picture, Samples, check_size, from_samples, to_samples
from zssr_gan.imaging.tiff import SIGNATURES, decode_tiff, description, encode_tiff

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature 8, then IHDR: length 4, type 4, content 13, checksum 4
_INCH = 0.0254  # metres
_LEVEL = 4  # of 9: 48 megapixels in some 4 s; 6 takes four times as long for a file 2 % smaller
_BIT_DEPTH_AT = 24  # place of the header's byte

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
    if data.startswith(_PNG_SIGNATURE):
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
        if kind == "PNG" and data[_BIT_DEPTH_AT] == 16:
            samples: Samples | None = None
        else:
            samples, icc, more = _samples(image, icc)
            notices += more
    if samples is None:  # a transparent colour becomes alpha
        samples = _three_dimensional(np.asarray(imagecodecs.png_decode(data)))
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
    return _three_dimensional(np.asarray(converted)), icc, notices


def _three_dimensional(samples: Samples) -> Samples:
    return samples if samples.ndim == 3 else samples[:, :, np.newaxis]


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
