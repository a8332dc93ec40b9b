"""Items through a worker that takes several at once, with reading ahead of it and writing behind it.

The work itself stays in the calling thread, one batch at a time; threads only read and write.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Written = TypeVar("Written")
_Done = TypeVar("_Done")

_THREADS = 4


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
