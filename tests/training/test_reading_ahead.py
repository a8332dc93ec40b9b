"""Images read ahead: each once while there is room, errors with their image, what is never asked for given up."""

import threading

import pytest
import torch
from torch import Tensor

from zssr_gan.errors import ImageError
from zssr_gan.training.reading_ahead import ReadingAhead


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


class TestReadingAhead:
    @pytest.mark.parametrize(
        ("room", "asked", "read"),
        [
            (10_000, (1, 2, 3, 2, 1), [1, 2, 3]),
            (2_500, (1, 2, 1, 3, 1, 2), [1, 2, 3, 2]),
            (10, (1, 1, 2, 1), [1, 2, 1]),
        ],
        ids=["once", "the one asked for longest ago goes first", "one larger than the room is kept alone"],
    )
    def test_what_is_read(self, room: int, asked: tuple[int, ...], read: list[int]) -> None:
        shelf = Shelf()
        with ReadingAhead(shelf, room) as images:
            for place in asked:
                assert (images.image(place) == place).all()
        assert shelf.read == read

    def test_an_error_comes_with_the_image(self) -> None:
        with ReadingAhead(Shelf(), 10_000) as images:
            images.expect([13, 4])
            assert (images.image(4) == 4).all()
            for _ in range(2):
                with pytest.raises(ImageError, match=r"set/13\.png"):
                    images.image(13)

    def test_what_is_expected_is_read_once_and_given_up_at_last(self) -> None:
        shelf = Shelf()
        with ReadingAhead(shelf, 10_000) as images:
            images.expect([1, 2, 1])
            for place in (1, 2, 1):
                images.image(place)
            assert sorted(shelf.read) == [1, 2]
            for place in range(3, 23):
                images.expect([place])
            assert len(images._coming) == 4
            for place in (4, 22):
                assert (images.image(place) == place).all()
