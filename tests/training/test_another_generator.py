"""Networks that are not among ours: one file in `networks/` is all that it takes to train, keep and load them."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import zssr_gan.networks
from tests.generators import written_generator
from zssr_gan.networks import registry
from zssr_gan.networks.base import DiscriminatorNetwork, GeneratorNetwork
from zssr_gan.training.loop import Loop
from zssr_gan.training.model_card import load_generator, options_of
from zssr_gan.training.optimisers import compile_networks

FILE = '''
"""One convolution and a pixel shuffle, and one convolution of which the mean counts."""

from dataclasses import dataclass

from torch import nn

from zssr_gan.networks.base import DiscriminatorNetwork
from zssr_gan.networks.base import Facts
from zssr_gan.networks.base import GeneratorNetwork


@dataclass(frozen=True)
class PlainOptions:
    scale: int = 2
    channels: int = 1
    side: int = 3


class Plain(GeneratorNetwork):
    kind = "plain"
    options_kind = PlainOptions

    def __init__(self, options, draws=None):
        super().__init__()
        self.options = options
        scale, channels = options.scale, options.channels
        self.facts = Facts("generator", (scale, scale), (channels,), 1, options.side)
        self.only = nn.Conv2d(channels, channels * scale**2, options.side, padding=options.side // 2)

    def forward(self, x):
        self.facts.check(x)
        return nn.functional.pixel_shuffle(self.only(x), self.options.scale)


@dataclass(frozen=True)
class MeanOptions:
    channels: int = 1
    size: int = 64


class Mean(DiscriminatorNetwork):
    kind = "mean"
    options_kind = MeanOptions

    def __init__(self, options, draws=None):
        super().__init__()
        self.options = options
        self.facts = Facts("discriminator", None, (options.channels,), 1, None)
        self.only = nn.Conv2d(options.channels, 1, 3, padding=1)

    def forward(self, x):
        self.facts.check(x)
        return self.only(x).mean((2, 3))
'''


@pytest.fixture(autouse=True)
def _plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file, as if it lay in `zssr_gan/networks/`."""
    (tmp_path / "added").mkdir()
    (tmp_path / "added/plain.py").write_text(FILE)
    monkeypatch.setattr(zssr_gan.networks, "__path__", [*zssr_gan.networks.__path__, str(tmp_path / "added")])
    importlib.invalidate_caches()
    monkeypatch.setattr(registry, "GENERATORS", registry.declared(GeneratorNetwork))
    monkeypatch.setattr(registry, "DISCRIMINATORS", registry.declared(DiscriminatorNetwork))
    yield
    del sys.modules["zssr_gan.networks.plain"]
    del zssr_gan.networks.plain  # type: ignore[attr-defined]


NAMED = {"generator": {"name": "plain", "options": {"side": 5}}, "discriminator": {"name": "mean", "options": {}}}


def test_they_are_trained_and_kept(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make_loop(**NAMED)
    before = [weight.clone() for network in (loop.generator, loop.discriminator) for weight in network.parameters()]
    loop.run()
    after = [weight for network in (loop.generator, loop.discriminator) for weight in network.parameters()]
    assert (loop.generator.kind, loop.discriminator.kind) == ("plain", "mean")
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    path = written_generator(
        tmp_path, {"name": "plain", "options": dict(options_of(loop.generator))}, network=loop.generator.eval()
    )
    loaded = load_generator(path)
    x = torch.rand(1, 1, 5, 6)
    assert loaded.card.options == {"scale": 2, "channels": 1, "side": 5}
    assert torch.equal(loaded(x), loop.generator(x).clamp(0, 1))


def test_they_are_compiled_whole(monkeypatch: pytest.MonkeyPatch, make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(**NAMED)
    seen: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(nn.Module, "compile", lambda self: seen.append(self))
    compile_networks(loop.generator, loop.discriminator, torch.device("cpu"))
    assert seen == [loop.generator, loop.discriminator]


def test_two_of_one_name_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "added/plainer.py").write_text(FILE)
    importlib.invalidate_caches()
    with pytest.raises(AssertionError, match="a name of its own"):
        registry.declared(GeneratorNetwork)
    del sys.modules["zssr_gan.networks.plainer"]
    del zssr_gan.networks.plainer  # type: ignore[attr-defined]
