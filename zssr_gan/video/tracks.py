"""The track of a region through a video: its file, and where the region's crops lie in the reference frame.

A place is (x, y) in pixels from a frame's upper left corner, so that the first pixel's centre is at 0.5, 0.5. Each
frame holds four corners, and these alone are its geometry: the homography from the reference frame's four corners to
them.
"""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from zssr_gan.errors import SettingsError, VideoError
from zssr_gan.files import canonical_sha256, sha256_file
from zssr_gan.imaging.resize import Size
from zssr_gan.inference.region import Region
from zssr_gan.provenance import FileModel, read_json
from zssr_gan.video.frames import Frame
from zssr_gan.video.registration import Motion

Point = tuple[float, float]
"""(x, y)."""

Corners = tuple[Point, Point, Point, Point]
"""In the order of the region: for a rectangle upper left, upper right, lower right, lower left."""

Homography = NDArray[np.float64]
"""`3 3`, from (x, y, 1) in the reference frame to (x, y, 1) in another, up to a factor."""

_STRETCHED = 4.0  # times: a region is followed to 2.5 times its area
_BRIGHTER = 10.0  # times
_LARGEST = 1e9  # of a coordinate, so that products of products can be computed
_YX = [1, 0, 2]  # from (x, y, 1) to (y, x, 1), and back


class TrackError(VideoError):
    """A file that is no track, or that of another video."""


