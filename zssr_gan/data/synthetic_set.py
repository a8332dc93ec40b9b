"""The reader's side of a store: images by number or id, in any order, from any number of processes."""

import json
import os
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor
from torch.utils.data import Dataset

from zssr_gan.data.shard import StoredImage, StoreSettings, open_shard, read_manifest, read_settings, shard_path
from zssr_gan.errors import StoreError
from zssr_gan.imaging.picture import Metadata, from_samples

_OPEN_SHARDS: Final = 128
"""At most so many files are open in a process: a system allows some hundred."""


class SyntheticSet:
    """The images of a store, sorted by id, so that their order does not tell which process made which.

    What is there when it is made is what it shows: shards that a running writer adds come with the next one. Files are
    opened at the first image that is read from them, in each process anew, so it may be made before a `DataLoader`
    forks or spawns its workers. Hashes are not checked at each read; `check` does that.

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
        # One entry an image: (id, role, shard, place in the shard, planes).
        entries = sorted(
            (
                (image.id, image.role, sidecar.number, place, image.lr, image.sr)
                for sidecar in manifest
                for place, image in enumerate(sidecar.images)
            ),
            key=lambda entry: entry[0],
        )
        if not entries and not allow_empty:
            raise StoreError(f"{folder}: the store is empty: no image has been made yet; `make synth` makes them.")
        self._versions = {sidecar.number: sidecar.version for sidecar in manifest}
        self.ids: tuple[str, ...] = tuple(entry[0] for entry in entries)
        self.roles: tuple[str | None, ...] = tuple(entry[1] for entry in entries)
        # Arrays, not objects: forked workers count references of objects, and so would copy them all.
        self._where = np.array([entry[2:4] for entry in entries], np.int64).reshape(-1, 2)
        self._offsets = np.array([(entry[4].offset, entry[5].offset) for entry in entries], np.int64).reshape(-1, 2)
        self._shapes = np.array([(entry[4].shape, entry[5].shape) for entry in entries], np.int64).reshape(-1, 2, 3)
        self._numbers = {name: number for number, name in enumerate(self.ids)}
        if len(self._numbers) < len(self.ids):
            raise StoreError(f"{folder}: some images are there twice; `zssr-gan store check` names them.")
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> StoredImage:
        """Image `number`, counted from 0 in the order of `ids`, or from the end if negative."""
        number = self._counted(number)
        lr, sr = self.pixels(number)
        return StoredImage(self.ids[number], lr, sr, self.figures(number))

    def index(self, name: str) -> int:
        """The number of the image with the id `name`. Raises StoreError where it is not there."""
        try:
            return self._numbers[name]
        except KeyError:
            raise StoreError(f"{name}: no image of this id in {self.folder}.") from None

    def pixels(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """LR and synthetic HR of image `number` alone: `H W C` uint8, C = 1 or 3."""
        number = self._counted(number)
        shard = self._shard(number)
        lr, sr = (
            shard.read(name, int(self._offsets[number, side]), self._shapes[number, side].tolist())
            for side, name in enumerate(("lr", "sr"))
        )
        return lr, sr

    def sizes(self, number: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Rows, columns and channels of LR and synthetic HR, without reading them."""
        lr, sr = self._shapes[self._counted(number)].tolist()
        return tuple(lr), tuple(sr)

    def figures(self, number: int) -> dict[str, JsonValue]:
        """What is known of image `number`."""
        number = self._counted(number)
        figures: dict[str, JsonValue] = json.loads(self._shard(number).figures[int(self._where[number, 1])])
        return figures

    @property
    def shards(self) -> int:
        """How many files the images lie in."""
        return len(self._versions)

    def by_shard(self) -> list[int]:
        """All numbers in the order in which the images lie on the disk: for whoever reads each of them once."""
        return [int(number) for number in np.lexsort(self._where.T[::-1])]

    def version(self, number: int) -> str:
        """Of the zssr-gan that made image `number`."""
        return self._versions[int(self._where[self._counted(number), 0])]

    def close(self) -> None:
        """Close the files of this process; the next read opens them again."""
        for shard in self._open.values():
            shard.file.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def _counted(self, number: int) -> int:
        if not -len(self.ids) <= number < len(self.ids):
            raise IndexError(f"image {number} of a store of {len(self.ids)}")
        return number % len(self.ids)

    def _shard(self, number: int) -> "_OpenShard":
        if self._process != os.getpid():
            # The parent's files stay the parent's: two processes that read by one handle move each other's place.
            self._open, self._process = OrderedDict(), os.getpid()
        key = int(self._where[number, 0])
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        while len(self._open) >= _OPEN_SHARDS:
            self._open.popitem(last=False)[1].file.close()
        shard = self._open[key] = _OpenShard(shard_path(self.folder, key))
        return shard


class _OpenShard:
    """A shard's file, with what is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open_shard(path)
        try:
            self._flat = {name: self.file[name] for name in ("lr", "sr")}
            self.figures: list[str] = self.file["figures"].asstr()[:].tolist()
        except Exception as error:  # of damaged bytes HDF5 makes any error that it likes
            self.file.close()
            raise self._damaged(error) from error

    def read(self, name: str, offset: int, shape: list[int]) -> NDArray[np.uint8]:
        rows, columns, channels = shape
        try:
            pixels: NDArray[np.uint8] = self._flat[name][offset : offset + rows * columns * channels].reshape(shape)
        except Exception as error:  # as above
            raise self._damaged(error) from error
        return pixels

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(f"{self.path}: is damaged; `zssr-gan store check` says what is lost ({error}).")


# A store as a torch `Dataset` of pairs: what a generator is trained on.


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
