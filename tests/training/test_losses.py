"""Each loss against a value computed by hand, its gradients, and the weighted sum of the losses that are asked for."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import images_of
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.srgan import Discriminator, DiscriminatorOptions, Generator, GeneratorOptions
from zssr_gan.networks.vgg import VGG, VGGOptions, orthogonal_weights
from zssr_gan.settings.train import LossSettings
from zssr_gan.training.losses import (
    AdversarialBCE,
    ConsistencyLoss,
    MediatorLoss,
    Objective,
    PixelLoss,
    RelativisticBCE,
)
from zssr_gan.training.sampling import Batch, Images, Sampler


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=draws(seed))


def linear(x: Tensor) -> dict[str, Tensor]:
    """Features that a hand can compute: twice the values, and their negatives."""
    return {"double": 2 * x, "negative": -x}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(GeneratorOptions(width=4, blocks=1), draws())


@pytest.fixture(scope="module")
def vgg() -> VGG:
    return VGG(VGGOptions(layers=("conv1_2", "conv2_2")), orthogonal_weights(draws()))


def reached(network: nn.Module) -> bool:
    """Whether the last backward pass reached its weights; they are cleared."""
    found = any(weight.grad is not None and bool(weight.grad.any()) for weight in network.parameters())
    network.zero_grad()
    return found


class TestAdversarial:
    def test_by_hand(self) -> None:
        real, fake = torch.tensor([[0.0], [math.log(3)]]), torch.tensor([[math.log(1 / 3)]])
        loss = AdversarialBCE()
        # D(y) is 1/2 and 3/4, D(G(x)) is 1/4.
        expected = (math.log(2) + math.log(4 / 3)) / 2 + math.log(4 / 3)
        assert float(loss.discriminator(real, fake)) == pytest.approx(expected, rel=1e-6)
        assert float(loss.generator(fake)) == pytest.approx(math.log(4), rel=1e-6)

    def test_sure_logits_are_no_infinity(self) -> None:
        loss = AdversarialBCE()
        sure = torch.tensor([1000.0], requires_grad=True)
        assert loss.discriminator(-sure, sure) == 2000
        assert torch.autograd.grad(loss.generator(-sure), sure)[0] == 1  # it does not saturate

    def test_half_precision_logits(self) -> None:
        assert AdversarialBCE().generator(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32

    def test_gradients_of_either(self, generator: Generator) -> None:
        network = Discriminator(DiscriminatorOptions(width=4, hidden=8, size=16), draws())
        loss, sr = AdversarialBCE(), generator(noise(2, 3, 8, 8))
        loss.discriminator(network(noise(2, 3, 16, 16)), network(sr.detach())).backward()
        assert reached(network)
        assert not reached(generator)
        loss.generator(network(sr)).backward()
        assert reached(generator)


class TestRelativistic:
    def test_by_hand(self) -> None:
        """Logits whose means are log 3 apart: each real example is three to one more real than fakes are on average."""
        real, fake = torch.tensor([[math.log(3)], [math.log(9)]]), torch.tensor([[0.0], [math.log(3)]])
        loss = RelativisticBCE()
        # C(y) less the fakes' mean, and C(G(x)) less the reals', each about log 3 / 2 or 3 log 3 / 2 from 0.
        near, far = math.log(3) / 2, 3 * math.log(3) / 2
        on_real = (math.log1p(math.exp(-near)) + math.log1p(math.exp(-far))) / 2
        assert [float(half) for half in loss.halves(real, fake)] == pytest.approx([on_real, on_real], rel=1e-6)
        assert float(loss.discriminator(real, fake)) == pytest.approx(2 * on_real, rel=1e-6)
        other_way = (math.log1p(math.exp(near)) + math.log1p(math.exp(far))) / 2
        assert float(loss.generator(fake, real)) == pytest.approx(2 * other_way, rel=1e-6)

    def test_logits_alike_and_shifted(self) -> None:
        loss, logits = RelativisticBCE(), torch.zeros(3, 1)
        assert float(loss.discriminator(logits, logits)) == pytest.approx(2 * math.log(2))
        real, fake = noise(4, 1), noise(3, 1, seed=2)
        # Only differences count.
        assert torch.allclose(loss.discriminator(real + 7, fake + 7), loss.discriminator(real, fake), atol=1e-6)

    def test_the_generator_moves_the_fakes_alone(self) -> None:
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
        assert float(MediatorLoss(linear)(sr, reference)) == pytest.approx((1 / 4 + 0.25 / 4) / 2)

    def test_gradients(self, generator: Generator, vgg: VGG) -> None:
        reference = noise(1, 3, 16, 16).requires_grad_()
        MediatorLoss(vgg)(generator(noise(1, 3, 8, 8)), reference).backward()
        assert reached(generator)
        assert reference.grad is None
        assert not reached(vgg)

    def test_the_reference_itself_is_the_least(self, vgg: VGG) -> None:
        reference = noise(1, 3, 16, 16)
        assert float(MediatorLoss(vgg)(reference, reference)) == 0
        assert float(MediatorLoss(vgg)(noise(1, 3, 16, 16, seed=2), reference)) > 0.01


@pytest.mark.parametrize(("norm", "value", "gradient"), [("l1", 0.3, (-0.5, 0.5)), ("l2", 0.13, (-0.5, 0.1))])
def test_pixels_by_hand(norm: Literal["l1", "l2"], value: float, gradient: tuple[float, float]) -> None:
    sr = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    target = torch.tensor([[[[0.5, 0.9]]]], requires_grad=True)
    loss = PixelLoss(norm)(sr, target)
    assert loss.item() == pytest.approx(value)
    loss.backward()
    assert sr.grad is not None
    assert torch.allclose(sr.grad.flatten(), torch.tensor(gradient))
    assert target.grad is None


DOWNSCALES: dict[str, Callable[[], Downscale]] = {
    "bicubic": BicubicDownscale,
    "kernel": lambda: KernelDownscale(torch.tensor([[1.0, 2.0, 1.0]]) * torch.tensor([[1.0], [2.0], [1.0]]), (2, 2)),
    "gaussian, noise, jpeg": lambda: (
        Degradation(
            blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.4, angle_degrees=20),
            noise=Noise(sigma=0.02),
            jpeg=Jpeg.of_quality(60),
        ).downscale
    ),
}


class TestConsistency:
    def test_by_hand(self) -> None:
        """A kernel whose mean over each 2x2 block a hand can take."""
        downscale = KernelDownscale(torch.ones(2, 2), (2, 2))
        sr = torch.tensor([[[[0.0, 1.0, 0.2, 0.2], [1.0, 1.0, 0.2, 0.2]]]])
        lr = torch.tensor([[[[0.5, 0.3]]]])
        assert float(ConsistencyLoss(downscale)(sr, lr)) == pytest.approx((0.25 + 0.1) / 2, abs=1e-6)

    @pytest.mark.parametrize("kind", DOWNSCALES)
    def test_only_what_gives_the_input_back_is_consistent(self, kind: str) -> None:
        downscale = DOWNSCALES[kind]()
        loss = ConsistencyLoss(downscale)
        sr = noise(2, 3, 16, 16)
        lr = downscale(sr, (8, 8))
        assert float(loss(sr, lr)) < 1e-6
        # A shift of colour cannot hide.
        assert float(loss(sr + 0.1, lr)) == pytest.approx(0.1, abs=1e-4)

    @pytest.mark.parametrize("kind", DOWNSCALES)
    def test_gradients(self, kind: str, generator: Generator) -> None:
        lr = noise(1, 3, 8, 8).requires_grad_()
        sr = generator(lr.detach())
        sr.retain_grad()
        ConsistencyLoss(DOWNSCALES[kind]())(sr, lr).backward()
        assert reached(generator)
        assert sr.grad is not None
        assert (sr.grad != 0).float().mean() > 0.9
        assert lr.grad is None

    @pytest.mark.parametrize("kind", DOWNSCALES)
    def test_it_is_exact_under_autocast(self, kind: str) -> None:
        sr, lr = noise(1, 3, 16, 16), noise(1, 3, 8, 8, seed=2)
        loss = ConsistencyLoss(DOWNSCALES[kind]())
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(sr, lr)
        assert torch.equal(inside, loss(sr, lr))


@pytest.mark.parametrize("loss", [MediatorLoss(linear), PixelLoss(), PixelLoss("l2")])
def test_other_sizes_are_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="must be alike"):
        loss(noise(1, 3, 8, 8), noise(1, 1, 8, 8))


BLUR = DegradedDownscale(Degradation(blur=GaussianBlur(sigma_major=1.6, sigma_minor=0.4, angle_degrees=20)))


def no_generator(_x: Tensor) -> Tensor:
    raise AssertionError("no loss that was asked for needs it")


def test_only_what_is_asked_for() -> None:
    settings = LossSettings(mediator=0.0, pixel=2.0, consistency=0.5)
    batch = Sampler(images_of(4), patch=None, scale=2, batch=4, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    objective = Objective(settings, None, [BicubicDownscale()], 2)
    found = objective.content(no_generator, batch.hr, batch)
    assert set(found) == {"pixel", "consistency"}
    assert torch.isclose(objective.total(found), 2 * found["pixel"] + 0.5 * found["consistency"])


def test_a_turned_patch_is_compared_by_its_camera_upright() -> None:
    """The truth, turned, costs nothing; and two cameras in one batch are told apart."""
    first = images_of(6)
    assert first.hr is not None
    lr = []
    for number, hr in enumerate(first.hr):
        downscale = (BLUR, BicubicDownscale())[number % 2]
        lr.append((downscale(hr[None].float() / 255, (10, 10))[0] * 255).round().clamp(0, 255).byte())
    images = Images(first.ids, tuple(lr), first.hr, tuple(number % 2 for number in range(6)))
    batch = Sampler(images, patch=None, scale=2, batch=24, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    assert len(set(batch.turned)) > 4
    settings = LossSettings(mediator=0.0, consistency=1.0)
    right = Objective(settings, None, [BLUR, BicubicDownscale()], 2).content(no_generator, batch.hr, batch)[
        "consistency"
    ]
    assert right < 1 / 255
    upright = Batch(batch.lr, batch.hr, (0,) * 24, batch.cameras, batch.seeds)
    wrong = Objective(settings, None, [BLUR, BicubicDownscale()], 2).content(no_generator, batch.hr, upright)[
        "consistency"
    ]
    assert wrong > 2 * right


def test_the_input_is_the_truth_of_its_own_shrunk_copy() -> None:
    """A generator that undoes the shrinking costs nothing; what it is given was shrunk by each image's own camera."""
    images = images_of(6)
    images = Images(images.ids, images.lr, images.hr, (0, 1, 0, 1, 0, 1))
    batch = Sampler(images, patch=9, scale=2, batch=12, seed=0, stream="test").batch(0)
    downscales = [BLUR, BicubicDownscale()]
    given: list[Tensor] = []

    def answers(small: Tensor) -> Tensor:
        given.append(small)
        return batch.lr[..., :8, :8]

    settings = LossSettings(mediator=0.0, recurrence=1.0)
    objective = Objective(settings, None, downscales, 2)
    assert objective.content(answers, batch.lr, batch) == {"recurrence": 0}
    (small,) = given
    assert small.shape == (12, 1, 4, 4)
    for place, (camera, k) in enumerate(zip(batch.cameras, batch.turned, strict=True)):
        upright = dihedral.inverse(batch.lr[place, :, :8, :8], k)[None]
        expected = dihedral.transform(downscales[camera](upright, (4, 4))[0], k)
        # The blurred camera's images have rounding's noise at least.
        assert (small[place] - expected).abs().max() < (6 / 255 if camera == 0 else 1e-6)
        assert torch.allclose(small[place], expected, atol=1e-6) == (camera == 1)
    objective.content(answers, batch.lr, batch)
    assert torch.equal(given[1], small)  # of the same batch, the same noise: a resumed run draws it again
    off = objective.content(lambda _lr: batch.lr[..., :8, :8] + 0.25, batch.lr, batch)
    assert float(off["recurrence"]) == pytest.approx(0.25)


