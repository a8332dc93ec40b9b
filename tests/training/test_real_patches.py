"""What the discriminator takes for real: which images, in which share and size; which discriminators suit them."""

from functools import partial
from typing import Any

import pytest
import torch

from tests.training.conftest import images_of
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import SettingsError
from zssr_gan.networks.srgan import SRGANDiscriminator, SRGANDiscriminatorOptions
from zssr_gan.settings.train import RealSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.real_patches import RealPatches, lr_images, shrunk
from zssr_gan.training.sampling import Images, Sampler

PAIRED = images_of(6)
OTHERS = images_of(4, 50)
DATA = TrainingData(PAIRED, PAIRED, images_of(2, 100), (BicubicDownscale(),), 1, 2)
UNPAIRED = TrainingData(
    Images(OTHERS.ids, OTHERS.lr, None, OTHERS.cameras), PAIRED, DATA.held_out, DATA.downscales, 1, 2
)


def reals(of: TrainingData = DATA, patch: int | None = 8, batch: int = 12, **weights: float) -> RealPatches:
    return RealPatches(RealSettings.model_validate(weights), of, patch, partial(Sampler, scale=2, batch=batch, seed=0))


def facts(**options: Any) -> Any:
    return SRGANDiscriminator(SRGANDiscriminatorOptions(channels=1, width=2, hidden=2, size=16, **options)).facts


@pytest.mark.parametrize(("patch", "sides"), [(8, (16, 8, 4)), (None, (20, 10, 5))])
def test_each_kind_has_its_size(patch: int | None, sides: tuple[int, ...]) -> None:
    found = reals(patch=patch, synthetic=1.0, lr=1.0, shrunk=1.0).batch(3)
    assert list(found) == ["synthetic", "lr", "shrunk"]
    assert [x.shape for x in found.values()] == [(12, 1, side, side) for side in sides]
    assert all(x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1 for x in found.values())


def test_what_has_no_weight_is_not_drawn() -> None:
    """And changes no draw of the others."""
    of = reals(synthetic=0.0, lr=1.0, shrunk=3.0)
    assert of.weights == {"lr": 0.25, "shrunk": 0.75}
    assert set(of.batch(0)) == {"lr", "shrunk"}
    assert reals().weights == {"synthetic": 1.0}
    assert torch.equal(reals(lr=1.0).batch(4)["synthetic"], reals().batch(4)["synthetic"])


def test_lr_patches_are_of_all_that_is_trained_on() -> None:
    """Of the generator's images and of those with a synthetic HR; each once where they are the same ones."""
    assert set(lr_images(UNPAIRED).ids) == {*OTHERS.ids, *PAIRED.ids}
    assert len(lr_images(DATA)) == len(PAIRED)
    drawn = reals(UNPAIRED, None, batch=10, synthetic=0.0, lr=1.0).batch(0)["lr"]
    sums = sorted(round(lr.sum().item() / 255, 3) for lr in lr_images(UNPAIRED).lr)
    assert sorted(round(x.sum().item(), 3) for x in drawn) == sums  # a pass through all, turned


def test_shrunk_by_bicubic_whatever_the_camera() -> None:
    """A camera's own blur would blur them as much again; odd sizes are rounded up."""
    made = shrunk(Images(PAIRED.ids, PAIRED.lr, None, (0, 1) * 3), 2)
    assert (made.ids, made.cameras, made.hr) == (PAIRED.ids, (0, 1) * 3, None)
    for lr, small in zip(PAIRED.lr, made.lr, strict=True):
        wanted = BicubicDownscale()(lr[None].float() / 255, (5, 5))[0].clamp(0, 1)
        assert small.dtype == torch.uint8
        assert (small.float() / 255 - wanted).abs().max() <= 0.51 / 255
    lr = (torch.full((3, 9, 12), 7, dtype=torch.uint8), torch.full((3, 10, 10), 200, dtype=torch.uint8))
    sizes = [tuple(x.shape) for x in shrunk(Images(("a", "b"), lr, None, (0, 0)), 2).lr]
    assert sizes == [(3, 5, 6), (3, 5, 5)]


def test_a_discriminator_that_takes_one_size_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        reals(shrunk=0.5).check(facts(head="flatten"))
    assert str(caught.value).startswith("train.reals.shrunk: its patches are smaller")
    assert str(caught.value).endswith("set train.discriminator.options.head to patch.")
    assert not reals().check(facts(head="flatten"))


def test_one_that_looks_far_is_warned_of() -> None:
    of = reals(lr=1.0, shrunk=1.0)
    assert not of.check(facts(head="patch", blocks=1))
    (far,) = of.check(facts(head="patch", blocks=2))  # 5 pixels, and shrunk patches have 4
    assert "looks at 5 pixels at once, and train.reals.shrunk gives patches of 4" in far
    assert len(of.check(facts(head="patch", blocks=8))) == 2
    assert all("looks at the whole image" in text for text in of.check(facts(head="adaptive")))
    assert not reals().check(facts(head="adaptive"))
