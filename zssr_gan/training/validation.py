"""Figures of a generator on images that it was not trained on, and whether it collapses. Shapes: B C H W."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from zssr_gan.degradation.operators import Downscale
from zssr_gan.imaging.colour import LEVELS, psnr_db
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.training.sampling import Images, Sampler, whole_batch

_COARSE = 8  # px: diversity is of what differs between images, not of their noise
_NORM_BATCHES = 32  # whose statistics batch normalisation gets

MOST_ACCURATE, LEAST_DIVERSE, MOST_SHIFTED = 0.98, 0.5, 2.0
"""Warned of: a discriminator that is right more often; outputs that differ among each other by less than this share of
what the inputs do; a shift of the mean colour, levels of 255."""


def warnings_of(figures: Mapping[str, float], accuracy: float | None) -> list[str]:
    """What a user should know of figures, a sentence each; `accuracy` is the discriminator's."""
    diversity, shift = figures["diversity"], figures["colour_shift"]
    found = []
    if accuracy is not None and accuracy > MOST_ACCURATE:
        found.append(
            f"the discriminator tells {100 * accuracy:.1f} % rightly, so the generator learns little from it: "
            "lower train.optimiser.lr_discriminator or give the generator more turns"
        )
    if diversity < LEAST_DIVERSE:
        found.append(f"outputs differ by {100 * diversity:.0f} % of what the inputs do: the generator collapses")
    if shift > MOST_SHIFTED:
        found.append(f"colours are shifted by {shift:.1f} levels of 255: raise train.losses.consistency or pixel")
    return found


@torch.no_grad()
def outputs_of(generator: nn.Module, images: Images, device: torch.device) -> list[Tensor]:
    """The generator's outputs, clipped to [0, 1], `C sH sW` each on the CPU; one by one, since sizes may differ.

    What is infinite is NaN in them: clipped, it would look like a white pixel. `generator`: in evaluation mode.
    """
    made = [generator(whole_batch(images, n).lr.to(device))[0].cpu() for n in range(len(images))]
    return [torch.where(one.isfinite(), one.clamp(0, 1), torch.nan) for one in made]


def measure(
    made: Sequence[Tensor], images: Images, downscales: Sequence[Downscale], *, paired: bool = False
) -> dict[str, float]:
    """Figures of outputs of `images`, means over images.

    Returns:
        `synthetic_db`, or `truth_db` where `paired` (the HR images are truths): PSNR of the outputs to the HR images;
        `bicubic_db`: of the enlarged inputs to them; `residual_db`: of the outputs, degraded, to the inputs;
        `colour_shift`: absolute difference of each channel's mean between these two, levels of 255; `diversity`: how
        far the outputs differ from each other, as a share of how far the inputs do.
    """
    rows, coarse = [], []
    for number, sr in enumerate(made):
        batch = whole_batch(images, number)
        assert batch.hr is not None
        lr, hr = batch.lr[0], batch.hr[0]
        shrunk = downscales[images.cameras[number]](sr[None], (lr.shape[-2], lr.shape[-1]))[0]
        bicubic = resize(lr, (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        errors = [(one - other).square().mean().item() for one, other in ((sr, hr), (bicubic, hr), (shrunk, lr))]
        shift = (shrunk.mean((1, 2)) - lr.mean((1, 2))).abs().mean().item() * LEVELS
        rows.append([*map(psnr_db, errors), shift])
        coarse.append([resize(x, (_COARSE, _COARSE)) for x in (sr, lr)])
    names = ("truth_db" if paired else "synthetic_db", "bicubic_db", "residual_db", "colour_shift")
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    differ, wanted = (torch.stack(kind).std(0).mean().item() for kind in zip(*coarse, strict=True))
    return {**dict(zip(names, means, strict=True)), "diversity": differ / max(wanted, 1e-6)}


def retake_statistics(generator: GeneratorNetwork, sampler: Sampler, device: torch.device) -> None:
    """Set the statistics of batch normalisation to their mean over the sampler's first batches, with all blocks on.

    Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", precise BN. Those that a training gathers along the way are of
    another network: blocks are skipped for a whole epoch, and the weights have moved since, or are now a mean. Always
    the same batches: the result depends on the weights alone, so a resumed run has it too. Without batch normalisation
    nothing is drawn or computed. The generator's mode and weights stay. `sampler`: of the images that it learns from,
    in whole batches, since one process does this for all.
    """
    generator.skip_nothing()
    update_bn((sampler.batch(number).lr for number in range(_NORM_BATCHES)), generator, device)
