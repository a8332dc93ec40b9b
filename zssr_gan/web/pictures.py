"""Pictures for the page: thumbnails, views, frames. Each is decoded in a process with limits and stored in a cache.

A file that is made to crash a decoder, or to fill the memory, ends one child of `zssr_gan.web.decoding` and becomes one
sentence on that file.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import sha256_bytes
from zssr_gan.web.memo import read_stored, stamp
from zssr_gan.web.refusals import Refusal

MEMORY_BYTES = 4 << 30
SECONDS = 60
LONG_SECONDS = 4 * 3600  # for all frames of a video
CACHE_BYTES = 4 << 30
CHANGED = "was changed after it was received: its bytes are not those that the log has"
_PNG = b"\x89PNG\r\n\x1a\n"
_AT_ONCE = 2
_PRUNE_EVERY = 200


class Unfinished(ZssrGanError):
    """A task that was not done, which may be no fault of the file: it is worth trying again."""


@dataclass
class _Asked:
    """What was asked of the decoding process: its end, and the sentence of a refusal."""

    process: "subprocess.Popen[bytes]"
    ended: threading.Event = field(default_factory=threading.Event)
    status: int | None = None
    error: str | None = None


class Decoder:
    """The decoding process: it starts when it is first needed, and again when it ended.

    Args:
        memory_bytes: that the work on one file may take.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._numbers = threading.Lock(), itertools.count()
        self._asked: dict[int, _Asked] = {}

    def decode(self, task: str, arguments: Mapping[str, object], seconds: int) -> str | None:
        """Do a task of `zssr_gan.web.decoding`; returns why it cannot be done, to follow the file's name, or None.

        Raises Unfinished: it took too long or too much memory, or the process was ended meanwhile.
        """
        with self._lock:
            process = self._running()
            asked, number = _Asked(process), next(self._numbers)
            self._asked[number] = asked
            request = {"id": number, "task": task, "arguments": arguments, "seconds": seconds}
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({**request, "memory_bytes": self._memory}).encode() + b"\n")
                process.stdin.flush()
            except OSError:  # it ended this moment
                asked.ended.set()
        asked.ended.wait(seconds + 60)
        self._asked.pop(number, None)
        if asked.error is not None or asked.status == 0:
            return asked.error
        if asked.status is None:
            raise Unfinished("was not looked at to the end, since its decoder was stopped: look again")
        if -asked.status in (signal.SIGALRM, signal.SIGKILL, signal.SIGXCPU):
            raise Unfinished(f"took longer than {seconds} s, or too much memory: look again when less runs beside")
        return f"made its decoder crash (exit code {asked.status}); the file is probably damaged"

    def warm(self) -> None:
        """Start the process before it is needed."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the process, and what it works on."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        return self._process

    def _start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "zssr_gan.web.decoding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        return process

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            if (asked := self._asked.get(message["id"])) is None:
                continue
            asked.error = message.get("error", asked.error)
            if "status" in message:
                asked.status = message["status"]
                asked.ended.set()
        with self._lock:
            if self._process is process:
                self._process = None  # the next task starts another
        for asked in list(self._asked.values()):
            if asked.process is process:
                asked.ended.set()
        process.stdout.close()
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()


def key_of(path: Path, sha256: str = "") -> str:
    """The name of a file's folder in the cache: another one once the file has changed."""
    return sha256_bytes(f"{path}\0{stamp(path)}\0{sha256}".encode("utf-8", "replace"))


def _seconds(frames: Sequence[Mapping[str, Any]]) -> float | None:
    """From the first frame's time to the end of the last, which is taken to be shown as long as those before."""
    first, last = (frames[0], frames[-1]) if len(frames) > 1 else ({}, {})
    if any(one.get(name) is None for one in (first, last) for name in ("pts", "time_base")):
        return None
    begun, ended = (one["pts"] * Fraction(one["time_base"]) for one in (first, last))
    return float((ended - begun) * len(frames) / (len(frames) - 1)) if ended > begun else None


