"""What the generator minimises, by the weights in the settings: the losses that are asked for, and no others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
    RelativisticBCE,
    StatisticsMatching,
    input_guide,
)
from zssr_gan.training.sampling import Batch, Images, whole_batch


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
        kind = AdversarialBCE if self.settings.gan == "bce" else RelativisticBCE
        return kind(self.settings.real_label)

    def guide(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """What outputs of `size` are compared with, `B C sH sW`."""
        if self.settings.guide in ("synthetic", "truth"):
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
                found["pixel"] = PixelLoss(wanted.pixel_norm)(sr, guide)
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

    def passing(
        self,
        discriminator: Callable[[Tensor], Tensor],
        sr: Tensor,
        reals: Mapping[str, Tensor],
        weights: Mapping[str, float],
    ) -> Tensor:
        """The generator's adversarial loss, of its outputs `sr`.

        Args:
            discriminator: gives logits.
            sr: the outputs, `B C sH sW`.
            reals: of each kind in `weights`, real examples, where the loss holds the outputs against them; else unused.
            weights: of the kinds, which sum to 1.
        """
        fake = discriminator(sr)
        if not self.settings.against_reals:
            return self.adversarial.generator(fake)
        with torch.no_grad():
            real = {kind: discriminator(reals[kind]) for kind in weights}
        losses = [weight * self.adversarial.generator(fake, real[kind]) for kind, weight in weights.items()]
        return torch.stack(losses).sum()

    def fakes(self, sr: Tensor, batch: Batch) -> list[Tensor]:
        """Batches of fakes, `B C sH sW` each: the generator's outputs and, if asked for, the guides (Lian et al. 2019,
        FG-SRGAN).

        The discriminator then learns to tell real examples from the guides too, which the generator could otherwise
        copy. Each goes through it by itself, as kinds of real examples do: batch normalisation never mixes them.
        """
        guides = [self.guide(batch, (sr.shape[-2], sr.shape[-1]))] if self.settings.guides_as_fakes else []
        return [sr.detach(), *guides]

    def judged(
        self, reals: Mapping[str, Tensor], weights: Mapping[str, float], fakes: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The discriminator's loss, of its logits of each kind of real examples and of each kind of fakes.

        The real kinds' weights sum to 1, and fake ones count alike, so that the real half weighs as much as the fake
        one, whatever they are made of.

        Returns:
            `loss`; `real` and `fake`, the two halves that it is the sum of; and `accuracy`: the share told rightly,
            both halves counted alike.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in ("loss", "real", "fake", "accuracy")}
        for kind, real in reals.items():
            for fake in fakes:
                weight, (on_real, on_fake) = weights[kind] / len(fakes), self.adversarial.halves(real, fake)
                found["loss"].append(weight * (on_real + on_fake))
                found["real"].append(weight * on_real.detach())
                found["fake"].append(weight * on_fake.detach())
                said = self.adversarial.compared(real.detach(), fake.detach())
                right = (said[0] > 0).float().mean() + (said[1] < 0).float().mean()
                found["accuracy"].append(weight * right / 2)
        return {name: torch.stack(values).sum() for name, values in found.items()}

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([getattr(self.settings, name) * loss for name, loss in losses.items()]).sum()

    @torch.no_grad()
    def on_held_out(
        self, generator: Callable[[Tensor], Tensor], made: Sequence[Tensor], images: Images, device: torch.device
    ) -> float | None:
        """The validation loss: the weighted content losses of outputs, mean over images.

        Without those losses that compare with other images (`statistics`); None where there is no other.

        Args:
            generator: as it is used.
            made: its outputs on the images, `C sH sW` each.
            images: those held out.
            device: where the generator is.
        """
        if not self.settings.are_measurable:
            return None
        alone = replace(self, settings=self.settings.model_copy(update={"statistics": 0.0}))
        losses = []
        for number, sr in enumerate(made):
            batch = whole_batch(images, [number]).to(device)
            losses.append(self.total(alone.content(generator, sr[None].to(device), batch, None)).item())
        return sum(losses) / len(losses)
