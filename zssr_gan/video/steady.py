"""Hold flicker down: each frame is averaged with those before and after it where nothing moves.

A network makes noise that differs from frame to frame visible as flicker. Where neighbouring frames differ by no more
than their noise they show the same, and their mean has less of it; where something moves, or the light changes, a frame
stays as it is. (Dubois and Sabri 1984 average along time so; the mean over a window has no memory beyond it.)

Shapes: C channels, H W rows and columns.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Facts = TypeVar("Facts")

REACH = 2
"""Frames before and after each that it may be averaged with."""

AGREE, DIFFER = 1.5, 3.0
"""Mean squared difference of 5x5 pixels, in that of the noise: up to the first a neighbour counts in full, from the
second on not at all. Of noise alone 4 % of the means lie above the first."""

LEAST = 0.5 / 255
"""Standard deviation that rounding and a codec leave where nothing moves."""

_BLOCK = 8  # pixels a side of the blocks that the noise is read from
_QUIETEST = 0.1  # share of the blocks: what does not move, and what has no detail
_OF_TEMPORAL, _OF_SPATIAL = 0.78, 0.72
"""The 10 % quantile of a block's mean square of white noise, in its expectation."""


def noise_between(before: Tensor, after: Tensor) -> float:
    """Standard deviation of the noise of two frames `C H W`, [0, 1] units: of their stillest and plainest blocks.

    The lesser of what differs between the frames and what is rough within one, since motion adds to the one and detail
    to the other.
    """
    if min(after.shape[-2:]) < 2 * _BLOCK:
        return 0.0
    temporal = (after - before).square() / (2 * _OF_TEMPORAL)
    kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6  # Immerkaer 1996
    rough = F.conv2d(after[:, None], kernel[None, None]).square() / _OF_SPATIAL
    return min(_quietest(temporal), _quietest(rough[:, 0]))


def _quietest(squares: Tensor) -> float:
    blocks = F.avg_pool2d(squares.mean(0, keepdim=True), _BLOCK)
    return float(blocks.flatten().quantile(_QUIETEST).sqrt())


def flicker(before: Tensor, after: Tensor) -> float:
    """How far two frames `H W` in succession differ in the stillest quarter of their blocks: RMS, in their units."""
    blocks = F.avg_pool2d((after - before).square()[None], min(16, *after.shape))
    return float(blocks.flatten().quantile(0.25).sqrt())


@dataclass(slots=True)
class WindowFrame(Generic[Facts]):
    """A frame with what is known of it; `pixels` is `C H W`. One that is not `sound` is averaged with nothing."""

    facts: Facts
    pixels: Tensor
    sound: bool = True


def steadied(
    frames: Iterable[WindowFrame[Facts]], noise: float, reach: int = REACH
) -> Iterator[tuple[Facts, Tensor, float]]:
    """Each frame's facts, its mean with those around it, and the mean number of frames that a pixel comes of.

    Args:
        frames: of one size, in order; at most `2 reach + 1` are in memory.
        noise: standard deviation of a frame's, [0, 1] units.
        reach: frames before and after.
    """
    window: deque[WindowFrame[Facts]] = deque()
    at = 0  # place in the window of the frame whose turn it is

    for frame in frames:
        window.append(frame)
        if len(window) - at > reach:
            yield _mean(window, at, noise, reach)
            at += 1
            if at > reach:
                window.popleft()
                at -= 1
    while at < len(window):
        yield _mean(window, at, noise, reach)
        at += 1


def _mean(window: deque[WindowFrame[Facts]], at: int, noise: float, reach: int) -> tuple[Facts, Tensor, float]:
    own = window[at]
    total, weights = own.pixels.clone(), torch.ones_like(own.pixels[:1])
    expected = 2 * max(noise, LEAST) ** 2
    for place in range(max(0, at - reach), min(len(window), at + reach + 1)):
        other = window[place]
        if place == at or not (own.sound and other.sound):
            continue
        square = (other.pixels - own.pixels).square().mean(0, keepdim=True)
        near = F.avg_pool2d(square[None], 5, 1, 2, count_include_pad=False)[0]
        weight = ((DIFFER - near / expected) / (DIFFER - AGREE)).clamp_(0, 1)
        total += weight * other.pixels
        weights += weight
    return own.facts, total / weights, float(weights.mean())
