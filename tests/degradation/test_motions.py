"""Images that moved each in its own way get each its own motion; sets of one camera keep one blur."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.estimator import Evidence, cut_tiles, estimate_degradation
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur, MotionBlur
from zssr_gan.degradation.motions import own_motions
from zssr_gan.degradation.recurrence import EstimationSettings, Fit, Recurrence
from zssr_gan.inference.record import DegradationFacts
from zssr_gan.provenance import CaseImage

SIGMA = 1 / 255


def scenes(count: int, seed: int = 0) -> Tensor:
    """`B 1 64 64` of random phases, whose power falls as natural images' does."""
    rng = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None]
    fall = (x**2 + y**2 + (1 / 64) ** 2) ** -0.6
    waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 64, 64))) * fall).real
    waves = 0.5 + 0.15 * (waves - waves.mean((1, 2), keepdims=True)) / waves.std((1, 2), keepdims=True)
    return torch.from_numpy(waves).float()[:, None]


def captured(blurs: Sequence[Blur], seed: int = 0, sigma: float = SIGMA) -> list[Tensor]:
    """`1 32 32` each, of 8 bits: a scene under each blur, halved, with noise."""
    made = torch.Generator().manual_seed(seed)
    out = []
    for scene, blur in zip(scenes(len(blurs), seed), blurs, strict=True):
        small = Degradation(blur=blur).downscale(scene[None], (32, 32))[0]
        out.append(((small + sigma * torch.randn(small.shape, generator=made)).clamp(0, 1) * 255).round() / 255)
    return out


def ways(count: int, sigma: float = 0.0) -> list[MotionBlur]:
    rng = np.random.default_rng(count)
    return [
        MotionBlur(length=rng.uniform(1.5, 3.5), angle_degrees=rng.uniform(0, 180), sigma=sigma) for _ in range(count)
    ]


def found(images: list[Tensor]) -> tuple[dict[int, MotionBlur], str]:
    settings = EstimationSettings()
    whole = Recurrence(cut_tiles(images, settings), None, settings, seed=0)
    return own_motions(images, whole, Fit(GaussianBlur(sigma_major=0.5, sigma_minor=0.5), SIGMA, 0.1), lambda: None)


@pytest.mark.parametrize("lens", [0.0, 0.6])
def test_each_image_has_its_own_motion(lens: float) -> None:
    true = ways(20, lens)
    motions, why = found(captured(true))
    assert sorted(motions) == list(range(20))
    assert "each in its own way" in why
    off = [abs(motions[n].angle_degrees - one.angle_degrees) for n, one in enumerate(true)]
    assert sum(min(angle, 180 - angle) < 20 for angle in off) >= 18
    assert np.mean([abs(motions[n].length - one.length) for n, one in enumerate(true)]) < 0.4
    assert motions[0].sigma == pytest.approx(lens, abs=0.15)


@pytest.mark.parametrize(
    "blur",
    [
        GaussianBlur(sigma_major=0, sigma_minor=0),
        GaussianBlur(sigma_major=1.0, sigma_minor=0.5, angle_degrees=30),
        MotionBlur(length=3, angle_degrees=50),
    ],
    ids=["sharp", "lens", "one motion"],
)
def test_images_of_one_camera_have_none(blur: Blur) -> None:
    assert found(captured([blur] * 20)) == ({}, "")


def test_images_of_unlike_sharpness_have_none() -> None:
    widths = np.random.default_rng(0).uniform(0.2, 1.2, 20)
    assert found(captured([GaussianBlur(sigma_major=one, sigma_minor=one) for one in widths])) == ({}, "")


def test_few_or_small_images_have_none() -> None:
    images = captured(ways(20))
    assert found(images[:8]) == ({}, "")
    assert found([image[:, :22, :22] for image in images]) == ({}, "")


def test_an_estimate_says_it_and_records_too() -> None:
    true = ways(20)
    evidence = [
        Evidence(CaseImage(name=f"{n}.png", sha256=f"{n:064x}"), image) for n, image in enumerate(captured(true))
    ]
    quick = EstimationSettings(trials=20)
    estimate = estimate_degradation(evidence, quick)
    assert not estimate.fallback
    assert len(estimate.own_blur) == 20
    assert "20 images have each their own motion" in estimate.summary
    for one, blur in zip(evidence[:5], true, strict=False):
        own = estimate.of(one.image.sha256).blur
        assert isinstance(own, MotionBlur)
        assert abs(math.sin(math.radians(own.angle_degrees - blur.angle_degrees))) < math.sin(math.radians(25))
        assert DegradationFacts.estimated(estimate, one.image.sha256).values.blur == own
        assert "its own way" in DegradationFacts.estimated(estimate, one.image.sha256).why
