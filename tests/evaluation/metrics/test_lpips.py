"""LPIPS: its equation by hand on given weights, and what it says of pictures."""

import pytest
import torch
from torch import Tensor

from tests.networks.weights import alexnet_weights
from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.metrics.features import LPIPS, VGG16_LAYERS
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.vgg import VGG, AlexNet, VGGOptions, orthogonal_weights


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)
    tensors = orthogonal_weights(draws, "vgg16")
    widths = (64, 128, 256, 512, 512)
    return {**tensors, **{f"lin.{n}": torch.rand(width, generator=draws) for n, width in enumerate(widths)}}


def test_by_hand(weights: dict[str, Tensor], astronaut: Tensor) -> None:
    one, other = astronaut[None, :, :32, :48], astronaut[None, :, -32:, -48:]
    network = VGG(VGGOptions("vgg16", VGG16_LAYERS), weights)
    expected = 0.0
    for number, layer in enumerate(VGG16_LAYERS):
        a, b = (torch.nn.functional.normalize(network(x)[layer][0], dim=0) for x in (one, other))
        weighted = torch.einsum("chw,c->hw", (a - b) ** 2, weights[f"lin.{number}"])
        expected += weighted.mean().item()
    assert LPIPS("vgg16", weights)(one, other).item() == pytest.approx(expected, rel=1e-4)


def test_images_of_a_batch_are_judged_one_by_one(weights: dict[str, Tensor], astronaut: Tensor) -> None:
    picture = astronaut[:, :32, :32]
    blurred = resize(resize(picture, (16, 16)), (32, 32))
    very = resize(resize(picture, (8, 8)), (32, 32))
    distances = LPIPS("vgg16", weights)(picture.expand(3, -1, -1, -1), torch.stack([picture, blurred, very]))
    assert distances[0].item() == pytest.approx(0, abs=1e-6)
    assert 1e-3 < distances[1] < distances[2]


def test_alexnet(astronaut: Tensor) -> None:
    draws = torch.Generator().manual_seed(0)
    lins = {f"lin.{n}": torch.rand(width, generator=draws) for n, width in enumerate((64, 192, 384, 256, 256))}
    given = {**alexnet_weights(draws), **lins}
    one, other = astronaut[None, :, :40, :40], astronaut[None, :, -40:, -40:]
    found = [AlexNet(given)(x) for x in (one, other)]
    expected = 0.0
    for number, (a, b) in enumerate(zip(*(each.values() for each in found), strict=True)):
        a, b = (torch.nn.functional.normalize(x[0], dim=0) for x in (a, b))
        expected += torch.einsum("chw,c->hw", (a - b) ** 2, lins[f"lin.{number}"]).mean().item()
    assert LPIPS("alexnet", given)(one, other).item() == pytest.approx(expected, rel=1e-4)


def test_weights_that_are_not_lpips(weights: dict[str, Tensor]) -> None:
    without = {name: tensor for name, tensor in weights.items() if name != "lin.3"}
    with pytest.raises(WeightsError, match=r"lin\.3 \(conv4_3\) must hold 512 numbers"):
        LPIPS("vgg16", without)
    with pytest.raises(WeightsError, match=r"no weights of VGG16"):
        LPIPS("vgg16", {"lin.0": torch.zeros(64)})
