"""Bicubic resampling: sizes, positions, symmetries."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.images import quick, ramp, scales, sides
from zssr_gan.imaging import dihedral
from zssr_gan.imaging import resize as resize_module
from zssr_gan.imaging.resize import axis_matrix, enlarged_size, reduced_size, resize, resize_transpose


class TestSizes:
    @pytest.mark.parametrize(
        ("size", "scale", "expected"),
        [
            ((25, 25), (2, 2), (13, 13)),
            ((24, 25), (2, 2), (12, 13)),
            ((33, 33), (1.1, 1.1), (30, 30)),
            ((10, 9), (4, 3), (3, 3)),
            ((1, 3), (8, 8), (1, 1)),
            ((10, 10), (1, 1), (10, 10)),
        ],
    )
    def test_reduced(self, size: tuple[int, int], scale: tuple[float, float], expected: tuple[int, int]) -> None:
        assert reduced_size(size, scale) == expected

    @pytest.mark.parametrize(
        ("size", "scale", "expected"),
        [
            ((25, 13), (2, 2), (50, 26)),
            ((25, 25), (1.5, 1.5), (38, 38)),
            ((25, 27), (1.5, 2.0), (38, 54)),
            ((25, 25), (2.5, 1), (63, 25)),
            ((3, 5), (1.1, 1.1), (3, 6)),
        ],
    )
    def test_enlarged_halves_go_up(
        self, size: tuple[int, int], scale: tuple[float, float], expected: tuple[int, int]
    ) -> None:
        assert enlarged_size(size, scale) == expected

    @quick
    @given(side=st.integers(1, 500), factor=st.integers(1, 8))
    def test_whole_factors_there_and_back(self, side: int, factor: int) -> None:
        assert reduced_size(enlarged_size((side, side), (factor, factor)), (factor, factor)) == (side, side)

    @quick
    @given(side=st.integers(1, 500), scale=scales)
    def test_a_reduced_image_covers_the_large_one(self, side: int, scale: float) -> None:
        small = reduced_size((side, side), (scale, scale))[0]
        assert (small - 1) * scale < side <= small * scale + 1e-6


class TestResize:
    @quick
    @given(from_=st.tuples(sides, sides), to=st.tuples(sides, sides), value=st.floats(0, 1))
    def test_constants_stay(self, from_: tuple[int, int], to: tuple[int, int], value: float) -> None:
        out = resize(torch.full((1, *from_), value), to)
        assert out.shape == (1, *to)
        assert (out - value).abs().max() < 1e-5

    @quick
    @given(from_=st.tuples(st.integers(24, 40), st.integers(24, 40)), scale=st.floats(0.35, 4))
    def test_linear_ramps_keep_their_positions(self, from_: tuple[int, int], scale: float) -> None:
        """Away from the border, each pixel shows the position at which its centre lies."""
        to = (max(1, round(from_[0] * scale)), max(1, round(from_[1] * scale)))
        out = resize(ramp(*from_), to)[0]
        expected = ramp(*to)[0] * torch.tensor([from_[0] / to[0], from_[1] / to[1]])[:, None, None]
        # Bicubic reaches two pixels, or two of the smaller image's where that shrinks.
        edge = [2.5 * max(1.0, f / t) for f, t in zip(from_, to, strict=True)]
        inner = (expected > torch.tensor(edge)[:, None, None]) & (
            expected < (torch.tensor(from_) - torch.tensor(edge))[:, None, None]
        )
        both = inner.all(0)
        assert both.any()
        assert (out - expected)[:, both].abs().max() < 0.03

    @quick
    @given(
        k=st.sampled_from(dihedral.ALL),
        from_=st.tuples(sides, sides),
        to=st.tuples(sides, sides),
        seed=st.integers(0, 99),
    )
    def test_symmetries_commute(self, k: int, from_: tuple[int, int], to: tuple[int, int], seed: int) -> None:
        image = torch.rand(1, *from_, generator=torch.Generator().manual_seed(seed))
        turned = to if k % 2 == 0 else to[::-1]
        there = resize(dihedral.transform(image, k), turned)
        assert torch.allclose(there, dihedral.transform(resize(image, to), k), atol=1e-5)

    def test_three_and_four_dimensions(self, astronaut: Tensor) -> None:
        assert torch.equal(resize(astronaut, (30, 41)), resize(astronaut[None], (30, 41))[0])
        assert resize(astronaut, (30, 41)).shape == (3, 30, 41)

    def test_the_same_size_is_the_same_image(self, astronaut: Tensor) -> None:
        assert torch.equal(resize(astronaut, (64, 64)), astronaut)

    @pytest.mark.parametrize("size", [(32, 32), (21, 50), (128, 100)])
    def test_is_the_bicubic_of_the_field(self, astronaut: Tensor, size: tuple[int, int]) -> None:
        """Pillow's is Keys' kernel with a = -0.5, widened when shrinking, and an implementation of its own."""
        plane = Image.fromarray(astronaut[0].numpy())
        expected = np.asarray(plane.resize(size[::-1], Image.Resampling.BICUBIC))
        assert np.abs(resize(astronaut[:1], size)[0].numpy() - expected).max() < 1e-4


class TestTranspose:
    @pytest.mark.parametrize("largest_dense", [256, 0], ids=["small", "large"])
    @pytest.mark.parametrize(("side", "to"), [(64, 32), (65, 33), (33, 22), (8, 1), (40, 5), (16, 16), (22, 33)])
    def test_is_that_of_the_matrix(
        self, side: int, to: int, largest_dense: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resize_module, "LARGEST_DENSE", largest_dense)
        y = torch.rand(2, 3, to, 5, generator=torch.Generator().manual_seed(0))
        rows = axis_matrix(side, to, torch.float32, y.device)
        columns = axis_matrix(9, 5, torch.float32, y.device)
        # torch rounds positions to float32.
        assert torch.allclose(resize_transpose(y, (side, 9)), rows.T @ y @ columns, atol=1e-5)

    def test_inner_products_agree(self) -> None:
        made = torch.Generator().manual_seed(0)
        x, y = torch.rand(2, 3, 40, 31, generator=made), torch.rand(2, 3, 20, 21, generator=made)
        assert torch.allclose((resize(x, (20, 21)) * y).sum(), (x * resize_transpose(y, (40, 31))).sum())
