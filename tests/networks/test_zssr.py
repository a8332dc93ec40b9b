"""The per-image CNN holds to the facts that it declares."""

import pytest
import torch

from tests.images import noise
from zssr_gan.networks.zssr import ZSSR, _Product
from zssr_gan.settings.zeroshot import ZSSRSettings

# Every kind of network: grid, factor, residual pairs, biases, first weights.
KINDS = {
    "original": (ZSSRSettings(depth=4, width=8), (1, 1)),
    "biased": (ZSSRSettings(depth=2, width=5, bias=True), (1, 1)),
    "lr": (ZSSRSettings(depth=4, width=8, grid="lr", initial="lecun", bias=True), (2, 2)),
    "lr x(1, 2)": (ZSSRSettings(depth=4, width=8, grid="lr", residual=True, initial="lecun"), (1, 2)),
    "lr x(3, 2)": (ZSSRSettings(depth=6, width=8, grid="lr", residual=True, initial="lecun", bias=True), (3, 2)),
    "shallow": (ZSSRSettings(depth=1 + 1, width=3, grid="lr"), (2, 2)),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, channels: int = 3, seeds: tuple[int, ...] = (0, 1)) -> ZSSR:
    options, factor = KINDS[kind]
    return ZSSR(options, channels, factor, [torch.Generator().manual_seed(seed) for seed in seeds])


def lively(kind: str, channels: int = 3, seeds: tuple[int, ...] = (0, 1)) -> ZSSR:
    """With weights large enough that every path through the network shows."""
    network = build(kind, channels, seeds)
    with torch.no_grad():
        for n, seed in enumerate(seeds):
            draws = torch.randn(network.weights_NP.shape[1], generator=torch.Generator().manual_seed(seed))
            network.weights_NP[n] = draws * 0.3
    return network


class TestValues:
    @kinds
    def test_gradients_reach_every_weight(self, kind: str) -> None:
        network = lively(kind)
        (gradient,) = torch.autograd.grad(network(noise(2, 2, 3, 16, 16)).square().sum(), network.weights_NP)
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.95  # a ReLU may be closed everywhere by chance

    def test_pixel_blocks_are_laid_row_by_row(self) -> None:
        """The last layer's channels of one pixel are its block of fy x fx larger pixels, colour first."""
        network = build("lr x(3, 2)", channels=1, seeds=(0,))
        with torch.no_grad():
            network.weights_NP.zero_()
            network.weights_NP[0, -6:] = torch.arange(6.0)  # the last convolution's biases
        x = torch.full((1, 1, 1, 4, 5), 0.5)
        block = (network(x) - network.base(x))[0, 0, 0, 3:6, 2:4] * 2
        assert torch.allclose(block, torch.arange(6.0).reshape(3, 2), atol=1e-5)


class TestFacts:
    def test_the_originals_parameters(self) -> None:
        network = ZSSR(ZSSRSettings(), 3, (1, 1), [torch.Generator().manual_seed(0)])
        assert network.weights_NP.shape == (1, 224_640)  # 9 * (3 * 64 + 6 * 64 * 64 + 64 * 3)
        assert network.multiply_adds_per_pixel == 224_640
        assert network.inner_matrices == (6, 64, 576)

    @kinds
    def test_nothing_added_is_the_base(self, kind: str) -> None:
        network = build(kind)
        with torch.no_grad():
            network.weights_NP.zero_()
            x = noise(2, 1, 3, 9, 8)
            assert torch.equal(network(x), network.base(x))
        assert (network.base(x) is x) == (network.factor == (1, 1))

    def test_an_odd_residual_depth_is_refused(self) -> None:
        with pytest.raises(ValueError, match="even depth"):
            ZSSRSettings(depth=7, residual=True)


