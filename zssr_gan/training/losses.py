"""What the generator and the discriminator minimise: one class an equation, in its source's symbols.

None holds a weight against the others: those are settings. All are means, in float32, so that they do not depend on
the sizes of images and batches.

Symbols: x an LR image, G(x) the generator's output, y a real example (a synthetic HR image), D(.) the discriminator's
probability of 'real', phi_l the features of layer l, g a reference. Shapes: B images, C channels, H W rows and
columns, s the scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.operators import Downscale
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.settings.train import LossSettings
from zssr_gan.training.batch_degradation import BatchCameras
from zssr_gan.training.sampling import Batch, Images, whole_batch

Features = Callable[[Tensor], Mapping[str, Tensor]]
"""Of images, the features by layer, such as `zssr_gan.networks.vgg.VGG`."""


@dataclass(frozen=True)
class AdversarialBCE:
    """The GAN's loss as binary cross entropy (Goodfellow et al. 2014; Moreira et al., IV-C).

    L_D = -E_y[log D(y)] - E_x[log(1 - D(G(x)))], and, for the generator, the form that does not saturate (also Ledig et
    al. 2017): L_G = -E_x[log D(G(x))].
    """

    def compared(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What D is the sigmoid of, of the logits of real examples and of fakes: positive where it says real."""
        return real, fake

    def halves(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of L_D, of logits of any shape: of real examples, and of fakes detached from the generator."""
        real, fake = self.compared(real, fake)
        return _cross_entropy(real, 1.0), _cross_entropy(fake, 0.0)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """L_D, the sum of its halves."""
        on_real, on_fake = self.halves(real, fake)
        return on_real + on_fake

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """L_G, of the logits of fakes; those of real examples have no part in it."""
        del real
        return _cross_entropy(fake, 1.0)


@dataclass(frozen=True)
class RelativisticBCE(AdversarialBCE):
    """The GAN's loss where D tells whether a real example is more real than fakes are on average, not whether it is
    real (Jolicoeur-Martineau 2018, "The relativistic discriminator", RaGAN; Wang et al. 2018, ESRGAN, eq. 1 and 2).

    With C the logits and s the sigmoid, D(y, x) = s(C(y) - E_x[C(G(x))]) and D(x, y) = s(C(G(x)) - E_y[C(y)]):
    L_D = -E_y[log D(y, x)] - E_x[log(1 - D(x, y))], and L_G = -E_y[log(1 - D(y, x))] - E_x[log D(x, y)]. The means are
    over the batch (in each process, over its part of it). With both logits alike, each is 2 log 2.
    """

    def compared(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What D is the sigmoid of, of the logits of real examples and of fakes: positive where it says more real."""
        real, fake = real.float(), fake.float()
        return real - fake.mean(), fake - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """L_G, of the logits of fakes and of real examples; the latter get no gradient."""
        assert real is not None, "fakes are judged against real examples"
        real, fake = self.compared(real.detach(), fake)
        return _cross_entropy(real, 0.0) + _cross_entropy(fake, 1.0)


@dataclass(frozen=True)
class MediatorLoss:
    """Distance to a reference in features: Moreira et al.'s mediator; the content loss of Ledig et al. 2017.

    L = 1/|l| sum_l mean (phi_l(G(x)) - phi_l(g))^2. The reference g is an image of the same size: the upscaled
    input (with deep layers, which do not see blur so well), or the image's own synthetic HR.
    """

    features: Features

    def __call__(self, sr: Tensor, reference: Tensor) -> Tensor:
        """L, of `B C sH sW` both; the reference gets no gradient."""
        _same_shape(sr, reference, "the reference")
        with torch.no_grad():
            wanted = self.features(reference)
        found = self.features(sr)
        return torch.stack([F.mse_loss(found[layer].float(), wanted[layer].float()) for layer in found]).mean()


@dataclass(frozen=True)
class PixelLoss:
    """L = mean |G(x) - g|, pixel by pixel, or mean (G(x) - g)^2; g: the image's own HR, or the upscaled input."""

    norm: Literal["l1", "l2"] = "l1"
    """`l1`: the mean absolute error, MAE. `l2`: the mean squared error, MSE."""

    def __call__(self, sr: Tensor, target: Tensor) -> Tensor:
        """L, of `B C sH sW` both; the target gets no gradient."""
        _same_shape(sr, target, "the target")
        distance = F.l1_loss if self.norm == "l1" else F.mse_loss
        return distance(sr.float(), target.detach().float())


@dataclass(frozen=True)
class ConsistencyLoss:
    """The output, degraded as the camera did it, must give the input back: L = mean |k(G(x)) - x|.

    k is the linear part of the case's degradation, blur and shrinking: noise is no part of the scene, and an output
    that reproduced the input's would show it. The cycle's LR half (Zhu et al. 2017), where k is known and not learnt.
    """

    downscale: Callable[[Tensor, Size], Tensor]
    margin: int = 0
    """LR pixels at each border that do not count: of a patch, whose surroundings the camera saw and k does not."""

    def __call__(self, sr: Tensor, lr: Tensor) -> Tensor:
        """L, of `B C sH sW` and `B C H W`; the input gets no gradient."""
        # bf16 has steps of 1/256 near 1: as coarse as the residual that is to be reached.
        with torch.autocast(sr.device.type, enabled=False):
            shrunk = self.downscale(sr.float(), (lr.shape[-2], lr.shape[-1]))
        return F.l1_loss(_within(shrunk, self.margin), _within(lr.detach().float(), self.margin))


@dataclass(frozen=True)
class Recurrence:
    """The input is the truth of its own shrunk copy: G(d(x)) against x (Shocher et al. 2018), in pixels or features.

    d is the whole of the case's degradation, noise and compression too. The other half of the cycle (Zhu et al. 2017)
    of which consistency is one: what it asks for is as sharp as the input, however sharp the synthetic images are.
    """

    cameras: BatchCameras
    scale: int
    margin: int = 0
    """Pixels of d(x) at each border that do not count, see `ConsistencyLoss`."""

    def __call__(self, generator: Callable[[Tensor], Tensor], lr: Tensor) -> tuple[Tensor, Tensor]:
        """G(d(x)) and x of `B C H W`, for a loss between the two; rows and columns beyond whole multiples of the scale
        are left out. Gradients reach G alone."""
        rows, columns = (side // self.scale for side in lr.shape[-2:])
        with torch.no_grad(), torch.autocast(lr.device.type, enabled=False):
            x = lr[..., : rows * self.scale, : columns * self.scale].float()
            lr_of_lr = self.cameras.capture(self.cameras(x, (rows, columns)))
        margin = self.scale * self.margin
        return _within(generator(lr_of_lr), margin), _within(x, margin)


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _within(x: Tensor, margin: int) -> Tensor:
    """`B C H W` without its borders."""
    rows, columns = x.shape[-2:]
    return x[..., margin : rows - margin, margin : columns - margin]


def _same_shape(sr: Tensor, other: Tensor, name: str) -> None:
    # Broadcasting would make a number of any two shapes.
    if sr.shape != other.shape:
        raise ValueError(f"{name} is {tuple(other.shape)}, and the output {tuple(sr.shape)}: they must be alike")


@dataclass(frozen=True, eq=False)
class Objective:
    """What a training minimises: the losses with a weight in the settings, and no others.

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
        return AdversarialBCE() if self.settings.gan == "bce" else RelativisticBCE()

    def reference(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """What outputs of `size` are compared with, `B C sH sW`: the batch's HR images, or the upscaled input."""
        if self.settings.guide in ("synthetic", "truth"):
            assert batch.hr is not None
            return batch.hr
        return resize(batch.lr.detach().float(), size)

    def content(self, generator: Callable[[Tensor], Tensor], sr: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Each content loss by name, without its weight, of the generator's outputs `sr` on `batch`."""
        wanted, losses = self.settings, dict[str, Tensor]()
        cameras = BatchCameras(self.downscales, batch)
        side = min(batch.lr.shape[-2:])
        if wanted.mediator or wanted.pixel:
            reference = self.reference(batch, (sr.shape[-2], sr.shape[-1]))
            if wanted.mediator:
                losses["mediator"] = self._in_features(sr, reference)
            if wanted.pixel:
                losses["pixel"] = PixelLoss(wanted.pixel_norm)(sr, reference)
        if wanted.consistency:
            losses["consistency"] = ConsistencyLoss(cameras, margin=cameras.margin(self.scale, side))(sr, batch.lr)
        if wanted.recurrence or wanted.recurrence_features:
            margin = cameras.margin(self.scale, side // self.scale)
            made, truth = Recurrence(cameras, self.scale, margin)(generator, batch.lr)
            if wanted.recurrence:
                losses["recurrence"] = PixelLoss()(made, truth)
            if wanted.recurrence_features:
                losses["recurrence_features"] = self._in_features(made, truth)
        return losses

    def _in_features(self, sr: Tensor, reference: Tensor) -> Tensor:
        assert self.features is not None
        return MediatorLoss(self.features)(sr, reference)

    def generator_adversarial(
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
            reals: of each kind in `weights`, real examples, where the loss compares outputs with them; else unused.
            weights: of the kinds, which sum to 1.
        """
        fake = discriminator(sr)
        if not self.settings.against_reals:
            return self.adversarial.generator(fake)
        with torch.no_grad():
            real = {kind: discriminator(reals[kind]) for kind in weights}
        losses = [weight * self.adversarial.generator(fake, real[kind]) for kind, weight in weights.items()]
        return torch.stack(losses).sum()

    def discriminator(
        self, reals: Mapping[str, Tensor], weights: Mapping[str, float], fake: Tensor
    ) -> dict[str, Tensor]:
        """The discriminator's loss, of its logits of each kind of real examples and of fakes.

        The kinds' weights sum to 1, so that the real half weighs as much as the fake one.

        Returns:
            `loss`; `real` and `fake`, the two halves that it is the sum of; and `accuracy`: the share told rightly,
            both halves counted alike.
        """
        sums: dict[str, list[Tensor]] = {name: [] for name in ("loss", "real", "fake", "accuracy")}
        for kind, real in reals.items():
            on_real, on_fake = self.adversarial.halves(real, fake)
            compared = self.adversarial.compared(real.detach(), fake.detach())
            right = (compared[0] > 0).float().mean() + (compared[1] < 0).float().mean()
            values = (on_real + on_fake, on_real.detach(), on_fake.detach(), right / 2)
            for name, value in zip(sums, values, strict=True):
                sums[name].append(weights[kind] * value)
        return {name: torch.stack(values).sum() for name, values in sums.items()}

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([getattr(self.settings, name) * loss for name, loss in losses.items()]).sum()

    @torch.no_grad()
    def on_held_out(
        self, generator: Callable[[Tensor], Tensor], outputs: Sequence[Tensor], images: Images, device: torch.device
    ) -> float | None:
        """The validation loss: the weighted content losses of outputs, mean over images; None where there is none.

        Args:
            generator: as it is used.
            outputs: its outputs on the images, `C sH sW` each.
            images: those held out.
            device: where the generator is.
        """
        if not self.settings.have_content:
            return None
        losses = []
        for number, sr in enumerate(outputs):
            batch = whole_batch(images, number).to(device)
            losses.append(self.total(self.content(generator, sr[None].to(device), batch)).item())
        return sum(losses) / len(losses)
