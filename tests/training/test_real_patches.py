"""What the discriminator takes for real: which images, in which share and size; which discriminators suit them."""

from functools import partial
from typing import Any

import pytest
import torch

from tests.training.conftest import images_of
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import SettingsError
from zssr_gan.networks.srgan import Discriminator, DiscriminatorOptions
from zssr_gan.settings.train import LossSettings, RealSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.losses import AdversarialBCE, Objective
from zssr_gan.training.real_patches import RealPatches, lr_images, shrunk
from zssr_gan.training.sampling import Images, Sampler

BLUR = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=2.0, sigma_minor=2.0, angle_degrees=0)))


def data(*, unpaired: bool = False) -> TrainingData:
    reals = images_of(6)
    others = images_of(4, 50)
    inputs = Images(others.ids, others.lr, None, others.cameras) if unpaired else reals
    return TrainingData(inputs, reals, images_of(2, 100), (BicubicDownscale(),), 1, 2, ())


def reals(of: TrainingData, patch: int | None = 8, batch: int = 12, **weights: float) -> RealPatches:
    sampler = partial(Sampler, scale=2, batch=batch, seed=0)
    return RealPatches(RealSettings.model_validate(weights), of, patch, sampler)


def facts(**options: Any) -> Any:
    return Discriminator(DiscriminatorOptions(channels=1, width=2, hidden=2, size=16, **options)).facts


class TestBatches:
    @pytest.mark.parametrize(("patch", "sides"), [(8, (16, 8, 4)), (None, (20, 10, 5))])
    def test_each_kind_has_its_size(self, patch: int | None, sides: tuple[int, ...]) -> None:
        found = reals(data(), patch, synthetic=1.0, lr=1.0, shrunk=1.0).batch(3)
        assert list(found) == ["synthetic", "lr", "shrunk"]
        assert [x.shape for x in found.values()] == [(12, 1, side, side) for side in sides]
        assert all(x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1 for x in found.values())

    def test_what_has_no_weight_is_not_drawn(self) -> None:
        of = reals(data(), synthetic=0.0, lr=1.0, shrunk=3.0)
        assert of.weights == {"lr": 0.25, "shrunk": 0.75}
        assert set(of.batch(0)) == {"lr", "shrunk"}
        assert reals(data()).weights == {"synthetic": 1.0}

    def test_a_batch_depends_on_its_number_alone(self) -> None:
        one, other = (reals(data(), lr=1.0, shrunk=1.0) for _ in range(2))
        for number in range(5):
            one.batch(number)
        assert all(torch.equal(x, other.batch(2)[kind]) for kind, x in one.batch(2).items())
        assert not torch.equal(one.batch(2)["lr"], one.batch(3)["lr"])

    def test_further_kinds_change_no_draw_of_the_synthetic_ones(self) -> None:
        assert torch.equal(reals(data(), lr=1.0).batch(4)["synthetic"], reals(data()).batch(4)["synthetic"])

    def test_lr_patches_are_of_all_that_is_trained_on(self) -> None:
        """Of the generator's images and of those with a synthetic HR; each once where they are the same ones."""
        unpaired = data(unpaired=True)
        assert set(lr_images(unpaired).ids) == {*unpaired.inputs.ids, *unpaired.reals.ids}
        assert len(lr_images(data())) == len(data().reals)
        drawn = reals(unpaired, None, batch=10, synthetic=0.0, lr=1.0).batch(0)["lr"]
        sums = sorted(round(lr.sum().item() / 255, 3) for lr in lr_images(unpaired).lr)
        assert sorted(round(x.sum().item(), 3) for x in drawn) == sums  # a pass through all, turned


class TestShrunk:
    def test_by_bicubic_whatever_the_camera(self) -> None:
        """A camera's own blur would blur them as much again: half of it is what is wanted."""
        first = images_of(4)
        images = Images(first.ids, first.lr, None, (0, 1, 0, 1))
        made = shrunk(images, 2)
        assert (made.ids, made.cameras, made.hr) == (images.ids, images.cameras, None)
        for lr, small in zip(images.lr, made.lr, strict=True):
            wanted = BicubicDownscale()(lr[None].float() / 255, (5, 5))[0].clamp(0, 1)
            assert small.dtype == torch.uint8
            assert (small.float() / 255 - wanted).abs().max() <= 0.51 / 255

    def test_sizes_may_differ_and_odd_ones_are_rounded_up(self) -> None:
        lr = (torch.full((3, 9, 12), 7, dtype=torch.uint8), torch.full((3, 10, 10), 200, dtype=torch.uint8))
        made = shrunk(Images(("a", "b"), lr, None, (0, 0)), 2).lr
        assert [tuple(x.shape) for x in made] == [(3, 5, 6), (3, 5, 5)]
        assert [x.unique().tolist() for x in made] == [[7], [200]]


class TestDiscriminator:
    def test_one_that_takes_one_size_is_refused(self) -> None:
        with pytest.raises(SettingsError) as caught:
            reals(data(), shrunk=0.5).check(facts(head="flatten"))
        assert str(caught.value).startswith("train.reals.shrunk: its patches are smaller")
        assert str(caught.value).endswith("set train.discriminator.options.head to patch.")
        assert not reals(data()).check(facts(head="flatten"))

    def test_one_that_looks_far_is_warned_of(self) -> None:
        of = reals(data(), lr=1.0, shrunk=1.0)
        assert not of.check(facts(head="patch", blocks=1))
        (far,) = of.check(facts(head="patch", blocks=2))  # 5 pixels, and shrunk patches have 4
        assert "looks at 5 pixels at once, and train.reals.shrunk gives patches of 4" in far
        assert len(of.check(facts(head="patch", blocks=8))) == 2
        assert all("looks at the whole image" in text for text in of.check(facts(head="adaptive")))
        assert not reals(data()).check(facts(head="adaptive"))


def test_each_kind_counts_by_its_weight() -> None:
    objective = Objective(LossSettings(), None, [], 2)
    logits = {"synthetic": torch.tensor([[2.0], [-1.0]]), "lr": torch.tensor([[[[0.5, 3.0]]], [[[1.0, 1.0]]]])}
    fake = torch.tensor([[-1.0], [-2.0]])
    found = objective.discriminator(logits, {"synthetic": 0.25, "lr": 0.75}, fake)
    one, other = (AdversarialBCE().discriminator(real, fake) for real in logits.values())
    torch.testing.assert_close(found["loss"], 0.25 * one + 0.75 * other)
    assert found["accuracy"].item() == pytest.approx((0.25 * 0.5 + 0.75 * 1.0 + 1.0) / 2)
