"""FID's Inception: its size by a figure known elsewhere, its blocks by hand, and files that are of another network."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.images import noise
from tests.networks.weights import cached_inception_weights
from zssr_gan.errors import WeightsError
from zssr_gan.networks.inception import Inception


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return cached_inception_weights()


@pytest.fixture(scope="module")
def network(weights: dict[str, Tensor]) -> Inception:
    return Inception(weights)


def convolved(weights: dict[str, Tensor], name: str, x: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """A convolution with its normalisation written out."""
    mean, variance, factor, offset = (
        weights[f"{name}.bn.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    y = F.conv2d(x, weights[f"{name}.conv.weight"], padding=padding)
    return ((y - mean) / (variance + 0.001).sqrt() * factor + offset).relu()


def test_it_has_as_many_weights_as_the_published_network(network: Inception) -> None:
    """Inception v3 with 1000 classes and without its auxiliary head has 23,834,568; here the classes are left out."""
    assert sum(weight.numel() for weight in network.parameters()) == 23_834_568 - (2048 + 1) * 1000


def test_names_and_sizes(network: Inception, weights: dict[str, Tensor]) -> None:
    """The port's names; Szegedy et al. 2016, Table 1: 35x35x288, 17x17x768, 8x8x2048."""
    assert len({name.rpartition(".conv.")[0] for name in weights if ".conv." in name}) == 94
    for name, shape in {
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6c.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
        "Mixed_7a.branch7x7x3_4.bn.running_var": (192,),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
        "fc.weight": (1008, 2048),
    }.items():
        assert tuple(weights[name].shape) == shape
    seen = {}
    for name in ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"):
        network.get_submodule(name).register_forward_hook(lambda _m, _x, y, name=name: seen.update({name: y.shape[1:]}))
    network(noise(1, 3, 20, 30))
    assert list(map(tuple, seen.values())) == [(192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)]


def test_poolings_that_set_it_apart_from_torchvisions(network: Inception, weights: dict[str, Tensor]) -> None:
    """The average does not count its padding; the last block takes the maximum, and the one before it the average."""
    x = noise(1, 192, 5, 5)
    counted = F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 1, 1)), 3, 1)
    mean = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) / counted
    found = network.get_submodule("Mixed_5b")(x)
    assert torch.allclose(found[:, -32:], convolved(weights, "Mixed_5b.branch_pool", mean), atol=1e-5)
    for name, channels in (("Mixed_7b", 1280), ("Mixed_7c", 2048)):
        x = noise(1, channels, 3, 3)
        most = convolved(weights, f"{name}.branch_pool", F.max_pool2d(x, 3, 1, 1))
        assert torch.allclose(network.get_submodule(name)(x)[:, -192:], most, atol=1e-5) == (name == "Mixed_7c")


def test_rows_and_columns_are_joined_in_order(network: Inception, weights: dict[str, Tensor]) -> None:
    x = noise(1, 2048, 3, 3)
    first = convolved(weights, "Mixed_7c.branch3x3_1", x)
    across = convolved(weights, "Mixed_7c.branch3x3_2a", first, (0, 1))
    down = convolved(weights, "Mixed_7c.branch3x3_2b", first, (1, 0))
    found = network.get_submodule("Mixed_7c")(x)[:, 320 : 320 + 768]
    assert torch.allclose(found, torch.cat([across, down], 1), atol=1e-4)


def test_what_it_sees(network: Inception) -> None:
    """299x299 pixels in [-1, 1], bilinear without antialiasing; gray as three channels. It is frozen in every mode."""
    seen: list[Tensor] = []
    hook = network.get_submodule("Conv2d_1a_3x3").register_forward_pre_hook(lambda _block, given: seen.append(given[0]))
    x = noise(1, 1, 598, 598)
    evaluated = network(x)["pool3"]
    assert torch.equal(network.train()(x)["pool3"], evaluated)
    assert not any(weight.requires_grad for weight in network.parameters())
    network(torch.ones(1, 3, 2, 2))
    hook.remove()
    # At half the size a place lies amid four pixels; antialiasing would look at sixteen.
    expected = 2 * F.avg_pool2d(x, 2) - 1
    assert torch.allclose(seen[0], expected.expand(-1, 3, -1, -1), atol=1e-5)
    assert torch.allclose(seen[-1], torch.ones(1, 3, 299, 299), atol=1e-6)


def test_files_of_other_networks_are_refused(weights: dict[str, Tensor]) -> None:
    name = "Mixed_7c.branch3x3dbl_3b.bn.bias"
    with pytest.raises(WeightsError, match=rf"no weights of FID's Inception: {name} is missing; take the port"):
        Inception({key: value for key, value in weights.items() if key != name})
    torchvisions = {**weights, "fc.weight": torch.zeros(1000, 2048)}
    with pytest.raises(WeightsError, match=r"fc\.weight is 1000x2048, not 1008x2048"):
        Inception(torchvisions)
