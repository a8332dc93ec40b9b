"""Frames of a video without the video: its compression is seen in the colours, or in the levels of gray frames.

Video stores colour at half the size (4:2:0), and most converters enlarge it by repetition (FFmpeg's swscale by default,
and so OpenCV): of every two steps between neighbouring pixels, colour takes one. It stores luma in 220 levels (16 to
235, ITU-R BT.601): enlarged to 256, every seventh level stays empty, which gray frames show. How strong the compression
was is not seen, since a codec predicts blocks before it quantises them.
"""

import math
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

_LEVELS_OF_VIDEO = [
    {math.floor(level * LEVELS / 219 + rounding) for level in range(220)} for rounding in (0.0, 0.5)
]  # swscale rounds down to RGB, and to the nearest to gray

_FEWEST_LEVELS = 100
"""Levels that a gray image must use: as many drawn at random miss the empty ones once in 3 million times; frames of 32
pixels have 131 and more."""

_LEAST_NOISE = 1.0
"""Levels of luma's noise that are left where a codec has not smoothed the images; of P frames at crf 23, 0.2 are."""

_LARGEST_MISFIT = 0.15
"""Of a blur where a codec has left no blocks; I frames at crf 28 and 33 have 0.2 and 0.3."""

_WEAK, _STRONG = 75, 30
"""Qualities of JPEG that stand for the compression where it has changed the images little, and much. From 25 to 60,
results of P frames hardly differ."""

_SINGLE = 60
"""The same for a single frame, which does not tell how much: as good as lower ones where it was much (P frames), and
costs less where it was little."""


def is_footage(images: Sequence[Tensor]) -> bool:
    """Whether most of the images `C H W` in [0, 1] that can say so are frames of a video.

    Those with colours have them repeated over 2x2 pixels, luma is not; gray ones use the levels of video alone.
    """
    coloured = [image.cpu() for image in images if has_colours(image) and min(image.shape[-2:]) >= _SMALLEST]
    gray = [_levels_of(image[0]) for image in images if not has_colours(image)]
    says = [_has_repeated_colours(image) for image in coloured]
    says += [any(one <= video for video in _LEVELS_OF_VIDEO) for one in gray if len(one) >= _FEWEST_LEVELS]
    return 2 * sum(says) > len(says)


def jpeg_of_frame(pixels: Tensor) -> Jpeg | None:
    """JPEG that stands for the compression of a single frame `C H W` in [0, 1] of a video; None: it is no frame."""
    return Jpeg.of_quality(_SINGLE) if is_footage([pixels]) else None


SEEN_FOOTAGE = "the colours repeated over 2x2 pixels, or the gray levels, are those of a compressed video"


def footage_verdict(found: Fit | None, sure: bool, why: str, seen: str = SEEN_FOOTAGE) -> tuple[bool, Jpeg | None, str]:
    """Whether a video's blur is used, the compression that is assumed, and why, in one sentence.

    A codec smooths what it predicts, which looks like blur, and leaves blocks, which no blur explains; a network that
    undoes such a blur falls below bicubic.

    Args:
        found: blur and noise of the images; None where they are too few.
        sure: whether the blur would be used without compression.
        why: of that.
        seen: how it is known that they are of a video.
    """
    if found is None:
        return False, None, f"{why}; {seen}, of which they do not tell how strong it is"
    noise = LEVELS * found.noise
    if noise < _LEAST_NOISE or found.misfit > _LARGEST_MISFIT:
        trace = f"noise of {noise:.1f} of 255 levels is left" if noise < _LEAST_NOISE else f"misfit {found.misfit:.2f}"
        return False, Jpeg.of_quality(_STRONG), f"bicubic is assumed: {seen}, which has changed them much ({trace})"
    # What has changed the images little costs more than it brings where the blur is not known.
    return sure, Jpeg.of_quality(_WEAK) if sure else None, f"{why}; {seen}, which has changed them little"


def _levels_of(plane: Tensor) -> set[int]:
    """The levels of `H W` that occur."""
    return set((plane * LEVELS).round().int().unique().tolist())


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
