"""Batches by number: which images, which patch of each and turned how depend on seed, stream and number alone.

Nothing is carried from batch to batch, so a resumed run draws what the uninterrupted one would have, and each of
several processes takes its share of the same batch.

Shapes: B images, C channels, H W rows and columns of an LR patch, s the scale.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.imaging import dihedral
from zssr_gan.imaging.colour import from_levels
from zssr_gan.imaging.resize import Size
from zssr_gan.seeds import derive_seed

_Levels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an image, pixels."""

    top: int
    left: int
    rows: int
    columns: int

    @property
    def axes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(start, length) of its rows and of its columns."""
        return (self.top, self.rows), (self.left, self.columns)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A patch, uint8 `C H W`, its HR patch `C sH sW` or None, and the place of its camera."""

    lr: _Levels
    hr: _Levels | None
    camera: int


class PatchSource(Protocol):
    """Images that a `Sampler` cuts patches out of, by place."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Of each image."""

    @property
    def cameras(self) -> tuple[int, ...]:
        """Places of cameras in a list of downscales: of each image its own, or all that patches draw from."""

    @property
    def turns(self) -> bool:
        """Whether patches may be flipped and turned."""

    def __len__(self) -> int:
        """Places."""

    @property
    def pixels_sha256(self) -> str:
        """Whether two sets are the same pixels."""

    def size(self, place: int) -> Size:
        """Rows and columns of the LR image."""

    def order(self, draws: np.random.Generator) -> NDArray[np.int64]:
        """All places once, in a drawn order: a pass."""

    def corner(self, place: int, at: tuple[float, float], side: Size) -> tuple[int, int]:
        """Top and left of a patch of `side`, LR pixels, for draws in [0, 1)."""

    def expect(self, places: Iterable[int]) -> None:
        """These will be cut next."""

    def cut(self, place: int, window: Window, scale: int, seed: int) -> Cut:
        """The patch at a window, LR pixels; `seed` decides what else is drawn for it."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images in memory, on 8-bit levels: `lr` and, where they have one, `hr`: uint8 `C H W` and `C sH sW` each.

    `ids`: of each. `cameras`: of each, the place of its camera in a list of downscales.
    """

    ids: tuple[str, ...]
    lr: tuple[Tensor, ...]
    hr: tuple[Tensor, ...] | None
    cameras: tuple[int, ...]
    turns: bool = True

    def __len__(self) -> int:
        return len(self.ids)

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

    def order(self, draws: np.random.Generator) -> NDArray[np.int64]:
        """All places once, in any order."""
        return draws.permutation(len(self))

    def corner(self, place: int, at: tuple[float, float], side: Size) -> tuple[int, int]:
        """Any place where the patch fits."""
        top, left = (int(share * (n - m + 1)) for share, n, m in zip(at, self.size(place), side, strict=True))
        return top, left

    def expect(self, places: Iterable[int]) -> None:
        """They are there."""

    def cut(self, place: int, window: Window, scale: int, seed: int) -> Cut:  # noqa: ARG002 - PatchSource has it
        """The patch as it is."""
        (top, rows), (left, columns) = window.axes
        lr = self.lr[place][:, top : top + rows, left : left + columns].numpy()
        if self.hr is None:
            return Cut(lr, None, self.cameras[place])
        s = scale
        hr = self.hr[place][:, s * top : s * (top + rows), s * left : s * (left + columns)].numpy()
        return Cut(lr, hr, self.cameras[place])


@dataclass(frozen=True, eq=False)
class Batch:
    """`lr`: B C H W, `hr`: B C sH sW or None, float32 in [0, 1]; of each image its symmetry, its camera, and a seed for
    what else is drawn for it."""

    lr: Tensor
    hr: Tensor | None
    turned: tuple[int, ...]
    cameras: tuple[int, ...]
    seeds: tuple[int, ...]
    cut: bool = False
    """Whether the images went on beyond these borders."""

    def to(self, device: torch.device) -> "Batch":
        """On a device."""
        hr = None if self.hr is None else _sent(self.hr, device)
        return Batch(_sent(self.lr, device), hr, self.turned, self.cameras, self.seeds, self.cut)


@dataclass(frozen=True, eq=False)
class StepBatch:
    """What one step learns from: LR images, and real examples by kind where they are needed, `B C H W` each."""

    lr: Batch
    reals: Mapping[str, Tensor]

    def to(self, device: torch.device) -> "StepBatch":
        """On a device."""
        return StepBatch(self.lr.to(device), {kind: _sent(x, device) for kind, x in self.reals.items()})


class Sampler:
    """Endless passes through images, each in an order of its own; every image once a pass.

    Args:
        images: what is drawn from.
        patch: side in LR pixels that is cut out of each; None takes whole images, turned only so that shapes agree.
        scale: factor per side between `lr` and `hr`.
        batch: images of a batch, over all processes.
        seed: the run's.
        stream: what the batches are for: another name, another order.
        rank, world: this process takes every `world`-th image of a batch, from `rank`.
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
        lr, hr, kept, cameras, seeds = [], [], [], [], []
        for place in range(self.rank, self.size, self.world):
            position = number * self.size + place
            image, k = self._image(position), int(turned[place]) if self.images.turns else 0
            rows, columns = self.images.size(image)
            if self.patch is None and rows != columns:
                k &= ~1  # turned by a quarter, it would not fit the others
            side = (rows, columns) if self.patch is None else (self.patch, self.patch)
            top, left = self.images.corner(image, (tops[place], lefts[place]), side)
            seed = derive_seed(self.seed, self.stream, "image", position)
            cut = self.images.cut(image, Window(top, left, *side), self.scale, seed)
            lr.append(dihedral.transformed_view(cut.lr, k))
            if cut.hr is not None:
                hr.append(dihedral.transformed_view(cut.hr, k))
            kept.append(k)
            cameras.append(cut.camera)
            seeds.append(seed)
        following = range((number + 1) * self.size + self.rank, (number + 2) * self.size, self.world)
        self.images.expect(self._image(position) for position in following)
        return Batch(_together(lr), _together(hr) if hr else None, tuple(kept), tuple(cameras), tuple(seeds), self._cut)

    def _image(self, position: int) -> int:
        """Which image stands at a place of the endless row of passes."""
        number, place = divmod(position, len(self.images))
        if number not in self._orders:
            draws = np.random.Generator(np.random.Philox(derive_seed(self.seed, self.stream, "order", number)))
            self._orders = {n: order for n, order in self._orders.items() if abs(n - number) <= 1}
            self._orders[number] = self.images.order(draws)
        return int(self._orders[number][place])


def _sent(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a GPU takes it while the program goes on, which it does from pinned memory alone."""
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)


def _together(levels: Sequence[_Levels]) -> Tensor:
    return from_levels(torch.from_numpy(np.stack(levels)).contiguous())


def whole_batch(images: Images, place: int) -> Batch:
    """A batch of one image as it is, unturned."""
    lr, hr = (None if some is None else from_levels(some[place])[None] for some in (images.lr, images.hr))
    assert lr is not None
    return Batch(lr, hr, (0,), (images.cameras[place],), (0,))
