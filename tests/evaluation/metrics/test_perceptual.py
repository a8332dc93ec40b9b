"""Perceptual distance and LPIPS: their equations by hand, their names, and weights that are not there."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.networks.weights import alexnet_weights, vgg_weights
from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.metrics import perceptual as module
from zssr_gan.evaluation.metrics.metric import Figure, Sample
from zssr_gan.evaluation.metrics.perceptual import LPIPS, VGG16_LAYERS, Net, lpips, perceptual
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.vgg import VGG, AlexNet, VGGOptions

SHALLOW = VGGOptions(layers=("conv1_2", "conv2_1"))


@pytest.fixture(scope="module", autouse=True)
def _no_weights_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZSSR_GAN_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


def written(path: Path, factor: float = 1.0) -> Path:
    """A file with the weights of the compared layers alone."""
    places = ("0", "2", "5")
    save_file({name: factor * x for name, x in vgg_weights().items() if name.split(".")[1] in places}, path)
    return path


@pytest.fixture
def blurred(astronaut: Tensor) -> Tensor:
    return (resize(resize(astronaut, (24, 24)), (64, 64)).clamp(0, 1) * 255).round() / 255


@pytest.fixture(scope="module")
def vgg16() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)
    lins = {f"lin.{n}": torch.rand(width, generator=draws) for n, width in enumerate((64, 128, 256, 512, 512))}
    return vgg_weights("vgg16") | lins


def test_perceptual_is_the_layers_mean_squared_difference(astronaut: Tensor, blurred: Tensor, tmp_path: Path) -> None:
    network = VGG(SHALLOW, vgg_weights())
    metric = perceptual(SHALLOW, str(written(tmp_path / "mine.safetensors")))
    found, wanted = network(blurred[None]), network(astronaut[None])
    expected = sum(float((found[layer] - wanted[layer]).square().mean()) for layer in SHALLOW.layers) / 2
    assert metric(Sample(blurred, astronaut)).number() == pytest.approx(expected, rel=1e-5)
    assert metric(Sample(astronaut, astronaut)) == Figure(metric.definition.name, 0.0)
    line = astronaut[:, :1]
    assert metric(Sample(line, line)).why == "needs 2 pixels a side, and the result is 64x1"


def test_weights_are_named_and_missing_ones_say_why(astronaut: Tensor, blurred: Tensor, tmp_path: Path) -> None:
    """A file by its hash, so that other bytes are another definition; random ones are said beside every value."""
    names = [perceptual(SHALLOW, str(written(tmp_path / "mine.safetensors", n))).definition.name for n in (1.0, 2.0)]
    assert all("weights mine.safetensors " in name for name in names)
    assert names[0] != names[1]
    metric = perceptual(SHALLOW, "random")
    shown = "conv1_2 + conv2_1 of VGG19 after the ReLU, weights RANDOM (seed 0)"
    assert metric.definition.name == f"perceptual distance, {shown}"
    assert "RANDOM weights" in metric(Sample(blurred, astronaut)).why
    for metric, name, why in (
        (perceptual(SHALLOW, "imagenet"), "weights imagenet", "run `zssr-gan weights fetch vgg19`"),
        (lpips(tmp_path / "gone.safetensors"), "LPIPS 0.1, AlexNet, weights gone.safetensors", "no such file"),
    ):
        assert metric.definition.name.endswith(name)
        figure = metric(Sample(astronaut, astronaut))
        assert figure.value is None
        assert why in figure.why


@pytest.mark.parametrize("net", ["alexnet", "vgg16"])
def test_lpips_by_hand(net: Net, vgg16: dict[str, Tensor], astronaut: Tensor) -> None:
    draws = torch.Generator().manual_seed(0)
    weights, layers = vgg16, VGG16_LAYERS
    network: VGG | AlexNet = VGG(VGGOptions("vgg16", layers), weights)
    if net == "alexnet":
        lins = {f"lin.{n}": torch.rand(width, generator=draws) for n, width in enumerate((64, 192, 384, 256, 256))}
        weights = {**alexnet_weights(draws), **lins}
        network, layers = AlexNet(weights), AlexNet(weights).layers
    one, other = astronaut[None, :, :40, :48], astronaut[None, :, -40:, -48:]
    features, expected = [network(x) for x in (one, other)], 0.0
    for number, layer in enumerate(layers):
        a, b = (torch.nn.functional.normalize(each[layer][0], dim=0) for each in features)
        expected += torch.einsum("chw,c->hw", (a - b) ** 2, weights[f"lin.{number}"]).mean().item()
    assert LPIPS(net, weights)(one, other).item() == pytest.approx(expected, rel=1e-4)


def test_lpips_from_a_file(tmp_path: Path, vgg16: dict[str, Tensor], astronaut: Tensor, blurred: Tensor) -> None:
    save_file(vgg16, tmp_path / "vgg16.safetensors")
    metric, distance = lpips(tmp_path / "vgg16.safetensors"), LPIPS("vgg16", vgg16)
    assert metric.definition.name.startswith("LPIPS 0.1, VGG16, weights vgg16.safetensors ")
    expected = distance(astronaut.expand(2, -1, -1, -1), torch.stack([astronaut, blurred]))
    assert expected[0].item() == pytest.approx(0, abs=1e-6)
    assert metric(Sample(blurred, astronaut)).number() == pytest.approx(expected[1].item(), rel=1e-5)
    with pytest.raises(WeightsError, match=r"lin\.3 \(conv4_3\) must hold 512 numbers"):
        LPIPS("vgg16", {name: tensor for name, tensor in vgg16.items() if name != "lin.3"})
    assert metric(Sample(blurred[:, :15], astronaut[:, :15])).why == "needs 16 pixels a side, and the result is 64x15"


class Played(nn.Module):
    """The authors' package: images `B 3 H W` in [-1, 1], an answer `B 1 1 1`."""

    asked: list[dict[str, object]] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.asked.append(options)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        assert not self.training
        for image in (one, other):
            assert image.shape[:2] == (1, 3)
            assert (image.min(), image.max()) == (-1, 1)
        return (one - other).abs().mean((1, 2, 3), keepdim=True)


