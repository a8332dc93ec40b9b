"""Native footage made by hand: photographs cut to pieces, degraded by a camera that is known."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from zssr_gan.degradation.estimator import Evidence
from zssr_gan.degradation.model import Degradation, Jpeg
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.provenance import CaseImage

QUICK = EstimationSettings(trials=30, tiles=40, window_step=4, tolerance=0.02, parts=3)
"""Coarser than the default, in a second."""


def photographs() -> list[Tensor]:
    """3 H W each, halved, so that they are sharp."""
    out = []
    for name in ("astronaut", "coffee", "chelsea"):
        large = Image.fromarray(getattr(data, name)())
        small = large.resize((large.width // 2, large.height // 2), Image.Resampling.BICUBIC)
        out.append(torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255)
    return out


def pieces(degradation: Degradation, *sizes: tuple[int, int], gray: bool = False, seed: int = 0) -> list[Tensor]:
    """LR images of `sizes` (32 x 32 where none is given) in turn, by x2, in whole levels."""
    made = torch.Generator().manual_seed(seed)
    sizes = sizes or ((32, 32),)
    downscale, out = degradation.downscale, []
    for photograph in photographs():
        image = photograph.mean(0, keepdim=True) if gray else photograph
        most = 2 * max(max(size) for size in sizes)
        for top in range(0, image.shape[1] - most + 1, 64):
            for left in range(0, image.shape[2] - most + 1, 64):
                rows, columns = sizes[len(out) % len(sizes)]
                small = downscale(image[None, :, top : top + 2 * rows, left : left + 2 * columns], (rows, columns))
                small = downscale.capture(small, torch.randn(small.shape, generator=made))
                out.append((small[0].clamp(0, 1) * 255).round() / 255)
    return out


def evidence(images: Sequence[Tensor], jpeg: Jpeg | None = None) -> list[Evidence]:
    return [
        Evidence(CaseImage(name=f"{n:03}.png", sha256=f"{n:064x}"), pixels, jpeg) for n, pixels in enumerate(images)
    ]
