"""Margins of patches under several cameras; what the cameras do is tested with the objective."""

import pytest
import torch

from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.training.batch_degradation import BatchCameras
from zssr_gan.training.sampling import Batch

WIDE = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=1.5, sigma_minor=1.5, angle_degrees=0)))


def batch(*cameras: int, cut: bool = True) -> Batch:
    zeros = (0,) * len(cameras)
    return Batch(torch.zeros(len(cameras), 1, 64, 64), None, zeros, cameras, zeros, cut)


def test_whole_images_have_no_margin() -> None:
    assert BatchCameras([WIDE], batch(0, cut=False)).margin(2, 64) == 0


@pytest.mark.parametrize("cameras", [(0, 0), (0, 1), (1, 1)])
def test_what_counts_does_not_hang_on_the_others_of_a_batch(cameras: tuple[int, int]) -> None:
    assert BatchCameras([BicubicDownscale()], batch(0, 0)).margin(2, 64) == 2
    margin = BatchCameras([BicubicDownscale(), WIDE], batch(*cameras)).margin(2, 64)
    assert margin == BatchCameras([BicubicDownscale(), WIDE], batch(0, 1)).margin(2, 64)
    assert margin == 2 + -(-WIDE.reach // 2)


def test_of_a_small_patch_half_is_left() -> None:
    assert BatchCameras([WIDE], batch(0)).margin(2, 8) == 2
