"""Training pairs out of one LR image (Shocher et al., section 3): a 'father' and its shrunk, enlarged 'son'.

Every member of a fleet draws from its own image with its own generator, as tensor arithmetic over all members.

Shapes: N members, B crops of each, S = N * B, C channels, H W an image's rows and columns, K side of a crop, J L the
rows and columns of what the network sees of it: K K on the interpolated grid, K / factor on the LR grid.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.config import PairSettings
from zssr_gan.imaging import symmetries
from zssr_gan.imaging.resampling import Downscale, Scale, Size, reduced_size, resize
from zssr_gan.zeroshot.seeds import generator

# Uniform draws that one crop takes: kind, symmetry, two of place, scale, two of shape, angle, father.
_NUMBERS = 9
_BLOCK = 64  # steps drawn at once: one call of each member's generator serves so many


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

    @property
    def symmetries(self) -> tuple[int, ...]:
        """The flips and turns that a pair stays true under: odd ones swap the axes, and so their scales."""
        kept = symmetries.ALL if self.scale[0] == self.scale[1] else symmetries.AXIS_KEEPING
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
        son = self.downscale(father, reduced_size(size, self.scale))
        return resize(son, size) if self.factor == (1, 1) else son


class PairSampler:
    """Draws batches of pairs for N members.

    Args:
        settings: shares and strengths of the augmentations.
        fathers: images `N C H W` to learn from, [0, 1]; each crop is of one of them, each as often.
        learn: `N H W` of the first father's size, 1 where a member may learn, or None for everywhere. It is
            stretched over the other fathers.
        task: scale and degradation that the pairs teach.
        seeds: one a member, see `seeds.derive_seed`.
    """

    def __init__(
        self,
        settings: PairSettings,
        fathers: list[Tensor],
        learn: Tensor | None,
        task: Task,
        seeds: list[int],
    ) -> None:
        self.settings = settings
        self.task = task
        self.device = fathers[0].device
        self.symmetries = task.symmetries
        self._generators = [generator("pairs", seed) for seed in seeds]
        steps = [range(math.ceil(factor)) if settings.phases else range(1) for factor in task.scale]
        self._fathers = [
            self._prepare(father, learn, (dy, dx)) for father in fathers for dy in steps[0] for dx in steps[1]
        ]
        self._signs = torch.stack([_symmetry_matrix(k) for k in self.symmetries]).to(self.device)
        self._block = torch.empty(0)
        self._position = _BLOCK

    def _prepare(self, father: Tensor, learn: Tensor | None, shift: tuple[int, int]) -> _Father:
        if learn is None:
            mask = father.new_ones(1).expand(father.shape[0], 1, *father.shape[-2:])
        else:
            mask = F.interpolate(learn[:, None].to(father), size=father.shape[-2:], mode="nearest")
        # Views, not copies: four phases of a large image would be four large images.
        father, mask = (self.task.cut(image, shift) for image in (father, mask))
        around = mask if learn is None else -F.max_pool2d(-mask, 5, stride=1, padding=2)
        return _Father(father, self.task.make_input(father), mask, around)

    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """One step's batch: inputs `N B C J L`, targets `N B C K K`, and `N B 1 K K` with 1 where the loss counts."""
        members, batch = len(self._generators), self.settings.batch
        draws = self._draw().reshape(members * batch, _NUMBERS)
        member_S = torch.arange(members, device=self.device).repeat_interleave(batch)
        step = math.lcm(*self.task.factor)
        side = min(self.settings.crop, *(n for father in self._fathers for n in father.size)) // step * step

        kind = draws[:, 0]
        symmetry_S = _pick(draws[:, 1], len(self.symmetries))
        symmetry_S = torch.where(kind >= 1 - self.settings.plain, torch.zeros_like(symmetry_S), symmetry_S)
        father_S = _pick(draws[:, 8], len(self._fathers))
        channels = self._fathers[0].target_NCHW.shape[1]
        x = draws.new_empty(members * batch, channels, side // self.task.factor[0], side // self.task.factor[1])
        y = draws.new_empty(members * batch, channels, side, side)
        mask = draws.new_empty(members * batch, 1, side, side)
        for number, father in enumerate(self._fathers):
            for warped, cut in ((False, self._cut), (True, self._warp)):
                at = ((father_S == number) & ((kind < self.settings.affine) == warped)).nonzero()[:, 0]
                if len(at):
                    x[at], y[at], mask[at] = cut(father, member_S[at], symmetry_S[at], draws[at], side)
        if self.settings.noise > 0:
            # The noise is a camera's, so it lies on the son's pixels, and is enlarged with them.
            son = reduced_size((side, side), self.task.scale)
            noise = self._noise((batch, channels, *son)) * self.settings.noise
            x = x + resize(noise, (x.shape[-2], x.shape[-1]))
        x, y, mask = (t.unflatten(0, (members, batch)) for t in (x, y, mask))
        return x, y, mask

    def _draw(self) -> Tensor:
        if self._position == _BLOCK:
            shape = (_BLOCK, self.settings.batch, _NUMBERS)
            self._block = torch.stack([torch.rand(shape, generator=g) for g in self._generators], 1).to(self.device)
            self._position = 0
        self._position += 1
        return self._block[self._position - 1]

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.cat([torch.randn(shape, generator=g) for g in self._generators]).to(self.device)

    def _cut(
        self, father: _Father, member_S: Tensor, symmetry_S: Tensor, draws: Tensor, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Square crops in one of the symmetries, gathered, so exact to the pixel."""
        fy, fx = self.task.factor
        # Crops start on the son's pixels, so that son and father show the same part.
        rows, columns = (n // f for n, f in zip(father.size, (fy, fx), strict=True))
        top_S = _pick(draws[:, 2], rows - side // fy + 1)
        left_S = _pick(draws[:, 3], columns - side // fx + 1)

        def gather(images: Tensor, fy: int, fx: int, height: int, width: int) -> Tensor:
            maps = symmetries.index_maps(height, width, self.symmetries)
            row_S, column_S = (m.to(self.device)[symmetry_S] for m in maps)
            row_S, column_S = row_S + top_S[:, None, None] * fy, column_S + left_S[:, None, None] * fx
            return images[member_S[:, None, None], :, row_S, column_S].movedim(-1, 1)

        return (
            gather(father.input_NCJL, 1, 1, side // fy, side // fx),
            gather(father.target_NCHW, fy, fx, side, side),
            gather(father.learn_N1HW, fy, fx, side, side),
        )

    def _warp(
        self, father: _Father, member_S: Tensor, symmetry_S: Tensor, draws: Tensor, side: int
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
            source = images.expand(len(grid), -1, -1, -1) if len(images) == 1 else images[member_S]
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
        normal = torch.special.ndtri(draws[:, 5:7].clamp(0.005, 0.995))
        stretch = torch.exp(normal[:, 0] * s.anisotropy / 2)
        shear = normal[:, 1] * s.shear
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
