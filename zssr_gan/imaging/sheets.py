"""Sheets for the eye: pictures side by side with captions, and evidence as colour maps with their scale.

Shapes: `C H W` channels, rows, columns; everything returned is `3 H W` float32 in [0, 1] on white.
Colours: matplotlib's inferno (perceptually uniform; black is nothing, yellow the most).
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zssr_gan.imaging.colour import to_levels
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.provenance import MARK

Colour = tuple[int, int, int]

INK: Colour = (20, 20, 20)

FAINT: Colour = (90, 90, 90)


@functools.cache
def font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font at a height in pixels."""
    return ImageFont.load_default(points)


@dataclass(frozen=True, slots=True)
class Text:
    """Lines of text that fit a width."""

    lines: tuple[str, ...]
    points: int
    colour: Colour

    @classmethod
    def wrapped(cls, text: str, width: int, points: int, colour: Colour = INK) -> "Text":
        """The text broken into lines of at most `width` pixels, after words where that is possible."""
        letters = font(points)
        lines: list[str] = []
        for paragraph in text.split("\n"):
            line = ""
            for word in paragraph.split():
                longer = f"{line} {word}".strip()
                if letters.getlength(longer) <= width:
                    line = longer
                    continue
                if line:
                    lines.append(line)
                # A word wider than the column, such as a file name, is cut.
                while letters.getlength(word) > width and len(word) > 1:
                    cut = max(1, sum(letters.getlength(word[: end + 1]) <= width for end in range(len(word))))
                    lines.append(word[:cut])
                    word = word[cut:]
                line = word
            lines.append(line)
        return cls(tuple(lines), points, colour)

    @property
    def line_height(self) -> int:
        """Pixels from one line to the next."""
        return round(self.points * 1.3)

    @property
    def height(self) -> int:
        """Pixels that all lines take."""
        return len(self.lines) * self.line_height

    def draw(self, draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
        """Write the lines, the first one's upper left corner at a place."""
        for number, line in enumerate(self.lines):
            draw.text((left, top + number * self.line_height), line, self.colour, font(self.points))


MARGIN = 12

_CAPTION_POINTS = 15

_TITLE_POINTS = 20

_SMALLEST_MAP, _LARGEST_MAP = 448, 2000

_DISAGREEMENT = "How far the {views} views of the network disagree (levels of 255)"

_ONE_VIEW = "Only one view of the network was made: nothing to disagree with"

_ADDED = "How much more the result varies locally than bicubic (levels of 255)"

_BLOCK = 8  # pixels of the input, a side

_NARROWEST_BLOCKS = 12  # pixels of the sheet: corners of narrower ones would hide the map

_MARKS: Colour = (86, 180, 233)

_TICK = 4

LIMITS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 255.0)
"""Values that the brightest colour of a map stands for."""

GAP = 10  # between a map and its bar of colours
"""Light blue (Okabe and Ito 2008), which no map has."""

_RESIDUAL = "How far the result, shrunk again, departs from the input (levels of 255)"


def encode_sheet(sheet: Tensor, mark: str, text: Mapping[str, str] = {}, *, extension: str = "png") -> bytes:
    """The file of a sheet, `3 H W` in [0, 1], with text fields; `mark` says what kind of output it is."""
    picture = Picture(pixels=sheet, alpha=None, bits=8, metadata=Metadata())
    return encode_picture(picture, extension, {**text, MARK: mark})


def contact_sheet(rows: Sequence[Sequence[tuple[str, Tensor]]], *, title: str = "", cell: int = 256) -> Tensor:
    """Rows of captioned images (`C H W`, [0, 1], C = 1 or 3), each shown at most `cell` pixels a side. Returns 3 H W.

    The images of a row are shown at one size, so that they can be compared: small ones enlarged to their pixels
    (nearest neighbour, by whole factors where the sizes allow it), large ones reduced.
    """
    grid = [[(caption, _fit(image, _row_size([x for _, x in row], cell))) for caption, image in row] for row in rows]
    # Captions need room to read even where the images are narrow.
    column = max([160, *(image.width for row in grid for _, image in row)])
    columns = max((len(row) for row in grid), default=1)
    width = columns * (column + MARGIN) + MARGIN
    heading = Text.wrapped(title, width - 2 * MARGIN, _TITLE_POINTS)
    lines = [[Text.wrapped(caption, column, _CAPTION_POINTS) for caption, _ in row] for row in grid]
    heights = [
        max((image.height for _, image in row), default=0) + max((text.height for text in texts), default=0) + 6
        for row, texts in zip(grid, lines, strict=True)
    ]
    top = MARGIN + (heading.height + MARGIN if title else 0)
    sheet = Image.new("RGB", (width, top + sum(height + MARGIN for height in heights)), "white")
    draw = ImageDraw.Draw(sheet)
    heading.draw(draw, MARGIN, MARGIN)
    for row, texts, height in zip(grid, lines, heights, strict=True):
        left = MARGIN
        for (_, image), text in zip(row, texts, strict=True):
            sheet.paste(image, (left, top))
            text.draw(draw, left, top + image.height + 6)
            left += column + MARGIN
        top += height + MARGIN
    return tensor_of_sheet(sheet)


