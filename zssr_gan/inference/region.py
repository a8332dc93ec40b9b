"""A part of a picture: what is asked for, and its pixels of the input and of the result."""

import operator
import re
from dataclasses import replace
from typing import Any

from torch import Tensor

from zssr_gan.errors import SettingsError
from zssr_gan.imaging.picture import Picture
from zssr_gan.imaging.resize import Size

Region = tuple[int, int, int, int]
"""Left and top edge, width and height, in pixels of the upright picture, from its top left corner."""


def parse_region(text: str) -> Region:
    """Read "X,Y,W,H". Raises SettingsError where these are not four whole numbers, or a side is 0."""
    parts = text.split(",")
    if len(parts) != 4 or not all(re.fullmatch(r"\s*-?\d{1,4000}\s*", part, re.ASCII) for part in parts):
        blanks = "; write it without blanks" if text.strip().endswith(",") else ""  # the shell has cut it there
        raise SettingsError(
            f"the region {text!r} is not four whole numbers X,Y,W,H, such as 120,80,64,64: left and top edge, width, "
            f"height, in pixels{blanks}"
        )
    return checked_region([int(part) for part in parts])


def checked_region(region: Any) -> Region:
    """A region that some picture can have. Raises SettingsError for edges below 0, sides below 1, other than numbers.

    Args:
        region: four whole numbers: left and top edge, width and height.
    """
    try:
        x, y, width, height = (operator.index(number) for number in region)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"the region is four whole numbers, left and top edge, width and height, not {region!r}"
        ) from error
    if x < 0 or y < 0:
        raise SettingsError(
            f"the region {region_text((x, y, width, height))} begins outside the picture, whose top left pixel is 0,0"
        )
    if width < 1 or height < 1:
        raise SettingsError(
            f"the region {region_text((x, y, width, height))} is empty: give a width and height above 0"
        )
    return x, y, width, height


def region_text(region: Region, separator: str = ",") -> str:
    """As it is typed."""
    return separator.join(map(str, region))


def check_inside(region: Region, size: Size) -> None:
    """SettingsError where a region reaches beyond a picture of this size (rows, columns)."""
    x, y, width, height = region
    rows, columns = size
    if x + width > columns or y + height > rows:
        raise SettingsError(
            f"the region {region_text(region)} reaches beyond the picture, which has {columns}x{rows} pixels upright"
        )


def cut(image: Tensor, region: Region | None, size: Size) -> Tensor:
    """The region of a map or image (`... H W`), or of what was enlarged of it: a copy; the whole where there is none.

    An edge at pixel x of the input lies at x times the sizes' ratio, halves rounded up, as the result's size is:
    regions that touch give results that touch.

    Args:
        image: at any size that is at least the input's.
        region: in pixels of the input.
        size: the input's (rows, columns).
    """
    if region is None:
        return image
    x, y, width, height = region
    (top, bottom), (left, right) = (
        [(2 * edge * large + small) // (2 * small) for edge in (first, first + side)]
        for first, side, large, small in zip((y, x), (height, width), image.shape[-2:], size, strict=True)
    )
    return image[..., top:bottom, left:right].clone()


def cut_picture(picture: Picture, region: Region | None, size: Size) -> Picture:
    """The region of a picture, alpha too; see `cut`."""
    if region is None:
        return picture
    alpha = None if picture.alpha is None else cut(picture.alpha, region, size)
    return replace(picture, pixels=cut(picture.pixels, region, size), alpha=alpha)
