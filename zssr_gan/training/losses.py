"""What the generator and the discriminator minimise: one class an equation, in its source's symbols.

None holds a weight against the others: those are settings. All are means, in float32, so that they do not hang on the
sizes of images and batches.

Symbols: x an LR image, G(x) the generator's output, y a real example (a synthetic HR image), D(.) the discriminator's
probability of 'real', phi_l the features of layer l, g a guide. Shapes: B images, C channels, H W rows and columns, s
the scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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

_SMALLEST_VARIANCE = 1e-8  # the root's gradient is endless at 0


@dataclass(frozen=True)
class AdversarialBCE:
    """The GAN's loss as binary cross entropy (Goodfellow et al. 2014; Moreira et al., IV-C).

    L_D = -E_y[log D(y)] - E_x[log(1 - D(G(x)))], and, for the generator, the form that does not saturate (also Ledig et
    al. 2017): L_G = -E_x[log D(G(x))].
    """

    real_label: float = 1.0
    """What the discriminator should say of real examples; 0.9 is Salimans et al.'s (2016) one-sided smoothing."""

    def compared(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What D is the sigmoid of, of the logits of real examples and of fakes: positive where it says real."""
        return real, fake

    def halves(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of L_D, of logits of any shape: of real examples, and of fakes detached from the generator."""
        real, fake = self.compared(real, fake)
        return _cross_entropy(real, self.real_label), _cross_entropy(fake, 0.0)

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
    over the batch (in each process, over its part of it). With both logits alike, each is 2 log 2. `real_label` is of
    D(y, x) in L_D.
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
    """Distance to a guide in features: Moreira et al.'s mediator; the content loss of Ledig et al. 2017.

    L = 1/|l| sum_l mean (phi_l(G(x)) - phi_l(g))^2. The guide g is an image of the same size: the upscaled input
    (`input_guide`; deep layers, which do not see blur so well), or the image's own synthetic HR.
    """

    features: Features

    def __call__(self, sr: Tensor, guide: Tensor) -> Tensor:
        """L, of `B C sH sW` both; the guide gets no gradient."""
        _same_shape(sr, guide, "the guide")
        with torch.no_grad():
            wanted = self.features(guide)
        found = self.features(sr)
        return torch.stack([F.mse_loss(found[layer].float(), wanted[layer].float()) for layer in found]).mean()


@dataclass(frozen=True)
class StatisticsMatching:
    """Mean and deviation of each feature over batch and places, against a batch of other images: no pairs are needed.

    L = 1/|l| sum_l mean_c [(mu_lc(G(x)) - mu_lc(y))^2 + (sigma_lc(G(x)) - sigma_lc(y))^2] (Salimans et al. 2016,
    feature matching; Li et al. 2017, who match a style by the statistics of batch normalisation).
    """

    features: Features

    def __call__(self, sr: Tensor, real: Tensor) -> Tensor:
        """L, of `B C sH sW` and `B' C H' W'`: other images, of any number and size; they get no gradient."""
        with torch.no_grad():
            wanted = {layer: _statistics(values) for layer, values in self.features(real).items()}
        found = {layer: _statistics(values) for layer, values in self.features(sr).items()}
        # Means and deviations lie side by side, so that twice their mean square is the sum of both.
        return 2 * torch.stack([F.mse_loss(found[layer], wanted[layer]) for layer in found]).mean()


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
            son = self.cameras.capture(self.cameras(x, (rows, columns)))
        margin = self.scale * self.margin
        return _within(generator(son), margin), _within(x, margin)


def input_guide(lr: Tensor, size: tuple[int, int]) -> Tensor:
    """The upscaled input as a guide: bicubic, `B C H W` to `B C *size`, without gradient."""
    return resize(lr.detach().float(), size)


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _within(x: Tensor, margin: int) -> Tensor:
    """`B C H W` without its borders."""
    rows, columns = x.shape[-2:]
    return x[..., margin : rows - margin, margin : columns - margin]


def _statistics(values: Tensor) -> Tensor:
    """`2 C`: mean and standard deviation of each channel of `B C H W`, over all else."""
    variance, mean = torch.var_mean(values.float(), (0, 2, 3), correction=0)
    return torch.stack([mean, (variance + _SMALLEST_VARIANCE).sqrt()])


def _same_shape(sr: Tensor, other: Tensor, name: str) -> None:
    # Broadcasting would make a number of any two shapes.
    if sr.shape != other.shape:
        raise ValueError(f"{name} is {tuple(other.shape)}, and the output {tuple(sr.shape)}: they must be alike")


# What the generator minimises, by the weights in the settings: the losses that are asked for, and no others.


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
