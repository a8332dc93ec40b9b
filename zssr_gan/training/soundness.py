"""Whether the numbers of a training are still numbers: NaN and infinity end it, and no checkpoint of them counts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zssr_gan.distributed import DataParallel
from zssr_gan.errors import NumericalError
from zssr_gan.training.checkpoints import Checkpoints
from zssr_gan.training.state import TrainingState


class Soundness:
    """Judges losses, states and outputs; what is not finite is a NumericalError that names the last good checkpoint.

    Args:
        checkpoints: those of the training; what is judged good here is kept there.
        group: the processes that train together.
    """

    def __init__(self, checkpoints: Checkpoints, group: DataParallel) -> None:
        self.checkpoints, self.group = checkpoints, group
        self._finite = torch.tensor(True, device=group.device)

    def see(self, *values: Tensor) -> None:
        """Scalars of a step, for the next judgement: to look at them now would make the device wait."""
        for value in values:
            self._finite &= torch.isfinite(value.detach())

    def judge(self, step: int, who: str | None) -> None:
        """Whether all that was seen is finite, in all processes; each calls it.

        Args:
            step: the last one that was seen, counted from 1.
            who: which network learnt in it, where no earlier step comes into question.
        """
        if self.group.any(not self._finite):
            at = f"at or before step {step:,}" if who is None else f"step {step:,}"
            self._refuse(at, f"the loss or gradient of {'a network' if who is None else f'the {who}'} is")
        # Steps after the newest checkpoint went well.
        self.checkpoints.trust()

    def judge_outputs(self, step: int, made: Sequence[Tensor]) -> None:
        """Whether a generator's outputs are finite."""
        if not all(bool(one.isfinite().all()) for one in made):
            self._refuse(f"step {step:,}", "the generator's outputs are")

    def judge_state(self, state: TrainingState) -> None:
        """Whether a state is worth being kept; it may be one that nobody has judged yet."""
        if not (self._finite and state.finite):
            self._refuse(f"at or before step {state.step:,}", "a loss, gradient or weight is")

    def _refuse(self, at: str, what: str) -> None:
        aside, path = self.checkpoints.set_aside(), self.checkpoints.newest
        good = "there is no good checkpoint" if path is None else f"the last good checkpoint is {path}"
        if path is not None and path == self.checkpoints.begun_at:
            good = f"it went on from {path}, and no step after it went well"
        kept = f" ({aside} led to it and does not count)" if aside else ""
        raise NumericalError(
            f"{at}: {what} NaN or infinite; {good}{kept}: take another run_dir, and there a lower train.optimiser.lr, "
            "train.optimiser.clip, or train.precision fp32."
        )