def evidence_sheet(
    disagreement: Tensor,
    residual: Tensor,
    added: Tensor,
    *,
    views: int = 8,
    blocks: tuple[int, int] | None = None,
    note: str = "",
) -> Tensor:
    """Three maps (H W, levels of 255, >= 0) as colours, each with its scale, mean and largest value. Returns 3 H W.

    They are how far views disagree, what the result misses of the input, and the local variation that it adds to
    bicubic. All are shown at the size of the disagreement. Small maps are enlarged to their pixels, to 448 at least on
    the longer side; maps above 2000 pixels a side are reduced by their maximum, so that no peak is hidden. `views` is
    how many views were compared. `blocks` is where the first block of 8x8 pixels of a compressed input begins (rows and
    columns of `residual`): a cross marks each corner of four blocks in all maps. `note` is written below.
    """
    maps = (
        (disagreement, _DISAGREEMENT.format(views=views) if views > 1 else _ONE_VIEW),
        (residual, _RESIDUAL),
        (added, _ADDED),
    )
    corners = (
        [] if blocks is None else _corners(blocks, (residual.shape[0], residual.shape[1]), map_size(disagreement.shape))
    )
    return map_sheet(maps, corners=corners, note=f"+  {note}" if corners else note)


def map_sheet(maps: Sequence[tuple[Tensor, str]], *, corners: Sequence[tuple[int, int]] = (), note: str = "") -> Tensor:
    """Maps (H W, >= 0) as colours, each with caption, scale, mean and largest value, at the size of the first.

    Args:
        maps: values and caption of each; the brightest colour is that of `round_limit`.
        corners: places in the maps as they are shown, which crosses mark.
        note: written below.

    Returns:
        `3 H W`.
    """
    size = map_size(maps[0][0].shape)
    panels = [_panel(values, size, caption, corners) for values, caption in maps]
    side_by_side = size[1] <= 1.4 * size[0]
    width = max(panel.width for panel in panels)
    height = max(panel.height for panel in panels)
    step = (width + MARGIN, 0) if side_by_side else (0, height + MARGIN)
    columns, rows = (width + (len(panels) - 1) * step[0], height + (len(panels) - 1) * step[1])
    below = Text.wrapped(note, columns, letter_points(size), FAINT)
    foot = below.height + MARGIN if note else 0
    sheet = Image.new("RGB", (columns + 2 * MARGIN, rows + 2 * MARGIN + foot), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (MARGIN + number * step[0], MARGIN + number * step[1]))
    if note:
        below.draw(ImageDraw.Draw(sheet), MARGIN, rows + 2 * MARGIN)
    return tensor_of_sheet(sheet)


def evidence_overlay(disagreement: Tensor, *, limit: float | None = None) -> Tensor:
    """The colours alone of a map (H W, levels of 255): 3 H W, for a contact sheet. `limit` has the brightest colour."""
    colours_HWC = _colours(disagreement, limit if limit is not None else round_limit(disagreement))
    return torch.from_numpy(colours_HWC).permute(2, 0, 1).float().div_(255)


def _row_size(images: Sequence[Tensor], cell: int) -> tuple[int, int]:
    """The size (rows, columns) at which all images of a row are shown: the largest's, enlarged or reduced."""
    height, width = max((tuple(image.shape[-2:]) for image in images), key=lambda size: size[0] * size[1])
    longest = max(height, width)
    factor = float(cell // longest) if longest <= cell else cell / longest
    return max(1, round(height * factor)), max(1, round(width * factor))


def _fit(image: Tensor, size: tuple[int, int]) -> Image.Image:
    levels = to_levels(image.detach().float()).expand(3, -1, -1)
    picture = Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy(force=True))
    enlarged = picture.height <= size[0] and picture.width <= size[1]
    resample = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return picture.resize((size[1], size[0]), resample)


