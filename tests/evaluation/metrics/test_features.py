"""Distances in the features of networks: their equations, their names, and the weights that are not there."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from zssr_gan.evaluation.metrics.features import LPIPS, Frechet, frechet_distance, lpips, perceptual, place_features
from zssr_gan.evaluation.metrics.metric import Figure, Sample
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.vgg import VGG, VGGOptions, orthogonal_weights

SHALLOW = VGGOptions(layers=("conv1_2", "conv2_1"))


@pytest.fixture(scope="module", autouse=True)
def _no_weights_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZSSR_GAN_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


@pytest.fixture(scope="module")
def frechet() -> Frechet:
    """With random weights, which take a second to draw."""
    return Frechet(SHALLOW, "random")


@pytest.fixture
def network() -> VGG:
    return VGG(SHALLOW, drawn(0))


def written(path: Path, seed: int) -> Path:
    """A file with the weights of the layers that are looked at alone."""
    save_file({name: weight for name, weight in drawn(seed).items() if name.split(".")[1] in ("0", "2", "5")}, path)
    return path


@cache
def drawn(seed: int) -> dict[str, Tensor]:
    return orthogonal_weights(torch.Generator().manual_seed(seed))


@pytest.fixture
def blurred(astronaut: Tensor) -> Tensor:
    return (resize(resize(astronaut, (24, 24)), (64, 64)).clamp(0, 1) * 255).round() / 255


def test_perceptual_is_the_layers_mean_squared_difference(
    network: VGG, astronaut: Tensor, blurred: Tensor, tmp_path: Path
) -> None:
    metric = perceptual(SHALLOW, str(written(tmp_path / "mine.safetensors", 0)))
    found, wanted = network(blurred[None]), network(astronaut[None])
    expected = sum(float((found[layer] - wanted[layer]).square().mean()) for layer in SHALLOW.layers) / 2
    assert metric(Sample(blurred, astronaut)).number() == pytest.approx(expected, rel=1e-5)
    assert metric(Sample(astronaut, astronaut)) == Figure(metric.definition.name, 0.0)
    assert metric(Sample(blurred)).why == "no truth of this image is known (unpaired)"


def test_random_weights_are_said_in_the_name_and_beside_every_value(astronaut: Tensor, blurred: Tensor) -> None:
    metric = perceptual(SHALLOW, "random", seed=3)
    assert metric.definition.name == (
        "perceptual distance, conv1_2 + conv2_1 of VGG19 after the ReLU, weights RANDOM (seed 3)"
    )
    assert "RANDOM weights" in metric(Sample(blurred, astronaut)).why


def test_a_file_of_weights_is_named_with_its_hash(tmp_path: Path) -> None:
    """The same file name with other bytes is another definition."""
    names = []
    for seed in (0, 1):
        file = written(tmp_path / "mine.safetensors", seed)
        names.append(perceptual(SHALLOW, str(file)).definition.name)
    assert all("weights mine.safetensors " in name for name in names)
    assert names[0] != names[1]


def test_weights_that_are_not_there_give_a_column_of_reasons(astronaut: Tensor) -> None:
    metric = perceptual(SHALLOW, "imagenet")
    assert metric.definition.name.endswith("weights imagenet")
    figure = metric(Sample(astronaut, astronaut))
    assert figure.value is None
    assert "run `zssr-gan weights fetch vgg19`" in figure.why
    frechet = Frechet(SHALLOW, "imagenet")
    seen = frechet.look([astronaut])
    for layer, cell in frechet.figures(seen, seen).items():
        assert cell == frechet.definitions[layer].none(figure.why)


def test_images_that_leave_no_feature(tmp_path: Path, astronaut: Tensor) -> None:
    metric = perceptual(SHALLOW, str(written(tmp_path / "mine.safetensors", 0)))
    line = astronaut[:, :1]
    assert metric(Sample(line, line)).why == "needs 2 pixels a side, and the result is 64x1"


def test_lpips_from_a_file(tmp_path: Path, astronaut: Tensor, blurred: Tensor) -> None:
    draws = torch.Generator().manual_seed(0)
    weights = orthogonal_weights(draws, "vgg16")
    weights |= {f"lin.{n}": torch.rand(width, generator=draws) for n, width in enumerate((64, 128, 256, 512, 512))}
    save_file(weights, tmp_path / "vgg16.safetensors")
    metric = lpips(tmp_path / "vgg16.safetensors", "vgg16")
    assert metric.definition.name.startswith("LPIPS 0.1, VGG16, weights vgg16.safetensors ")
    expected = LPIPS("vgg16", weights)(blurred[None], astronaut[None]).item()
    assert metric(Sample(blurred, astronaut)).number() == pytest.approx(expected)
    assert metric(Sample(blurred[:, :15], astronaut[:, :15])).why == ("needs 16 pixels a side, and the result is 64x15")


def test_lpips_without_weights(tmp_path: Path, astronaut: Tensor) -> None:
    sample = Sample(astronaut, astronaut)
    assert lpips(None)(sample).why == "no file of weights of LPIPS was given, and the package lpips is missing"
    gone = lpips(tmp_path / "gone.safetensors")
    assert gone.definition.name == "LPIPS 0.1, AlexNet, weights gone.safetensors"
    assert "no such file of weights" in gone(sample).why


def test_frechet_is_that_of_the_features(frechet: Frechet, network: VGG, astronaut: Tensor, blurred: Tensor) -> None:
    sharp, soft = [astronaut[:, :32], astronaut[:, 32:]], [blurred[:, :32], blurred[:, 32:]]
    figures = frechet.figures(frechet.look(soft), frechet.look(sharp))
    one, other = place_features(network, soft), place_features(network, sharp)
    assert list(figures) == ["conv1_2", "conv2_1"]
    for layer, figure in figures.items():
        assert figure.name == f"Frechet distance, {layer} of VGG19 at every place, weights RANDOM (seed 0)"
        assert figure.number() == pytest.approx(frechet_distance(one[layer], other[layer]), rel=1e-6)
        assert "RANDOM weights" in figure.why
        assert "different sizes" not in figure.why


def test_what_weakens_a_frechet_distance_is_said(frechet: Frechet, astronaut: Tensor) -> None:
    many, few = frechet.look([astronaut, astronaut.flip(2)]), frechet.look([astronaut[:, :8, :8]])
    figures = frechet.figures(many, few)
    assert "sets of different sizes (2 and 1 images)" in figures["conv1_2"].why
    assert "a covariance without full rank (64 places, 64 features)" in figures["conv1_2"].why


def test_sets_that_have_no_frechet_distance(frechet: Frechet, astronaut: Tensor) -> None:
    good = frechet.look([astronaut])
    nan = torch.full((3, 8, 8), float("nan"))
    for images, why in (
        ([], "there are no images to look at"),
        ([astronaut, astronaut[:, :1]], "needs 2 pixels a side, and one image is 64x1"),
        ([nan], "one image holds NaN or infinity"),
    ):
        assert frechet.figures(good, frechet.look(images))["conv1_2"].why == why
    single = frechet.look([astronaut[:, :2, :2]])
    assert frechet.figures(single, good)["conv2_1"].why == "a set with one place has no covariance"
