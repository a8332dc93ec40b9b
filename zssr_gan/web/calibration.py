"""How long commands take on this machine: measured on a made-up scene while a worker is idle, then by real jobs."""

import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zssr_gan.files import atomic_write
from zssr_gan.provenance import VERSION
from zssr_gan.settings.zeroshot import FEWEST_SMALL, is_small, learns_on_all
from zssr_gan.web.child import Child, Main

_RUNS = (
    ("enhance", "fast", 2, 1, 32), ("enhance", "fast", 2, 1, 128), ("fuse", "none", 2, 5, 32),
    ("enhance", "fast", 2, FEWEST_SMALL, 32), ("enhance", "quality", 2, 1, 32), ("enhance", "fast", 4, 1, 32),
    ("enhance", "fast", 3, 1, 32), ("fuse", "own", 2, 5, 32), ("video", "fast", 2, 8, 48), ("fuse", "none", 2, 10, 48),
    ("video", "fast", 2, 24, 48),
)  # fmt: skip
"""Kinds, methods, scales, numbers of pictures and their sides in pixels, in the order in which they are measured."""

_OF_FRAMES = ("fuse", "video")


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement."""

    kind: str
    """Of the job."""
    method: str
    """See `plans.method_of`."""
    pictures: int
    pixels: int
    """Of all of them."""
    seconds: float


def measured(server: Path) -> list[Point]:
    """What was measured by this version in the folder `server`, on any device; nothing where its file is missing."""
    try:
        content = json.loads(_file(server).read_bytes())
        return [Point(str(k), str(m), int(n), int(p), float(s)) for k, m, n, p, s in content[VERSION]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def measure_next(server: Path, main: Main, environment: dict[str, str], stops: Callable[[], bool]) -> bool:
    """Measure one method that was not measured yet; False where all are, or where `stops` says that there is work.

    Raises OutputError: it cannot be noted.
    """
    had = measured(server)
    known = {(one.kind, one.method, one.pixels) for one in had}
    missing = [one for one in _RUNS if (one[0], f"{one[1]} x{one[2]}", one[3] * one[4] ** 2) not in known]
    if not missing:
        return False
    kind, method, scale, pictures, side = missing[0]
    with tempfile.TemporaryDirectory(prefix="zssr-gan-measure-") as name:
        folder, began = Path(name), time.monotonic()
        files = _write_scene(folder, pictures, side, as_video=kind == "video")
        argv = {
            "enhance": ["enhance", *files, "-o", "out/", "--preset", method, "--evidence"],
            "fuse": ["fuse", *files, "-o", "out.png", "--mean", method],
            "video": ["enhance", *files, "-o", "out.nut", "--preset", method, "--lossy"],
        }[kind]
        child = Child(main, [*argv, "-s", str(scale)], folder, environment)
        while not child.ended:
            child.read(0.1)
            if stops():
                os.kill(child.pid, signal.SIGKILL)
                break
        if child.code() != 0:
            return False
        seconds = round(time.monotonic() - began, 2)
        had.append(Point(kind, f"{method} x{scale}", pictures, pictures * side**2, seconds))
    content = {VERSION: [(one.kind, one.method, one.pictures, one.pixels, one.seconds) for one in had]}
    atomic_write(_file(server), json.dumps(content).encode(), overwrite=True)
    return True


def _write_scene(folder: Path, pictures: int, side: int, *, as_video: bool) -> list[str]:
    """Pictures of one made-up scene, each moved by a part of a pixel, or a video of them; the names of the files."""
    coarse = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    scene = Image.fromarray(coarse).resize((4 * side + 16,) * 2, Image.Resampling.BICUBIC)
    moved = [(1.7 * number % 8, 2.3 * number % 8) for number in range(pictures)]
    boxes = [(left, top, left + 4 * side, top + 4 * side) for left, top in moved]
    frames = [scene.resize((side, side), Image.Resampling.BOX, box=box) for box in boxes]
    if not as_video:
        for number, frame in enumerate(frames):
            frame.save(folder / f"{number}.png")
        return [f"{number}.png" for number in range(pictures)]
    import av

    with av.open(str(folder / "a.mkv"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = side
        for one in [*map(av.VideoFrame.from_image, frames), None]:
            container.mux(stream.encode(one))
    return ["a.mkv"]


def expected(points: Sequence[Point], kind: str, method: str, pictures: int, pixels: int) -> float | None:
    """Seconds that a command takes, by points whose number of networks is most alike; None of a method without any.

    A network learns on each picture, or one on all of many small pictures: these count as one picture. Between two
    sizes of pictures it is interpolated; beyond the largest one it grows with the pixels. Of fusing and of a video, a
    part of the time comes once, and the rest with every frame.
    """
    if kind in _OF_FRAMES:
        return _expected_of_frames(
            [one for one in points if (one.kind, one.method) == (kind, method)], pictures, pixels
        )
    together = _learns_together(kind, pictures, pixels)
    of_method = [
        replace(one, pictures=1) if together else one
        for one in points
        if (one.kind, one.method, _learns_together(one.kind, one.pictures, one.pixels)) == (kind, method, together)
        and one.pictures
        and one.pixels
    ]
    pictures = min(pictures, 1) if together else pictures
    if not (of_method and pictures and pixels):
        return None
    nearest = min((abs(np.log(one.pictures / pictures)), one.pictures) for one in of_method)[1]
    by_size: dict[float, float] = {}
    for one in of_method:  # the first, the newest, of each size counts
        if one.pictures == nearest:
            by_size.setdefault(one.pixels / one.pictures, one.seconds / one.pictures)
    sizes = sorted(by_size)
    each = float(np.interp(pixels / pictures, sizes, [by_size[size] for size in sizes]))
    return each * pictures * max(1.0, pixels / pictures / sizes[-1])


def _expected_of_frames(points: Sequence[Point], frames: int, pixels: int) -> float | None:
    """Seconds of a command on frames of so many pixels in all, by the point whose frames are most alike in size.

    Time goes with the pixels of a frame, and with the number of frames along a line: a part of it comes once. The line
    is the one between the fewest and the most frames that were measured; where these are too alike, time goes with the
    number of frames.
    """
    known = [one for one in points if one.pictures and one.pixels]
    if not (known and frames and pixels):
        return None
    side = math.log(pixels / frames)
    known.sort(key=lambda one: abs(math.log(one.pixels / one.pictures) - side))  # the newest comes first of equals
    least, most = (choose(known, key=lambda one: one.pictures) for choose in (min, max))

    def line(count: int) -> float:
        each = max(0.0, _a_pixel(most) - _a_pixel(least)) / max(1, most.pictures - least.pictures)
        if most.pictures < 2 * least.pictures:
            return float(max(count, least.pictures))
        return _a_pixel(least) + each * max(0, count - least.pictures)

    size = known[0].pixels / known[0].pictures
    alike = [one for one in known if 2 / 3 < one.pixels / one.pictures / size < 3 / 2]
    nearest = min(alike, key=lambda one: abs(math.log(one.pictures / frames)))
    return _a_pixel(nearest) * pixels / frames * line(frames) / line(nearest.pictures)


def _a_pixel(point: Point) -> float:
    """Seconds for a pixel of one frame."""
    return point.seconds * point.pictures / point.pixels


def _learns_together(kind: str, pictures: int, pixels: int) -> bool:
    """Whether one network learns on all pictures of a job, as far as their mean size tells."""
    side = math.isqrt(pixels // max(1, pictures))
    small = pictures if is_small(side, side) else 0
    return kind == "enhance" and learns_on_all(small, pictures)


def _file(server: Path) -> Path:
    return server / "measured.json"
