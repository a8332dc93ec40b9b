"""Sets of images: what a source holds, and the pixels of each image.

A source knows its files by their path relative to its root, with forward slashes, and sorts by it: nothing depends on
the order in which a file system lists, or on where the set lies.
"""

import errno
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_bytes
from zssr_gan.imaging.endings import IMAGE_EXTENSIONS
from zssr_gan.imaging.io import decode_picture, read_image_bytes
from zssr_gan.imaging.picture import Metadata, Picture, from_samples
from zssr_gan.settings.data import SourceSettings

_NO_PICTURES = frozenset({
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".xml", ".html", ".htm", ".css",
    ".js", ".py", ".sh", ".ini", ".cfg", ".log", ".db", ".xmp", ".lnk", ".url", ".sha256", ".md5", ".npy", ".npz",
    ".mat", ".h5", ".hdf5", ".safetensors", ".pth", ".pt", ".mp3", ".wav",
})  # fmt: skip
"""Endings of files that are neither pictures nor videos."""

HIDDEN = "is hidden"
FOLDER = "is a folder"
BROKEN_LINK = "is a broken link"
LOOP_OF_LINKS = "is a loop of links"
NOT_READ = "is not of a kind that is read"


def walk(folder: Path, *, recursive: bool = True) -> Iterator[tuple[str, str]]:
    """Each file in a folder as (path, ""), and what cannot be used as (path, reason), such as `HIDDEN`.

    Paths are relative to `folder`, with forward slashes. A folder's files come before its folders, each by name; linked
    folders are followed, each folder once, and a link that leads nowhere is `BROKEN_LINK` or `LOOP_OF_LINKS`. What
    macOS adds to archives is hidden; without `recursive` a folder is a `FOLDER`. Raises OSError where `folder` itself
    cannot be listed.
    """
    seen: set[tuple[int, int]] = set()

    def inside(place: str) -> Iterator[tuple[str, str]]:
        status = (folder / place).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back up would never end
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder / place) as found:  # half a million files: a call each for their kind would be felt
            entries = sorted(_leads_to(entry) for entry in found)
        for is_folder, name, problem in entries:
            path = f"{place}/{name}" if place else name
            if name.startswith(".") or name == "__MACOSX":
                yield path, HIDDEN
            elif not (is_folder and recursive):
                yield path, problem
            else:
                try:
                    yield from inside(path)
                except OSError as error:
                    yield path, f"cannot be opened ({error.strerror})"

    return inside("")


def _leads_to(entry: os.DirEntry[str]) -> tuple[bool, str, str]:
    """Whether an entry is a folder, or a link to one; its name; and why it is no file, or nothing."""
    try:
        if entry.is_symlink():  # of others no call is needed
            entry.stat()
        return entry.is_dir(), entry.name, FOLDER if entry.is_dir() else ""
    except OSError as error:
        return False, entry.name, LOOP_OF_LINKS if error.errno == errno.ELOOP else BROKEN_LINK


def images_in(folder: Path, *, recursive: bool = True) -> tuple[list[Path], dict[str, list[str]]]:
    """The images in a folder, and the paths within it of what is left out, by reason: `NOT_READ` or one of `walk`'s.

    Images are known by their endings. Broken links and folders that cannot be opened are among them, so that each fails
    by name; without `recursive` a broken link without an image's name, which may have led to a folder, is left out.
    Raises ImageError where `folder` itself cannot be listed.
    """
    images, others = list[Path](), dict[str, list[str]]()
    try:
        for path, problem in walk(folder, recursive=recursive):
            file, is_image = folder / path, Path(path).suffix.lower() in IMAGE_EXTENSIONS
            left_out = others.setdefault(problem or NOT_READ, [])
            if problem == HIDDEN and not (is_image or file.is_dir()):
                continue
            if problem in (HIDDEN, FOLDER) or (problem and not is_image and not recursive):
                left_out.append(path)
            elif problem or (is_image and file.is_file()):
                images.append(file)
            elif _may_be_picture(file):
                left_out.append(path)
    except OSError as error:
        raise ImageError(f"{folder}: the folder cannot be listed ({error.strerror})") from error
    return images, {why: paths for why, paths in others.items() if paths}


