"""HR/LR training pairs cut of LR images (Shocher et al., section 3): a crop, and its shrunk copy.

Every network draws from its own image by its own seed, as tensor arithmetic over all networks.

Shapes: N images, one for each network of a fleet; B crops of each, S = N * B samples; C channels; H W an image's rows
and columns; K side of a crop; J L the rows and columns of what the network sees of it: K K for networks that see the
interpolated image, K / factor for those that see the LR image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.operators import Downscale
from zssr_gan.devices import upload
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Scale, Size, reduced_size, resize
from zssr_gan.seeds import derive_seed, normal, uniform
from zssr_gan.settings.zeroshot import PairSettings
from zssr_gan.zeroshot.state import PerNetwork

_EQUAL_SCALES = 0.05
"""Scales of rows and columns that differ by less count as one: half a pixel of a side of 10."""


@dataclass(frozen=True, slots=True)
class Task:
    """What networks learn: the pairs' scale and degradation, and how the network enlarges."""

    scale: Scale
    """(y, x): an LR patch is smaller than its HR patch by this."""
    factor: tuple[int, int]
    """(1, 1): the LR patch is enlarged by interpolation before the network sees it; else equal to `scale`, and the
    network enlarges it itself."""
    downscale: Downscale
    precision: str = "fp32"
    """`fp32` or `bf16` (products in bfloat16; weights, sums and losses in float32)."""

    @classmethod
    def of(cls, scale: Scale, grid: str, downscale: Downscale, precision: str = "fp32") -> "Task":
        """What networks on that grid (`interpolated` or `lr`) learn for a step of `scale`."""
        if grid == "interpolated":
            return cls(scale, (1, 1), downscale, precision)
        # A network on the LR grid enlarges by whole factors; what is too large is reduced afterwards.
        factor = (math.ceil(scale[0] - 1e-9), math.ceil(scale[1] - 1e-9))
        return cls((float(factor[0]), float(factor[1])), factor, downscale, precision)

    @property
    def symmetries(self) -> tuple[int, ...]:
        """The flips and turns under which a pair stays true: odd ones swap the axes, and so their scales."""
        # Sizes are whole pixels, so equal scales come out of a plan a little apart.
        equal = abs(self.scale[0] - self.scale[1]) < _EQUAL_SCALES
        possible = dihedral.ALL if equal else dihedral.AXIS_KEEPING
        return tuple(k for k in possible if k in self.downscale.symmetries)

    @property
    def multiples(self) -> tuple[int, int]:
        """Rows and columns of an HR image are whole multiples of these: all pixels then have a place in the LR one."""
        multiple = self.downscale.multiple
        return math.lcm(multiple, self.factor[0]), math.lcm(multiple, self.factor[1])

    def cut(self, image: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """`... H W` without its first `shift` rows and columns, and without the last that are no whole multiple."""
        rows, columns = (
            slice(by, by + (side - by) // multiple * multiple)
            for by, side, multiple in zip(shift, image.shape[-2:], self.multiples, strict=True)
        )
        return image[..., rows, columns]

    def shrink(self, hr: Tensor) -> Tensor:
        """The LR images of HR images `B C H W` (cut to whole multiples), without the camera's noise."""
        return self.downscale(hr, reduced_size((hr.shape[-2], hr.shape[-1]), self.scale))

    def network_input(self, lr: Tensor, size: Size) -> Tensor:
        """What a network sees of LR images: themselves, or enlarged to the `size` of the HR ones."""
        return resize(lr, size) if self.factor == (1, 1) else lr

    def make_input(self, hr: Tensor) -> Tensor:
        """What a network sees of HR images `B C H W` (cut to whole multiples)."""
        return self.network_input(self.shrink(hr), (hr.shape[-2], hr.shape[-1]))


@dataclass
class _TrainingImage(PerNetwork):
    """An image to learn from, for each network, with what the network sees of it."""

    target_NCHW: Tensor
    input_NCJL: Tensor
    learn_N1HW: Tensor | None
    """1 where a network may learn from the pixel, 0 where it is held out; None: everywhere."""
    learn_around_N1HW: Tensor | None
    """The same of the pixel and all within 2 of it, which bicubic looks at."""

    @property
    def size(self) -> Size:
        return self.target_NCHW.shape[-2], self.target_NCHW.shape[-1]


class PairSource(PerNetwork):
    """The images that pairs are cut of, N of each size.

    Args:
        settings: shares and strengths of the augmentations.
        images: `N C H W` each, [0, 1]; a crop is of one of them, each as often.
        learn: `N H W` of the first image's size, 1 where it may be learnt from, or None for everywhere. It is
            stretched over the other images.
        task: scale and degradation that the pairs teach.
    """

    DRAWS = 9
    """Uniform draws that one crop takes: kind, symmetry, two of place, scale, two of shape, angle, image."""

    def __init__(self, settings: PairSettings, images: list[Tensor], learn: Tensor | None, task: Task) -> None:
        self.settings, self.task = settings, task
        self.symmetries = task.symmetries
        # Shifted by each whole pixel below the scale, an image is sampled at every sub-pixel phase.
        shifts = [range(math.ceil(factor)) if settings.phases else range(1) for factor in task.scale]
        self.images = [
            self._prepare(image, learn, (dy, dx)) for image in images for dy in shifts[0] for dx in shifts[1]
        ]

    def _prepare(self, image: Tensor, learn: Tensor | None, shift: tuple[int, int]) -> _TrainingImage:
        # A view, not a copy: four phases of a large image would be four large images.
        target = self.task.cut(image, shift)
        if learn is None:
            return _TrainingImage(target, self.task.make_input(target), None, None)
        mask = F.interpolate(learn[:, None].to(image), size=image.shape[-2:], mode="nearest")
        mask = self.task.cut(mask, shift)
        around = -F.max_pool2d(-mask, 5, stride=1, padding=2)
        return _TrainingImage(target, self.task.make_input(target), mask, around)

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.images[0].target_NCHW.device

    @property
    def side(self) -> int:
        """Side of a crop in pixels: the settings', as far as the images allow; at least one whole multiple of the
        factors, which may be more."""
        step = math.lcm(*self.task.factor)
        room = min(n for image in self.images for n in image.size)
        return min(max(self.settings.crop, step), room) // step * step

    def noise_count(self, side: int) -> int:
        """Normal draws that one crop of `side` takes: none where LR patches have no noise and no compression."""
        if not self.task.downscale.captures:
            return 0
        return self.images[0].target_NCHW.shape[1] * math.prod(reduced_size((side, side), self.task.scale))

    def take(self, image_S: Tensor, draws_SD: Tensor, noise_SE: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cut one pair for each sample.

        Args:
            image_S: which of the N images, on the CPU.
            draws_SD: `S DRAWS`, uniform in [0, 1), on the CPU, where they decide how crops are made: a GPU gets no more
                of them than it needs.
            noise_SE: `S noise_count(side)`, standard normal, where the images are.
            side: of the crops, at most `self.side` and a multiple of the factor.

        Returns:
            Inputs `S C J L`, targets `S C K K`, and `S 1 K K` with 1 where the loss counts.
        """
        kind = draws_SD[:, 0]
        symmetry_S = _pick(draws_SD[:, 1], len(self.symmetries))
        symmetry_S = torch.where(kind >= 1 - self.settings.plain, torch.zeros_like(symmetry_S), symmetry_S)
        number_S, warped_S = _pick(draws_SD[:, 8], len(self.images)), kind < self.settings.affine
        parts, places = [], []
        for number, image in enumerate(self.images):
            for warped, cut in ((False, self._cut), (True, self._warp)):
                at = ((number_S == number) & (warped_S == warped)).nonzero()[:, 0]
                if len(at):
                    parts.append(cut(image, image_S[at], symmetry_S[at], draws_SD[at], side))
                    places.append(at)
        x, y, mask = parts[0]
        if len(parts) > 1:
            back = upload(torch.cat(places).argsort(), self.device)
            x, y, mask = (torch.cat(tensors)[back] for tensors in zip(*parts, strict=True))
        if self.noise_count(side):
            # Noise and compression are a camera's, so they are of the LR patch's pixels, and are enlarged with them.
            size = reduced_size((side, side), self.task.scale)
            lr = x if self.task.factor != (1, 1) else resize(x, size)
            added = self.task.downscale.capture(lr, noise_SE.reshape(*x.shape[:2], *size)) - lr
            x = x + resize(added, (x.shape[-2], x.shape[-1]))
        return x, y, mask

    def _cut(
        self, image: _TrainingImage, image_S: Tensor, symmetry_S: Tensor, draws: Tensor, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Square crops in one of the symmetries, gathered, so exact to the pixel; arguments on the CPU."""
        fy, fx = self.task.factor
        # Crops start on the LR image's pixels, so that both patches show the same part.
        rows, columns = (n // f for n, f in zip(image.size, (fy, fx), strict=True))
        top_S = _pick(draws[:, 2], rows - side // fy + 1)
        left_S = _pick(draws[:, 3], columns - side // fx + 1)
        image_S, symmetry_S, top_S, left_S = upload(torch.stack([image_S, symmetry_S, top_S, left_S]), self.device)

        def places(fy: int, fx: int, height: int, width: int) -> tuple[Tensor, Tensor]:
            maps = dihedral.index_maps(height, width, self.symmetries, self.device)
            row_S, column_S = (m[symmetry_S] for m in maps)
            return row_S + top_S[:, None, None] * fy, column_S + left_S[:, None, None] * fx

        def gather(images: Tensor, rows_and_columns: tuple[Tensor, Tensor]) -> Tensor:
            return images[image_S[:, None, None], :, *rows_and_columns].movedim(-1, 1)

        here = places(fy, fx, side, side)
        lr = here if (fy, fx) == (1, 1) else places(1, 1, side // fy, side // fx)
        learn = image.learn_N1HW
        mask = torch.ones(len(draws), 1, side, side, device=self.device) if learn is None else gather(learn, here)
        return gather(image.input_NCJL, lr), gather(image.target_NCHW, here), mask

    def _warp(
        self, image: _TrainingImage, image_S: Tensor, symmetry_S: Tensor, draws: Tensor, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Square crops of the image scaled, stretched, sheared and turned; the LR patch is made of the warped crop.
        Arguments are on the CPU.

        The crop is warped with a margin as wide as shrinking and enlarging look, which is then cut off, so that a
        crop's edge is no border. Pixels from outside the image are mirrored ones, and do not count in the loss.
        """
        rows, columns = image.size
        matrix_S22 = self._matrices(draws) @ _symmetry_matrices(self.symmetries)[symmetry_S]
        # Half of what a crop covers along x and y, in the image's pixels. Up to half a crop may lie outside: crops
        # kept inside would show a small image's middle over and over, and its borders hardly ever.
        half_S2 = matrix_S22.abs().sum(2) * side / 2
        size = torch.tensor([columns, rows], dtype=torch.float32)
        room_S2 = (size - half_S2).clamp(min=0)
        centre_S2 = size / 2 + room_S2 * (draws[:, 2:4] - 0.5)

        step = math.lcm(*self.task.multiples)
        margin = -(-(math.ceil(4 * max(self.task.scale)) + self.task.downscale.reach) // step) * step
        read = -(-(side + 2 * margin) // step) * step
        matrix_S22, centre_S2 = (upload(x, self.device) for x in (matrix_S22, centre_S2))
        size, offset_2 = _width_and_height(columns, rows, self.device), _offsets(read, margin, side, self.device)
        position_SKK2 = (matrix_S22[:, None, None] @ offset_2[..., None])[..., 0] + centre_S2[:, None, None]
        grid = position_SKK2 / size * 2 - 1

        def look(images: Tensor, mode: str) -> Tensor:
            # The image of a single network is looked at by all its crops without a copy.
            source = images.expand(len(grid), -1, -1, -1) if len(images) == 1 else images[upload(image_S, self.device)]
            return F.grid_sample(source, grid, mode=mode, padding_mode="reflection", align_corners=False)

        warped = look(image.target_NCHW, "bicubic").clamp(0, 1)
        seen = self.task.make_input(warped)
        mask = ((position_SKK2 >= 0) & (position_SKK2 <= size)).all(-1)[:, None].to(warped)
        if image.learn_around_N1HW is not None:
            mask = mask * look(image.learn_around_N1HW, "nearest")
        inner = (..., slice(margin, margin + side), slice(margin, margin + side))
        rows_seen, columns_seen = (slice(margin // f, (margin + side) // f) for f in self.task.factor)
        return seen[..., rows_seen, columns_seen], warped[inner], mask[inner]

    def _matrices(self, draws: Tensor) -> Tensor:
        """`S 2 2`: from a warped crop's pixels (x, y) to the image's."""
        s = self.settings
        scale = s.scale_min + (1 - s.scale_min) * draws[:, 4]
        # A normal number out of a uniform one, by its quantile function; the ends are cut, not infinite.
        shape = torch.special.ndtri(draws[:, 5:7].clamp(0.005, 0.995))
        stretch = torch.exp(shape[:, 0] * s.anisotropy / 2)
        shear = shape[:, 1] * s.shear
        angle = draws[:, 7] * 2 * math.pi
        shrink = torch.stack([1 / (scale * stretch), shear, torch.zeros_like(scale), stretch / scale], -1)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1)
        matrix: Tensor = shrink.unflatten(-1, (2, 2)) @ turn.unflatten(-1, (2, 2))
        return matrix


class PairSampler(PerNetwork):
    """Draws each network's batches of pairs by its own seed and its own iteration."""

    def __init__(self, source: PairSource, seeds: list[int]) -> None:
        self.source = source
        streams = [[derive_seed(name, seed) for name in ("pairs", "noise")] for seed in seeds]
        self.seeds_N2 = torch.tensor(streams)  # on the CPU, where draws decide how crops are made

    def sample(self, iteration_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of each network's iteration: inputs `N B C J L`, targets `N B C K K`, masks `N B 1 K K`."""
        networks, batch, side = len(iteration_N), self.source.settings.batch, self.source.side
        draws_SD = uniform(self.seeds_N2[:, 0], iteration_N, batch * PairSource.DRAWS).reshape(-1, PairSource.DRAWS)
        noise_SE = torch.empty(networks * batch, 0)
        if noises := self.source.noise_count(side):
            seeds_N2 = upload(torch.stack([self.seeds_N2[:, 1], iteration_N], 1), self.source.device)
            noise_SE = normal(seeds_N2[:, 0], seeds_N2[:, 1], batch * noises).reshape(-1, noises)
        image_S = torch.arange(networks).repeat_interleave(batch)
        x, y, mask = self.source.take(image_S, draws_SD, noise_SE, side)
        return (
            x.unflatten(0, (networks, batch)),
            y.unflatten(0, (networks, batch)),
            mask.unflatten(0, (networks, batch)),
        )


def group_alike(images: Sequence[Tensor], tasks: Sequence[Task]) -> list[tuple[Task, list[int]]]:
    """Numbers of the images of each size and camera, in the order of the first."""
    groups: dict[tuple[Size, Task], list[int]] = {}
    for number, (image, task) in enumerate(zip(images, tasks, strict=True)):
        groups.setdefault(((image.shape[-2], image.shape[-1]), task), []).append(number)
    return [(task, group) for (_, task), group in groups.items()]


def _pick(draws: Tensor, count: int) -> Tensor:
    """Numbers 0 to count - 1, each as often, out of draws in [0, 1)."""
    return (draws * count).long().clamp(max=count - 1)


@lru_cache(maxsize=64)
def _width_and_height(width: int, height: int, device: torch.device) -> Tensor:
    return upload(torch.tensor([width, height], dtype=torch.float32), device)


@lru_cache(maxsize=64)
def _offsets(read: int, margin: int, side: int, device: torch.device) -> Tensor:
    """`read read 2`: offsets (x, y) of the pixels of a crop that is read with its margin from the crop's centre."""
    offset = torch.arange(read, device=device) - margin - (side - 1) / 2
    return torch.stack(torch.meshgrid(offset, offset, indexing="xy"), -1)


@lru_cache(maxsize=64)
def _symmetry_matrices(symmetries: tuple[int, ...]) -> Tensor:
    """`S 2 2`: from (x, y) offsets in an image that a symmetry was applied to, to offsets in the image before."""
    quarter, mirror = torch.tensor([[0.0, -1.0], [1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    turns: list[Tensor] = [torch.linalg.matrix_power(quarter, k & 3) for k in symmetries]
    return torch.stack([mirror @ turn if k & 4 else turn for k, turn in zip(symmetries, turns, strict=True)])
