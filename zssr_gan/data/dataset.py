"""A store as a torch `Dataset` of pairs: what a generator is trained on."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import StoreError
from zssr_gan.imaging.picture import Metadata, from_samples


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
