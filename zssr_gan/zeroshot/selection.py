"""Network or plain back-projection? Decided on parts of the image that the networks were not trained on.

On a tiny image a network can be worse than back-projection, and no truth is there to tell. But the image itself is
the truth of its own shrunk copy: the networks, each trained with one fold of the image held out, enlarge the shrunk
copy, and their outputs on the folds that they did not see are compared with the image, beside back-projection's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.degradation.operators import back_project
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.resize import reduced_size, resize
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ChoiceSettings
from zssr_gan.zeroshot.ensemble import EnsembleOptions, combine, views
from zssr_gan.zeroshot.pairs import Task

_MEASURED = 64 * 64
"""Pixels of an image above which figures that decide nothing are not taken."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How much of the network's result is used: `result = back-projection + share * (network - back-projection)`."""

    share: float
    """0: plain back-projection; 1: the network."""
    why: str
    """One sentence."""
    network_db: float | None = None
    """PSNR of the networks on the image's own shrunk copy, all channels: on the held-out parts, or, where nothing was
    held out, on all of it, which they may have learnt from. None where it was not measured."""
    back_projection_db: float | None = None
    """The same of back-projection."""
    held_out: bool = False
    """Whether the two figures are of parts that the networks did not learn from."""
    mixed_db: float | None = None
    """The same of the mixture that was chosen."""


@torch.no_grad()
def always_network(
    why: str,
    network: ZSSR,
    image_CHW: Tensor,
    options: EnsembleOptions,
    task: Task,
    iterations: int,
) -> Choice:
    """The choice where nothing is held out. Small images' figures on their own shrunk copies are taken all the same."""
    if image_CHW[0].numel() > _MEASURED:
        return Choice(1.0, why)
    image, son, plain = _own_copy(image_CHW, task, iterations)
    made = combine(views(network, task.seen(son, (image.shape[-2], image.shape[-1]))[0], options), options.combine)[
        None
    ]
    made = back_project(made, son, task.downscale, iterations)[0]
    return Choice(1.0, why, _decibel(image - made), _decibel(image - plain))


@torch.no_grad()
def choose(
    network: ZSSR,
    image_CHW: Tensor,
    folds_HW: Tensor,
    settings: ChoiceSettings,
    options: EnsembleOptions,
    task: Task,
    iterations: int,
) -> Choice:
    """Find the share of the network that fits the held-out pixels best (least squares, then kept within [0, 1]).

    Args:
        network: member j was trained without the pixels of fold j.
        image_CHW: the LR image, [0, 1].
        folds_HW: each pixel's fold.
        settings: the least share that counts.
        options: the ensemble, as in the use of the networks.
        task: as trained.
        iterations: back-projections, as in the use of the networks.
    """
    image, son, plain = _own_copy(image_CHW, task, iterations)
    folds = task.cut(folds_HW).to(image.device)
    seen = views(network, task.seen(son, (image.shape[-2], image.shape[-1]))[0], options).unflatten(
        0, (len(options.symmetries), network.members)
    )
    predicted = plain.clone()
    for member in range(network.members):
        one = combine(seen[:, member], options.combine)[None]
        one = back_project(one, son, task.downscale, iterations)[0]
        predicted = torch.where(folds == member, one, predicted)
    held_out = (folds < network.members).expand_as(image)
    missing = (image - plain)[held_out].cpu().double()
    offered = (predicted - plain)[held_out].cpu().double()
    share = float((missing * offered).sum() / (offered * offered).sum().clamp(min=1e-12))
    share = min(1.0, max(0.0, share))
    if share < settings.min_share:
        share = 0.0
    network_db, plain_db, mixed_db = (_decibel(missing - part * offered) for part in (1.0, 0.0, share))
    gain = network_db - plain_db
    why = (
        f"on held-out parts of the image's own shrunk copy the network is {abs(gain):.2f} dB "
        f"{'better' if gain >= 0 else 'worse'} than back-projection; a share of {share:.2f} fits them best"
    )
    return Choice(share, why, network_db, plain_db, True, mixed_db)


def _own_copy(image_CHW: Tensor, task: Task, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """An image as the truth of its own shrunk copy (`C H W`), that copy (`1 C h w`), and back-projection of it.

    The copy is as the camera would have kept it: with its noise, drawn alike for all images, and its compression.
    """
    image = task.cut(image_CHW)
    size = (image.shape[-2], image.shape[-1])
    son = task.downscale(image[None], reduced_size(size, task.scale))
    if task.downscale.captures:
        noise = torch.randn(son.shape, generator=torch.Generator().manual_seed(0))
        son = task.downscale.capture(son, noise.to(son))
    plain = back_project(resize(son, size).clone(), son, task.downscale, iterations)[0]
    return image, son, plain


def _decibel(error: Tensor) -> float:
    """PSNR of an error in [0, 1] units, at most 100 dB."""
    return psnr_db(float(error.cpu().double().square().mean()))
