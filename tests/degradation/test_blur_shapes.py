"""Blurs of a few numbers, drawn on pixels: they have the moments and the form that their numbers say."""

import math

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.model import Blur, DefocusBlur, GaussianBlur, MotionBlur

LINE = MotionBlur(length=3.5, angle_degrees=30)
DISK = DefocusBlur(radius=1.25)


def drawn(blur: MotionBlur | DefocusBlur, side: int, ratio: float) -> Tensor:
    """`side side`: each pixel the share of random points of the form that lie in it."""
    made = torch.Generator().manual_seed(0)
    u, v = torch.rand(2, 400_000, generator=made, dtype=torch.float64)
    if isinstance(blur, MotionBlur):
        along, angle = (u - 0.5) * blur.length, math.radians(blur.angle_degrees)
        y, x = along * math.sin(angle), along * math.cos(angle)
    else:
        y, x = (blur.radius * u.sqrt() * turn(2 * math.pi * v) for turn in (torch.sin, torch.cos))
    places = (torch.stack([y, x]) * ratio).round().long() + side // 2
    return torch.bincount(places[0] * side + places[1], minlength=side * side).double().reshape(side, side) / len(u)


@pytest.mark.parametrize("blur", [LINE, DISK], ids=["line", "disk"])
def test_pixels_hold_the_share_of_the_form_in_their_area(blur: MotionBlur | DefocusBlur) -> None:
    kernel = blur.kernel((2.0, 2.0))
    side = max(kernel.shape) + 2
    rows, columns = ((side - n) // 2 for n in kernel.shape)
    padded = torch.nn.functional.pad(kernel, (columns, columns, rows, rows))
    assert (padded - drawn(blur, side, 2.0)).abs().max() < 0.01


@pytest.mark.parametrize(
    "blur",
    [
        MotionBlur(length=3.5, angle_degrees=30, sigma=0.4),
        MotionBlur(length=2.0, angle_degrees=150, sigma=0.6),
        DefocusBlur(radius=1.25, sigma=0.4),
    ],
)
@pytest.mark.parametrize("ratio", [(2.0, 2.0), (3.0, 1.5)])
def test_moments_are_those_of_the_covariance(blur: Blur, ratio: tuple[float, float]) -> None:
    kernel = blur.kernel(ratio)
    y, x = ((torch.arange(n) - n // 2) / stretch for n, stretch in zip(kernel.shape, ratio, strict=True))
    assert float(kernel.sum()) == pytest.approx(1)
    assert abs(float((kernel * y[:, None]).sum())) < 1e-3
    assert abs(float((kernel * x).sum())) < 1e-3
    moments = [(kernel * a * b).sum() for a, b in ((y[:, None] ** 2, 1), (y[:, None], x), (1, x**2))]
    wanted = blur.covariance().flatten()[[0, 1, 3]]
    assert torch.stack(moments).tolist() == pytest.approx(wanted.tolist(), abs=0.02)


def test_all_weight_is_within_reach() -> None:
    for blur in (
        LINE,
        DISK,
        MotionBlur(length=4, angle_degrees=0, sigma=0.5),
        GaussianBlur(sigma_major=1, sigma_minor=1),
    ):
        rows, columns = blur.kernel((2.0, 2.0)).shape
        assert max(rows, columns) // 2 <= math.ceil(2 * blur.reach) + 1


def test_without_extent_a_blur_leaves_the_image_as_it_is() -> None:
    for blur in (MotionBlur(length=0), DefocusBlur(radius=0)):
        kernel = blur.kernel((2.0, 2.0))
        assert float(kernel.max()) > 0.999
