"""The weighted sum of the losses that are asked for; a blur that is not alike in all directions."""

import pytest
import torch
from torch import Tensor

from tests.training.conftest import images_of
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur
from zssr_gan.degradation.operators import BicubicDownscale, Downscale
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.train import LossSettings
from zssr_gan.training.losses import Objective
from zssr_gan.training.sampling import Batch, Images, Sampler

BLUR = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=1.6, sigma_minor=0.4, angle_degrees=20)))


def no_generator(_x: Tensor) -> Tensor:
    raise AssertionError("no loss that was asked for needs it")


def test_only_what_is_asked_for() -> None:
    settings = LossSettings(mediator=0.0, pixel=2.0, consistency=0.5)
    batch = Sampler(images_of(4), patch=None, scale=2, batch=4, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    objective = Objective(settings, None, [BicubicDownscale()], 2)
    found = objective.content(no_generator, batch.hr, batch)
    assert set(found) == {"pixel", "consistency"}
    assert torch.isclose(objective.total(found), 2 * found["pixel"] + 0.5 * found["consistency"])


def test_a_turned_patch_is_compared_by_its_camera_upright() -> None:
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
    right = Objective(settings, None, [BLUR, BicubicDownscale()], 2).content(no_generator, batch.hr, batch)[
        "consistency"
    ]
    assert right < 1 / 255
    upright = Batch(batch.lr, batch.hr, (0,) * 24, batch.cameras, batch.seeds)
    wrong = Objective(settings, None, [BLUR, BicubicDownscale()], 2).content(no_generator, batch.hr, upright)[
        "consistency"
    ]
    assert wrong > 2 * right


def test_the_input_is_the_truth_of_its_own_shrunk_copy() -> None:
    """A generator that undoes the shrinking costs nothing; what it is given was shrunk by each image's own camera."""
    images = images_of(6)
    images = Images(images.ids, images.lr, images.hr, (0, 1, 0, 1, 0, 1))
    batch = Sampler(images, patch=9, scale=2, batch=12, seed=0, stream="test").batch(0)
    downscales = [BLUR, BicubicDownscale()]
    given: list[Tensor] = []

    def answers(small: Tensor) -> Tensor:
        given.append(small)
        return batch.lr[..., :8, :8]

    settings = LossSettings(mediator=0.0, recurrence=1.0)
    objective = Objective(settings, None, downscales, 2)
    assert objective.content(answers, batch.lr, batch) == {"recurrence": 0}
    (small,) = given
    assert small.shape == (12, 1, 4, 4)
    for place, (camera, k) in enumerate(zip(batch.cameras, batch.turned, strict=True)):
        upright = dihedral.inverse(batch.lr[place, :, :8, :8], k)[None]
        expected = dihedral.transform(downscales[camera](upright, (4, 4))[0], k)
        # The blurred camera's images have rounding's noise at least.
        assert (small[place] - expected).abs().max() < (6 / 255 if camera == 0 else 1e-6)
        assert torch.allclose(small[place], expected, atol=1e-6) == (camera == 1)
    objective.content(answers, batch.lr, batch)
    assert torch.equal(given[1], small)  # of the same batch, the same noise: a resumed run draws it again
    off = objective.content(lambda _lr: batch.lr[..., :8, :8] + 0.25, batch.lr, batch)
    assert float(off["recurrence"]) == pytest.approx(0.25)


def test_the_same_pair_in_features() -> None:
    """With features that are the pixels twice, four times the squared distance."""
    batch = Sampler(images_of(4), patch=8, scale=2, batch=4, seed=0, stream="test").batch(0)
    settings = LossSettings(mediator=0.0, recurrence_features=1.0)
    assert settings.need_features
    assert settings.have_content
    objective = Objective(settings, lambda x: {"layer": 2 * x}, [BicubicDownscale()], 2)
    found = objective.content(lambda _lr: batch.lr + 0.25, batch.lr, batch)
    assert set(found) == {"recurrence_features"}
    assert float(found["recurrence_features"]) == pytest.approx(4 * 0.25**2)


@pytest.mark.parametrize("downscale", [BicubicDownscale(), BLUR])
def test_the_truth_of_a_patch_costs_nothing(downscale: Downscale) -> None:
    """At its borders a camera saw what the patch does not show: they do not count."""
    draws = torch.Generator().manual_seed(0)
    hr = resize(torch.rand(4, 1, 40, 40, generator=draws), (96, 96)).clamp(0, 1)
    lr = downscale(hr, (48, 48)).clamp(0, 1)
    levels = [tuple((x * 255).round().to(torch.uint8)) for x in (lr, hr)]
    images = Images(tuple("abcd"), levels[0], levels[1], (0,) * 4)
    found = {}
    for patch in (48, 24):
        batch = Sampler(images, patch=patch, scale=2, batch=8, seed=0, stream="test").batch(0)
        assert batch.cut == (patch == 24)
        assert batch.hr is not None
        settings = LossSettings(mediator=0.0, consistency=1.0)
        found[patch] = Objective(settings, None, [downscale], 2).content(no_generator, batch.hr, batch)
    rounding = 0.5 / 255
    assert found[48]["consistency"] < rounding
    assert found[24]["consistency"] < rounding


def test_borders_of_a_shrunk_patch_do_not_count() -> None:
    batch = Sampler(images_of(4), patch=8, scale=2, batch=4, seed=0, stream="test").batch(0)
    off = batch.lr.clone()
    off[..., :2, :] += 1  # of the shrunk patch's four pixels one on each side does not count
    settings = LossSettings(mediator=0.0, recurrence=1.0)
    objective = Objective(settings, None, [BicubicDownscale()], 2)
    assert float(objective.content(lambda _lr: off, batch.lr, batch)["recurrence"]) == 0


def test_the_norm_of_pixels() -> None:
    batch = Sampler(images_of(4), patch=8, scale=2, batch=4, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    found = {
        norm: Objective(
            LossSettings(mediator=0.0, pixel=1.0, pixel_norm=norm, guide="synthetic"), None, [BLUR], 2
        ).content(no_generator, batch.hr + 0.25, batch)["pixel"]
        for norm in ("l1", "l2")
    }
    assert [float(found[norm]) for norm in ("l1", "l2")] == pytest.approx([0.25, 0.0625])


class TestAdversarialLosses:
    """Of generator and discriminator; logits are an image's mean."""

    def discriminator(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))[:, None]

    def test_halves_sum_to_the_loss(self) -> None:
        reals, weights = {"synthetic": torch.ones(4, 1), "lr": torch.zeros(4, 1)}, {"synthetic": 0.75, "lr": 0.25}
        for kind in ("bce", "relativistic"):
            objective = Objective(LossSettings(gan=kind), None, [], 2)
            found = objective.discriminator(reals, weights, torch.full((4, 1), -2.0))
            assert float(found["real"] + found["fake"]) == pytest.approx(float(found["loss"]), rel=1e-6)
            assert not found["real"].requires_grad
        one = Objective(LossSettings(), None, [], 2).discriminator(
            {"lr": torch.zeros(1, 1)}, {"lr": 1.0}, torch.ones(1, 1)
        )
        assert float(one["real"]) == pytest.approx(0.6931, abs=1e-4)
        assert float(one["fake"]) == pytest.approx(1.3133, abs=1e-4)

    def test_only_the_relativistic_generator_looks_at_reals(self) -> None:
        sr = torch.full((2, 1, 4, 4), 0.25, requires_grad=True)
        bright, dark = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
        plain, relativistic = (Objective(LossSettings(gan=kind), None, [], 2) for kind in ("bce", "relativistic"))
        assert torch.equal(
            plain.generator_adversarial(self.discriminator, sr, {}, {"synthetic": 1.0}),
            plain.adversarial.generator(self.discriminator(sr)),
        )
        losses = [
            relativistic.generator_adversarial(self.discriminator, sr, {"synthetic": real}, {"synthetic": 1.0})
            for real in (dark, bright)
        ]
        assert losses[0] < losses[1]
        both = relativistic.generator_adversarial(
            self.discriminator, sr, {"synthetic": dark, "lr": bright}, {"synthetic": 0.75, "lr": 0.25}
        )
        assert torch.isclose(both, 0.75 * losses[0] + 0.25 * losses[1])

    def test_accuracy_depends_on_the_loss(self) -> None:
        """Logits all above 0, those of real examples further: only compared are they all right."""
        real, fake = torch.full((4, 1), 3.0), torch.ones(4, 1)
        found = {
            kind: Objective(LossSettings(gan=kind), None, [], 2).discriminator({"lr": real}, {"lr": 1.0}, fake)[
                "accuracy"
            ]
            for kind in ("bce", "relativistic")
        }
        assert {kind: float(value) for kind, value in found.items()} == {"bce": 0.5, "relativistic": 1.0}
