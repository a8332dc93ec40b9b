"""Sets of images behind one protocol: what a source holds, and the pixels of each.

A source knows its files by their path relative to its root, with forward slashes, and sorts by it: nothing here hangs
on the order in which a file system lists, or on where the set lies.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_bytes
from zssr_gan.imaging.io import decode_picture
from zssr_gan.imaging.picture import Metadata, Picture, from_samples

IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
"""What a file's name ends in, in lower case, where it is an image that can be read."""

_LARGEST_FILE = 2**30  # bytes; no image within the limit of pixels comes near


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a source: its path, and whom it shows where that is known."""

    path: str
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds, before any image is opened.

    `entries`: sorted by path. `unusable`: (path, reason) of what cannot even be named or opened. `missing`: paths that
    the set's own lists name and that are not there. `notices`: what else is odd, one sentence each.
    """

    entries: tuple[Entry, ...]
    unusable: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """An image, and the SHA-256 of the bytes that it was decoded from; `file`: these bytes, where it has a file."""

    sha256: str
    picture: Picture
    file: bytes | None = None


class Source(Protocol):
    """A set of images. Cheap to make and to pickle: worker processes get their own."""

    @property
    def name(self) -> str:
        """First part of the ids of its images."""

    def listing(self) -> Listing:
        """What it holds. Raises SettingsError where the set is not there or not laid out as it should be."""

    def read(self, path: str) -> Content:
        """One image. Raises ImageError, whose message opens with the image's id."""

    def camera(self, path: str) -> str | None:
        """Which camera took an image, unique inside the source; None where its path does not tell."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Any tree of images, known by their extensions (in any case); what else is there is left out, and counted in a
    notice. No identities."""

    name: str
    root: Path

    def listing(self) -> Listing:
        """All images at any depth. Raises SettingsError where the folder cannot be opened."""
        hidden: list[str] = []
        files, unusable = files_under(self.root, self.root, hidden)
        entries = tuple(Entry(path) for path in files if Path(path).suffix.lower() in IMAGE_EXTENSIONS)
        others = [path for path in files if Path(path).suffix.lower() not in IMAGE_EXTENSIONS]
        left_out = (
            (others, "file whose name is no image's is", "files whose names are no image's are"),
            (sorted(hidden), "hidden file or folder is", "hidden files and folders are"),
        )
        notices = [
            f"{self.name}: {len(paths):,} {one if len(paths) == 1 else many} left out, such as {paths[0]}"
            for paths, one, many in left_out
            if paths
        ]
        return Listing(entries, unusable, notices=tuple(notices))

    def read(self, path: str) -> Content:
        """One image; see `read_file`."""
        return read_file(self.root / path, f"{self.name}/{path}")

    def camera(self, path: str) -> str | None:  # noqa: ARG002 - what others need
        """Not known."""
        return None


@dataclass(frozen=True, slots=True)
class Lfw:
    """The first 100 images of scikit-image's `lfw_subset`: gray faces of 25x25 px, without identities.

    The hash is that of the 625 pixels, one byte each: there are no files.
    """

    name: str

    def listing(self) -> Listing:
        """face-000 to face-099. Raises SettingsError where scikit-image is not installed."""
        return Listing(tuple(Entry(f"face-{index:03}") for index in range(len(_lfw_faces()))))

    def read(self, path: str) -> Content:
        """One face as an 8-bit picture. Raises ImageError for a path that is not listed."""
        number = path.removeprefix("face-")
        if path != f"face-{number}" or not number.isdecimal() or int(number) >= len(_lfw_faces()):
            raise ImageError(f"{self.name}/{path}: there is no such face: they are face-000 to face-099.")
        samples = _lfw_faces()[int(number)]
        return Content(sha256_bytes(samples.tobytes()), from_samples(samples[:, :, np.newaxis], Metadata()))

    def camera(self, path: str) -> str | None:  # noqa: ARG002 - what others need
        """Not known."""
        return None


@cache
def _lfw_faces() -> NDArray[np.uint8]:
    """100 25 25, the levels of an 8-bit file."""
    try:
        from skimage import data
    except ImportError as error:
        raise SettingsError(
            "the lfw faces come with scikit-image: install it with 'pip install scikit-image'."
        ) from error
    faces: NDArray[np.uint8] = np.round(data.lfw_subset()[:100] * 255).astype(np.uint8)
    return faces


def read_file(file: Path, name: str) -> Content:
    """Hash and decode an image file; `name` opens the message of every error. Raises ImageError."""
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(f"{name}: is not a file.")
        if found.st_size > _LARGEST_FILE:
            raise ImageError(f"{name}: is larger than an image can be.")
        data = file.read_bytes()
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror or error}).") from error
    return Content(sha256_bytes(data), decode_picture(data, name), data)


def files_under(
    folder: Path, root: Path, hidden: list[str] | None = None
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Files at any depth of `folder`, as sorted paths relative to `root`, and what cannot be used, with the reason.

    Hidden files and what macOS adds to archives are left out, and told to `hidden`; linked folders are followed, each
    folder once. Raises SettingsError where `folder` itself cannot be opened.
    """
    place = folder.relative_to(root).as_posix()
    try:
        found = sorted(_walk(folder, "" if place == "." else place, set(), [] if hidden is None else hidden))
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be opened as a folder of images ({error.strerror}).") from error
    return [path for path, reason in found if not reason], tuple((path, reason) for path, reason in found if reason)


def _walk(folder: Path, place: str, seen: set[tuple[int, int]], hidden: list[str]) -> Iterator[tuple[str, str]]:
    """(path, "") of each file, and (path, reason) of what cannot be used; `place` is the folder's own path."""
    facts = folder.stat()
    if (facts.st_dev, facts.st_ino) in seen:  # a link back up would never end
        return
    seen.add((facts.st_dev, facts.st_ino))
    with os.scandir(folder) as inside:  # half a million files: one call each for their kind would be felt
        files = sorted(inside, key=lambda file: file.name)
    for file in files:
        path = f"{place}/{file.name}" if place else file.name
        if file.name.startswith(".") or file.name == "__MACOSX":
            hidden.append(path.encode(errors="surrogateescape").decode(errors="backslashreplace"))
        elif not _is_text(file.name):
            yield path.encode(errors="surrogateescape").decode(errors="backslashreplace"), "its name is not UTF-8"
        elif file.is_dir():
            try:
                yield from _walk(folder / file.name, path, seen, hidden)
            except OSError as error:
                yield path, f"cannot be opened ({error.strerror})"
        else:
            yield path, ""


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# The colour photographs that scikit-image's wheel brings, cut into tiles: HR images without any download.


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
