"""Follow a region through a video from the frame in which it was marked, forwards and backwards, until it is lost.

Each frame is searched by normalised correlation (Lewis 1995) with the last one that was found, then registered to the
reference frame itself, so that errors do not add up, and back to the last one (forward-backward error, Kalal et al.
2010). Frames are streamed; the last step, to a few hundredths of a pixel, takes several as one batch.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.errors import SettingsError
from zssr_gan.inference.record import versions
from zssr_gan.inference.region import Region, check_inside, checked_region, region_text
from zssr_gan.progress import ignore
from zssr_gan.video.coding import tracked_errors
from zssr_gan.video.frames import Frame
from zssr_gan.video.io import Fields, Raw, open_video
from zssr_gan.video.pixels import luma
from zssr_gan.video.registration import SMALLEST_SIDE, Motion, Target, correlations, refine_motion
from zssr_gan.video.tracks import (
    Corners,
    Homography,
    Track,
    TrackError,
    TrackFrame,
    area,
    bounding_region,
    crop_box,
    crop_map,
    from_crop_map,
    inside_corners,
    is_convex,
    map_of,
    middle_of,
    motion_of,
    moved,
    moved_corners,
    region_corners,
    shifted,
    track_frame,
)

OnFrame = Callable[[TrackFrame, Tensor], None]
"""Is given each frame that was found, and its luma `H W`: the marked one, those after it, then those before it."""

OnProgress = Callable[[str, int, int | None], None]
"""Is told the stage, how many frames are done, and of how many (None: not known)."""

_LEAST_CORRELATION = 0.75  # with the reference frame, both blurred by a pixel
_BACKWARD = 0.05, 1.0  # of the shorter side, but at least so many pixels: how far a place followed back may be off
_GROWTH = 2.5  # times the reference frame's area that a region may take, or a part of it
_PATIENCE = 5  # frames in a row in which a region may be hidden
_BATCH = 8
_REACH = 8  # pixels around the expected place that are searched, at least; a quarter of the side
_SEARCH_SIDE = 48  # pixels that the shorter side has at most in the search
_MEMORY_BYTES = 256 << 20  # of the frames before the marked one, which wait to be gone through backwards


@dataclass(frozen=True, slots=True)
class Mark:
    """What is followed: a region in one frame, and the corners of something flat in it."""

    region: Region
    frame: int
    corners: Corners | None = None

    @classmethod
    def of(cls, region: Region | None, frame: int | None, corners: Corners | None = None) -> "Mark":
        """A region, or else the one around corners. Raises SettingsError where it is none, or too small."""
        if frame is None or (region is None and corners is None):
            raise SettingsError("say what is to be followed: --region X,Y,W,H, as it lies in the frame --frame N")
        if region is None and corners is not None:
            region = bounding_region(corners)
        region = checked_region(region)
        if min(region[2:]) < SMALLEST_SIDE:
            raise SettingsError(
                f"the region {region_text(region)} is too small: at least {SMALLEST_SIDE} pixels a side can be followed"
            )
        return cls(region, frame, corners)


def follow(
    path: Path,
    mark: Mark,
    *,
    raw: Raw | None = None,
    split: Fields = "auto",
    most: int | None = None,
    on_frame: OnFrame = ignore,
    on_progress: OnProgress = ignore,
) -> Track:
    """Follow a region through a video.

    Args:
        path: of the video, or of a folder of stills with a `frames.csv`.
        mark: the region, and the frame in which it was marked.
        raw, split: see `open_video`.
        most: frames to go through in each direction; None: all.
        on_frame, on_progress: callbacks.

    Raises:
        VideoError: the video cannot be read, has a single frame, or frames of several sizes.
        SettingsError: the marked frame or region lies beyond the video.
    """
    with open_video(path, raw=raw, split=split) as video:
        info, frames = video.info, _luma_frames(video.frames)
        first = next(frames)
        waiting = deque[Frame](maxlen=max(_BATCH, _MEMORY_BYTES // first.planes[0].nbytes))
        earlier, reference = 0, None
        for frame in chain([first], frames):
            if frame.index >= mark.frame:
                reference = frame
                break
            on_progress("reading", earlier, mark.frame)
            waiting.append(frame)
            earlier += 1
        if reference is None or reference.index != mark.frame:
            raise SettingsError(
                f"{path}: has no frame {mark.frame}; its frames are {_range(first, reference, waiting)}"
            )
        size = (reference.planes[0].shape[0], reference.planes[0].shape[1])
        check_inside(mark.region, size)
        forwards = _Follower(reference, mark, "is cut short" if video.is_cut_short else "ends")
        backwards = _Follower(reference, mark, "begins")
        on_frame(marked := forwards.marked, luma(reference)[0])
        ahead = None if info.declared_frames is None else max(0, info.declared_frames - earlier - 1)
        ahead, behind = ahead if most is None else min(most, ahead or most), min(earlier, most or earlier)
        after, before = list[TrackFrame](), list[TrackFrame]()

        def collect(found: list[TrackFrame], follower: _Follower, frames: Iterator[Frame]) -> None:
            for frame, image in follower.run(islice(frames, most)):
                found.append(frame)
                on_frame(frame, image)
                on_progress("tracking", len(after) + len(before), None if ahead is None else ahead + behind)
            if follower.seen == most and follower.ended.startswith("the video"):
                follower.ended = f"{most} frames were asked for"

        collect(after, forwards, frames)
    if not (earlier or forwards.seen):
        raise TrackError(f"{path}: has a single frame, in which nothing can be followed: zssr-gan enhance enlarges it.")
    ahead = len(after)
    collect(before, backwards, _backwards(path, waiting, earlier, raw, split))
    ratio = info.sample_aspect_ratio
    track = Track(
        file=path.name, sha256=info.sha256, raw=raw, split=split, width=size[1], height=size[0], region=mark.region,
        sample_aspect_ratio=None if ratio is None else str(ratio), plane=mark.corners is not None,
        reference=mark.frame, frames=(*reversed(before), marked, *after), ended=(backwards.ended, forwards.ended),
        made_by=f"zssr-gan {versions()['zssr-gan']}",
    )  # fmt: skip
    return track.model_copy(update={"content_sha256": track.hash_now})


def _range(first: Frame, reference: Frame | None, before: deque[Frame]) -> str:
    last = before[-1].index if before else first.index
    return f"{first.index} to {last}" if reference is None else f"{first.index}, ..., {last}, {reference.index}, ..."


def _luma_frames(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Frames with what their luma takes alone. Raises TrackError where they are of several sizes."""
    first: Frame | None = None
    for frame in frames:
        first = first or frame
        before, here = first.planes[0].shape, frame.planes[0].shape
        if here != before:
            raise TrackError(
                f"frame {frame.index} has {here[1]}x{here[0]} pixels, and those before it {before[1]}x{before[0]}: "
                "a region is followed through frames of one size."
            )
        planes = frame.planes if frame.is_rgb else (frame.planes[0].copy(),)  # without the memory of the others
        yield replace(frame, planes=planes)


