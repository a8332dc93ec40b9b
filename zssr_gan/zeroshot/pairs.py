"""Training pairs out of one LR image (Shocher et al., section 3): a 'father' and its shrunk, enlarged 'son'.

Every member of a fleet draws from its own image by its own seed, as tensor arithmetic over all members.

Shapes: N members, B crops of each, S = N * B, C channels, H W an image's rows and columns, K side of a crop, J L the
rows and columns of what the network sees of it: K K on the interpolated grid, K / factor on the LR grid.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.operators import Downscale
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Scale, Size, reduced_size, resize
from zssr_gan.seeds import derive_seed, normal, uniform
from zssr_gan.settings.zeroshot import PairSettings

_EQUAL_SCALES = 0.05
"""Scales of rows and columns that differ by less count as one: half a pixel of a side of 10."""


@dataclass(frozen=True, slots=True)
class _Father:
    """An image to learn from, with what the network sees of it."""

    target_NCHW: Tensor
    input_NCJL: Tensor
    learn_N1HW: Tensor  # 1 where a member may learn from the pixel, 0 where it is held out
    learn_around_N1HW: Tensor  # the same of the pixel and all within 2 of it, which bicubic looks at

    @property
    def size(self) -> Size:
        return self.target_NCHW.shape[-2], self.target_NCHW.shape[-1]


@dataclass(frozen=True, slots=True)
class Task:
    """What a pair teaches."""

    scale: Scale
    """(y, x): a son is smaller than its father by this."""
    factor: tuple[int, int]
    """(1, 1): the son is enlarged back by interpolation before the network sees it; else equal to `scale`, and the
    network enlarges the son itself."""
    downscale: Downscale

    @classmethod
    def of(cls, scale: Scale, grid: str, downscale: Downscale) -> "Task":
        """What networks on that grid (`interpolated` or `lr`) learn for a step of `scale`."""
        if grid == "interpolated":
            return cls(scale, (1, 1), downscale)
        # A network on the LR grid enlarges by whole factors; what is too large is reduced afterwards.
        factor = (math.ceil(scale[0] - 1e-9), math.ceil(scale[1] - 1e-9))
        return cls((float(factor[0]), float(factor[1])), factor, downscale)

    @property
    def symmetries(self) -> tuple[int, ...]:
        """The flips and turns that a pair stays true under: odd ones swap the axes, and so their scales."""
        # Sizes are whole pixels, so equal scales come out of a plan a little apart.
        equal = abs(self.scale[0] - self.scale[1]) < _EQUAL_SCALES
        kept = dihedral.ALL if equal else dihedral.AXIS_KEEPING
        return tuple(k for k in kept if k in self.downscale.symmetries)

    @property
    def multiples(self) -> tuple[int, int]:
        """Rows and columns of a father are whole multiples of these, so that every pixel has its place in a son."""
        by_kernel = self.downscale.multiple
        return math.lcm(by_kernel, self.factor[0]), math.lcm(by_kernel, self.factor[1])

    def cut(self, image: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """`... H W` without its first `shift` rows and columns, and without the last that are no whole multiple."""
        rows, columns = (
            slice(by, by + (side - by) // multiple * multiple)
            for by, side, multiple in zip(shift, image.shape[-2:], self.multiples, strict=True)
        )
        return image[..., rows, columns]

    def make_input(self, father: Tensor) -> Tensor:
        """What the network sees of fathers `B C H W` (cut to whole multiples): their sons, enlarged or not."""
        size = (father.shape[-2], father.shape[-1])
        return self.seen(self.downscale(father, reduced_size(size, self.scale)), size)

    def seen(self, son: Tensor, size: Size) -> Tensor:
        """What the network sees of a son `B C h w` of a father of `size`: itself, or enlarged."""
        return resize(son, size) if self.factor == (1, 1) else son


class PairSource:
    """The images that pairs are cut of, N of each size, and how a pair is cut of one.

    Args:
        settings: shares and strengths of the augmentations.
        fathers: images `N C H W` to learn from, [0, 1]; each crop is of one of them, each as often.
        learn: `N H W` of the first father's size, 1 where it may be learnt from, or None for everywhere. It is
            stretched over the other fathers.
        task: scale and degradation that the pairs teach.
    """

    DRAWS = 9
    """Uniform draws that one crop takes: kind, symmetry, two of place, scale, two of shape, angle, father."""

    def __init__(self, settings: PairSettings, fathers: list[Tensor], learn: Tensor | None, task: Task) -> None:
        self.settings = settings
        self.task = task
        self.device = fathers[0].device
        self.symmetries = task.symmetries
        self._everywhere = learn is None
        steps = [range(math.ceil(factor)) if settings.phases else range(1) for factor in task.scale]
        self._fathers = [
            self._prepare(father, learn, (dy, dx)) for father in fathers for dy in steps[0] for dx in steps[1]
        ]
        self._signs = torch.stack([_symmetry_matrix(k) for k in self.symmetries]).to(self.device)

    @property
    def side(self) -> int:
        """Side of a crop in pixels: as the settings have it, as far as the images allow it; at least one whole multiple
        of the factors, which may be more."""
        step = math.lcm(*self.task.factor)
        room = min(n for father in self._fathers for n in father.size)
        return min(max(self.settings.crop, step), room) // step * step

    def noise_count(self, side: int) -> int:
        """Normal draws that one crop of `side` takes: none where sons have no noise and no compression."""
        kinds = bool(self.settings.noise) + self.task.downscale.captures
        return kinds * self._fathers[0].target_NCHW.shape[1] * math.prod(reduced_size((side, side), self.task.scale))

    def put(self, places: Tensor, other: "PairSource") -> None:
        """Put `other`'s images, one for each of `places`, over those that are there."""
        for mine, theirs in zip(self._fathers, other._fathers, strict=True):
            mine.target_NCHW[places] = theirs.target_NCHW
            mine.input_NCJL[places] = theirs.input_NCJL
            if not self._everywhere:  # else a mask is one number, seen everywhere
                mine.learn_N1HW[places] = theirs.learn_N1HW
                mine.learn_around_N1HW[places] = theirs.learn_around_N1HW

    def keep(self, places: Tensor) -> None:
        """Leave only the images at `places`."""
        self._fathers = [
            _Father(*(t[places] for t in (f.target_NCHW, f.input_NCJL, f.learn_N1HW, f.learn_around_N1HW)))
            for f in self._fathers
        ]

    def _prepare(self, father: Tensor, learn: Tensor | None, shift: tuple[int, int]) -> _Father:
        if learn is None:
            mask = father.new_ones(1).expand(father.shape[0], 1, *father.shape[-2:])
        else:
            mask = F.interpolate(learn[:, None].to(father), size=father.shape[-2:], mode="nearest")
        # Views, not copies: four phases of a large image would be four large images.
        father, mask = (self.task.cut(image, shift) for image in (father, mask))
        around = mask if learn is None else -F.max_pool2d(-mask, 5, stride=1, padding=2)
        return _Father(father, self.task.make_input(father), mask, around)

    def take(self, image_S: Tensor, draws_SD: Tensor, noise_SE: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cut one pair for each sample.

        Args:
            image_S: which of the N images.
            draws_SD: `S DRAWS`, uniform in [0, 1).
            noise_SE: `S noise_count(side)`, standard normal.
            side: of the crops, at most `self.side` and a multiple of the factor.

        Returns:
            Inputs `S C J L`, targets `S C K K`, and `S 1 K K` with 1 where the loss counts.
        """
        kind = draws_SD[:, 0]
        symmetry_S = _pick(draws_SD[:, 1], len(self.symmetries))
        symmetry_S = torch.where(kind >= 1 - self.settings.plain, torch.zeros_like(symmetry_S), symmetry_S)
        samples, channels = len(image_S), self._fathers[0].target_NCHW.shape[1]
        if len(self._fathers) == 1 and not self.settings.affine:
            # All samples are made alike: nobody is looked for, which would make the CPU wait for the device.
            x, y, mask = self._cut(self._fathers[0], image_S, symmetry_S, draws_SD, side)
        else:
            father_S = _pick(draws_SD[:, 8], len(self._fathers))
            x = draws_SD.new_empty(samples, channels, side // self.task.factor[0], side // self.task.factor[1])
            y = draws_SD.new_empty(samples, channels, side, side)
            mask = draws_SD.new_empty(samples, 1, side, side)
            for number, father in enumerate(self._fathers):
                for warped, cut in ((False, self._cut), (True, self._warp)):
                    at = ((father_S == number) & ((kind < self.settings.affine) == warped)).nonzero()[:, 0]
                    if len(at):
                        x[at], y[at], mask[at] = cut(father, image_S[at], symmetry_S[at], draws_SD[at], side)
        if self.noise_count(side):
            # Noise and compression are a camera's, so they are of the son's pixels, and are enlarged with them.
            size = reduced_size((side, side), self.task.scale)
            noise = noise_SE.reshape(samples, -1, channels, *size)
            added = noise[:, 0] * self.settings.noise
            if self.task.downscale.captures:
                son = x if self.task.factor != (1, 1) else resize(x, size)
                added = added + self.task.downscale.capture(son, noise[:, -1]) - son
            x = x + resize(added, (x.shape[-2], x.shape[-1]))
        return x, y, mask

    def _cut(
        self, father: _Father, image_S: Tensor, symmetry_S: Tensor, draws: Tensor, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Square crops in one of the symmetries, gathered, so exact to the pixel."""
        fy, fx = self.task.factor
        # Crops start on the son's pixels, so that son and father show the same part.
        rows, columns = (n // f for n, f in zip(father.size, (fy, fx), strict=True))
        top_S = _pick(draws[:, 2], rows - side // fy + 1)
        left_S = _pick(draws[:, 3], columns - side // fx + 1)

        def gather(images: Tensor, fy: int, fx: int, height: int, width: int) -> Tensor:
            maps = dihedral.index_maps(height, width, self.symmetries, self.device)
            row_S, column_S = (m[symmetry_S] for m in maps)
            row_S, column_S = row_S + top_S[:, None, None] * fy, column_S + left_S[:, None, None] * fx
            return images[image_S[:, None, None], :, row_S, column_S].movedim(-1, 1)

        return (
            gather(father.input_NCJL, 1, 1, side // fy, side // fx),
            gather(father.target_NCHW, fy, fx, side, side),
            gather(father.learn_N1HW, fy, fx, side, side),
        )

    def _warp(
        self, father: _Father, image_S: Tensor, symmetry_S: Tensor, draws: Tensor, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Square crops of the father scaled, stretched, sheared and turned; son made from the warped crop.

        The crop is warped with a margin as wide as shrinking and enlarging look, which is then cut off, so that a
        crop's edge is no border. Pixels from outside the image are mirrored ones, and do not count in the loss.
        """
        rows, columns = father.size
        matrix_S22 = self._matrices(draws) @ self._signs[symmetry_S]
        # Half of what a crop covers along x and y, in the father's pixels. Up to half a crop may lie outside: crops
        # kept inside would show a small image's middle over and over, and its borders hardly ever.
        half_S2 = matrix_S22.abs().sum(2) * side / 2
        size = torch.tensor([columns, rows], device=self.device, dtype=torch.float32)
        room_S2 = (size - half_S2).clamp(min=0)
        centre_S2 = size / 2 + room_S2 * (draws[:, 2:4] - 0.5)

        step = math.lcm(*self.task.multiples)
        margin = -(-(math.ceil(4 * max(self.task.scale)) + self.task.downscale.reach) // step) * step
        read = -(-(side + 2 * margin) // step) * step
        offset = torch.arange(read, device=self.device) - margin - (side - 1) / 2
        offset_2 = torch.stack(torch.meshgrid(offset, offset, indexing="xy"), -1)
        position_SKK2 = (matrix_S22[:, None, None] @ offset_2[..., None])[..., 0] + centre_S2[:, None, None]
        grid = position_SKK2 / size * 2 - 1

        def look(images: Tensor, mode: str) -> Tensor:
            # One member's image is looked at by all its crops without a copy.
            source = images.expand(len(grid), -1, -1, -1) if len(images) == 1 else images[image_S]
            return F.grid_sample(source, grid, mode=mode, padding_mode="reflection", align_corners=False)

        warped = look(father.target_NCHW, "bicubic").clamp(0, 1)
        seen = self.task.make_input(warped)
        inside = (position_SKK2 >= 0) & (position_SKK2 <= size)
        mask = inside.all(-1)[:, None] * look(father.learn_around_N1HW, "nearest")
        inner = (..., slice(margin, margin + side), slice(margin, margin + side))
        rows_seen, columns_seen = (slice(margin // f, (margin + side) // f) for f in self.task.factor)
        return seen[..., rows_seen, columns_seen], warped[inner], mask[inner]

    def _matrices(self, draws: Tensor) -> Tensor:
        """`S 2 2`: from a warped crop's pixels (x, y) to the father's."""
        s = self.settings
        scale = s.scale_min + (1 - s.scale_min) * draws[:, 4]
        # A normal number out of a uniform one, by its quantile function; the ends are cut, not infinite.
        shape = torch.special.ndtri(draws[:, 5:7].clamp(0.005, 0.995))
        stretch = torch.exp(shape[:, 0] * s.anisotropy / 2)
        shear = shape[:, 1] * s.shear
        angle = draws[:, 7] * 2 * math.pi if s.rotate else torch.zeros_like(scale)
        shrink = torch.stack(
            [
                torch.stack([1 / (scale * stretch), shear], -1),
                torch.stack([torch.zeros_like(scale), stretch / scale], -1),
            ],
            -2,
        )
        turn = torch.stack(
            [torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], -2
        )
        return shrink @ turn


class PairSampler:
    """Draws each member's batches of pairs from its own image, by its own seed and its own iteration."""

    def __init__(self, source: PairSource, seeds: list[int]) -> None:
        self.source = source
        self._seeds_2N = self._streams(seeds)

    def _streams(self, seeds: list[int]) -> Tensor:
        """One stream for crops and one for noise, of each member."""
        streams = [[derive_seed(name, seed) for seed in seeds] for name in ("pairs", "noise")]
        return torch.tensor(streams, device=self.source.device)

    def put(self, places: Tensor, source: PairSource, seeds: list[int]) -> None:
        """Let new members, one for each of `places`, take over from those that are there."""
        self.source.put(places, source)
        self._seeds_2N[:, places] = self._streams(seeds)

    def keep(self, places: Tensor) -> None:
        """Leave only the members at `places`."""
        self.source.keep(places)
        self._seeds_2N = self._seeds_2N[:, places]

    def sample(self, iteration_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of each member's iteration: inputs `N B C J L`, targets `N B C K K`, masks `N B 1 K K`."""
        members, batch = len(iteration_N), self.source.settings.batch
        position_N = iteration_N.to(self.source.device)
        crops_N, noises_N = self._seeds_2N
        counts = (PairSource.DRAWS, self.source.noise_count(self.source.side))
        draws_SD = uniform(crops_N, position_N, batch * counts[0]).reshape(members * batch, counts[0])
        noise_SE = normal(noises_N, position_N, batch * counts[1]).reshape(members * batch, counts[1])
        image_S = torch.arange(members, device=self.source.device).repeat_interleave(batch)
        x, y, mask = self.source.take(image_S, draws_SD, noise_SE, self.source.side)
        return x.unflatten(0, (members, batch)), y.unflatten(0, (members, batch)), mask.unflatten(0, (members, batch))


def _pick(draws: Tensor, count: int) -> Tensor:
    """Numbers 0 to count - 1, each as often, out of draws in [0, 1)."""
    return (draws * count).long().clamp(max=count - 1)


def _symmetry_matrix(k: int) -> Tensor:
    """`2 2`: from (x, y) offsets in an image that symmetry `k` was applied to, to offsets in the image before."""
    turn: Tensor = torch.linalg.matrix_power(torch.tensor([[0.0, -1.0], [1.0, 0.0]]), k & 3)
    mirror = torch.tensor([[-1.0 if k & 4 else 1.0, 0.0], [0.0, 1.0]])
    return mirror @ turn


def fold_map(size: Size, folds: int, block: int) -> Tensor:
    """Deal an image's square blocks into folds so that neighbours are in different ones.

    Args:
        size: rows and columns.
        folds: at least 2.
        block: least side of a block; larger ones are taken on larger images (about `4 * folds` blocks in all).

    Returns:
        `H W` int64, the fold of each pixel.
    """
    side = max(block, math.ceil(math.sqrt(size[0] * size[1] / (4 * folds))))
    side = min(side, max(1, min(size) // 2))  # no fold may be the whole of a tiny image
    stride = max(1, round(math.sqrt(folds)))
    rows = torch.arange(size[0]) // side
    columns = torch.arange(size[1]) // side
    return (rows[:, None] * stride + columns[None]) % folds
