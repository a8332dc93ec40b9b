"""PSNR as every figure states it."""

import pytest

from zssr_gan.imaging.colour import psnr_db


@pytest.mark.parametrize(
    ("error", "decibel"), [(1.0, 0.0), (0.01, 20.0), ((1 / 255) ** 2, 48.1308), (1e-12, 100.0), (0, 100.0)]
)
def test_decibels(error: float, decibel: float) -> None:
    assert psnr_db(error) == pytest.approx(decibel, abs=1e-4)
