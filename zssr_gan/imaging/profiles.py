"""Colour signalling of PNG (cICP, sRGB, gAMA, cHRM) as an ICC profile, for formats that hold only those.

Sources: PNG specification, third edition (W3C, 2025), sections 4.3 and 11.3.2; ITU-T H.273, tables 2 and 3.
"""

import struct
from collections.abc import Mapping

import imagecodecs
import numpy as np
from PIL import ImageCms

from zssr_gan.imaging.picture import Metadata

SIGNALS = ("cICP", "mDCV", "cLLI", "sRGB", "gAMA", "cHRM")
"""Chunks of colour signalling beside iCCP, in the order in which they are written."""

_D65 = (0.3127, 0.329)

# x and y of red, green, blue and white, by H.273's code of primaries.
_PRIMARIES = {
    1: (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, *_D65),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.31, 0.316),
    5: (0.64, 0.33, 0.29, 0.6, 0.15, 0.06, *_D65),
    6: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_D65),
    7: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, 0.31, 0.316),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, *_D65),
    11: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.314, 0.351),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, *_D65),
    22: (0.63, 0.34, 0.295, 0.605, 0.155, 0.077, *_D65),
}

# Power of decoding by H.273's code of transfer; the camera curves are shown by the power of ITU-R BT.1886.
_POWERS = {1: 2.4, 4: 2.2, 5: 2.8, 6: 2.4, 8: 1.0, 14: 2.4, 15: 2.4}

_SRGB_TRANSFER = 13

_WHEN = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # instead of the time of the making: equal files have equal bytes


def profile_for(metadata: Metadata, channels: int) -> tuple[bytes | None, str | None]:
    """The ICC profile of a picture of `channels` colours (1 or 3), and the sentence to say where none can be made.

    A profile that the picture has is used, except where cICP, which has precedence, stands beside it.
    """
    colour = dict(metadata.colour)
    if "cICP" not in colour and (metadata.icc is not None or not colour):
        return metadata.icc, None
    made = _made(colour, channels)
    if made is None and metadata.icc is None:
        names = ", ".join(colour)
        return None, f"Its colour signalling ({names}) has no place in TIFF and is left out there: PNG keeps it."
    return made or metadata.icc, None


def _made(colour: Mapping[str, bytes], channels: int) -> bytes | None:
    """A profile by the chunk that has precedence; None where it cannot be made."""
    power: float | None = None
    xy = _PRIMARIES[1]
    if "cICP" in colour:
        primaries, transfer = colour["cICP"][:2]
        if primaries not in _PRIMARIES or transfer not in (*_POWERS, _SRGB_TRANSFER) or not colour["cICP"][3]:
            return None
        xy, power = _PRIMARIES[primaries], _POWERS.get(transfer)
    elif "sRGB" not in colour:
        if "gAMA" not in colour and "cHRM" not in colour:
            return None
        power = 1e5 / struct.unpack(">L", colour["gAMA"])[0] if "gAMA" in colour else None
        if "cHRM" in colour:
            white_x, white_y, *others = (value / 1e5 for value in struct.unpack(">8L", colour["cHRM"]))
            xy = (*others, white_x, white_y)
    try:
        return _profile(xy, power, channels)
    except (RuntimeError, ValueError, ArithmeticError, ImageCms.PyCMSError):  # three primaries on a line, and the like
        return None


def _profile(xy: tuple[float, ...], power: float | None, channels: int) -> bytes | None:
    """A profile of primaries and white (x and y of each), and a power, or sRGB's curve where it is None."""
    if xy == _PRIMARIES[1] and power is None and channels == 3:
        made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    else:
        red, green, blue, white = ((*xy[at : at + 2], 1.0) for at in range(0, 8, 2))
        # The curve as a table where no power says it: a linear part, then a power of 2.4.
        level = np.arange(1024) / 1023
        shown = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
        curve = (
            {"gamma": power} if power is not None else {"transferfunction": np.rint(shown * 65535).astype(np.uint16)}
        )
        if channels == 3:
            made = imagecodecs.cms_profile("rgb", whitepoint=white, primaries=(*red, *green, *blue), **curve)
        else:
            made = imagecodecs.cms_profile("gray", whitepoint=white, **curve)
    made = bytes(made)
    return made[:24] + _WHEN + made[36:84] + bytes(16) + made[100:]
