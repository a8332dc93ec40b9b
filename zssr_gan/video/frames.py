"""What a video is made of: frames with their stored planes and times, single fields, and what the container says."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zssr_gan.errors import VideoError

Plane = NDArray[Any]
"""`H W`, uint8 or uint16."""

Field = Literal["top", "bottom"]

_LOSSLESS = {
    "cllc", "ffv1", "ffvhuff", "fraps", "huffyuv", "lagarith", "magicyuv", "png", "qtrle", "r210", "rawvideo",
    "sheervideo", "utvideo", "v210", "v308", "v408", "v410", "vble", "zmbv",
}  # fmt: skip
"""Codecs that give back what was encoded. Others that can (H.265, VP9) do not say when they do."""

NOT_PREDICTED = {"", "mjpeg", *_LOSSLESS}
"""Codecs that store each frame by itself, or without loss."""

_HD_ROWS = 720  # from here on, what states no matrix is read as BT.709, and below as BT.601, as players do


CUT_SHORT = "it is cut short"
"""How the notice of a file that is shorter than its container says begins."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a video, or one field of an interlaced frame.

    `planes`: H W each, uint8 or uint16 (the lower `bits`), as stored: Y, U, V; Y alone; or G, B, R. U and V may be
    smaller. `index`: place in the order in which the decoder shows frames, from 0; both fields of a frame have it.
    `pts`: time at which it is shown, in units of `time_base` seconds; None: not known. `duration`: in these units.
    `picture_type`: I, P, B, ..., or "" where the decoder does not tell. `corrupt`: the decoder reports damage.
    `after_damage`: it is predicted, or may be, from a frame that is corrupt, or that could not be decoded.
    `qp`: H W int16, a quantiser for each macroblock of 16x16 px of the frame (H.264, MPEG; of a still a single one, the
    mean), or None.
    `colour_range`: "limited", "full" or None (not stated). `matrix`: as H.273 names it, or None (not stated).
    `codec`: as libav names it; "" for stills of no video. `field`: which one, of a single field.
    `sha256`: of the planes, one after the other, row by row without padding. `same_as`: index of the first of the
    frames without interruption before it whose planes are the same; such a frame carries no information.
    """

    planes: tuple[Plane, ...]
    index: int
    stream: int = 0
    pts: int | None = None
    time_base: Fraction | None = None
    duration: int | None = None
    picture_type: str = ""
    key: bool = False
    interlaced: bool = False
    top_field_first: bool | None = None
    corrupt: bool = False
    after_damage: bool = False
    pixel_format: str = "gray"
    bits: int = 8
    colour_range: str | None = None
    matrix: str | None = None
    codec: str = ""
    sha256: str = ""
    qp: NDArray[np.int16] | None = None
    field: Field | None = None
    same_as: int | None = None

    @property
    def name(self) -> str:
        """For records and messages: "frame 3", or "frame 3, top field"."""
        return f"frame {self.index}" + ("" if self.field is None else f", {self.field} field")

    @property
    def damage(self) -> str:
        """Why its pixels are not to be relied on; "" where nothing is known against them."""
        if self.corrupt:
            return "the decoder reports damage"
        return "it may be predicted from a frame that is damaged or missing" if self.after_damage else ""

    @property
    def footage(self) -> bool | None:
        """Whether its codec changed it; None: it is of no video. H.264 with quantisers of 0 throughout does not."""
        if not self.codec:
            return None
        lossless = self.codec in _LOSSLESS or (self.codec == "h264" and self.qp is not None and not (self.qp > 0).any())
        return not lossless

    @property
    def is_rgb(self) -> bool:
        """Whether the planes are green, blue and red."""
        return self.pixel_format.startswith("gbr")

    @property
    def is_gray(self) -> bool:
        """Whether it has no colours: luma alone, or U and V neutral everywhere."""
        if self.is_rgb:
            return all(np.array_equal(self.planes[0], plane) for plane in self.planes[1:])
        return all((plane == 1 << (self.bits - 1)).all() for plane in self.planes[1:])

    @property
    def assumed_range(self) -> str:
        """The stated range, or the standards' own: limited for YUV and for gray in H.264 and H.265, else full."""
        full = self.is_rgb or self.pixel_format.startswith("yuvj")
        full |= self.pixel_format.startswith("gray") and self.codec not in ("h264", "hevc")
        return self.colour_range or ("full" if full else "limited")

    @property
    def assumed_matrix(self) -> str:
        """The stated matrix, or what players assume: BT.709 from 720 rows on, BT.601 below."""
        rows = len(self.planes[0]) * (2 if self.field else 1)
        stated = None if self.matrix == "rgb" else self.matrix
        return stated or ("bt709" if rows >= _HD_ROWS and not self.is_rgb else "smpte170m")

    @property
    def line_offset(self) -> Fraction | None:
        """How far a field's lines lie below those of the top field, in lines of a field; None for a whole frame."""
        return None if self.field is None else Fraction(int(self.field == "bottom"), 2)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a container and its first frame say of a video; None: not known or not stated.

    `sha256`, `size_bytes`: of the file. `sample_aspect_ratio`: width of a pixel by its height. `declared_frames`: by
    the container; the decoder may find others. `rotation`: degrees counter-clockwise that a player turns the frames by;
    they are stored, and given, unturned. `base_rate`: the least rate on whose ticks all frames lie, as libav guesses.
    `decoder`: versions.
    """

    sha256: str
    size_bytes: int
    container: str
    codec: str
    codec_name: str
    profile: str | None
    stream: int
    video_streams: int
    width: int
    height: int
    sample_aspect_ratio: Fraction | None
    pixel_format: str
    colour_range: str | None
    matrix: str | None
    rotation: int
    time_base: Fraction | None
    average_rate: Fraction | None
    base_rate: Fraction | None
    start_pts: int | None
    duration_ticks: int | None
    declared_frames: int | None
    field_order: str | None
    metadata: dict[str, str]
    decoder: dict[str, str]

    @property
    def display_aspect_ratio(self) -> Fraction | None:
        """Width by height of the picture as it is to be shown."""
        ratio = self.sample_aspect_ratio
        return None if ratio is None else ratio * Fraction(self.width, self.height)


@dataclass(slots=True)
class Video:
    """A video that is being read: `frames` can be gone through once, and the rest fills meanwhile.

    `notices`: what is not well, a sentence each. `combing`: how many frames look interlaced, if that was asked for.
    """

    info: VideoInfo
    frames: Iterator[Frame]
    notices: list[str]
    combing: dict[str, int]

    @property
    def is_cut_short(self) -> bool:
        """Whether its file is shorter than its container says, as a notice tells before the first frame."""
        return any(notice.startswith(CUT_SHORT) for notice in self.notices)


def planes_sha256(planes: tuple[Plane, ...]) -> str:
    """SHA-256 of planes, one after the other, row by row without padding; uint16 with the low byte first."""
    digest = hashlib.sha256()
    for plane in planes:
        digest.update(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def fields(frame: Frame) -> Iterator[Frame]:
    """Both fields of an interlaced frame, the earlier first: every second row of each plane, nothing interpolated.

    The time base is halved, so that the later field's time, half the frame's duration on, is an integer too; it is not
    known where the duration is not. Which field is the earlier is taken from the frame, else the top one.
    """
    order: tuple[Field, Field] = ("bottom", "top") if frame.top_field_first is False else ("top", "bottom")
    pts = None if frame.pts is None else 2 * frame.pts
    later = None if pts is None or frame.duration is None else pts + frame.duration
    base = None if frame.time_base is None else frame.time_base / 2
    for place, field in enumerate(order):
        planes = tuple(np.ascontiguousarray(plane[int(field == "bottom") :: 2]) for plane in frame.planes)
        if not planes[0].size:
            raise VideoError(f"frame {frame.index} has a single row, which has no two fields.")
        yield replace(
            frame, planes=planes, pts=later if place else pts, time_base=base, field=field, sha256=planes_sha256(planes)
        )


_REORDERED = 16
"""Frames that H.264 and H.265 hold back at most to show them in order."""


def with_damage(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames, those named that may be predicted from a damaged one (`Frame.after_damage`, which may be set before).

    Decoders report damage of the frame that is hit alone. It goes on through what is predicted from that frame, up to
    the next key frame: frames shown after it, and the B frames shown before it since the last frame of another type.
    """
    damaged, waiting = False, list[Frame]()

    def passed(also: bool) -> Iterator[Frame]:
        for one in waiting:
            yield replace(one, after_damage=also or one.after_damage)
        waiting.clear()

    for frame in frames:
        here = frame.corrupt or frame.after_damage
        if frame.picture_type == "B" and len(waiting) < _REORDERED:
            waiting.append(frame)
            continue
        damaged |= any(one.corrupt or one.after_damage for one in waiting)
        yield from passed(damaged or here)
        damaged = frame.corrupt if frame.key else damaged or here
        yield replace(frame, after_damage=damaged and not frame.key)
    yield from passed(damaged or any(one.corrupt or one.after_damage for one in waiting))


def with_repeats(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames, those named that repeat the one before; fields are compared with those of the same place."""
    before: dict[str | None, tuple[str, int]] = {}
    for frame in frames:
        sha256, index = before.get(frame.field, ("", 0))
        if sha256 == frame.sha256:
            yield replace(frame, same_as=index)
        else:
            before[frame.field] = (frame.sha256, frame.index)
            yield frame
