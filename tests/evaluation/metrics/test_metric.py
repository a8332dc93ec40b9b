"""A figure is a value or a reason, and what every metric refuses in one way."""

import math
import sys

import pytest
import torch

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import FigureError
from zssr_gan.evaluation.metrics.full_reference import mse, psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Definition, Figure, Metric, Sample, absent
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness

BICUBIC = [BicubicDownscale()]
ALL = [
    *(psnr("Y", 2), psnr("RGB"), mse("Y", 2), mse("RGB"), ssim("Y", 2), ssim("RGB", uniform=7), ssim_pil(), vif()),
    *(residual(BICUBIC), colour_shift(BICUBIC), sharpness()),
]
WITH_TRUTH = [metric for metric in ALL if "truth" in metric.definition.needs]
IMAGE = torch.rand(3, 48, 44, generator=torch.Generator().manual_seed(0))


def named(metric: Metric) -> str:
    return metric.definition.name


def test_a_figure_without_a_value_says_why() -> None:
    with pytest.raises(ValueError, match="says why"):
        Figure("x", None)
    with pytest.raises(FigureError, match=r"^x: it rained\.$"):
        Figure("x", None, "it rained").number()
    assert Figure("x", 2.0, "with care").number() == 2.0


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinity_and_nan_are_no_figures(value: float) -> None:
    with pytest.raises(ValueError, match="is no figure"):
        Figure("x", value)


def test_no_two_definitions_share_a_name() -> None:
    names = [named(metric) for metric in (*ALL, psnr("Y"), ssim("Y"), ssim("Y", 2, uniform=7), ssim("Y", uniform=11))]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("metric", ALL, ids=named)
def test_what_there_is_enough_for(metric: Metric) -> None:
    """The smallest image that a definition takes has a figure, and every part that it does not need can be absent."""
    side = metric.definition.smallest
    image, needs = IMAGE[:, :side, :side], metric.definition.needs
    given = Sample(image, 1 - image if "truth" in needs else None, image if "lr" in needs else None)
    figure = metric(given)
    assert figure.value is not None
    assert figure.name == named(metric)


@pytest.mark.parametrize("metric", [metric for metric in ALL if metric.definition.smallest > 1], ids=named)
def test_one_pixel_less_is_too_small(metric: Metric) -> None:
    side = metric.definition.smallest
    small = IMAGE[:, : side - 1, :side]
    figure = metric(Sample(small, small, small))
    assert figure.value is None
    assert figure.why == f"needs {side} pixels a side, and the result is {side}x{side - 1}"


@pytest.mark.parametrize("metric", WITH_TRUTH, ids=named)
def test_unpaired_images_have_no_full_reference_figure(metric: Metric) -> None:
    assert metric(Sample(IMAGE, None, IMAGE)) == Figure(
        named(metric), None, "no truth of this image is known (unpaired)"
    )


@pytest.mark.parametrize("metric", WITH_TRUTH, ids=named)
def test_a_truth_of_another_size(metric: Metric) -> None:
    figure = metric(Sample(IMAGE, IMAGE[:, :47]))
    assert figure.value is None
    assert figure.why == "the result is 44x48, its truth 44x47"


@pytest.mark.parametrize("metric", ALL, ids=named)
def test_pixels_that_are_no_numbers(metric: Metric) -> None:
    broken = IMAGE.clone()
    broken[0, 20, 20] = math.nan
    assert metric(Sample(broken, IMAGE, IMAGE)).why == "the result holds NaN or infinity"
    for need in metric.definition.needs:
        parts = {"truth": IMAGE, "lr": IMAGE, need: broken}
        assert metric(Sample(IMAGE, **parts)).why == f"the {need} holds NaN or infinity"


@pytest.mark.parametrize("metric", [metric for metric in ALL if metric.definition.package], ids=named)
def test_a_package_that_is_missing(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metric.definition.missing is None
    module = metric.definition.package
    assert module is not None
    monkeypatch.setitem(sys.modules, module, None)
    name = {"skimage": "scikit-image", "torchmetrics": "torchmetrics"}[module]
    expected = f"the package {name} is missing: pip install 'zssr-gan[eval]'"
    assert metric.definition.missing == expected
    assert metric(Sample(IMAGE, IMAGE)).why == expected


def test_what_is_no_image_is_a_mistake() -> None:
    for wrong in (IMAGE[None], IMAGE[:2], IMAGE[0]):
        with pytest.raises(ValueError, match="the result must be C H W"):
            sharpness()(Sample(wrong))


def test_result_and_truth_are_compared_as_files_hold_them() -> None:
    between = torch.full((3, 8, 8), 100.4 / 255)
    apart = mse("Y")(Sample(between, torch.full((3, 8, 8), 102.6 / 255))).number()
    assert apart == pytest.approx((3 * 219 / 255) ** 2, rel=1e-5)


def test_a_column_that_nobody_has_a_figure_in() -> None:
    metric = absent(Definition("x", "x", "", None), "the weights are not here")
    assert metric(Sample(IMAGE)) == Figure("x", None, "the weights are not here")
