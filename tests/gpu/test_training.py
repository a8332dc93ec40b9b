"""Stage 2 on a GPU: the CPU's steps, no waits between them, and a resumed training is the uninterrupted one."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from tests.training.conftest import data, make_loop, stop_at  # noqa: F401 - fixtures
from tests.training.test_loop import tensors
from zssr_gan.training.loop import Callbacks, Loop

Make = Callable[..., Loop]
QUIET = {"every": {"log": 10**6, "validation": 10**6, "checkpoint": 10**6, "samples": 10**6}}


def test_losses_are_the_cpus(make_loop: Make) -> None:  # noqa: F811
    weights = {}
    for device in ("cpu", "cuda"):
        loop = make_loop(device, device=device, **QUIET)
        loop.run()
        weights[device] = {name: x.cpu().double() for name, x in tensors(loop.state).items()}
    generators = [name for name in weights["cpu"] if name.startswith("generator.") and name.endswith("weight")]
    assert generators
    for name in generators:
        there, here = weights["cuda"][name], weights["cpu"][name]
        assert float((there - here).norm() / here.norm().clamp(min=1e-3)) < 1e-2, name


def test_resume_is_exact(make_loop: Make) -> None:  # noqa: F811
    whole = make_loop("whole", device="cuda")
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        make_loop("parts", Callbacks(progress=stop_at(10)), device="cuda").run()
    parts = make_loop("parts", device="cuda")
    parts.run()
    one, other = tensors(whole.state), tensors(parts.state)
    assert all(torch.equal(one[name].cpu(), other[name].cpu()) for name in one)


def test_batches_are_the_cpus_bits(make_loop: Make) -> None:  # noqa: F811
    """Patches are cut on the device, where no pixel comes from the host for a batch."""
    here, there = (make_loop(device, device=device) for device in ("cpu", "cuda"))
    for number in range(3):
        for stream in ("inputs", "fakes"):
            one, other = (getattr(loop, stream).batch(number) for loop in (here, there))
            assert other.lr.device.type == other.hr.device.type == "cuda"
            assert torch.equal(one.lr, other.lr.cpu())
            assert torch.equal(one.hr, other.hr.cpu())
            assert (one.turned, one.cameras, one.seeds) == (other.turned, other.cameras, other.seeds)
        reals, wanted = there.reals.batch(number), here.reals.batch(number)
        assert all(torch.equal(wanted[kind], reals[kind].cpu()) for kind in wanted)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", ["muon", "adam"])
def test_no_wait_in_a_step(
    optimiser: str,
    precision: str,
    make_loop: Make,  # noqa: F811
    no_wait: Callable[[], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In both phases, of both networks: what a step learns from is drawn beside it, and copied from pinned memory."""
    loop = make_loop(device="cuda", precision=precision, optimiser={"kind": optimiser}, **QUIET)
    step, steps, phases = loop._step, [0], set[Any]()

    def watched(drawn: Any) -> None:
        steps[0] += 1
        now = loop.schedule.at(loop.state.step)
        begins = (now.network, now.phase) not in phases
        phases.add((now.network, now.phase))
        # Tables are made in the first; an epoch ends with its mean losses.
        with nullcontext() if begins or loop.schedule.ends_epoch(now) else no_wait():
            step(drawn)

    monkeypatch.setattr(loop, "_step", watched)
    loop.run()
    assert steps[0] == loop.schedule.total
    assert len(phases) == 3
