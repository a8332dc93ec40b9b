"""A map read back from the sheet that `zssr_gan.imaging.sheets.map_sheet` drew, with its scale."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from zssr_gan.imaging.colour import to_levels
from zssr_gan.imaging.resize import Size
from zssr_gan.imaging.sheets import GAP, LIMITS, MARGIN, draw_ticks, inferno, letter_points, map_size, panel_width

_MOST_MARKED = 0.5  # of a row, by the crosses that show a compressed input's blocks


def first_map(sheet: Tensor, size: Size, *, reverse: bool = False) -> tuple[Tensor, float | None] | None:
    """The colours of a sheet's first map, and the value of the brightest.

    Args:
        sheet: `3 H W`, [0, 1].
        size: rows and columns of the values, as which the map is given back.
        reverse: give the colours in reverse, so that 0 is the brightest, and the value is that of the darkest.

    Returns:
        `3 rows columns`, and the value, None where it is not one of `LIMITS` in this program's letters; None where no
        map of this size is there.
    """
    pixels_HWC = to_levels(sheet).permute(1, 2, 0).numpy(force=True)
    rows, columns = map_size(size)
    strip = pixels_HWC[:, MARGIN : MARGIN + columns]
    if strip.shape[1] < columns:
        return None
    coloured = np.pad(_is_inferno(strip).mean(1) > _MOST_MARKED, 1)
    starts, ends = (np.flatnonzero(np.diff(coloured.astype(int)) == step) for step in (1, -1))
    found = starts[ends - starts == rows]
    if not len(found):
        return None
    top = int(found[0])
    colours_HWC = strip[top : top + rows].copy()
    if reverse:
        is_colour, all_colours = _is_inferno(colours_HWC), inferno()
        order = np.argsort(_number(all_colours))
        places = order[np.searchsorted(_number(all_colours), _number(colours_HWC[is_colour]), sorter=order)]
        colours_HWC[is_colour] = all_colours[::-1][places]
    shown = torch.from_numpy(colours_HWC).permute(2, 0, 1).float().div_(255)
    return F.interpolate(shown[None], size, mode="nearest-exact")[0], _limit(pixels_HWC, top + rows, (rows, columns))


def _is_inferno(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.isin(_number(pixels_HWC), _number(inferno()))


def _number(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Of each colour one number."""
    numbers: NDArray[np.int64] = (colours.astype(np.int64) * [1 << 16, 1 << 8, 1]).sum(-1)
    return numbers


def _limit(pixels_HWC: NDArray[np.uint8], bottom: int, size: Size) -> float | None:
    """The value whose ticks, drawn again, are those below the map."""
    width, points = panel_width(size), letter_points(size)
    top = bottom + GAP + points
    seen = pixels_HWC[top : top + points, MARGIN : MARGIN + width]
    for limit in LIMITS:
        for exceeded in (False, True):
            drawn = Image.new("RGB", (width, len(seen)), "white")
            draw_ticks(ImageDraw.Draw(drawn), 0, (width, points), limit, exceeded=exceeded)
            if np.array_equal(np.asarray(drawn), seen):
                return limit
    return None
