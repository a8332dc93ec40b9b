"""The eight symmetries of the square (dihedral group D4): four rotations, each with and without a mirror.

A symmetry is an integer k in 0..7. Bit 2 mirrors left and right first; bits 0 and 1 then count quarter turns
counter-clockwise. Even k keep an image's axes (no transposition), odd k swap height and width.
"""

from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

ALL = tuple(range(8))

AXIS_KEEPING = tuple(k for k in ALL if k % 2 == 0)


def transform(x: Tensor, k: int) -> Tensor:
    """Apply symmetry `k` to the last two dimensions of `x` (`... H W`); odd `k` give `... W H`."""
    if k & 4:
        x = x.flip(-1)
    return torch.rot90(x, k & 3, (-2, -1))


STEPS = tuple((-1 if k & 2 else 1, -1 if bool(k & 4) != (k & 3 in (1, 2)) else 1, bool(k & 1)) for k in ALL)
"""Of each symmetry, the order of rows and columns, and whether they are then swapped."""


def transformed_view(x: NDArray[Any], k: int) -> NDArray[Any]:
    """`transform` of an array without a copy, where copies would cost more than what is done with them."""
    rows, columns, swapped = STEPS[k]
    x = x[..., ::rows, ::columns]
    return x.swapaxes(-1, -2) if swapped else x


def inverse(x: Tensor, k: int) -> Tensor:
    """Undo `transform(x, k)`."""
    x = torch.rot90(x, -(k & 3), (-2, -1))
    return x.flip(-1) if k & 4 else x


@lru_cache(maxsize=64)  # a training asks for the same few sizes at every step
def index_maps(
    rows: int, columns: int, symmetries: tuple[int, ...], device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Row and column index maps of symmetries, so that many images' symmetries can be gathered at once.

    Args:
        rows, columns: size of the outcome; equal where a symmetry swaps the axes.
        symmetries: S numbers k.
        device: of the maps; None is the CPU.

    Returns:
        Two int64 tensors `S rows columns`: `transform(x, k)[i, j] == x[rows[s, i, j], columns[s, i, j]]`.
    """
    grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    row_maps, column_maps = (torch.stack([transform(g, k) for k in symmetries]).to(device) for g in grid)
    return row_maps, column_maps
