"""Pairs out of HR images, patch by patch: an HR patch, and what the camera that is assumed makes of it.

The LR patch is the one that would be cut out of the whole image's LR version, rounded to 8 bits as a file would be: it
is made of the HR patch with a margin as wide as blur and bicubic look, which is cut off afterwards. Everything drawn
depends on the patch's own seed.

Shapes: C channels, H W rows and columns of an LR patch, s the scale.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.data.prepared import ReadingAhead
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import Downscale, EnlargedDownscale
from zssr_gan.files import canonical_sha256
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.imaging.tiles import middle_of
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.pairs import AugmentSettings, PairDegradationSettings, PairedSettings, PatchSettings
from zssr_gan.training.sampling import Cut, Window

DRAWN = 64
"""Degradations that ranges are drawn from."""

_TOGETHER = 64
"""Images whose patches come mixed: an epoch goes through so many at a time, so that each is read once."""

LARGEST_HELD_OUT = 512
"""HR pixels: of larger images the middle is measured."""

_BLOCK = 16  # LR pixels: JPEG's blocks, with colour at half the size; where a margin begins, so do the whole image's


def degradations_of(settings: PairDegradationSettings, reduction: int, seed: int) -> tuple[Degradation, ...]:
    """The degradations that patches draw from, each once: one where nothing varies, else `DRAWN`.

    Args:
        settings: numbers and ranges; blur in pixels of the HR image.
        reduction: by what an image is shrunk a side.
        seed: the run's.
    """
    if not settings.varies:
        return (_degradation(settings, reduction, [0.0] * 5),)
    draws = np.random.Generator(np.random.Philox(derive_seed(seed, "degradations")))
    drawn = (_degradation(settings, reduction, row) for row in draws.random((DRAWN, 5)).tolist())
    return tuple(dict.fromkeys(drawn))


def _degradation(settings: PairDegradationSettings, reduction: int, at: list[float]) -> Degradation:
    """The degradation at places in [0, 1) of each range."""

    def value(span: tuple[float, float], place: int) -> float:
        return span[0] + at[place] * (span[1] - span[0])

    along = value(settings.blur, 0)
    across = along if settings.blur_across is None else value(settings.blur_across, 1)
    noise = value(settings.noise, 3)
    blur = GaussianBlur(
        sigma_major=along / reduction, sigma_minor=across / reduction, angle_degrees=value(settings.angle, 2)
    )
    quality = None if settings.jpeg is None else math.floor(settings.jpeg[0] + at[4] * (np.ptp(settings.jpeg) + 1))
    return Degradation(
        blur=blur if along or across else None,
        noise=Noise(sigma=noise) if noise else None,
        jpeg=None if quality is None else Jpeg.of_quality(quality),
    )


@dataclass(frozen=True, eq=False)
class PairDegrader:
    """One degradation at one scale, as it is applied to patches.

    `reduction`: by what an image is shrunk a side. `enlarged`: whether it is then enlarged again to its own size.
    """

    degradation: Degradation
    reduction: int
    enlarged: bool
    downscale: Downscale

    @classmethod
    def of(cls, degradation: Degradation, settings: PairedSettings) -> "PairDegrader":
        """The camera of a degradation under these settings."""
        return cls(degradation, settings.reduction, settings.shrink is not None, degradation.downscale)

    @property
    def whole(self) -> Downscale:
        """From an HR image to an image of the input's size, without noise and compression."""
        return EnlargedDownscale(self.downscale, self.reduction) if self.enlarged else self.downscale

    @property
    def margin(self) -> int:
        """LR pixels, before any enlarging, that a patch needs at each border to be what the whole image's would be."""
        blur = self.degradation.blur
        wide = blur.sigma_major if isinstance(blur, GaussianBlur) else 0.0
        # Bicubic looks two pixels far, and two more where it enlarges again; a Gaussian is cut at four deviations. A
        # block is wrong as a whole where one of its pixels is, and its neighbours' colours are mixed with its own.
        return 2 + 2 * self.enlarged + math.ceil(4 * wide + 1) + (_BLOCK + 2 if self.degradation.jpeg else 0)

    @property
    def grid(self) -> int:
        """HR pixels that a margin is a whole multiple of, counted from the image's corner."""
        return self.reduction * (_BLOCK if self.degradation.jpeg else 1)

    def take(self, hr: Tensor, seed: int) -> Tensor:
        """The LR image of `C H W` in [0, 1], whose sides are whole multiples of the reduction, on 8-bit levels, uint8.

        `seed`: of the noise.
        """
        size = (hr.shape[-2] // self.reduction, hr.shape[-1] // self.reduction)
        lr = self.downscale(hr[None], size)
        if self.degradation.noise is not None or self.degradation.jpeg is not None:
            draws = torch.Generator().manual_seed(seed)
            noise = torch.randn(lr.shape, generator=draws) if self.degradation.noise else torch.zeros_like(lr)
            lr = self.downscale.capture(lr, noise)
        levels = to_levels(lr[0])
        return to_levels(resize(from_levels(levels), (hr.shape[-2], hr.shape[-1]))) if self.enlarged else levels


class PairedImages:
    """HR images that patches are cut out of, with LR patches made of them: what `Images` is to a `Sampler`, on the fly.

    Args:
        ids: of each.
        sha256: of each image's file: stands for its pixels, as reading checks it.
        sizes: of each, rows and columns in HR pixels.
        images: reads them, on 8-bit levels, uint8 `C H W`.
        settings: how pairs are made.
        seed: the run's.
    """

    def __init__(
        self,
        ids: tuple[str, ...],
        sha256: tuple[str, ...],
        sizes: tuple[Size, ...],
        images: ReadingAhead,
        settings: PairedSettings,
        seed: int,
    ) -> None:
        self.ids, self.sha256, self._images, self.settings = ids, sha256, images, settings
        self._takes = [
            PairDegrader.of(one, settings) for one in degradations_of(settings.degradation, settings.reduction, seed)
        ]
        self.cameras = tuple(range(len(self._takes)))
        self.turns = settings.augment.flips
        # Rows and columns beyond whole multiples would be seen in part by the last LR pixels.
        self._sizes = [tuple(side // settings.reduction * settings.reduction for side in size) for size in sizes]
        self._scale = settings.scale

    def __len__(self) -> int:
        """Patches of an epoch."""
        return len(self.ids) * self.settings.patches.per_image

    @property
    def pixels_sha256(self) -> str:
        """Of the hashes of the files: nobody reads them all to know."""
        return canonical_sha256(list(self.sha256))

    def size(self, place: int) -> Size:
        """Rows and columns of the input that an image gives."""
        rows, columns = self._sizes[place // self.settings.patches.per_image]
        return rows // self._scale, columns // self._scale

    def order(self, draws: np.random.Generator) -> NDArray[np.int64]:
        """All patches once: the images in a drawn order, and the patches of each few of them mixed."""
        per_image = self.settings.patches.per_image
        images = draws.permutation(len(self.ids))
        parts = [images[start : start + _TOGETHER] for start in range(0, len(images), _TOGETHER)]
        places = [(part[:, None] * per_image + np.arange(per_image)).ravel() for part in parts]
        return np.concatenate([draws.permutation(part) for part in places])

    def corner(self, place: int, at: tuple[float, float], side: Size) -> tuple[int, int]:
        """Top and left of a patch of `side`, for draws in [0, 1)."""
        return _corner(self.settings.patches, self.size(place), at, side)

    def expect(self, places: Iterable[int]) -> None:
        """Begin to read the images of patches that will soon be asked for."""
        self._images.expect(place // self.settings.patches.per_image for place in places)

    def cut(self, place: int, window: Window, scale: int, seed: int) -> Cut:
        """The pair at a window, LR pixels; `seed` decides all else that is drawn for it."""
        assert scale == self._scale, "one scale in a training"
        levels = self._images.image(place // self.settings.patches.per_image)
        camera = derive_seed(seed, "camera") % len(self._takes)
        rows, columns = self._sizes[place // self.settings.patches.per_image]
        hr = levels[:, :rows, :columns]
        lr, truth = pair_at(hr, window, self._takes[camera], self.settings.augment, scale, seed)
        return Cut(lr.numpy(), truth.numpy(), camera)

    @property
    def downscales(self) -> tuple[Downscale, ...]:
        """Of each camera."""
        return tuple(camera.whole for camera in self._takes)

    def held_out(self, name: str, levels: Tensor, seed: int) -> tuple[Tensor, Tensor, int]:
        """LR and HR of an image as it is measured, and the place of its camera; its name decides the draws.

        Of an image larger than `LARGEST_HELD_OUT` it is the middle, as what is measured is measured often.
        """
        camera = derive_seed(seed, "held out", name, "camera") % len(self._takes)
        middle, by = middle_of(levels, LARGEST_HELD_OUT), self.settings.reduction
        rows, columns = (side // by * by for side in middle.shape[-2:])
        hr = middle[:, :rows, :columns].contiguous()
        return self._takes[camera].take(from_levels(hr), derive_seed(seed, "held out", name)), hr, camera


def _corner(settings: PatchSettings, size: Size, at: tuple[float, float], side: Size) -> tuple[int, int]:
    """Top and left: any place where the patch fits; `inner`: in the inner half of the image, as far as it fits."""
    corner = []
    for whole, length, share in zip(size, side, at, strict=True):
        last = whole - length
        first, end = (whole // 4, whole - whole // 4) if settings.corner == "inner" else (0, last + 1)
        first, end = min(first, last), min(end, last + 1)
        corner.append(first + int(share * (end - first)))
    return corner[0], corner[1]


def pair_at(
    hr: Tensor, window: Window, camera: PairDegrader, augment: AugmentSettings, scale: int, seed: int
) -> tuple[Tensor, Tensor]:
    """LR and HR patch, uint8 `C H W` and `C sH sW`.

    Args:
        hr: the image, uint8 `C H W`, sides whole multiples of the reduction.
        window: where, in pixels of the input.
        camera: what is done to it.
        augment: how the image is moved before.
        scale: HR pixels a pixel of the input.
        seed: of what is drawn.
    """
    inner = [(scale * start, scale * (start + length)) for start, length in window.axes]
    reach, grid = camera.margin * camera.reduction, camera.grid
    outer = []
    for (start, stop), side in zip(inner, hr.shape[-2:], strict=True):
        first, last = (start - reach) // grid * grid, -(-(stop + reach) // grid) * grid
        outer.append((max(0, first), min(side, last)))
    (top, bottom), (left, right) = outer
    if augment.warps:
        part = warped(hr, Window(top, left, bottom - top, right - left), inner, augment, seed)
    else:
        part = hr[:, top:bottom, left:right]
    lr = camera.take(from_levels(part), seed)
    # Where the patch lies in what was taken.
    rows, columns = ((start - begin, stop - begin) for (start, stop), (begin, _) in zip(inner, outer, strict=True))
    truth = part[:, slice(*rows), slice(*columns)]
    return lr[:, rows[0] // scale : rows[1] // scale, columns[0] // scale : columns[1] // scale], truth


def warped(hr: Tensor, outer: Window, inner: list[tuple[int, int]], augment: AugmentSettings, seed: int) -> Tensor:
    """A window of an image that was turned, sheared and moved about the patch's middle: uint8 `C H W`, by bicubic.

    Args:
        hr: uint8 `C H W`.
        outer: the window, pixels of `hr`.
        inner: first and last row, and column, of the patch in it.
        augment: how far at the most.
        seed: of what is drawn.
    """
    draws = np.random.Generator(np.random.Philox(derive_seed(seed, "augment"))).uniform(-1, 1, 4)
    angle, shear = math.radians(augment.rotate * draws[0]), math.tan(math.radians(augment.shear * draws[1]))
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ torch.tensor([[1.0, 0.0], [shear, 1.0]])  # over (y, x)
    middle = torch.tensor([(start + stop - 1) / 2 for start, stop in inner])
    shift = torch.tensor(
        [augment.translate * draw * (stop - start) for draw, (start, stop) in zip(draws[2:], inner, strict=True)]
    )
    y = torch.arange(outer.top, outer.top + outer.rows)
    x = torch.arange(outer.left, outer.left + outer.columns)
    at = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).float()
    at = (at - middle) @ matrix.T + middle + shift.float()
    # Only as much of a large image as is looked at, the mirror images of what lies beyond its borders too.
    low, high = [], []
    for axis, side in enumerate(hr.shape[-2:]):
        first, last = float(at[..., axis].min()), float(at[..., axis].max())
        low.append(max(0, math.floor(min(first, 2 * (side - 1) - last)) - 2))
        high.append(min(side, math.ceil(max(last, -first)) + 3))
    part = from_levels(hr[:, low[0] : high[0], low[1] : high[1]])
    last_pixel = torch.tensor(part.shape[-2:]) - 1
    grid = 2 * (at - torch.tensor(low)) / last_pixel.clamp(min=1) - 1
    moved = F.grid_sample(part[None], grid.flip(-1)[None], "bicubic", "reflection", align_corners=True)
    return to_levels(moved[0])
