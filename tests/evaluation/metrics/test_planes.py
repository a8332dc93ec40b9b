"""Y and RGB in levels."""

import numpy as np
import pytest
import torch

from zssr_gan.evaluation.metrics.planes import planes_of, rounded


@pytest.mark.parametrize(
    ("colour", "y"),
    [((0, 0, 0), 16.0), ((1, 1, 1), 235.0), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)],
)
def test_y_is_that_of_the_standard(colour: tuple[float, ...], y: float) -> None:
    pixels = torch.tensor(colour, dtype=torch.float32)[:, None, None].expand(3, 2, 3)
    planes = planes_of(pixels, "Y")
    assert planes.shape == (1, 2, 3)
    np.testing.assert_allclose(planes, y, atol=1e-5)


def test_rgb_are_the_files_integers() -> None:
    levels = torch.arange(3 * 8 * 10).reshape(3, 8, 10) % 256
    assert planes_of(levels / 255, "RGB").tolist() == levels.double().tolist()


def test_gray_counts_as_three_equal_channels() -> None:
    gray = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0))
    for plane in ("Y", "RGB"):
        np.testing.assert_array_equal(planes_of(gray, plane), planes_of(gray.expand(3, -1, -1), plane))


def test_a_border_is_cut_off_each_side() -> None:
    pixels = torch.rand(3, 7, 9, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(planes_of(pixels, "RGB", 2), planes_of(pixels, "RGB")[:, 2:5, 2:7])


def test_rounding_is_the_files() -> None:
    given = torch.tensor([-0.5, 0.0019, 0.0021, 0.5, 1.2])
    assert (rounded(given) * 255).tolist() == pytest.approx([0, 0, 1, 128, 255])
