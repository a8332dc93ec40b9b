"""Images read ahead: each once while it is kept, no more than there is room for, errors where they are asked for."""

import threading

import pytest
import torch
from torch import Tensor

from zssr_gan.data.prepared import ReadingAhead
from zssr_gan.errors import ImageError


class Shelf:
    """Images of 1,200 bytes, and which were read."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, place: int) -> Tensor:
        with self.lock:
            self.read.append(place)
        if place == 13:
            raise ImageError("set/13.png: is damaged or truncated.")
        return torch.full((3, 20, 20), place, dtype=torch.uint8)


def test_each_is_read_once_while_there_is_room() -> None:
    shelf = Shelf()
    with ReadingAhead(shelf, 10_000) as images:
        images.expect([1, 2, 1])
        for place in (1, 2, 3, 2, 1):
            assert (images.image(place) == place).all()
    assert sorted(shelf.read) == [1, 2, 3]


def test_what_was_not_asked_for_longest_goes_first() -> None:
    shelf = Shelf()
    with ReadingAhead(shelf, 2_500) as images:
        for place in (1, 2, 1, 3, 1, 2):
            images.image(place)
    assert shelf.read == [1, 2, 3, 2]


def test_one_larger_than_the_room_is_kept_alone() -> None:
    shelf = Shelf()
    with ReadingAhead(shelf, 10) as images:
        for place in (1, 1, 2, 1):
            images.image(place)
    assert shelf.read == [1, 2, 1]


def test_an_error_comes_with_the_image() -> None:
    with ReadingAhead(Shelf(), 10_000) as images:
        images.expect([13, 4])
        assert (images.image(4) == 4).all()
        for _ in range(2):
            with pytest.raises(ImageError, match=r"set/13\.png"):
                images.image(13)


def test_what_nobody_asks_for_is_given_up() -> None:
    shelf = Shelf()
    with ReadingAhead(shelf, 10_000) as images:
        for place in range(20):
            images.expect([place])
        assert len(images._coming) == 4
        assert (images.image(2) == 2).all()
        assert (images.image(19) == 19).all()
