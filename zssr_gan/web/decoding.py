"""The process that decodes files for the page: it imports once, and forks a child with limits for each file.

Run by `zssr_gan.web.pictures`. A request is a line of JSON on standard input, {"id", "task", "arguments", "seconds",
"memory_bytes"}; standard output has {"id", "error"} where the file is refused, and {"id", "status"} when the child has
ended: 0, or below 0 the signal that ended it. Pictures and facts are written to files, each whole or absent.
"""

import gc
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zssr_gan.errors import ImageError, ZssrGanError
from zssr_gan.files import sha256_file, why_unreadable
from zssr_gan.imaging.io import encode_picture, read_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.imaging.sheet_maps import first_map
from zssr_gan.video.decoder import limit_memory
from zssr_gan.video.frames import Frame
from zssr_gan.video.io import open_video
from zssr_gan.video.pixels import picture_of_frame
from zssr_gan.web.memo import read_stored
from zssr_gan.web.pictures import CHANGED

THUMB_SIDE = 320
_FAR = 100  # frames, from which on seeking is quicker
_SLACK = 64  # frames that a container's seek may land too early
_LONGEST_ERROR = 600  # characters, of 6 bytes at most: with its frame it is written at once (PIPE_BUF)


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the server ends this one
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # minders are waited for by the system
    torch.set_num_threads(1)
    gc.freeze()
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever else prints
    for line in sys.stdin.buffer:
        if os.fork() == 0:
            _mind(json.loads(line), output)
            os._exit(0)
    if os.getpgrp() == os.getpid():  # the server is gone: nobody waits for what is still decoded
        os.killpg(0, signal.SIGKILL)


def _mind(request: dict[str, Any], output: int) -> None:
    """Fork the child that works, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        _decode(request, output)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    _say(output, id=request["id"], status=os.waitstatus_to_exitcode(status))


def _say(output: int, **message: object) -> None:
    os.write(output, json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _decode(request: dict[str, Any], output: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(request["seconds"])  # also in the middle of a library's loop
    limit_memory(request["memory_bytes"])
    try:
        TASKS[request["task"]](**request["arguments"])
    except ZssrGanError as error:
        why = str(error).removeprefix(f"{request['arguments'].get('path')}: ")
        _say(output, id=request["id"], error=why[:_LONGEST_ERROR])
    except MemoryError:
        _say(output, id=request["id"], error="needs more memory to decode than this program gives it")
    except Exception as error:  # of a library, on damaged bytes
        words = " ".join(f"{type(error).__name__}: {error}".split())
        _say(output, id=request["id"], error=f"cannot be decoded ({words[:200]})")


def look_at_image(path: str, folder: str, sha256: str) -> None:
    """Write `facts.json`, `thumb.png` and `view.png` of an image, the latter with all of its pixels."""
    _check_hash(path, sha256)
    picture = read_picture(Path(path))
    height, width = picture.pixels.shape[-2:]
    facts = [["bits a sample", str(picture.bits)], ["colours", "gray" if len(picture.pixels) == 1 else "RGB"]]
    if picture.alpha is not None:
        facts.append(["transparency", "yes"])
    if picture.metadata.dpi is not None:
        facts.append(["resolution", " x ".join(f"{value:.4g}" for value in picture.metadata.dpi) + " dpi"])
    facts += [["notice", notice] for notice in picture.notices]
    _write(folder, "view.png", _encoded(picture))
    _look(folder, picture, {"width": width, "height": height, "frames": None, "seconds": None, "facts": facts})


def look_at_video(path: str, folder: str, sha256: str) -> None:
    """Write `facts.json` and `thumb.png` of a video, by its first frame; none other is decoded."""
    _check_hash(path, sha256)
    with open_video(Path(path), split="woven") as video:
        frame, info, notices = next(iter(video.frames)), video.info, tuple(video.notices)
    seconds = None
    if info.duration_ticks and info.time_base:
        seconds = float(info.duration_ticks * info.time_base)
    elif info.declared_frames and info.average_rate:
        seconds = float(info.declared_frames / info.average_rate)
    ratio = info.sample_aspect_ratio
    facts = [
        ("container", info.container), ("codec", info.codec_name), ("pixel format", info.pixel_format),
        ("field order", info.field_order),
        ("average rate", info.average_rate and f"{float(info.average_rate):.4g} frames a second"),
        ("sample aspect ratio", ratio and ratio != 1 and f"{ratio.numerator}:{ratio.denominator}"),
        ("rotation", info.rotation and f"{info.rotation} degrees"),
        *((name, info.metadata.get(name)) for name in ("creation_time", "encoder", "make", "model")),
        *(("notice", notice) for notice in notices),
    ]  # fmt: skip
    size = {"width": info.width, "height": info.height, "frames": info.declared_frames, "seconds": seconds}
    _look(folder, picture_of_frame(frame), size | {"facts": [[name, str(value)] for name, value in facts if value]})


def list_frames(path: str, folder: str) -> None:
    """Write `frames.json` of a video: times and kinds of all frames; the lines of `frames.part` grow meanwhile.

    `hashes.json` has the SHA-256 of each, by which `show_frames` knows a frame again.
    """
    rows, hashes = [], []
    with open_video(Path(path), split="woven") as video, (Path(folder) / "frames.part").open("w") as part:
        for frame in video.frames:
            rows.append(_row(frame))
            hashes.append(frame.sha256)
            part.write(json.dumps(rows[-1]) + "\n")
            if len(rows) % 32 == 0:
                part.flush()
    _write(folder, "hashes.json", json.dumps(hashes).encode())
    _write(folder, "frames.json", json.dumps({"count": len(rows), "complete": True, "frames": rows}).encode())


def show_frames(path: str, folder: str, first: int, last: int) -> None:
    """Write `frame-N.png` of the frames from `first` to `last`, with all of their pixels."""
    for index, frame in _sought(path, folder, first) or _from_the_start(path):
        if index >= first:
            _write(folder, f"frame-{index}.png", _encoded(picture_of_frame(frame)))
        if index >= last:
            return


def _from_the_start(path: str) -> Iterator[tuple[int, Frame]]:
    with open_video(Path(path), split="woven") as video:
        for frame in video.frames:
            yield frame.index, frame


def _sought(path: str, folder: str, first: int) -> Iterator[tuple[int, Frame]] | None:
    """Frames from `first` on, decoded from a key frame before; None where these are not the ones that the list has."""
    rows, hashes = (read_stored(Path(folder) / name) for name in ("frames.json", "hashes.json"))
    if rows is None or hashes is None or not _FAR <= first < len(hashes):
        return None
    keys = [row for row in rows["frames"][: first + 1] if row["key"] and row["pts"] is not None]
    if len(keys) < 2:
        return None
    frames = _frames_since(path, keys[-2]["pts"])  # what follows the last one may need frames before it
    for frame in itertools.islice(frames, first - keys[-2]["index"] + _SLACK):
        if frame.sha256 == hashes[first] and frame.pts == rows["frames"][first]["pts"]:
            return enumerate(itertools.chain([frame], frames), first)
    return None


def _frames_since(path: str, pts: int) -> Iterator[Frame]:
    with open_video(Path(path), split="woven", seek=pts) as video:
        yield from video.frames


def show_result(path: str, folder: str) -> None:
    """Write `view.png` of a result."""
    _write(folder, "view.png", _encoded(read_picture(Path(path))))


def show_bicubic(
    path: str, folder: str, name: str, width: int, height: int, region: list[int] | None, frame: int | None
) -> None:
    """Write a plain enlargement: see `plain_picture`."""
    _write(folder, name, _encoded(plain_picture(Path(path), (height, width), region, frame)))


def plain_picture(path: Path, size: Size, region: Sequence[int] | None, frame: int | None) -> Picture:
    """A picture, or a frame of a video, or its region (left, top, width, height), enlarged to `size` (rows, columns).

    Raises ImageError: there is no such frame.
    """
    picture = read_picture(path) if frame is None else frame_picture(path, frame)
    pixels = picture.pixels
    if region is not None:
        left, top, across, down = region
        pixels = pixels[:, top : top + down, left : left + across]
    return _resized(replace(picture, pixels=pixels, alpha=None), size)


def frame_picture(path: Path, index: int) -> Picture:
    """A frame of a video, with all its pixels. Raises ImageError: there is no such frame."""
    for number, frame in _from_the_start(str(path)):
        if number == index:
            return picture_of_frame(frame)
    raise ImageError(f"{path}: has no frame {index}")


def show_map(path: str, folder: str, name: str, width: int, height: int, reverse: bool) -> None:
    """Write the first map of an evidence sheet at a result's size, and `NAME.json` with its scale."""
    colours, limit = map_picture(Path(path), (height, width), reverse=reverse)
    _write(folder, f"{name}.json", json.dumps({"limit": limit}).encode())
    _write(folder, name, _encoded(colours))