class TrackFrame(FileModel):
    """Where the region lies in one frame, and how well it was found there."""

    index: int
    field: Literal["top", "bottom"] | None = None
    pts: int | None = None
    time_base: str | None = None
    sha256: str = ""
    """Of the planes as decoded."""
    corners: Corners
    gain: float = 1.0
    bias: float = 0.0
    """In [0, 1] units: the frame is gain times the reference frame plus bias."""
    error_px: float | None = None
    """Standard error of the place, with what the video's compression did to the frame."""
    backward_px: float | None = None
    """How far the corners, followed from this frame back to the one before, lie from where they were there; mean."""
    correlation: float | None = None
    """With the reference frame; 1 is best."""
    status: str = "tracked"
    """`tracked`, or why the frame is not to be used."""
    edited: bool = False
    """Whether a person set the corners, so that there are no figures of them; written where it is so."""

    @model_serializer(mode="wrap")
    def _content(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        return content if self.edited else {name: value for name, value in content.items() if name != "edited"}


class Track(FileModel):
    """A region followed through a video; frames in the order in which they are shown."""

    track_version: Literal[1] = 1
    file: str
    """Name of the video, without its folder."""
    sha256: str
    """Of the video's file, or of `frames.csv` of a folder of stills."""
    raw: Literal["h264", "hevc"] | None = None
    split: Literal["auto", "separate", "woven"] = "auto"
    """How the video was opened: see `open_video`."""
    width: int
    height: int
    """Of a frame (or field), pixels."""
    sample_aspect_ratio: str | None = None
    region: Region
    """In the reference frame: left and top edge, width and height."""
    plane: bool = False
    """Whether four corners of a flat thing were marked: its perspective is followed, and what lies beyond left out."""
    reference: int
    """Index of the frame in which the region was marked."""
    frames: tuple[TrackFrame, ...] = Field(min_length=1)
    ended: tuple[str, str]
    """Why it ends, backwards and forwards."""
    made_by: str
    """Program and version."""
    content_sha256: str | None = None
    """Of all other values (`canonical_sha256`); another says that the file was edited."""

    @property
    def hash_now(self) -> str:
        """Of all values but `content_sha256`."""
        return canonical_sha256(self.model_dump(mode="json", exclude={"content_sha256"}))

    @property
    def edited(self) -> bool:
        """Whether it is not as `zssr-gan video track` wrote it."""
        return self.content_sha256 != self.hash_now

    @property
    def marked(self) -> TrackFrame:
        """The reference frame (of an interlaced one its first field)."""
        return next(frame for frame in self.frames if frame.index == self.reference)

    def encode(self) -> bytes:
        """The file: a line for each frame, so that it can be edited."""
        content = self.model_dump(mode="json")
        frames = ",\n".join(f"  {json.dumps(frame)}" for frame in content.pop("frames"))
        head = json.dumps(content, indent=1).removesuffix("\n}")
        return f'{head},\n "frames": [\n{frames}\n ]\n}}\n'.encode()

    def homography(self, frame: TrackFrame) -> Homography:
        """From the reference frame to a frame."""
        return homography(self.marked.corners, frame.corners)

    def box(self, frame: TrackFrame) -> Region:
        """The crop of the region's size around its place in a frame, whole pixels, moved to lie inside the picture."""
        return crop_box(self.homography(frame), self.region, (self.height, self.width))

    def motion(self, frames: Sequence[TrackFrame]) -> Motion:
        """Of the crops `box` of frames, relative to the region in the reference frame."""
        maps = [crop_map(self.homography(frame), self.box(frame), self.region) for frame in frames]
        light = torch.tensor([(frame.gain, frame.bias) for frame in frames], dtype=torch.float64)
        return motion_of(maps, light, flat=self.plane)


def read_track(path: Path, video: Path | None = None) -> Track:
    """Read the file of a track; an edited one is as good (`Track.edited`).

    Args:
        path: of the track.
        video: the video that it must be of.

    Raises:
        TrackError: the file is no track, or of another video; a frame stands in it twice, or has corners that are not
            convex, lie outside the picture, or are more than 4 times as far apart as marked.
    """
    track = read_json(path, Track, TrackError)
    if (fault := _fault(track)) is not None:
        raise TrackError(f"{path}: {fault}.")
    if video is not None:
        check_video(track, video, path)
    return track


def _fault(track: Track) -> str | None:
    """What is wrong with an edited track."""
    x, y, width, height = track.region
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > track.width or y + height > track.height:
        return f"its region {x},{y},{width},{height} does not lie in a picture of {track.width}x{track.height} pixels"
    if all(frame.index != track.reference for frame in track.frames):
        return f"frame {track.reference}, its reference, is not among its frames"
    for before, frame in pairwise(track.frames):
        if (before.index, before.field) == (frame.index, frame.field):
            return f"frame {frame.index} stands in it twice"
        if before.index > frame.index:
            return f"frame {frame.index} stands after frame {before.index}: frames stand in the order of the video"
    for frame in track.frames:
        if not is_convex(frame.corners):
            return f"the corners of frame {frame.index} are not those of a convex quadrilateral"
        if not (1 / _BRIGHTER <= frame.gain <= _BRIGHTER and abs(frame.bias) <= 1):
            return f"frame {frame.index} would be {frame.gain:g} times as bright as the reference, plus {frame.bias:g}"
        if frame.status != "tracked":
            continue
        if area(frame.corners) * area(track.marked.corners) <= 0:
            return f"the corners of frame {frame.index} go around the other way than those of frame {track.reference}"
        longer = _sides(frame.corners) / _sides(track.marked.corners)
        if not 1 / _STRETCHED < longer.min() <= longer.max() < _STRETCHED:
            return f"the region is more than {_STRETCHED:g} times as long or as short in frame {frame.index} as marked"
        middle = middle_of(track.homography(frame), track.region)
        if not (0 <= middle[0] <= track.width and 0 <= middle[1] <= track.height):
            return f"the region lies outside the picture in frame {frame.index}"
    return None


def check_video(track: Track, video: Path, path: Path) -> None:
    """TrackError where a track is not that of a video."""
    file = video / "frames.csv" if video.is_dir() else video
    if file.is_file() and sha256_file(file) != track.sha256:
        raise TrackError(f"{path}: {another_video(track)}")


def another_video(track: Track) -> str:
    """What is wrong where the hashes differ."""
    return f"the track is that of another video ({track.file}): the hashes differ."


def parse_corners(text: str) -> Corners:
    """Read "x1,y1,x2,y2,x3,y3,x4,y4", around the quadrilateral.

    Raises SettingsError where these are not eight numbers, or not the corners of a convex quadrilateral.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 8 or not all(map(math.isfinite, numbers)):
        raise SettingsError(f"--corners {text!r}: eight numbers x1,y1,x2,y2,x3,y3,x4,y4, the corners one after another")
    corners = _corners(np.array(numbers).reshape(4, 2))
    if not is_convex(corners):
        raise SettingsError(f"--corners {text}: not the corners of a convex quadrilateral, one after another")
    return corners


def is_convex(corners: Corners) -> bool:
    """Whether corners go around a convex quadrilateral, in either direction, no three of them in one line."""
    points = np.array(corners)
    if not (np.abs(points) < _LARGEST).all():
        return False
    sides = np.roll(points, -1, 0) - points
    turns = sides[:, 0] * np.roll(sides, -1, 0)[:, 1] - sides[:, 1] * np.roll(sides, -1, 0)[:, 0]
    most = np.abs(turns).max()
    return bool(most > 1e-9 and (turns * np.sign(turns[0]) > 1e-3 * most).all())


def _sides(corners: Corners) -> NDArray[np.float64]:
    """Their lengths."""
    (x, y), (u, v) = np.array(corners).T, np.roll(corners, -1, 0).T
    return np.asarray(np.hypot(u - x, v - y))


def region_corners(region: Region) -> Corners:
    """The corners of a rectangle."""
    x, y, width, height = region
    return (x, y), (x + width, y), (x + width, y + height), (x, y + height)


def bounding_region(corners: Corners) -> Region:
    """The least rectangle of whole pixels around corners."""
    left, top, right, bottom = map(int, (*np.floor(np.min(corners, 0)), *np.ceil(np.max(corners, 0))))
    return left, top, right - left, bottom - top


def homography(source: Corners, target: Corners) -> Homography:
    """The homography that takes four points to four others."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    found = np.linalg.solve(np.array(rows, np.float64), np.array(target, np.float64).ravel())
    return np.append(found, 1.0).reshape(3, 3)


def moved(of: Homography, points: Sequence[Point]) -> NDArray[np.float64]:
    """`n 2`: where a homography takes points."""
    there = np.column_stack([np.array(points, np.float64), np.ones(len(points))]) @ of.T
    found: NDArray[np.float64] = there[:, :2] / there[:, 2:]
    return found


def moved_corners(of: Homography, corners: Corners) -> Corners:
    """Where a homography takes corners, rounded to 0.0001 pixels."""
    return _corners(moved(of, corners).round(4))


def shifted(of: Homography, by: NDArray[np.float64]) -> Homography:
    """A homography, and then a shift (x, y)."""
    there: Homography = np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]]) @ of
    return there


