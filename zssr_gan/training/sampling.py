"""Batches by number: which images, which patch of each and turned how hang on seed, stream and number alone.

Nothing is carried from batch to batch, so a resumed run draws what the uninterrupted one would have, and each of
several processes takes its share of the same batch.

Shapes: B images, C channels, H W rows and columns of an LR patch, s the scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.imaging import symmetries
from zssr_gan.imaging.levels import from_levels
from zssr_gan.zeroshot.seeds import derive_seed

_Levels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Images:
    """Images in memory, on 8-bit levels: `lr` and, where they have one, `hr`: uint8 `C H W` and `C sH sW` each.

    `ids`: of each. `cameras`: of each, the place of its camera in a list of downscales.
    """

    ids: tuple[str, ...]
    lr: tuple[Tensor, ...]
    hr: tuple[Tensor, ...] | None
    cameras: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


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
class Drawn:
    """What one step is about: LR images, and real examples by kind where they are needed, `B C H W` each."""

    lr: Batch
    reals: Mapping[str, Tensor]

    def to(self, device: torch.device) -> "Drawn":
        """On a device."""
        return Drawn(self.lr.to(device), {kind: _sent(x, device) for kind, x in self.reals.items()})


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
        images: Images,
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
        self._cut = patch is not None and any(max(lr.shape[-2:]) > patch for lr in images.lr)
        self._orders: dict[int, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}

    def batch(self, number: int) -> Batch:
        """Batch `number`, counted from 0: this process's part of it."""
        draws = np.random.Generator(np.random.Philox(derive_seed(self.seed, self.stream, "batch", number)))
        # All processes draw for the whole batch, so that how many they are changes nothing.
        turned, tops, lefts = draws.integers(0, 8, self.size), draws.random(self.size), draws.random(self.size)
        lr, hr, kept, cameras, seeds = [], [], [], [], []
        for place in range(self.rank, self.size, self.world):
            image = self._image(number * self.size + place)
            pixels, k = self.images.lr[image], int(turned[place])
            rows, columns = pixels.shape[-2:]
            if self.patch is None and rows != columns:
                k &= ~1  # turned by a quarter, it would not fit the others
            side = (rows, columns) if self.patch is None else (self.patch, self.patch)
            top, left = (
                int(at * (n - m + 1))
                for at, n, m in zip((tops[place], lefts[place]), (rows, columns), side, strict=True)
            )
            patch = pixels[:, top : top + side[0], left : left + side[1]]
            lr.append(symmetries.transformed_view(patch.numpy(), k))
            if self.images.hr is not None:
                s = self.scale
                cut = self.images.hr[image][:, s * top : s * (top + side[0]), s * left : s * (left + side[1])]
                hr.append(symmetries.transformed_view(cut.numpy(), k))
            kept.append(k)
            cameras.append(self.images.cameras[image])
            seeds.append(derive_seed(self.seed, self.stream, "image", number * self.size + place))
        return Batch(_together(lr), _together(hr) if hr else None, tuple(kept), tuple(cameras), tuple(seeds), self._cut)

    def _image(self, position: int) -> int:
        """Which image stands at a place of the endless row of passes."""
        number, place = divmod(position, len(self.images))
        if number not in self._orders:
            draws = np.random.Generator(np.random.Philox(derive_seed(self.seed, self.stream, "order", number)))
            self._orders = {n: order for n, order in self._orders.items() if abs(n - number) <= 1}
            self._orders[number] = draws.permutation(len(self.images))
        return int(self._orders[number][place])


def _sent(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a GPU takes it while the program goes on, which it does from pinned memory alone."""
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)


def _together(levels: Sequence[_Levels]) -> Tensor:
    return from_levels(torch.from_numpy(np.stack(levels)).contiguous())


def whole_batch(images: Images, places: Sequence[int]) -> Batch:
    """Images as they are, unturned; all of one size."""
    lr = _together([images.lr[place].numpy() for place in places])
    hr = None if images.hr is None else _together([images.hr[place].numpy() for place in places])
    nothing = (0,) * len(places)
    return Batch(lr, hr, nothing, tuple(images.cameras[place] for place in places), nothing)
