"""What the generator and the discriminator minimise: one class or function an equation, in its source's symbols.

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
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Size, resize
from zssr_gan.settings.train import LossSettings
from zssr_gan.training.batch_degradation import BatchCameras
from zssr_gan.training.sampling import Batch, Images, whole_batch

Network = Callable[[Tensor], Tensor]

Features = Callable[[Tensor], Mapping[str, Tensor]]
"""Of images, the features by layer, such as `zssr_gan.networks.vgg.VGG`."""


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

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """L_G, of the logits of fakes; those of real examples have no part in it."""
        del real
        return _cross_entropy(fake, 1.0)


class RelativisticBCE(AdversarialBCE):
    """The GAN's loss where D says whether a real example is more real than fakes are on average, not whether it is
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
        assert real is not None, "fakes are compared with real examples"
        real, fake = self.compared(real.detach(), fake)
        return _cross_entropy(real, 0.0) + _cross_entropy(fake, 1.0)


def mediator_loss(features: Features, sr: Tensor, reference: Tensor) -> Tensor:
    """Distance to a reference in features: Moreira et al.'s mediator; the content loss of Ledig et al. 2017.

    L = 1/|l| sum_l mean (phi_l(G(x)) - phi_l(g))^2, of `B C sH sW` both. The reference g, which gets no gradient, is
    the upscaled input (with deep layers, which do not see blur so well), or the image's own synthetic HR.
    """
    _require_one_shape(sr, reference)
    with torch.no_grad():
        wanted = features(reference)
    found = features(sr)
    return torch.stack([F.mse_loss(found[layer].float(), wanted[layer].float()) for layer in found]).mean()


def pixel_loss(sr: Tensor, target: Tensor, norm: Literal["l1", "l2"] = "l1") -> Tensor:
    """L = mean |G(x) - g|, pixel by pixel (`l1`), or mean (G(x) - g)^2 (`l2`), of `B C sH sW` both; the target g, which
    gets no gradient, is the image's own HR, or the upscaled input."""
    _require_one_shape(sr, target)
    return (F.l1_loss if norm == "l1" else F.mse_loss)(sr.float(), target.detach().float())


def consistency_loss(downscale: Callable[[Tensor, Size], Tensor], sr: Tensor, lr: Tensor, margin: int = 0) -> Tensor:
    """The output, degraded as the camera did it, must give the input back: L = mean |k(G(x)) - x|.

    k is the linear part of the case's degradation, blur and shrinking: noise is no part of the scene, and an output
    that reproduced the input's would show it. The cycle's LR half (Zhu et al. 2017), where k is known and not learnt.
    Of `B C sH sW` and `B C H W`; the input gets no gradient. `margin`: LR pixels at each border that do not count: of a
    patch, whose surroundings the camera saw and k does not.
    """
    # bf16 has steps of 1/256 near 1: as coarse as the residual that is to be reached.
    with torch.autocast(sr.device.type, enabled=False):
        shrunk = downscale(sr.float(), (lr.shape[-2], lr.shape[-1]))
    return F.l1_loss(_within(shrunk, margin), _within(lr.detach().float(), margin))


def recurrence(
    cameras: BatchCameras, generator: Network, lr: Tensor, scale: int, margin: int = 0
) -> tuple[Tensor, Tensor]:
    """The input is the truth of its own shrunk copy: G(d(x)) and x (Shocher et al. 2018), for a loss between the two.

    d is the whole of the case's degradation, noise and compression too. The other half of the cycle (Zhu et al. 2017)
    of which consistency is one: what it asks for is as sharp as the input, however sharp the synthetic images are. Of
    `B C H W`; rows and columns beyond whole multiples of the scale are left out. Gradients reach G alone. `margin`:
    pixels of d(x) at each border that do not count.
    """
    rows, columns = (side // scale for side in lr.shape[-2:])
    with torch.no_grad(), torch.autocast(lr.device.type, enabled=False):
        x = lr[..., : rows * scale, : columns * scale].float()
        lr_of_lr = cameras.capture(cameras(x, (rows, columns)))
    return _within(generator(lr_of_lr), scale * margin), _within(x, scale * margin)


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _within(x: Tensor, margin: int) -> Tensor:
    """`B C H W` without its borders."""
    rows, columns = x.shape[-2:]
    return x[..., margin : rows - margin, margin : columns - margin]


def _require_one_shape(sr: Tensor, other: Tensor) -> None:
    # Broadcasting would make a number of any two shapes.
    if sr.shape != other.shape:
        raise ValueError(f"the reference is {tuple(other.shape)}, and the output {tuple(sr.shape)}: they must be alike")


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

    @property
    def same_work(self) -> bool:
        """Whether the losses launch the same kernels for all batches: not where images of a batch have cameras of
        their own, a camera's blur has to be turned with an image, or noise is drawn for it."""
        wanted = self.settings
        drawn = bool(wanted.recurrence or wanted.recurrence_features)
        if not (wanted.consistency or drawn):
            return True
        one, *others = set(self.downscales)
        return not others and set(one.symmetries) == set(dihedral.ALL) and not (drawn and one.captures)

    def content(self, generator: Network, sr: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Each content loss by name, without its weight, of the generator's outputs `sr` on `batch`."""
        wanted, losses, lr = self.settings, dict[str, Tensor](), batch.lr
        cameras = BatchCameras(self.downscales, batch)
        side = min(lr.shape[-2:])
        if wanted.mediator or wanted.pixel:
            reference = (
                resize(lr.detach().float(), (sr.shape[-2], sr.shape[-1])) if wanted.reference == "input" else batch.hr
            )
            assert reference is not None
            if wanted.mediator:
                losses["mediator"] = self._in_features(sr, reference)
            if wanted.pixel:
                losses["pixel"] = pixel_loss(sr, reference, wanted.pixel_norm)
        if wanted.consistency:
            losses["consistency"] = consistency_loss(cameras, sr, lr, cameras.margin(self.scale, side))
        if wanted.recurrence or wanted.recurrence_features:
            margin = cameras.margin(self.scale, side // self.scale)
            made, truth = recurrence(cameras, generator, lr, self.scale, margin)
            if wanted.recurrence:
                losses["recurrence"] = pixel_loss(made, truth)
            if wanted.recurrence_features:
                losses["recurrence_features"] = self._in_features(made, truth)
        return losses

    def _in_features(self, sr: Tensor, reference: Tensor) -> Tensor:
        assert self.features is not None
        return mediator_loss(self.features, sr, reference)

    def generator_adversarial(
        self, discriminator: Network, sr: Tensor, reals: Mapping[str, Tensor], weights: Mapping[str, float]
    ) -> Tensor:
        """The generator's adversarial loss, of its outputs `sr`, `B C sH sW`.

        `reals`: real examples of each kind in `weights` (which sum to 1), where the loss compares outputs with them.
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
            `loss`; `real` and `fake`, the two halves that it is the sum of; and `accuracy`: the share classified
            rightly, both halves counted alike.
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
        self, generator: Network, outputs: Sequence[Tensor], images: Images, device: torch.device
    ) -> float | None:
        """The validation loss: the weighted content losses of `outputs`, mean over images; None where there is none."""
        if not self.settings.have_content:
            return None
        losses = []
        for number, sr in enumerate(outputs):
            batch = whole_batch(images, number).to(device)
            losses.append(self.total(self.content(generator, sr[None].to(device), batch)).item())
        return sum(losses) / len(losses)