def middle_of(of: Homography, region: Region) -> NDArray[np.float64]:
    """Where a homography takes the middle of a region, (x, y)."""
    x, y, width, height = region
    middle: NDArray[np.float64] = moved(of, [(x + width / 2, y + height / 2)])[0]
    return middle


def area(corners: Corners) -> float:
    """That corners go around, pixels; below 0 where they go counter-clockwise."""
    x, y = np.array(corners).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def inside_corners(corners: Corners, region: Region) -> torch.Tensor:
    """`H W` of a region: which pixels' centres lie within corners that go around a convex quadrilateral."""
    x, y, width, height = region
    columns, rows = np.meshgrid(x + 0.5 + np.arange(width), y + 0.5 + np.arange(height))
    sides = [
        (x2 - x1) * (rows - y1) - (y2 - y1) * (columns - x1)
        for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True)
    ]
    return torch.from_numpy((np.stack(sides) >= 0).all(0) | (np.stack(sides) <= 0).all(0))


def crop_box(of: Homography, region: Region, size: Size) -> Region:
    """A region's size, around where a homography takes its middle, moved to lie inside a picture (rows, columns)."""
    _, _, width, height = region
    left, top = (round(float(at) - side / 2) for at, side in zip(middle_of(of, region), (width, height), strict=True))
    return min(max(left, 0), size[1] - width), min(max(top, 0), size[0] - height), width, height


def crop_map(of: Homography, box: Region, region: Region) -> Homography:
    """From places in a crop to places in the region of the reference frame, each counted from its own middle."""
    there = np.linalg.inv(_from_middle(region)) @ np.linalg.inv(of) @ _from_middle(box)
    found: Homography = there / there[2, 2]
    return found


def from_crop_map(there: Homography, box: Region, region: Region) -> Homography:
    """The homography from the reference frame, of `crop_map`'s result."""
    of = _from_middle(box) @ np.linalg.inv(there) @ np.linalg.inv(_from_middle(region))
    found: Homography = of / of[2, 2]
    return found


def motion_of(maps: Sequence[Homography], light: torch.Tensor, *, flat: bool) -> Motion:
    """Maps of crops (`crop_map`) as motion; `light`: `F 2`, gain and bias; without perspective unless `flat`."""
    matrices = torch.from_numpy(np.stack(maps)[:, _YX][:, :, _YX])
    linear = matrices[:, :2, :2] - torch.eye(2, dtype=torch.float64)
    return Motion(matrices[:, :2, 2], linear, light[:, 0], light[:, 1], matrices[:, 2, :2] if flat else None)


def map_of(motion: Motion, place: int = 0) -> Homography:
    """The map of one frame of a motion: the reverse of `motion_of`."""
    there: Homography = motion.matrices[place].numpy()[_YX][:, _YX]
    return there


def track_frame(frame: Frame, corners: Corners, status: str = "tracked") -> TrackFrame:
    """What is known of a frame before anything is measured."""
    return TrackFrame(
        index=frame.index, field=frame.field, pts=frame.pts, sha256=frame.sha256, corners=corners, status=status,
        time_base=None if frame.time_base is None else str(frame.time_base),
    )  # fmt: skip


def _corners(points: NDArray[np.float64]) -> Corners:
    first, second, third, fourth = ((float(x), float(y)) for x, y in points)
    return first, second, third, fourth


def _from_middle(region: Region) -> Homography:
    x, y, width, height = region
    return np.array([[1, 0, x + width / 2], [0, 1, y + height / 2], [0, 0, 1]], np.float64)
