"""Frames of a video without the video: its compression is seen in the colours alone.

Video stores colour at half the size (4:2:0), and most converters enlarge it by repetition (FFmpeg's swscale by default,
and so OpenCV): of every two steps between neighbouring pixels, colour takes one. How strong the compression was is not
seen, since a codec predicts blocks before it quantises them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zssr_gan.degradation.model import Jpeg
from zssr_gan.degradation.recurrence import Fit
from zssr_gan.imaging.colour import LEVELS, has_colours, luma_of

_REPEATED = 0.25
"""Smaller over larger mean step of the two parities; 0 to 0.2 in frames of H.264, 0.5 to 1 in most photographs."""

_LEAST_STEP = 0.7  # levels: what is nearly gray has steps of rounding alone, and few of them

_SMALLEST = 8  # pixels a side

_LEAST_NOISE = 1.0
"""Levels of luma's noise that are left where a codec has not smoothed the images; of P frames at crf 23, 0.2 are."""

_LARGEST_MISFIT = 0.15

_SEEN = "the colours are repeated over 2x2 pixels, as those of a compressed video"

_WEAK, _STRONG = 75, 30
"""Qualities of JPEG that stand for the compression where the noise is left, and where it is not. From 25 to 60, results
of P frames hardly differ."""


def is_footage(images: Sequence[Tensor]) -> bool:
    """Whether most of the images with colours (`C H W`, [0, 1]) have them repeated over 2x2 pixels; luma is not."""
    coloured = [image.cpu() for image in images if has_colours(image) and min(image.shape[-2:]) >= _SMALLEST]
    return 2 * sum(map(_has_repeated_colours, coloured)) > len(coloured)


def footage_verdict(found: Fit | None, sure: bool, why: str) -> tuple[bool, Jpeg | None, str]:
    """Whether a video's blur is used, the compression that is assumed, and why, in one sentence.

    A codec smooths what it predicts, which looks like blur; a network that undoes it falls below bicubic. Where noise
    is left, the images are smoothed little.

    Args:
        found: blur and noise of the images; None where they are too few.
        sure: whether the blur would be used without compression.
        why: of that.
    """
    noise = 0.0 if found is None else LEVELS * found.noise
    if found is None or noise < _LEAST_NOISE:
        why = why if found is None else f"bicubic is assumed: noise of {noise:.1f} of 255 levels is left"
        return False, Jpeg.of_quality(_STRONG), f"{why}; {_SEEN}, which may have smoothed them"
    if sure and found.misfit > _LARGEST_MISFIT:
        sure, why = False, f"bicubic is assumed: the blur's misfit is {found.misfit:.2f} ({_LARGEST_MISFIT:g} at most)"
    # Of a compression that has left noise, little is to be undone: assumed beside a wrong blur, it costs more.
    return sure, Jpeg.of_quality(_WEAK) if sure else None, f"{why}; {_SEEN}, which has left noise"


def _has_repeated_colours(image: Tensor) -> bool:
    # Red and blue less green do not depend on luma, whatever the matrix of YCbCr.
    colours = LEVELS * (image[::2] - image[1:2])
    luma = LEVELS * luma_of(image)[None]
    return all(_is_repeated(colours, axis) and not _is_repeated(luma, axis) for axis in (1, 2))


def _is_repeated(planes: Tensor, axis: int) -> bool:
    """Whether planes `P H W` take nearly all steps along an axis at the same parity."""
    steps = planes.diff(dim=axis).abs()
    means = [float(steps.index_select(axis, torch.arange(first, steps.shape[axis], 2)).mean()) for first in (0, 1)]
    return max(means) > _LEAST_STEP and min(means) < _REPEATED * max(means)
