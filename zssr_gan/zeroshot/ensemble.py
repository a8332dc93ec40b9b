"""Putting an image through its networks: geometric self-ensemble, tiled, with the members' disagreement.

Geometric self-ensemble: the image is put through in each of its flips and turns, each output is turned back, and the
outputs ('views') are combined pixel by pixel (Timofte et al. 2016; in ZSSR by the median).

Shapes: C channels, H W rows and columns of the networks' input, fH fW of their output, V views. Images may lie in a
batch, `B C H W`, which is then a dimension of every outcome too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from zssr_gan.errors import DeviceError, NumericalError, is_out_of_memory
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.tiles import plan_tiles
from zssr_gan.zeroshot.fleet import autocast

_SMALLEST_TILE = 64

_TOGETHER = 64 * 64  # pixels of an image whose views are put through at once


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


@dataclass(frozen=True, slots=True)
class EnsembleOptions:
    """How views are made and combined."""

    symmetries: tuple[int, ...]
    combine: str
    """`median` or `mean`."""
    tile: int
    """Side of a tile in output pixels."""
    precision: str


def views(network: Enlarger, image_CHW: Tensor, options: EnsembleOptions) -> Tensor:
    """All views of one (part of an) image by all members of a fleet.

    Args:
        network: N members.
        image_CHW: the interpolated image, or the LR image of networks that enlarge it themselves; or a batch of them.
        options: its symmetries and precision.

    Returns:
        `V C fH fW`, V = symmetries times members (members fastest), not clipped.
    """
    seen = [dihedral.transform(image_CHW, k) for k in options.symmetries]
    # Of a tiny image all views of one shape go through at once: one alone does not fill the device. How many images
    # are a batch is settled with all their views in mind.
    batch = image_CHW.shape[:-3]
    together = len(seen) if batch or image_CHW[0].numel() <= _TOGETHER else 1
    out: dict[int, Tensor] = {}
    for shape in dict.fromkeys(view.shape for view in seen):
        numbers = [n for n, view in enumerate(seen) if view.shape == shape]
        for at in range(0, len(numbers), together):
            some = numbers[at : at + together]
            x_BCHW = torch.stack([seen[n] for n in some]).flatten(0, -4)
            with autocast(image_CHW.device, options.precision):
                y_NBCHW = network(x_BCHW.expand(network.members, -1, -1, -1, -1))
            for n, y in zip(some, y_NBCHW.unflatten(1, (len(some), *batch)).transpose(0, 1), strict=True):
                out[n] = dihedral.inverse(y, options.symmetries[n])
    return torch.cat([out[n] for n in range(len(seen))])


def combine(views_VCHW: Tensor, how: str) -> Tensor:
    """One image `C H W` out of `V C H W`, by the `median` (of an even number: the mean of the middle two) or `mean`."""
    if how == "mean":
        return views_VCHW.mean(0)
    # torch.median takes the lower of the middle two, which would darken the image.
    ordered = views_VCHW.sort(0).values
    middle = (len(ordered) - 1) // 2
    return ordered[middle : len(ordered) // 2 + 1].mean(0)


@torch.no_grad()
def apply_ensemble(
    network: Enlarger, image_CHW: Tensor, options: EnsembleOptions, on_tile: Callable[[int, int], None] | None = None
) -> tuple[Tensor, Tensor, int]:
    """Put an image through a fleet, tile by tile.

    Args:
        network: the fleet.
        image_CHW: the networks' input (see `views`), [0, 1] but for overshoot; or a batch of them.
        options: symmetries, how to combine, tile.
        on_tile: called with tiles done and tiles in all.

    Returns:
        The combined image `C fH fW` (not clipped), the standard deviation of the views `fH fW` in 8-bit levels (mean
        over channels, float16), and the side of the tiles that fitted into memory, in output pixels.

    Raises:
        NumericalError: NaN or infinity came out.
        DeviceError: tiles of 64 pixels are still too large for the device.
    """
    tile = options.tile
    while True:
        try:
            out, spread = _tiled(network, image_CHW, options, tile, on_tile)
            break
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            if tile <= _SMALLEST_TILE:
                raise DeviceError(
                    f"the device has too little memory even for tiles of {tile} pixels: use the device cpu"
                ) from error
            largest = max(side * f for side, f in zip(image_CHW.shape[-2:], network.factor, strict=True))
            tile = max(_SMALLEST_TILE, min(tile, largest) // 2)
    if not torch.isfinite(out).all():
        raise NumericalError("the network gave NaN or infinity; try the precision fp32")
    return out, spread, tile


def _tiled(
    network: Enlarger,
    image_CHW: Tensor,
    options: EnsembleOptions,
    tile: int,
    on_tile: Callable[[int, int], None] | None,
) -> tuple[Tensor, Tensor]:
    (height, width), (fy, fx) = image_CHW.shape[-2:], network.factor
    out = image_CHW.new_empty(*image_CHW.shape[:-2], height * fy, width * fx)
    spread = torch.empty(*image_CHW.shape[:-3], *out.shape[-2:], dtype=torch.float16, device=out.device)
    # Tiles are planned on the input, whose pixels each become a whole block of the output.
    plan = list(plan_tiles((height, width), max(1, tile // max(fy, fx)), network.radius, network.grid))
    for number, part in enumerate(plan):
        keep, inner = ((_times(rows, fy), _times(columns, fx)) for rows, columns in (part.keep, part.inner))
        seen = views(network, image_CHW[..., *part.read], options)[..., *inner]
        out[..., *keep] = combine(seen, options.combine)
        spread[..., *keep] = (seen.std(0, correction=0).mean(-3) * 255).half()
        if on_tile is not None:
            on_tile(number + 1, len(plan))
    return out, spread


def _times(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)
