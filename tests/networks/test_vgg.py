"""VGG19 as a frozen source of features, with learnt or random weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.networks.vgg import LAYERS, VGG, VGGOptions, orthogonal_weights

# Of the published file: number in torchvision's `features`, channels in and out.
TORCHVISION = {
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)},
    **{16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512)},
    **{30: (512, 512), 32: (512, 512), 34: (512, 512)},
}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return orthogonal_weights(torch.Generator().manual_seed(0))


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_torchvisions_names_and_shapes(weights: dict[str, Tensor]) -> None:
    network = VGG(VGGOptions(layers=("conv5_4",)), weights)
    expected = {}
    for place, (inputs, outputs) in TORCHVISION.items():
        expected[f"features.{place}.weight"] = (outputs, inputs, 3, 3)
        expected[f"features.{place}.bias"] = (outputs,)
    assert {name: tuple(weight.shape) for name, weight in network.state_dict().items()} == expected
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == expected
    assert sum(weight.numel() for weight in network.parameters()) == 20_024_384
    assert len(LAYERS["vgg19"]) == 16


def test_vgg16() -> None:
    """Three stages have a convolution less; the numbers in torchvision's list move with it."""
    weights = orthogonal_weights(torch.Generator().manual_seed(0), "vgg16")
    network = VGG(VGGOptions("vgg16", ("conv3_3", "conv5_3")), weights)
    places = [int(name.split(".")[1]) for name in network.state_dict() if name.endswith("weight")]
    assert places == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert sum(weight.numel() for weight in network.parameters()) == 14_714_688
    found = network(noise(1, 3, 32, 32))
    assert {layer: tuple(values.shape[1:]) for layer, values in found.items()} == {
        "conv3_3": (256, 8, 8),
        "conv5_3": (512, 2, 2),
    }
    with pytest.raises(ValueError, match=r"VGG16 has no such layer \(conv5_4\): name some of conv1_1 ... conv5_3"):
        VGGOptions("vgg16", ("conv5_4",))
    with pytest.raises(WeightsError, match=r"no weights of VGG16: features\.7\.weight \(conv2_2\) is missing"):
        VGG(VGGOptions("vgg16", ("conv2_2",)), dict(list(weights.items())[:6]))


def test_features_by_hand(weights: dict[str, Tensor]) -> None:
    x = noise(2, 3, 10, 13)
    y = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    raw = {}
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
            expected = raw[place].relu() if activated else raw[place]
            assert torch.allclose(found[layer], expected, atol=1e-5)
    assert found["conv3_1"].shape == (2, 256, 2, 3)


def test_gray_is_gray_in_three_channels(weights: dict[str, Tensor]) -> None:
    network = VGG(VGGOptions(layers=("conv2_1",)), weights)
    x = noise(1, 1, 8, 8)
    assert torch.equal(network(x)["conv2_1"], network(x.repeat(1, 3, 1, 1))["conv2_1"])


def test_gradients_reach_the_input_and_no_weight(weights: dict[str, Tensor]) -> None:
    network = VGG(VGGOptions(layers=("conv3_4",)), weights).train()
    x = noise(1, 3, 16, 16).requires_grad_()
    network(x)["conv3_4"].square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean() > 0.9
    assert all(not weight.requires_grad and weight.grad is None for weight in network.parameters())


def test_a_whole_classifier_may_be_given(weights: dict[str, Tensor]) -> None:
    given = {**weights, "classifier.0.weight": torch.zeros(2, 2), "classifier.6.bias": torch.zeros(3)}
    network = VGG(VGGOptions(layers=("conv1_1",)), given)
    assert list(network.state_dict()) == ["features.0.weight", "features.0.bias"]


def test_other_networks_weights_are_refused(weights: dict[str, Tensor]) -> None:
    missing = {name: weight for name, weight in weights.items() if name != "features.5.bias"}
    with pytest.raises(WeightsError, match=r"features\.5\.bias \(conv2_1\) is missing"):
        VGG(VGGOptions(layers=("conv2_1",)), missing)
    VGG(VGGOptions(layers=("conv1_2",)), missing)  # not needed there
    with pytest.raises(WeightsError, match=r"features\.0\.weight \(conv1_1\) is 64x3x5x5, not 64x3x3x3"):
        VGG(VGGOptions(layers=("conv1_1",)), {**weights, "features.0.weight": torch.zeros(64, 3, 5, 5)})


@pytest.mark.parametrize("layers", [(), ("relu5_4",), ("conv1_1", "conv1_3")])
def test_unknown_layers(layers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="no such layer"):
        VGGOptions(layers=layers)


class TestRandomWeights:
    def test_seeded(self, weights: dict[str, Tensor]) -> None:
        again = orthogonal_weights(torch.Generator().manual_seed(0))
        other = orthogonal_weights(torch.Generator().manual_seed(1))
        assert all(torch.equal(weights[name], again[name]) for name in weights)
        assert not torch.equal(weights["features.34.weight"], other["features.34.weight"])

    def test_orthogonal(self, weights: dict[str, Tensor]) -> None:
        for place in (2, 19, 34):
            matrix = weights[f"features.{place}.weight"].flatten(1)
            product = matrix @ matrix.T
            assert torch.allclose(product / product[0, 0], torch.eye(len(matrix)), atol=1e-4)
            assert matrix.sum(1).abs().max() < 1e-3
        columns = weights["features.0.weight"].flatten(1)
        assert torch.allclose(columns.T @ columns / (2 * 64 / 27), torch.eye(27), atol=1e-4)

    def test_features_stay_alive_through_the_depth(self, weights: dict[str, Tensor], astronaut: Tensor) -> None:
        """In each layer the values are of one size, most channels speak, and another picture has other features."""
        pictures = torch.stack([astronaut, astronaut.flip(-1), noise(3, 64, 64)])
        found = VGG(VGGOptions(layers=LAYERS["vgg19"], activated=False), weights)(pictures)
        for layer, features in found.items():
            assert 1 < features.std() < 4, layer
            speaks = (features > 0).float().mean((0, 2, 3))
            assert ((speaks > 0.01) & (speaks < 0.99)).float().mean() > 0.95, layer
            for one, other in ((0, 1), (0, 2)):
                apart = (features[one] - features[other]).square().mean() / features.square().mean()
                assert apart > 0.5, layer