def map_picture(path: Path, size: Size, *, reverse: bool) -> tuple[Picture, float | None]:
    """The first map of an evidence sheet: see `first_map`. Raises ImageError: it has none of this size."""
    found = first_map(read_picture(path).pixels.expand(3, -1, -1), size, reverse=reverse)
    if found is None:
        raise ImageError("its evidence file holds no map of its size, as this program draws them")
    colours, limit = found
    return Picture(pixels=colours, alpha=None, bits=8, metadata=Metadata()), limit


def _check_hash(path: str, sha256: str) -> None:
    """Raise ImageError where a file is not the one that the log of its case has."""
    try:
        found = sha256_file(Path(path))
    except OSError as error:
        raise ImageError(why_unreadable(Path(path), error)) from error
    if found != sha256:
        raise ImageError(CHANGED)


def _look(folder: str, picture: Picture, facts: dict[str, Any]) -> None:
    height, width = picture.pixels.shape[-2:]
    factor = min(1.0, THUMB_SIDE / max(height, width))
    small = max(1, round(height * factor)), max(1, round(width * factor))
    _write(folder, "thumb.png", _encoded(_resized(replace(picture, alpha=None), small)))
    _write(folder, "facts.json", json.dumps(facts).encode())


def _resized(picture: Picture, size: Size) -> Picture:
    return replace(picture, pixels=resize(picture.pixels, size).clamp(0, 1))


def _row(frame: Frame) -> dict[str, Any]:
    base = frame.time_base
    return {
        "index": frame.index,
        "pts": frame.pts,
        "time_base": None if base is None else f"{base.numerator}/{base.denominator}",
        "type": frame.picture_type,
        "key": frame.key,
        "repeat": frame.same_as is not None,
    }


def _encoded(picture: Picture) -> bytes:
    """An 8-bit PNG, which every browser shows, in the picture's own colours."""
    return encode_picture(replace(picture, bits=8, metadata=Metadata(icc=picture.metadata.icc)), "png")


def _write(folder: str, name: str, data: bytes) -> None:
    temporary = Path(folder) / f".{name}.{os.getpid()}"
    temporary.write_bytes(data)  # of a cache: what a power cut takes is made again
    temporary.replace(Path(folder) / name)


TASKS: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (look_at_image, look_at_video, list_frames, show_frames, show_result, show_bicubic, show_map)
}

if __name__ == "__main__":
    main()
