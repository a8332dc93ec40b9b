"""The fleet's convolutions by Triton, run by its interpreter on a CPU in float32, against float64.

Triton comes with torch for CUDA. Where torch is a CPU build: pip install triton==3.6.0, and
TRITON_INTERPRET=1 python -m pytest -m slow tests/ops
"""

import itertools
import math
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.ops import chain as chain_module
from zssr_gan.ops.chain import Adam, Chain, Layer, convolve_in_torch, kernels_match_torch, kernels_usable
from zssr_gan.settings.zeroshot import parse_settings
from zssr_gan.zeroshot.fleet import Fleet, Member, TrainRequest
from zssr_gan.zeroshot.pairs import Task

BETAS, EPSILON = (0.9, 0.999), 1e-8


def chain_of(widths: list[int], residual: bool = False, bias: bool = False) -> tuple[Chain, int]:
    """A chain with weights of all layers first, and its parameters."""
    layers, start = [], 0
    biases = sum(9 * i * o for i, o in itertools.pairwise(widths))
    for i, o in itertools.pairwise(widths):
        layers.append(Layer(i, o, start, biases if bias else None))
        start, biases = start + 9 * i * o, biases + o
    return Chain(tuple(layers), residual), biases if bias else start


def distance(one: Tensor, other: Tensor) -> float:
    return ((one.double() - other.double()).norm() / other.double().norm()).item()


def test_packing_is_undone() -> None:
    chain, parameters = chain_of([3, 16, 16, 12], bias=True)
    weights = torch.randn(2, parameters, generator=torch.Generator().manual_seed(0))
    assert torch.equal(chain.unpack(chain.pack(weights)), weights)
    kernel = weights[0, : 9 * 48].reshape(16, 3, 3, 3)
    assert torch.equal(chain.pack(weights)[0, : 9 * 48].reshape(3, 3, 3, 16), kernel.permute(2, 3, 1, 0))


def test_bytes_of_the_papers_network() -> None:
    """32 px in colour, 8 layers of 64: 13 MB where unfolded patches took 91.6 MB."""
    chain, parameters = chain_of([3, *[64] * 7, 3])
    assert parameters == 224_640
    assert 12.9e6 < chain.bytes_of_an_iteration(32 * 32) < 13.1e6


