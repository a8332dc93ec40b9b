"""How long commands take on this machine: measured on a made-up picture while a worker is idle, then by real jobs."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zssr_gan.files import atomic_write
from zssr_gan.provenance import VERSION
from zssr_gan.web.child import Child, Main
from zssr_gan.web.methods import Preset

_RUNS: tuple[tuple[Preset, int, int], ...] = (
    ("fast", 2, 32), ("fast", 2, 128), ("quality", 2, 32), ("fast", 4, 32), ("fast", 3, 32)
)  # fmt: skip
"""Presets, scales, and the sides in pixels of the pictures that they are measured on, in this order."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement."""

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
        return [Point(str(m), int(n), int(p), float(s)) for m, n, p, s in content[VERSION]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def measure_next(server: Path, main: Main, environment: dict[str, str], stops: Callable[[], bool]) -> bool:
    """Measure one method that was not measured yet; False where all are, or where `stops` says that there is work.

    Raises OutputError: it cannot be noted.
    """
    had = measured(server)
    known = {(one.method, one.pixels) for one in had}
    missing = [one for one in _RUNS if (f"{one[0]} x{one[1]}", one[2] ** 2) not in known]
    if not missing:
        return False
    preset, scale, side = missing[0]
    with tempfile.TemporaryDirectory(prefix="zssr-gan-measure-") as name:
        folder, began = Path(name), time.monotonic()
        coarse = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / "a.png")
        argv = ["enhance", "a.png", "-o", "out/", "--preset", preset, "-s", str(scale), "--evidence"]
        child = Child(main, argv, folder, environment)
        while not child.ended:
            child.read(0.1)
            if stops():
                os.kill(child.pid, signal.SIGKILL)
                break
        if child.code() != 0:
            return False
        had.append(Point(f"{preset} x{scale}", 1, side * side, round(time.monotonic() - began, 2)))
    content = {VERSION: [(one.method, one.pictures, one.pixels, one.seconds) for one in had]}
    atomic_write(_file(server), json.dumps(content).encode(), overwrite=True)
    return True


def expected(points: Sequence[Point], method: str, pictures: int, pixels: int) -> float | None:
    """Seconds that a command takes, by points whose number of pictures is most alike; None of a method without any.

    Between two sizes of pictures it is interpolated; beyond the largest one it grows with the pixels.
    """
    of_method = [one for one in points if one.method == method and one.pictures and one.pixels]
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


def _file(server: Path) -> Path:
    return server / "measured.json"
