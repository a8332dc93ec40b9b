"""An image that was not blurred like the others of its set is found, and those that were are left."""

from collections.abc import Callable

import pytest
import torch
from skimage import data
from torch import Tensor

from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.sharper import sharper_images
from zssr_gan.inference.record import DegradationFacts

BLUR = GaussianBlur(sigma_major=0.8, sigma_minor=0.6, angle_degrees=30)


def captured(degradation: Degradation) -> list[Tensor]:
    """Crops of a photograph, 32 px, as a camera makes them."""
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    crops = torch.stack([photograph[:, y : y + 64, x : x + 64] for y in range(0, 320, 64) for x in range(128, 384, 64)])
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


def test_they_are_bicubic_in_the_estimate_and_in_records(make_estimate: Callable[..., Estimate]) -> None:
    found = make_estimate("a", "b", "c", sharper=("b",), own_jpeg={"c": Jpeg.of_quality(60)})
    assert found.others == ("c", "b")
    assert found.of("a") == found.degradation
    assert found.of("b") == found.degradation.model_copy(update={"blur": None})
    assert "1 images are sharper" in found.summary
    assert "sharper" in DegradationFacts.estimated(found, "b").why
    assert DegradationFacts.estimated(found, "a").why == found.why
    assert found.evidence_sha256 != found.model_copy(update={"sharper": ()}).evidence_sha256
