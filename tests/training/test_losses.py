"""Each loss against a value computed by hand, and its gradients: where they belong, and nowhere else."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale
from zssr_gan.networks.srgan import Discriminator, DiscriminatorOptions, Generator, GeneratorOptions
from zssr_gan.networks.vgg import VGG, VGGOptions, orthogonal_weights
from zssr_gan.training.losses import (
    AdversarialBCE,
    ConsistencyLoss,
    MediatorLoss,
    PixelLoss,
    RelativisticBCE,
)


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


def test_pixels_by_hand() -> None:
    sr = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    target = torch.tensor([[[[0.5, 0.5]]]], requires_grad=True)
    assert PixelLoss()(sr, target) == 0.5
    PixelLoss()(sr, target).backward()
    assert torch.equal(sr.grad, torch.tensor([[[[-0.5, 0.5]]]]))  # type: ignore[arg-type]
    assert target.grad is None


def test_pixels_squared_by_hand() -> None:
    sr, target = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True), torch.tensor([[[[0.5, 0.9]]]])
    loss = PixelLoss("l2")(sr, target)
    assert loss.item() == pytest.approx((0.25 + 0.01) / 2)
    loss.backward()
    assert torch.allclose(sr.grad, torch.tensor([[[[-0.5, 0.1]]]]))  # type: ignore[arg-type]


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
