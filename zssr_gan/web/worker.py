"""The worker of a device, or of quick jobs: takes jobs from the queue, runs each command in a child process.

What must not be lost is written in this order: the results, by the command; the line of the log with their hashes; the
job's state. A worker that is killed in between finds the line when it starts again, and else runs the job again: the
command goes on with what is whole, or starts anew.
"""

import contextlib
import errno
import functools
import importlib
import json
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from zssr_gan.errors import OutputError
from zssr_gan.files import atomic_write, is_leftover, locked, sha256_file, sync_folder
from zssr_gan.web import log
from zssr_gan.web.calibration import measure_next
from zssr_gan.web.case_folder import SERVER_FOLDER, Case, CaseError, open_case
from zssr_gan.web.child import Child, Main, end_with_parent
from zssr_gan.web.commands import expected_seconds, log_queued, why_refused
from zssr_gan.web.plans import method_of, output_of
from zssr_gan.web.queue import QUICK, Job, Queue, State
from zssr_gan.web.time_left import TimeLeft

RESUMES = frozenset({"enhance", "video"})
"""Kinds of jobs that go on with what a killed one has finished; others start anew."""

_IMPORTED = ("zssr_gan.inference.batch", "zssr_gan.video.fuse_files", "zssr_gan.cli.enhance")
_IMPORTED_FOR_QUICK = ("zssr_gan.web.report", "zssr_gan.web.package")
_SECONDS_IDLE = 0.1
_SECONDS_BETWEEN_PROGRESS = 0.3
_SECONDS_FOR_ROOM = 2.0
_SECONDS_TO_MEASURE = 5.0
_LINES_TOLD = 12

_T = TypeVar("_T")


def run(cases: Path, device: str, main: Main, patience_s: float = 15.0, *, server: int | None = None) -> None:
    """Work until SIGTERM, or until the process that started this one ends.

    Args:
        cases: the folder of cases.
        device: "cpu", "cuda:0", ...: that jobs see; or `QUICK`.
        main: the `zssr-gan` command.
        patience_s: how long a worker that ends may hold its lock.
        server: the process that started this one; it may have ended since [this one's parent].

    Raises:
        OutputError: another worker of this device works on these cases, or they cannot be written.
    """
    end_with_parent(os.getppid() if server is None else server)
    worker = _Worker(cases, device, main)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The children of a killed worker hold its lock until they have ended too.
    held = OutputError(f"{cases}: another zssr-gan web works on these cases on {device}; stop it first.")
    lock, end = cases / SERVER_FOLDER / f"worker-{device.replace(':', '-')}.lock", time.monotonic() + patience_s
    while True:
        try:
            with locked(lock, held):
                return worker.work()
        except OutputError as error:
            if error is not held or time.monotonic() > end or worker.stopping:
                raise
            time.sleep(_SECONDS_IDLE)


def preview_of(cases: Path, job: int) -> Path:
    """Where the preview of a job lies while it runs."""
    return cases / SERVER_FOLDER / "previews" / f"{job}.png"


