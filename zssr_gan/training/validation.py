"""What a generator does on images that it was not trained on, and whether it collapses. Shapes: B C H W, as ever."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from zssr_gan.imaging.levels import LEVELS
from zssr_gan.imaging.psnr import psnr_db
from zssr_gan.imaging.resampling import Downscale, resize
from zssr_gan.training.sampling import Images, whole_batch

_COARSE = 8  # px: diversity is of what differs between images, not of their noise
TOLD_APART, SAMENESS, COLOUR_SHIFT = 0.98, 0.5, 2.0
"""Warned of: a discriminator that is right more often; outputs that differ among each other by less than this share of
what the inputs do; a shift of the mean colour, levels of 255."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over images.

    `hr_db`, `bicubic_db`: PSNR of the outputs, and of the enlarged inputs, to the HR images: synthetic ones, or with
    `paired` the truths. `residual_db`: PSNR of the outputs, degraded, to the inputs. `colour_shift`: absolute
    difference of each channel's mean between these two, levels of 255. `diversity`: how far the outputs differ from
    each other, as a share of how far the inputs do.
    """

    hr_db: float
    bicubic_db: float
    residual_db: float
    colour_shift: float
    diversity: float
    paired: bool = False
    loss: float | None = None
    """The weighted content losses on these images; None where there is none that an image has by itself."""

    @property
    def values(self) -> dict[str, JsonValue]:
        """For logs and cards, where the name says what outputs were held against: `truth_db` or `synthetic_db`."""
        name = "truth_db" if self.paired else "synthetic_db"
        others = ("bicubic_db", "residual_db", "colour_shift", "diversity")
        loss = {} if self.loss is None else {"loss": self.loss}
        return {name: self.hr_db, **{other: getattr(self, other) for other in others}, **loss}

    def warnings(self, accuracy: float | None) -> list[str]:
        """What a user should know, a sentence each; `accuracy` is the discriminator's."""
        said = []
        if accuracy is not None and accuracy > TOLD_APART:
            said.append(
                f"the discriminator tells {100 * accuracy:.1f} % rightly, so the generator learns little from it: "
                "lower train.optimiser.lr_discriminator or give the generator more turns"
            )
        if self.diversity < SAMENESS:
            said.append(
                f"outputs differ by {100 * self.diversity:.0f} % of what the inputs do: the generator collapses"
            )
        if self.colour_shift > COLOUR_SHIFT:
            said.append(
                f"colours are shifted by {self.colour_shift:.1f} levels of 255: raise train.losses.consistency or pixel"
            )
        return said


@torch.no_grad()
def outputs(generator: nn.Module, images: Images, device: torch.device) -> list[Tensor]:
    """The generator's outputs, clipped to [0, 1], `C sH sW` each on the CPU; one by one, since sizes may differ.

    What is infinite is NaN in them: clipped, it would look like a white pixel.
    """
    was = generator.training
    generator.eval()
    made = [generator(whole_batch(images, [n]).lr.to(device))[0].cpu() for n in range(len(images))]
    generator.train(was)
    return [torch.where(one.isfinite(), one.clamp(0, 1), torch.nan) for one in made]


def measure(
    made: Sequence[Tensor], images: Images, downscales: Sequence[Downscale], *, paired: bool = False
) -> Figures:
    """Figures of outputs of `images`; `paired`: their HR images are truths."""
    rows, srs, lrs = [], [], []
    for number, sr in enumerate(made):
        batch = whole_batch(images, [number])
        assert batch.hr is not None
        lr, hr = batch.lr[0], batch.hr[0]
        shrunk = downscales[images.cameras[number]](sr[None], (lr.shape[-2], lr.shape[-1]))[0]
        bicubic = resize(lr, (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        errors = [(one - other).square().mean().item() for one, other in ((sr, hr), (bicubic, hr), (shrunk, lr))]
        shift = (shrunk.mean((1, 2)) - lr.mean((1, 2))).abs().mean().item() * LEVELS
        rows.append([*map(psnr_db, errors), shift])
        srs.append(resize(sr, (_COARSE, _COARSE)))
        lrs.append(resize(lr, (_COARSE, _COARSE)))
    hr_db, bicubic, residual, shift = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    differ, wanted = (torch.stack(kind).std(0).mean().item() for kind in (srs, lrs))
    return Figures(hr_db, bicubic, residual, shift, differ / max(wanted, 1e-6), paired)
