"""Faults that the GPU tests are there to find, each planted in the package and seen to fail.

A fault is a piece of a function's source and what it is replaced by. Where a change of the package moves the piece, the
test says so: give it the new one.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.gpu.conftest import STANDIN
from tests.gpu.test_zeroshot import BLUR, fleet_on, settings
from tests.training.conftest import data, make_loop  # noqa: F401 - fixtures
from zssr_gan import devices
from zssr_gan.degradation import operators
from zssr_gan.devices import RunOptions
from zssr_gan.training import sampling
from zssr_gan.training.loop import Loop
from zssr_gan.zeroshot.fleet import Fleet
from zssr_gan.zeroshot.pairs import PairSource

pytestmark = pytest.mark.skipif(STANDIN is None, reason="only the stand-in finds all of them")
Make = Callable[..., Loop]
NoWait = Callable[[], AbstractContextManager[None]]


def plant(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, old: str, new: str) -> None:
    """Replace a piece of a function's source, which stands there once."""
    function = inspect.getattr_static(owner, name)
    module = sys.modules[getattr(inspect.unwrap(getattr(owner, name)), "__module__", "")]
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    assert source.count(old) == 1, f"{name} has changed: plant the fault elsewhere"
    made: dict[str, Any] = {}
    exec(compile(source.replace(old, new), f"planted in {name}", "exec"), vars(module), made)
    assert type(made[name]) is type(function)
    monkeypatch.setattr(owner, name, made[name])


def iterate() -> None:
    """Iterations of a fleet, the second of which must not wait."""
    with devices.machine(RunOptions("cuda", "fp32", threads=1)) as used:
        fleet = fleet_on(used, settings(), BLUR)
        fleet.advance()
        fleet.clock = 1
        fleet.advance()


def train(make: Make) -> Loop:
    """A generator's training, without what is due between its steps."""
    loop = make(
        device="cuda", epochs=1, pretrain=1, every=dict.fromkeys(("log", "validation", "checkpoint", "samples"), 999)
    )
    loop.run()
    return loop


MISPLACED = {
    "a fleet's mask of networks": (Fleet, "advance", "upload(running, x.device)", "running"),
    "warped crops": (
        PairSource,
        "_warp",
        "(upload(x, self.device) for x in (matrix_S22, centre_S2))",
        "(matrix_S22, centre_S2)",
    ),
    "a kernel of blur": (operators, "_as", "kernel.to(device, dtype)", "kernel.to(dtype)"),
    "places of patches": (
        sampling._Levels,
        "cut",
        "upload(torch.tensor(np.array(rows_of)), self.flat.device)",
        "torch.tensor(np.array(rows_of))",
    ),
    "a training's accuracy": (Loop, "__init__", "torch.tensor(0.5, device=device)", "torch.tensor([0.5])"),
    "a training's finite flag": (Loop, "__init__", "torch.tensor(True, device=device)", "torch.tensor([True])"),
}


@pytest.mark.parametrize("fault", MISPLACED)
def test_a_missing_device(fault: str, make_loop: Make, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    plant(monkeypatch, *MISPLACED[fault])
    with pytest.raises((RuntimeError, TypeError), match=r"device|cuda"):
        train(make_loop) if "training" in fault or "patches" in fault else iterate()


WAITS = {
    "a look for NaN": ("advance", "self.clock % _FINITE_EVERY == 0 or", "True or"),
    "a copy from pageable memory": ("advance", "upload(rates.float(), x.device)", "rates.float().to(x.device)"),
    "a value": (
        "advance",
        'losses = step(given)["losses"].clone()',
        'losses = step(given)["losses"].clone(); losses.max().item()',
    ),
}


@pytest.mark.parametrize("fault", WAITS)
def test_a_wait_in_an_iteration(fault: str, no_wait: NoWait, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Fleet, *WAITS[fault])
    with devices.machine(RunOptions("cuda", "fp32", threads=1)) as used:
        fleet = fleet_on(used, settings(), BLUR)
        fleet.advance()
        fleet.clock = 1
        with pytest.raises(AssertionError, match="the host waits"), no_wait():
            fleet.advance()


def test_a_wait_in_a_step_is_no_graph(make_loop: Make, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Nor is what reads a value once a step: CUDA refuses the capture, and a notice names it."""
    plant(monkeypatch, Loop, "_learn", "loss.backward()", "loss.item(); loss.backward()")
    assert not train(make_loop)._replays


@pytest.mark.parametrize(
    "flags", ["(True, False, True, False)", "(True, False, False, True)", "(False, False, False, False)"]
)
def test_flags_of_precision(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 in convolutions, in products, and sums in any order."""

    def check() -> None:
        with devices.machine(RunOptions("cuda", "fp32", threads=1)):
            assert devices._flags() == (True, False, False, False)

    check()
    plant(monkeypatch, devices, "machine", "_set_flags((True, False, False, False))", f"_set_flags({flags})")
    with pytest.raises(AssertionError):
        check()
