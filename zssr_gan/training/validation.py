"""What a generator does on images that it was not trained on, and whether it collapses. Shapes: B C H W."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from zssr_gan.degradation.operators import Downscale
from zssr_gan.imaging.colour import LEVELS, psnr_db
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.checkpoints import TrainingState
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.losses import Objective
from zssr_gan.training.sampling import Images, Sampler, whole_batch
from zssr_gan.training.schedule import EpochMeans, Step

_COARSE = 8  # px: diversity is of what differs between images, not of their noise
_NORM_BATCHES = 32  # whose statistics batch normalisation gets

MOST_ACCURATE, LEAST_DIVERSE, MOST_SHIFTED = 0.98, 0.5, 2.0
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
        """For logs and cards, where the name says what outputs were compared with: `truth_db` or `synthetic_db`."""
        name = "truth_db" if self.paired else "synthetic_db"
        others = ("bicubic_db", "residual_db", "colour_shift", "diversity")
        loss = {} if self.loss is None else {"loss": self.loss}
        return {name: self.hr_db, **{other: getattr(self, other) for other in others}, **loss}

    def warnings(self, accuracy: float | None) -> list[str]:
        """What a user should know, a sentence each; `accuracy` is the discriminator's."""
        found = []
        if accuracy is not None and accuracy > MOST_ACCURATE:
            found.append(
                f"the discriminator tells {100 * accuracy:.1f} % rightly, so the generator learns little from it: "
                "lower train.optimiser.lr_discriminator or give the generator more turns"
            )
        if self.diversity < LEAST_DIVERSE:
            found.append(
                f"outputs differ by {100 * self.diversity:.0f} % of what the inputs do: the generator collapses"
            )
        if self.colour_shift > MOST_SHIFTED:
            found.append(
                f"colours are shifted by {self.colour_shift:.1f} levels of 255: raise train.losses.consistency or pixel"
            )
        return found


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


def retake_statistics(generator: GeneratorNetwork, sampler: Sampler, device: torch.device) -> None:
    """Set the statistics of batch normalisation to their mean over the sampler's first batches, with all blocks on.

    Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", precise BN. Those that a training gathers along the way are of
    another network: blocks are skipped for a whole epoch, and the weights have moved since, or are now a mean. Always
    the same batches: the result depends on the weights alone, so a resumed run has it too. Without batch normalisation
    nothing is drawn or computed.

    Args:
        generator: on the device; its mode stays, and so do its weights.
        sampler: of the images that it learns from; of whole batches, since one process does this for all.
        device: where the generator is.
    """
    generator.skip_nothing()
    update_bn((sampler.batch(number).lr for number in range(_NORM_BATCHES)), generator, device)


class Validation:
    """Measures the generator that is used on the images held out, and tells which is the best.

    Args:
        settings: the group `train`.
        data: what is learnt from.
        objective: of the training: its content losses are the validation loss.
        seed: the run's.
        device: where the generator is.
    """

    def __init__(
        self, settings: TrainSettings, data: TrainingData, objective: Objective, seed: int, device: torch.device
    ) -> None:
        self.settings, self.data, self.objective, self.device = settings, data, objective, device
        shared = {"scale": data.scale, "batch": settings.batch, "seed": seed}
        self._measured = Sampler(data.inputs, stream="measured", patch=settings.patch, **shared)

    def outputs(self, state: TrainingState) -> list[Tensor]:
        """What the generator makes of the images held out, `C sH sW` each."""
        retake_statistics(state.mean, self._measured, self.device)
        return outputs(state.mean, self.data.held_out, self.device)

    def figures(self, state: TrainingState, made: Sequence[Tensor]) -> Figures:
        """Figures of outputs that were checked to be finite."""
        images, downscales = self.data.held_out, self.data.downscales
        loss = self.objective.on_held_out(state.mean, made, images, self.device)
        return replace(measure(made, images, downscales, paired=self.data.paired), loss=loss)

    def is_best(self, state: TrainingState, step: Step, figures: Figures, epoch: EpochMeans | None) -> bool:
        """Whether the generator is the best of its phase so far, which the state then remembers.

        `epoch`: the one that ended with this step, if one did.
        """
        figure = {
            "residual": figures.residual_db,
            "training_loss": None if epoch is None else -epoch.training_loss,
            "last": float(state.step),
        }.get(self.settings.validation.best, figures.hr_db)
        if figure is None:
            return False
        # What content alone reaches in PSNR, no adversarial phase reaches again: each phase has its own best.
        if step.phase == state.best_phase and state.best is not None and figure <= state.best:
            return False
        state.best, state.best_phase = figure, step.phase
        return True
