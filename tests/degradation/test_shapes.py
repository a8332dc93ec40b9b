"""Motion and defocus are told from a Gaussian, and their numbers found."""

import pytest

from tests.degradation.test_recurrence import recurrence
from zssr_gan.degradation.model import Blur, DefocusBlur, Degradation, GaussianBlur, MotionBlur, Noise
from zssr_gan.degradation.noise import LUMA_NOISE
from zssr_gan.degradation.recurrence import Recurrence, fit_blur
from zssr_gan.degradation.shapes import choose_shape, disks_like, fit_shape, motions_like

SIGMA = 0.5 / 255


def looked_at(blur: Blur) -> Recurrence:
    return recurrence(Degradation(blur=blur, noise=Noise(sigma=SIGMA)), trials=40)


def chosen(blur: Blur) -> tuple[Blur, str]:
    seen = looked_at(blur)
    fit, why = choose_shape(seen, fit_blur(seen, SIGMA * LUMA_NOISE), lambda: None)
    return fit.blur, why


@pytest.mark.parametrize(("length", "angle"), [(4.5, 20.0), (3.0, 110.0)])
def test_motion_is_found(length: float, angle: float) -> None:
    found, why = chosen(MotionBlur(length=length, angle_degrees=angle))
    assert isinstance(found, MotionBlur)
    assert found.length == pytest.approx(length, rel=0.15)
    assert found.angle_degrees == pytest.approx(angle, abs=10)
    assert why


def test_defocus_is_found() -> None:
    found, why = chosen(DefocusBlur(radius=2.0))
    assert isinstance(found, DefocusBlur)
    assert found.radius == pytest.approx(2.0, rel=0.1)
    assert "times as well as a Gaussian" in why


@pytest.mark.parametrize(
    "blur",
    [
        GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=30),
        GaussianBlur(sigma_major=0.7, sigma_minor=0.7),
        GaussianBlur(sigma_major=0, sigma_minor=0),
    ],
    ids=["elongated", "round", "none"],
)
def test_a_gaussian_stays_as_it_was_found(blur: GaussianBlur) -> None:
    seen = looked_at(blur)
    found = fit_blur(seen, SIGMA * LUMA_NOISE)
    assert choose_shape(seen, found, lambda: None) == (found, "")


def test_tiles_too_small_for_the_windows_leave_the_gaussian() -> None:
    seen = looked_at(MotionBlur(length=4.5, angle_degrees=20))
    small = seen.of(type(seen.tiles)(tuple(group[:, :20, :20] for group in seen.tiles.groups)), 8)
    found = fit_blur(small, SIGMA * LUMA_NOISE)
    assert choose_shape(small, found, lambda: None) == (found, "")


def test_a_search_close_by_ends_no_higher_than_it_began() -> None:
    blur = DefocusBlur(radius=1.6, sigma=0.3)
    seen = looked_at(blur).of(looked_at(blur).tiles, 12)
    tried: list[None] = []
    found = fit_shape(seen, SIGMA * LUMA_NOISE, blur, close_by=True, on_step=lambda: tried.append(None))
    assert found.misfit <= seen.misfit(blur, SIGMA * LUMA_NOISE)
    assert 3 < len(tried) <= seen.settings.trials // 5 + 3


def test_shapes_have_the_variance_of_the_gaussian_that_a_search_begins_from() -> None:
    gaussian = GaussianBlur(sigma_major=1.1, sigma_minor=0.4, angle_degrees=70)
    assert motions_like(gaussian)[1].covariance().flatten().tolist() == pytest.approx(
        gaussian.covariance().flatten().tolist()
    )
    round_ = GaussianBlur(sigma_major=0.8, sigma_minor=0.8)
    assert float(disks_like(round_)[1].covariance()[0, 0]) == pytest.approx(0.64, abs=0.02)
