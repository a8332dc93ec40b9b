"""Arrays and PIL images to pictures, and results back to what was given."""

import contextlib
import math
import struct
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile

from zssr_gan.errors import ImageError, ResultWarning
from zssr_gan.imaging.formats import BIT_FIELDS, bmp_colour, decode_bmp, nclx, pillow_samples
from zssr_gan.imaging.metadata import (
    EXIF_PREFIX,
    ORIENTATION,
    TRANSPOSED,
    UNIT,
    X_RESOLUTION,
    assemble,
    exif_block,
    exif_dpi,
    exif_of_turned,
    of_size,
    turn_upright,
)
from zssr_gan.imaging.picture import Decoded, Metadata, Picture, from_samples, to_samples
from zssr_gan.imaging.png import SIGNATURE, decode_png, png_colour
from zssr_gan.imaging.profiles import SIGNALS, profile_for
from zssr_gan.imaging.tiff import COLOUR_TAGS, decode_tiff, tiff_colour

_MODES = ("L", "LA", "RGB", "RGBA", "P", "I;16", "I;16B")

_KEYED = ("L", "RGB", "I;16")  # modes of which `info` may name a transparent level or colour

_IPTC_RESOURCE, _IPTC_TAG = 0x0404, 33723
_PHOTOMETRIC, _PLANAR = 262, 284  # tags of TIFF


def picture_of(image: NDArray[Any] | Image.Image) -> Picture:
    """A picture out of an array or a PIL image; floating point is taken at 16 bits.

    Args:
        image: `H W`, or `H W` with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) channels of uint8, uint16 or
            floating point in [0, 1], of either byte order; or PIL of mode L, LA, RGB, RGBA, P, I;16 or I;16B, which is
            turned upright by its EXIF orientation and brings its metadata. Alpha is straight.

    Raises:
        TypeError: another kind, dtype, mode or shape.
        ImageError: a floating-point image outside [0, 1].
    """
    if isinstance(image, Image.Image):
        return _picture_of_pil(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"a numpy array or a PIL image is taken, not {type(image).__name__}")
    samples = image[..., None] if image.ndim == 2 else image
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4):
        raise TypeError(f"an array is H W, or H W with 1 to 4 channels; this one has the shape {image.shape}")
    native = samples.dtype.newbyteorder("=")
    if native in (np.uint8, np.uint16):
        return from_samples(np.ascontiguousarray(samples, dtype=native), Metadata(None, None, None))
    if not np.issubdtype(samples.dtype, np.floating):
        raise TypeError(f"an array is uint8, uint16 or floating point, not {samples.dtype}")
    if samples.size and (not np.isfinite(samples).all() or samples.min() < 0 or samples.max() > 1):
        raise ImageError("a floating-point image must lie in [0, 1]")
    parts = torch.from_numpy(np.ascontiguousarray(samples.transpose(2, 0, 1), dtype=np.float32))
    colours = 1 if samples.shape[2] <= 2 else 3
    alpha = parts[colours:] if samples.shape[2] in (2, 4) else None
    return Picture(parts[:colours], alpha, 16, Metadata(None, None, None))


def _picture_of_pil(image: Image.Image) -> Picture:
    """A picture out of a PIL image, upright, with what Pillow keeps of the file's metadata."""
    if image.mode not in _MODES:
        raise TypeError(f"a PIL image of mode {', '.join(_MODES[:-1])} or {_MODES[-1]} is taken, not {image.mode}")
    data = _file_of(image)  # first: a PNG's file is closed by whatever loads its pixels
    colour, profile, said = _signalled(image, data)
    info = image.info
    has_block = isinstance(info.get("exif"), bytes)
    try:
        before = None if has_block else image.getexif().get(ORIENTATION)  # of a TIFF file: its directory
        _load(image)  # a TIFF file's pixels are turned upright by this
    except Exception as error:  # its decoders raise anything on damaged bytes
        reason = str(error).strip().partition("\n")[0]
        raise ImageError(f"Pillow cannot load the image ({reason}): give its file to 'zssr-gan enhance'") from error
    alpha = _alpha_of_file(image, data)
    if alpha is None and isinstance(info.get("transparency"), int | tuple) and image.mode in _KEYED:
        image = _with_key_of_samples(image, data)
    exif, orientation, dpi = info.get("exif"), None, info.get("dpi")
    if not has_block and (source := image.getexif()):
        orientation = source.get(ORIENTATION, 1)
        try:
            exif = exif_block(source)
        except Exception:  # damaged, which costs no pixels
            said += ("Its EXIF data could not be read and was left out.",)
        if before in TRANSPOSED and orientation == 1 and isinstance(dpi, tuple):
            dpi = dpi[::-1]
    if isinstance(exif, bytes) and isinstance(turned := info.get("original_orientation"), int):  # pillow-heif turned it
        exif = exif_of_turned(exif, turned)
    if isinstance(dpi, tuple):
        dpi = _stated_dpi(image, dpi, exif)
    if isinstance(gamma := info.get("gamma"), float) and gamma > 0:
        colour["gAMA"] = struct.pack(">L", round(gamma * 1e5))
    if isinstance(xy := info.get("chromaticity"), tuple) and len(xy) == 8 and all(xy[1::2]):
        colour["cHRM"] = struct.pack(">8L", *(round(value * 1e5) for value in xy))
    if info.get("srgb") in range(4):
        colour["sRGB"] = bytes([info["srgb"]])
    photoshop, tags = info.get("photoshop"), getattr(image, "tag_v2", {})
    iptc = photoshop.get(_IPTC_RESOURCE) if isinstance(photoshop, dict) else tags.get(_IPTC_TAG)
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    samples, icc, notices = pillow_samples(image, info.get("icc_profile", profile))
    notices += said
    if alpha is not None:
        samples = np.dstack([samples[:, :, : 1 if image.mode == "LA" else 3], alpha]).astype(np.uint8)
    if image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0:  # white is zero, as Pillow knows of 8 bits only
        samples = 2**16 - 1 - samples
    decoded = Decoded(samples, exif, icc, dpi, notices, xmp.encode() if isinstance(xmp, str) else xmp, colour=colour)
    if isinstance(iptc, bytes):
        decoded = replace(decoded, iptc=iptc)
    return assemble(replace(decoded, orientation=orientation if orientation in range(1, 9) else None))


