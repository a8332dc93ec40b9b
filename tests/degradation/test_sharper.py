"""Images that were not blurred like the others of their set have their own blur, and those that were have the set's."""

from collections.abc import Callable

import pytest
import torch
from skimage import data
from torch import Tensor

from tests.zeroshot.native import QUICK
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimator import cut_tiles
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.recurrence import Fit, Recurrence
from zssr_gan.degradation.sharper import own_blurs, sharper_images
from zssr_gan.inference.record import DegradationFacts

BLUR = GaussianBlur(sigma_major=0.8, sigma_minor=0.6, angle_degrees=30)


def captured(degradation: Degradation, step: int = 64) -> list[Tensor]:
    """Crops of a photograph, 32 px, as a camera makes them; `step` HR pixels between two."""
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    crops = torch.stack(
        [photograph[:, y : y + 64, x : x + 64] for y in range(0, 320, step) for x in range(128, 384, step)]
    )
    small = degradation.downscale(crops, (32, 32))
    noise = torch.randn(small.shape, generator=torch.Generator().manual_seed(0))
    return [*(degradation.downscale.capture(small, noise).clamp(0, 1) * 255).round().div(255)]


@pytest.mark.parametrize(
    "beside", [Degradation(), Degradation(noise=Noise(sigma=4 / 255)), Degradation(jpeg=Jpeg.of_quality(75))]
)
def test_sharp_ones_are_told_from_blurred_ones(beside: Degradation) -> None:
    blurred = beside.model_copy(update={"blur": BLUR})
    assumed = blurred.model_copy(update={"jpeg": None})
    assert sum(sharper_images(captured(blurred), assumed)) <= 1
    assert sum(sharper_images(captured(beside), assumed)) >= 12  # of 20


def test_small_images_and_none_without_blur() -> None:
    assert sharper_images([torch.rand(3, 10, 40)], Degradation(blur=BLUR)) == [False]
    assert sharper_images([torch.rand(3, 40, 40)], Degradation(noise=Noise(sigma=0.01))) == [False]


def test_they_have_their_own_blur_in_the_estimate_and_in_records(make_estimate: Callable[..., Estimate]) -> None:
    found = make_estimate("a", "b", "c", "d", own_blur={"b": None, "d": BLUR}, own_jpeg={"c": Jpeg.of_quality(60)})
    assert set(found.others) == {"b", "c", "d"}
    assert found.of("a") == found.degradation
    assert found.of("b") == found.degradation.model_copy(update={"blur": None})
    assert found.of("d") == found.degradation.model_copy(update={"blur": BLUR})
    assert "1 image is sharper" in found.summary
    assert f"1 image: {BLUR.sigma_major:.1f} x {BLUR.sigma_minor:.1f} LR pixels)" in found.summary
    assert "sharper" in DegradationFacts.estimated(found, "b").why
    assert "of about this sharpness" in DegradationFacts.estimated(found, "d").why
    assert DegradationFacts.estimated(found, "a").why == found.why
    assert found.evidence_sha256 != found.model_copy(update={"own_blur": {}}).evidence_sha256
    assert Estimate.model_validate_json(found.model_dump_json()) == found


def variance(blur: object) -> float:
    return float(blur.covariance().trace()) if isinstance(blur, Blur) else 0.0


def thirds_of(*blurs: GaussianBlur) -> list[float]:
    """Variance of the blur that each image of a set gets, whose cameras have these blurs in turn."""
    each = [captured(Degradation(blur=blur, noise=Noise(sigma=1 / 255)), step=32) for blur in blurs]
    images = [each[n % len(blurs)][n] for n in range(len(each[0]))]
    mean = GaussianBlur.of_covariance(sum(blur.covariance() for blur in blurs) / len(blurs))
    found = Fit(mean, 1 / 255, 0.1)
    whole = Recurrence(cut_tiles(images, QUICK), None, QUICK, seed=0)
    of_set = Degradation(blur=mean, noise=Noise(sigma=1 / 255))
    own = own_blurs(images, of_set, whole, found, lambda some: cut_tiles(some, QUICK), lambda: None)
    return [variance(own.get(place, mean)) for place in range(len(images))]


def test_a_set_of_one_camera_has_one_blur() -> None:
    assert thirds_of(BLUR).count(variance(BLUR)) >= 55  # of 60, the others taken as bicubic


def test_images_of_several_cameras_have_each_about_its_own_blur() -> None:
    sharp, soft = (GaussianBlur(sigma_major=width, sigma_minor=width, angle_degrees=0) for width in (0.4, 1.3))
    own = thirds_of(sharp, soft)
    assert len(set(own)) >= 3
    assert sum(own[1::2]) > 1.5 * sum(own[::2])
    assert max(own) < variance(soft)


def test_too_few_images_have_one_blur() -> None:
    images = captured(Degradation(blur=BLUR))
    whole = Recurrence(cut_tiles(images, QUICK), None, QUICK, seed=0)
    own = own_blurs(
        images, Degradation(blur=BLUR), whole, Fit(BLUR, 0.0, 0.1), lambda some: cut_tiles(some, QUICK), lambda: None
    )
    assert not [blur for blur in own.values() if blur is not None]
