"""Batches by number: which images, which patch of each and turned how depend on seed, stream and number alone.

No state passes from batch to batch, so a resumed run draws what the uninterrupted one would have, and each of several
processes takes its share of the same batch.

Shapes: B images, C channels, H W rows and columns of an LR patch, s the scale.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.devices import upload
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.colour import from_levels
from zssr_gan.imaging.resize import Size
from zssr_gan.seeds import derive_seed

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8] | None, int]
"""An LR patch `C H W`, its HR patch `C sH sW` where there is one, and the place of its camera."""


Window = tuple[slice, slice]
"""Rows and columns of a part of an image."""


def enlarged(at: Window, scale: int) -> Window:
    """The window in the HR image of one in the LR image."""
    rows, columns = (slice(scale * one.start, scale * one.stop) for one in at)
    return rows, columns


class PatchSource:
    """Images that a `Sampler` cuts patches out of, by place.

    `ids`: of each image. `cameras`: places in a list of downscales; of each image its own, or all that patches draw
    from. `turns`: whether patches may be flipped and turned.
    """

    ids: tuple[str, ...]
    cameras: tuple[int, ...]
    turns: bool

    def __len__(self) -> int:
        """Places."""
        return len(self.ids)

    @property
    def pixels_sha256(self) -> str:
        """Whether two sets are the same pixels."""
        raise NotImplementedError

    def size(self, place: int) -> Size:
        """Rows and columns of the LR image."""
        raise NotImplementedError

    def order(self, draws: np.random.Generator) -> NDArray[np.int64]:
        """All places once, in a drawn order: a pass."""
        return draws.permutation(len(self))

    def corner(self, place: int, at: tuple[float, float], side: Size) -> tuple[int, int]:
        """Top and left of a patch of `side`, LR pixels, for draws in [0, 1): any place where it fits."""
        top, left = (int(share * (n - m + 1)) for share, n, m in zip(at, self.size(place), side, strict=True))
        return top, left

    def expect(self, places: Iterable[int]) -> None:
        """Prepare for patches that will be cut next."""

    def cut(self, place: int, at: Window, scale: int, seed: int) -> Pair:
        """The patch at a window of the LR image; `seed` decides what else is drawn for it."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Images(PatchSource):
    """Images in memory, on 8-bit levels: `lr` and, where they have one, `hr`: uint8 `C H W` and `C sH sW` each."""

    ids: tuple[str, ...]
    lr: tuple[Tensor, ...]
    hr: tuple[Tensor, ...] | None
    cameras: tuple[int, ...]
    turns: bool = True

    @property
    def pixels_sha256(self) -> str:
        """Of all pixels and sizes."""
        digest = hashlib.sha256()
        for levels in (*self.lr, *(self.hr or ())):
            digest.update(repr(tuple(levels.shape)).encode())
            digest.update(levels.contiguous().numpy().data)
        return digest.hexdigest()

    def size(self, place: int) -> Size:
        """Rows and columns of the LR image."""
        rows, columns = self.lr[place].shape[-2:]
        return rows, columns

    def cut(self, place: int, at: Window, scale: int, seed: int) -> Pair:  # noqa: ARG002 - other sources draw
        """The patch as it is."""
        hr = None if self.hr is None else self.hr[place][:, *enlarged(at, scale)].numpy()
        return self.lr[place][:, *at].numpy(), hr, self.cameras[place]


@dataclass(frozen=True, eq=False)
class Batch:
    """`lr`: B C H W, `hr`: B C sH sW or None, float32 in [0, 1]; of each image its symmetry, its camera, and a seed for
    what else is drawn for it. `cut`: whether the images went on beyond these borders."""

    lr: Tensor
    hr: Tensor | None
    turned: tuple[int, ...]
    cameras: tuple[int, ...]
    seeds: tuple[int, ...]
    cut: bool = False

    def to(self, device: torch.device) -> "Batch":
        """On a device."""
        hr = None if self.hr is None else upload(self.hr, device)
        return Batch(upload(self.lr, device), hr, self.turned, self.cameras, self.seeds, self.cut)


