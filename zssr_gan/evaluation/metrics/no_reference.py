"""Metrics of a result without its truth: whether it agrees with its input, and how sharp it is.

None of them says that a result is right.
"""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from zssr_gan.degradation.model import degradation_of
from zssr_gan.degradation.operators import Downscale
from zssr_gan.evaluation.metrics.metric import Answer, Definition, Metric, Sample, size_text
from zssr_gan.evaluation.metrics.planes import planes_of
from zssr_gan.files import sha256_bytes
from zssr_gan.imaging.colour import LEVELS, psnr_db


def residual(downscales: Sequence[Downscale]) -> Metric:
    """PSNR in dB between the result, shrunk as its camera does (one downscale a camera), and the input.

    Noise and compression are not applied: they keep the best result below 100 dB, and a closer one reproduces them.
    """

    def compute(shrunk: Tensor, lr: Tensor) -> float:
        return psnr_db((shrunk - lr).square().mean().item())

    meaning = "PSNR of the result, shrunk again, to the LR image over all channels"
    return _against_input(downscales, compute, "residual, PSNR-RGB to the input", meaning, "dB", higher=True)


def colour_shift(downscales: Sequence[Downscale]) -> Metric:
    """Mean over channels of the absolute difference between the means of the shrunk result and the input."""

    def compute(shrunk: Tensor, lr: Tensor) -> float:
        return (shrunk.mean((1, 2)) - lr.mean((1, 2))).abs().mean().item() * LEVELS

    meaning = "absolute difference between the channels' means of the result, shrunk again, and of the LR image"
    return _against_input(downscales, compute, "colour shift", meaning, "levels of 255", higher=False)


def sharpness() -> Metric:
    """Mean magnitude of Y's gradient, levels a pixel, by Sobel's masks over 8, at every pixel but the outermost.

    Tenengrad without its square and threshold (Tenenbaum 1970; Pertuz et al. 2013, GRA6): a ramp of 3 levels a pixel
    has 3. Noise and rings raise it as edges do, so more is not better.
    """

    def compute(sample: Sample) -> Answer:
        (y,) = planes_of(sample.result, "Y")
        down, right = y[2:] - y[:-2], y[:, 2:] - y[:, :-2]
        vertical = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 8
        horizontal = (right[:-2] + 2 * right[1:-1] + right[2:]) / 8
        return float(np.hypot(vertical, horizontal).mean()), ""

    meaning = (
        "mean magnitude of the gradient of Y (BT.601, 16 to 235) by Sobel's masks over 8; noise and rings raise it too"
    )
    return Metric(Definition("sharpness, mean Sobel gradient of Y", meaning, "levels a pixel", None, (), 3), compute)


def _against_input(
    downscales: Sequence[Downscale],
    compute: Callable[[Tensor, Tensor], float],
    name: str,
    meaning: str,
    unit: str,
    *,
    higher: bool,
) -> Metric:
    """A metric of the shrunk result and the LR image, `C H W` both, with as many channels; named by its cameras."""
    if not downscales:
        raise ValueError("the downscale of one camera or more is needed")

    def answer(sample: Sample) -> Answer:
        assert sample.lr is not None  # the definition needs it
        result, lr = sample.result, sample.lr.to(sample.result)
        if len(result) != len(lr):  # gray counts as three equal channels
            result, lr = result.expand(3, -1, -1), lr.expand(3, -1, -1)
        try:
            shrunk = downscales[sample.camera](result[None], (lr.shape[-2], lr.shape[-1]))[0]
        except ValueError:  # a kernel is for one scale
            sizes = f"from {size_text(result)} to {size_text(lr)}"
            return None, f"the camera's kernel is for another scale and cannot shrink the result {sizes}"
        return compute(shrunk, lr), ""

    cameras, *others = names = list(dict.fromkeys(map(_name, downscales)))
    if others:
        cameras = f"{len(names)} cameras' degradations {sha256_bytes(''.join(names).encode())[:8]}"
    return Metric(Definition(f"{name}, through {cameras}", meaning, unit, higher, ("lr",)), answer)


def _name(downscale: Downscale) -> str:
    """Name of a downscale, unlike that of every other."""
    kind, _, sha256 = degradation_of(downscale).partition(" ")
    return f"the {kind} {sha256[:8]}" if sha256 else kind
