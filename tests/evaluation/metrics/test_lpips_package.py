"""LPIPS by its authors' package, played by a module that looks at what it is given."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from zssr_gan.evaluation.metrics import features
from zssr_gan.evaluation.metrics.features import lpips
from zssr_gan.evaluation.metrics.metric import Sample


class Played(nn.Module):
    """As the package's LPIPS: images `B 3 H W` in [-1, 1], an answer `B 1 1 1`."""

    asked: list[dict[str, object]] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.asked.append(options)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        assert not self.training
        for image in (one, other):
            assert image.shape[:2] == (1, 3)
            assert image.min() == -1
            assert image.max() == 1
        return (one - other).abs().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lpips")
    module.LPIPS = Played  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(features.metadata, "version", lambda name: {"lpips": "0.1.4"}[name])
    Played.asked.clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """torch.hub's cache with files of which the names tell the hashes."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def keep(hub: Path, monkeypatch: pytest.MonkeyPatch, net: str, name: str) -> None:
    file = f"{name}-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    (hub / file).write_bytes(b"weights")
    monkeypatch.setitem(features._NETS, net, ({"alexnet": "alex", "vgg16": "vgg"}[net], file))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("net", "called", "told"), [("alexnet", "alex", "AlexNet"), ("vgg16", "vgg", "VGG16")])
def test_it_is_asked_as_it_wants(
    hub: Path, monkeypatch: pytest.MonkeyPatch, net: features.Net, called: str, told: str
) -> None:
    keep(hub, monkeypatch, net, "some-net")
    metric = lpips(None, net)
    assert metric.definition.name == f"LPIPS 0.1, {told}, package lpips 0.1.4"
    black = torch.zeros(1, 40, 40)
    black[:, :20] = 1
    white = black.flip(1).expand(3, -1, -1)
    assert metric(Sample(black, white)).number() == 2
    assert metric(Sample(black, black)).number() == 0
    assert Played.asked == [{"net": called, "version": "0.1", "verbose": False}]


@pytest.mark.usefixtures("package")
def test_nothing_is_downloaded(hub: Path) -> None:
    metric = lpips(None)
    figure = metric(Sample(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40)))
    assert figure.value is None
    assert figure.why == (
        "no file of weights of LPIPS was given, and the package lpips would have to download its network's: "
        f"{hub / 'alexnet-owt-7be5be79.pth'} is not there"
    )
    (hub / "alexnet-owt-7be5be79.pth").write_bytes(b"half a download")
    assert "is damaged" in lpips(None)(Sample(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40))).why
    assert not Played.asked


@pytest.mark.usefixtures("package")
def test_a_package_that_cannot_be_used_is_said(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(hub, monkeypatch, "alexnet", "some-net")

    def broken(**_options: object) -> Played:
        raise RuntimeError("another\nversion")

    monkeypatch.setattr(sys.modules["lpips"], "LPIPS", broken)
    why = lpips(None)(Sample(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40))).why
    assert why == "the package lpips 0.1.4 cannot be used (another version)"


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    metric = lpips(None)
    assert metric.definition.name == "LPIPS 0.1, AlexNet, weights none given"
    why = metric(Sample(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40))).why
    assert why == "no file of weights of LPIPS was given, and the package lpips is missing"


def test_a_package_without_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lpips.py").write_text("import torchvision_that_is_not_here\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lpips", raising=False)
    why = lpips(None)(Sample(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40))).why
    assert why.endswith("and the package torchvision_that_is_not_here, which lpips needs, is missing")