class TestPackage:
    """The authors' package `lpips`, played by a module."""

    @pytest.fixture
    def package(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """The file of its network in torch.hub's cache, whose name ends with its hash."""
        package = ModuleType("lpips")
        package.LPIPS = Played  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "lpips", package)
        monkeypatch.setattr(module.metadata, "version", lambda name: {"lpips": "0.1.4"}[name])
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        Played.asked.clear()
        path = tmp_path / "checkpoints" / f"some-net-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
        path.parent.mkdir()
        path.write_bytes(b"weights")
        monkeypatch.setattr(module, "_FILE", path.name)
        return path

    @pytest.mark.usefixtures("package")
    def test_it_is_called_as_it_wants(self) -> None:
        metric = lpips(None)
        assert metric.definition.name == "LPIPS 0.1, AlexNet, package lpips 0.1.4"
        black = torch.zeros(1, 40, 40)
        black[:, :20] = 1
        assert metric(Sample(black, black.flip(1).expand(3, -1, -1))).number() == 2
        assert Played.asked == [{"net": "alex", "version": "0.1", "verbose": False}]

    def test_why_it_cannot_be_used(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def why() -> str:
            return lpips(None)(Sample(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40))).why

        def broken(**_options: object) -> Played:
            raise RuntimeError("another\nversion")

        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["lpips"], "LPIPS", broken)
            assert why() == "the package lpips 0.1.4 cannot be used (another version)"
        package.write_bytes(b"half a download")
        assert "is damaged" in why()
        package.unlink()
        assert f"would have to download its network's: {package} is not there" in why()
        assert not Played.asked
        monkeypatch.setitem(sys.modules, "lpips", None)
        assert why() == "no file of weights of LPIPS was given, and the package lpips is missing"