class _Worker:
    """Takes jobs from the queue one after another, and runs each command in a child process."""

    def __init__(self, cases: Path, device: str, main: Main) -> None:
        self.cases, self.device, self.main = cases, device, main
        self.queue = Queue(cases / SERVER_FOLDER / "queue.sqlite")
        self.stopping, self._starting = False, True
        self._job = 0

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: the job in work goes back into the queue."""
        self.stopping = True
        if self._starting:  # to import torch takes many seconds on a busy machine
            raise SystemExit(0)

    def work(self) -> None:
        """Take one job after another, until `stop`."""
        for left in self._until_written(lambda: self.queue.requeue(self.device)):
            with contextlib.suppress(CaseError):
                self._log_killed(open_case(self.cases, left.case).folder, left)
        quick = self.device == QUICK
        for module in () if quick else _IMPORTED:
            importlib.import_module(module)
        self._starting = False
        idle_since, measures = -math.inf, not quick  # the first job of a new folder has a time, too
        while not self.stopping:
            if (job := self._until_written(lambda: self.queue.claim(self.device))) is not None:
                for module in _IMPORTED_FOR_QUICK if quick else ():  # with the first job: they take memory
                    importlib.import_module(module)
                self._do(job)
                idle_since = time.monotonic()
            elif measures and time.monotonic() > idle_since + _SECONDS_TO_MEASURE:
                measures = self._measure()
                idle_since = time.monotonic()
            else:
                time.sleep(_SECONDS_IDLE)

    def _log_killed(self, folder: Path, job: Job) -> None:
        """Log that a run was interrupted whose worker could not say so itself."""
        is_logged = functools.partial(log.find, folder, job=job.id, attempt=job.attempt)
        if is_logged("job started") and not is_logged("job ended"):
            facts = {"job": job.id, "attempt": job.attempt, "noticed": "when zssr-gan web was started again"}
            self._until_written(lambda: log.append(folder, job.user, "job interrupted", **facts))

    def _measure(self) -> bool:
        """Use the time to learn how long commands take; returns whether there may be more to learn."""

        def stops() -> bool:
            return self.stopping or any(job.state == "queued" for job in self.queue.jobs())

        try:
            return measure_next(self.cases / SERVER_FOLDER, self.main, _seen_device(self.device), stops) or stops()
        except OSError as error:
            return error.errno not in (errno.ENOSPC, errno.EDQUOT)
        except OutputError:
            return False

    def _do(self, job: Job) -> None:
        self._job = job.id
        try:
            case = open_case(self.cases, job.case)
        except CaseError as error:
            why = str(error)
            self._until_written(lambda: self.queue.finish(job.id, "failed", why))
            return
        folder = case.folder
        if (ended := log.find(folder, "job ended", job.id, job.attempt)) is None:
            self._until_written(lambda: log_queued(case, job))
            self._until_written(
                lambda: log.append(folder, job.user, "job started", job=job.id, attempt=job.attempt, device=self.device)
            )
            state, facts = self._attempt(case, job)
            if state == "queued":
                self._until_written(
                    lambda: log.append(folder, job.user, "job interrupted", job=job.id, attempt=job.attempt)
                )
                self._until_written(lambda: self.queue.finish(job.id, "queued", None))
                return
            facts |= {"kind": job.kind, "state": state, "files": hashes_of(case, job, state)}
            ended = self._until_written(
                lambda: log.append_once(folder, job.user, "job ended", job.id, job.attempt, **facts)
            )
        facts, when = ended["facts"], ended["time"]
        self._until_written(lambda: self.queue.finish(job.id, facts["state"], facts["message"], when))
        preview_of(self.cases, job.id).unlink(missing_ok=True)

    def _attempt(self, case: Case, job: Job) -> tuple[State, dict[str, Any]]:
        """How the command ended, or why it is not run, and what the log says of it."""
        if why := why_refused(case, job.argv) or _link_of(case, job):
            return "failed", {"code": None, "message": why}
        self._prepare(case, job)
        return self._run(case, job)

    def _prepare(self, case: Case, job: Job) -> None:
        """Remove what a killed run left: temporary files, and of a command that starts anew all."""
        preview_of(self.cases, job.id).parent.mkdir(parents=True, exist_ok=True)
        for path in [*_written(case, job)]:
            if job.kind not in RESUMES or is_leftover(path):
                path.unlink(missing_ok=True)
        (case.folder / "results" / f"{job.id}_{job.kind}").mkdir(parents=True, exist_ok=True)
        sync_folder(case.folder / "results")

    def _run(self, case: Case, job: Job) -> tuple[State, dict[str, Any]]:
        """How the command ended, and what the log says of it."""
        preview = preview_of(self.cases, job.id)
        environment = {"ZSSR_GAN_PROGRESS": "json", "ZSSR_GAN_PREVIEW": str(preview), **_seen_device(self.device)}
        child = Child(self.main, job.argv, case.folder, environment)
        said, printed = deque[str](maxlen=1000), deque[str](maxlen=10_000)
        shown: dict[str, Any] = {}
        asked, last, began = False, 0.0, time.monotonic()
        left = TimeLeft(
            expected_seconds(self.queue, preview.parents[1], job.kind, method_of(job.argv), job.pictures, job.pixels)
        )
        while not child.ended:
            for stream, line in child.read(_SECONDS_IDLE):
                facts = _parse_progress(line) if stream == "stderr" else None
                if facts is None:
                    (printed if stream == "stdout" else said).append(line)
                elif "note" in facts:
                    said.append(str(facts["note"]))
                else:
                    shown = facts
            if time.monotonic() - last > _SECONDS_BETWEEN_PROGRESS:
                last = time.monotonic()
                asked = self._note(job.id, left.update(shown, last - began), preview) or asked
            if asked or self.stopping:
                child.stop()
        code = child.code()
        _write_printed(case, job, [*printed, *said])
        facts = {"code": code, "message": _message(code, asked, [*printed], [*said])}
        if code == 0:
            return "done", facts
        if asked:
            return "stopped", facts
        return "queued" if self.stopping else "failed", facts

    def _note(self, number: int, shown: dict[str, Any], preview: Path) -> bool:
        """Write the progress; returns whether the job was asked to stop. What cannot be written is not progress."""
        try:
            return self.queue.progress(number, {**shown, "preview": _changed(preview)})
        except OutputError:
            return False

    def _until_written(self, write: Callable[[], _T]) -> _T:
        """What `write` returns, once the disk has room for it: a job that is done must not be lost for want of it."""
        said = False
        while True:
            try:
                return write()
            except OutputError as error:
                if self.stopping:
                    raise
                if not said:
                    print(f"{error} Jobs wait until then.", file=sys.stderr, flush=True)  # noqa: T201 (the window)
                said = said or self._say_waiting(error)
                time.sleep(_SECONDS_FOR_ROOM)

    def _say_waiting(self, error: OutputError) -> bool:
        """Show at the running job that it waits; whether that could be written (a full file may have room within)."""
        with contextlib.suppress(OutputError):
            self.queue.progress(self._job, {"stage": f"waiting: {error}"})
            return True
        return False


def _parse_progress(line: str) -> dict[str, Any] | None:
    """What a line of `ZSSR_GAN_PROGRESS=json` says; None of any other."""
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and ("stage" in facts or "note" in facts) else None


def _message(code: int, asked: bool, printed: list[str], said: list[str]) -> str:
    """What a person reads of the end."""
    if code == 0:
        return printed[-1] if printed else "done"
    if asked:
        return "stopped; it can go on"
    if code < 0:
        memory = "; perhaps memory ran out: try smaller images, or fewer programs beside" * (code == -signal.SIGKILL)
        return f"the command was ended by signal {-code}{memory}"
    errors = [line for line in said if line.startswith(("error: ", "failed: "))]
    return "\n".join((errors or said)[-_LINES_TOLD:]) or f"the command ended with exit code {code}"


def _seen_device(device: str) -> dict[str, str]:
    kind, _, number = device.partition(":")
    return {"CUDA_VISIBLE_DEVICES": (number or "0") if kind == "cuda" else ""}


def _places(case: Case, job: Job) -> Iterator[Path]:
    """What lies in a job's folder of results, and a track with its number; links too, which are not followed."""
    yield (folder := case.folder / "results" / f"{job.id}_{job.kind}")
    if not folder.is_symlink():
        yield from folder.rglob("*")
    yield from (case.folder / "tracks").glob(f"{job.id}_*")
    if job.kind in ("report", "package"):
        yield from (case.folder / "report").glob(f"{job.id}_*")


