"""The per-image CNN holds to the facts that it declares."""

import pytest
import torch
from torch import Tensor

from zssr_gan.networks.zssr import ZSSR, ZSSROptions

# Every kind of network: grid, factor, residual pairs, biases, first weights.
KINDS = {
    "original": (ZSSROptions(depth=4, width=8), (1, 1)),
    "biased": (ZSSROptions(depth=2, width=5, bias=True), (1, 1)),
    "lr": (ZSSROptions(depth=4, width=8, grid="lr", initial="lecun", bias=True), (2, 2)),
    "lr x(1, 2)": (ZSSROptions(depth=4, width=8, grid="lr", residual=True, initial="lecun"), (1, 2)),
    "lr x(3, 2)": (ZSSROptions(depth=6, width=8, grid="lr", residual=True, initial="lecun", bias=True), (3, 2)),
    "shallow": (ZSSROptions(depth=1 + 1, width=3, grid="lr"), (2, 2)),
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


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TestShapes:
    @kinds
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", [(1, 1), (3, 7), (16, 9)])
    def test_in_and_out(self, kind: str, channels: int, size: tuple[int, int]) -> None:
        network = build(kind, channels)
        fy, fx = network.factor
        out = network(noise(2, 3, channels, *size))
        assert out.shape == (2, 3, channels, size[0] * fy, size[1] * fx)
        assert out.dtype == torch.float32
        assert out.isfinite().all()

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
        network = ZSSR(ZSSROptions(), 3, (1, 1), [torch.Generator().manual_seed(0)])
        assert network.weights_NP.shape == (1, 224_640)  # 9 * (3 * 64 + 6 * 64 * 64 + 64 * 3)
        assert network.multiply_adds_per_pixel == 224_640
        assert network.inner_matrices == (6, 64, 576)

    @kinds
    def test_multiply_adds_are_the_weights_without_biases(self, kind: str) -> None:
        network = build(kind)
        options = network.options
        last = 3 * network.factor[0] * network.factor[1]
        biases = options.width * (options.depth - 1) + last if options.bias else 0
        assert network.weights_NP.shape[1] == network.multiply_adds_per_pixel + biases

    @kinds
    def test_no_pixel_looks_further_than_the_radius(self, kind: str) -> None:
        """An input pixel changes outputs up to `radius` input pixels away, and none beyond."""
        network = lively(kind, seeds=(0,))
        (fy, fx), radius = network.factor, network.radius
        side = 4 * radius + 5
        x = noise(1, 1, 3, side, side)
        other = x.clone()
        middle = side // 2
        other[..., middle, middle] += 0.5
        with torch.no_grad():
            changed = (network(x) - network(other)).abs().amax((0, 1, 2)) > 1e-6
        rows, columns = (changed.any(axis).nonzero()[:, 0] for axis in (1, 0))
        assert rows.min() // fy >= middle - radius
        assert rows.max() // fy <= middle + radius
        assert columns.min() // fx >= middle - radius
        assert columns.max() // fx <= middle + radius
        if network.options.depth >= 4:  # and it is no larger than it has to be
            assert rows.max() // fy == columns.max() // fx == middle + radius

    @kinds
    def test_nothing_added_is_the_base(self, kind: str) -> None:
        network = build(kind)
        with torch.no_grad():
            network.weights_NP.zero_()
            x = noise(2, 1, 3, 9, 8)
            assert torch.equal(network(x), network.base(x))
        assert (network.base(x) is x) == (network.factor == (1, 1))

    @kinds
    def test_translations_away_from_the_border(self, kind: str) -> None:
        network = lively(kind, seeds=(0,))
        (fy, fx), r = network.factor, network.radius
        x = noise(1, 1, 3, 4 * r + 6, 4 * r + 6)
        with torch.no_grad():
            whole = network(x)[..., (r + 1) * fy : -r * fy, (r + 1) * fx : -r * fx]
            part = network(x[..., 1:, 1:])[..., r * fy : -r * fy, r * fx : -r * fx]
        assert torch.allclose(whole, part, atol=1e-4)

    def test_an_odd_residual_depth_is_refused(self) -> None:
        with pytest.raises(ValueError, match="even depth"):
            ZSSROptions(depth=7, residual=True)


class TestFirstWeights:
    def test_original_variance(self) -> None:
        """N(0, 0.1 / (9 C_in)) in every layer: the inner ones, then the first, then the last."""
        network = ZSSR(ZSSROptions(), 3, (1, 1), [torch.Generator().manual_seed(n) for n in range(4)])
        inner, first, last = network.weights_NP.detach().split([6 * 64 * 576, 64 * 27, 3 * 576], dim=1)
        for weights, fan_in in ((inner, 576), (first, 27), (last, 576)):
            assert float(weights.mean()) == pytest.approx(0, abs=4 * (0.1 / fan_in / weights.numel()) ** 0.5)
            assert float(weights.var()) == pytest.approx(0.1 / fan_in, rel=0.06)

    def test_lecun_variance_with_small_ends_of_pairs(self) -> None:
        options = ZSSROptions(depth=6, width=32, grid="lr", residual=True, initial="lecun", bias=True)
        network = ZSSR(options, 3, (2, 2), [torch.Generator().manual_seed(n) for n in range(8)])
        size = 32 * 288
        *inner, first, last, biases = network.weights_NP.detach().split(
            [*[size] * 4, 32 * 27, 12 * 288, 5 * 32 + 12], dim=1
        )
        for weights, factor in zip(inner, (1, 0.3, 1, 0.3), strict=True):
            assert float(weights.std()) == pytest.approx(factor * (1 / 288) ** 0.5, rel=0.03)
        assert float(first.std()) == pytest.approx((1 / 27) ** 0.5, rel=0.05)
        assert float(last.std()) == pytest.approx(0.1 * (1 / 288) ** 0.5, rel=0.05)
        assert not biases.any()

    def test_a_members_start_is_its_own_generators(self) -> None:
        pair, swapped, alone = (
            build("original", seeds=(5, 6)),
            build("original", seeds=(6, 5)),
            build("original", 3, (6,)),
        )
        assert torch.equal(pair.weights_NP[1], alone.weights_NP[0])
        assert torch.equal(pair.weights_NP, swapped.weights_NP.flip(0))
        assert not torch.equal(pair.weights_NP[0], pair.weights_NP[1])


class TestFleet:
    @kinds
    def test_members_are_independent(self, kind: str) -> None:
        """Each gives what it gives alone, and its weights get no gradient from another's output."""
        fleet = lively(kind, seeds=(0, 1, 2))
        x = noise(3, 2, 3, 12, 10)
        out = fleet(x)
        for n in range(3):
            alone = lively(kind, seeds=(n,))
            assert torch.allclose(out[n : n + 1], alone(x[n : n + 1]), atol=1e-4)
        (gradient,) = torch.autograd.grad(out[1].square().sum(), fleet.weights_NP)
        assert gradient[1].any()
        assert not gradient[[0, 2]].any()

    @kinds
    def test_samples_of_a_batch_are_independent(self, kind: str) -> None:
        network = lively(kind)
        x = noise(2, 3, 3, 12, 10)
        apart = torch.cat([network(x[:, b : b + 1]) for b in range(3)], 1)
        assert torch.allclose(network(x), apart, atol=1e-4)

    def test_other_weights_other_images(self) -> None:
        x = noise(1, 1, 3, 8, 8).expand(2, -1, -1, -1, -1)
        out = lively("original")(x)
        assert (out[0] - out[1]).abs().max() > 0.01


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
