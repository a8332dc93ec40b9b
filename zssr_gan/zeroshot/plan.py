"""How the way from an image's size to the asked one is cut into steps, and what size an image needs at least."""

import math
from dataclasses import dataclass

from zssr_gan.config import StepSettings
from zssr_gan.imaging.resampling import Scale, Size, enlarged_size

SMALLEST_SIDE = 8
"""Pixels a side that an image needs: shrunk by 2 it still has 4, the reach of the bicubic kernel."""
LARGEST_SCALE = 8.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its sub-steps' scales from the image that the step starts on, and the sizes that they give."""

    scales: tuple[Scale, ...]
    sizes: tuple[Size, ...]


def plan_steps(size: Size, scale: Scale, settings: StepSettings, *, whole: bool) -> list[Step]:
    """Cut the way into equal steps of at most `settings.largest` a side, each with its gradual sub-steps.

    Args:
        size: rows and columns of the LR image.
        scale: (y, x), 1 to 8.
        settings: largest step, gradual sub-steps.
        whole: one step, and of its sub-steps those to the whole scale, as a kernel demands that is known for it alone.

    Returns:
        Steps whose last size is `enlarged_size(size, scale)`.
    """
    if whole:
        count = settings.gradual.count((1.0, 1.0))
        return [Step((scale,) * count, (enlarged_size(size, scale),) * count)]
    count = max(1, math.ceil(math.log(max(scale)) / math.log(settings.largest) - 1e-9))
    steps = []
    at = size
    for number in range(1, count + 1):
        # Sizes are rounded once each, from the image given, so that the last is the one that was asked for.
        to = enlarged_size(size, (scale[0] ** (number / count), scale[1] ** (number / count)))
        way = (to[0] / at[0], to[1] / at[1])
        scales = tuple((1 + y * (way[0] - 1), 1 + x * (way[1] - 1)) for y, x in settings.gradual)
        steps.append(Step(scales, (*(enlarged_size(at, sub) for sub in scales[:-1]), to)))
        at = to
    return steps