def test_first_weights() -> None:
    """N(0, 0.1 / (9 C_in)) in every layer; `lecun` has 1 / (9 C_in), and small ends of residual pairs and of all."""
    network = ZSSR(ZSSRSettings(), 3, (1, 1), [torch.Generator().manual_seed(n) for n in range(4)])
    inner, first, last = network.weights_NP.detach().split([6 * 64 * 576, 64 * 27, 3 * 576], dim=1)
    for weights, fan_in in ((inner, 576), (first, 27), (last, 576)):
        assert float(weights.mean()) == pytest.approx(0, abs=4 * (0.1 / fan_in / weights.numel()) ** 0.5)
        assert float(weights.var()) == pytest.approx(0.1 / fan_in, rel=0.06)
    options = ZSSRSettings(depth=6, width=32, grid="lr", residual=True, initial="lecun", bias=True)
    network = ZSSR(options, 3, (2, 2), [torch.Generator().manual_seed(n) for n in range(8)])
    sizes = [*[32 * 288] * 4, 32 * 27, 12 * 288, 5 * 32 + 12]
    *weights_of_layers, biases = network.weights_NP.detach().split(sizes, dim=1)
    deviations = [*(factor * (1 / 288) ** 0.5 for factor in (1, 0.3, 1, 0.3)), (1 / 27) ** 0.5, 0.1 * (1 / 288) ** 0.5]
    for weights, deviation in zip(weights_of_layers, deviations, strict=True):
        assert float(weights.std()) == pytest.approx(deviation, rel=0.05)
    assert not biases.any()


@kinds
def test_members_are_independent(kind: str) -> None:
    """Each gives what it gives alone, and its weights get no gradient from another's output."""
    fleet = lively(kind, seeds=(0, 1, 2))
    x = noise(3, 2, 3, 12, 10)
    out = fleet(x)
    for n in range(3):
        assert torch.allclose(out[n : n + 1], lively(kind, seeds=(n,))(x[n : n + 1]), atol=1e-4)
    (gradient,) = torch.autograd.grad(out[1].square().sum(), fleet.weights_NP)
    assert gradient[1].any()
    assert not gradient[[0, 2]].any()


@kinds
def test_bf16_is_close_to_fp32(kind: str) -> None:
    network = build(kind)
    x = noise(2, 2, 3, 24, 24)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x)
    assert rough.dtype == torch.float32
    added = (exact - network.base(x)).abs().max()
    assert 0 < (rough - exact).abs().max() < 0.05 * added + 1e-6


def test_gradients_of_the_product() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 2, 4, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(2, 18, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Product.apply, (x, matrix))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_a_fleet_learns_the_same_either_way(residual: bool, precision: str, tolerance: float) -> None:
    options = ZSSRSettings(depth=4, width=8, grid="lr", bias=True, residual=residual, initial="lecun")
    x = torch.rand(3, 2, 3, 6, 5, generator=torch.Generator().manual_seed(9))
    outs, gradients = [], []
    for product in ("grouped", "batched"):
        network = ZSSR(options, 3, (2, 2), [torch.Generator().manual_seed(n) for n in range(3)])
        network.product = product  # type: ignore[assignment]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = network(x)
        (gradient,) = torch.autograd.grad(out.square().sum(), network.weights_NP)
        outs.append(out)
        gradients.append(gradient)
    assert outs[0].dtype == outs[1].dtype == torch.float32
    assert torch.allclose(*outs, atol=tolerance)
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < tolerance


@pytest.mark.parametrize(("factor", "width", "taken"), [((2, 2), 64, True), ((8, 8), 64, False), ((2, 2), 128, False)])
def test_kernels_are_for_layers_that_fit_a_gpu(
    factor: tuple[int, int], width: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At x8 on the LR grid, the last layer has 192 channels."""
    monkeypatch.setattr("zssr_gan.networks.zssr.kernels_usable", lambda _: True)
    network = ZSSR(ZSSRSettings(depth=3, width=width, grid="lr"), 3, factor, [torch.Generator()])
    assert network.takes_kernels(torch.bfloat16) is taken
    assert not network.takes_kernels(torch.float32)
