"""Apply networks to an image: geometric self-ensemble, tiled, with the views' disagreement.

Geometric self-ensemble: the image goes through in each of its flips and turns, each output is turned back, and the
outputs ('views') are combined pixel by pixel (Timofte et al. 2016; in ZSSR by the median).

Shapes: C channels, H W rows and columns of the networks' input, fH fW of their output, V views. Images may lie in a
batch, `B C H W`, which is then a dimension of every result too.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from zssr_gan.degradation.operators import Downscale, back_project
from zssr_gan.errors import DeviceError, NumericalError, is_out_of_memory
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Size, enlarged_size, resize
from zssr_gan.imaging.tiles import plan_tiles
from zssr_gan.progress import OnCount
from zssr_gan.settings.zeroshot import OutputSettings, ZeroShotSettings
from zssr_gan.zeroshot.fleet import autocast
from zssr_gan.zeroshot.pairs import Task, group_alike

_SMALLEST_TILE = 64

_TOGETHER = 64 * 64  # pixels of an image whose views are put through at once

_PROJECTED_TOGETHER = 2**20  # output pixels of the views that are back-projected at once

_BATCH = 32  # images of one size that are put through at once

_KERNEL_BACK_PROJECTIONS = 2  # of a blur kernel from a file: more diverge


class Enlarger(Protocol):
    """Networks of one kind that see the same image, each with weights of its own."""

    @property
    def members(self) -> int:
        """How many there are, N."""

    @property
    def factor(self) -> tuple[int, int]:
        """Whole factors (y, x) by which they enlarge."""

    @property
    def radius(self) -> int:
        """Pixels of the input that are looked at beyond the own one, on each side."""

    @property
    def grid(self) -> int:
        """Pixels of the input at whose multiples alone it may be cut (`Facts.grid`)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """`N B C H W` in, `N B C fH fW` out."""


def views(
    network: Enlarger, x_CHW: Tensor, symmetries: tuple[int, ...], precision: str, per_pass: int | None = None
) -> Tensor:
    """All views of one (part of an) image by all networks.

    Args:
        network: N networks.
        x_CHW: their input, or a batch of inputs.
        symmetries: the flips and turns.
        precision: of their products.
        per_pass: symmetries that are put through at once; None: all of several images or of a tiny one (one view alone
            does not fill the device), one by one of a larger image.

    Returns:
        `V C fH fW`, V = symmetries times networks (networks fastest), not clipped.
    """
    turned = [dihedral.transform(x_CHW, k) for k in symmetries]
    batch = x_CHW.shape[:-3]
    if per_pass is None:
        per_pass = len(turned) if batch.numel() > 1 or x_CHW[..., 0, :, :].numel() <= _TOGETHER else 1
    out: dict[int, Tensor] = {}
    for shape in dict.fromkeys(view.shape for view in turned):
        numbers = [n for n, view in enumerate(turned) if view.shape == shape]
        for at in range(0, len(numbers), per_pass):
            some = numbers[at : at + per_pass]
            x_BCHW = torch.stack([turned[n] for n in some]).flatten(0, -4)
            with autocast(x_CHW.device, precision):
                y_NBCHW = network(x_BCHW.expand(network.members, -1, -1, -1, -1))
            for n, y in zip(some, y_NBCHW.unflatten(1, (len(some), *batch)).transpose(0, 1), strict=True):
                out[n] = dihedral.inverse(y, symmetries[n])
    return torch.cat([out[n] for n in range(len(turned))])