def _load(image: Image.Image) -> None:
    """Load the pixels, but map no file into memory: Pillow 13 maps a TIFF file by the size of the picture upright."""
    name = getattr(image, "filename", None)
    if name is None or image.format != "TIFF":
        image.load()
        return
    assert isinstance(image, ImageFile.ImageFile)
    image.filename = ""
    try:
        image.load()
    finally:
        image.filename = name


def _stated_dpi(image: Image.Image, dpi: tuple[Any, ...], exif: Any) -> tuple[Any, ...] | None:
    """The resolution of a PIL image without the numbers that Pillow has of its own where a file states none."""
    unit = image.info.get("jfif_unit")
    if unit in (1, 2):  # of JFIF
        return dpi
    if image.format in ("TIFF", None) and dpi == (1, 1) and X_RESOLUTION not in getattr(image, "tag_v2", {}):
        return None
    if not isinstance(exif, bytes) or not (image.format in ("JPEG", "MPO") or unit == 0):  # or a copy of one
        return dpi
    # Of a JPEG it has EXIF's x for both, or 72 where x or its unit is missing.
    stated = exif_dpi(exif)
    own = 72 if stated is None or UNIT not in image.getexif() else stated[0]
    return stated if all(abs(one - own) < 0.5 for one in dpi) else dpi


def _file_of(image: Image.Image) -> bytes:
    """The bytes of the file of an image whose kind holds what Pillow does not read; none where it is not there."""
    if image.format not in ("PNG", "AVIF", "HEIF", "BMP") and not (image.mode == "LA" and _in_planes(image)):
        return b""
    try:
        if (file := getattr(image, "fp", None)) is None:  # loaded
            return Path(getattr(image, "filename", "")).read_bytes()
        at = file.tell()
        file.seek(0)
        data: bytes = file.read()
        file.seek(at)
    except (OSError, ValueError):
        return b""
    return data


