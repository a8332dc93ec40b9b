"""The weighted sum of the losses that are asked for; a blur that is not alike in all directions."""

import torch

from tests.training.conftest import images_of
from zssr_gan.imaging.degradation import Degradation, DegradedDownscale, GaussianBlur
from zssr_gan.imaging.resampling import BicubicDownscale
from zssr_gan.stages import LossSettings
from zssr_gan.training.objective import Objective
from zssr_gan.training.sampling import Batch, Images, Sampler

BLUR = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=1.6, sigma_minor=0.4, angle_degrees=20)))


def test_only_what_is_asked_for() -> None:
    settings = LossSettings(mediator=0.0, pixel=2.0, consistency=0.5)
    batch = Sampler(images_of(4), patch=None, scale=2, batch=4, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    objective = Objective(settings, None, [BicubicDownscale()])
    found = objective.content(batch.hr, batch, None)
    assert set(found) == {"pixel", "consistency"}
    assert torch.isclose(objective.total(found), 2 * found["pixel"] + 0.5 * found["consistency"])


def test_a_turned_patch_is_held_against_its_camera_upright() -> None:
    """The truth, turned, costs nothing; and two cameras in one batch are told apart."""
    first = images_of(6)
    assert first.hr is not None
    lr = []
    for number, hr in enumerate(first.hr):
        downscale = (BLUR, BicubicDownscale())[number % 2]
        lr.append((downscale(hr[None].float() / 255, (10, 10))[0] * 255).round().clamp(0, 255).byte())
    images = Images(first.ids, tuple(lr), first.hr, tuple(number % 2 for number in range(6)))
    batch = Sampler(images, patch=None, scale=2, batch=24, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    assert len(set(batch.turned)) > 4
    settings = LossSettings(mediator=0.0, consistency=1.0)
    right = Objective(settings, None, [BLUR, BicubicDownscale()]).content(batch.hr, batch, None)["consistency"]
    assert right < 1 / 255
    upright = Batch(batch.lr, batch.hr, (0,) * 24, batch.cameras)
    wrong = Objective(settings, None, [BLUR, BicubicDownscale()]).content(batch.hr, upright, None)["consistency"]
    assert wrong > 2 * right
