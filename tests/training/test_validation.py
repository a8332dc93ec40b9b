"""Figures of outputs and their warnings, and the statistics of batch normalisation of the weights in use."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.training.conftest import images_of
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.srgan import SRGANGenerator, SRGANGeneratorOptions
from zssr_gan.training import validation
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.loop import Loop
from zssr_gan.training.sampling import Sampler
from zssr_gan.training.validation import measure, retake_statistics, warnings_of

IMAGES = images_of(5)
assert IMAGES.hr is not None
HR = [hr.float() / 255 for hr in IMAGES.hr]
DOWNSCALES = [BicubicDownscale()]


def test_the_truth() -> None:
    figures = measure(HR, IMAGES, DOWNSCALES)
    assert figures["synthetic_db"] == 100
    assert figures["residual_db"] > 50
    assert figures["colour_shift"] < 0.2
    assert abs(figures["diversity"] - 1) < 0.05
    assert not warnings_of(figures, 0.6)
    assert "99.0 % rightly" in warnings_of(figures, 0.99)[0]


def test_bicubic_is_its_own_row() -> None:
    bicubic = [resize(lr.float() / 255, (20, 20)).clamp(0, 1) for lr in IMAGES.lr]
    figures = measure(bicubic, IMAGES, DOWNSCALES, paired=True)
    assert figures["truth_db"] == figures["bicubic_db"] < 100


def test_collapse_and_shift_are_warned_of() -> None:
    assert "collapses" in warnings_of(measure([HR[0]] * 5, IMAGES, DOWNSCALES), None)[0]
    brighter = measure([hr + 0.1 for hr in HR], IMAGES, DOWNSCALES)
    assert abs(brighter["colour_shift"] - 25.5) < 0.3
    assert "colours are shifted by 25." in warnings_of(brighter, None)[0]


CPU = torch.device("cpu")
WHOLE = {"batch": 10, "patch": None, "validation": {"images": 2, "best": "last"}, "every": {"validation": 1000}}
SKIPPING = {"options": {"width": 8, "blocks": 6, "skip_probability": 0.3}}


def sampler(batch: int = 5, seed: int = 0) -> Sampler:
    return Sampler(images_of(10), stream="measured", patch=None, scale=2, batch=batch, seed=seed)


def gray_generator(**options: object) -> SRGANGenerator:
    return SRGANGenerator(
        SRGANGeneratorOptions(channels=1, width=4, blocks=3, **options), torch.Generator().manual_seed(0)
    )  # type: ignore[arg-type]


@torch.no_grad()
def by_hand(generator: SRGANGenerator) -> SRGANGenerator:
    """With the statistics of other batches, as many as tell, and all its blocks."""
    made = copy.deepcopy(generator).train()
    made.skipped = (False,) * made.options.blocks
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    for number in range(64):
        made(sampler(10, seed=1).batch(number).lr)
    return made.eval()


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_is_kept_has_those_of_all_its_blocks(
    make_loop: Callable[..., Loop], ema: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_NORM_BATCHES", 32)
    kept: list[SRGANGenerator] = []

    def keep(generator: SRGANGenerator, _step: int, _phase: str, _figures: object) -> None:
        kept.append(copy.deepcopy(generator))

    loop = make_loop(callbacks=Callbacks(best=keep), generator=SKIPPING, ema=ema, pretrain=20, **WHOLE)
    loop.run()
    lr = torch.stack(images_of(10).lr).float() / 255
    with torch.no_grad():
        error = (kept[-1](lr) - by_hand(kept[-1])(lr)).square().mean()
    assert psnr_db(error.item()) > 30
    assert any(loop.generator.skipped)


def test_statistics_depend_on_weights_and_batches_alone() -> None:
    one, other = gray_generator(), gray_generator().eval()
    with torch.no_grad():
        one(torch.rand(2, 1, 8, 8))  # other statistics before
    one.draw_skipped(torch.Generator().manual_seed(3))
    for generator in (one, other):
        retake_statistics(generator, sampler(), CPU)
    assert (one.training, other.training) == (True, False)
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert {module.momentum for module in one.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


def test_nothing_is_drawn_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Sampler, _number: int) -> None:
        raise AssertionError("a batch was drawn for nothing")

    monkeypatch.setattr(Sampler, "batch", refuse)
    retake_statistics(gray_generator(norm=False), sampler(), CPU)
    with pytest.raises(AssertionError):
        retake_statistics(gray_generator(), sampler(), CPU)
