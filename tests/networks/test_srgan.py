"""SRGAN's generator and discriminator: the papers' layers, random layer skipping, and what options change."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.images import draws, noise
from zssr_gan.networks.base import DEVIATION, MEAN
from zssr_gan.networks.srgan import SRGANDiscriminator, SRGANDiscriminatorOptions, SRGANGenerator, SRGANGeneratorOptions


def small(**options: Any) -> SRGANGenerator:
    return SRGANGenerator(SRGANGeneratorOptions(**{"width": 6, "blocks": 3, **options}), draws())


def count(network: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in network.modules())


def parameters(make: Any) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in make().parameters())


def test_the_papers_generator() -> None:
    network = SRGANGenerator(SRGANGeneratorOptions(), draws())
    # 1 + 16 * 2 + 1 + 1 + 1 convolutions; a PReLU at the start, in each block and in the upscaling block.
    assert [count(network, kind) for kind in (nn.Conv2d, nn.PReLU, nn.BatchNorm2d)] == [36, 18, 33]
    layers = count(network, nn.Conv2d, nn.PReLU, nn.BatchNorm2d, nn.Upsample)
    assert layers - 2 == 86  # the paper counts the three of the upscaling block as one
    assert network.facts.receptive_field == 81


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"upsampling": "pixel_shuffle"}, 1_550_659),  # Ledig et al.: 1.55 million
        ({"expansion": 4}, 2_040_067),  # Keras' tutorials, and so Arain et al. and Tariq: 2.0 million
        ({}, 1_329_091),
    ],
)
def test_weights_of_the_generator_x4(options: dict[str, Any], weights: int) -> None:
    assert parameters(lambda: SRGANGenerator(SRGANGeneratorOptions(scale=4, **options))) == weights


def test_first_values() -> None:
    """Of the size of pixels; near bicubic where they are added to it; seeded; float32 under autocast too."""
    x = noise(2, 3, 12, 12)
    for norm in (False, True):
        assert 0.05 < (SRGANGenerator(SRGANGeneratorOptions(norm=norm), draws())(x) - 0.5).std() < 5
    bicubic = F.interpolate(x, scale_factor=2, mode="bicubic", antialias=True)
    assert 0 < (small(residual=True).eval()(x) - bicubic).square().mean().sqrt() < 0.2
    network = small().eval()
    assert torch.equal(small().eval()(x), network(x))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = network(x)
    assert out.dtype == torch.float32
    assert (out - network(x)).abs().max() < 0.1


def test_options_of_tariqs_generator() -> None:
    """Pixels normalised as ImageNet's, tanh at the end, ReLU in all but the upscaling blocks."""
    plain, normalised = (small(input=kind).eval() for kind in ("centred", "imagenet"))
    x = noise(1, 3, 6, 6)
    mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, DEVIATION))
    assert torch.allclose(normalised(x), plain(((x - mean) / deviation + 1) / 2), atol=1e-5)
    bounded, free = (small(output=kind) for kind in ("tanh", "linear"))
    assert torch.allclose(bounded(x), ((free(x) * 2 - 1).tanh() + 1) / 2, atol=1e-5)
    kinds = [type(module) for module in small(scale=4, activation="relu").modules()]
    assert (kinds.count(nn.ReLU), kinds.count(nn.PReLU)) == (1 + 3, 2)
    norms = [module for module in small(norm_momentum=0.5).modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.5}


class TestSkipping:
    def test_each_block_is_skipped_as_often_as_asked(self) -> None:
        network = small(blocks=8, skip_probability=0.3)
        generator = draws()
        skipped = torch.tensor([network.draw_skipped(generator) for _ in range(500)]).float()
        assert skipped.shape == (500, 8)
        assert ((skipped.mean(0) - 0.3).abs() < 0.1).all()
        # Independently: how many are skipped at once has a binomial's variance.
        assert abs(float(skipped.sum(1).var()) - 8 * 0.3 * 0.7) < 0.4
        assert not any(small(blocks=50, skip_probability=0.0).draw_skipped(draws()))
        assert network.draw_skipped(draws(3)) == network.draw_skipped(draws(3)) == network.skipped

    def test_a_skipped_block_takes_no_part_in_training(self) -> None:
        network, x = small(norm=False), noise(1, 3, 8, 8)
        network.skipped = (False, True, False)
        network(x).sum().backward()
        assert all(weight.grad is None for weight in network.blocks[1].parameters())
        assert all(weight.grad is not None for weight in network.blocks[0].parameters())
        skipping = network(x)
        del network.blocks[1]
        network.skipped = (False, False)
        assert torch.equal(network(x), skipping)

    def test_normalisation_of_a_skipped_block_keeps_its_statistics(self) -> None:
        network = small()
        network.skipped = (True, False, False)
        network(noise(2, 3, 8, 8))
        assert [int(block.norm.num_batches_tracked) for block in network.blocks] == [0, 1, 1]

    def test_none_at_inference_nor_in_the_weights(self) -> None:
        network, x = small().eval(), noise(1, 3, 8, 8)
        whole, names = network(x), list(network.state_dict())
        network.skipped = (True, True, True)
        assert torch.equal(network(x), whole)
        assert list(network.state_dict()) == names


class TestDiscriminator:
    def test_the_papers_layers(self) -> None:
        network = SRGANDiscriminator(SRGANDiscriminatorOptions(), draws())
        layers = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
        assert [layer.out_channels for layer in layers] == [64, 64, 128, 128, 256, 256, 512, 512]
        assert [layer.stride[0] for layer in layers] == [1, 2, 1, 2, 1, 2, 1, 2]
        assert [type(layer) for layer in network.features[:3]] == [nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d]
        dense = [layer for layer in network.head if isinstance(layer, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in dense] == [(512 * 4 * 4, 1024), (1024, 1)]
        assert {layer.negative_slope for layer in network.modules() if isinstance(layer, nn.LeakyReLU)} == {0.2}

    def test_orders_of_normalisation(self) -> None:
        ledig = SRGANDiscriminatorOptions(norm="before", norm_first=False, width=4)
        kinds = [type(layer) for layer in SRGANDiscriminator(ledig, draws()).features]
        assert kinds[:5] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
        assert kinds.count(nn.BatchNorm2d) == 7
        assert count(SRGANDiscriminator(SRGANDiscriminatorOptions(norm="none", width=4), draws()), nn.BatchNorm2d) == 0

    def test_weights_of_wang_et_als(self) -> None:
        """As the authors' code counts those of its discriminator for 128 px."""
        options = SRGANDiscriminatorOptions(
            blocks=10, norm="before", norm_first=False, strided_kernel=4, hidden=100, size=128
        )
        assert parameters(lambda: SRGANDiscriminator(options)) == 14_499_401

    @pytest.mark.parametrize(("head", "shape"), [("flatten", (3, 1)), ("adaptive", (3, 1)), ("patch", (3, 1, 2, 2))])
    def test_logits(self, head: Any, shape: tuple[int, ...]) -> None:
        network = SRGANDiscriminator(SRGANDiscriminatorOptions(width=4, hidden=8, size=32, head=head), draws())
        assert network(noise(3, 3, 32, 32)).shape == shape