@pytest.fixture
def interpreter() -> None:
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton would compile for a GPU: TRITON_INTERPRET=1")


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("fault", ["", "mask", "residual", "update"])
def test_kernels_that_are_wrong_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are used on a device: a mask, an addition or an update that is left out."""
    if fault:
        name, argument = {
            "mask": ("_convolve", "mask"), "residual": ("_convolve", "residual"), "update": ("_differentiate", "")
        }[fault]  # fmt: skip
        original = getattr(chain_module, name)

        def without(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **{**kwargs, argument: None}) if argument else None

        monkeypatch.setattr(chain_module, name, without)
    assert kernels_match_torch(torch.device("cpu"), torch.float32, width=16, size=(4, 5)) == (not fault)


def test_without_cuda_plain_torch_is_taken() -> None:
    assert not kernels_usable(torch.device("cpu"))


CASES = {
    "plain": ([3, 16, 16, 3], False, False, (2, 1, 8, 8)),
    "bias, odd sizes, not a power of two": ([1, 12, 12, 4], False, True, (1, 3, 5, 7)),
    "residual": ([3, 16, 16, 16, 16, 16, 12], True, True, (2, 2, 6, 9)),
    "more pixels than a block": ([1, 16, 1], False, False, (1, 1, 13, 11)),
}


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case: str) -> None:
    widths, residual, bias, (n, b, h, w) = CASES[case]
    chain, parameters = chain_of(widths, residual, bias)
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(n, b, h, w, widths[0], generator=draws).requires_grad_()
    weights = (torch.randn(n, parameters, generator=draws) / 8).requires_grad_()
    down = torch.randn(n, b, h, w, widths[-1], generator=draws)
    out = chain(x, chain.pack(weights))
    exact = convolve_in_torch(chain, x.double(), chain.pack(weights.double()))
    assert distance(out, exact) < 1e-6
    found = torch.autograd.grad((out * down).sum(), (x, weights))
    wanted = torch.autograd.grad((exact * down.double()).sum(), (x, weights))
    for one, other in zip(found, wanted, strict=True):
        assert distance(one, other) < 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter")
def test_adam_in_the_backward_pass() -> None:
    """Against torch's on the same gradients; a network with a rate of 0 stays, and reduced weights follow."""
    chain, parameters = chain_of([1, 4, 3], bias=True)
    draws = torch.Generator().manual_seed(2)
    packed = (torch.randn(3, parameters, generator=draws) / 8).requires_grad_()
    first, reduced, wanted = packed.detach().clone(), packed.detach().clone(), packed.detach().clone().requires_grad_()
    moments = [torch.zeros(3, parameters) for _ in range(2)]
    optimiser = torch.optim.Adam([wanted], 1e-3, BETAS, EPSILON)
    rates = torch.tensor([1e-3, 1e-3, 0.0])
    for step in range(1, 4):
        x = torch.randn(3, 1, 4, 5, 1, generator=draws)
        (wanted.grad,) = torch.autograd.grad(chain(x, packed).square().sum(), packed)
        unbias_mean, unbias_square = (1 - beta**step for beta in BETAS)
        root = math.sqrt(unbias_square)
        adam = Adam(
            packed.detach(), reduced, *moments, rates * root / unbias_mean, torch.full((3,), EPSILON * root), BETAS
        )
        chain(x, packed, adam).square().sum().backward()
        assert packed.grad is None
        optimiser.step()
        assert torch.equal(reduced, packed)
        assert (packed[:2] - wanted[:2]).abs().max() < 1e-7
        wanted.data.copy_(packed)  # so that the next gradients are of the same weights
    assert torch.equal(packed[2], first[2])
    assert not torch.equal(packed[0], first[0])


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("case", ["plain", "residual"])
def test_bytes_are_those_of_the_loads_and_stores(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distinct addresses of each kernel, where rows and borders leave none out."""
    from triton.runtime import interpreter as triton

    touched: list[set[tuple[str, int]]] = []
    moved = [0]

    def watch(name: str, pointers: int, kind: str) -> None:
        original = getattr(triton.InterpreterBuilder, name)

        def watched(self: object, *args: Any, **kwargs: Any) -> Any:
            where, mask = args[0], args[pointers]
            size = where.dtype.scalar.element_ty.primitive_bitwidth // 8
            for address in where.data[mask.data].ravel().tolist():
                if (kind, address) not in touched[-1]:
                    touched[-1].add((kind, address))
                    moved[0] += size
            return original(self, *args, **kwargs)

        monkeypatch.setattr(triton.InterpreterBuilder, name, watched)

    watch("create_masked_load", 1, "load")
    watch("create_masked_store", 2, "store")
    call = triton.GridExecutor.__call__
    monkeypatch.setattr(
        triton.GridExecutor,
        "__call__",
        lambda self, *args, **kwargs: (touched.append(set()), call(self, *args, **kwargs))[1],
    )
    widths, residual, bias, (_, b, h, w) = CASES[case]
    chain, parameters = chain_of(widths, residual, bias)
    draws = torch.Generator().manual_seed(3)
    packed = torch.randn(1, parameters, generator=draws).requires_grad_()
    state = [torch.zeros(1, parameters) for _ in range(2)]
    adam = Adam(packed.detach(), packed.detach().clone(), *state, torch.ones(1), torch.ones(1), BETAS)
    chain(torch.randn(1, b, h, w, widths[0], generator=draws), packed, adam).sum().backward()
    told = chain.bytes_of_an_iteration(b * h * w, size=4)
    assert abs(moved[0] - told) < 0.01 * told


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("optimiser", [{"kind": "adam", "average": 0.9}, {"kind": "muon", "clip": 1.0}])
def test_a_fleet_by_the_kernels_is_the_fleet(optimiser: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where networks stop, others take their places, and each has its own rate; with Adam the kernels move weights."""
    groups = {
        "network": {"depth": 4, "width": 8, "grid": "lr", "bias": True, "residual": True, "initial": "lecun"},
        "pairs": {"crop": 8, "batch": 1},
        "schedule": {"kind": "cosine", "lr": 0.003, "iterations": 3},
        "optimiser": optimiser,
    }
    chosen, task = parse_settings(groups, "test"), Task((2.0, 2.0), (2, 2), BicubicDownscale())
    draws = torch.Generator().manual_seed(4)
    members = [Member(TrainRequest(torch.rand(1, 16, 16, generator=draws), [n], chosen, task), 0) for n in range(3)]
    results = {}
    for product in ("batched", "triton"):
        monkeypatch.setattr(ZSSR, "product", product)
        fleet = Fleet.of(members[:2])
        assert (fleet.optimiser.packed_NP is not None) == (product == "triton" and optimiser["kind"] == "adam")
        losses = [fleet.advance()]
        fleet.assign(torch.tensor([0]), Fleet.of(members[2:]))
        losses.append(fleet.advance())
        fleet.select(torch.tensor([1, 0]))
        losses += [fleet.advance() for _ in range(2)]  # one of them has stopped before the last
        trained = fleet.results(torch.tensor([0, 1]))
        results[product] = torch.stack(losses), torch.stack([one.weights_P for one in trained])
    for one, other in zip(*results.values(), strict=True):
        assert distance(one, other) < 1e-4
