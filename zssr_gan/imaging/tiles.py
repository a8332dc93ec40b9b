"""Working on a large image tile by tile, with the outcome that the whole image would have given.

A tile is read with a halo as wide as the operation looks (its receptive radius); the halo is cut off afterwards. At
the image's own borders there is no halo, so the operation pads there exactly as it does on the whole image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: what is kept of it, what is read for it, and where the kept part lies in what was read."""

    keep: tuple[slice, slice]
    read: tuple[slice, slice]
    inner: tuple[slice, slice]


def plan_tiles(size: tuple[int, int], side: int, halo: int, grid: int = 1) -> Iterator[Tile]:
    """Cut an image into tiles of at most `side` pixels a side.

    Args:
        size: rows and columns of the image.
        side: pixels a side that one tile keeps, at least 1.
        halo: pixels read beyond the kept part on each side that is not the image's border.
        grid: what is read begins at multiples of it, counted from the image's begin, and ends at multiples of it,
            counted from the image's end: so that it does in a flipped image too.

    Yields:
        Tiles in reading order; their kept parts cover the image once.
    """
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            spans = [_span(top, side, halo, size[0], grid), _span(left, side, halo, size[1], grid)]
            (keep_y, read_y, inner_y), (keep_x, read_x, inner_x) = spans
            yield Tile((keep_y, keep_x), (read_y, read_x), (inner_y, inner_x))


def _span(start: int, side: int, halo: int, end: int, grid: int) -> tuple[slice, slice, slice]:
    stop = min(start + side, end)
    read_start, left = max(0, start - halo), max(0, end - stop - halo)
    read_start, read_stop = read_start - read_start % grid, end - (left - left % grid)
    return slice(start, stop), slice(read_start, read_stop), slice(start - read_start, stop - read_start)


def middle_of(image: Tensor, side: int, step: int = 1) -> Tensor:
    """The middle of `C H W`, at most `side` pixels a side, as a view; the image itself where it is no larger.

    Args:
        image: any number of channels.
        side: pixels.
        step: the part begins at a whole multiple of so many pixels, so that JPEG's blocks stay whole.
    """
    if max(image.shape[-2:]) <= side:
        return image
    top, left = (max(0, length - side) // 2 // step * step for length in image.shape[-2:])
    return image[:, top : top + side, left : left + side]


def copied_middle_of(image: Tensor, side: int, step: int = 1) -> Tensor:
    """`middle_of`, a copy where the image is larger: the rest of it can then leave the memory."""
    middle = middle_of(image, side, step)
    return image if middle is image else middle.clone()