def map_size(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns at which a map of so many is shown on a sheet."""
    height, width = shape
    if max(height, width) > _LARGEST_MAP:
        factor = _LARGEST_MAP / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))
    factor = math.ceil(_SMALLEST_MAP / max(height, width))
    return height * factor, width * factor


def panel_width(size: tuple[int, int]) -> int:
    """Of a map that is shown at this size, with its captions on one line."""
    return max(size[1], 31 * letter_points(size))


def letter_points(size: tuple[int, int]) -> int:
    """Text grows with the map: a sheet of 2000 pixels is looked at reduced."""
    return max(_CAPTION_POINTS, round(size[1] / 50))


def _corners(first: tuple[int, int], of: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Where four blocks of an input of the size `of` meet, in a map of `size`; none where they would hide the map."""
    if min(_BLOCK * shown / side for shown, side in zip(size, of, strict=True)) < _NARROWEST_BLOCKS:
        return []
    rows, columns = (
        [round(at * shown / side) for at in range(start or _BLOCK, side, _BLOCK)]
        for start, shown, side in zip(first, size, of, strict=True)
    )
    return [(row, column) for row in rows for column in columns]


def _panel(values: Tensor, size: tuple[int, int], caption: str, corners: Sequence[tuple[int, int]]) -> Image.Image:
    """Caption, figures, map, colour bar and ticks, from top to bottom."""
    limit, points = round_limit(values), letter_points(size)
    width = panel_width(size)
    heading = Text.wrapped(caption, width, points)
    largest = float(values.max())
    figures = Text.wrapped(f"mean {float(values.mean()):.2f}, largest {largest:.1f}", width, points, FAINT)
    bar_height = points
    map_top = heading.height + figures.height + 6
    bar_top = map_top + size[0] + GAP
    panel = Image.new("RGB", (width, bar_top + bar_height + _TICK + heading.line_height), "white")
    draw = ImageDraw.Draw(panel)
    heading.draw(draw, 0, 0)
    figures.draw(draw, 0, heading.height)
    shown = _shown_at(values, size)
    shown_map = Image.fromarray(_colours(shown, limit))
    marks, arm = ImageDraw.Draw(shown_map), points // 5
    for row, column in corners:
        marks.line([(column - arm, row), (column + arm, row)], _MARKS)
        marks.line([(column, row - arm), (column, row + arm)], _MARKS)
    panel.paste(shown_map, (0, map_top))
    bar = torch.linspace(0, limit, width).expand(bar_height, width)
    panel.paste(Image.fromarray(_colours(bar, limit)), (0, bar_top))
    draw_ticks(draw, bar_top + bar_height, (width, points), limit, exceeded=largest > limit)
    return panel


def draw_ticks(draw: ImageDraw.ImageDraw, top: int, size: tuple[int, int], limit: float, *, exceeded: bool) -> None:
    """Draw the ticks below a bar of colours, and their levels; `size`: width of the bar, points of the letters."""
    width, points = size
    letters = font(points)
    steps = 4
    for number in range(steps + 1):
        level = limit * number / steps
        label = f"{level:g}" if number < steps or not exceeded else f"{level:g} and more"
        anchor = {0: "la", steps: "ra"}.get(number, "ma")
        x = round((width - 1) * number / steps)
        draw.line([(x, top), (x, top + _TICK)], fill=INK)
        draw.text((x, top + _TICK), label, INK, letters, anchor)


def _shown_at(values: Tensor, size: tuple[int, int]) -> Tensor:
    """A map at another size: each side enlarged by nearest neighbour or reduced by its maximum."""
    values_1HW = values.detach().float()[None]
    reduced = (min(size[0], values.shape[0]), min(size[1], values.shape[1]))
    values_1HW = F.adaptive_max_pool2d(values_1HW, reduced)
    return F.interpolate(values_1HW[None], size, mode="nearest-exact")[0, 0]


def round_limit(values: Tensor) -> float:
    """1, 2, 5, 10, ... 255: the first that 99.5 % of the map do not exceed; at least 1 level, which is rounding."""
    share = values.detach().float().flatten()
    most = float(share.kthvalue(math.ceil(0.995 * share.numel())).values)
    return next(limit for limit in LIMITS if most <= limit or limit == LIMITS[-1])


def _colours(values: Tensor, limit: float) -> NDArray[np.uint8]:
    """The colours (H W 3) of values from 0 to `limit`; what lies above is as bright as the limit."""
    index_HW = to_levels(values.detach().float().div(limit)).numpy(force=True)
    colours_HWC: NDArray[np.uint8] = inferno()[index_HW]
    return colours_HWC


@functools.cache
def inferno() -> NDArray[np.uint8]:
    """The 256 colours, `256 3`."""
    # Imported here: matplotlib takes a part of a second, and most runs draw no map.
    from matplotlib import colormaps

    colours: NDArray[np.uint8] = np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return colours


def tensor_of_sheet(sheet: Image.Image) -> Tensor:
    """A drawn sheet as `3 H W` in [0, 1]."""
    return torch.from_numpy(np.asarray(sheet).copy()).permute(2, 0, 1).float().div_(255)
