"""Networks that are not among ours: a file in `networks/` and a name in the registry train, save and load them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.generators import written_generator
from zssr_gan.networks import registry
from zssr_gan.networks.base import DiscriminatorNetwork, GeneratorNetwork, Options
from zssr_gan.training.loop import Loop
from zssr_gan.training.model_card import load_generator, options_of
from zssr_gan.training.optimisers import compile_networks


@dataclass(frozen=True, slots=True)
class PlainOptions(Options):
    scale: int = 2
    channels: int = 1
    side: int = 3


class Plain(GeneratorNetwork):
    """One convolution and a pixel shuffle."""

    kind = "plain"
    options_kind = PlainOptions

    def __init__(self, options: PlainOptions, draws: torch.Generator | None = None) -> None:  # noqa: ARG002 - no draws
        super().__init__(options, options.side)
        self.only = nn.Conv2d(options.channels, options.channels * options.scale**2, options.side, padding="same")

    def compute(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.only(x), self.facts.scale[0])  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class MeanOptions(Options):
    channels: int = 1
    size: int = 64
    head: str = "mean"


class Mean(DiscriminatorNetwork):
    """One convolution, of which the mean counts."""

    kind = "mean"
    options_kind = MeanOptions

    def __init__(self, options: MeanOptions, draws: torch.Generator | None = None) -> None:  # noqa: ARG002 - no draws
        super().__init__(options, 1, None)
        self.only = nn.Conv2d(options.channels, 1, 3, padding=1)

    def compute(self, x: Tensor) -> Tensor:
        return self.only(x).mean((2, 3))


@pytest.fixture
def loop(make_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setitem(registry.GENERATORS, "plain", Plain)
    monkeypatch.setitem(registry.DISCRIMINATORS, "mean", Mean)
    return make_loop(generator={"name": "plain", "options": {"side": 5}}, discriminator={"name": "mean", "options": {}})


def test_they_are_trained_and_saved(loop: Loop, tmp_path: Path) -> None:
    before = [weight.clone() for network in (loop.generator, loop.discriminator) for weight in network.parameters()]
    loop.run()
    after = [weight for network in (loop.generator, loop.discriminator) for weight in network.parameters()]
    assert (type(loop.generator), type(loop.discriminator)) == (Plain, Mean)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    path = written_generator(
        tmp_path, {"name": "plain", "options": dict(options_of(loop.generator))}, network=loop.generator.eval()
    )
    loaded = load_generator(path)
    x = torch.rand(1, 1, 5, 6)
    assert loaded.card.options == {"scale": 2, "channels": 1, "side": 5}
    assert torch.equal(loaded(x), loop.generator(x).clamp(0, 1))


def test_they_are_compiled_whole(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(nn.Module, "compile", lambda self: seen.append(self))
    compile_networks(loop.generator, loop.discriminator, torch.device("cpu"))
    assert seen == [loop.generator, loop.discriminator]
