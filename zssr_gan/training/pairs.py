"""Pairs out of HR images, patch by patch: an HR patch, and what the camera that is assumed makes of it.

The LR patch is the one that would be cut out of the whole image's LR version, rounded to 8 bits as a file would be: it
is made of the HR patch with a margin as wide as blur and bicubic look, which is cut off afterwards. All draws depend on
the patch's own seed.

Shapes: C channels, H W rows and columns of an LR patch, s the scale.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import Downscale, EnlargedDownscale
from zssr_gan.files import canonical_sha256
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.imaging.tiles import middle_of
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.pairs import AugmentSettings, PairDegradationSettings, PairedSettings
from zssr_gan.training.reading_ahead import ReadingAhead
from zssr_gan.training.sampling import Pair, PatchSource, Window, enlarged

DRAWN = 64
"""Degradations that ranges are drawn from."""

_TOGETHER = 64  # images whose patches come mixed: an epoch reads so many at a time, each once

_LARGEST_HELD_OUT = 512  # HR pixels: of larger images the middle is measured

_BLOCK = 16  # LR pixels: JPEG's blocks, with colour at half the size; where a margin begins, so do the whole image's


def degradations_of(settings: PairDegradationSettings, reduction: int, seed: int) -> tuple[Degradation, ...]:
    """The degradations that patches draw from, each once: one where nothing varies, else up to `DRAWN`.

    `reduction`: by what an image is shrunk a side; blur is given in pixels of the HR image.
    """
    spans = (settings.blur, settings.noise, settings.jpeg)
    varies = any(span is not None and span[0] != span[1] for span in spans)
    draws = np.random.Generator(np.random.Philox(derive_seed(seed, "degradations")))
    made = []
    # Five a row, of which three are in use: a seed means what it meant before.
    for at in draws.random((DRAWN, 5)).tolist() if varies else [[0.0] * 5]:
        blur, noise = (span[0] + at[n] * (span[1] - span[0]) for n, span in ((0, settings.blur), (3, settings.noise)))
        sigma, jpeg = blur / reduction, settings.jpeg
        quality = None if jpeg is None else math.floor(jpeg[0] + at[4] * (jpeg[1] - jpeg[0] + 1))
        made.append(
            Degradation(
                blur=GaussianBlur(sigma_major=sigma, sigma_minor=sigma, angle_degrees=0.0) if blur else None,
                noise=Noise(sigma=noise) if noise else None,
                jpeg=None if quality is None else Jpeg.of_quality(quality),
            )
        )
    return tuple(dict.fromkeys(made))


class PairDegrader:
    """One degradation as it is applied to patches, at the scale of the settings.

    `whole`: from an HR image to an image of the input's size, without noise and compression. `margin`: LR pixels,
    before any enlarging, that a patch needs at each border to be what the whole image's would be. `grid`: HR pixels
    that a margin is a whole multiple of, counted from the image's corner.
    """

    def __init__(self, degradation: Degradation, settings: PairedSettings) -> None:
        self.degradation, self.reduction, self.enlarged = degradation, settings.reduction, settings.scale == 1
        self.downscale: Downscale = degradation.downscale
        self.whole = EnlargedDownscale(self.downscale, self.reduction) if self.enlarged else self.downscale
        reach = degradation.blur.reach if isinstance(degradation.blur, Blur) else 0.0
        # Bicubic looks two pixels far, and two more where it enlarges again. A block is wrong as a whole where one of
        # its pixels is, and its neighbours' colours are mixed with its own.
        blocks = _BLOCK + 2 if degradation.jpeg else 0
        self.margin = 2 + 2 * self.enlarged + math.ceil(reach + 1) + blocks
        self.grid = self.reduction * (_BLOCK if degradation.jpeg else 1)

    def take(self, hr: Tensor, seed: int) -> Tensor:
        """The LR image of `C H W` in [0, 1], whose sides are whole multiples of the reduction, on 8-bit levels, uint8.

        `seed`: of the noise.
        """
        lr = self.downscale(hr[None], (hr.shape[-2] // self.reduction, hr.shape[-1] // self.reduction))
        if self.degradation.noise is not None or self.degradation.jpeg is not None:
            draws = torch.Generator().manual_seed(seed)
            noise = torch.randn(lr.shape, generator=draws) if self.degradation.noise else torch.zeros_like(lr)
            lr = self.downscale.capture(lr, noise)
        levels = to_levels(lr[0])
        return to_levels(resize(from_levels(levels), (hr.shape[-2], hr.shape[-1]))) if self.enlarged else levels


class PairedImages(PatchSource):
    """HR images that patches are cut out of, with LR patches made of them on the fly.

    `sha256`: by the id of each image, that of its file, which stands for its pixels, as reading checks it. `sizes`: of
    each, rows and columns in HR pixels. `images` reads them, on 8-bit levels, uint8 `C H W`.
    """

    def __init__(
        self,
        sha256: Mapping[str, str],
        sizes: Sequence[Size],
        images: ReadingAhead,
        settings: PairedSettings,
        seed: int,
    ) -> None:
        self.ids, self._images, self.settings, self._scale = tuple(sha256), images, settings, settings.scale
        # Nobody reads all pixels to know.
        self._sha256, self._per_image = canonical_sha256(list(sha256.values())), settings.patches.per_image
        known = degradations_of(settings.degradation, settings.reduction, seed)
        self._degraders = [PairDegrader(one, settings) for one in known]
        self.downscales = tuple(one.whole for one in self._degraders)
        self.cameras, self.turns = tuple(range(len(known))), settings.augment.flips
        # Rows and columns beyond whole multiples would be seen in part by the last LR pixels.
        self._sizes = [tuple(side // settings.reduction * settings.reduction for side in size) for size in sizes]

    def __len__(self) -> int:
        """Patches of an epoch."""
        return len(self.ids) * self._per_image

    @property
    def pixels_sha256(self) -> str:
        """Of the hashes of the files."""
        return self._sha256

    def size(self, place: int) -> Size:
        """Rows and columns of the input that an image gives."""
        rows, columns = self._sizes[place // self._per_image]
        return rows // self._scale, columns // self._scale

    def order(self, draws: np.random.Generator) -> NDArray[np.int64]:
        """All patches once: the images in a drawn order, and the patches of each few of them mixed."""
        images = draws.permutation(len(self.ids))
        parts = [images[start : start + _TOGETHER] for start in range(0, len(images), _TOGETHER)]
        places = [(part[:, None] * self._per_image + np.arange(self._per_image)).ravel() for part in parts]
        return np.concatenate([draws.permutation(part) for part in places])

    def corner(self, place: int, at: tuple[float, float], side: Size) -> tuple[int, int]:
        """Any place where a patch fits; `inner`: in the inner half of the image, as far as it fits."""
        if self.settings.patches.corner == "any":
            return super().corner(place, at, side)
        corner = []
        for whole, length, share in zip(self.size(place), side, at, strict=True):
            last = whole - length
            first, end = min(whole // 4, last), min(whole - whole // 4, last + 1)
            corner.append(first + int(share * (end - first)))
        return corner[0], corner[1]

    def expect(self, places: Iterable[int]) -> None:
        """Begin to read the images of patches that will soon be asked for."""
        self._images.expect(place // self._per_image for place in places)

    def cut(self, place: int, at: Window, scale: int, seed: int) -> Pair:
        """The pair at a window of the LR image; `seed` decides all else that is drawn for it."""
        assert scale == self._scale, "one scale in a training"
        image = place // self._per_image
        height, width = self._sizes[image]
        camera = derive_seed(seed, "camera") % len(self.cameras)
        hr = self._images.image(image)[:, :height, :width]
        lr, truth = pair_at(hr, at, self._degraders[camera], self.settings, seed)
        return lr.numpy(), truth.numpy(), camera

    def held_out(self, name: str, levels: Tensor, seed: int) -> tuple[Tensor, Tensor, int]:
        """LR and HR of an image as it is measured, and the place of its camera; its name decides the draws.

        Of a large image it is the middle, as what is measured is measured often.
        """
        camera = derive_seed(seed, "held out", name, "camera") % len(self.cameras)
        middle, by = middle_of(levels, _LARGEST_HELD_OUT), self.settings.reduction
        height, width = (side // by * by for side in middle.shape[-2:])
        hr = middle[:, :height, :width].contiguous()
        return self._degraders[camera].take(from_levels(hr), derive_seed(seed, "held out", name)), hr, camera


def pair_at(
    hr: Tensor, at: Window, degrader: PairDegrader, settings: PairedSettings, seed: int
) -> tuple[Tensor, Tensor]:
    """LR and HR patch, uint8 `C H W` and `C sH sW`.

    `hr`: the image, uint8 `C H W`, sides whole multiples of the reduction. `at`: where, in pixels of the input. `seed`:
    of what is drawn.
    """
    scale, reach, grid = settings.scale, degrader.margin * degrader.reduction, degrader.grid
    inner, outer = enlarged(at, scale), []
    for one, side in zip(inner, hr.shape[-2:], strict=True):
        first, last = (one.start - reach) // grid * grid, -(-(one.stop + reach) // grid) * grid
        outer.append(slice(max(0, first), min(side, last)))
    part = warped(hr, outer, inner, settings.augment, seed) if settings.augment.warps else hr[:, *outer]
    # Where the patch lies in it.
    hr_at = [slice(one.start - out.start, one.stop - out.start) for one, out in zip(inner, outer, strict=True)]
    lr_at = [slice(one.start // scale, one.stop // scale) for one in hr_at]
    return degrader.take(from_levels(part), seed)[:, *lr_at], part[:, *hr_at]


def warped(hr: Tensor, outer: Sequence[slice], inner: Sequence[slice], augment: AugmentSettings, seed: int) -> Tensor:
    """A window of an image that was turned, sheared and moved about the patch's middle: uint8 `C H W`, by bicubic.

    `outer`: rows and columns of the window. `inner`: those of the patch in it. `augment`: how far at the most.
    """
    draws = np.random.Generator(np.random.Philox(derive_seed(seed, "augment"))).uniform(-1, 1, 4)
    angle, shear = math.radians(augment.rotate * draws[0]), math.tan(math.radians(augment.shear * draws[1]))
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ torch.tensor([[1.0, 0.0], [shear, 1.0]])  # over (y, x)
    middle = torch.tensor([(one.start + one.stop - 1) / 2 for one in inner])
    shift = [augment.translate * draw * (one.stop - one.start) for draw, one in zip(draws[2:], inner, strict=True)]
    lines = [torch.arange(one.start, one.stop) for one in outer]
    at = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).float()
    at = (at - middle) @ matrix.T + middle + torch.tensor(shift).float()
    # Only as much of a large image as is looked at, the mirror images of what lies beyond its borders too.
    seen = []
    for axis, side in enumerate(hr.shape[-2:]):
        first, last = float(at[..., axis].min()), float(at[..., axis].max())
        low = max(0, math.floor(min(first, 2 * (side - 1) - last)) - 2)
        seen.append(slice(low, min(side, math.ceil(max(last, -first)) + 3)))
    part = from_levels(hr[:, *seen])
    last_pixel = torch.tensor(part.shape[-2:]) - 1
    grid = 2 * (at - torch.tensor([one.start for one in seen])) / last_pixel.clamp(min=1) - 1
    moved = F.grid_sample(part[None], grid.flip(-1)[None], "bicubic", "reflection", align_corners=True)
    return to_levels(moved[0])
