"""A kind of generator that is not the SRGAN's: trained, kept and loaded, by no more than its place among the kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.generators import written_generator
from zssr_gan.networks.facts import Facts
from zssr_gan.networks.generators import GeneratorNetwork
from zssr_gan.training import models
from zssr_gan.training.card import load_generator, options_of
from zssr_gan.training.compiled import compile_networks
from zssr_gan.training.loop import Loop


@dataclass(frozen=True)
class PlainOptions:
    scale: int = 2
    channels: int = 1
    side: int = 3


class Plain(GeneratorNetwork):
    """One convolution and a pixel shuffle."""

    def __init__(self, options: PlainOptions, draws: torch.Generator | None = None) -> None:
        super().__init__()
        del draws
        self.options = options
        scale, channels = options.scale, options.channels
        self.facts = Facts("plain", (scale, scale), (channels,), 1, options.side)
        self.only = nn.Conv2d(channels, channels * scale**2, options.side, padding=options.side // 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.facts.check(x_BCHW)
        enlarged: Tensor = nn.functional.pixel_shuffle(self.only(x_BCHW), self.options.scale)  # type: ignore[attr-defined]
        return enlarged


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "GENERATORS", {**models.GENERATORS, "plain": (PlainOptions, Plain)})


def test_it_is_trained_and_kept(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make_loop(generator={"name": "plain", "options": {"side": 5}})
    before = [weight.clone() for weight in loop.generator.parameters()]
    loop.run()
    assert isinstance(loop.generator, Plain)
    assert all(not torch.equal(a, b) for a, b in zip(before, loop.generator.parameters(), strict=True))
    path = written_generator(
        tmp_path, {"name": "plain", "options": dict(options_of(loop.generator))}, network=loop.generator.eval()
    )
    loaded = load_generator(path)
    x = torch.rand(1, 1, 5, 6)
    assert loaded.card.options == {"scale": 2, "channels": 1, "side": 5}
    assert torch.equal(loaded(x), loop.generator(x).clamp(0, 1))


def test_it_is_compiled_whole(monkeypatch: pytest.MonkeyPatch, make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(generator={"name": "plain", "options": {}})
    seen: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(nn.Module, "compile", lambda self: seen.append(self))
    compile_networks(loop.generator, loop.discriminator, torch.device("cpu"))
    assert seen == [loop.generator, loop.discriminator]
