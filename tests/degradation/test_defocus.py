"""A disk leaves a dark ring in the spectrum, also in noise; a Gaussian leaves none."""

import pytest
import torch

from tests.degradation.test_motions import SIGMA, captured
from zssr_gan.degradation.defocus import dark_ring
from zssr_gan.degradation.estimator import cut_tiles
from zssr_gan.degradation.model import Blur, DefocusBlur, GaussianBlur
from zssr_gan.degradation.recurrence import EstimationSettings, Recurrence, Tiles, fit_blur
from zssr_gan.degradation.shapes import choose_shape


def tiles(blur: Blur) -> Tiles:
    return cut_tiles(captured([blur] * 40), EstimationSettings())


@pytest.mark.parametrize("radius", [1.3, 1.7])
def test_a_disk_is_told_with_its_radius(radius: float) -> None:
    found, better = dark_ring(tiles(DefocusBlur(radius=radius)), SIGMA, 0.7)
    assert better > 1.4
    assert found == pytest.approx(radius, rel=0.1)


@pytest.mark.parametrize("widths", [(0.9, 0.9), (0.6, 0.5), (0.0, 0.0)], ids=["wide", "narrow", "sharp"])
def test_a_gaussian_has_no_ring(widths: tuple[float, float]) -> None:
    blur = GaussianBlur(sigma_major=widths[0], sigma_minor=widths[1], angle_degrees=30)
    assert dark_ring(tiles(blur), SIGMA, max(widths[0], 0.2))[1] < 1.4


def test_small_tiles_say_nothing() -> None:
    assert dark_ring(Tiles((torch.rand(9, 12, 30),)), SIGMA, 0.7) == (0.0, 0.0)


def test_the_ring_decides_where_noise_hides_the_disk_from_recurrence() -> None:
    noisy = captured([DefocusBlur(radius=1.5)] * 40, sigma=2 / 255)
    settings = EstimationSettings(trials=40, defocus=50.0)  # no misfit of recurrence is so much better
    seen = Recurrence(cut_tiles(noisy, settings), None, settings, seed=0)
    fit, why = choose_shape(seen, fit_blur(seen, 2 / 255), lambda: None)
    assert isinstance(fit.blur, DefocusBlur)
    assert fit.blur.radius == pytest.approx(1.5, rel=0.1)
    assert "dark ring" in why