@dataclass(frozen=True, eq=False)
class StepBatch:
    """What one step learns from: LR images, and real examples by kind where they are needed, `B C H W` each."""

    lr: Batch
    reals: Mapping[str, Tensor]

    def to(self, device: torch.device) -> "StepBatch":
        """On a device."""
        return StepBatch(self.lr.to(device), {kind: upload(x, device) for kind, x in self.reals.items()})


class Sampler:
    """Endless passes through images, each in an order of its own; every image once a pass.

    `patch`: side in LR pixels that is cut out of each; None takes whole images, turned only so that shapes agree.
    `batch`: images of a batch, over all processes, of which this one takes every `world`-th, from `rank`. `stream`:
    what the batches are for; another name, another order.
    """

    def __init__(
        self,
        images: PatchSource,
        *,
        patch: int | None,
        scale: int,
        batch: int,
        seed: int,
        stream: str,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images, self.patch, self.scale, self.size = images, patch, scale, batch
        self.seed, self.stream, self.rank, self.world = seed, stream, rank, world
        self._cut = patch is not None and any(max(images.size(n)) > patch for n in range(len(images)))
        self._orders: dict[int, NDArray[np.int64]] = {}

    def batch(self, number: int) -> Batch:
        """Batch `number`, counted from 0: this process's part of it."""
        draws = np.random.Generator(np.random.Philox(derive_seed(self.seed, self.stream, "batch", number)))
        # All processes draw for the whole batch, so that how many they are changes nothing.
        turned, tops, lefts = draws.integers(0, 8, self.size), draws.random(self.size), draws.random(self.size)
        made = []
        for n in range(self.rank, self.size, self.world):
            position = number * self.size + n
            place, k = self._place(position), int(turned[n]) if self.images.turns else 0
            rows, columns = self.images.size(place)
            if self.patch is None and rows != columns:
                k &= ~1  # turned by a quarter, it would not fit the others
            side = (rows, columns) if self.patch is None else (self.patch, self.patch)
            top, left = self.images.corner(place, (tops[n], lefts[n]), side)
            at = slice(top, top + side[0]), slice(left, left + side[1])
            seed = derive_seed(self.seed, self.stream, "image", position)
            lr, hr, camera = self.images.cut(place, at, self.scale, seed)
            hr = None if hr is None else dihedral.transformed_view(hr, k)
            made.append((dihedral.transformed_view(lr, k), hr, k, camera, seed))
        following = range((number + 1) * self.size + self.rank, (number + 2) * self.size, self.world)
        self.images.expect(self._place(position) for position in following)
        lrs, hrs, symmetries, cameras, seeds = zip(*made, strict=True)
        return Batch(_together(lrs), None if hrs[0] is None else _together(hrs), symmetries, cameras, seeds, self._cut)

    def _place(self, position: int) -> int:
        """Which image stands at a position of the endless row of passes."""
        number, place = divmod(position, len(self.images))
        if number not in self._orders:
            draws = np.random.Generator(np.random.Philox(derive_seed(self.seed, self.stream, "order", number)))
            self._orders = {n: order for n, order in self._orders.items() if abs(n - number) <= 1}
            self._orders[number] = self.images.order(draws)
        return int(self._orders[number][place])


def _together(levels: Sequence[NDArray[np.uint8]]) -> Tensor:
    return from_levels(torch.from_numpy(np.stack(levels)).contiguous())


def whole_batch(images: Images, place: int) -> Batch:
    """A batch of one image as it is, unturned."""
    hr = None if images.hr is None else from_levels(images.hr[place])[None]
    return Batch(from_levels(images.lr[place])[None], hr, (0,), (images.cameras[place],), (0,))
