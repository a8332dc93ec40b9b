"""Muon against its equations, rates that fall with the schedule, and compiled networks."""

from collections.abc import Callable

import pytest
import torch

from zssr_gan.errors import SettingsError
from zssr_gan.networks.srgan import SRGANGenerator, SRGANGeneratorOptions
from zssr_gan.settings.train import OptimiserSettings
from zssr_gan.training import optimisers
from zssr_gan.training.loop import Loop
from zssr_gan.training.optimisers import Muon, optimisers_of, restore, set_rates

MUON = OptimiserSettings(kind="muon", lr=0.01)


def test_the_first_steps_by_hand() -> None:
    """The momentum of two gradients, looked ahead, with its singular values made about 1."""
    draws = torch.Generator().manual_seed(0)
    weight = torch.zeros(4, 5, 3, 3, requires_grad=True)
    muon = Muon([weight], lr=0.1)
    first, second = (torch.randn(4, 5, 3, 3, generator=draws) for _ in range(2))
    weight.grad = first
    muon.step()
    before = weight.detach().clone()
    weight.grad = second
    muon.step()
    mean = 0.95 * (0.05 * first) + 0.05 * second
    ahead = (0.05 * second + 0.95 * mean).flatten(1)
    u, _, v = torch.linalg.svd(ahead, full_matrices=False)
    step = (before - weight.detach()).flatten(1) / 0.1
    # Newton and Schulz's five iterations leave the directions, and singular values between 0.7 and 1.2.
    turned = u.T @ step @ v.T
    assert (turned - torch.diag(turned.diagonal())).abs().max() < 1e-3
    assert turned.diagonal().min() > 0.65
    assert turned.diagonal().max() < 1.25


def test_weights_of_one_shape_together() -> None:
    """As on CUDA, where the rate is a tensor: the steps of each weight by itself; one without a gradient stays."""
    draws = torch.Generator().manual_seed(0)
    shapes = [(4, 4, 3, 3), (6, 4, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3)]
    first = [torch.randn(shape, generator=draws) for shape in shapes]
    gradients = [[torch.randn(shape, generator=draws) for shape in shapes] for _ in range(3)]
    moved = []
    for rate in (0.1, torch.tensor(0.1)):
        weights = [weight.clone().requires_grad_() for weight in first]
        muon = Muon(weights, lr=0.1)
        muon.param_groups[0]["lr"] = rate
        for step in gradients:
            for weight, gradient in zip(weights[:-1], step, strict=False):
                weight.grad = gradient
            muon.step()
        moved.append([weight.detach() for weight in weights])
    for one, other in zip(*moved, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.equal(moved[1][-1], first[-1])
    assert not torch.allclose(moved[1][0], first[0], atol=1e-2)


def test_only_convolutions_between_features() -> None:
    network = SRGANGenerator(SRGANGeneratorOptions(channels=3, width=8, blocks=2))
    adam, muon = optimisers_of(network, MUON, "generator")
    names = {id(weight): name for name, weight in network.named_parameters()}
    moved = {names[id(weight)] for group in muon.param_groups for weight in group["params"]}
    assert moved == {
        *(f"blocks.{n}.{part}.weight" for n in range(2) for part in ("first.0", "last")),
        "fusion.0.weight",
        "upscaling.0.0.weight",
    }
    others = {names[id(weight)] for group in adam.param_groups for weight in group["params"]}
    assert moved | others == set(names.values())
    assert not moved & others
    assert (adam.param_groups[0]["lr"], muon.param_groups[0]["lr"]) == (0.01, pytest.approx(0.1))


def test_adam_as_one_kernel_is_adam() -> None:
    """As CUDA runs it: fused, with its rate in a tensor, to a part in ten million."""
    moved = []
    for fused in (None, True):
        network = SRGANGenerator(SRGANGeneratorOptions(width=8, blocks=2), torch.Generator().manual_seed(0))
        (adam,) = made = optimisers_of(network, OptimiserSettings(lr=1e-3), "generator")
        (group,) = adam.param_groups
        group.update(fused=fused, lr=torch.tensor(group["lr"]) if fused else group["lr"])
        draws = torch.Generator().manual_seed(1)
        for step in range(4):
            for weight in network.parameters():
                weight.grad = torch.randn(weight.shape, generator=draws)
            set_rates(made, 1 / (1 + step))
            adam.step()
        moved.append(torch.cat([weight.detach().flatten() for weight in network.parameters()]))
    assert (moved[0] - moved[1]).abs().max() < 1e-7


def test_restored_state_is_computed_as_before() -> None:
    """A checkpoint of another device brings moments and steps, not tensors of rates or fused kernels."""
    network = SRGANGenerator(SRGANGeneratorOptions(width=4, blocks=1))
    (there,), (here,) = (optimisers_of(network, OptimiserSettings(lr=1e-3), "generator") for _ in range(2))
    there.param_groups[0].update(fused=True, capturable=True, lr=torch.tensor(0.5))
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    there.step()
    restore(here, there.state_dict())
    assert here.param_groups[0]["lr"] == 1e-3
    assert not here.param_groups[0]["fused"]
    assert not here.param_groups[0]["capturable"]
    states = [one.state[next(network.parameters())] for one in (there, here)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_the_discriminator_is_adams() -> None:
    network = SRGANGenerator(SRGANGeneratorOptions(width=4, blocks=1))
    (adam,) = optimisers_of(network, MUON.model_copy(update={"lr_discriminator": 0.3}), "discriminator")
    assert isinstance(adam, torch.optim.Adam)
    assert adam.param_groups[0]["lr"] == 0.3
    assert sum(len(group["params"]) for group in adam.param_groups) == len(list(network.parameters()))


def test_rates_fall_with_the_schedule(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(optimiser={"kind": "muon", "lr": 1e-3, "schedule": "cosine"})
    loop.run()
    adam, muon = loop.state.optimisers["generator"]
    for optimiser, first in ((adam, 1e-3), (muon, 1e-2)):
        assert 0 < optimiser.param_groups[0]["lr"] < 0.2 * first
        assert optimiser.param_groups[0]["initial_lr"] == pytest.approx(first)


Make = Callable[..., Loop]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's compiler warns of torch's own ways
def test_compiled_networks_have_the_losses_of_plain_ones(make_loop: Make) -> None:
    """Compiling takes a minute and needs a C++ compiler."""
    plain, other = (make_loop(name, compile=name == "compiled") for name in ("plain", "compiled"))
    keys = list(plain.generator.state_dict())
    for loop in (plain, other):
        loop.run()
    found, wanted = ([line["loss"] for line in loop.log.read() if "loss" in line] for loop in (other, plain))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert list(other.generator.state_dict()) == list(other.state.mean.state_dict()) == keys
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_a_machine_that_cannot_compile(make_loop: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_model: object) -> Callable[..., None]:
        def run(_x: object) -> None:
            raise RuntimeError("No working C++ compiler found in\n config.cpp.cxx")

        return run

    monkeypatch.setattr(optimisers.torch, "compile", refuse)
    with pytest.raises(SettingsError) as caught:
        make_loop(compile=True)
    assert str(caught.value).startswith("train.compile: torch cannot compile for cpu on this machine (No working C++")
    assert "\n" not in str(caught.value)
    assert make_loop(compile=False)