def _alpha_of_file(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """The alpha (`H W`) of a file of which Pillow has none, or a wrong one; None of all others.

    It reads no alpha of one bit in a BMP, zeros for that of gray in planes in a TIFF, and brings the samples of 16-bit
    RGB in a PNG to 8 bits, but not the transparent colour.
    """
    match image.format, image.mode:
        case "BMP", "RGB" if image.info.get("compression") == BIT_FIELDS:
            decode = decode_bmp
        case "TIFF", "LA" if _in_planes(image):
            decode = decode_tiff
        case "PNG", "RGB" if data[24:25] == b"\x10" and "transparency" in image.info:
            decode = decode_png
        case _:
            return None
    with contextlib.suppress(Exception):  # of a file that is gone or has changed, or is refused
        decoded = decode(data, math.inf)
        samples = turn_upright(decoded.samples, decoded.orientation or 1)
        if samples.shape in ((image.height, image.width, 2), (image.height, image.width, 4)):
            alpha = samples[:, :, -1]
            return (alpha >> 8 * (alpha.dtype.itemsize - 1)).astype(np.uint8)
    return None


def _in_planes(image: Image.Image) -> bool:
    return getattr(image, "tag_v2", {}).get(_PLANAR) == 2


def _with_key_of_samples(image: Image.Image, data: bytes) -> Image.Image:
    """A copy with the transparent level of a PNG in the depth of Pillow's samples, which has 8 bits for 2 and 4."""
    key, depth, copy = image.info["transparency"], data[24] if data.startswith(SIGNATURE) else 0, image.copy()
    if depth in (2, 4) and isinstance(key, int):
        copy.info["transparency"] = key * 255 // (2**depth - 1)
    elif depth == 16 and image.mode == "RGB":
        depth = 0
    keys = np.atleast_1d(key)
    samples = np.asarray(copy).reshape(image.height, image.width, -1)
    if not depth and not (len(keys) == samples.shape[2] and (samples == keys).all(2).any()):
        warnings.warn(
            f"the transparent level {key} of the PIL image is that of none of its pixels, so that all are opaque: "
            "give the image as Image.open(path) returns it, or one of mode LA or RGBA",
            ResultWarning,
            stacklevel=5,
        )
    return copy


def _signalled(image: Image.Image, data: bytes) -> tuple[dict[str, bytes], bytes | None, tuple[str, ...]]:
    """Colour signalling, profile and notices that Pillow does not give: of the file while it is there, or of `like`."""
    found, profile = dict[str, bytes](), None
    notices: tuple[str, ...] = ()
    with contextlib.suppress(ValueError, ImageError, struct.error):
        match image.format:
            case "PNG" if data:
                found = {name: content for name, content in png_colour(data).items() if name in SIGNALS[:3]}
            case "BMP" if data:
                found, profile, notices = bmp_colour(data)
            case "BMP":
                warnings.warn(
                    "the file of the PIL image is gone; a colour profile or bits of alpha that the BMP may hold are "
                    "left out: give the image as Image.open returns it",
                    ResultWarning,
                    stacklevel=5,
                )
            case "TIFF" if "icc_profile" not in image.info:
                tags = getattr(image, "tag_v2", {})
                found, notices = tiff_colour(*(tuple(map(float, tags.get(tag, ()))) for tag in COLOUR_TAGS))
            case "AVIF" | "HEIF":
                found = nclx(data)
    said = {name: image.info.get(name) for name in SIGNALS[:3]}
    return found | {name: content for name, content in said.items() if isinstance(content, bytes)}, profile, notices


def like(image: NDArray[Any] | Image.Image, picture: Picture) -> Any:
    """The result in the kind, dtype and number of dimensions of what was given, a PIL image with metadata in `info`."""
    if isinstance(image, np.ndarray) and np.issubdtype(image.dtype, np.floating):
        parts = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
        out = torch.cat(parts).permute(1, 2, 0).numpy().astype(image.dtype)
    else:
        out = to_samples(picture)
        if isinstance(image, np.ndarray):
            out = out.astype(image.dtype, copy=False)  # its byte order
    if out.shape[2] == 1 and (isinstance(image, Image.Image) or image.ndim == 2):
        out = out[:, :, 0]
    if not isinstance(image, Image.Image):
        return out
    key = None
    if out.dtype == np.uint16 and out.ndim == 3:  # PIL has no 16-bit gray with alpha: one level is transparent again
        gray, seen = out[:, :, 0], out[:, :, 1] >= 2**15
        key = None if seen.all() else image.info["transparency"]
        out = gray if key is None else np.where(seen, np.where(gray == key, gray ^ 1, gray), key).astype(np.uint16)
    made, metadata = Image.fromarray(out), of_size(picture.metadata, out.shape[1], out.shape[0])
    exif = metadata.exif and EXIF_PREFIX + metadata.exif  # as Pillow has it in `info`, and its JPEG writer needs it
    named = {"exif": exif, "icc_profile": metadata.icc, "dpi": metadata.dpi, "xmp": metadata.xmp}
    named["transparency"] = key
    made.info |= {key: value for key, value in named.items() if value is not None}
    if metadata.iptc is not None:
        made.info["photoshop"] = {_IPTC_RESOURCE: metadata.iptc}
    for key, chunk in (("gamma", "gAMA"), ("chromaticity", "cHRM"), ("srgb", "sRGB")):
        if content := dict(metadata.colour).get(chunk):
            values = struct.unpack({1: ">B"}.get(len(content), f">{len(content) // 4}L"), content)
            made.info[key] = values[0] if key == "srgb" else tuple(value / 1e5 for value in values)
    colour = dict(metadata.colour)
    made.info |= {name: colour[name] for name in SIGNALS[:3] if name in colour}
    if "cICP" in colour or "sRGB" not in colour:  # Pillow does not write them: a profile shows the same where one can
        profile, _ = profile_for(metadata, len(picture.pixels))
        made.info |= {} if profile is None else {"icc_profile": profile}
    if "gamma" in made.info:
        (made.info["gamma"],) = made.info["gamma"]
    return made
