"""Image files to pictures and back: the only way by which pixels come in and go out.

A file's header is checked before any pixel is decoded. Whatever a decoder raises on damaged bytes becomes one
ImageError of one sentence.
"""

import contextlib
import json
import logging
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image

from zssr_gan.errors import ImageError
from zssr_gan.files import why_unreadable
from zssr_gan.imaging.endings import READ_KINDS
from zssr_gan.imaging.formats import DECODERS
from zssr_gan.imaging.jpeg import decode_jpeg
from zssr_gan.imaging.metadata import assemble, of_size, text_of
from zssr_gan.imaging.picture import Metadata, Picture, to_samples
from zssr_gan.imaging.png import SIGNATURE, decode_png, encode_png, png_texts
from zssr_gan.imaging.profiles import profile_for
from zssr_gan.imaging.tiff import SIGNATURES, decode_tiff, description
from zssr_gan.imaging.tiff_writer import encode_tiff
from zssr_gan.provenance import MAX_MEGAPIXELS

_NO_MEMORY = "needs more memory to decode than this machine gives"
_READABLE = f"{', '.join(READ_KINDS[:-1])} and {READ_KINDS[-1]}"

_DECODERS = {**DECODERS, "PNG": decode_png, "JPEG": decode_jpeg, "TIFF": decode_tiff}

_AVIF_BRANDS, _HEIF_BRANDS = (
    {b"avif", b"avis"},
    {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"},
)

# They report damage to their logs and go on: what matters of it is checked, and nothing is to reach the terminal.
for _library in ("tifffile", "imagecodecs"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

_one_at_a_time = threading.Lock()


def size_in_header(path: Path) -> tuple[int, int] | None:
    """Width and height that the header of an image file says; None where it cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return image.size
    except Exception:  # damaged headers raise anything, and their image has its own error when its turn comes
        return None


def read_picture(path: Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """Read an image file; its name opens the message of every error. Raises ImageError, as `decode_picture` does."""
    return decode_picture(read_image_bytes(path, max_megapixels), str(path), max_megapixels=max_megapixels)


def read_image_bytes(path: Path, max_megapixels: float = MAX_MEGAPIXELS, name: str = "") -> bytes:
    """The bytes of an image file, which is looked at first: one too large to be an image would fill the memory.

    `name` (the path where it is "") opens the message of every error. Raises ImageError where it is no file, cannot be
    read, or is larger than an image of `max_megapixels` (10^6 pixels) can be.
    """
    name = name or str(path)
    try:
        status = path.stat()
        size, reason = status.st_size, ""
        if stat.S_ISDIR(status.st_mode):
            reason = "is a folder, not an image file"
        elif not stat.S_ISREG(status.st_mode):
            reason = "is not a file"
        # Raw 16-bit RGBA is 8 bytes a pixel; far above it no picture within the limit is that large.
        elif size > 16e6 * max_megapixels + 2**26:
            reason = f"is too large a file ({size / 1e6:.0f} MB) for an image of at most {max_megapixels:g} megapixels"
        if not reason:
            return path.read_bytes()
    except OSError as error:
        reason = why_unreadable(path.absolute(), error)  # without the working directory
        raise ImageError(f"{name}: {why_unreadable(path, error)}", reason) from error
    except MemoryError as error:
        raise ImageError(f"{name}: {_NO_MEMORY}", _NO_MEMORY) from error
    raise ImageError(f"{name}: {reason}", reason)


def decode_picture(data: bytes, name: str, *, max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """Decode an image file's bytes: 8 or 16 bits by what the file says, gray stays gray, EXIF orientation applied.

    `name` opens the message of every error. Raises ImageError where the bytes are no image of a kind that is read, are
    damaged or truncated, hold no pixels, several pages, more than `max_megapixels` (10^6 pixels), or samples of a kind
    that is not read.
    """
    kind = _kind(data)
    if kind is None:
        what = f"is not an image of a kind that is read ({_READABLE})" if data else "is empty"
        if _is_video(data):
            what = "is a video: 'zssr-gan video frames' writes its frames as images"
        raise ImageError(f"{name}: {what}", what)
    try:
        with _one_at_a_time, _pillow_quiet():
            decoded = _DECODERS[kind](data, max_megapixels * 1e6)
            return replace(assemble(decoded), footage=decoded.footage, webp_step=decoded.webp_step)
    except ImageError as error:
        raise ImageError(f"{name}: {error}", error.reason) from error.__cause__
    except MemoryError as error:
        raise ImageError(f"{name}: {_NO_MEMORY}", _NO_MEMORY) from error
    except Exception as error:  # decoders raise anything on damaged bytes: struct.error, KeyError, zlib.error, ...
        of_python = type(error).__module__ in ("builtins", "struct", "PIL")  # its words tell a user nothing
        reason = "" if of_python else str(error).strip().partition("\n")[0]
        damaged = ImageError.damaged(kind, reason)
        raise ImageError(f"{name}: {damaged}", damaged.reason) from error


def encode_picture(picture: Picture, extension: str, text: Mapping[str, str] = {}) -> bytes:
    """The file of a picture: `extension` is "png", "tif" or "tiff", with or without a dot; `text` is its provenance.

    The same picture and text give the same bytes: no time goes in. Raises ImageError for another kind of file.
    """
    kind = extension.lower().removeprefix(".")
    if kind not in ("png", "tif", "tiff"):
        raise ImageError(f"results are written as PNG or TIFF, not as {extension!r}")
    encode = encode_png if kind == "png" else encode_tiff
    samples = to_samples(picture)
    metadata = of_size(picture.metadata, samples.shape[1], samples.shape[0])
    with _one_at_a_time, _pillow_quiet():
        return encode(samples, metadata, text)


def left_out(metadata: Metadata, channels: int, extension: str) -> tuple[str, ...]:
    """What of a picture's metadata a file of this kind cannot hold, one sentence each; `channels` of colour, 1 or 3."""
    if extension.lower().removeprefix(".") == "png":
        return ()
    _, notice = profile_for(metadata, channels)
    behind = None if metadata.background is None else "Its background colour (bKGD) has no place in TIFF: PNG keeps it."
    return tuple(sentence for sentence in (notice, behind) if sentence is not None)


def read_provenance(path: Path) -> dict[str, str]:
    """The text that `encode_picture` put into a PNG or TIFF file; empty where there is none. Raises ImageError."""
    data = read_image_bytes(path)
    try:
        with _one_at_a_time, _pillow_quiet():
            if _kind(data) == "PNG":
                return png_texts(data)
            if _kind(data) == "TIFF":
                fields = json.loads(text_of(description(data) or b"{}").rstrip("\0"))
                return {key: str(value) for key, value in fields.items()} if isinstance(fields, dict) else {}
    except json.JSONDecodeError:
        return {}
    except Exception as error:  # as in decode_picture
        raise ImageError(f"{path}: its text cannot be read ({error})") from error
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
    if data[4:8] == b"ftyp":  # the main brand, then those that the file also meets
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4]), 256), 4))}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return None


def _is_video(data: bytes) -> bool:
    """Whether it begins as MP4 and MOV do (Canon's raw pictures do too), as Matroska or as AVI."""
    mp4 = data[4:8] == b"ftyp" and data[8:12] != b"crx "
    return mp4 or data.startswith(b"\x1aE\xdf\xa3") or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")


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
