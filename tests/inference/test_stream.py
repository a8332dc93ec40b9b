"""Reading ahead, working together, writing behind: order, batches, errors, interrupts."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from zssr_gan.inference.stream import stream


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
