"""Read videos frame by frame, with the times that the file has.

A video is decoded in a process of its own (`zssr_gan.video.decoder`) with limits of memory and time: a file that is
made to crash a decoder, or to fill the memory, ends that process and becomes one VideoError. The original is opened
read-only and hashed before and after. Reading needs PyAV, the extra `video`.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from zssr_gan.errors import VideoError
from zssr_gan.files import sha256_file, why_unreadable
from zssr_gan.video.frames import CUT_SHORT, Frame, Video, VideoInfo, fields, with_damage, with_repeats

MEMORY_BYTES = 4 << 30
SECONDS = 60.0  # without a frame

Raw = Literal["h264", "hevc"]
Fields = Literal["auto", "separate", "woven"]

# With this process' own paths, and without importing the package, which takes as long as all the rest.
_START = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
)
_DECODER = str(Path(__file__).with_name("decoder.py"))


@contextmanager
def open_video(
    path: Path,
    *,
    raw: Raw | None = None,
    split: Fields = "auto",
    combing: bool = False,
    seek: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    seconds: float = SECONDS,
) -> Iterator[Video]:
    """Open a video file, or a folder of stills with a `frames.csv`.

    Args:
        path: of the file or folder.
        raw: a bare H.264 or H.265 stream, also inside a container that is not known; its times are not known.
        split: how interlaced frames come: "separate" gives two fields for every frame, "woven" frames as stored,
            "auto" two fields for the frames that are flagged as interlaced.
        seek: begin at the key frame at or before this time (PTS), where the container finds it; indices then count from
            there, and the first frames may be damaged. For looking alone.
        combing: also judge by the pixels whether frames are interlaced, in a notice at the end.
        memory_bytes: that the decoder may take.
        seconds: that it may take for one frame.

    Raises:
        VideoError: PyAV is missing, the file is no video that can be read, its decoder fails, or the file changed while
            it was read. Also while frames are gone through, after those before the damage.
    """
    with _named(path):
        if path.is_dir():
            from zssr_gan.video.folder import read_folder

            yield read_folder(path)
            return
        if importlib.util.find_spec("av") is None:
            raise VideoError("to read video, pip install 'zssr-gan[video]'.")
        before = _sha256(path)
        request = {
            "path": str(path.absolute()), "raw": raw, "combing": combing, "seek": seek, "memory_bytes": memory_bytes,
            "seconds": seconds,
        }  # fmt: skip
        messages = _messages(request, seconds)
        notices: list[str] = []
        seen: dict[str, int] = {}

        def frames() -> Iterator[Frame]:
            yield from with_repeats(_split(with_damage(_frames(messages, notices, seen)), split))
            _check_unchanged(path, before)  # before anything is made of them

        try:
            found, _ = next(messages)
            info = _info(found["info"], before, path.stat().st_size)
            if info.video_streams > 1:
                notices.append(f"it holds {info.video_streams} video streams, of which stream {info.stream} is read")
            if (declared := _container_bytes(path)) > info.size_bytes:
                notices.append(f"{CUT_SHORT}: {declared} bytes by its container, {info.size_bytes} in the file")
            yield Video(info, frames(), notices, seen)
        finally:
            messages.close()
        _check_unchanged(path, before)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let the path open the message of every VideoError."""
    try:
        yield
    except VideoError as error:
        if str(error).startswith(str(path)):
            raise
        raise VideoError(f"{path}: {error}") from error


def _check_unchanged(path: Path, sha256: str) -> None:
    if _sha256(path) != sha256:
        raise VideoError("was changed while it was read; nothing that was read of it can be relied on.")


