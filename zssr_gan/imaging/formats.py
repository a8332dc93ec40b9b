"""Read BMP, WebP, AVIF and HEIF, and the pixels of Pillow's images of any mode.

Sources: WebP container specification (Google, 2023); BITMAPV5HEADER (Microsoft); ISO/IEC 23008-12 (HEIF), 14496-12.
"""

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from PIL import Image, features

from zssr_gan.errors import ImageError
from zssr_gan.imaging.metadata import cmyk_to_rgb, exif_of_turned
from zssr_gan.imaging.picture import Decoded, Samples, check_size
from zssr_gan.imaging.vp8 import frame_of, luma_step

# Pillow's modes and the one each is read as; those not named here (float, 32 bits, Lab, HSV) are refused.
READ_AS: Final[Mapping[str, str]] = {
    "1": "L", "L": "L", "LA": "LA", "La": "LA",
    "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB",
}  # fmt: skip

_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}

_BMP_INFO_BYTES, _V2_BYTES, _V3_BYTES, _V4_BYTES, _V5_BYTES = 40, 52, 56, 108, 124
_SHORTEST_BMP = 26
BIT_FIELDS, _ALPHA_BIT_FIELDS = 3, 6
_CALIBRATED, _EMBEDDED = 0, 0x4D424544

_UNSAID = 2  # H.273's code of primaries and transfer that are not said


def pillow_samples(image: Image.Image, icc: bytes | None) -> tuple[Samples, bytes | None, tuple[str, ...]]:
    """A loaded Pillow image as `H W C`, the profile that its colours are still in, and notices.

    Raises ImageError where its mode is not read.
    """
    notices: tuple[str, ...] = ()
    if image.mode == "CMYK":
        converted, notice = cmyk_to_rgb(image, icc)
        icc, notices = None, (notice,)
    elif image.mode.startswith("I;16"):
        converted = image
    else:
        mode = READ_AS.get(image.mode)
        if mode is None:
            raise ImageError(f"holds pixels of a kind that is not read (Pillow's mode {image.mode!r})")
        if image.has_transparency_data:
            mode = _WITH_ALPHA.get(mode, mode)
        converted = image if image.mode == mode else image.convert(mode)
    samples = np.asarray(converted)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if samples.dtype == np.uint16 and isinstance(key := image.info.get("transparency"), int):
        samples = np.dstack([samples, np.where(samples == key, 0, 2**16 - 1).astype(np.uint16)])
    if image.format == "BMP" and image.mode == "RGBA" and not samples[:, :, 3].any():
        samples = samples[:, :, :3]  # as programs write it that fill 32 bits with colours
    return (samples if samples.ndim == 3 else samples[:, :, np.newaxis]), icc, notices


def _opened(data: bytes, kind: str, max_pixels: float) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[kind])
    check_size(*image.size, max_pixels)
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise ImageError(f"is animated, with {frames} pages, and only single images are read; split it first")
    image.load()
    return image


def decode_bmp(data: bytes, max_pixels: float) -> Decoded:
    """Take a BMP file apart. Raises ImageError (without the file's name), and anything on damaged bytes."""
    size, compression = _bmp_header(data)
    given = data
    if compression == _ALPHA_BIT_FIELDS:  # its four masks follow: a header with masks inside
        data = data[:14] + struct.pack("<L", max(size, _V3_BYTES)) + data[18:30] + struct.pack("<L", 3) + data[34:]
    try:
        image = _opened(data, "BMP", max_pixels)
    except (OSError, ValueError) as error:
        if str(error).startswith("Unsupported BMP"):  # Pillow's words for other compressions, masks and depths
            raise ImageError(f"is a BMP of a kind that is not read ({error})") from error
        raise ImageError.damaged("BMP", "its pixels are not complete") from error
    with image:
        samples, *_ = pillow_samples(image, None)
        if (alpha := _alpha_bit(given, *image.size)) is not None:
            samples = np.dstack([samples, alpha]).astype(np.uint8)
        dpi = image.info.get("dpi")
    colour, icc, notices = bmp_colour(data)
    return Decoded(samples, None, icc, dpi, notices, colour=colour)


