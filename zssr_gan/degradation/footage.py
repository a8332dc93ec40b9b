"""Frames of a video without the video: its compression is seen in the levels of luma, or in the colours.

Video stores luma in 220 levels (16 to 235, ITU-R BT.601 and BT.709). Enlarged to 256 they are 1.16 apart, which red,
green and blue still show together, whatever filter enlarged the colours; where a program rounds before it adds the
colours, every seventh level of 256 stays empty. Colour is stored at half the size (4:2:0) or width (4:2:2), and
FFmpeg's swscale by default, and so OpenCV, enlarges it by repetition: of every two steps between neighbouring pixels,
colour takes one.
How strong the compression was is not seen, since a codec predicts blocks before it quantises them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zssr_gan.degradation.jpeg import nearest_quality
from zssr_gan.degradation.model import Jpeg
from zssr_gan.degradation.recurrence import Fit
from zssr_gan.imaging.colour import LEVELS, has_colours, luma_of
from zssr_gan.imaging.tiles import middle_of

_MATRICES = ((0.299, 0.114), (0.2126, 0.0722))
"""Weights of red and blue in luma: BT.601, BT.709."""

_ON_LEVELS = 0.35
"""Length of the mean unit vector whose angle is luma's place between two levels of video: 0.4 to 0.6 in frames, since
rounding to RGB moves luma; at most 0.2 in photographs of many colours."""

_FEWEST_COLOURS = 150
"""Different colours that an image must have: as many drawn at random are on the levels once in 100 million times."""

_LARGEST_SIDE = 1024  # pixels of an image that are looked at

_REPEATED = 0.25
"""Smaller over larger mean step of the two parities; 0 to 0.2 in frames of H.264, 0.5 to 1 in most photographs."""

_LEAST_STEP = 0.7  # levels: what is nearly gray has steps of rounding alone, and few of them

_FEWEST_PAIRS, _UNEQUAL = 100, 0.005
"""Pairs of neighbours in rows that an image must have, and the largest share of them that may differ in colour: in
frames none does, in crops of 32 pixels of photographs 0.012 do at least."""

_SMALLEST = 8  # pixels a side

_LEVELS_OF_VIDEO = [
    {math.floor(level * LEVELS / 219 + rounding) for level in range(220)} for rounding in (0.0, 0.5, -0.116)
]  # swscale rounds down to RGB, to the nearest to gray, and has a table with this offset

_FEWEST_LEVELS = 100
"""Levels that an image must use: as many drawn at random miss the empty ones once in 3 million times; frames of 32
pixels have 131 and more."""

_MISREAD = 0.2  # largest share of frames that may look as if they were none

_LEAST_NOISE = 1.0
"""Levels of luma's noise that are left where a codec has not smoothed the images; of P frames at crf 23, 0.2 are."""

_LARGEST_MISFIT = 0.15
"""Of a blur where a codec has left no blocks; I frames at crf 28 and 33 have 0.2 and 0.3."""

_WEAK, _STRONG = 75, 60
"""Qualities of JPEG that stand for the compression where it has changed the images little, and much, or by a single
frame that does not tell it. From 25 to 60, results of P frames hardly differ; where a codec smooths little (MPEG-4), 30
costs up to 0.25 dB of 60's."""


def is_frame(image: Tensor) -> bool | None:
    """Whether an image `C H W` in [0, 1] is a frame of a video; None where it is too small or too plain to tell."""
    image = middle_of(image.cpu(), _LARGEST_SIDE, 2)
    if min(image.shape[-2:]) < _SMALLEST:
        return None
    says = [_has_levels_of_video(image)]
    if has_colours(image):
        says = [True] if says[0] else [_is_on_levels(image), _has_repeated_colours(image)]
    return True if True in says else None if None in says else False


def are_frames(images: Sequence[Tensor], told: Sequence[bool | None] = ()) -> list[bool]:
    """Which of the images `C H W` in [0, 1] are frames of a compressed video.

    What a file has `told` of an image is so. Those that do not tell are taken as what most are; where most are frames,
    so are a few whose pixels tell otherwise.
    """
    known = told or [None] * len(images)
    says = [is_frame(image) if its is None else its for image, its in zip(images, known, strict=True)]
    yes, no = says.count(True), says.count(False)
    few = no <= _MISREAD * (yes + no)
    guessed = [said is True or (yes > no and (said is None or few)) for said in says]
    return [guess if its is None else its for guess, its in zip(guessed, known, strict=True)]


def jpeg_of_frame(pixels: Tensor, told: bool | None = None, webp_step: float | None = None) -> Jpeg | None:
    """JPEG that stands for the compression of a single frame `C H W` in [0, 1] of a video; None: it is no frame.

    `told`: what its file says; None: nothing. `webp_step`: of the quantiser where it is lossy WebP.
    """
    if webp_step is not None:
        return jpeg_of_webp(webp_step)
    return Jpeg.of_quality(_STRONG) if (is_frame(pixels) if told is None else told) else None


