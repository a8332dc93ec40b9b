"""Stage 2 on a GPU: the CPU's steps, no waits between them, and a resumed training is the uninterrupted one."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from tests.gpu.conftest import UNORDERED
from tests.gpu.test_zeroshot import BICUBIC, BLUR, JPEG, images
from tests.training.conftest import data, make_loop, stop_at  # noqa: F401 - fixtures
from tests.training.test_loop import tensors
from zssr_gan.degradation.operators import Downscale
from zssr_gan.devices import Machine
from zssr_gan.errors import NumericalError
from zssr_gan.training.batch_degradation import BatchCameras
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.loop import Loop
from zssr_gan.training.losses import consistency_loss
from zssr_gan.training.sampling import Batch

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


def test_replayed_steps_are_the_launched_ones(make_loop: Make, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Of both networks in both phases, where blocks are skipped, rates change, and the weights have a running mean."""
    results, replays = [], []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph))[1])
    for replayed in (False, True):
        loop = make_loop(f"{replayed}", device="cuda", epochs=4, alternation={"unit": "epochs"}, **QUIET)
        loop._replays &= replayed
        loop.run()
        results.append({name: x.cpu() for name, x in tensors(loop.state).items()})
        assert bool(replays) == replayed
    assert len(set(map(id, replays))) < len(replays)
    one, other = results
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_replayed_step_is_few_launches(make_loop: Make, launches: Callable[..., list[str]]) -> None:  # noqa: F811
    """The graph, the rates, the running mean, the sums of losses, and in another thread the patches of the next."""
    loop = make_loop(device="cuda", optimiser={"kind": "adam"}, **QUIET)
    step, counts = loop._step, list[int]()

    def counted(drawn: Any) -> None:
        found = launches(lambda: (step(drawn), loop._next.result()))
        if "graph" in found:
            counts.append(len(found))

    loop._step = counted  # type: ignore[method-assign]
    loop.run()
    assert counts
    assert min(counts) <= 45


def test_a_checkpoint_goes_to_another_device(make_loop: Make) -> None:  # noqa: F811
    """Each device computes in its own way from there, as it would have from the start."""
    short = {**QUIET, "pretrain": 1, "epochs": 1, "every": {**QUIET["every"], "log": 1}}
    for first, second in (("cpu", "cuda"), ("cuda", "cpu")):
        with pytest.raises(KeyboardInterrupt):
            make_loop(first, Callbacks(progress=stop_at(5)), device=first, **short).run()
        loop = make_loop(first, device=second, **short)
        fresh = [one.state_dict()["param_groups"] for those in loop.state.optimisers.values() for one in those]
        loop.run()
        ended = [one.state_dict()["param_groups"] for those in loop.state.optimisers.values() for one in those]
        for old, new in zip(fresh, ended, strict=True):
            assert [type(group["lr"]) for group in old] == [type(group["lr"]) for group in new]
            assert [group.get("fused") for group in old] == [group.get("fused") for group in new]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", ["muon", "adam"])
def test_no_wait_in_a_step(
    optimiser: str,
    precision: str,
    make_loop: Make,  # noqa: F811
    no_wait: Callable[[], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In both phases, of both networks, launched or replayed: what a step learns from is drawn beside it."""
    generator = {"options": {"width": 4, "blocks": 1, "skip_probability": 0.0}}
    loop = make_loop(device="cuda", precision=precision, optimiser={"kind": optimiser}, generator=generator, **QUIET)
    step, steps, phases = loop._step, [0], Counter[Any]()

    def watched(drawn: Any) -> None:
        steps[0] += 1
        now = loop.schedule.at(loop.state.step)
        before = phases[now.network, now.phase]
        phases[now.network, now.phase] += 1
        # Tables are made in the first, the third is captured, and an epoch ends with its mean losses.
        with nullcontext() if before in (0, 2) or loop.schedule.ends_epoch(now) else no_wait():
            step(drawn)

    monkeypatch.setattr(loop, "_step", watched)
    loop.run()
    assert steps[0] == loop.schedule.total
    assert len(phases) == 3
    assert max(phases.values()) > 4


def test_a_nan_in_a_replayed_step_is_seen(make_loop: Make, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Also where the steps after it are sound: the flag outlives the replay that set it."""
    generator = {"options": {"width": 4, "blocks": 1, "skip_probability": 0.0}}
    loop = make_loop(device="cuda", generator=generator, **QUIET)
    step, spoilt = loop._step, loop.schedule.total // 2

    def spoil(drawn: Any) -> None:
        if loop.state.step != spoilt:
            return step(drawn)
        assert loop._graphs
        saved = {name: x.detach().clone() for name, x in tensors(loop.state).items()}
        with torch.no_grad():
            next(loop.generator.parameters()).fill_(torch.nan)
            step(drawn)
            for name, x in tensors(loop.state).items():
                x.copy_(saved[name])
        return None

    monkeypatch.setattr(loop, "_step", spoil)
    with pytest.raises(NumericalError):
        loop.run()


CAMERAS = pytest.mark.parametrize("downscales", [(BICUBIC,), (BLUR,), (JPEG, BLUR)], ids=["bicubic", "blur", "two"])


def degraded(downscales: tuple[Downscale, ...], used: Machine) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """The gradient of a batch's consistency, and what its cameras make of shrunk images."""
    lr = torch.stack(images(4)).to(used.device)
    batch = Batch(lr, None, (0, 1, 2, 5), tuple(n % len(downscales) for n in range(4)), (0, 1, 2, 3))
    sr = torch.stack(images(4, 32)).to(used.device).requires_grad_()

    def degrade() -> tuple[torch.Tensor, torch.Tensor]:
        cameras = BatchCameras(downscales, batch)
        (gradient,) = torch.autograd.grad(consistency_loss(cameras, sr, lr), sr)
        return gradient, cameras.capture(lr)

    return degrade


@CAMERAS
def test_cameras_make_no_wait(
    downscales: tuple[Downscale, ...], cuda: Machine, no_wait: Callable[[], AbstractContextManager[None]]
) -> None:
    """Where images of a batch are turned and have cameras of their own, and noise is drawn for them."""
    degrade = degraded(downscales, cuda)
    degrade()  # which makes kernels and tables
    with no_wait():
        degrade()


@CAMERAS
def test_consistency_adds_in_a_fixed_order(
    downscales: tuple[Downscale, ...], cuda: Machine, launches: Callable[..., list[str]]
) -> None:
    """CUDA adds autograd's gradients of interpolation and of padding by atomics, in any order."""
    called = launches(degraded(downscales, cuda))
    assert called
    assert not [name for name in called if UNORDERED.fullmatch(name)]


@CAMERAS
def test_consistency_is_the_same_again(downscales: tuple[Downscale, ...], cuda: Machine) -> None:
    degrade = degraded(downscales, cuda)
    one, other = (torch.cat([x.flatten() for x in degrade()]).cpu() for _ in range(2))
    assert torch.equal(one, other)
