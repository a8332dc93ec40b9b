"""Protocol `blind`: cameras drawn by a seed, unknown to every method.

An anisotropic Gaussian of 0.7 to 2.5 HR pixels an axis and any angle, antialiased bicubic halving, noise of 0 to 4/255,
and, by the number of the group, no JPEG, JPEG 90 or JPEG 75, as real files of Pillow's encoder.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.imaging.colour import to_levels
from zssr_gan.imaging.io import decode_picture
from zssr_gan.imaging.resize import Size

QUALITIES = (None, 90, 75)
"""Of JPEG, of one group after the other."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """An LR image as a camera gives it: pixels `C H W`, [0, 1] on 8-bit levels, and its file where it is a JPEG."""

    pixels: Tensor
    file: bytes | None = None


def draw_degradation(rng: np.random.Generator, quality: int | None) -> Degradation:
    """A degradation of the protocol; the blur's widths are in LR pixels, half of those in HR pixels."""
    minor, major = sorted(float(width) / 2 for width in rng.uniform(0.7, 2.5, 2))
    angle, noise = float(rng.uniform(0, 180)), float(rng.uniform(0, 4)) / 255
    blur = GaussianBlur(sigma_major=major, sigma_minor=minor, angle_degrees=angle)
    return Degradation(blur=blur, noise=Noise(sigma=noise), jpeg=None if quality is None else Jpeg.of_quality(quality))


def degradation_text(degradation: Degradation, scale: float) -> str:
    """A drawn degradation in a few words, widths in HR pixels."""
    blur, noise, jpeg = degradation.blur, degradation.noise, degradation.jpeg
    assert isinstance(blur, GaussianBlur)
    assert noise is not None
    widths = f"blur {scale * blur.sigma_major:.2f} x {scale * blur.sigma_minor:.2f} HR pixels"
    compression = "no JPEG" if jpeg is None else f"JPEG {jpeg.quality}"
    return f"{widths} at {blur.angle_degrees:.0f} degrees, noise {255 * noise.sigma:.1f} of 255, {compression}"


def capture(truths: Tensor, degradation: Degradation, size: Size, seed: int) -> list[Shot]:
    """LR images of `size` (rows, columns) of truths `B C H W`; the noise is drawn by the seed."""
    sigma = 0.0 if degradation.noise is None else degradation.noise.sigma
    small = degradation.downscale(truths, size)
    small = rounded(small + torch.randn(small.shape, generator=torch.Generator().manual_seed(seed)) * sigma)
    return [Shot(pixels) if degradation.jpeg is None else _jpeg(pixels, degradation.jpeg.quality) for pixels in small]


def _jpeg(pixels: Tensor, quality: int | None) -> Shot:
    file = io.BytesIO()
    Image.fromarray(to_levels(pixels).permute(1, 2, 0).squeeze(2).numpy()).save(file, "JPEG", quality=quality)
    return Shot(decode_picture(file.getvalue(), "lr").pixels, file.getvalue())