WEBP_FOOTAGE = "a JPEG with the steps of each file's quantiser stands for WebP's compression"
KNOWN_FOOTAGE = "these are frames of a compressed video"
SEEN_FOOTAGE = "levels or colours are those of a compressed video"


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
    of_webp = seen == WEBP_FOOTAGE
    if found is None:
        return False, None, f"{why}; {seen}" + ("" if of_webp else ", the strength of which is not known")
    noise = LEVELS * found.noise
    if noise < _LEAST_NOISE or found.misfit > _LARGEST_MISFIT:
        trace = f"noise of {noise:.1f} of 255 levels is left" if noise < _LEAST_NOISE else f"misfit {found.misfit:.2f}"
        stands = "" if of_webp else f": JPEG {_STRONG} stands for it"
        return False, Jpeg.of_quality(_STRONG), f"bicubic is assumed: {seen}, which has changed much ({trace}){stands}"
    # What has changed the images little costs more than it brings where the blur is not known.
    stands = f": JPEG {_WEAK} stands for it" if sure and not of_webp else ""
    return sure, Jpeg.of_quality(_WEAK) if sure else None, f"{why}; {seen}, which has changed little{stands}"


def single_frames_verdict(seen: str) -> tuple[Jpeg, str]:
    """The compression that is assumed of frames among other images, too few to tell its strength, and why."""
    why = f"bicubic is assumed: {seen}, the strength of which is not known: JPEG {_STRONG} stands for it"
    return Jpeg.of_quality(_STRONG), why


def jpeg_of_webp(step: float) -> Jpeg:
    """JPEG that stands for lossy WebP with a mean step of luma's quantiser of so many levels: all its steps are that.

    WebP has one step for all frequencies, and its blocks of 4x4 pixels are predicted before.
    """
    table = (min(255, max(1, round(step))),) * 64
    return Jpeg(quality=nearest_quality(table), luma=table, chroma=table)


def _has_levels_of_video(image: Tensor) -> bool | None:
    levels = set((image * LEVELS).round().int().unique().tolist()) - {0, LEVELS}  # at which others are cut off
    return any(levels <= video for video in _LEVELS_OF_VIDEO) if len(levels) >= _FEWEST_LEVELS else None


def _is_on_levels(image: Tensor) -> bool | None:
    """Whether the luma of most different colours of an image `3 H W` is on the levels of video."""
    red, green, blue = (image * LEVELS).round().long().flatten(1)
    coded = ((red * 256 + green) * 256 + blue).unique()  # an even area counts once
    colours = torch.stack([coded >> 16, coded >> 8 & 255, coded & 255]).double()
    colours = colours[:, (colours.amin(0) > 0) & (colours.amax(0) < LEVELS)]  # others were cut off
    if colours.shape[1] < _FEWEST_COLOURS:
        return None
    weights = torch.tensor([[red, 1 - red - blue, blue] for red, blue in _MATRICES]).double()
    places = 2 * math.pi * 219 / LEVELS * (weights @ colours)
    return bool((torch.hypot(places.cos().mean(1), places.sin().mean(1)) > _ON_LEVELS).any())


def _has_repeated_colours(image: Tensor) -> bool | None:
    if _has_equal_pairs(image):
        return True
    # Red and blue less green do not depend on luma, whatever the matrix of YCbCr.
    colours = [_is_repeated(LEVELS * (image[::2] - image[1:2]), axis) for axis in (1, 2)]
    luma = [_is_repeated(LEVELS * luma_of(image)[None], axis) for axis in (1, 2)]
    return None if None in colours else all(colours) and True not in luma


def _has_equal_pairs(image: Tensor) -> bool:
    """Whether pairs in the rows of an image `3 H W` have equal colours to the level, and neighbouring pairs have not.

    So are they where colours have half the width alone (4:2:2), or half the height of each field (interlaced video).
    """
    levels = (image * LEVELS).round()
    inside = ((levels > 0) & (levels < LEVELS)).all(0)  # others were cut off
    steps = (levels[::2] - levels[1:2]).diff(dim=2).abs().amax(0)
    inside = inside[:, 1:] & inside[:, :-1]
    parts = [steps[:, first::2][inside[:, first::2]] for first in (0, 1)]
    if min(map(len, parts)) < _FEWEST_PAIRS or _is_repeated(LEVELS * luma_of(image)[None], 2):
        return False
    unequal = min(float((part > 0).float().mean()) for part in parts)
    return unequal < _UNEQUAL and max(float(part.mean()) for part in parts) > _LEAST_STEP


def _is_repeated(planes: Tensor, axis: int) -> bool | None:
    """Whether planes `P H W` take nearly all steps along an axis at the same parity; None: too even to tell."""
    steps = planes.diff(dim=axis).abs()
    means = [float(steps.index_select(axis, torch.arange(first, steps.shape[axis], 2)).mean()) for first in (0, 1)]
    return min(means) < _REPEATED * max(means) if max(means) > _LEAST_STEP else None
