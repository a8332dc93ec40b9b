"""A figure is a value or a reason; what every metric refuses in one way; and the planes that they compare."""

import math
import sys

import numpy as np
import pytest
import torch

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.errors import FigureError
from zssr_gan.evaluation.metrics.full_reference import mse, psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Figure, Metric, Sample
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.metrics.planes import planes_of, rounded

BICUBIC = [BicubicDownscale()]
ALL = [
    *(psnr("Y", 2), psnr("RGB"), mse("Y"), mse("RGB"), ssim("Y", 2), ssim("RGB"), ssim_pil(), vif()),
    *(residual(BICUBIC), colour_shift(BICUBIC), sharpness()),
]
IMAGE = torch.rand(3, 48, 44, generator=torch.Generator().manual_seed(0))


def named(metric: Metric) -> str:
    return metric.definition.name


def test_a_figure_has_a_finite_value_or_says_why() -> None:
    with pytest.raises(ValueError, match="says why"):
        Figure("x", None)
    with pytest.raises(FigureError, match=r"^x: it rained\.$"):
        Figure("x", None, "it rained").number()
    assert Figure("x", 2.0, "with care").number() == 2.0
    for value in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match="is no figure"):
            Figure("x", value)


def test_no_two_definitions_share_a_name() -> None:
    names = [named(metric) for metric in (*ALL, psnr("Y"), ssim("Y"))]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("metric", ALL, ids=named)
def test_what_a_definition_needs(metric: Metric) -> None:
    """The smallest image has a figure without the parts that are not needed; all else has a reason."""
    side, needs = metric.definition.smallest, metric.definition.needs
    image = IMAGE[:, :side, :side]
    figure = metric(Sample(image, 1 - image if "truth" in needs else None, image if "lr" in needs else None))
    assert figure.value is not None
    assert figure.name == named(metric)
    if side > 1:
        small = IMAGE[:, : side - 1, :side]
        expected = f"needs {side} pixels a side, and the result is {side}x{side - 1}"
        assert metric(Sample(small, small, small)) == metric.definition.none(expected)
    if "truth" in needs:
        assert metric(Sample(IMAGE, None, IMAGE)).why == "no truth of this image is known (unpaired)"
        assert metric(Sample(IMAGE, IMAGE[:, :47])).why == "the result is 44x48, its truth 44x47"
    if "lr" in needs:
        assert metric(Sample(IMAGE, IMAGE)).why == "the LR image that it was made from is not at hand"
    broken = IMAGE.clone()
    broken[0, 20, 20] = math.nan
    assert metric(Sample(broken, IMAGE, IMAGE)).why == "the result holds NaN or infinity"
    for need in needs:
        parts = {"truth": IMAGE, "lr": IMAGE, need: broken}
        assert metric(Sample(IMAGE, **parts)).why == f"the {need} holds NaN or infinity"
    for wrong in (IMAGE[None], IMAGE[:2], IMAGE[0]):
        with pytest.raises(ValueError, match="the result must be C H W"):
            metric(Sample(wrong, IMAGE, IMAGE))


@pytest.mark.parametrize("metric", [metric for metric in ALL if metric.definition.package], ids=named)
def test_a_package_that_is_missing(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metric.definition.missing is None
    module = str(metric.definition.package)
    monkeypatch.setitem(sys.modules, module, None)
    name = {"skimage": "scikit-image", "torchmetrics": "torchmetrics"}[module]
    expected = f"the package {name} is missing: pip install 'zssr-gan[eval]'"
    assert metric.definition.missing == metric(Sample(IMAGE, IMAGE)).why == expected


def test_result_and_truth_are_compared_as_files_hold_them() -> None:
    between = torch.full((3, 8, 8), 100.4 / 255)
    apart = mse("Y")(Sample(between, torch.full((3, 8, 8), 102.6 / 255))).number()
    assert apart == pytest.approx((3 * 219 / 255) ** 2, rel=1e-5)
    given = torch.tensor([-0.5, 0.0019, 0.0021, 0.5, 1.2])
    assert (rounded(given) * 255).tolist() == pytest.approx([0, 0, 1, 128, 255])


@pytest.mark.parametrize(
    ("colour", "y"),
    [((0, 0, 0), 16.0), ((1, 1, 1), 235.0), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)],
)
def test_y_is_that_of_the_standard(colour: tuple[float, ...], y: float) -> None:
    planes = planes_of(torch.tensor(colour, dtype=torch.float32)[:, None, None].expand(3, 2, 3), "Y")
    assert planes.shape == (1, 2, 3)
    np.testing.assert_allclose(planes, y, atol=1e-5)


def test_rgb_are_the_files_integers_without_the_border() -> None:
    levels = torch.arange(3 * 8 * 10).reshape(3, 8, 10) % 256
    assert planes_of(levels / 255, "RGB").tolist() == levels.double().tolist()
    assert planes_of(levels / 255, "RGB", 2).tolist() == levels[:, 2:6, 2:8].double().tolist()
