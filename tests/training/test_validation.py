"""Figures of outputs, and what is warned of: a collapse must not pass unseen."""

import torch

from tests.training.conftest import images_of
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.imaging.resize import resize
from zssr_gan.training.validation import measure

IMAGES = images_of(5)
assert IMAGES.hr is not None
HR = [hr.float() / 255 for hr in IMAGES.hr]
DOWNSCALES = [BicubicDownscale()]


def test_the_truth() -> None:
    figures = measure(HR, IMAGES, DOWNSCALES)
    assert figures.hr_db == 100
    assert figures.residual_db > 50
    assert figures.colour_shift < 0.2
    assert abs(figures.diversity - 1) < 0.05
    assert not figures.warnings(0.6)


def test_bicubic_is_its_own_row() -> None:
    bicubic = [resize(lr.float() / 255, (20, 20)).clamp(0, 1) for lr in IMAGES.lr]
    figures = measure(bicubic, IMAGES, DOWNSCALES)
    assert figures.hr_db == figures.bicubic_db < 100


def test_collapse_is_said() -> None:
    same = [HR[0]] * 5
    said = measure(same, IMAGES, DOWNSCALES).warnings(None)
    assert any("collapses" in text for text in said)
    assert any(
        "colours are shifted" in text for text in measure([hr + 0.1 for hr in HR], IMAGES, DOWNSCALES).warnings(None)
    )
    assert any("99.0 % rightly" in text for text in measure(HR, IMAGES, DOWNSCALES).warnings(0.99))


def test_shift_is_in_levels() -> None:
    darker = [torch.clamp(hr * 0 + hr.mean() - 10 / 255, 0, 1) for hr in HR]
    assert abs(measure(darker, IMAGES, DOWNSCALES).colour_shift - 10) < 0.3
