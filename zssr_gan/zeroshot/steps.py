"""What is planned before the work: the steps to the asked size, the least size of an image, the size of a fleet."""

import math
from dataclasses import dataclass

import torch

from zssr_gan.degradation.operators import Downscale
from zssr_gan.imaging.resize import Scale, Size, enlarged_size
from zssr_gan.settings.zeroshot import StepSettings, ZeroShotSettings

LARGEST_SCALE = 8.0

_LARGEST_STEP = 2.0
"""No step enlarges a side by more; larger scales are taken in equal steps, each learnt on the last one's result."""


_LARGEST_FLEET = 1024
"""Networks side by side on a GPU: more are no faster, and none of their images is written before all are trained."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its sub-steps' scales from the image that the step starts on, and the sizes that they give."""

    scales: tuple[Scale, ...]
    sizes: tuple[Size, ...]


def _count_steps(scale: Scale) -> int:
    return max(1, math.ceil(math.log(max(scale)) / math.log(_LARGEST_STEP) - 1e-9))


def step_of(scale: Scale, downscale: Downscale) -> Scale:
    """The scale (y, x) of each of the equal steps that `scale` is taken in."""
    count = 1 if downscale.single_step else _count_steps(scale)
    return scale[0] ** (1 / count), scale[1] ** (1 / count)


def plan_steps(size: Size, scale: Scale, settings: StepSettings, *, single_step: bool) -> list[Step]:
    """Cut the way into equal steps of at most 2 a side, each with its gradual sub-steps.

    Args:
        size: rows and columns of the LR image.
        scale: (y, x), 1 to 8.
        settings: gradual sub-steps.
        single_step: one step, and of its sub-steps those to the whole scale, for a kernel that holds for it alone.

    Returns:
        Steps whose last size is `enlarged_size(size, scale)`.
    """
    if single_step:
        count = settings.gradual.count((1.0, 1.0))
        return [Step((scale,) * count, (enlarged_size(size, scale),) * count)]
    count = _count_steps(scale)
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


def fleet_capacity(device: torch.device, settings: ZeroShotSettings, size: Size) -> int:
    """How many networks are trained side by side on images of `size`.

    On a CPU so many that one layer's activations stay in a core's cache: 8 at 32x32 px, 13 at 25x25, 32 at 16x16 lie
    in the flat part of what was measured (see benchmarks/shared-model.md), and the weights of 64 were slower in most
    rows. On a GPU what fits into three quarters of its free memory, at most 1,024; `run_jobs` halves what does not fit.
    """
    crop = min(settings.pairs.crop, *size)
    side = crop if settings.network.grid == "interpolated" else crop // 2
    pixels = settings.pairs.batch * side * side
    if device.type != "cuda":
        return max(4, min(32, round(8 * 1024 / pixels)))
    # Memory that torch holds and has given to no tensor is free too: else a second call would see what the first left.
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    width, depth = settings.network.width, settings.network.depth
    # Kept for the backward pass: each layer's input and its ReLU, in the products' precision and in float32.
    activations = 12 * pixels * width * depth
    # Weights, gradient, moments, average, and what the optimiser works in.
    weights = 4 * 8 * 9 * width * width * depth
    return max(1, min(_LARGEST_FLEET, int(0.75 * free / (activations + weights))))
