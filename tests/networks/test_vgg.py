"""VGG and AlexNet as frozen sources of features, with published or random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.images import noise
from tests.networks.weights import ALEXNET, alexnet_weights, vgg_weights
from zssr_gan.errors import WeightsError
from zssr_gan.networks.base import DEVIATION, MEAN
from zssr_gan.networks.vgg import LAYERS, VGG, AlexNet, VGGOptions, orthogonal_weights


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return vgg_weights()


@pytest.fixture(scope="module")
def alexnet() -> dict[str, Tensor]:
    return alexnet_weights(torch.Generator().manual_seed(0))


def normalised(x: Tensor) -> Tensor:
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


@pytest.mark.parametrize(
    ("network", "places", "count"),
    [
        ("vgg19", [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34], 20_024_384),
        ("vgg16", [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28], 14_714_688),
    ],
)
def test_torchvisions_names_and_number_of_weights(network: Any, places: list[int], count: int) -> None:
    given = vgg_weights(network)
    vgg = VGG(VGGOptions(network, ("conv3_3", LAYERS[network][-1])), given)
    assert list(vgg.state_dict()) == list(given)
    assert [name for name in given if name.endswith("weight")] == [f"features.{place}.weight" for place in places]
    assert sum(weight.numel() for weight in vgg.parameters()) == count
    shapes = [tuple(values.shape[1:]) for values in vgg(noise(1, 3, 32, 32)).values()]
    assert shapes == [(256, 8, 8), (512, 2, 2)]


def test_vgg_by_hand(weights: dict[str, Tensor]) -> None:
    y, raw = noise(2, 3, 10, 13), {}
    x, y = y, normalised(y)
    for place in (0, 2, 5, 7, 10):
        if place in (5, 10):
            y = F.max_pool2d(y, 2, 2)
        raw[place] = F.conv2d(y, weights[f"features.{place}.weight"], weights[f"features.{place}.bias"], padding=1)
        y = raw[place].relu()
    layers = ("conv1_2", "conv2_2", "conv3_1")
    for activated in (False, True):
        found = VGG(VGGOptions(layers=layers, activated=activated), weights)(x)
        assert list(found) == list(layers)
        for layer, place in zip(layers, (2, 7, 10), strict=True):
            assert torch.allclose(found[layer], raw[place].relu() if activated else raw[place], atol=1e-5)
    assert found["conv3_1"].shape == (2, 256, 2, 3)


def test_alexnet_by_hand(alexnet: dict[str, Tensor]) -> None:
    x = noise(2, 3, 40, 35)
    found, y = AlexNet(alexnet)(x), normalised(x)
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    for place, values in zip(ALEXNET, found.values(), strict=True):
        if place in (3, 6):
            y = F.max_pool2d(y, kernel_size=3, stride=2)
        stride, padding = {0: (4, 2), 3: (1, 2)}.get(place, (1, 1))
        weight, bias = (alexnet[f"features.{place}.{kind}"] for kind in ("weight", "bias"))
        y = F.conv2d(y, weight, bias, stride, padding).relu()
        assert torch.allclose(values, y, atol=1e-5)


def test_gray_is_repeated_and_gradients_reach_the_input_alone(
    weights: dict[str, Tensor], alexnet: dict[str, Tensor]
) -> None:
    networks: list[nn.Module] = [VGG(VGGOptions(layers=("conv3_4",)), weights).train(), AlexNet(alexnet)]
    for network in networks:
        x = noise(1, 1, 32, 32).requires_grad_()
        *_, out = network(x).values()
        *_, same = network(x.repeat(1, 3, 1, 1)).values()
        assert torch.equal(out, same)
        out.square().sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0
        assert all(not weight.requires_grad and weight.grad is None for weight in network.parameters())


def test_weights_of_others(weights: dict[str, Tensor]) -> None:
    """What is not needed is ignored, what is missing or of another shape is named."""
    given = {**weights, "classifier.0.weight": torch.zeros(2, 2)}
    assert list(VGG(VGGOptions(layers=("conv1_1",)), given).state_dict()) == ["features.0.weight", "features.0.bias"]
    missing = {name: weight for name, weight in weights.items() if name != "features.5.bias"}
    VGG(VGGOptions(layers=("conv1_2",)), missing)
    wrong: list[tuple[Callable[[], nn.Module], str]] = [
        (
            lambda: VGG(VGGOptions(layers=("conv2_1",)), missing),
            r"no weights of VGG19: features\.5\.bias is missing; take torchvision's vgg19\.",
        ),
        (
            lambda: VGG(VGGOptions(layers=("conv1_1",)), {**weights, "features.0.weight": torch.zeros(64, 3, 5, 5)}),
            r"features\.0\.weight is 64x3x5x5, not 64x3x3x3",
        ),
        (lambda: AlexNet({}), r"no weights of ALEXNET: features\.0\.weight is missing"),
    ]
    for make, words in wrong:
        with pytest.raises(WeightsError, match=words):
            make()


@pytest.mark.parametrize(
    ("network", "layers", "words"),
    [
        ("vgg19", (), r"\(none given\)"),
        ("vgg19", ("conv1_1", "conv1_3"), r"\(conv1_3\)"),
        ("vgg16", ("conv5_4",), r"VGG16 has no such layer \(conv5_4\): name some of conv1_1 ... conv5_3"),
        ("vgg11", ("conv1_1",), "the network is vgg16 or vgg19"),
    ],
)
def test_unknown_layers(network: str, layers: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VGGOptions(network, layers)  # type: ignore[arg-type]


def test_random_weights_are_seeded_and_orthogonal(weights: dict[str, Tensor]) -> None:
    again = orthogonal_weights(torch.Generator().manual_seed(0))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    for place in (2, 19, 34):
        matrix = weights[f"features.{place}.weight"].flatten(1)
        product = matrix @ matrix.T
        assert torch.allclose(product / product[0, 0], torch.eye(len(matrix)), atol=1e-4)
        assert matrix.sum(1).abs().max() < 1e-3
    columns = weights["features.0.weight"].flatten(1)
    assert torch.allclose(columns.T @ columns / (2 * 64 / 27), torch.eye(27), atol=1e-4)


def test_random_features_stay_alive_through_the_depth(weights: dict[str, Tensor], astronaut: Tensor) -> None:
    """In each layer the values are of one size, most channels speak, and another picture has other features."""
    pictures = torch.stack([astronaut, astronaut.flip(-1), noise(3, 64, 64)])
    found = VGG(VGGOptions(layers=LAYERS["vgg19"], activated=False), weights)(pictures)
    for layer, features in found.items():
        assert 1 < features.std() < 4, layer
        active = (features > 0).float().mean((0, 2, 3))
        assert ((active > 0.01) & (active < 0.99)).float().mean() > 0.95, layer
        for one, other in ((0, 1), (0, 2)):
            apart = (features[one] - features[other]).square().mean() / features.square().mean()
            assert apart > 0.5, layer
