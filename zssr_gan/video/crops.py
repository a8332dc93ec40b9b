"""The frames of a track as crops of a video: what is fused of it, where it lies, and what is left out and why."""

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from zssr_gan.errors import SettingsError
from zssr_gan.imaging.picture import Picture
from zssr_gan.imaging.resize import Size
from zssr_gan.inference.region import Region
from zssr_gan.video.aspect import Display, display_size
from zssr_gan.video.coding import coding_facts
from zssr_gan.video.folder import TABLE
from zssr_gan.video.frames import Field, Frame
from zssr_gan.video.io import open_video
from zssr_gan.video.pixels import picture_of_frame
from zssr_gan.video.registration import Motion
from zssr_gan.video.tracks import Track, TrackError, TrackFrame, another_video, inside_corners

FRAMES = 16
"""Of a track that are fused where no other number is asked for."""


@dataclass(frozen=True, slots=True)
class Crop:
    """The region in one frame of a video."""

    picture: Picture
    frame: Frame
    """Without its planes."""
    box: Region
    """Where it lies in the frame: left and top edge, width and height."""

    @property
    def name(self) -> str:
        """Of its frame."""
        return self.frame.name

    @property
    def facts(self) -> dict[str, object]:
        """For a record."""
        return {**_facts(self.frame), "box": list(self.box)}


@dataclass(frozen=True, slots=True)
class TrackCrops:
    """Crops of a track, in the order in which their frames are shown."""

    crops: tuple[Crop, ...]
    reference: int
    """Which of the crops."""
    start: Motion
    """Of the crops by the track, relative to the reference."""
    mask: Tensor | None
    """`H W` of the reference crop: what lies within the corners of something flat; None: all."""
    left_out: tuple[dict[str, object], ...]
    """Frames between those of the crops that have no part, and why."""
    info: dict[str, object]
    """What the container says, the decoder's versions, and by which range and matrix colours were read."""


@dataclass(frozen=True, slots=True)
class TrackSource:
    """What is fused of a video.

    `video`: a file, or a folder of stills with a `frames.csv`. `track`: of it. `reference`: index of the frame whose
    moment the result shows; None: the one in which the region was marked. `most`: frames, those nearest to it.
    `display`: the shape in which whole frames are shown, to which the result's width is corrected as the last step.
    """

    video: Path
    track: Track
    reference: int | None = None
    most: int = FRAMES
    display: Display = None

    @property
    def file(self) -> Path:
        """That the track has the hash of."""
        return self.video / TABLE if self.video.is_dir() else self.video

    def shown_size(self, size: Size, field: Field | None) -> Size:
        """Rows and columns of a result of this size, enlarged or not, as it is to be shown."""
        track, ratio = self.track, self.track.sample_aspect_ratio
        whole = Frame((np.broadcast_to(np.uint8(0), (track.height, track.width)),), 0, field=field)
        shown = display_size(whole, None if ratio is None else Fraction(ratio), self.display)
        rows, columns = shown or (track.height, track.width)
        return round(size[0] * rows / track.height), round(size[1] * columns / track.width)


def read_crops(source: TrackSource) -> TrackCrops:
    """Cut a track's region out of the frames nearest to the reference frame.

    Raises:
        TrackError: the track is of another video, or a frame is not as it has it.
        VideoError: the video cannot be read.
        SettingsError: the reference frame is not one that the track has found.
    """
    video, track = source.video, source.track
    index = track.reference if source.reference is None else source.reference
    middle = next((place for place, one in enumerate(track.frames) if one.index == index), None)
    if middle is None:
        first, last = track.frames[0].index, track.frames[-1].index
        raise SettingsError(f"frame {index} is not in the track, which has frames {first} to {last}")
    if track.frames[middle].status != "tracked":
        raise SettingsError(f"frame {index} cannot be the reference: {track.frames[middle].status}")
    order = sorted(range(len(track.frames)), key=lambda place: (abs(place - middle), place))
    chosen, unused = list[TrackFrame](), list[TrackFrame]()
    for place in order:
        if len(chosen) == source.most:
            break
        (chosen if track.frames[place].status == "tracked" else unused).append(track.frames[place])
    left_out: list[dict[str, object]] = [
        {"index": one.index, "field": one.field, "pts": one.pts, "sha256": one.sha256, "rejected": one.status}
        for one in sorted(unused, key=lambda one: one.index)
    ]
    wanted = {(one.index, one.field): one for one in chosen}
    found: list[tuple[TrackFrame, Crop]] = []
    with open_video(video, raw=track.raw, split=track.split) as opened:
        if opened.info.sha256 != track.sha256:
            raise TrackError(f"{video}: {another_video(track)}")
        for frame in opened.frames:
            if (one := wanted.pop((frame.index, frame.field), None)) is None:
                continue
            _check(frame, one, track, video)
            why = frame.damage
            if frame.same_as is not None and any(crop.frame.index == frame.same_as for _, crop in found):
                why = f"repeats frame {frame.same_as}"
            if why and one.index != index:
                left_out.append({**_facts(frame), "rejected": why})
            else:
                read_as = {"range": frame.assumed_range, "matrix": frame.assumed_matrix}
                box = track.box(one)
                found.append((one, Crop(picture_of_frame(frame, box), replace(frame, planes=()), box)))
            if not wanted:
                break
    if wanted:
        raise TrackError(f"{video}: has no frame {min(wanted, key=lambda one: one[0])[0]}, which its track names.")
    used, crops = [one for one, _ in found], tuple(crop for _, crop in found)
    at = next(place for place, one in enumerate(used) if one.index == index)
    mask = inside_corners(used[at].corners, crops[at].box) if track.plane else None
    info = {name: str(value) if isinstance(value, Fraction) else value for name, value in asdict(opened.info).items()}
    info["read_as"] = read_as
    return TrackCrops(crops, at, track.motion(used).relative_to(at), mask, tuple(left_out), info)


def _check(frame: Frame, one: TrackFrame, track: Track, video: Path) -> None:
    rows, columns = frame.planes[0].shape
    if (rows, columns) != (track.height, track.width):
        raise TrackError(
            f"{video}: frame {frame.index} has {columns}x{rows} pixels, and the track is of frames of "
            f"{track.width}x{track.height}."
        )
    if one.sha256 and one.sha256 != frame.sha256:
        raise TrackError(f"{video}: frame {frame.index} is not as its track has it; another decoder may have read it.")


def _facts(frame: Frame) -> dict[str, object]:
    return {
        "index": frame.index, "field": frame.field, "pts": frame.pts, "sha256": frame.sha256,
        "time_base": None if frame.time_base is None else str(frame.time_base), **coding_facts(frame),
    }  # fmt: skip
