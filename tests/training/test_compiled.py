"""Compiled networks train as plain ones do; slow, since compiling takes a minute and needs a C++ compiler."""

from collections.abc import Callable

import pytest
import torch

from zssr_gan.errors import SettingsError
from zssr_gan.training import optimisers
from zssr_gan.training.loop import Loop

Make = Callable[..., Loop]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's compiler warns of torch's own ways
def test_the_losses_are_those_of_plain_networks(make_loop: Make) -> None:
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
