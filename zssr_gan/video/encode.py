"""Write a video without loss (FFV1, RFC 9043), with the times of its frames, and a lossy copy beside it.

Each frame is coded by itself: its bytes depend on its pixels alone, so that frames coded by several runs make the same
file as those of one. The whole is put together in one pass, in constant memory.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from zssr_gan.errors import SettingsError, VideoError
from zssr_gan.video.frames import Frame, Plane
from zssr_gan.video.planes import Layout

CONTAINERS = (".nut", ".mkv")
"""NUT holds every time base, or a whole part of it; Matroska, as libav writes it, whole milliseconds."""

LOSSY = ".lossy.mp4"

_FFV1 = {"level": "3", "coder": "1", "slices": "4", "slicecrc": "1"}
_X264 = {"crf": "18", "preset": "medium", "x264-params": "log-level=none"}
_MATRICES = {"rgb": 0, "bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9}
_RANGES = {"limited": 1, "full": 2}

_EVEN_RATE = Fraction(1, 25)  # of frames whose times are not known


@dataclass(frozen=True, slots=True)
class Form:
    """How the frames of a video are stored; `width` and `height` are those of luma."""

    pixel_format: str
    """Of the planes, as libav names it."""
    width: int
    height: int
    time_base: Fraction | None
    """None: times are not known, or do not increase; the k-th frame then comes at k/25 seconds."""
    sample_aspect_ratio: Fraction | None = None
    colour_range: str | None = None
    matrix: str | None = None

    @property
    def base(self) -> Fraction:
        """Seconds of a tick in the file."""
        return self.time_base or _EVEN_RATE


@dataclass(frozen=True, slots=True)
class Coded:
    """A coded frame and its time, in ticks."""

    data: bytes
    pts: int


def check_container(path: Path) -> None:
    """Refuse what no video is written to. Raises SettingsError."""
    if path.suffix.lower() not in CONTAINERS:
        raise SettingsError(
            f"-o {path}: a video is written as .nut, which holds every time base, or as .mkv, in whole milliseconds"
        )


def format_of(frame: Frame, asked: str | None = None) -> str:
    """The pixel format that a result is written in: the frame's own without alpha, or the one that is asked for.

    Raises:
        SettingsError: what is asked for is none, is not written as FFV1, or has other colours than the frame.
        VideoError: the frame's own is not written as FFV1.
    """
    name = frame.pixel_format.replace("yuvj", "yuv").replace("yuva", "yuv").replace("gbrap", "gbrp")
    if name.startswith(("gray", "gbrp")):  # stills of more than 8 bits are named as of 16, whatever they hold
        name = name[:4] + (f"{frame.bits}le" if frame.bits > 8 else "")
    if _encoded_as(asked or name) in _formats():
        with contextlib.suppress(ValueError):
            if Layout.of(asked or name).rgb == frame.is_rgb:
                return asked or name
    if asked is None:
        raise VideoError(f"its pixel format ({frame.pixel_format}, {frame.bits} bits) cannot be written as FFV1.")
    usual = "gbrp or gbrp10le" if frame.is_rgb else "gray, yuv420p, yuv444p or yuv420p10le"
    raise SettingsError(f"--pixel-format {asked}: FFV1 takes none of this name for this video; usual are {usual}")


def _encoded_as(name: str) -> str:
    return "bgr0" if name == "gbrp" else name


def _formats() -> set[str]:
    import av

    return {one.name for one in av.Codec("ffv1", "w").video_formats or ()}


class Encoder:
    """Codes frames of one form."""

    def __init__(self, form: Form) -> None:
        import av

        self.form = form
        self._context: Any = av.CodecContext.create("ffv1", "w")
        _set_up(self._context, form, _encoded_as(form.pixel_format))
        self._context.gop_size, self._context.thread_count, self._context.options = 1, 1, dict(_FFV1)

    def encode(self, planes: Sequence[Plane]) -> bytes:
        """The bytes of a frame."""
        (packet,) = self._context.encode(as_frame(planes, self.form.pixel_format))
        return bytes(packet)


def _set_up(context: Any, form: Form, pixel_format: str) -> None:
    context.width, context.height, context.pix_fmt = form.width, form.height, pixel_format
    context.time_base = form.base
    if form.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = form.sample_aspect_ratio
    if form.colour_range is not None:
        context.color_range = _RANGES[form.colour_range]
    if form.matrix in _MATRICES:
        context.colorspace = _MATRICES[form.matrix]


def as_frame(planes: Sequence[Plane], pixel_format: str) -> Any:
    """Planes as libav's frame; green, blue and red of 8 bits, which FFV1 does not take, side by side."""
    import av

    if pixel_format == "gbrp":
        green, blue, red = planes
        planes = [np.stack([blue, green, red, np.zeros_like(red)], -1).reshape(len(red), -1)]
    height, width = planes[0].shape
    packed = pixel_format == "gbrp"
    frame = av.VideoFrame(width // 4 if packed else width, height, _encoded_as(pixel_format))
    for target, plane in zip(frame.planes, planes, strict=True):
        stored = np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).view(np.uint8)
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : stored.shape[1]] = stored
        target.update(rows.tobytes())
    return frame


def write_video(path: Path, kind: str, form: Form, frames: Iterable[Coded], texts: dict[str, str]) -> None:
    """Put coded frames into a file; the same ones always give the same bytes.

    Args:
        path: of the file, which is made.
        kind: the container's ending.
        form: of the frames.
        frames: their times increase.
        texts: what the file says of itself.
    """
    import av

    name = {".nut": "nut", ".mkv": "matroska"}[kind.lower()]
    options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
    with av.open(str(path), "w", format=name, options=options) as container:
        container.metadata.update(texts)
        stream: Any = container.add_stream("ffv1", options=dict(_FFV1))
        _set_up(stream.codec_context, form, _encoded_as(form.pixel_format))
        stream.codec_context.thread_count, stream.time_base = 1, form.base
        container.start_encoding()
        for one in frames:
            packet: Any = av.Packet(one.data)
            packet.stream, packet.time_base = stream, form.base
            packet.pts = packet.dts = one.pts
            packet.is_keyframe = True
            container.mux(packet)


class LossyCopy:
    """A copy for players: H.264 of 8 bits, colours at half the size; of odd sides the last row or column is doubled."""

    def __init__(self, path: Path, form: Form, texts: dict[str, str]) -> None:
        import av

        self.form = form
        options = {"fflags": "+bitexact", "video_track_timescale": str(form.base.denominator)}
        self._container: Any = av.open(str(path), "w", format="mp4", options=options)
        self._container.metadata.update(texts)
        self._stream: Any = self._container.add_stream("libx264", options=dict(_X264))
        even = replace(form, width=form.width + form.width % 2, height=form.height + form.height % 2)
        _set_up(self._stream.codec_context, even, "yuv420p")
        self._stream.codec_context.thread_count = 1

    def add(self, planes: Sequence[Plane], pts: int) -> None:
        """The next frame."""
        frame = as_frame(planes, self.form.pixel_format)
        if frame.format.name != "yuv420p":
            frame = frame.reformat(format="yuv420p")
        if frame.width % 2 or frame.height % 2:
            stored = [np.frombuffer(one, np.uint8).reshape(one.height, -1)[:, : one.width] for one in frame.planes]
            beyond = ((0, frame.height % 2), (0, frame.width % 2))
            frame = as_frame([np.pad(stored[0], beyond, mode="edge"), *stored[1:]], "yuv420p")
        frame.pts, frame.time_base = pts, self.form.base
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()
