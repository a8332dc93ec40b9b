"""Each loss against a value computed by hand, its gradients, and the weighted sum of the losses that are asked for."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.networks.weights import vgg_weights
from tests.training.conftest import images_of
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.srgan import SRGANDiscriminator, SRGANDiscriminatorOptions, SRGANGenerator, SRGANGeneratorOptions
from zssr_gan.networks.vgg import VGG, VGGOptions
from zssr_gan.settings.train import LossSettings
from zssr_gan.training.batch_degradation import BatchCameras
from zssr_gan.training.losses import (
    AdversarialBCE,
    Objective,
    RelativisticBCE,
    consistency_loss,
    mediator_loss,
    pixel_loss,
)
from zssr_gan.training.sampling import Batch, Images, Sampler

BLUR = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=1.6, sigma_minor=0.4, angle_degrees=20)))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=draws(seed))


def linear(x: Tensor) -> dict[str, Tensor]:
    """Features that a hand can compute: twice the values, and their negatives."""
    return {"double": 2 * x, "negative": -x}


def batch_of(images: Images, size: int = 4, patch: int | None = 8) -> Batch:
    return Sampler(images, patch=patch, scale=2, batch=size, seed=0, stream="test").batch(0)


def objective(*downscales: Downscale, **losses: Any) -> Objective:
    return Objective(LossSettings(**{"mediator": 0.0, **losses}), None, downscales or [BicubicDownscale()], 2)


@pytest.fixture(scope="module")
def generator() -> SRGANGenerator:
    return SRGANGenerator(SRGANGeneratorOptions(width=4, blocks=1), draws())


@pytest.fixture(scope="module")
def vgg() -> VGG:
    return VGG(VGGOptions(layers=("conv1_2", "conv2_2")), vgg_weights())


def reached(network: nn.Module) -> bool:
    """Whether the last backward pass reached its weights; they are cleared."""
    found = any(weight.grad is not None and bool(weight.grad.any()) for weight in network.parameters())
    network.zero_grad()
    return found


class TestAdversarial:
    def test_by_hand(self) -> None:
        real, fake = torch.tensor([[0.0], [math.log(3)]]), torch.tensor([[math.log(1 / 3)]])
        # D(y) is 1/2 and 3/4, D(G(x)) is 1/4.
        halves = [float(half) for half in AdversarialBCE().halves(real, fake)]
        assert halves == pytest.approx([(math.log(2) + math.log(4 / 3)) / 2, math.log(4 / 3)], rel=1e-6)
        assert float(AdversarialBCE().generator(fake)) == pytest.approx(math.log(4), rel=1e-6)

    def test_sure_logits_and_half_precision(self) -> None:
        sure = torch.tensor([1000.0], requires_grad=True)
        assert sum(AdversarialBCE().halves(-sure, sure)) == 2000
        assert torch.autograd.grad(AdversarialBCE().generator(-sure), sure)[0] == 1  # it does not saturate
        assert AdversarialBCE().generator(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32

    def test_gradients_of_either(self, generator: SRGANGenerator) -> None:
        network = SRGANDiscriminator(SRGANDiscriminatorOptions(width=4, hidden=8, size=16), draws())
        sr = generator(noise(2, 3, 8, 8))
        torch.stack(AdversarialBCE().halves(network(noise(2, 3, 16, 16)), network(sr.detach()))).sum().backward()
        assert reached(network)
        assert not reached(generator)
        AdversarialBCE().generator(network(sr)).backward()
        assert reached(generator)

    def test_relativistic_by_hand(self) -> None:
        """Logits whose means are log 3 apart: each real example is three to one more real than fakes are on average."""
        real, fake = torch.tensor([[math.log(3)], [math.log(9)]]), torch.tensor([[0.0], [math.log(3)]])
        # C(y) less the fakes' mean, and C(G(x)) less the reals', each about log 3 / 2 or 3 log 3 / 2 from 0.
        near, far = math.log(3) / 2, 3 * math.log(3) / 2
        on_real = (math.log1p(math.exp(-near)) + math.log1p(math.exp(-far))) / 2
        halves = [float(half) for half in RelativisticBCE().halves(real, fake)]
        assert halves == pytest.approx([on_real, on_real], rel=1e-6)
        other_way = (math.log1p(math.exp(near)) + math.log1p(math.exp(far))) / 2
        assert float(RelativisticBCE().generator(fake, real)) == pytest.approx(2 * other_way, rel=1e-6)
        # Only differences count.
        shifted = RelativisticBCE().halves(real + 7, fake + 7)
        assert torch.allclose(torch.stack(shifted), torch.tensor(halves), atol=1e-6)

    def test_the_relativistic_generator_moves_the_fakes_alone(self) -> None:
        real, fake = (noise(4, 1, seed=seed).requires_grad_() for seed in (1, 2))
        RelativisticBCE().generator(fake, real).backward()
        assert real.grad is None
        assert fake.grad is not None
        assert (fake.grad < 0).all()  # towards more real


class TestMediator:
    def test_by_hand(self) -> None:
        sr, reference = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        sr[0, 0, 0, 0] = 0.5
        # Squares of 1 and 0.5 in one of four places; the layers' mean.
        assert float(mediator_loss(linear, sr, reference)) == pytest.approx((1 / 4 + 0.25 / 4) / 2)

    def test_gradients(self, generator: SRGANGenerator, vgg: VGG) -> None:
        reference = noise(1, 3, 16, 16).requires_grad_()
        loss = mediator_loss(vgg, generator(noise(1, 3, 8, 8)), reference)
        loss.backward()
        assert reached(generator)
        assert reference.grad is None
        assert not reached(vgg)
        assert loss.detach() > 0.01 > mediator_loss(vgg, reference, reference) == 0


@pytest.mark.parametrize(("norm", "value", "gradient"), [("l1", 0.3, (-0.5, 0.5)), ("l2", 0.13, (-0.5, 0.1))])
def test_pixels_by_hand(norm: Literal["l1", "l2"], value: float, gradient: tuple[float, float]) -> None:
    sr = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    target = torch.tensor([[[[0.5, 0.9]]]], requires_grad=True)
    loss = pixel_loss(sr, target, norm)
    assert loss.item() == pytest.approx(value)
    loss.backward()
    assert sr.grad is not None
    assert torch.allclose(sr.grad.flatten(), torch.tensor(gradient))
    assert target.grad is None


@pytest.mark.parametrize("loss", [partial(mediator_loss, linear), pixel_loss])
def test_other_sizes_are_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="must be alike"):
        loss(noise(1, 3, 8, 8), noise(1, 1, 8, 8))


CAMERA = Degradation(
    blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.4, angle_degrees=20),
    noise=Noise(sigma=0.02),
    jpeg=Jpeg.of_quality(60),
)


class TestConsistency:
    def test_by_hand(self) -> None:
        """A kernel whose mean over each 2x2 block a hand can take."""
        sr = torch.tensor([[[[0.0, 1.0, 0.2, 0.2], [1.0, 1.0, 0.2, 0.2]]]])
        loss = consistency_loss(KernelDownscale(torch.ones(2, 2), (2, 2)), sr, torch.tensor([[[[0.5, 0.3]]]]))
        assert float(loss) == pytest.approx((0.25 + 0.1) / 2, abs=1e-6)

    @pytest.mark.parametrize("kind", ["bicubic", "kernel", "camera"])
    def test_only_what_gives_the_input_back_is_consistent(self, kind: str, generator: SRGANGenerator) -> None:
        kernel = torch.tensor([[1.0, 2.0, 1.0]]) * torch.tensor([[1.0], [2.0], [1.0]])
        downscale = {"bicubic": BicubicDownscale(), "kernel": KernelDownscale(kernel, (2, 2))}.get(
            kind, CAMERA.downscale
        )
        loss, sr = partial(consistency_loss, downscale), noise(2, 3, 16, 16)
        lr = downscale(sr, (8, 8)).requires_grad_()
        assert float(loss(sr, lr)) < 1e-6
        # A shift of colour cannot hide.
        assert float(loss(sr + 0.1, lr)) == pytest.approx(0.1, abs=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(noise(2, 3, 16, 16, seed=2), lr)
        assert torch.equal(inside, loss(noise(2, 3, 16, 16, seed=2), lr))
        made = generator(lr.detach())
        made.retain_grad()
        loss(made, lr).backward()
        assert reached(generator)
        assert (made.grad != 0).float().mean() > 0.9
        assert lr.grad is None


class TestContent:
    def no_generator(self, _x: Tensor) -> Tensor:
        raise AssertionError("no loss that was asked for needs it")

    def test_only_what_is_asked_for(self) -> None:
        of, batch = objective(pixel=2.0, consistency=0.5), batch_of(images_of(4), patch=None)
        assert batch.hr is not None
        found = of.content(self.no_generator, batch.hr, batch)
        assert set(found) == {"pixel", "consistency"}
        assert torch.isclose(of.total(found), 2 * found["pixel"] + 0.5 * found["consistency"])
        for norm, wanted in (("l1", 0.25), ("l2", 0.0625)):
            guided = objective(pixel=1.0, pixel_norm=norm, reference="synthetic")
            assert float(guided.content(self.no_generator, batch.hr + 0.25, batch)["pixel"]) == pytest.approx(wanted)

    def test_a_turned_patch_is_compared_by_its_camera_upright(self) -> None:
        """The truth, turned, costs nothing; and two cameras in one batch are told apart."""
        first, downscales = images_of(6), (BLUR, BicubicDownscale())
        assert first.hr is not None
        lr = [downscales[n % 2](hr[None].float() / 255, (10, 10))[0] * 255 for n, hr in enumerate(first.hr)]
        levels = tuple(x.round().clamp(0, 255).byte() for x in lr)
        batch = batch_of(Images(first.ids, levels, first.hr, (0, 1) * 3), 24, None)
        assert batch.hr is not None
        assert len(set(batch.turned)) > 4
        upright = Batch(batch.lr, batch.hr, (0,) * 24, batch.cameras, batch.seeds)
        right, wrong = (
            objective(*downscales, consistency=1.0).content(self.no_generator, batch.hr, one)["consistency"]
            for one in (batch, upright)
        )
        assert right < 1 / 255
        assert wrong > 2 * right

    def test_the_input_is_the_truth_of_its_own_shrunk_copy(self) -> None:
        """A generator that undoes the shrinking costs nothing; each image was shrunk by its own camera."""
        first, downscales = images_of(6), (BLUR, BicubicDownscale())
        batch = batch_of(Images(first.ids, first.lr, first.hr, (0, 1) * 3), 12, 9)
        given: list[Tensor] = []

        def answers(small: Tensor) -> Tensor:
            given.append(small)
            return batch.lr[..., :8, :8]

        of = objective(*downscales, recurrence=1.0)
        assert of.content(answers, batch.lr, batch) == {"recurrence": 0}
        (small,) = given
        assert small.shape == (12, 1, 4, 4)
        for place, (camera, k) in enumerate(zip(batch.cameras, batch.turned, strict=True)):
            upright = dihedral.inverse(batch.lr[place, :, :8, :8], k)[None]
            expected = dihedral.transform(downscales[camera](upright, (4, 4))[0], k)
            # The blurred camera's images have rounding's noise at least.
            assert (small[place] - expected).abs().max() < (6 / 255 if camera == 0 else 1e-6)
            assert torch.allclose(small[place], expected, atol=1e-6) == (camera == 1)
        of.content(answers, batch.lr, batch)
        assert torch.equal(given[1], small)  # of the same batch, the same noise: a resumed run draws it again

    def test_of_a_shrunk_patch_borders_do_not_count(self) -> None:
        """In pixels, and in features that are the pixels twice: four times the squared distance."""
        batch = batch_of(images_of(4))
        off = batch.lr + 0.25
        off[..., :2, :] += 1  # of the shrunk patch's four pixels one on each side does not count
        settings = LossSettings(mediator=0.0, recurrence=1.0, recurrence_features=1.0)
        found = Objective(settings, lambda x: {"layer": 2 * x}, [BicubicDownscale()], 2).content(
            lambda _lr: off, batch.lr, batch
        )
        assert {name: float(x) for name, x in found.items()} == pytest.approx(
            {"recurrence": 0.25, "recurrence_features": 4 * 0.25**2}
        )

    @pytest.mark.parametrize("downscale", [BicubicDownscale(), BLUR])
    def test_the_truth_of_a_patch_costs_nothing(self, downscale: Downscale) -> None:
        """At its borders a camera saw what the patch does not show: they do not count."""
        hr = resize(torch.rand(4, 1, 40, 40, generator=draws()), (96, 96)).clamp(0, 1)
        levels = [tuple((x * 255).round().byte()) for x in (downscale(hr, (48, 48)).clamp(0, 1), hr)]
        images = Images(tuple("abcd"), levels[0], levels[1], (0,) * 4)
        for patch in (48, 24):
            batch = batch_of(images, 8, patch)
            assert batch.cut == (patch == 24)
            assert batch.hr is not None
            found = objective(downscale, consistency=1.0).content(self.no_generator, batch.hr, batch)
            assert found["consistency"] < 0.5 / 255

    def test_margins(self) -> None:
        """They depend on all cameras, not on those of the batch; whole images have none, a patch keeps half."""
        wide = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=1.5, sigma_minor=1.5, angle_degrees=0)))

        def margin(*cameras: int, known: list[Downscale], side: int = 64, cut: bool = True) -> int:
            zeros = (0,) * len(cameras)
            batch = Batch(torch.zeros(len(cameras), 1, 64, 64), None, zeros, cameras, zeros, cut)
            return BatchCameras(known, batch).margin(2, side)

        both: list[Downscale] = [BicubicDownscale(), wide]
        assert margin(0, 0, known=both[:1]) == 2
        assert {margin(*its, known=both) for its in ((0, 0), (0, 1), (1, 1))} == {2 + -(-wide.reach // 2)}
        assert margin(0, known=both, cut=False) == 0
        assert margin(0, known=both, side=8) == 2


class TestObjective:
    """Adversarial losses of generator and discriminator; logits are an image's mean."""

    def discriminator(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))[:, None]

    @pytest.mark.parametrize("gan", ["bce", "relativistic"])
    def test_halves_sum_to_the_loss(self, gan: str) -> None:
        reals, weights = {"synthetic": torch.ones(4, 1), "lr": torch.zeros(4, 1)}, {"synthetic": 0.75, "lr": 0.25}
        found = objective(gan=gan).discriminator(reals, weights, torch.full((4, 1), -2.0))
        assert float(found["real"] + found["fake"]) == pytest.approx(float(found["loss"]), rel=1e-6)
        assert not found["real"].requires_grad

    def test_each_kind_counts_by_its_weight(self) -> None:
        logits = {"synthetic": torch.tensor([[2.0], [-1.0]]), "lr": torch.tensor([[[[0.5, 3.0]]], [[[1.0, 1.0]]]])}
        fake = torch.tensor([[-1.0], [-2.0]])
        found = objective().discriminator(logits, {"synthetic": 0.25, "lr": 0.75}, fake)
        one, other = (torch.stack(AdversarialBCE().halves(real, fake)).sum() for real in logits.values())
        torch.testing.assert_close(found["loss"], 0.25 * one + 0.75 * other)
        assert found["accuracy"].item() == pytest.approx((0.25 * 0.5 + 0.75 * 1.0 + 1.0) / 2)

    def test_only_the_relativistic_generator_looks_at_reals(self) -> None:
        sr = torch.full((2, 1, 4, 4), 0.25, requires_grad=True)
        reals = {"synthetic": torch.zeros(2, 1, 4, 4), "lr": torch.ones(2, 1, 4, 4)}
        plain = objective().generator_adversarial(self.discriminator, sr, {}, {"synthetic": 1.0})
        assert torch.equal(plain, AdversarialBCE().generator(self.discriminator(sr)))
        of = partial(objective(gan="relativistic").generator_adversarial, self.discriminator, sr, reals)
        dark, bright, both = of({"synthetic": 1.0}), of({"lr": 1.0}), of({"synthetic": 0.75, "lr": 0.25})
        assert dark < bright
        assert torch.isclose(both, 0.75 * dark + 0.25 * bright)

    def test_accuracy_depends_on_the_loss(self) -> None:
        """Logits all above 0, those of real examples further: only compared are they all right."""
        for gan, wanted in (("bce", 0.5), ("relativistic", 1.0)):
            reals = {"lr": torch.full((4, 1), 3.0)}
            assert objective(gan=gan).discriminator(reals, {"lr": 1.0}, torch.ones(4, 1))["accuracy"] == wanted


def test_what_launches_the_same_kernels_for_all_batches() -> None:
    """Not where an image's own camera decides what is launched: its steps are not replayed as a CUDA graph."""
    noisy = DegradedDownscale(Degradation(noise=Noise(sigma=0.02)))
    round_blur = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=1.0, sigma_minor=1.0, angle_degrees=0)))
    assert objective(BLUR, noisy, pixel=1.0, consistency=0.0).same_work
    assert objective(BicubicDownscale(), consistency=1.0).same_work
    assert objective(BicubicDownscale(), recurrence=1.0).same_work
    assert objective(round_blur, consistency=1.0).same_work
    assert not objective(BLUR, consistency=1.0).same_work
    assert not objective(noisy, recurrence=1.0).same_work
    assert not objective(BicubicDownscale(), round_blur, consistency=1.0).same_work
