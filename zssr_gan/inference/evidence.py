"""What a result adds to plain interpolation, where the blocks of its input were, and the figures of its evidence maps.

Shapes: C channels, H W rows and columns of the input, sH sW of the result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.found_compression import Phase, codec_words
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.imaging.resize import resize
from zssr_gan.inference.record import DegradationFacts, EvidenceFigures
from zssr_gan.inference.region import Region

_REACH = 2  # pixels of the input on either side of a window's middle

_ROWS = 512  # that are worked on at once: beside the maps of a photograph little memory is taken


def added_variation(result: Tensor, lr: Tensor, levels: int = LEVELS) -> Tensor:
    """How much more a result varies locally than bicubic does: of an amplified noise, the part that was added.

    The standard deviation in a window of the result (4 pixels of the input and one of the result a side), less that of
    the input enlarged by bicubic and rounded alike, mean over channels; 0 where it is less.

    Args:
        result: `C sH sW`, [0, 1], where `lr` is.
        lr: `C H W`, [0, 1], what was enlarged.
        levels: that the result is rounded to, without 0.

    Returns:
        `sH sW`, 8-bit levels, on the device of `lr`.
    """
    size = (result.shape[-2], result.shape[-1])
    reach = [round(_REACH * large / small) for large, small in zip(size, lr.shape[-2:], strict=True)]
    added = lr.new_zeros(size)
    for made, given in zip(result, lr, strict=True):
        plain = resize(given[None], size)[0].clamp_(0, 1).mul_(levels).round_().div_(levels)
        for top in range(0, size[0], _ROWS):
            rows, first = slice(max(0, top - reach[0]), top + _ROWS + reach[0]), top - max(0, top - reach[0])
            more = _deviation(made[rows], reach) - _deviation(plain[rows], reach)
            added[top : top + _ROWS] += more[first : first + _ROWS]
    return added.mul_(LEVELS / len(lr)).clamp_(min=0)


def _deviation(image_HW: Tensor, reach: list[int]) -> Tensor:
    """Standard deviation in the window around each pixel; windows end at the border."""
    image = image_HW.double()  # in single precision, a difference of squares is off by 0.05 levels
    mean, squares = _mean(image, reach), _mean(image.square(), reach)
    return (squares - mean.square()).clamp_(min=0).sqrt_().to(image_HW.dtype)


def _mean(x_HW: Tensor, reach: list[int]) -> Tensor:
    """Mean of each window, by sums up to a row or column: windows of a large scale take no longer."""
    for axis, side in enumerate(reach):
        at = torch.arange(x_HW.shape[axis], device=x_HW.device)
        first, end = (at - side).clamp(min=0), (at + side + 1).clamp(max=len(at))
        sums = F.pad(x_HW.cumsum(axis), (0, 0, 1, 0) if axis == 0 else (1, 0))
        count = (end - first)[:, None] if axis == 0 else end - first
        x_HW = (sums.index_select(axis, end) - sums.index_select(axis, first)) / count
    return x_HW


def blocks_in(facts: DegradationFacts, region: Region | None) -> tuple[Phase | None, str]:
    """Where the blocks of a compressed input begin in its maps, and a sentence on them for a reader of the maps.

    Args:
        facts: what is known of the input's compression.
        region: the part of the input that the maps show.
    """
    found, jpeg = facts.compression, facts.values.jpeg
    if found is None and facts.codec is not None and jpeg is not None:
        return None, codec_words(facts.codec, jpeg)
    if found is None:
        return None, ""
    if found.phase is None:
        return None, f"JPEG, {found.summary}; where its blocks of 8x8 pixels are is not known"
    left, top = (0, 0) if region is None else region[:2]
    first = ((found.phase[0] - top) % 8, (found.phase[1] - left) % 8)
    return first, f"corners of the blocks of 8x8 pixels of JPEG, {found.summary}"


def evidence_figures(disagreement: Tensor, residual: Tensor, added: Tensor, views: int) -> EvidenceFigures:
    """Figures of the maps (8-bit levels, any size), of so many views."""
    return EvidenceFigures(
        views=views,
        disagreement_mean=round(float(disagreement.mean()), 4),
        disagreement_95th_percentile=_percentile(disagreement),
        disagreement_largest=round(float(disagreement.max()), 4),
        residual_mean=round(float(residual.mean()), 4),
        residual_largest=round(float(residual.max()), 4),
        added_variation_mean=round(float(added.mean()), 4),
        added_variation_95th_percentile=_percentile(added),
        added_variation_largest=round(float(added.max()), 4),
    )


def _percentile(values: Tensor) -> float:
    # quantile takes at most 2^24 numbers; every n-th of them gives the same.
    values = values.flatten()
    return round(float(torch.quantile(values[:: max(1, len(values) // 2**23)], 0.95)), 4)
