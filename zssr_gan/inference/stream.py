"""Many items through the work: several as one batch with reading ahead and writing behind, or each in a thread."""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from zssr_gan.progress import OnProgress, Progress

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Written = TypeVar("Written")
_Done = TypeVar("_Done")

_THREADS = 4

_SECONDS_BETWEEN_REPORTS = 0.1


def at_once(
    items: Sequence[Item],
    threads: int,
    work: Callable[[Item, OnProgress], Made],
    *,
    on_start: Callable[[Item], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Made]:
    """Work on each item in a thread, several at once; yields what came of each, in their order.

    Interrupted, it stops the work at its next step, yields what was made by then, and passes the interrupt on.

    Args:
        items: in the order of the outcome.
        threads: how many are worked on at once.
        work: on one item, in a thread; calls what it is given at each of its steps.
        on_start: gets each item when all before it are done, in the calling thread.
        on_progress: gets steps of the first item that is not done, in the calling thread.
    """
    stopped, steps = threading.Event(), dict[int, Progress]()
    waiting: deque[tuple[int, Future[Made]]] = deque()

    def do(place: int) -> Made:
        def step(progress: Progress) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            steps[place] = progress

        return work(items[place], step)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for place, item in enumerate(items):
                # Whoever takes the results slower than they come must not gather all of them in memory.
                for ahead in range(place + len(waiting), min(place + 2 * threads, len(items))):
                    waiting.append((ahead, pool.submit(do, ahead)))
                if on_start is not None:
                    on_start(item)
                _, future = waiting[0]
                while not wait([future], _SECONDS_BETWEEN_REPORTS).done:
                    if on_progress is not None and place in steps:
                        on_progress(steps.pop(place))
                made = future.result()
                waiting.popleft()
                yield made
        except KeyboardInterrupt:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            yield from (future.result() for _, future in waiting if not (future.cancelled() or future.exception()))
            raise
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)


def stream(
    items: Sequence[Item],
    *,
    read: Callable[[Item], Read],
    kind: Callable[[Read], Hashable],
    most: Callable[[Read], int],
    work: Callable[[list[tuple[Item, Read]]], list[Made]],
    write: Callable[[Item, Read, Made], Written],
) -> Iterator[tuple[Item, Written | Exception]]:
    """Yield each item in order with what was written of it, or with its error.

    Interrupted, it writes what is made, yields that, and passes the interrupt on.

    Args:
        items: in the order of the outcome.
        read: in a thread.
        kind: what items must agree in to be worked on together.
        most: how many of that one's kind are worked on together at the most.
        work: on items of one kind, in the calling thread. Where it fails for several, each is tried alone.
        write: in a thread.
    """
    writing: deque[tuple[Item, Future[Written]]] = deque()

    def first() -> tuple[Item, Written | Exception]:
        item, future = writing[0]
        outcome = _outcome(future)
        writing.popleft()  # only now: what an interrupt finds waiting must still be yielded
        return item, outcome

    with ThreadPoolExecutor(_THREADS) as readers, ThreadPoolExecutor(_THREADS) as writers:
        try:
            for batch in _batches(items, readers, read, kind, most):
                # Whoever writes slower than the device works must not gather everything in memory.
                while len(writing) > len(batch):
                    yield first()
                results = _work_on(batch, work)
                for (item, content), made in zip(batch, results, strict=True):
                    future: Future[Written] = Future()
                    if isinstance(content, Exception):
                        future.set_exception(content)
                    elif isinstance(made, Exception):
                        future.set_exception(made)
                    else:
                        future = writers.submit(write, item, content, made)
                    writing.append((item, future))
            while writing:
                yield first()
        except KeyboardInterrupt:
            # What is made is written, begun or not: whether a thread was free must not decide what is lost.
            while writing:
                yield first()
            raise
        finally:
            for pool in (readers, writers):
                pool.shutdown(wait=False, cancel_futures=True)


def _batches(
    items: Sequence[Item],
    readers: ThreadPoolExecutor,
    read: Callable[[Item], Read],
    kind: Callable[[Read], Hashable],
    most: Callable[[Read], int],
) -> Iterator[list[tuple[Item, Read | Exception]]]:
    """Neighbours of one kind; what cannot be read is a batch by itself."""
    waiting, ahead = deque(items), 2
    reading: deque[tuple[Item, Future[Read]]] = deque()
    batch: list[tuple[Item, Read | Exception]] = []
    batch_kind: Hashable = None
    while waiting or reading:
        while waiting and len(reading) < ahead:
            reading.append((waiting[0], readers.submit(read, waiting.popleft())))
        item, future = reading.popleft()
        content = _outcome(future)
        own, limit = (object(), 1) if isinstance(content, Exception) else (kind(content), most(content))
        if batch and (own != batch_kind or len(batch) >= limit):
            yield batch
            batch = []
        batch.append((item, content))
        batch_kind, ahead = own, max(2, limit)
    if batch:
        yield batch


def _work_on(
    batch: list[tuple[Item, Read | Exception]], work: Callable[[list[tuple[Item, Read]]], list[Made]]
) -> list[Made | Exception]:
    good = [(item, content) for item, content in batch if not isinstance(content, Exception)]
    if len(good) < len(batch):
        return [content for _, content in batch if isinstance(content, Exception)]
    try:
        return [*work(good)]
    except Exception as error:  # one of them cannot be worked on, and must not cost the others their turn
        return [error] if len(good) == 1 else [made for one in good for made in _work_on([one], work)]


def _outcome(future: "Future[_Done]") -> _Done | Exception:
    try:
        return future.result()
    except Exception as error:
        return error