def _may_be_picture(file: Path) -> bool:
    """Whether a file may be a picture or a video: by its ending, or, without one, by bytes that are no text."""
    if file.suffix:
        return file.suffix.lower() not in _NO_PICTURES
    try:
        with file.open("rb") as opened:
            return file.is_file() and b"\0" in opened.read(1024)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds, before any image is opened.

    `entries`: the path of each image, sorted, and the identity of its person, None where that is not known.
    `unusable`: (path, reason) of what cannot even be named or opened. `missing`: paths that the set's own lists name
    and that are not there. `notices`: what else is odd, one sentence each.
    """

    entries: Mapping[str, str | None]
    unusable: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """An image, and the SHA-256 of the bytes that it was decoded from; `file`: these bytes, where it has a file."""

    sha256: str
    picture: Picture
    file: bytes | None = None


@dataclass(frozen=True, slots=True)
class Source(ABC):
    """A set of images, as the settings name it. Cheap to make and to pickle: worker processes get their own."""

    settings: SourceSettings

    @property
    def name(self) -> str:
        """First part of its images' ids."""
        return self.settings.label

    @property
    def root(self) -> Path:
        """Folder of the images."""
        return Path(self.settings.root or "").expanduser()

    @abstractmethod
    def listing(self) -> Listing:
        """What it holds. Raises SettingsError where the set is not there or not laid out as it should be."""

    @abstractmethod
    def read(self, path: str) -> Content:
        """One image. Raises ImageError, whose message opens with the image's id."""

    def camera(self, path: str) -> str | None:  # noqa: ARG002 - of a source whose paths tell it
        """Which camera took an image, unique inside the source; None where its path does not say it."""
        return None


@dataclass(frozen=True, slots=True)
class Folder(Source):
    """Any tree of images, known by their extensions (in any case); what else is there is left out, and counted in a
    notice. No identities."""

    def listing(self) -> Listing:
        """All images at any depth. Raises SettingsError where the folder cannot be opened."""
        files, hidden, unusable = files_under(self.root)
        images = [path for path in files if Path(path).suffix.lower() in IMAGE_EXTENSIONS]
        others = sorted({*files} - {*images})
        left_out = (
            (others, ("file whose name is no image's is", "files whose names are no image's are")),
            (hidden, ("hidden file or folder is", "hidden files and folders are")),
        )
        notices = (
            f"{self.name}: {len(paths):,} {what[len(paths) > 1]} left out, such as {paths[0]}"
            for paths, what in left_out
            if paths
        )
        return Listing(dict.fromkeys(images), unusable, notices=tuple(notices))

    def read(self, path: str) -> Content:
        """One image; see `read_file`."""
        return read_file(self.root / path, f"{self.name}/{path}")


@dataclass(frozen=True, slots=True)
class BuiltIn(Source):
    """Images that scikit-image ships. There are no files: the hash is that of the pixels, row by row.

    `lfw`: the first 100 images of its `lfw_subset`, gray faces of 25x25 px without identities, as "face-007".
    `photographs`: five colour photographs in whole tiles of 128x128 px, 64 in all, as "coffee-1-2" (row 1, column 2).
    Each photograph counts as an identity, so that no split has its tiles on both sides.
    """

    def listing(self) -> Listing:
        """All images. Raises SettingsError where scikit-image is not installed."""
        kind = self.settings.kind
        paths = sorted(_built_in(kind))
        return Listing({path: None if kind == "lfw" else path.partition("-")[0] for path in paths})

    def read(self, path: str) -> Content:
        """One image as an 8-bit picture. Raises ImageError for a path that is not listed."""
        images = _built_in(self.settings.kind)
        if path not in images:
            raise ImageError(f"{self.name}/{path}: there is no such image: they are {min(images)} to {max(images)}")
        return Content(sha256_bytes(images[path].tobytes()), from_samples(images[path], Metadata()))


SIDE = 128
"""Of a tile of a photograph, pixels."""


