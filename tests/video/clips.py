"""Small videos, written by PyAV itself: 64x48 px, a pattern that moves."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 64, 48

VFR = (0, 7, 19, 20, 41, 70)

X264 = {"preset": "ultrafast", "bf": "2", "x264-params": "log-level=none:b-adapt=0"}


def picture(number: int, *, gray: bool = False, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """H W 3, uint8: blocks of 4x4 px that move by a pixel a frame."""
    draw = np.random.default_rng(5).integers(40, 216, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    blocks = np.roll(draw.repeat(4, 0).repeat(4, 1), (number, 2 * number), (0, 1))[:height, :width]
    return blocks[:, :, :1].repeat(3, 2) if gray else blocks


def write(
    path: Path,
    codec: str = "libx264",
    *,
    pixel_format: str = "yuv420p",
    pictures: Sequence[np.ndarray] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    options: Mapping[str, str] | None = None,
    field: str | None = None,
    kind: str | None = None,
    rotation: int = 0,
    **attributes: Any,
) -> Path:
    """Write a clip; its kind is that of the path's ending, or `kind`.

    `field`: tff or bff, the flag of each frame. `attributes`: of the codec context, such as `sample_aspect_ratio`.
    """
    frames = [picture(number) for number in range(6)] if pictures is None else pictures
    times = range(len(frames)) if pts is None else pts
    if options is None:
        options = X264 if codec == "libx264" else {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25, options=dict(options))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        flagged = None
        for time, pixels in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = time, time_base
            if field is not None:
                flagged = flagged or flagging(frame, field)
                flagged.push(frame)
                frame = flagged.pull()
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def flagging(frame: av.VideoFrame, field: str) -> av.filter.Graph:
    """A filter that flags frames as interlaced."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("setfield", field), graph.add("buffersink")).configure()
    return graph


def framehash(path: Path) -> list[str]:
    """SHA-256 of each frame of a video's planes, by libav's own muxer for this."""
    target = path.with_suffix(".framehash")
    with av.open(str(path)) as container, av.open(str(target), "w", format="framehash") as output:
        decoded = container.streams.video[0]
        stream = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = decoded.width, decoded.height, decoded.pix_fmt
        for number, frame in enumerate(container.decode(decoded)):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    lines = [line for line in target.read_text().splitlines() if not line.startswith("#")]
    return [line.rpartition(",")[2].strip() for line in lines]
