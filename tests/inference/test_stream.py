"""Reading ahead, working together or at once, writing behind: order, batches, errors, interrupts."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from zssr_gan.inference.stream import at_once, stream
from zssr_gan.progress import Progress


def even(number: int) -> int:
    return number


def run(
    items: Sequence[int],
    batches: list[list[int]] | None = None,
    most: int = 3,
    read: Callable[[int], int] = even,
    work: Callable[[list[tuple[int, int]]], list[int]] | None = None,
    write: Callable[[int, int, int], Any] = lambda item, read, made: (item, read, made),
) -> Iterator[tuple[int, Any]]:
    """Numbers below 100 are of one kind; what is made of one is its tenfold."""

    def tenfold(batch: list[tuple[int, int]]) -> list[int]:
        if batches is not None:
            batches.append([item for item, _ in batch])
        return [10 * value for _, value in batch]

    return stream(
        items, read=read, kind=lambda value: value < 100, most=lambda _: most, work=work or tenfold, write=write
    )


def test_neighbours_of_one_kind_go_together_and_come_in_order() -> None:
    batches: list[list[int]] = []
    items = [1, 2, 3, 4, 500, 5, 6]
    found = [*run(items, batches)]
    assert [item for item, _ in found] == items
    assert all(kept == (item, item, 10 * item) for item, kept in found)
    assert batches == [[1, 2, 3], [4], [500], [5, 6]]


def test_an_error_is_that_of_its_item_alone() -> None:
    def read(item: int) -> int:
        if item == 2:
            raise OSError("unreadable")
        return item

    def work(batch: list[tuple[int, int]]) -> list[int]:
        if any(item == 4 for item, _ in batch):
            raise ValueError("unworkable")
        return [10 * value for _, value in batch]

    def write(item: int, _read: int, made: int) -> int:
        if item == 6:
            raise OSError("disk full")
        return made

    found = dict(run(range(8), read=read, work=work, write=write))
    assert {item: kept for item, kept in found.items() if not isinstance(kept, Exception)} == {
        item: 10 * item for item in (0, 1, 3, 5, 7)
    }
    assert [str(found[item]) for item in (2, 4, 6)] == ["unreadable", "unworkable", "disk full"]


def test_an_interrupt_tells_what_was_being_written() -> None:
    written: list[int] = []

    def write(item: int, _read: int, _made: int) -> int:
        time.sleep(0.05)
        written.append(item)
        return item

    def work(batch: list[tuple[int, int]]) -> list[int]:
        if batch[0][0] >= 4:
            raise KeyboardInterrupt
        return [value for _, value in batch]

    told = []

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - what came before it counts
        for item, _ in run(range(8), most=2, work=work, write=write):
            told.append(item)
    assert told == sorted(written) == [0, 1, 2, 3]


def test_no_more_is_held_than_a_few_batches() -> None:
    """However slow the disk: of a hundred items few are read and not yet written."""
    held, most = 0, 0
    lock = threading.Lock()

    def count(by: int) -> None:
        nonlocal held, most
        with lock:
            held += by
            most = max(most, held)

    def read(item: int) -> int:
        count(1)
        return item

    def write(item: int, _read: int, _made: int) -> int:
        time.sleep(0.001)
        count(-1)
        return item

    assert len([*run(range(100), read=read, write=write)]) == 100
    assert most <= 12


class TestAtOnce:
    def test_several_are_in_work_and_come_in_order(self) -> None:
        met, begun = threading.Barrier(3, timeout=60), list[int]()

        def work(item: int, _: object) -> int:
            met.wait()  # passes when three are in work
            time.sleep(0.01 * (3 - item % 3))
            return 10 * item

        assert [*at_once(range(6), 3, work, on_start=begun.append)] == [0, 10, 20, 30, 40, 50]
        assert begun == [0, 1, 2, 3, 4, 5]

    def test_no_more_are_in_memory_than_are_taken(self) -> None:
        begun: list[int] = []
        made = at_once(range(100), 2, lambda item, _: begun.append(item))
        next(made)
        time.sleep(0.05)
        assert len(begun) <= 4
        made.close()

    def test_steps_are_those_of_the_first_that_is_not_done(self) -> None:
        seen, here = list[tuple[float, int]](), threading.get_ident()
        reported = [threading.Event(), threading.Event()]  # steps of the first

        def work(item: int, step: Callable[[Progress], None]) -> None:
            for iteration in range(2):
                step(Progress("training", iteration, 2, float(item), 0.1))
                assert item == 1 or reported[iteration].wait(60)

        def see(progress: Progress) -> None:
            assert threading.get_ident() == here
            seen.append((progress.loss, progress.iteration))
            if progress.loss == 0:
                reported[progress.iteration].set()

        assert len([*at_once(range(2), 2, work, on_progress=see)]) == 2
        assert seen[:2] == [(0, 0), (0, 1)]
        assert seen == sorted(seen)

    def test_an_interrupt_stops_the_work_and_yields_what_is_made(self) -> None:
        stopped, second = list[int](), threading.Event()

        def work(item: int, step: Callable[[Progress], None]) -> int:
            if item == 1:
                second.set()
                return item
            try:
                while True:
                    step(Progress("training", 0, 1, 0.0, 0.0))
                    time.sleep(0.01)
            except KeyboardInterrupt:
                stopped.append(item)
                raise

        def interrupt(_: Progress) -> None:
            assert second.wait(60)
            raise KeyboardInterrupt

        made = at_once(range(9), 2, work, on_progress=interrupt)
        assert next(made) == 1
        with pytest.raises(KeyboardInterrupt):
            next(made)
        assert stopped[0] in (0, 2)
        assert set(stopped) <= {0, 2}