def median(views_VCHW: Tensor) -> Tensor:
    """`C H W`, of an even number of views the mean of the middle two: torch.median would darken the image."""
    ordered = views_VCHW.sort(0).values
    middle = (len(ordered) - 1) // 2
    return ordered[middle : len(ordered) // 2 + 1].mean(0)


def disagreement(views_VCHW: Tensor) -> Tensor:
    """Standard deviation of the views `H W` in 8-bit levels: mean over channels, float16."""
    return (views_VCHW.std(0, correction=0).mean(-3) * 255).half()


@torch.no_grad()
def apply_ensemble(
    network: Enlarger,
    lr: Tensor,
    size: Size,
    symmetries: tuple[int, ...],
    precision: str,
    tile: int,
    on_tile: OnCount | None = None,
    per_pass: int | None = None,
    each: tuple[Downscale, int] | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Enlarge an image by the median of all views, tile by tile; its own back-projection and clipping are the caller's.

    Args:
        network: networks that see the image interpolated to `size` (factor 1), or enlarge it themselves.
        lr: `C H W`, or a batch `B C H W`, [0, 1].
        size: rows and columns of the result.
        symmetries: the flips and turns of the views.
        precision: of the networks' products.
        tile: side of a tile in output pixels.
        on_tile: called with tiles done and tiles in all.
        per_pass: see `views`.
        each: back-projections of every view of a batch by itself, which needs all views in memory: no tiles.

    Returns:
        The image `C sH sW`, the views' disagreement `sH sW`, and the side of the tiles that fitted into memory.

    Raises:
        DeviceError: tiles of 64 pixels are still too large for the device.
    """
    x = resize(lr, size) if network.factor == (1, 1) else lr
    if each is not None:
        seen = views(network, x, symmetries, precision, per_pass)
        spread = disagreement(seen)
        _project_views(seen := resize(seen.flatten(0, 1), size), lr, *each)
        if on_tile is not None:
            on_tile(1, 1)
        return median(seen.unflatten(0, (-1, len(lr)))), _resized_spread(spread, size), tile
    while True:
        try:
            out, spread = _apply_tiled(network, x, symmetries, precision, tile, on_tile, per_pass)
            break
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            if tile <= _SMALLEST_TILE:
                raise DeviceError(
                    f"the device has too little memory even for tiles of {tile} pixels: use the device cpu"
                ) from error
            largest = max(side * f for side, f in zip(x.shape[-2:], network.factor, strict=True))
            tile = max(_SMALLEST_TILE, min(tile, largest) // 2)
    return resize(out, size), _resized_spread(spread, size), tile


def _resized_spread(spread: Tensor, size: Size) -> Tensor:
    return resize(spread[None].float(), size)[0].clamp_(min=0).half()


def _project_views(views_VCHW: Tensor, lr_BCHW: Tensor, downscale: Downscale, iterations: int) -> None:
    """Back-project the views of images in place, images fastest."""
    together = max(1, _PROJECTED_TOGETHER // views_VCHW[0, 0].numel())
    lr_VCHW = lr_BCHW.repeat(len(views_VCHW) // len(lr_BCHW), 1, 1, 1)
    for some, its in zip(views_VCHW.split(together), lr_VCHW.split(together), strict=True):
        back_project(some, its, downscale, iterations)


def check_finite(out: Tensor) -> None:
    """Raises NumericalError where networks gave NaN or infinity. It makes the host wait for a GPU."""
    if not torch.isfinite(out).all():
        raise NumericalError("the network gave NaN or infinity; try the precision fp32")


def _apply_tiled(
    network: Enlarger,
    x: Tensor,
    symmetries: tuple[int, ...],
    precision: str,
    tile: int,
    on_tile: OnCount | None,
    per_pass: int | None,
) -> tuple[Tensor, Tensor]:
    (height, width), (fy, fx) = x.shape[-2:], network.factor
    out = x.new_empty(*x.shape[:-2], height * fy, width * fx)
    spread = torch.empty(*x.shape[:-3], *out.shape[-2:], dtype=torch.float16, device=out.device)
    # Tiles are planned on the input, whose pixels each become a whole block of the output.
    plan = list(plan_tiles((height, width), max(1, tile // max(fy, fx)), network.radius, network.grid))
    for number, part in enumerate(plan):
        keep, inner = ((_times(rows, fy), _times(columns, fx)) for rows, columns in (part.keep, part.inner))
        seen = views(network, x[..., *part.read], symmetries, precision, per_pass)[..., *inner]
        out[..., *keep] = median(seen)
        spread[..., *keep] = disagreement(seen)
        if on_tile is not None:
            on_tile(number + 1, len(plan))
    return out, spread


def _times(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)


def used_symmetries(possible: tuple[int, ...], settings: OutputSettings) -> tuple[int, ...]:
    """The flips and turns of the views; the image alone without self-ensemble."""
    return possible if settings.ensemble else (0,)


def back_projections(settings: OutputSettings, downscale: Downscale) -> int:
    """How many back-projections the settings ask for with this degradation."""
    count = settings.back_projections
    return min(count, _KERNEL_BACK_PROJECTIONS) if downscale.name == "kernel" else count


def project_and_clip(result: Tensor, lr: Tensor, downscale: Downscale, iterations: int) -> Tensor:
    """Back-project results `B C sH sW` onto their LR images, in place, and clip them to [0, 1]."""
    return back_project(result, lr, downscale, iterations).clamp_(0, 1)


@torch.no_grad()
def apply_many(
    network: Enlarger, images: Sequence[Tensor], settings: ZeroShotSettings, tasks: Task | Sequence[Task]
) -> list[Tensor]:
    """Results of one network on many images: self-ensemble and back-projection, many images at once.

    Args:
        network: a fleet of one.
        images: `C H W` each.
        settings: refinement.
        tasks: one for all, or one for each image.
    """
    out: dict[int, Tensor] = {}
    for task, group in group_alike(images, [tasks] * len(images) if isinstance(tasks, Task) else tasks):
        height, width = images[group[0]].shape[-2:]
        size, symmetries = (
            enlarged_size((height, width), task.scale),
            used_symmetries(task.symmetries, settings.refinement),
        )
        for at in range(0, len(group), _BATCH):
            some = group[at : at + _BATCH]
            lr = torch.stack([images[n] for n in some])
            made, _, _ = apply_ensemble(network, lr, size, symmetries, task.precision, max(size), per_pass=1)
            check_finite(made)
            made = project_and_clip(made, lr, task.downscale, settings.refinement.back_projections)
            out |= dict(zip(some, made, strict=True))
    return [out[n] for n in range(len(images))]
