"""The reader's side of a store: images by number or id, as a torch `Dataset` of pairs, and in numbers."""

import json
import math
import os
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor
from torch.utils.data import Dataset

from zssr_gan.data.shard import SidecarImage, StoredImage, shard_path
from zssr_gan.data.store import SETTINGS, StoreSettings, read_manifest, read_settings, shard_files
from zssr_gan.errors import StoreError
from zssr_gan.imaging.picture import Metadata, from_samples

_OPEN_SHARDS: Final = 128
"""At most so many files are open in a process: a system allows some hundred."""


class SyntheticSet:
    """The images of a store, sorted by id, so that their order does not depend on which process made which.

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
        planes = [[(plane.offset, *plane.shape) for plane in (image.lr, image.sr)] for image, _, _ in entries]
        self._planes = np.array(planes, np.int64).reshape(-1, 2, 4)
        self._numbers = {name: number for number, name in enumerate(self.ids)}
        if len(self._numbers) < len(self.ids):
            raise StoreError(f"{folder}: some images are there twice; `zssr-gan store check` names them.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> StoredImage:
        """Image `number`, counted from 0 in the order of `ids`, or from the end if negative."""
        if not -len(self.ids) <= number < len(self.ids):
            raise IndexError(f"image {number} of a store of {len(self.ids)}")
        return StoredImage(self.ids[number], *self.pixels(number), self.figures(number))

    def index(self, name: str) -> int:
        """The number of the image with the id `name`. Raises StoreError where it is not there."""
        if name not in self._numbers:
            raise StoreError(f"{name}: no image of this id in {self.folder}.")
        return self._numbers[name]

    def with_roles(self, roles: Collection[str] | None) -> list[int]:
        """Numbers of the images that have one of these roles, None: of all. Raises StoreError where there is none."""
        chosen = [number for number, role in enumerate(self.roles) if roles is None or role in roles]
        if not chosen:
            known = ", ".join(sorted({role or "none" for role in self.roles}))
            wanted = ", ".join(sorted(roles or ()))
            raise StoreError(f"{self.folder}: no image has the role {wanted}; roles there: {known}.")
        return chosen

    def by_shard(self) -> list[int]:
        """All numbers in the order in which the images lie on the disk, for reading each of them once."""
        return [int(number) for number in np.lexsort(self._where.T[::-1])]

    def pixels(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """LR and synthetic HR of image `number` alone: `H W C` uint8, C = 1 or 3."""
        planes = zip(("lr", "sr"), self._planes[number].tolist(), strict=True)
        with self._shard(number) as (file, _):
            lr, sr = (file[name][at : at + math.prod(shape)].reshape(shape) for name, (at, *shape) in planes)
            return lr, sr

    def tensors(self, number: int) -> tuple[Tensor, Tensor]:
        """LR and synthetic HR of image `number`: C H W float32 in [0, 1], on 8-bit levels."""
        lr, sr = (from_samples(array, Metadata()).pixels for array in self.pixels(number))
        return lr, sr

    def figures(self, number: int) -> dict[str, JsonValue]:
        """What is known of image `number`."""
        with self._shard(number) as (_, figures):
            return dict(json.loads(figures[int(self._where[number, 1])]))

    def version(self, number: int) -> str:
        """Of the zssr-gan that made image `number`."""
        return self._versions[int(self._where[number, 0])]

    def close(self) -> None:
        """Close the files of this process; the next read opens them again."""
        self._opened.cache_clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    @cached_property
    def _opened(self) -> Any:
        return lru_cache(_OPEN_SHARDS)(_open_shard)  # what it drops, HDF5 closes

    @contextmanager
    def _shard(self, number: int) -> Iterator[tuple[Any, list[str]]]:
        """The open file of an image's shard and the figures in it, for reading."""
        path = shard_path(self.folder, int(self._where[number, 0]))
        try:
            yield self._opened(path, os.getpid())
        except Exception as error:  # of damaged bytes HDF5 makes any
            raise StoreError(f"{path}: is damaged; `zssr-gan store check` says what is lost ({error}).") from error


def _open_shard(path: Path, _process: int) -> tuple[Any, list[str]]:
    """A shard's HDF5 file and the figures in it. Two processes that read by one handle would move each other's place.

    Shards never change, so HDF5's own locks protect nothing, and some network disks refuse them.
    """
    file = h5py.File(path, "r", locking=False)
    return file, file["figures"].asstr()[:].tolist()


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
        self._numbers = torch.tensor(self.store.with_roles(roles))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> Pair:
        number = int(self._numbers[place])
        return Pair(*self.store.tensors(number), self.store.ids[number])


def summarise(folder: Path) -> dict[str, Any]:
    """What is known of a store's images, read from their figures, not their pixels.

    Counts are of images, the most frequent first. `size_bytes`: of shards, sidecars and settings on the disk. `sizes`:
    as in "32x32 to 64x64, RGB", width before height, LR to HR. `choices`: what the pixels are of, by the network's
    share of them. `figures`: mean and median of each over all images that have it as a finite number.

    Raises StoreError where there is no store or it is damaged.
    """
    with SyntheticSet(folder, allow_empty=True) as store:
        # In the order of the disk, so that each file is opened once.
        figures = [store.figures(number) for number in store.by_shard()]
    manifest = read_manifest(folder)
    images = [image for sidecar in manifest for image in sidecar.images]
    numbers: dict[str, list[float]] = {}
    for name, value in (pair for one in figures for pair in _numbers(one)):
        numbers.setdefault(name, []).append(value)
    return {
        "folder": str(folder),
        "images": len(images),
        "shards": len(manifest),
        "size_bytes": sum(path.stat().st_size for path in [folder / SETTINGS, *shard_files(folder)]),
        "settings_sha256": store.settings.settings_sha256,
        "versions": _counted(sidecar.version for sidecar in manifest for _ in sidecar.images),
        "labels": _counted(str(one.get("label")) for one in figures),
        "roles": _counted(image.role or "none" for image in images),
        "sizes": _counted(map(_size, images)),
        "choices": _counted(map(_choice, figures)),
        "figures": {
            name: {"images": len(values), "mean": statistics.fmean(values), "median": statistics.median(values)}
            for name, values in numbers.items()
        },
    }


def _size(image: SidecarImage) -> str:
    (height, width, channels), (rows, columns, _) = image.lr.shape, image.sr.shape
    return f"{width}x{height} to {columns}x{rows}, {'gray' if channels == 1 else 'RGB'}"


def _choice(figures: Mapping[str, Any]) -> str:
    share = figures.get("choice", {}).get("share")
    return {0.0: "back-projection", 1.0: "network", None: ""}.get(share, "both")


def _numbers(figures: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Figures that have a mean, dotted where they are nested; seeds are numbers that have none."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and "seed" not in key:
            yield prefix + key, float(value)


def _counted(values: Iterable[str]) -> dict[str, int]:
    """How often each text comes, the most frequent first; empty ones are not counted."""
    return dict(sorted(Counter(filter(None, values)).items(), key=lambda item: (-item[1], item[0])))
