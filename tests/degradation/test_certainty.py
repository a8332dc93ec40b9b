"""Whether a blur is used: not where it is a small set's chance that it fits better than none."""

import pytest

from zssr_gan.degradation.certainty import verdict
from zssr_gan.degradation.estimate import Certainty
from zssr_gan.degradation.recurrence import EstimationSettings


@pytest.mark.parametrize(
    ("misfit", "bicubic", "spread", "used"),
    [
        (0.138, 0.967, 57.6, True),  # 24 crops of 16 x 20 pixels, blurred by 1.1 x 0.8 HR pixels, JPEG 75
        (0.056, 0.517, 50.3, False),  # the same, not blurred, JPEG 60: recurs 9 times as well by chance
        (0.050, 0.569, 58.4, True),  # 24 faces of 32 pixels, blurred by 0.7 HR pixels, much noise
        (0.061, 0.384, 60.0, False),  # 100 of them, not blurred, JPEG 90
        (0.201, 0.987, 55.0, False),  # a sharp photograph, JPEG 75
        (0.163, 1.241, 57.0, True),  # a blurred one
        (0.163, 1.241, 45.0, False),  # parts of the set say what is too far apart
        (0.0, 0.0, 60.0, False),
    ],
)
def test_small_sets_and_photographs(misfit: float, bicubic: float, spread: float, used: bool) -> None:
    certainty = Certainty(
        blurs=(),
        tiles=24,
        sigma_major=0.01,
        sigma_minor=0.01,
        spread_db=spread,
        bicubic_db=41.0,
        misfit=misfit,
        misfit_bicubic=bicubic,
    )
    sure, why = verdict(certainty, EstimationSettings())
    assert sure == used
    assert "times are needed" in why
