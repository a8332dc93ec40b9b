"""Many items through one worker that takes several at once, with reading ahead of it and writing behind it.

The work itself stays in the calling thread, one batch at a time; threads only read and write.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Kept = TypeVar("Kept")
_Done = TypeVar("_Done")

_THREADS = 4


class Stream(Generic[Item, Read, Made, Kept]):
    """How items are read, worked on together and written.

    Args:
        read: in a thread.
        kind: what items must agree in to be worked on together.
        most: how many of that one's kind are worked on together at the most.
        work: on items of one kind, in the calling thread. Where it fails for several, each is tried alone.
        write: in a thread.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        kind: Callable[[Read], Hashable],
        most: Callable[[Read], int],
        work: Callable[[list[tuple[Item, Read]]], list[Made]],
        write: Callable[[Item, Read, Made], Kept],
    ) -> None:
        self.read, self.kind, self.most, self.work, self.write = read, kind, most, work, write

    def run(self, items: Sequence[Item]) -> Iterator[tuple[Item, Kept | Exception]]:
        """Yields each item in order with what was kept of it, or with its error.

        Interrupted, it writes what is made, yields that, and passes the interrupt on.
        """
        written: deque[tuple[Item, Future[Kept]]] = deque()
        with ThreadPoolExecutor(_THREADS) as readers, ThreadPoolExecutor(_THREADS) as writers:
            try:
                for batch in self._batches(items, readers):
                    # Whoever writes slower than the device works must not gather everything in memory.
                    while len(written) > len(batch):
                        item, future = written[0]
                        kept = _outcome(future)
                        written.popleft()  # now: what an interrupt finds waiting must still be told
                        yield item, kept
                    for (item, read), made in zip(batch, self._made(batch), strict=True):
                        if isinstance(read, Exception):
                            written.append((item, _failed(read)))
                        elif isinstance(made, Exception):
                            written.append((item, _failed(made)))
                        else:
                            written.append((item, writers.submit(self.write, item, read, made)))
                while written:
                    item, future = written[0]
                    kept = _outcome(future)
                    written.popleft()  # now: what an interrupt finds waiting must still be told
                    yield item, kept
            except KeyboardInterrupt:
                # What is made is written, begun or not: whether a thread was free must not decide what is lost.
                for item, future in written:
                    kept = _outcome(future)
                    yield item, kept
                raise
            finally:
                for pool in (readers, writers):
                    pool.shutdown(wait=False, cancel_futures=True)

    def _batches(
        self, items: Sequence[Item], readers: ThreadPoolExecutor
    ) -> Iterator[list[tuple[Item, Read | Exception]]]:
        """Neighbours of one kind; what cannot be read is a batch by itself."""
        waiting, ahead = deque(items), 2
        reading: deque[tuple[Item, Future[Read]]] = deque()
        batch: list[tuple[Item, Read | Exception]] = []
        kind: Hashable = None
        while waiting or reading:
            while waiting and len(reading) < ahead:
                reading.append((waiting[0], readers.submit(self.read, waiting.popleft())))
            item, future = reading.popleft()
            read = _outcome(future)
            own = object() if isinstance(read, Exception) else self.kind(read)
            most = 1 if isinstance(read, Exception) else self.most(read)
            if batch and (own != kind or len(batch) >= most):
                yield batch
                batch = []
            batch.append((item, read))
            kind, ahead = own, max(2, most)
        if batch:
            yield batch

    def _made(self, batch: list[tuple[Item, Read | Exception]]) -> list[Made | Exception]:
        good = [(item, read) for item, read in batch if not isinstance(read, Exception)]
        if len(good) < len(batch):
            return [read for _, read in batch if isinstance(read, Exception)]
        try:
            return [*self.work(good)]
        except Exception as error:  # one of them cannot be worked on, and must not cost the others their turn
            if len(good) == 1:
                return [error]
            return [made for one in good for made in self._made([one])]


def _failed(error: Exception) -> "Future[_Done]":
    future: Future[_Done] = Future()
    future.set_exception(error)
    return future


def _outcome(future: "Future[_Done]") -> _Done | Exception:
    try:
        return future.result()
    except Exception as error:
        return error
