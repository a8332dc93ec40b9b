"""AlexNet as a frozen source of features."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.networks.weights import ALEXNET, alexnet_weights
from zssr_gan.errors import WeightsError
from zssr_gan.networks.vgg import AlexNet


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return alexnet_weights(torch.Generator().manual_seed(0))


def test_features_by_hand(weights: dict[str, Tensor]) -> None:
    x = torch.rand(2, 3, 40, 35, generator=torch.Generator().manual_seed(1))
    y = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    found = AlexNet(weights)(x)
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    for place, values in zip(ALEXNET, found.values(), strict=True):
        if place in (3, 6):
            y = F.max_pool2d(y, kernel_size=3, stride=2)
        stride, padding = {0: (4, 2), 3: (1, 2)}.get(place, (1, 1))
        weight, bias = (weights[f"features.{place}.{kind}"] for kind in ("weight", "bias"))
        y = F.conv2d(y, weight, bias, stride, padding).relu()
        assert torch.allclose(values, y, atol=1e-5)


def test_gray_and_frozen(weights: dict[str, Tensor]) -> None:
    network = AlexNet(weights)
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    out = network(x)["conv5"]
    assert torch.equal(out, network(x.repeat(1, 3, 1, 1))["conv5"])
    out.sum().backward()
    assert x.grad is not None
    assert not any(weight.requires_grad for weight in network.parameters())


def test_other_networks_weights_are_refused(weights: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match=r"no weights of ALEXNET: features\.10\.bias \(conv5\) is missing"):
        AlexNet({name: weight for name, weight in weights.items() if name != "features.10.bias"})
