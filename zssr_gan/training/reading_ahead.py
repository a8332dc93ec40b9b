"""Images read and decoded by threads before the training asks for them."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Lock
from typing import Self

from torch import Tensor

_EXPECTED = 4  # calls: a training's networks and validation take turns

_THREADS = 2  # decoding leaves Python free; more would take cores from the training


class ReadingAhead:
    """Images by place, read and decoded during the training, and kept while there is room.

    A set of photographs may be larger than the memory: what was asked for last is kept. That changes the time alone,
    never a pixel. A context manager, which ends its threads.

    Args:
        read: an image on 8-bit levels, uint8 `C H W`, by its place; called from several threads.
        room: bytes of images that are kept, at the least the newest one.
    """

    def __init__(self, read: Callable[[int], Tensor], room: int) -> None:
        self._read, self.room = read, room
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._coming: dict[int, Future[Tensor]] = {}
        self._bytes = 0
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(_THREADS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def expect(self, places: Iterable[int]) -> None:
        """Begin to read images that will soon be asked for.

        What was expected and never asked for is given up, a few times as many images later.
        """
        wanted = dict.fromkeys(places)
        with self._lock:
            for place in wanted:
                if place not in self._kept and place not in self._coming:
                    self._coming[place] = self._threads.submit(self._read, place)
            for place in list(self._coming)[: -_EXPECTED * max(1, len(wanted))]:
                self._coming.pop(place).cancel()

    def image(self, place: int) -> Tensor:
        """An image, uint8 `C H W`; waits until it is there. Raises what reading it raises."""
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
            coming = self._coming.get(place)
        try:
            levels = self._read(place) if coming is None else coming.result()
        except CancelledError:  # given up in this very moment
            levels = self._read(place)
        with self._lock:
            self._coming.pop(place, None)
            if place not in self._kept:
                self._kept[place] = levels
                self._bytes += levels.nbytes
            while self._bytes > self.room and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes
        return levels
