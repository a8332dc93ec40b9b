"""Figures without a truth, of images whose answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation, GaussianBlur
from zssr_gan.degradation.operators import BicubicDownscale, KernelDownscale
from zssr_gan.evaluation.metrics.metric import Sample
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.imaging.resize import resize

BICUBIC = BicubicDownscale()
BLURRED = Degradation(blur=GaussianBlur(sigma_major=0.9, sigma_minor=0.5, angle_degrees=20)).downscale
KERNEL = KernelDownscale(torch.ones(4, 4), (2, 2))


@pytest.fixture(scope="module")
def lr(astronaut: Tensor) -> Tensor:
    """3 32 32, what bicubic makes of a picture whose levels are a file's."""
    return resize(astronaut, (32, 32))


def test_the_picture_that_it_was_made_of_agrees(astronaut: Tensor, lr: Tensor) -> None:
    assert residual([BICUBIC])(Sample(astronaut, lr=lr)).number() == 100
    assert colour_shift([BICUBIC])(Sample(astronaut, lr=lr)).number() == pytest.approx(0, abs=1e-4)


def test_a_shift_of_known_size() -> None:
    """A constant stays one through any downscale: off by 10, 0 and 4 levels."""
    lr = torch.full((3, 8, 8), 100 / 255)
    result = torch.tensor([110.0, 100, 96])[:, None, None].expand(3, 16, 16) / 255
    for downscale in (BICUBIC, BLURRED, KERNEL):
        sample = Sample(result, lr=lr)
        assert colour_shift([downscale])(sample).number() == pytest.approx(14 / 3, abs=1e-3)
        expected = 20 * math.log10(255 / math.sqrt((100 + 16) / 3))
        assert residual([downscale])(sample).number() == pytest.approx(expected, abs=1e-3)


def test_each_image_goes_through_its_own_camera(astronaut: Tensor) -> None:
    blurred = BLURRED(astronaut[None], (32, 32))[0]
    metric = residual([BICUBIC, BLURRED])
    right = metric(Sample(astronaut, lr=blurred, camera=1)).number()
    wrong = metric(Sample(astronaut, lr=blurred, camera=0)).number()
    assert right == 100
    assert wrong < 50


def test_names_tell_downscales_apart() -> None:
    other = Degradation(blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.5)).downscale
    cases = [[BICUBIC], [BLURRED], [other], [KERNEL], [KernelDownscale(torch.eye(4), (2, 2))], [BLURRED, other]]
    names = [residual(case).definition.name for case in cases]
    assert len(set(names)) == len(names)
    assert names[0] == "residual, PSNR-RGB to the input, through bicubic"
    assert names[-1].startswith("residual, PSNR-RGB to the input, through 2 cameras' degradations ")
    with pytest.raises(ValueError, match="one camera or more"):
        residual([])
    # The same thing twice is one thing.
    assert residual([BICUBIC, BicubicDownscale()]).definition.name == names[0]


def test_a_kernel_for_another_scale(astronaut: Tensor) -> None:
    figure = residual([KERNEL])(Sample(astronaut, lr=resize(astronaut, (16, 16))))
    assert figure.value is None
    assert "for another scale and cannot shrink the result from 64x64 to 16x16" in figure.why


def test_gray_against_colours(astronaut: Tensor, lr: Tensor) -> None:
    gray, wide = lr[:1], lr[:1].expand(3, -1, -1)
    for metric in (residual([BICUBIC]), colour_shift([BICUBIC])):
        assert metric(Sample(astronaut, lr=gray)).number() == metric(Sample(astronaut, lr=wide)).number()


def test_sharpness_of_a_ramp() -> None:
    """3 levels a pixel across and 4 down, in each colour: 5 levels of 255, of which Y has 219."""
    down, across = np.mgrid[0:12, 0:20]
    ramp = torch.from_numpy(3 * across + 4 * down).float().expand(3, -1, -1) / 255
    assert sharpness()(Sample(ramp)).number() == pytest.approx(5 * 219 / 255)
    assert sharpness()(Sample(ramp * 0 + 0.4)).number() == pytest.approx(0, abs=1e-9)
    assert sharpness().definition.higher_is_better is None
