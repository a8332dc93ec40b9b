"""How far a result is from its truth, pixel by pixel or window by window.

Each function makes one definition; what differs in plane, border or window is another, under another name.
"""

import numpy as np
import torch

from zssr_gan.evaluation.metrics.metric import Answer, Definition, Metric, Sample
from zssr_gan.evaluation.metrics.planes import Plane, Planes, planes_of
from zssr_gan.imaging.colour import HIGHEST_DB

_GAUSSIAN_SIDE = 11
"""Of Wang et al.'s window: sigma 1.5, cut after 5 pixels."""

_TILE = 7

_VIF_SMALLEST = 41
"""The fourth scale's window must fit once."""

_RANGE = 255

_MEANING = {"Y": "Y (BT.601, 16 to 235)", "RGB": "R, G and B (gray: three equal channels)"}

_IDENTICAL = f"they agree to {HIGHEST_DB:g} dB or better, which counts as {HIGHEST_DB:g}: infinity has no mean"


def psnr(plane: Plane = "Y", border: int = 0) -> Metric:
    """Peak signal to noise ratio in dB; at most 100, which identical images get and which the figure then says."""

    def compute(sample: Sample) -> Answer:
        from skimage.metrics import peak_signal_noise_ratio  # an extra, and a second to import

        result, truth = _both(sample, plane, border)
        with np.errstate(divide="ignore"):
            decibel = float(peak_signal_noise_ratio(truth, result, data_range=_RANGE))
        return (decibel, "") if decibel < HIGHEST_DB else (HIGHEST_DB, _IDENTICAL)

    return Metric(
        Definition(
            name=f"PSNR-{plane}, {_settings(border)}",
            meaning=f"10 log10(255^2 / mean squared error) on {_MEANING[plane]}, by scikit-image",
            unit="dB",
            higher_is_better=True,
            needs=("truth",),
            smallest=1 + 2 * border,
            package="skimage",
        ),
        compute,
    )


def mse(plane: Plane = "Y", border: int = 0) -> Metric:
    """Mean squared error, in squared levels of 255."""

    def compute(sample: Sample) -> Answer:
        result, truth = _both(sample, plane, border)
        return float(np.square(result - truth).mean()), ""

    return Metric(
        Definition(
            name=f"MSE-{plane}, {_settings(border)}",
            meaning=f"mean squared difference on {_MEANING[plane]}",
            unit="levels^2",
            higher_is_better=False,
            needs=("truth",),
            smallest=1 + 2 * border,
        ),
        compute,
    )


def ssim(plane: Plane = "Y", border: int = 0, *, uniform: int | None = None) -> Metric:
    """Structural similarity (Wang et al. 2004), the mean over all whole windows.

    Args:
        plane: of RGB, the mean of the three.
        border: pixels that are cut off each side first.
        uniform: None takes their Gaussian window (11x11, sigma 1.5); 7 or 11 a square one of equal weights. Variances
            are the window's own (population) in both.
    """
    side = _GAUSSIAN_SIDE if uniform is None else uniform
    if side < 3 or side % 2 == 0:
        raise ValueError(f"a window has an odd side of at least 3 pixels, not {side}")
    window = "Gaussian 11x11 sigma 1.5" if uniform is None else f"uniform {side}x{side}"

    def compute(sample: Sample) -> Answer:
        from skimage.metrics import structural_similarity  # an extra, and a second to import

        values = [
            structural_similarity(
                truth,
                result,
                data_range=_RANGE,
                gaussian_weights=uniform is None,
                sigma=1.5,
                win_size=side,
                use_sample_covariance=False,
            )
            for result, truth in zip(*_both(sample, plane, border), strict=True)
        ]
        return float(np.mean(values)), ""

    return Metric(
        Definition(
            name=f"SSIM-{plane}, {window}, {_settings(border)}",
            meaning=f"structural similarity on {_MEANING[plane]}, mean of all windows at every pixel (Wang et al. "
            "2004), K 0.01 and 0.03, population variances, by scikit-image",
            unit="",
            higher_is_better=True,
            needs=("truth",),
            smallest=side + 2 * border,
            package="skimage",
        ),
        compute,
    )


