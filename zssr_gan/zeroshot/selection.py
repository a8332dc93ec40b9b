"""Network or plain back-projection? Decided on parts of the image that the networks were not trained on.

On a tiny image a network can be worse than back-projection, and no ground truth is there to compare with. But the image
itself is the ground truth of its own shrunk copy: the networks, each trained with one fold of the image held out,
enlarge the shrunk copy, and their outputs on the held-out folds are compared with the image, like back-projection's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.degradation.operators import back_project
from zssr_gan.devices import upload
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.zeroshot.ensemble import Enlarger, median, views
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


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Blend weights of K images on their device, and what they came from: read back for all images at once."""

    share_K: Tensor
    """float64."""
    errors_K: tuple[Tensor, ...] = ()
    """Mean squared errors, float64, of the networks, of back-projection, and, where pixels were held out, of the
    blend; empty where they were not measured."""

    @property
    def figures(self) -> tuple[Tensor, ...]:
        """The tensors to read back for `selection`."""
        return self.share_K, *self.errors_K

    def selection(self, figures: Sequence[Tensor], place: int, why: str) -> Selection:
        """Of the image at a place.

        Args:
            figures: on the CPU.
            place: 0 to K - 1.
            why: the reason where nothing is held out.
        """
        share, *errors = (float(one[place]) for one in figures)
        network_db, plain_db, mixed_db = (*map(psnr_db, errors), None, None, None)[:3]
        if network_db is None or plain_db is None or mixed_db is None:
            return Selection(share, why, network_db, plain_db)
        gain = network_db - plain_db
        why = (
            f"on held-out parts of the image's own shrunk copy the network is {abs(gain):.2f} dB "
            f"{'better' if gain >= 0 else 'worse'} than back-projection; a share of {share:.2f} fits them best"
        )
        return Selection(share, why, network_db, plain_db, True, mixed_db)


@torch.no_grad()
def measure(
    network: Enlarger,
    image_KCHW: Tensor,
    folds_HW: Tensor | None,
    task: Task,
    symmetries: tuple[int, ...],
    iterations: int,
) -> Measured:
    """Find the blend weight that fits the held-out pixels best (least squares, then clipped to [0, 1]), of each image.

    Args:
        network: network j was trained without the pixels of fold j.
        image_KCHW: the LR images, [0, 1].
        folds_HW: each pixel's fold, on the CPU; None: nothing is held out, and the blend weight is 1.
        task: as trained.
        symmetries: of the ensemble, as when the networks are applied.
        iterations: back-projections, as when the networks are applied.
    """
    ones_K = torch.ones(len(image_KCHW), dtype=torch.float64, device=image_KCHW.device)
    if folds_HW is None and image_KCHW[0, 0].numel() > _MEASURED:
        return Measured(ones_K)
    image = task.cut(image_KCHW)
    size = (image.shape[-2], image.shape[-1])
    lr = task.shrink(image)
    if task.downscale.captures:  # its noise is the same for all images, so that results can be repeated
        noise = torch.randn(1, *lr.shape[1:], generator=torch.Generator().manual_seed(0))
        lr = task.downscale.capture(lr, upload(noise, lr.device).expand(len(lr), -1, -1, -1))
    plain = back_project(resize(lr, size).clone(), lr, task.downscale, iterations)
    seen = views(network, task.network_input(lr, size), symmetries, task.precision)

    def consistent(its_views: Tensor) -> Tensor:
        return back_project(median(its_views), lr, task.downscale, iterations)

    if folds_HW is None:
        return Measured(ones_K, (_squared(image - consistent(seen)), _squared(image - plain)))
    folds = task.cut(folds_HW)
    seen = seen.unflatten(0, (len(symmetries), network.members))
    predicted = plain.clone()
    for fold in range(network.members):
        predicted = torch.where(upload(folds == fold, image.device), consistent(seen[:, fold]), predicted)
    held_out = upload((folds < network.members).flatten().nonzero()[:, 0], image.device)
    missing, offered = (
        (one - plain).flatten(2).index_select(2, held_out).flatten(1).double() for one in (image, predicted)
    )
    share_K = (missing * offered).sum(1) / (offered * offered).sum(1).clamp(min=1e-12)
    share_K = share_K.clamp(0, 1).nan_to_num(0.0)
    errors = (_squared(missing - part * offered) for part in (1.0, 0.0, share_K[:, None]))
    return Measured(share_K, tuple(errors))


def _squared(error: Tensor) -> Tensor:
    """`K`: mean squared error of each image, float64."""
    return error.flatten(1).double().square().mean(1)


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