def test_the_same_pair_in_features() -> None:
    """With features that are the pixels twice, four times the squared distance."""
    batch = Sampler(images_of(4), patch=8, scale=2, batch=4, seed=0, stream="test").batch(0)
    settings = LossSettings(mediator=0.0, recurrence_features=1.0)
    assert settings.need_features
    assert settings.have_content
    objective = Objective(settings, lambda x: {"layer": 2 * x}, [BicubicDownscale()], 2)
    found = objective.content(lambda _lr: batch.lr + 0.25, batch.lr, batch)
    assert set(found) == {"recurrence_features"}
    assert float(found["recurrence_features"]) == pytest.approx(4 * 0.25**2)


@pytest.mark.parametrize("downscale", [BicubicDownscale(), BLUR])
def test_the_truth_of_a_patch_costs_nothing(downscale: Downscale) -> None:
    """At its borders a camera saw what the patch does not show: they do not count."""
    draws = torch.Generator().manual_seed(0)
    hr = resize(torch.rand(4, 1, 40, 40, generator=draws), (96, 96)).clamp(0, 1)
    lr = downscale(hr, (48, 48)).clamp(0, 1)
    levels = [tuple((x * 255).round().to(torch.uint8)) for x in (lr, hr)]
    images = Images(tuple("abcd"), levels[0], levels[1], (0,) * 4)
    found = {}
    for patch in (48, 24):
        batch = Sampler(images, patch=patch, scale=2, batch=8, seed=0, stream="test").batch(0)
        assert batch.cut == (patch == 24)
        assert batch.hr is not None
        settings = LossSettings(mediator=0.0, consistency=1.0)
        found[patch] = Objective(settings, None, [downscale], 2).content(no_generator, batch.hr, batch)
    rounding = 0.5 / 255
    assert found[48]["consistency"] < rounding
    assert found[24]["consistency"] < rounding


