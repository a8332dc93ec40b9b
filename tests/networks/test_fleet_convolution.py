"""Two ways to the same sums: values and gradients, in both precisions."""

import pytest
import torch
from torch import Tensor

from zssr_gan.networks.zssr import ZSSR, Batched, Grouped, ZSSROptions, _Product


def through(way: Grouped | Batched, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return way.leave(way.convolve(way.enter(x), weight, bias))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (3, 2, 4, 7, 5), (2, 1, 3, 1, 6)])
@pytest.mark.parametrize("biased", [False, True])
def test_both_are_each_members_convolution(shape: tuple[int, ...], biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator)
    weight = torch.randn(shape[0], 6, shape[2], 3, 3, generator=generator)
    bias = torch.randn(shape[0], 6, generator=generator) if biased else None
    alone = torch.stack(
        [torch.conv2d(x[n], weight[n], None if bias is None else bias[n], padding=1) for n in range(shape[0])]
    )
    for way in (Grouped(shape[0]), Batched()):
        assert torch.allclose(through(way, x, weight, bias), alone, atol=1e-5)


def test_gradients_of_the_product() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 2, 4, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(2, 18, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Product.apply, (x, matrix))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_a_fleet_learns_the_same_either_way(residual: bool, precision: str, tolerance: float) -> None:
    options = ZSSROptions(depth=4, width=8, grid="lr", bias=True, residual=residual, initial="lecun")
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


def test_batched_is_for_fleets_on_cuda() -> None:
    network = ZSSR(ZSSROptions(depth=2, width=2), 1, (1, 1), [torch.Generator(), torch.Generator()])
    assert isinstance(network._convolution(), Grouped)
    network.product = "batched"
    assert isinstance(network._convolution(), Batched)
