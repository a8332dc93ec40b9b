"""The colour photographs that scikit-image's wheel brings, cut into tiles: HR images without any download."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from zssr_gan.data.readers import Content, Entry, Listing
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_bytes
from zssr_gan.imaging.picture import Metadata, from_samples

SIDE = 128
"""Of a tile, pixels."""
NAMES = ("astronaut", "chelsea", "coffee", "motorcycle", "rocket")
"""A portrait, a cat's face, a cup, a workshop, a start: such as people take. Of the stereo pair of the motorcycle it is
the left one, as the right one shows the same."""


@dataclass(frozen=True, slots=True)
class Photographs:
    """Five colour photographs in whole tiles of 128x128 px, 64 in all, such as `coffee-1-2` (row 1, column 2).

    Each photograph counts as an identity, so that no split has its tiles on both sides. The hash is that of a tile's
    pixels, row by row, three bytes each: there are no files.
    """

    name: str

    def listing(self) -> Listing:
        """All tiles. Raises SettingsError where scikit-image is not installed."""
        entries = [
            Entry(f"{name}-{row}-{column}", name)
            for name in NAMES
            for row in range(len(_photograph(name)) // SIDE)
            for column in range(_photograph(name).shape[1] // SIDE)
        ]
        return Listing(tuple(sorted(entries, key=lambda entry: entry.path)))

    def read(self, path: str) -> Content:
        """One tile as an 8-bit picture. Raises ImageError for a path that is not listed."""
        if path not in _paths():
            raise ImageError(f"{self.name}/{path}: there is no such tile: they are astronaut-0-0 to rocket-2-4.")
        name, row, column = path.split("-")
        top, left = SIDE * int(row), SIDE * int(column)
        samples = np.ascontiguousarray(_photograph(name)[top : top + SIDE, left : left + SIDE])
        return Content(sha256_bytes(samples.tobytes()), from_samples(samples, Metadata()))

    def camera(self, path: str) -> str | None:  # noqa: ARG002 - what others need
        """Not known."""
        return None


@cache
def _paths() -> frozenset[str]:
    return frozenset(entry.path for entry in Photographs("photographs").listing().entries)


@cache
def _photograph(name: str) -> NDArray[np.uint8]:
    """H W 3."""
    try:
        from skimage import data
    except ImportError as error:
        raise SettingsError(
            "the photographs come with scikit-image: install it with 'pip install scikit-image'."
        ) from error
    read: Callable[[], NDArray[np.uint8]] = (
        (lambda: data.stereo_motorcycle()[0]) if name == "motorcycle" else getattr(data, name)
    )
    return read()