def _bmp_header(data: bytes) -> tuple[int, int]:
    """The size of a BMP file's header, and its compression. Raises ImageError where pixels begin before its end."""
    start, size, compression = struct.unpack_from("<L L 12x L", data.ljust(34, b"\0"), 10)
    if size < _BMP_INFO_BYTES:
        compression = 0
    end = 14 + max(size, {BIT_FIELDS: _V2_BYTES, _ALPHA_BIT_FIELDS: _V3_BYTES}.get(compression, 0))  # with masks
    if len(data) < max(end, _SHORTEST_BMP):
        raise ImageError.damaged("BMP", "its header is not complete")
    if start < end:
        raise ImageError(f"the BMP file is damaged (its pixels begin at byte {start}, before the end of its header)")
    return size, compression


def _alpha_bit(data: bytes, width: int, height: int) -> Samples | None:
    """The alpha (0 or 255) of a BMP of 16 bits a pixel whose masks give it the highest bit; None where it is 0."""
    start, size, _, rows, _, bits, compression = struct.unpack_from("<LLllHHL", data.ljust(70, b"\0"), 10)
    has_masks = compression == _ALPHA_BIT_FIELDS or (compression == BIT_FIELDS and size >= _V3_BYTES)
    if bits != 16 or not has_masks or struct.unpack_from("<L", data, 66) != (0x8000,):
        return None
    stride = (2 * width + 3) // 4 * 4
    stored = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride)
    alpha = np.where(stored[:, 1 : 2 * width : 2] & 0x80, 255, 0).astype(np.uint8)
    return (alpha[::-1] if rows > 0 else alpha) if alpha.any() else None


def bmp_colour(data: bytes) -> tuple[dict[str, bytes], bytes | None, tuple[str, ...]]:
    """PNG's chunks for the calibration of a BMP file, its colour profile, and notices. Raises struct.error."""
    (size,) = struct.unpack_from("<L", data, 14)
    notices: tuple[str, ...] = ()
    icc, colour = None, dict[str, bytes]()
    if size >= _V4_BYTES and len(data) >= 14 + size:
        (space,) = struct.unpack_from("<L", data, 14 + 56)
        numbers = struct.unpack_from("<12L", data, 14 + 60)
        if space == _CALIBRATED and all(numbers[9:]):
            colour = _calibration(numbers)
        elif space == _EMBEDDED and size >= _V5_BYTES:
            start, length = struct.unpack_from("<LL", data, 14 + 112)
            icc = data[14 + start : 14 + start + length]
            if len(icc) < length:
                icc, notices = None, ("Its colour profile is cut short and was left out.",)
    return colour, icc, notices


def _calibration(numbers: tuple[int, ...]) -> dict[str, bytes]:
    """PNG's chunks for the end points (X, Y, Z of red, green, blue in 2.30 bits) and powers (16.16 bits) of a BMP."""
    chunks = {"gAMA": struct.pack(">L", round(1e5 * 65536 * 3 / sum(numbers[9:])))}
    ends = [numbers[at : at + 3] for at in range(0, 9, 3)]
    xyz = [*ends, tuple(sum(parts) for parts in zip(*ends, strict=True))]
    if all(sum(one) for one in xyz):
        red, green, blue, white = ((round(1e5 * x / (x + y + z)), round(1e5 * y / (x + y + z))) for x, y, z in xyz)
        chunks["cHRM"] = struct.pack(">8L", *white, *red, *green, *blue)
    return chunks


