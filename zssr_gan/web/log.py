"""The log of a case: one JSON object a line, each with the hash of the line before, so that a change is seen.

A line is `{"n", "time", "user", "act", "facts", "previous", "sha256"}`: `sha256` is that of the other keys as canonical
JSON, `previous` that of the line before (64 zeros in the first). The chain shows every change within the log; lines
taken off its end are seen only against a copy, such as the manifest of a package.
"""

import errno
import functools
import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from zssr_gan.errors import OutputError
from zssr_gan.files import canonical_sha256, locked, sync_folder

NAME = "log.jsonl"
LOCK = ".log.lock"
"""In the folder of a log: held by who writes a line."""

_FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class LogCheck:
    """What `verify_log` found."""

    entries: int
    """Lines in order, counted up to the first broken one."""
    ok: bool
    text: str
    """A sentence; of a broken log it names the first broken line."""


def now() -> str:
    """The time with its zone, in whole seconds, as ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def append(case: Path, user: str, act: str, /, **facts: Any) -> dict[str, Any]:
    """Add a line to the log in the folder `case` and wait until the disk holds it; returns the line.

    What a power cut left of a line that was never finished is removed first, and the new line says so.

    Args:
        case: the folder of the log.
        user: who acts.
        act: in one or two words: "created", "received", "job ended".
        facts: JSON values.

    Raises:
        OutputError: the disk refuses it; the log is then as it was.
    """
    with _appending(case) as log:
        return log(user, act, facts)


def append_once(case: Path, user: str, act: str, job: int, attempt: int, /, **facts: Any) -> dict[str, Any]:
    """`append`, unless the log has this act of this attempt at this job: then that line is returned.

    So what was logged just before a kill is not logged again.
    """
    with _appending(case) as log:
        return find(case, act, job, attempt) or log(user, act, {"job": job, "attempt": attempt, **facts})


def find(case: Path, act: str, job: int, attempt: int) -> dict[str, Any] | None:
    """The line of an attempt at a job, if the log has it."""
    wanted = {"job": job, "attempt": attempt}
    return next((one for one in read_log(case) if one["act"] == act and wanted.items() <= one["facts"].items()), None)


def read_log(case: Path) -> list[dict[str, Any]]:
    """The lines of a log that can be read, in order; whether they are unchanged says `verify_log`."""
    return entries_of(read_bytes(case))


def entries_of(data: bytes) -> list[dict[str, Any]]:
    """`read_log` of bytes that were read before."""
    return [entry for entry in _lines(data) if entry is not None]


def read_bytes(case: Path) -> bytes:
    """The bytes of a log, empty of one that cannot be read."""
    try:
        return (case / NAME).read_bytes()
    except OSError:
        return b""


def verify_log(case: Path) -> LogCheck:
    """Check the chain of hashes of the log in the folder `case`."""
    previous, number = _FIRST, 0
    for number, entry in enumerate(_lines(read_bytes(case)), 1):
        if why := _broken(entry, number, previous):
            return LogCheck(number - 1, False, f"line {number} of {NAME} {why}")
        assert entry is not None
        previous = entry["sha256"]
    if number == 0:
        return LogCheck(0, False, f"{NAME} is missing or empty")
    return LogCheck(number, True, f"{number} lines, each with the hash of the one before")


def command_of(facts: dict[str, Any]) -> str:
    """The command line in the facts of a line "job queued", as a shell takes it."""
    return shlex.join(["zssr-gan", *map(str, facts.get("argv", []))])


def _broken(entry: dict[str, Any] | None, number: int, previous: str) -> str:
    if entry is None:
        return "is cut short or no line of a log"
    if entry["n"] != number:
        return f"has the number {entry['n']}: lines are missing or in another order"
    if entry["previous"] != previous:
        return "does not follow the line before: one of them was changed"
    return "" if entry["sha256"] == _hash(entry) else "was changed after it was written"


def _hash(entry: dict[str, Any]) -> str:
    try:
        return canonical_sha256({key: value for key, value in entry.items() if key != "sha256"})
    except (ValueError, TypeError):  # NaN, which no line of ours holds
        return ""


def _lines(data: bytes) -> Iterator[dict[str, Any] | None]:
    """Each line, None where it is broken."""
    for line in data.splitlines(keepends=True):
        yield _entry(line)


@functools.lru_cache(20_000)
def _entry(line: bytes) -> dict[str, Any] | None:
    """A line that was read, None of a broken one. A log is read often, and its lines stay as they are."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds = {"n": int, "time": str, "user": str, "act": str, "facts": dict, "previous": str, "sha256": str}
    whole = isinstance(entry, dict) and entry.keys() == kinds.keys() and line.endswith(b"\n")
    return entry if whole and all(isinstance(entry[key], kind) for key, kind in kinds.items()) else None


@contextmanager
def _appending(case: Path) -> Iterator[Callable[[str, str, dict[str, Any]], dict[str, Any]]]:
    """Hold the log's lock; yields the function that writes a line."""

    def write(user: str, act: str, facts: dict[str, Any]) -> dict[str, Any]:
        path = case / NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _refused(path, error) from error
        try:
            size = os.fstat(descriptor).st_size
            data = os.pread(descriptor, size, 0)
            end = data.rfind(b"\n") + 1
            last = _entry(data[data.rfind(b"\n", 0, max(0, end - 1)) + 1 : end])
            if end < size:
                facts = {**facts, "unfinished_bytes_removed": size - end}
            entry = {
                "n": data.count(b"\n") + 1,
                "time": now(),
                "user": user,
                "act": act,
                "facts": json.loads(json.dumps(facts, allow_nan=False)),
                "previous": _FIRST if last is None else last["sha256"],
            }
            entry["sha256"] = canonical_sha256(entry)
            line = json.dumps(entry, allow_nan=False).encode() + b"\n"  # ASCII: no line break but its own
            try:
                os.ftruncate(descriptor, end)
                if os.pwrite(descriptor, line, end) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError as error:
                os.ftruncate(descriptor, end)
                raise _refused(path, error) from error
            if size == 0:
                sync_folder(case)
            return entry
        finally:
            os.close(descriptor)

    with locked(case / LOCK):
        yield write


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); make room there, or allow writing.")