def test_borders_of_a_shrunk_patch_do_not_count() -> None:
    batch = Sampler(images_of(4), patch=8, scale=2, batch=4, seed=0, stream="test").batch(0)
    off = batch.lr.clone()
    off[..., :2, :] += 1  # of the shrunk patch's four pixels one on each side does not count
    settings = LossSettings(mediator=0.0, recurrence=1.0)
    objective = Objective(settings, None, [BicubicDownscale()], 2)
    assert float(objective.content(lambda _lr: off, batch.lr, batch)["recurrence"]) == 0


def test_the_norm_of_pixels() -> None:
    batch = Sampler(images_of(4), patch=8, scale=2, batch=4, seed=0, stream="test").batch(0)
    assert batch.hr is not None
    found = {
        norm: Objective(
            LossSettings(mediator=0.0, pixel=1.0, pixel_norm=norm, guide="synthetic"), None, [BLUR], 2
        ).content(no_generator, batch.hr + 0.25, batch)["pixel"]
        for norm in ("l1", "l2")
    }
    assert [float(found[norm]) for norm in ("l1", "l2")] == pytest.approx([0.25, 0.0625])


class TestAdversarialLosses:
    """Of generator and discriminator; logits are an image's mean."""

    def discriminator(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))[:, None]

    def test_halves_sum_to_the_loss(self) -> None:
        reals, weights = {"synthetic": torch.ones(4, 1), "lr": torch.zeros(4, 1)}, {"synthetic": 0.75, "lr": 0.25}
        for kind in ("bce", "relativistic"):
            objective = Objective(LossSettings(gan=kind), None, [], 2)
            found = objective.discriminator(reals, weights, torch.full((4, 1), -2.0))
            assert float(found["real"] + found["fake"]) == pytest.approx(float(found["loss"]), rel=1e-6)
            assert not found["real"].requires_grad
        one = Objective(LossSettings(), None, [], 2).discriminator(
            {"lr": torch.zeros(1, 1)}, {"lr": 1.0}, torch.ones(1, 1)
        )
        assert float(one["real"]) == pytest.approx(0.6931, abs=1e-4)
        assert float(one["fake"]) == pytest.approx(1.3133, abs=1e-4)

    def test_only_the_relativistic_generator_looks_at_reals(self) -> None:
        sr = torch.full((2, 1, 4, 4), 0.25, requires_grad=True)
        bright, dark = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
        plain, relativistic = (Objective(LossSettings(gan=kind), None, [], 2) for kind in ("bce", "relativistic"))
        assert torch.equal(
            plain.generator_adversarial(self.discriminator, sr, {}, {"synthetic": 1.0}),
            plain.adversarial.generator(self.discriminator(sr)),
        )
        losses = [
            relativistic.generator_adversarial(self.discriminator, sr, {"synthetic": real}, {"synthetic": 1.0})
            for real in (dark, bright)
        ]
        assert losses[0] < losses[1]
        both = relativistic.generator_adversarial(
            self.discriminator, sr, {"synthetic": dark, "lr": bright}, {"synthetic": 0.75, "lr": 0.25}
        )
        assert torch.isclose(both, 0.75 * losses[0] + 0.25 * losses[1])

    def test_accuracy_depends_on_the_loss(self) -> None:
        """Logits all above 0, those of real examples further: only compared are they all right."""
        real, fake = torch.full((4, 1), 3.0), torch.ones(4, 1)
        found = {
            kind: Objective(LossSettings(gan=kind), None, [], 2).discriminator({"lr": real}, {"lr": 1.0}, fake)[
                "accuracy"
            ]
            for kind in ("bce", "relativistic")
        }
        assert {kind: float(value) for kind, value in found.items()} == {"bce": 0.5, "relativistic": 1.0}

    def test_each_kind_counts_by_its_weight(self) -> None:
        objective = Objective(LossSettings(), None, [], 2)
        logits = {"synthetic": torch.tensor([[2.0], [-1.0]]), "lr": torch.tensor([[[[0.5, 3.0]]], [[[1.0, 1.0]]]])}
        fake = torch.tensor([[-1.0], [-2.0]])
        found = objective.discriminator(logits, {"synthetic": 0.25, "lr": 0.75}, fake)
        one, other = (AdversarialBCE().discriminator(real, fake) for real in logits.values())
        torch.testing.assert_close(found["loss"], 0.25 * one + 0.75 * other)
        assert found["accuracy"].item() == pytest.approx((0.25 * 0.5 + 0.75 * 1.0 + 1.0) / 2)
