"""The eight symmetries: a group, with its inverses, and index maps that say the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zssr_gan.imaging.dihedral import ALL, AXIS_KEEPING, index_maps, inverse, transform, transformed_view

SQUARE = torch.arange(9).reshape(3, 3)
symmetry = st.sampled_from(ALL)


def number(x: torch.Tensor) -> int:
    """Which symmetry a turned `SQUARE` shows."""
    (k,) = [k for k in ALL if torch.equal(transform(SQUARE, k), x)]
    return k


def test_eight_different_ones() -> None:
    assert len({tuple(transform(SQUARE, k).flatten().tolist()) for k in ALL}) == len(ALL) == 8


def test_they_are_what_they_are_called() -> None:
    assert torch.equal(transform(SQUARE, 0), SQUARE)
    assert transform(SQUARE, 1)[0].tolist() == [2, 5, 8]  # counter-clockwise: the right column comes on top
    assert transform(SQUARE, 4)[0].tolist() == [2, 1, 0]
    assert transform(SQUARE, 5)[0].tolist() == [0, 3, 6]  # first mirrored, then turned


def test_they_form_a_group() -> None:
    """One after another is again one of them; the table is a Latin square, and it is not commutative."""
    table = [[number(transform(transform(SQUARE, a), b)) for b in ALL] for a in ALL]
    assert all(sorted(line) == list(ALL) for line in table)
    assert all(sorted(line) == list(ALL) for line in zip(*table, strict=True))
    assert table != [list(line) for line in zip(*table, strict=True)]


@given(k=symmetry, height=st.integers(1, 6), width=st.integers(1, 6), channels=st.integers(1, 3))
def test_inverse_undoes(k: int, height: int, width: int, channels: int) -> None:
    x = torch.arange(channels * height * width).reshape(channels, height, width)
    there = transform(x, k)
    assert there.shape[-2:] == ((width, height) if k % 2 else (height, width))
    assert torch.equal(inverse(there, k), x)
    assert torch.equal(transform(inverse(x, k), k), x)


def test_axis_keeping_ones_keep_the_axes() -> None:
    keep = [k for k in ALL if transform(torch.zeros(2, 3), k).shape == (2, 3)]
    assert tuple(keep) == AXIS_KEEPING


@pytest.mark.parametrize(("rows", "columns", "kept"), [(4, 4, ALL), (3, 5, AXIS_KEEPING), (1, 1, (3,)), (2, 2, (7, 0))])
def test_index_maps_are_the_symmetries(rows: int, columns: int, kept: tuple[int, ...]) -> None:
    x = torch.arange(rows * columns).reshape(rows, columns)
    row_maps, column_maps = index_maps(rows, columns, kept)
    assert row_maps.shape == column_maps.shape == (len(kept), rows, columns)
    for s, k in enumerate(kept):
        assert torch.equal(x[row_maps[s], column_maps[s]], transform(x, k))


def test_a_view_is_turned_as_a_tensor_is() -> None:
    levels = torch.arange(3 * 5 * 7, dtype=torch.uint8).view(3, 5, 7)
    for k in ALL:
        view = transformed_view(levels.numpy(), k)
        assert view.base is not None
        assert torch.equal(torch.from_numpy(view.copy()), transform(levels, k))
