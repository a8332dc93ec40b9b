"""The stand-in finds what it is there to find: mixed devices, hidden waits, changed flags."""

import pytest
import torch

from tests.gpu.conftest import STANDIN
from zssr_gan.devices import RunOptions, machine

pytestmark = pytest.mark.skipif(STANDIN is None, reason="only of the stand-in")


def test_mixing_devices_raises() -> None:
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    for work in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[torch.tensor([0]).cuda()]):
        with pytest.raises(RuntimeError, match="device"):
            work()
    assert torch.equal((there * torch.tensor(2.0)).cpu(), here * 2)  # a scalar may come from the host
    assert torch.equal(there[torch.tensor([0, 2])].cpu(), here[:2])  # indices too


def test_gradients_are_the_cpus() -> None:
    x = torch.linspace(0, 1, 12).reshape(1, 1, 3, 4)
    grads = []
    for device in ("cpu", "cuda"):
        leaf = x.to(device).requires_grad_()
        weight = torch.ones(1, 1, 3, 3, device=device)
        (gradient,) = torch.autograd.grad(torch.nn.functional.conv2d(leaf, weight, padding=1).square().sum(), leaf)
        assert gradient.device.type == device
        grads.append(gradient.cpu())
    assert torch.equal(*grads)


@pytest.mark.parametrize("wait", ["item", "tolist", "cpu", "bool", "nonzero", "numpy", "to"])
def test_waits_are_counted(wait: str) -> None:
    assert STANDIN is not None
    x = torch.ones(2, device="cuda")
    works = {
        "item": lambda: x.sum().item(),
        "tolist": x.tolist,
        "cpu": x.cpu,
        "bool": lambda: bool(x.all()),
        "nonzero": x.nonzero,
        "numpy": lambda: x.cpu().numpy(),
        "to": lambda: torch.ones(2).to("cuda"),
    }
    STANDIN.log.reset()
    works[wait]()
    assert STANDIN.log.waits.total() == 1
    assert all(line.startswith("tests/gpu/test_standin.py") for _, line in STANDIN.log.waits)


def test_pinned_copies_do_not_wait() -> None:
    assert STANDIN is not None
    STANDIN.log.reset()
    torch.ones(2).pin_memory().to("cuda", non_blocking=True)
    assert not STANDIN.log.waits


def test_numpy_refuses_a_device() -> None:
    with pytest.raises(TypeError, match="cuda"):
        torch.ones(2, device="cuda").numpy()


def test_the_gpu_is_named() -> None:
    with machine(RunOptions()) as used:
        assert (used.device.type, used.precision) == ("cuda", "bf16")
