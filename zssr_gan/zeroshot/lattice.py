"""JPEG's quality from pixels alone: an image that was compressed has cosine coefficients on the table's multiples.

Rounding to whole levels moves them off again by about half a level, so steps of 3 and more leave a lattice that is
plainly seen (Fan and de Queiroz 2003; Lukas and Fridrich 2003). Blocks are taken to begin in an image's corner.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zssr_gan.imaging.jpeg import block_coefficients, tables_of
from zssr_gan.imaging.luma import luma_of
from zssr_gan.imaging.spectra import LEVELS

_QUALITIES = range(30, 96)
_BLOCKS = 20_000  # more say no more
_LEAST = 0.35
"""Mean of cos(2 pi coefficient / step) above which there is a lattice: 1 is a perfect one, 0 none."""
_FEWEST = 50  # coefficients that a quality is judged by


def quality_of_pixels(images: Sequence[Tensor]) -> int | None:
    """The quality of libjpeg's that most images `C H W` in [0, 1] were compressed with, or None where they were not."""
    blocks: list[Tensor] = []
    for image in images:
        luma = luma_of(image)
        if min(luma.shape) >= 8:
            blocks.append(block_coefficients(luma[None] * LEVELS).reshape(-1, 64))
    if not blocks:
        return None
    coefficients = torch.cat(blocks)
    coefficients = coefficients[:: max(1, len(coefficients) // _BLOCKS)]
    scores = {quality: _score(coefficients, quality) for quality in _QUALITIES}
    best = max(scores, key=lambda quality: scores[quality])
    return best if scores[best] > _LEAST else None


def _score(coefficients: Tensor, quality: int) -> float:
    steps = torch.tensor(tables_of(quality)[0], dtype=torch.float32)
    # Below half a step every coefficient is near a multiple, 0, lattice or not; and a step of 2 is lost in rounding.
    told = (coefficients.abs() > steps / 2) & (steps >= 3)
    told[:, 0] = False
    if int(told.sum()) < _FEWEST:
        return -1.0
    return float(torch.cos(2 * math.pi * coefficients / steps)[told].mean())