def _written(case: Case, job: Job) -> Iterator[Path]:
    """The files of a job."""
    return (path for path in _places(case, job) if path.is_file() and not path.is_symlink())


def _link_of(case: Case, job: Job) -> str | None:
    """Why a job is not run: a link lies where it writes, as in a case that was copied, and leads elsewhere."""
    for path in filter(Path.is_symlink, _places(case, job)):
        name = path.relative_to(case.folder).as_posix()
        return f"error: {name}: is a link, which may lead out of the case; remove it, then go on"
    return None


def hashes_of(case: Case, job: Job, state: State) -> dict[str, str]:
    """SHA-256 of the files of a job, by their paths in the case."""
    paths = {path for path in _written(case, job) if not is_leftover(path)}
    output = case.folder / output_of(job.argv)
    if state == "done" and output.is_file():  # else an earlier job's, such as the report, which has no number
        paths.add(output)
    return {path.relative_to(case.folder).as_posix(): sha256_file(path) for path in sorted(paths)}


def _write_printed(case: Case, job: Job, lines: list[str]) -> None:
    """Keep what the command said beside its results."""
    path = case.folder / "results" / f"{job.id}_{job.kind}" / "printed.txt"
    with contextlib.suppress(OutputError):  # a full disk
        atomic_write(path, "\n".join([f"$ {job.command}", *lines, ""]).encode("utf-8", "replace"), overwrite=True)


def _changed(path: Path) -> int | None:
    """When a file changed last, in ns; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
