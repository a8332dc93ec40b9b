"""The images held out, as they are measured while a training goes on, and which generator is the best by them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zssr_gan.stages import TrainSettings
from zssr_gan.training.epochs import Ended
from zssr_gan.training.material import Material
from zssr_gan.training.objective import Objective
from zssr_gan.training.plan import Turn
from zssr_gan.training.sampling import Sampler
from zssr_gan.training.state import TrainingState
from zssr_gan.training.statistics import retake_statistics
from zssr_gan.training.validation import Figures, measure, outputs


class HeldOut:
    """Measures the generator that is used.

    Args:
        settings: the group `train`.
        material: what is learnt from.
        objective: of the training: its content losses are the validation loss.
        seed: the run's.
        device: where the generator is.
    """

    def __init__(
        self, settings: TrainSettings, material: Material, objective: Objective, seed: int, device: torch.device
    ) -> None:
        self.settings, self.material, self.objective, self.device = settings, material, objective, device
        # Of whole batches in each process: the one that measures does it alone.
        self._measured = Sampler(
            material.inputs,
            stream="measured",
            patch=settings.patch,
            scale=material.scale,
            batch=settings.batch,
            seed=seed,
        )

    def outputs(self, state: TrainingState) -> list[Tensor]:
        """What the generator makes of them, `C sH sW` each."""
        retake_statistics(state.mean, self._measured, self.device)
        return outputs(state.mean, self.material.held_out, self.device)

    def figures(self, state: TrainingState, made: Sequence[Tensor]) -> Figures:
        """Of outputs that were judged to be finite."""
        images, downscales = self.material.held_out, self.material.downscales
        loss = self.objective.on_held_out(state.mean, made, images, self.device)
        return replace(measure(made, images, downscales, paired=self.material.paired), loss=loss)

    def is_best(self, state: TrainingState, turn: Turn, figures: Figures, ended: Ended | None) -> bool:
        """Whether the generator is the best of its phase so far, which the state then remembers.

        `ended`: the epoch that ended with this step, if one did.
        """
        figure = {
            "residual": figures.residual_db,
            "training_loss": None if ended is None else -ended.training_loss,
            "last": float(state.step),
        }.get(self.settings.validation.best, figures.hr_db)
        if figure is None:
            return False
        # What content alone reaches in PSNR, no adversarial phase reaches again: each phase has its own best.
        if turn.phase == state.best_phase and state.best is not None and figure <= state.best:
            return False
        state.best, state.best_phase = figure, turn.phase
        return True