def _sha256(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise VideoError("is not a file.")
        return sha256_file(path)
    except OSError as error:
        raise VideoError(f"{why_unreadable(path, error, 'file or folder')}.") from error


def _container_bytes(path: Path) -> int:
    """Of the file, as the head of Matroska's segment (RFC 8794, 9559) or of AVI has it; 0: it is neither, or does not
    say. Of several parts, as large AVI files have, the first."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return 0 if size == 2**32 - 1 else 8 + size
    at = head.find(b"\x18\x53\x80\x67") + 4
    if not head.startswith(b"\x1a\x45\xdf\xa3") or not 4 <= at < len(head):
        return 0
    width = 9 - head[at].bit_length()  # of the size, a bit of each byte of which is spent on the width
    size = int.from_bytes(head[at : at + width], "big") - (1 << 7 * width)
    return 0 if size == (1 << 7 * width) - 1 else at + width + size


def _info(found: dict[str, Any], sha256: str, size_bytes: int) -> VideoInfo:
    for ratio in ("sample_aspect_ratio", "time_base", "average_rate", "base_rate"):
        found[ratio] = None if found[ratio] is None else Fraction(*found[ratio])
    return VideoInfo(sha256=sha256, size_bytes=size_bytes, **found)


def _messages(request: dict[str, Any], seconds: float) -> Generator[tuple[dict[str, Any], bytearray], None, None]:
    """What the decoder of a video says, with the bytes that belong to it. Raises VideoError where it fails."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _START, json.dumps(sys.path), _DECODER, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=1 << 20,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    frames = 0
    try:
        while True:
            message, payload = _read(process, process.stdout, seconds)
            if message is None:
                at = f"at frame {frames}" if frames else "before the first frame"
                raise VideoError(f"its decoder {_why_ended(process, seconds)} {at}; the file is probably damaged.")
            if "error" in message:
                raise VideoError(message["error"])
            frames += "frame" in message
            yield message, payload
            if "end" in message:
                return
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _read(
    process: "subprocess.Popen[bytes]", stream: IO[bytes], seconds: float
) -> tuple[dict[str, Any] | None, bytearray]:
    """The next message and its bytes; None where the process ended, or took longer than `seconds` and was ended."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        line = stream.readline()
        if not line.endswith(b"\n"):
            return None, bytearray()
        message: dict[str, Any] = json.loads(line)
        payload = bytearray(message.get("bytes", 0))
        whole = stream.readinto(payload) == len(payload)  # type: ignore[attr-defined]
        return (message if whole else None), payload
    finally:
        timer.cancel()


def _why_ended(process: "subprocess.Popen[bytes]", seconds: float) -> str:
    code = process.wait()
    if code in (-9, -getattr(signal, "SIGXCPU", 9)):  # SIGKILL, which Windows does not know by name
        return f"was ended (no frame in {seconds:g} s, or too little memory)"
    return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"stopped (exit code {code})"


def _frames(
    messages: Iterator[tuple[dict[str, Any], bytearray]], notices: list[str], combing: dict[str, int]
) -> Iterator[Frame]:
    """Each frame, and at the end what was not well, in `notices`, and what idet counted, in `combing`."""
    latest: int | None = None
    flagged = 0
    for message, payload in messages:
        if "end" in message:
            combing |= message["end"]["combing"]
            notices += _troubles(message["end"], flagged)
            return
        found = message["frame"]
        shapes, qp_shape, base = found.pop("shapes"), found.pop("qp_shape"), found.pop("time_base")
        wide = found["bits"] > 8
        planes, at = [], 0
        for shape in shapes:
            plane = np.frombuffer(payload, np.dtype("<u2") if wide else np.uint8, prod(shape), at).reshape(shape)
            planes.append(plane)
            at += plane.nbytes
        frame = Frame(
            planes=tuple(planes),
            qp=None if qp_shape is None else np.frombuffer(payload, np.dtype("<i2"), -1, at).reshape(qp_shape),
            time_base=None if base is None or found["pts"] is None else Fraction(*base),
            **found,
        )
        if frame.pts is not None:
            if latest is not None and frame.pts <= latest:
                notices.append(f"the time of frame {frame.index} (PTS {frame.pts}) is not later than the one before it")
            latest = frame.pts
        flagged += frame.interlaced
        yield frame


def _troubles(end: dict[str, Any], flagged: int) -> Iterator[str]:
    """What the decoder says when it is through, a sentence each; `flagged`: how many frames are, as interlaced."""
    if end["undecodable"]:
        yield f"{end['undecodable']} of its packets cannot be decoded, so that frames may be missing"
    if end["declared"] != end["frames"]:
        yield f"its container declares {end['declared']} frames, and {end['frames']} can be decoded"
    if end["ended"]:
        yield f"it breaks off: {end['ended']}"
    if end["moved"]:
        yield "its container stores when frames are decoded: the k-th frame shown has the k-th of these times"
    seen: dict[str, int] = end["combing"]
    combed, whole = seen.get("tff", 0) + seen.get("bff", 0), seen.get("progressive", 0)
    judged = (
        f"by FFmpeg's idet: top field first {seen.get('tff')}, bottom {seen.get('bff')}, progressive {whole} frames"
    )
    if combed > whole and not flagged:
        yield f"its frames are flagged as progressive and look interlaced ({judged}); --fields separate parts them"
    if whole > combed and flagged:
        yield f"its frames are flagged as interlaced and look progressive ({judged}); --fields woven leaves them whole"


def _split(frames: Iterator[Frame], split: Fields) -> Iterator[Frame]:
    for frame in frames:
        if split == "separate" or (split == "auto" and frame.interlaced):
            yield from fields(frame)
        else:
            yield frame
