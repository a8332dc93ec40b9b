"""Batches by number: which images, which patch of each and turned how depend on seed, stream and number alone.

No state passes from batch to batch, so a resumed run draws what the uninterrupted one would have, and each of several
processes takes its share of the same batch.

Shapes: B images, C channels, H W rows and columns of an LR patch, s the scale.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple, Self

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


_DEVICE_SHARE = 0.25  # of a GPU's free memory that a set may take; networks and their activations need the rest

Window = tuple[slice, slice]
"""Rows and columns of a part of an image."""


def enlarged(at: Window, scale: int) -> Window:
    """The window in the HR image of one in the LR image."""
    rows, columns = (slice(scale * one.start, scale * one.stop) for one in at)
    return rows, columns


class Cut(NamedTuple):
    """A patch: of which image, where in it, in LR pixels, by which symmetry transformed, and the seed of what else is
    drawn for it."""

    place: int
    at: Window
    k: int
    seed: int


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

    def cut_all(self, cuts: Sequence[Cut], scale: int) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
        """Patches of one size as a batch: LR, HR where there is one (see `Batch`), and the places of their cameras."""
        made = [(one.k, *self.cut(one.place, one.at, scale, one.seed)) for one in cuts]
        cameras = tuple(camera for *_, camera in made)
        lr = _together([dihedral.transformed_view(lr, k) for k, lr, _, _ in made])
        hrs = [dihedral.transformed_view(hr, k) for k, _, hr, _ in made if hr is not None]
        return lr, _together(hrs) if hrs else None, cameras

    def to(self, device: torch.device) -> "PatchSource":  # noqa: ARG002 - what is read when it is needed stays there
        """The same images where patches can be cut on a device, if they can."""
        return self


@dataclass(frozen=True, eq=False)
class Images(PatchSource):
    """Images in memory, on 8-bit levels: `lr` and, where they have one, `hr`: uint8 `C H W` and `C sH sW` each."""

    ids: tuple[str, ...]
    lr: tuple[Tensor, ...]
    hr: tuple[Tensor, ...] | None
    cameras: tuple[int, ...]
    turns: bool = True
    _there: dict[torch.device, "DeviceImages"] = field(default_factory=dict, repr=False)

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

    def to(self, device: torch.device) -> PatchSource:
        """With a copy of all pixels on a GPU that has room for it; one copy for all who ask."""
        if device.type != "cuda":
            return self
        if device not in self._there:
            free, _ = torch.cuda.mem_get_info(device)
            if sum(levels.nbytes for levels in (*self.lr, *(self.hr or ()))) > _DEVICE_SHARE * free:
                return self
            self._there[device] = DeviceImages.of(self, device)
        return self._there[device]


@lru_cache(maxsize=16)
def _grid(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """The coordinates of all places in a tensor of a shape, `*shape axes`, int64."""
    return upload(torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), -1), device)


@dataclass(frozen=True, eq=False)
class _Levels:
    """Images of any sizes on 8-bit levels, one after another in one tensor on a device.

    `flat`: uint8. `starts`, `sizes`: where each begins, and its C, H, W. `values`: of each level, float32 in [0, 1],
    as the CPU computes it: a GPU divides by a constant with another last bit.
    """

    flat: Tensor
    starts: NDArray[np.int64]
    sizes: tuple[torch.Size, ...]
    values: Tensor

    @classmethod
    def of(cls, images: Sequence[Tensor], device: torch.device) -> Self:
        """Copy images `C H W` to a device."""
        starts = np.cumsum([0, *(image.numel() for image in images[:-1])])
        flat = upload(torch.cat([image.flatten() for image in images]), device)
        values = upload(from_levels(torch.arange(256, dtype=torch.uint8)), device)
        return cls(flat, starts, tuple(image.shape for image in images), values)

    def cut(self, cuts: Sequence[Cut], scale: int) -> Tensor:
        """Patches `B C h w` at windows in pixels of images `scale` times smaller; the host does not wait."""
        rows_of = []  # of each patch the first pixel, and how far it is to the next row, column and channel
        for place, at, k, _ in cuts:
            _, height, width = self.sizes[place]
            (top, bottom), (left, right) = ((one.start, one.stop - 1) for one in enlarged(at, scale))
            down, across, swapped = dihedral.STEPS[k]
            first = (top if down > 0 else bottom) * width + (left if across > 0 else right)
            pitch = (across, down * width) if swapped else (down * width, across)
            rows_of.append((self.starts[place] + first, *pitch, height * width))
        window = enlarged(cuts[0].at, scale)
        height, width = (one.stop - one.start for one in window)  # all alike, or square where symmetries swap them
        shape = (height, width, self.sizes[cuts[0].place][0])
        start, pitch = upload(torch.tensor(np.array(rows_of)), self.flat.device)[:, None, None, None].split([1, 3], -1)
        index = start[..., 0] + (_grid(shape, self.flat.device) * pitch).sum(-1)
        # Channels last, as convolutions on a GPU want them.
        return self.values[self.flat[index].int()].permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class DeviceImages(Images):
    """Images with a copy on a device, where patches are cut by one indexing for a whole batch: the CPU's bits."""

    levels: tuple[_Levels, _Levels | None] = field(kw_only=True, repr=False)

    @classmethod
    def of(cls, images: Images, device: torch.device) -> Self:
        """Copy images to a device."""
        lr, hr = (None if those is None else _Levels.of(those, device) for those in (images.lr, images.hr))
        assert lr is not None
        return cls(images.ids, images.lr, images.hr, images.cameras, images.turns, levels=(lr, hr))

    def cut_all(self, cuts: Sequence[Cut], scale: int) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
        """See `PatchSource`; on the device."""
        lr, hr = self.levels
        cameras = tuple(self.cameras[one.place] for one in cuts)
        return lr.cut(cuts, 1), None if hr is None else hr.cut(cuts, scale), cameras


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

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name: `lr`, `hr`, and `reals.` with each kind."""
        hr = {} if self.lr.hr is None else {"hr": self.lr.hr}
        return {"lr": self.lr.lr, **hr, **{f"reals.{kind}": x for kind, x in self.reals.items()}}

    def holding(self, tensors: Mapping[str, Tensor]) -> "StepBatch":
        """The same with other tensors, by their names."""
        lr = replace(self.lr, lr=tensors["lr"], hr=tensors.get("hr"))
        return StepBatch(lr, {kind: tensors[f"reals.{kind}"] for kind in self.reals})


class Sampler:
    """Endless passes through images, each in an order of its own; every image once a pass.

    `patch`: side in LR pixels that is cut out of each; None takes whole images, turned only so that shapes agree.
    `batch`: images of a batch, over all processes, of which this one takes every `world`-th, from `rank`. `stream`:
    what the batches are for; another name, another order. `device`: where patches are cut, if the images can be there;
    the batches are the same.
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
        device: torch.device | None = None,
    ) -> None:
        self.images, self.patch, self.scale, self.size = images.to(device) if device else images, patch, scale, batch
        self.seed, self.stream, self.rank, self.world = seed, stream, rank, world
        self._cut = patch is not None and any(max(images.size(n)) > patch for n in range(len(images)))
        self._orders: dict[int, NDArray[np.int64]] = {}

    def batch(self, number: int) -> Batch:
        """Batch `number`, counted from 0: this process's part of it."""
        draws = np.random.Generator(np.random.Philox(derive_seed(self.seed, self.stream, "batch", number)))
        # All processes draw for the whole batch, so that how many they are changes nothing.
        turned, tops, lefts = draws.integers(0, 8, self.size), draws.random(self.size), draws.random(self.size)
        cuts = []
        for n in range(self.rank, self.size, self.world):
            position = number * self.size + n
            place, k = self._place(position), int(turned[n]) if self.images.turns else 0
            rows, columns = self.images.size(place)
            if self.patch is None and rows != columns:
                k &= ~1  # turned by a quarter, it would not fit the others
            side = (rows, columns) if self.patch is None else (self.patch, self.patch)
            top, left = self.images.corner(place, (tops[n], lefts[n]), side)
            at = slice(top, top + side[0]), slice(left, left + side[1])
            cuts.append(Cut(place, at, k, derive_seed(self.seed, self.stream, "image", position)))
        lr, hr, cameras = self.images.cut_all(cuts, self.scale)
        following = range((number + 1) * self.size + self.rank, (number + 2) * self.size, self.world)
        self.images.expect(self._place(position) for position in following)
        symmetries, seeds = tuple(one.k for one in cuts), tuple(one.seed for one in cuts)
        return Batch(lr, hr, symmetries, cameras, seeds, self._cut)

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
