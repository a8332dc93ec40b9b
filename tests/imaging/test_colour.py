"""8-bit levels and PSNR."""

import pytest
import torch

from zssr_gan.imaging.colour import from_levels, psnr_db, to_levels


def test_levels_there_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    pixels = from_levels(levels)
    assert (pixels.dtype, float(pixels[0]), float(pixels[-1])) == (torch.float32, 0, 1)
    assert torch.equal(pixels, (levels.double() / 255).float())
    assert torch.equal(to_levels(pixels), levels)
    assert to_levels(torch.tensor([-0.2, 0.4 / 255, 0.6 / 255, 1.3])).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize(
    ("error", "decibel"), [(1.0, 0.0), (0.01, 20.0), ((1 / 255) ** 2, 48.1308), (1e-12, 100.0), (0, 100.0)]
)
def test_decibels(error: float, decibel: float) -> None:
    assert psnr_db(error) == pytest.approx(decibel, abs=1e-4)