@cache
def _built_in(kind: str) -> Mapping[str, NDArray[np.uint8]]:
    """H W C, the levels of an 8-bit file, by path."""
    try:
        from skimage import data
    except ImportError as error:
        raise SettingsError(f"the {kind} come with scikit-image: install it with 'pip install scikit-image'") from error
    if kind == "lfw":
        faces = np.round(data.lfw_subset()[:100, :, :, np.newaxis] * 255).astype(np.uint8)
        return {f"face-{number:03}": face for number, face in enumerate(faces)}
    # Such as people take: a portrait, a cat's face, a cup, a workshop (the left image of a stereo pair), a start.
    photographs = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    photographs["motorcycle"] = data.stereo_motorcycle()[0]
    return {
        f"{name}-{row}-{column}": np.ascontiguousarray(photo[SIDE * row :, SIDE * column :][:SIDE, :SIDE])
        for name, photo in photographs.items()
        for row in range(photo.shape[0] // SIDE)
        for column in range(photo.shape[1] // SIDE)
    }


def read_file(file: Path, name: str) -> Content:
    """Hash and decode an image file; `name` opens the message of every error. Raises ImageError."""
    data = read_image_bytes(file, name=name)
    return Content(sha256_bytes(data), decode_picture(data, name), data)


def files_under(folder: Path) -> tuple[list[str], list[str], tuple[tuple[str, str], ...]]:
    """Files at any depth, hidden ones, and (path, reason) of what cannot be used; each sorted, relative to `folder`.

    Raises SettingsError where `folder` itself cannot be opened.
    """
    files, hidden, unusable = [], [], []
    try:
        for path, problem in walk(folder):
            text = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
            if problem == HIDDEN:
                hidden.append(text)
            elif problem or text != path:
                unusable.append((text, problem or "its name is not UTF-8"))
            else:
                files.append(path)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be opened as a folder of images ({error.strerror})") from error
    return sorted(files), sorted(hidden), tuple(sorted(unusable))


Found = tuple[str, int, int] | str
"""An image's (SHA-256, width, height), or why it cannot be read."""

OnImages = Callable[[str, int, int | None], None]
"""Called with a source's name, how many of its images are done, and of how many; None while they are listed."""

# Opening an image of 20x16 px takes 0.3 ms, nearly all of it decoding, and threads decode one at a time.
_BATCH = 256  # images a task of a process
_WORTH_PROCESSES = 20_000  # images; below, one process is done before others have started
_MOST_PROCESSES = 16


def examine(
    source: Source, paths: Sequence[str], on_images: OnImages = lambda *_: None, processes: int | None = None
) -> Iterator[Found]:
    """Open each image, in order, and yield its hash and size, or why it cannot be read; pixels are dropped.

    Args:
        source: of the images.
        paths: of the images in it.
        on_images: called often.
        processes: how many share the work; default: by the number of images and cores.

    Raises:
        ImageError: a process that shared the work was ended from outside.
    """
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = 1 if len(paths) < _WORTH_PROCESSES else min(cores, _MOST_PROCESSES)
    look = partial(_look, source)
    with ExitStack() as stack:
        every: Iterable[Found] = map(look, paths)
        if processes > 1:
            # spawn: a fork of a process with threads (torch's, a progress bar's) can hang. A terminal sends Ctrl-C to
            # all processes; the others ignore it, and this one ends them.
            ignore = (signal.SIGINT, signal.SIG_IGN)
            pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=signal.signal, initargs=ignore)
            stack.callback(pool.shutdown, cancel_futures=True)
            every = pool.map(look, paths, chunksize=_BATCH)
        try:
            for done, found in enumerate(every, 1):
                yield found
                if done % 16 == 0 or done == len(paths):
                    on_images(source.name, done, len(paths))
        except BrokenProcessPool as error:
            raise ImageError("a process that read images was ended, often for lack of memory: run it again") from error


def _look(source: Source, path: str) -> Found:
    try:
        content = source.read(path)
    except ImageError as error:
        return error.reason
    height, width = content.picture.pixels.shape[1:]
    return content.sha256, width, height
