"""Protocol `blind`: what cameras do to a scene, drawn by a seed, that no method is told.

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
    return Degradation(
        blur=GaussianBlur(sigma_major=major, sigma_minor=minor, angle_degrees=angle),
        noise=Noise(sigma=noise),
        jpeg=None if quality is None else Jpeg.of_quality(quality),
    )


def capture(truths: Tensor, degradation: Degradation, size: Size, seed: int) -> list[Shot]:
    """LR images of `size` (rows, columns) of truths `B C H W`; the noise is drawn by the seed."""
    sigma = 0.0 if degradation.noise is None else degradation.noise.sigma
    drawn = torch.Generator().manual_seed(seed)
    small = degradation.downscale(truths, size)
    small = rounded(small + torch.randn(small.shape, generator=drawn) * sigma)
    if degradation.jpeg is None:
        return [Shot(pixels) for pixels in small]
    shots = []
    for pixels in small:
        levels = (pixels * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "JPEG", quality=degradation.jpeg.quality)
        shots.append(Shot(decode_picture(file.getvalue(), "lr").pixels, file.getvalue()))
    return shots