def decode_webp(data: bytes, max_pixels: float) -> Decoded:
    """Take a WebP file apart. Raises ImageError (without the file's name), and anything on damaged bytes.

    libwebp gets the file without its metadata, so that what is ill there costs no pixels.
    """
    at, kept, notices = 12, list[bytes](), list[str]()
    blocks: dict[bytes, bytes] = {}
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sL", data, at)
        content = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
        pixels = kind in (b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF")
        if len(content) < size and (pixels or not kept):
            raise ImageError.damaged("WEBP", "its pixels are not complete")
        if len(content) < size:
            notices.append(f"Damaged data ({kind.decode('latin-1').strip()!r}, cut short) were left out.")
        elif pixels:
            if kind == b"VP8X" and content:
                content = bytes([content[0] & ~0x2C]) + content[1:]  # no profile, no EXIF, no XMP any more
            kept.append(struct.pack("<4sL", kind, size) + content + bytes(size % 2))
        else:
            blocks.setdefault(kind, content)
    if len(data) < 8 + int.from_bytes(data[4:8], "little") and not notices:
        notices.append("The WEBP file is cut short behind its pixels.")
    body = b"WEBP" + b"".join(kept)
    with _opened(b"RIFF" + struct.pack("<L", len(body)) + body, "WEBP", max_pixels) as image:
        samples, icc, more = pillow_samples(image, blocks.get(b"ICCP"))
    frame = frame_of(data)
    step = None if frame is None else luma_step(frame)
    notices = [*notices, *more]
    return Decoded(
        samples, blocks.get(b"EXIF"), icc, None, tuple(notices), blocks.get(b"XMP "),
        footage=None if step is None else True, webp_step=step,
    )  # fmt: skip


def decode_avif(data: bytes, max_pixels: float) -> Decoded:
    """Take an AVIF file apart. Raises ImageError (without the file's name), and anything on damaged bytes."""
    if not features.check("avif"):
        raise ImageError("is an AVIF image, which this build of Pillow does not read: install pillow>=11.3")
    notices = []
    try:
        image = _opened(data, "AVIF", max_pixels)
    except ImageError:
        raise
    except Exception:  # Pillow's parser of EXIF raises anything: another name hides the block from it
        image = _opened(data.replace(b"Exif\0", b"none\0", 1), "AVIF", max_pixels)
        notices.append("Its EXIF data could not be read and was left out.")
    with image:
        samples, icc, more = pillow_samples(image, image.info.get("icc_profile"))
        exif, xmp = image.info.get("exif"), image.info.get("xmp")
    at = data.find(b"av1C")
    if at >= 0 and data[at + 6 : at + 7] and data[at + 6] & 0x40:
        notices.append("Its pixels have more than 8 bits, of which Pillow reads 8.")
    return Decoded(samples, exif, icc, None, (*notices, *more), xmp, colour=nclx(data) if icc is None else {})


def nclx(data: bytes) -> dict[str, bytes]:
    """PNG's chunk for the colour signalling of a HEIF or AVIF file, where it says other than sRGB."""
    at = data.find(b"colrnclx")
    if at < 0 or at + 14 > len(data):
        return {}
    primaries, transfer = struct.unpack_from(">HH", data, at + 8)
    srgb = primaries in (1, _UNSAID) and transfer in (1, 6, 13, _UNSAID)  # camera curves are shown as sRGB is
    return {} if srgb or max(primaries, transfer) > 255 else {"cICP": bytes([primaries, transfer, 0, 1])}


def decode_heif(data: bytes, max_pixels: float) -> Decoded:
    """Take a HEIC or HEIF file apart. Raises ImageError (without the file's name), and anything on damaged bytes."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError("is a HEIC image: to read it, pip install 'zssr-gan[heif]'") from error
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    check_size(*image.size, max_pixels)
    notices = []
    if len(file) > 1:
        notices.append(f"The HEIF file holds {len(file)} pictures: the primary one, which viewers show, was taken.")
    samples = np.asarray(image)
    if samples.dtype == np.uint16:  # 10 or 12 bits in the upper ones
        samples = samples | samples >> image.info["bit_depth"]
    if samples.ndim == 2:
        samples = samples[:, :, np.newaxis]
    if image.mode == "RGBa":
        samples = np.asarray(Image.frombytes("RGBa", image.size, samples.tobytes()).convert("RGBA"))
    info: Mapping[str, Any] = image.info
    icc = info.get("icc_profile")
    # Its own transformations have turned the pixels; EXIF's orientation repeats them (ISO/IEC 23008-12, A.2).
    exif = info.get("exif")
    return Decoded(
        samples, exif and exif_of_turned(exif), icc, None, tuple(notices), info.get("xmp"),
        colour=nclx(data) if icc is None else {}, orientation=1,
    )  # fmt: skip


DECODERS: Final[Mapping[str, Callable[[bytes, float], Decoded]]] = {
    "BMP": decode_bmp,
    "WEBP": decode_webp,
    "AVIF": decode_avif,
    "HEIF": decode_heif,
}
"""By Pillow's name for the kind of file."""
