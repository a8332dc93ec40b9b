"""Figures with a truth, against closed forms and against computations written out here."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.evaluation.metrics.full_reference import mse, psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Metric, Sample
from zssr_gan.evaluation.metrics.planes import Plane
from zssr_gan.imaging.resize import resize

C1, C2 = 2.55**2, 7.65**2


def levels(*values: float, side: int = 16) -> Tensor:
    """`3 side side`, one level a channel."""
    return torch.tensor(values)[:, None, None].expand(3, side, side) / 255


def value(metric: Metric, result: Tensor, truth: Tensor) -> float:
    return metric(Sample(result, truth)).number()


@pytest.fixture(scope="module")
def pair(astronaut: Tensor) -> tuple[Tensor, Tensor]:
    """A blurred and a sharp picture, 3 45 50, on levels."""
    truth = (astronaut[:, :45, :50] * 255).round() / 255
    return (resize(resize(truth, (20, 25)), (45, 50)).clamp(0, 1) * 255).round() / 255, truth


def y_of(image: Tensor) -> NDArray[np.float64]:
    r, g, b = image.double().numpy()
    y: NDArray[np.float64] = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    return y


def test_errors_of_known_size() -> None:
    one, other = levels(10, 20, 30), levels(13, 20, 26)
    assert value(mse("RGB"), one, other) == pytest.approx((9 + 0 + 16) / 3)
    assert value(psnr("RGB"), one, other) == pytest.approx(10 * math.log10(255**2 / (25 / 3)))
    y = (3 * 65.481 - 4 * 24.966) / 255
    assert value(mse("Y"), one, other) == pytest.approx(y**2)
    assert value(psnr("Y"), one, other) == pytest.approx(20 * math.log10(255 / y))
    assert value(psnr("RGB"), levels(0, 0, 0), levels(255, 255, 255)) == pytest.approx(0)


@pytest.mark.parametrize("plane", ["Y", "RGB"])
def test_identical_images(plane: Plane, pair: tuple[Tensor, Tensor]) -> None:
    _, truth = pair
    figure = psnr(plane, 2)(Sample(truth, truth))
    assert figure.value == 100
    assert "counts as 100: infinity has no mean" in figure.why
    assert value(mse(plane), truth, truth) == 0
    for metric in (ssim(plane), ssim(plane, 2), ssim_pil(), vif()):
        assert metric(Sample(truth, truth)).value == pytest.approx(1, abs=1e-9)


def by_hand(a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """SSIM window by window, each written out from its pixels and their weights."""
    side, found = len(weights), []
    for top in range(0, a.shape[0] - side + 1):
        for left in range(0, a.shape[1] - side + 1):
            p, q = (x[top : top + side, left : left + side] for x in (a, b))
            mp, mq = (weights * p).sum(), (weights * q).sum()
            vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
            both = (weights * (p - mp) * (q - mq)).sum()
            found.append((2 * mp * mq + C1) * (2 * both + C2) / ((mp**2 + mq**2 + C1) * (vp + vq + C2)))
    return float(np.mean(found))


def gaussian() -> NDArray[np.float64]:
    row = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    return np.outer(row, row) / row.sum() ** 2


def test_ssim_window_by_window(pair: tuple[Tensor, Tensor]) -> None:
    result, truth = pair
    a, b = (y_of(x) for x in pair)
    assert value(ssim("Y"), result, truth) == pytest.approx(by_hand(a, b, gaussian()), abs=1e-6)
    cut = (x[3:-3, 3:-3] for x in (a, b))
    colours = [by_hand(*(x[n].double().numpy() * 255 for x in pair), gaussian()) for n in range(3)]
    assert value(ssim("RGB"), *pair) == pytest.approx(np.mean(colours), abs=1e-6)
    assert value(ssim("Y", 3), result, truth) == pytest.approx(by_hand(*cut, gaussian()), abs=1e-6)
    with pytest.raises(ValueError, match="0 pixels or more"):
        psnr("Y", -1)


def test_ssim_pil_against_the_package_itself() -> None:
    """What SSIM-PIL 1.0.14 says (`compare_ssim(one, other, GPU=False)`) of two images that anyone can make."""
    y, x = np.mgrid[0:23, 0:30]
    one = np.stack([(x * 7 + y * 3) % 256, (x * y) % 256, (x * 5 + 40) % 256])
    other = np.stack([(x * 7 + y * 3 + 9) % 256, (x * y + x) % 256, (x * 4 + 60) % 256])
    pair = (torch.from_numpy(image).float() / 255 for image in (one, other))
    assert value(ssim_pil(), *pair) == pytest.approx(0.8963033014965571, abs=1e-9)


def test_gray_is_three_equal_channels(pair: tuple[Tensor, Tensor]) -> None:
    result, truth = (image[:1] for image in pair)
    for metric in (psnr("Y", 2), psnr("RGB"), mse("RGB"), ssim("RGB"), ssim_pil(), vif()):
        wide = value(metric, result.expand(3, -1, -1), truth.expand(3, -1, -1))
        assert value(metric, result, truth) == wide
        assert value(metric, result, truth.expand(3, -1, -1)) == wide


def test_vif_falls_with_blur_and_rises_with_contrast(pair: tuple[Tensor, Tensor]) -> None:
    result, truth = pair
    worse = resize(resize(truth, (10, 12)), (45, 50))
    soft = truth.mean() + 0.5 * (truth - truth.mean())
    assert value(vif(), worse, truth) < value(vif(), result, truth) < 1 < value(vif(), truth, soft)
    figure = vif()(Sample(result, torch.full((3, 45, 50), 0.7)))
    assert figure.value is None
    assert figure.why == "the truth is flat and holds no information to be kept"
