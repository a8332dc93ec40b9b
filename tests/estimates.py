"""Estimates made by hand: what the estimator would say, without its seconds."""

from collections.abc import Sequence
from dataclasses import asdict

from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.estimator import Evidence
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.provenance import CaseImage

WIDE = Degradation(blur=GaussianBlur(sigma_major=1.0, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.01))
NARROW = Degradation(blur=GaussianBlur(sigma_major=0.4, sigma_minor=0.4))


def estimate_of(degradation: Degradation, images: Sequence[CaseImage], seed: int = 0) -> Estimate:
    return Estimate(
        degradation=degradation,
        degradation_sha256=degradation.sha256,
        blur_estimated=None,
        fallback=degradation == Degradation(),
        why="it was said so",
        certainty=None,
        noise_from="nothing",
        jpeg_from="nothing",
        images=tuple(sorted(images, key=lambda image: (image.sha256, image.name))),
        settings=asdict(EstimationSettings()),
        seed=seed,
        versions={},
    )


def named(evidence: Sequence[Evidence]) -> list[CaseImage]:
    return [one.image for one in evidence]