def _backwards(path: Path, waiting: deque[Frame], count: int, raw: Raw | None, split: Fields) -> Iterator[Frame]:
    """The first `count` frames of a video, the last one first: those that wait, then others, read again."""
    left = count - len(waiting)
    while waiting:
        yield waiting.pop()
    while left > 0:
        with open_video(path, raw=raw, split=split) as video:
            waiting.extend(islice(_luma_frames(video.frames), left))
        left -= len(waiting)
        while waiting:
            yield waiting.pop()


@dataclass(frozen=True, slots=True)
class _Step:
    """Where the region was found in a frame, or is expected."""

    frame: Frame
    image: Tensor
    of: Homography
    motion: Motion
    """Of its crop."""
    backward: float
    problem: str
    """Why it was not found."""


class _Follower:
    """The region on its way in one direction.

    `ended`: why it was followed no further. `seen`: frames that were looked at.
    """

    def __init__(self, reference: Frame, mark: Mark, end: str) -> None:
        x, y, width, height = mark.region
        self.ended, self.seen, self._reference = f"the video {end}", 0, reference
        self._region, self._flat = mark.region, mark.corners is not None
        corners = mark.corners or region_corners(mark.region)
        self.marked = track_frame(reference, corners).model_copy(update={"correlation": 1.0, "error_px": 0.0})
        image = luma(reference)[0]
        inside = inside_corners(corners, mark.region) if self._flat else None
        self._target = Target(image[y : y + height, x : x + width], mask=inside)
        self._image, self._of, self._velocity, self._gap = image, np.eye(3), np.zeros(2), 1
        self._motion = motion_of([np.eye(3)], torch.tensor([[1.0, 0.0]], dtype=torch.float64), flat=self._flat)

    def run(self, frames: Iterator[Frame]) -> Iterator[tuple[TrackFrame, Tensor]]:
        """Each frame up to where the region is lost, and its luma."""
        waiting: list[_Step] = []
        for frame in frames:
            self.seen += 1
            step = self._step(frame)
            waiting.append(step)
            if not step.problem:
                self._accept(step)
                if len(waiting) >= _BATCH:
                    yield from self._refined(waiting)
                    waiting = []
                continue
            self._gap += 1
            if self._gap > _PATIENCE or step.problem == _LEFT:
                lost = next(one for one in waiting[-self._gap + 1 :] if one.problem)
                self.ended = f"lost at frame {lost.frame.index}: {lost.problem}"
                break
        while waiting and waiting[-1].problem:
            waiting.pop()
        yield from self._refined(waiting)

    def _step(self, frame: Frame) -> _Step:
        image = luma(frame)[0]
        size = (image.shape[0], image.shape[1])
        expected = shifted(self._of, self._velocity * self._gap)
        middle = middle_of(expected, self._region)
        if not (0 <= middle[0] <= size[1] and 0 <= middle[1] <= size[0]):
            return _Step(frame, image, expected, self._motion, math.nan, _LEFT)
        here = crop_box(self._of, self._region, size)
        there = self._searched(image, here, crop_box(expected, self._region, size))
        start = shifted(self._of, np.subtract(there[:2], here[:2]).astype(float))
        light = torch.stack([self._motion.gain, self._motion.bias], 1)
        motion = motion_of([crop_map(start, there, self._region)], light, flat=self._flat)
        crop = _cut(image, there)[None]
        unit = min(1.0, max(0.6, min(self._region[2:]) / 32))
        for sigma in (2.0, 1.0):
            motion = refine_motion(crop, self._target, motion, affine=False, sigma=sigma * unit).motion
        found = refine_motion(crop, self._target, motion, affine=True, sigma=unit)
        of = from_crop_map(map_of(found.motion), there, self._region)
        corners = moved_corners(of, self.marked.corners)
        back = self._back(crop, of, there, here, unit)
        before = moved(self._of, self.marked.corners)
        backward = float(np.linalg.norm(moved(back, corners) - before, axis=1).mean())
        correlation = float(found.correlation[0])
        growth = area(corners) / area(self.marked.corners)
        problem, limit = "", max(_BACKWARD[1], _BACKWARD[0] * min(self._region[2:]))
        if not correlation >= _LEAST_CORRELATION:
            problem = f"its correlation with the reference frame is {correlation:.2f}, below {_LEAST_CORRELATION}"
        elif not backward <= limit:
            problem = f"followed back, it lies {backward:.2f} pixels off, more than {limit:.2f}"
        elif not is_convex(corners) or not 1 / _GROWTH <= growth <= _GROWTH:
            problem = f"it would be {growth:.2f} times as large as in the reference frame"
        return _Step(frame, image, expected if problem else of, found.motion, backward, problem)

    def _accept(self, step: _Step) -> None:
        self._velocity = (middle_of(step.of, self._region) - middle_of(self._of, self._region)) / self._gap
        self._gap = 1
        self._image, self._of, self._motion = step.image, step.of, step.motion

    def _searched(self, image: Tensor, here: Region, expected: Region) -> Region:
        """Where the last crop correlates best around the expected place, to whole pixels."""
        _, _, width, height = here
        reach = max(_REACH, min(width, height) // 4) + 2 * (self._gap - 1)
        left, top = max(0, expected[0] - reach), max(0, expected[1] - reach)
        right, bottom = expected[0] + width + reach, expected[1] + height + reach
        by = max(1, min(width, height) // _SEARCH_SIDE)
        window, crop = (
            F.avg_pool2d(part[None, None], by) for part in (image[top:bottom, left:right], _cut(self._image, here))
        )
        found = correlations(window, crop)[0]
        row, column = divmod(int(found.argmax()), found.shape[1])
        size = (image.shape[0], image.shape[1])
        x, y = min(left + by * column, size[1] - width), min(top + by * row, size[0] - height)
        return x, y, width, height

    def _back(self, crop: Tensor, of: Homography, there: Region, here: Region, unit: float) -> Homography:
        """From the frame of `crop` to the last one, registered without the reference frame."""
        between = of @ np.linalg.inv(self._of)
        still = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        start = motion_of([crop_map(between, there, here)], still, flat=False)
        found = refine_motion(crop, Target(_cut(self._image, here)), start, affine=True, sigma=unit)
        back: Homography = np.linalg.inv(from_crop_map(map_of(found.motion), there, here)).astype(np.float64)
        return back

    def _refined(self, steps: list[_Step]) -> Iterator[tuple[TrackFrame, Tensor]]:
        """The last step of registration, those that were found as one batch."""
        found = [step for step in steps if not step.problem]
        if found:
            size = (found[0].image.shape[0], found[0].image.shape[1])
            boxes = [crop_box(step.of, self._region, size) for step in found]
            maps = [crop_map(step.of, box, self._region) for step, box in zip(found, boxes, strict=True)]
            light = torch.cat([torch.stack([step.motion.gain, step.motion.bias], 1) for step in found])
            crops = torch.stack([_cut(step.image, box) for step, box in zip(found, boxes, strict=True)])
            last = refine_motion(crops, self._target, motion_of(maps, light, flat=self._flat), sigma=0.5)
            coded = [*(step.frame for step in found), self._reference]
            error = tracked_errors(coded, [*boxes, self._region], last.error, last.residual)
        for step in steps:
            frame, place = step.frame, next((f for f, one in enumerate(found) if one is step), None)
            status = "tracked"
            if frame.damage:
                status = frame.damage
            elif frame.same_as is not None:
                status = f"repeats frame {frame.same_as}"
            facts, of = dict[str, float](), step.of
            if place is None:
                status = f"not found: {step.problem}"
            else:
                of = from_crop_map(map_of(last.motion, place), boxes[place], self._region)
                facts = {
                    "gain": round(float(last.motion.gain[place]), 5), "bias": round(float(last.motion.bias[place]), 5),
                    "error_px": round(float(error[place]), 4), "backward_px": round(step.backward, 3),
                    "correlation": round(float(last.correlation[place]), 4),
                }  # fmt: skip
            one = track_frame(frame, moved_corners(of, self.marked.corners), status)
            yield one.model_copy(update=facts), step.image


_LEFT = "it left the picture"


def _cut(image: Tensor, box: Region) -> Tensor:
    x, y, width, height = box
    return image[y : y + height, x : x + width]
