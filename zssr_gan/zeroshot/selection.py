"""Network or plain back-projection? Decided on parts of the image that the networks were not trained on.

On a tiny image a network can be worse than back-projection, and no ground truth is there to compare with. But the image
itself is the ground truth of its own shrunk copy: the networks, each trained with one fold of the image held out,
enlarge the shrunk copy, and their outputs on the held-out folds are compared with the image, like back-projection's.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.degradation.operators import back_project
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.zeroshot.ensemble import median, views
from zssr_gan.zeroshot.pairs import Task

_MEASURED = 64 * 64
"""Pixels of an image above which figures that decide nothing are not measured."""

_SMALLEST_BLOCK = 8  # pixels: a block that is held out is larger than what bicubic looks at


@dataclass(frozen=True, slots=True)
class Selection:
    """The blend weight of the network: `result = back-projection + share * (network - back-projection)`."""

    share: float = 1.0
    """0: plain back-projection; 1: the network."""
    why: str = ""
    """One sentence."""
    network_db: float | None = None
    """PSNR of the networks on the image's own shrunk copy, all channels: on the held-out parts, or, where nothing was
    held out, on all of it, which they may have learnt from. None where it was not measured."""
    back_projection_db: float | None = None
    """The same of back-projection."""
    held_out: bool = False
    """Whether the two figures are of parts that the networks did not learn from."""
    mixed_db: float | None = None
    """The same of the blend."""


@torch.no_grad()
def select(
    network: ZSSR,
    image_CHW: Tensor,
    folds_HW: Tensor | None,
    task: Task,
    symmetries: tuple[int, ...],
    iterations: int,
    why: str,
) -> Selection:
    """Find the blend weight that fits the held-out pixels best (least squares, then clipped to [0, 1]).

    Args:
        network: network j was trained without the pixels of fold j.
        image_CHW: the LR image, [0, 1].
        folds_HW: each pixel's fold; None: nothing is held out, and the blend weight is 1.
        task: as trained.
        symmetries: of the ensemble, as when the networks are applied.
        iterations: back-projections, as when the networks are applied.
        why: the reason where nothing is held out.
    """
    if folds_HW is None and image_CHW[0].numel() > _MEASURED:
        return Selection(1.0, why)
    image = task.cut(image_CHW)
    size = (image.shape[-2], image.shape[-1])
    lr = task.shrink(image[None])
    if task.downscale.captures:  # its noise is the same for all images, so that results can be repeated
        noise = torch.randn(lr.shape, generator=torch.Generator().manual_seed(0))
        lr = task.downscale.capture(lr, noise.to(lr))
    plain = back_project(resize(lr, size).clone(), lr, task.downscale, iterations)[0]
    seen = views(network, task.network_input(lr, size)[0], symmetries, task.precision)

    def consistent(its_views: Tensor) -> Tensor:
        return back_project(median(its_views)[None], lr, task.downscale, iterations)[0]

    if folds_HW is None:
        return Selection(1.0, why, _decibel(image - consistent(seen)), _decibel(image - plain))
    folds = task.cut(folds_HW).to(image.device)
    seen = seen.unflatten(0, (len(symmetries), network.members))
    predicted = plain.clone()
    for fold in range(network.members):
        predicted = torch.where(folds == fold, consistent(seen[:, fold]), predicted)
    held_out = (folds < network.members).expand_as(image)
    missing = (image - plain)[held_out].cpu().double()
    offered = (predicted - plain)[held_out].cpu().double()
    share = float((missing * offered).sum() / (offered * offered).sum().clamp(min=1e-12))
    share = min(1.0, max(0.0, share))
    network_db, plain_db, mixed_db = (_decibel(missing - part * offered) for part in (1.0, 0.0, share))
    gain = network_db - plain_db
    why = (
        f"on held-out parts of the image's own shrunk copy the network is {abs(gain):.2f} dB "
        f"{'better' if gain >= 0 else 'worse'} than back-projection; a share of {share:.2f} fits them best"
    )
    return Selection(share, why, network_db, plain_db, True, mixed_db)


def _decibel(error: Tensor) -> float:
    """PSNR of an error in [0, 1] units, at most 100 dB."""
    return psnr_db(float(error.cpu().double().square().mean()))


def fold_map(size: Size, folds: int) -> Tensor:
    """Deal an image's square blocks into folds so that neighbours are in different ones.

    Args:
        size: rows and columns.
        folds: at least 2; larger blocks are taken on larger images (about `4 * folds` blocks in all).

    Returns:
        `H W` int64, the fold of each pixel.
    """
    side = max(_SMALLEST_BLOCK, math.ceil(math.sqrt(size[0] * size[1] / (4 * folds))))
    side = min(side, max(1, min(size) // 2))  # no fold may be the whole of a tiny image
    stride = max(1, round(math.sqrt(folds)))
    rows, columns = torch.arange(size[0]) // side, torch.arange(size[1]) // side
    return (rows[:, None] * stride + columns[None]) % folds
