"""What the generator minimises, by the weights in the settings: the losses that are asked for, and no others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.imaging.resampling import Downscale
from zssr_gan.stages import LossSettings
from zssr_gan.training.cameras import BatchCameras
from zssr_gan.training.losses import (
    AdversarialBCE,
    ConsistencyLoss,
    Features,
    MediatorLoss,
    PixelLoss,
    Recurrence,
    StatisticsMatching,
    input_guide,
)
from zssr_gan.training.sampling import Batch


@dataclass(frozen=True, eq=False)
class Objective:
    """The losses of one training.

    `features`: of the mediator; None where no loss needs it. `downscales`: of the cameras that batches point to.
    `scale`: factor per side.
    """

    settings: LossSettings
    features: Features | None
    downscales: Sequence[Downscale]
    scale: int

    @property
    def adversarial(self) -> AdversarialBCE:
        """The GAN's loss."""
        return AdversarialBCE(self.settings.real_label)

    def guide(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """What outputs of `size` are compared with, `B C sH sW`."""
        if self.settings.guide == "synthetic":
            assert batch.hr is not None
            return batch.hr
        return input_guide(batch.lr, size)

    def content(
        self, generator: Callable[[Tensor], Tensor], sr: Tensor, batch: Batch, reals: Tensor | None
    ) -> dict[str, Tensor]:
        """Each content loss by name, without its weight, of the generator's outputs `sr`; `reals`: synthetic HR images
        of others."""
        wanted, found = self.settings, dict[str, Tensor]()
        cameras = BatchCameras(self.downscales, batch)
        side = min(batch.lr.shape[-2:])
        if wanted.mediator or wanted.pixel:
            guide = self.guide(batch, (sr.shape[-2], sr.shape[-1]))
            if wanted.mediator:
                assert self.features is not None
                found["mediator"] = MediatorLoss(self.features)(sr, guide)
            if wanted.pixel:
                found["pixel"] = PixelLoss()(sr, guide)
        if wanted.statistics:
            assert self.features is not None
            assert reals is not None
            found["statistics"] = StatisticsMatching(self.features)(sr, reals)
        if wanted.consistency:
            found["consistency"] = ConsistencyLoss(cameras, margin=cameras.margin(self.scale, side))(sr, batch.lr)
        if wanted.recurrence or wanted.recurrence_features:
            margin = cameras.margin(self.scale, side // self.scale)
            made, truth = Recurrence(cameras, self.scale, margin)(generator, batch.lr)
            if wanted.recurrence:
                found["recurrence"] = PixelLoss()(made, truth)
            if wanted.recurrence_features:
                assert self.features is not None
                found["recurrence_features"] = MediatorLoss(self.features)(made, truth)
        return found

    def judged(self, reals: Mapping[str, Tensor], weights: Mapping[str, float], fake: Tensor) -> dict[str, Tensor]:
        """The discriminator's loss, of its logits of each kind of real examples and of fakes.

        The kinds' weights sum to 1, so that the real half weighs as much as the fake one, whatever it is made of.

        Returns:
            `loss`, and `accuracy`: the share told rightly, both halves counted alike.
        """
        losses = [weights[kind] * self.adversarial.discriminator(real, fake) for kind, real in reals.items()]
        right = [weights[kind] * (real > 0).float().mean() for kind, real in reals.items()]
        accuracy = (torch.stack(right).sum() + (fake < 0).float().mean()) / 2
        return {"loss": torch.stack(losses).sum(), "accuracy": accuracy.detach()}

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([getattr(self.settings, name) * loss for name, loss in losses.items()]).sum()
