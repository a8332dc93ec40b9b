"""Tiles cover an image once, and a local operation tile by tile is the operation on the whole."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zssr_gan.imaging.tiles import plan_tiles

plans = st.tuples(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 45), st.integers(0, 12)
)  # size, side, halo


@settings(deadline=None, derandomize=True)
@given(plan=plans)
def test_cover_once_in_reading_order(plan: tuple[tuple[int, int], int, int]) -> None:
    size, side, halo = plan
    covered = torch.zeros(size, dtype=torch.int64)
    corners = []
    for tile in plan_tiles(size, side, halo):
        covered[tile.keep] += 1
        corners.append((tile.keep[0].start, tile.keep[1].start))
        assert all(0 < part.stop - part.start <= side for part in tile.keep)
    assert (covered == 1).all()
    assert corners == sorted(corners)


@settings(deadline=None, derandomize=True)
@given(plan=plans)
def test_what_is_read_is_the_kept_part_and_its_halo(plan: tuple[tuple[int, int], int, int]) -> None:
    size, side, halo = plan
    image = torch.arange(size[0] * size[1]).reshape(size)
    for tile in plan_tiles(size, side, halo):
        assert torch.equal(image[tile.read][tile.inner], image[tile.keep])
        for keep, read, end in zip(tile.keep, tile.read, size, strict=True):
            assert read.start == max(0, keep.start - halo)
            assert read.stop == min(end, keep.stop + halo)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(size=st.tuples(st.integers(1, 20), st.integers(1, 20)), side=st.integers(1, 22), radius=st.integers(0, 4))
def test_a_local_operation_is_the_same_tile_by_tile(size: tuple[int, int], side: int, radius: int) -> None:
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.rand(1, 1, 2 * radius + 1, 2 * radius + 1, generator=torch.Generator().manual_seed(1)).double()

    def blur(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=radius)

    out = torch.full_like(image, torch.nan)
    for tile in plan_tiles(size, side, radius):
        out[..., *tile.keep] = blur(image[..., *tile.read])[..., *tile.inner]
    assert torch.allclose(out, blur(image), atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(1, 22),
    halo=st.integers(0, 9),
    grid=st.integers(1, 8),
)
def test_a_grid_is_kept_from_both_ends(size: tuple[int, int], side: int, halo: int, grid: int) -> None:
    covered = torch.zeros(size, dtype=torch.int64)
    for tile in plan_tiles(size, side, halo, grid):
        covered[tile.keep] += 1
        for keep, read, inner, end in zip(tile.keep, tile.read, tile.inner, size, strict=True):
            assert read.start % grid == (end - read.stop) % grid == 0
            assert 0 <= read.start <= max(0, keep.start - halo)
            assert min(end, keep.stop + halo) <= read.stop <= end
            assert (read.start + inner.start, read.start + inner.stop) == (keep.start, keep.stop)
    assert (covered == 1).all()
