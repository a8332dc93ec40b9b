"""Every image of a source, opened once: is it whole, how large is it, and what is its hash?

It takes about 0.3 ms of one core an image of 20x16 px, nearly all of it decoding; so large sets are shared out to
processes (threads decode one at a time), and small ones are not worth their start.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from zssr_gan.data.readers import Source
from zssr_gan.errors import ImageError, ZssrGanError

Found = tuple[str, int, int] | str
"""An image's (SHA-256, width, height), or why it cannot be read."""

_BATCH = 256  # images a task: about 0.1 s
_WORTH_PROCESSES = 20_000  # images; below, one process is done before others have started
_MOST_PROCESSES = 16


class CensusError(ZssrGanError):
    """The images could not be gone through to the end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a source is: `done` of `total` images; `total` is None while they are listed."""

    source: str
    done: int
    total: int | None


def examine(
    source: Source,
    paths: Sequence[str],
    on_progress: Callable[[Progress], None] = lambda _: None,
    processes: int | None = None,
) -> Iterator[Found]:
    """Open each image, in order; what was found of each comes as soon as it is known, and no pixels are kept.

    Args:
        source: whose images.
        paths: which.
        on_progress: called often.
        processes: how many share the work; default: by the number of images and cores.

    Raises:
        CensusError: a process that shared the work was ended from outside.
    """
    if processes is None:
        processes = 1 if len(paths) < _WORTH_PROCESSES else min(_cores(), _MOST_PROCESSES)
    batches = (paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH))
    done = 0
    for found in _in_processes(source, batches, processes) if processes > 1 else _here(source, batches):
        yield from found
        done += len(found)
        on_progress(Progress(source.name, done, len(paths)))


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _look(source: Source, paths: Sequence[str]) -> list[Found]:
    found: list[Found] = []
    for path in paths:
        try:
            content = source.read(path)
        except ImageError as error:
            found.append(_reason(error, f"{source.name}/{path}: "))
        else:
            _, height, width = content.picture.pixels.shape
            found.append((content.sha256, width, height))
    return found


def _reason(error: ImageError, name: str) -> str:
    """Why, without what differs between machines: the decoder's own words hang on its version."""
    words = str(error).removeprefix(name).removesuffix(".")
    return words.partition(" (")[0] if "damaged or truncated" in words else words


def _here(source: Source, batches: Iterator[Sequence[str]]) -> Iterator[list[Found]]:
    for batch in batches:
        # In smaller pieces, so that the progress of a small set moves too.
        for start in range(0, len(batch), 16):
            yield _look(source, batch[start : start + 16])


def _in_processes(source: Source, batches: Iterator[Sequence[str]], processes: int) -> Iterator[list[Found]]:
    """The same in order, with a few batches under way: memory does not grow with the set."""
    # spawn: a fork of a process with threads (torch's, a progress bar's) can hang.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    under_way: deque[Future[list[Found]]] = deque()
    try:
        with _started_without_ctrl_c():
            for _, batch in zip(range(processes), batches, strict=False):  # in this order none is lost
                under_way.append(pool.submit(_look, source, batch))
        for batch in batches:
            under_way.append(pool.submit(_look, source, batch))
            if len(under_way) > 3 * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise CensusError("a process that read images was ended, often for lack of memory: run it again.") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _started_without_ctrl_c() -> Iterator[None]:
    """Processes started within do not hear Ctrl-C, which a terminal sends to all: their parent ends them in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
