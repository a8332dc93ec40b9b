"""Metrics of a result against its truth, pixel by pixel or window by window.

Each function makes one definition; another plane, border or window is another definition, under another name.
"""

from collections.abc import Callable

import numpy as np
import torch

from zssr_gan.evaluation.metrics.metric import Answer, Definition, Metric, Sample
from zssr_gan.evaluation.metrics.planes import Plane, Planes, planes_of
from zssr_gan.imaging.colour import HIGHEST_DB

_TILE, _WINDOW, _VIF_SMALLEST = 7, 11, 41
"""Sides in pixels: SSIM-PIL's tile, Wang et al.'s window, the smallest image with a fourth scale of VIF."""

_RANGE = 255

_MEANING = {"Y": "Y (BT.601, 16 to 235)", "RGB": "R, G and B (gray: three equal channels)"}

_IDENTICAL = f"they agree to {HIGHEST_DB:g} dB or better, which counts as {HIGHEST_DB:g}: infinity has no mean"


def psnr(plane: Plane = "Y", border: int = 0) -> Metric:
    """Peak signal to noise ratio in dB; at most 100, which identical images get with a remark."""

    def compute(result: Planes, truth: Planes) -> Answer:
        from skimage.metrics import peak_signal_noise_ratio  # an extra, and a second to import

        with np.errstate(divide="ignore"):
            decibel = float(peak_signal_noise_ratio(truth, result, data_range=_RANGE))
        return (decibel, "") if decibel < HIGHEST_DB else (HIGHEST_DB, _IDENTICAL)

    meaning = f"10 log10(255^2 / mean squared error) on {_MEANING[plane]}, by scikit-image"
    return _metric(f"PSNR-{plane}", meaning, compute, plane, border, unit="dB", package="skimage")


def mse(plane: Plane = "Y") -> Metric:
    """Mean squared error, in squared levels of 255."""

    def compute(result: Planes, truth: Planes) -> Answer:
        return float(np.square(result - truth).mean()), ""

    meaning = f"mean squared difference on {_MEANING[plane]}"
    return _metric(f"MSE-{plane}", meaning, compute, plane, 0, unit="levels^2", higher=False)


def ssim(plane: Plane = "Y", border: int = 0) -> Metric:
    """Structural similarity (Wang et al. 2004): the mean over all whole windows, for RGB of the three planes.

    Their Gaussian window (11x11, sigma 1.5) and population variances.
    """

    def compute(result: Planes, truth: Planes) -> Answer:
        from skimage.metrics import structural_similarity  # an extra, and a second to import

        options = {"data_range": _RANGE, "win_size": _WINDOW, "sigma": 1.5, "use_sample_covariance": False}
        pairs = zip(truth, result, strict=True)
        return float(np.mean([structural_similarity(*pair, gaussian_weights=True, **options) for pair in pairs])), ""

    meaning = (
        f"structural similarity on {_MEANING[plane]}, mean of all windows at every pixel (Wang et al. 2004), K 0.01 "
        "and 0.03, population variances, by scikit-image"
    )
    name = f"SSIM-{plane}, Gaussian 11x11 sigma 1.5"
    return _metric(name, meaning, compute, plane, border, smallest=_WINDOW, package="skimage")


def ssim_pil() -> Metric:
    """SSIM as the package SSIM-PIL computes it, with which the seed paper (Moreira et al.) measured.

    It lays tiles of 7x7 side by side from the top left corner, leaves out rows and columns that do not fill one, and
    takes the mean over tiles and R, G and B, with equal weights and population variances, so that it does not compare
    with `ssim`. Checked against version 1.0.14 without OpenCL; which version the paper took is not known.
    """

    def compute(*pair: Planes) -> Answer:
        result, truth = (_tiles(planes) for planes in pair)
        c1, c2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
        mean_result, mean_truth = result.mean(-1), truth.mean(-1)
        covariance = (result * truth).mean(-1) - mean_result * mean_truth
        alike = (2 * mean_result * mean_truth + c1) * (2 * covariance + c2)
        apart = (mean_result**2 + mean_truth**2 + c1) * (result.var(-1) + truth.var(-1) + c2)
        return float((alike / apart).mean()), ""

    meaning = (
        "structural similarity as the package SSIM-PIL reads it: the mean over tiles of 7x7 that lie side by side, and "
        "over R, G and B (gray: three equal channels), equal weights, population variances"
    )
    return _metric("SSIM-RGB, tiles 7x7 side by side (SSIM-PIL 1.0.14)", meaning, compute, "RGB", 0, smallest=_TILE)


def vif() -> Metric:
    """Visual information fidelity in the pixel domain (Sheikh and Bovik 2006): 1 for the truth, more with contrast.

    The variance of the eye's noise, 2, is for images in levels of 255.
    """

    def compute(*pair: Planes) -> Answer:
        from torchmetrics.functional.image import visual_information_fidelity  # an extra, and two seconds to import

        if np.ptp(pair[1]) == 0:
            return None, "the truth is flat and holds no information to be kept"
        preds, target = (torch.from_numpy(np.ascontiguousarray(planes))[None] for planes in pair)
        return float(visual_information_fidelity(preds, target)), ""

    meaning = (
        f"visual information fidelity on {_MEANING['Y']} over four scales (Sheikh and Bovik 2006), by torchmetrics"
    )
    name = "VIF-Y, pixel domain, noise variance 2"
    return _metric(name, meaning, compute, "Y", 0, smallest=_VIF_SMALLEST, package="torchmetrics")


def _metric(
    name: str,
    meaning: str,
    compute: Callable[[Planes, Planes], Answer],
    plane: Plane,
    border: int,
    *,
    unit: str = "",
    higher: bool = True,
    smallest: int = 1,
    package: str | None = None,
) -> Metric:
    """A metric that `compute` makes of the planes of result and truth."""
    if border < 0:
        raise ValueError(f"a border has 0 pixels or more, not {border}")

    def answer(sample: Sample) -> Answer:
        assert sample.truth is not None  # the definition needs it
        return compute(planes_of(sample.result, plane, border), planes_of(sample.truth, plane, border))

    name = f"{name}, border {border}, 0..{_RANGE}"
    return Metric(Definition(name, meaning, unit, higher, ("truth",), smallest + 2 * border, package), answer)


def _tiles(planes: Planes) -> Planes:
    """`P h w 49` of `P H W`."""
    rows, columns = (side // _TILE for side in planes.shape[1:])
    cut = planes[:, : rows * _TILE, : columns * _TILE]
    return cut.reshape(-1, rows, _TILE, columns, _TILE).swapaxes(2, 3).reshape(-1, rows, columns, _TILE**2)