def ssim_pil() -> Metric:
    """SSIM as the package SSIM-PIL reads it, with which the seed paper (Moreira et al.) measured.

    It lays tiles of 7x7 side by side from the top left corner, leaves out the rows and columns that do not fill one,
    and takes the mean over tiles and channels, of R, G and B, with equal weights and population variances. Where
    `ssim` looks at every pixel's neighbourhood, on Y, through a Gaussian, this sees each pixel once: the two are not
    comparable. (Read in, and held against, version 1.0.14 of the package, its way without OpenCL, on whole
    images; which version the paper took, and of what images, is not known here.)
    """

    def compute(sample: Sample) -> Answer:
        result, truth = (_tiles(planes) for planes in _both(sample, "RGB", 0))
        c1, c2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
        mean_result, mean_truth = result.mean(-1), truth.mean(-1)
        covariance = (result * truth).mean(-1) - mean_result * mean_truth
        alike = (2 * mean_result * mean_truth + c1) * (2 * covariance + c2)
        apart = (mean_result**2 + mean_truth**2 + c1) * (result.var(-1) + truth.var(-1) + c2)
        return float((alike / apart).mean()), ""

    return Metric(
        Definition(
            name="SSIM-RGB, tiles 7x7 side by side (SSIM-PIL 1.0.14), border 0, 0..255",
            meaning="structural similarity as the package SSIM-PIL reads it: the mean over tiles of 7x7 that lie side "
            "by side, and over R, G and B (gray: three equal channels), equal weights, population variances",
            unit="",
            higher_is_better=True,
            needs=("truth",),
            smallest=_TILE,
        ),
        compute,
    )


def vif() -> Metric:
    """Visual information fidelity in the pixel domain (Sheikh and Bovik 2006): 1 for the truth itself.

    More than 1 where contrast was raised. The variance of the eye's noise, 2, is of images in levels of 255.
    """

    def compute(sample: Sample) -> Answer:
        # An extra, and two seconds to import.
        from torchmetrics.functional.image import visual_information_fidelity

        result, truth = _both(sample, "Y", 0)
        if np.ptp(truth) == 0:
            return None, "the truth is flat and holds no information to be kept"
        preds, target = (torch.from_numpy(np.ascontiguousarray(planes))[None] for planes in (result, truth))
        return float(visual_information_fidelity(preds, target)), ""

    return Metric(
        Definition(
            name="VIF-Y, pixel domain, noise variance 2, border 0, 0..255",
            meaning=f"visual information fidelity on {_MEANING['Y']} over four scales (Sheikh and Bovik 2006), by "
            "torchmetrics",
            unit="",
            higher_is_better=True,
            needs=("truth",),
            smallest=_VIF_SMALLEST,
            package="torchmetrics",
        ),
        compute,
    )


def _settings(border: int) -> str:
    if border < 0:
        raise ValueError(f"a border has 0 pixels or more, not {border}")
    return f"border {border}, 0..{_RANGE}"


def _both(sample: Sample, plane: Plane, border: int) -> tuple[Planes, Planes]:
    assert sample.truth is not None  # the definitions here ask for it
    return planes_of(sample.result, plane, border), planes_of(sample.truth, plane, border)


def _tiles(planes: Planes) -> Planes:
    """`P h w 49` of `P H W`."""
    rows, columns = (side // _TILE for side in planes.shape[1:])
    cut = planes[:, : rows * _TILE, : columns * _TILE]
    return cut.reshape(-1, rows, _TILE, columns, _TILE).swapaxes(2, 3).reshape(-1, rows, columns, _TILE**2)