class Pictures:
    """The cache: a folder for each file, named by its `key_of`.

    Args:
        folder: of the cache; it may be deleted whenever no server runs.
        decoder: that fills it.
    """

    def __init__(self, folder: Path, decoder: Decoder | None = None) -> None:
        self._folder, self.decoder = folder, decoder or Decoder()
        self._quick = ThreadPoolExecutor(_AT_ONCE, "pictures")
        self._steps = ThreadPoolExecutor(_AT_ONCE, "steps")  # frames far into a video take long, and hold nothing else
        self._long = ThreadPoolExecutor(1, "frames")
        self._lock, self._made = threading.Lock(), 0
        self._facts: dict[str, dict[str, Any]] = {}
        self._lengths: dict[str, tuple[int, float | None]] = {}
        self._running: dict[tuple[Path, str], Future[None]] = {}
        self._unfinished: dict[tuple[str, str], str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._prune()

    def place(self, key: str, name: str) -> Path | None:
        """A picture that is there, by the key of its file and its own name."""
        path = self._folder / key / name
        try:
            with path.open("rb") as file:
                head = file.read(len(_PNG))
        except OSError:
            return None
        is_whole = head == _PNG if path.suffix == ".png" else head.strip(b"\0")
        return path if is_whole else None  # else a power cut took its bytes

    def stored(self, key: str, name: str) -> Any:
        """The JSON of a file; None where there is none, or a power cut took its bytes: it is made again then."""
        path = self._folder / key / name
        was_there = path.exists()  # one that comes meanwhile stays
        if (found := read_stored(path)) is None and was_there:
            path.unlink(missing_ok=True)
        return found

    def facts(self, key: str) -> dict[str, Any] | None:
        """What is known of an original."""
        if key not in self._facts:
            if (found := self.stored(key, "facts.json")) is None:
                return None
            self._facts[key] = found
        return self._facts[key]

    def length(self, key: str) -> tuple[int, float | None] | None:
        """Frames of a video, and seconds by their times where these are known; None until all frames are listed."""
        if key not in self._lengths:
            if (found := self.stored(key, "frames.json")) is None:
                return None
            self._lengths[key] = found["count"], _seconds(found["frames"])
        return self._lengths[key]

    def problem(self, key: str, task: str) -> str | None:
        """Why a task on a file could not be done; what was not finished is tried again by the next server."""
        if (key, task) in self._unfinished:
            return self._unfinished[key, task]
        path = self.place(key, f"{task}.problem")
        return None if path is None else path.read_text("utf-8", "replace")

    def forget_problems(self, key: str) -> None:
        """Let what could not be done be tried again."""
        self._unfinished = {of: why for of, why in self._unfinished.items() if of[0] != key}
        for path in (self._folder / key).glob("*.problem"):
            path.unlink(missing_ok=True)

    def forget(self, keys: Iterable[str]) -> None:
        """Delete what is stored of files."""
        for key in keys:
            self._facts.pop(key, None)
            self._lengths.pop(key, None)
            shutil.rmtree(self._folder / key, ignore_errors=True)

    def make(
        self,
        key: str,
        task: str,
        arguments: Mapping[str, object],
        *,
        once: str = "",
        long: bool = False,
        seconds: int = SECONDS,
        then: Callable[[], None] = lambda: None,
    ) -> Future[None]:
        """Begin a task on a file, unless it is begun; `once` tells it from others of its kind, `then` follows its end.

        The future raises Refusal where the task cannot be done, now or when it was tried before.
        """
        folder, once = self._folder / key, once or task
        with self._lock:
            self._running = {of: begun for of, begun in self._running.items() if not begun.done()}
            if (running := self._running.get((folder, once))) is not None:
                return running
            pool = self._long if long else self._steps if task == "show_frames" else self._quick
            begun = pool.submit(self._make, key, task, once, arguments, LONG_SECONDS if long else seconds)
            self._running[folder, once] = begun
        begun.add_done_callback(lambda _done: then())
        return begun

    def _make(self, key: str, task: str, once: str, arguments: Mapping[str, object], seconds: int) -> None:
        if (known := self.problem(key, once)) is not None:
            raise Refusal(422, known)
        folder = self._folder / key
        folder.mkdir(exist_ok=True)
        try:
            error = self.decoder.decode(task, {**arguments, "folder": str(folder)}, seconds)
        except Unfinished as problem:
            if task.startswith("look_at_"):  # others are tried again whenever they are asked for
                self._unfinished[key, once] = str(problem)
            raise Refusal(422, str(problem)) from problem
        if error is not None:
            (folder / f"{once}.problem").write_text(error, "utf-8")
            raise Refusal(422, error)
        os.utime(folder)
        with self._lock:
            self._made += 1
            full = self._made % _PRUNE_EVERY == 0
        if full:
            self._prune()

    def close(self) -> None:
        """End what is being made."""
        for pool in (self._quick, self._steps, self._long):
            pool.shutdown(wait=False, cancel_futures=True)
        self.decoder.close()

    def _prune(self) -> None:
        """Delete the folders that were filled longest ago, until the cache is small enough."""
        sizes: list[tuple[float, int, Path]] = []
        for folder in filter(Path.is_dir, self._folder.iterdir()):
            files = [stamp(file) for file in folder.iterdir()]  # None of what is renamed meanwhile
            sizes.append((folder.stat().st_mtime, sum(one[2] for one in files if one is not None), folder))
        total = sum(size for _, size, _ in sizes)
        for _, size, folder in sorted(sizes)[:-1]:
            if total <= CACHE_BYTES:
                break
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
