"""Damaged videos of every kind: each gives frames or one clean VideoError, never another exception, and none hangs."""

import random
import resource
import time
from pathlib import Path

import pytest

from tests.video import clips
from zssr_gan.errors import VideoError
from zssr_gan.video.io import open_video
from zssr_gan.video.table import row

SECONDS = 20.0
LARGEST = 16 << 20  # bytes of a frame: the clips' own have 6 kB


def seeds(folder: Path) -> dict[str, bytes]:
    """A small sound clip of every kind; raw streams by their names."""
    made = {
        "h264.mp4": clips.write(folder / "a.mp4"),
        "h264.mkv": clips.write(folder / "a.mkv"),
        "h264.avi": clips.write(folder / "a.avi"),
        "h264.ts": clips.write(folder / "a.ts", kind="mpegts"),
        "interlaced.mp4": clips.write(folder / "i.mp4", options={**clips.X264, "flags": "+ildct"}, field="tff"),
        "hevc.mkv": clips.write(folder / "h.mkv", "libx265"),
        "mjpeg.avi": clips.write(folder / "m.avi", "mjpeg", pixel_format="yuvj420p"),
        "mpeg4.mp4": clips.write(folder / "4.mp4", "mpeg4"),
        "mpeg2.mpg": clips.write(folder / "2.mpg", "mpeg2video"),
        "ffv1.mkv": clips.write(folder / "f.mkv", "ffv1", pixel_format="gray10le"),
        "rgb.nut": clips.write(folder / "r.nut", "rawvideo", pixel_format="rgb24"),
        "raw.h264": clips.write(folder / "a.h264", kind="h264"),
    }
    return {name: path.read_bytes() for name, path in made.items()}


def mutant(draw: random.Random, whole: bytes) -> bytes:
    """A copy with a few damages, half of them in its head."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, 6)):
        end = draw.choice((min(len(data), 512), len(data)))
        at = draw.randrange(end)
        kind = draw.randrange(5)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", draw.randbytes(4)))
        elif kind == 2:
            del data[at : at + draw.randint(1, 64)]
        elif kind == 3:
            data[at:at] = draw.randbytes(draw.randint(1, 64))
        else:
            del data[max(at, 64) :]
    return bytes(data)


def outcome(path: Path, data: bytes, raw: bool) -> bool:
    """Whether frames came; anything but frames or one sentence fails."""
    path.write_bytes(data)
    started = time.monotonic()
    frames = 0
    try:
        with open_video(
            path, raw="h264" if raw else None, combing=True, memory_bytes=1 << 30, seconds=SECONDS
        ) as video:
            for frame in video.frames:
                assert set(row(frame).values()) - {None}
                assert sum(plane.nbytes for plane in frame.planes) < LARGEST
                frames += 1
                if frames == 200:
                    break
        assert all("\n" not in notice for notice in video.notices)
    except VideoError as error:
        sentence = str(error)
        assert sentence.startswith(f"{path}: ")
        assert "\n" not in sentence
        assert "Traceback" not in sentence
    assert time.monotonic() - started < 3 * SECONDS
    return frames > 0


@pytest.mark.slow
def test_a_thousand_mutants(tmp_path: Path) -> None:
    """Five minutes on an idle machine: most of it is the start of a thousand processes."""
    draw, before = random.Random(8), largest_child()
    kinds = list(seeds(tmp_path).items())
    with_frames = sum(
        outcome(tmp_path / "mutant.bin", mutant(draw, whole), name == "raw.h264")
        for name, whole in (kinds[number % len(kinds)] for number in range(1000))
    )
    assert 200 < with_frames < 1000
    # A child is counted from its birth, when it has what this process has.
    assert largest_child() <= max(before, 512, largest(resource.RUSAGE_SELF))


def largest_child() -> float:
    """MiB that the largest of this process' children has had so far."""
    return largest(resource.RUSAGE_CHILDREN)


def largest(who: int) -> float:
    """MiB that a process, or the largest of its children, has had at most."""
    return resource.getrusage(who).ru_maxrss / 1024


def test_a_few_mutants(tmp_path: Path) -> None:
    draw = random.Random(3)
    whole = clips.write(tmp_path / "a.mp4").read_bytes()
    for _ in range(3):
        outcome(tmp_path / "mutant.bin", mutant(draw, whole), raw=False)
