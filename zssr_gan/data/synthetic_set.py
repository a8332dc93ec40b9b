"""The reader's side of a store: images by number or id, as a torch `Dataset` of pairs, and in numbers."""

import json
import math
import os
import statistics
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor
from torch.utils.data import Dataset

from zssr_gan.data.shard import StoredImage, open_shard, shard_path
from zssr_gan.data.store import SETTINGS, StoreSettings, read_manifest, read_settings, shard_files
from zssr_gan.errors import StoreError
from zssr_gan.imaging.picture import Metadata, from_samples

_OPEN_SHARDS: Final = 128
"""At most so many files are open in a process: a system allows some hundred."""


class SyntheticSet:
    """The images of a store, sorted by id, so that their order does not tell which process made which.

    Shards that a running writer adds later are not seen. Files are opened at the first image that is read from them, in
    each process anew, so it may be made before a `DataLoader` forks or spawns its workers. Hashes are not checked at
    each read; `check` does that.

    Args:
        folder: of the store.
        allow_empty: whether a store without images is one of length 0 instead of an error.

    Raises:
        StoreError: no store, an empty one, a damaged sidecar; on reading, a damaged file.
    """

    def __init__(self, folder: Path, *, allow_empty: bool = False) -> None:
        self.folder = folder
        self.settings: StoreSettings = read_settings(folder)
        manifest = read_manifest(folder)
        entries = sorted(
            ((image, sidecar.number, row) for sidecar in manifest for row, image in enumerate(sidecar.images)),
            key=lambda entry: entry[0].id,
        )
        if not entries and not allow_empty:
            raise StoreError(f"{folder}: the store is empty: no image has been made yet; `make synth` makes them.")
        self._versions = {sidecar.number: sidecar.version for sidecar in manifest}
        self.ids: tuple[str, ...] = tuple(image.id for image, _, _ in entries)
        self.roles: tuple[str | None, ...] = tuple(image.role for image, _, _ in entries)
        # Arrays, not objects: forked workers count references of objects, and so would copy them all.
        self._where = np.array([entry[1:] for entry in entries], np.int64).reshape(-1, 2)  # shard, row in it
        planes = [(image.lr, image.sr) for image, _, _ in entries]
        self._offsets = np.array([(lr.offset, sr.offset) for lr, sr in planes], np.int64).reshape(-1, 2)
        self._shapes = np.array([(lr.shape, sr.shape) for lr, sr in planes], np.int64).reshape(-1, 2, 3)
        self._numbers = {name: number for number, name in enumerate(self.ids)}
        if len(self._numbers) < len(self.ids):
            raise StoreError(f"{folder}: some images are there twice; `zssr-gan store check` names them.")
        self._open: OrderedDict[int, tuple[Any, list[str]]] = OrderedDict()  # HDF5 file and figures, by shard
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> StoredImage:
        """Image `number`, counted from 0 in the order of `ids`, or from the end if negative."""
        if not -len(self.ids) <= number < len(self.ids):
            raise IndexError(f"image {number} of a store of {len(self.ids)}")
        return StoredImage(self.ids[number], *self.pixels(number), self.figures(number))

    def index(self, name: str) -> int:
        """The number of the image with the id `name`. Raises StoreError where it is not there."""
        try:
            return self._numbers[name]
        except KeyError:
            raise StoreError(f"{name}: no image of this id in {self.folder}.") from None

    def pixels(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """LR and synthetic HR of image `number` alone: `H W C` uint8, C = 1 or 3."""
        file, _ = self._shard(number)
        found = []
        for name, start, shape in zip(("lr", "sr"), self._offsets[number].tolist(), self._shapes[number], strict=True):
            try:
                found.append(file[name][start : start + math.prod(shape.tolist())].reshape(shape))
            except Exception as error:  # of damaged bytes HDF5 makes any error that it likes
                raise self._damaged(number, error) from error
        return found[0], found[1]

    def sizes(self, number: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Rows, columns and channels of LR and synthetic HR, without reading them."""
        lr, sr = self._shapes[number].tolist()
        return tuple(lr), tuple(sr)

    def figures(self, number: int) -> dict[str, JsonValue]:
        """What is known of image `number`."""
        figures: dict[str, JsonValue] = json.loads(self._shard(number)[1][int(self._where[number, 1])])
        return figures

    def by_shard(self) -> list[int]:
        """All numbers in the order in which the images lie on the disk, for reading each of them once."""
        return [int(number) for number in np.lexsort(self._where.T[::-1])]

    def version(self, number: int) -> str:
        """Of the zssr-gan that made image `number`."""
        return self._versions[int(self._where[number, 0])]

    def close(self) -> None:
        """Close the files of this process; the next read opens them again."""
        for file, _ in self._open.values():
            file.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def _shard(self, number: int) -> tuple[Any, list[str]]:
        """The open file of an image's shard, and the figures in it."""
        if self._process != os.getpid():
            # The parent's files stay the parent's: two processes that read by one handle move each other's place.
            self._open, self._process = OrderedDict(), os.getpid()
        key = int(self._where[number, 0])
        if key not in self._open:
            while len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1][0].close()
            file = open_shard(shard_path(self.folder, key))
            try:
                self._open[key] = file, file["figures"].asstr()[:].tolist()
            except Exception as error:  # as in pixels
                file.close()
                raise self._damaged(number, error) from error
        self._open.move_to_end(key)
        return self._open[key]

    def _damaged(self, number: int, error: Exception) -> StoreError:
        path = shard_path(self.folder, int(self._where[number, 0]))
        return StoreError(f"{path}: is damaged; `zssr-gan store check` says what is lost ({error}).")


class Pair(NamedTuple):
    """`lr`: C H W, `sr`: C sH sW, float32 in [0, 1] on 8-bit levels; `id` of the image in its store.

    torch's own collate makes a `Pair` of batches out of pairs of one size: B C H W, B C sH sW, and a list of ids.
    """

    lr: Tensor
    sr: Tensor
    id: str


class SyntheticPairs(Dataset[Pair]):
    """The pairs of a store, in the order of their ids; safe with any number of workers, forked or spawned.

    Images of several sizes, or gray beside colour, do not fit one tensor: `DataLoader(pairs, collate_fn=list)` gives a
    list of pairs then, or cut crops of one size out of them first.

    Args:
        store: the folder of a store, or one that is open.
        roles: images with one of these roles only; None takes all.

    Raises:
        StoreError: as `SyntheticSet`; no image has any of the roles.
    """

    def __init__(self, store: Path | SyntheticSet, roles: Collection[str] | None = None) -> None:
        self.store = store if isinstance(store, SyntheticSet) else SyntheticSet(store)
        chosen = [number for number, role in enumerate(self.store.roles) if roles is None or role in roles]
        if not chosen:
            known = ", ".join(sorted({role or "none" for role in self.store.roles}))
            wanted = ", ".join(sorted(roles or ()))
            raise StoreError(f"{self.store.folder}: no image has the role {wanted}; roles there: {known}.")
        self._numbers = torch.tensor(chosen)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> Pair:
        number = int(self._numbers[place])
        lr, sr = (from_samples(array, Metadata()).pixels for array in self.store.pixels(number))
        return Pair(lr, sr, self.store.ids[number])


@dataclass(frozen=True, slots=True)
class Average:
    """Mean and median of one figure over all images that have it as a finite number."""

    images: int
    mean: float
    median: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What `zssr-gan store info` shows; counts are of images, the most frequent first.

    `size_bytes`: of shards, sidecars and settings on the disk. `sizes`: as in "32x32 to 64x64, RGB", width before
    height, LR to HR. `choices`: what the pixels are of, by the network's share of them.
    """

    folder: str
    images: int
    shards: int
    size_bytes: int
    settings_sha256: str
    versions: dict[str, int]
    labels: dict[str, int]
    roles: dict[str, int]
    sizes: dict[str, int]
    choices: dict[str, int]
    figures: dict[str, Average]


def summarise(folder: Path) -> Summary:
    """Read every image's figures, not its pixels. Raises StoreError where there is no store or it is damaged."""
    with SyntheticSet(folder, allow_empty=True) as store:
        # In the order of the disk, so that each file is opened once.
        figures = [store.figures(number) for number in store.by_shard()]
        sizes = [store.sizes(number) for number in range(len(store))]
        versions = [store.version(number) for number in range(len(store))]
    numbers: dict[str, list[float]] = {}
    for one in figures:
        for name, value in _numbers(one):
            numbers.setdefault(name, []).append(value)
    return Summary(
        folder=str(folder),
        images=len(store),
        shards=len(shard_files(folder, ".json")),
        size_bytes=sum(path.stat().st_size for path in [folder / SETTINGS, *shard_files(folder)]),
        settings_sha256=store.settings.settings_sha256,
        versions=_counted(versions),
        labels=_counted(str(one.get("label")) for one in figures),
        roles=_counted(role or "none" for role in store.roles),
        sizes=_counted(f"{lr[1]}x{lr[0]} to {sr[1]}x{sr[0]}, {'gray' if sr[2] == 1 else 'RGB'}" for lr, sr in sizes),
        choices=_counted(filter(None, map(_made_by, figures))),
        figures={
            name: Average(len(values), statistics.fmean(values), statistics.median(values))
            for name, values in numbers.items()
        },
    )


def _numbers(figures: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Figures that have a mean, dotted where they are nested; seeds are numbers that have none."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and "seed" not in key:
            yield prefix + key, float(value)


def _made_by(figures: Mapping[str, JsonValue]) -> str | None:
    choice = figures.get("choice")
    if isinstance(choice, str):
        return choice
    share = choice.get("share") if isinstance(choice, Mapping) else None
    return None if share is None else {0.0: "back-projection", 1.0: "network"}.get(float(str(share)), "both")


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
