"""What the reports list of their networks: numbers of weights, orders of layers, and how open points are read."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zssr_gan.networks.autoencoder import Autoencoder, AutoencoderOptions
from zssr_gan.networks.base import DEVIATION, MEAN
from zssr_gan.networks.dcgan import DCGANDiscriminator, DCGANDiscriminatorOptions, DCGANGenerator, DCGANOptions
from zssr_gan.networks.srcnn import SRCNN, SRCNNOptions
from zssr_gan.networks.srgan import Discriminator, DiscriminatorOptions, Generator, GeneratorOptions


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=draws())


def weights_of(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"upsampling": "pixel_shuffle"}, 1_550_659),  # Ledig et al.: 1.55 million
        ({"expansion": 4}, 2_040_067),  # Keras' tutorials, and so Arain et al. and Tariq: 2.0 million
        ({}, 1_329_091),
    ],
)
def test_weights_of_srgan_x4(options: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        assert weights_of(Generator(GeneratorOptions(scale=4, **options))) == count


def test_weights_of_wang_et_als_discriminator() -> None:
    """As the authors' code counts those of its discriminator for 128 px."""
    options = DiscriminatorOptions(blocks=10, norm="before", norm_first=False, strided_kernel=4, hidden=100, size=128)
    with torch.device("meta"):
        assert weights_of(Discriminator(options)) == 14_499_401


class TestTariqsSRGAN:
    def test_pixels_come_in_as_imagenets(self) -> None:
        options = {"width": 4, "blocks": 1}
        plain, other = (
            Generator(GeneratorOptions(input=kind, **options), draws()).eval() for kind in ("centred", "imagenet")
        )
        x = noise(1, 3, 6, 6)
        mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, DEVIATION))
        assert torch.allclose(other(x), plain(((x - mean) / deviation + 1) / 2), atol=1e-5)

    def test_tanh_keeps_to_the_range_of_pixels(self) -> None:
        bounded, free = (
            Generator(GeneratorOptions(width=4, blocks=1, output=kind), draws()) for kind in ("tanh", "linear")
        )
        with torch.no_grad():
            bounded.tail.weight *= 20
            free.tail.weight *= 20
        x = noise(1, 3, 8, 8)
        assert free(x).min() < 0
        assert free(x).max() > 1
        assert torch.allclose(bounded(x), ((free(x) * 2 - 1).tanh() + 1) / 2, atol=1e-5)

    def test_relu_in_all_but_the_upscaling(self) -> None:
        network = Generator(GeneratorOptions(scale=4, width=4, blocks=3, activation="relu"), draws())
        kinds = [type(module) for module in network.modules()]
        assert (kinds.count(nn.ReLU), kinds.count(nn.PReLU)) == (1 + 3, 2)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"input": "imagenet", "channels": 1}, "imagenet where channels is 3"),
            ({"expansion": 2, "upsampling": "pixel_shuffle"}, "expansion"),
            ({"activation": "elu"}, "activation"),
            ({"output": "relu"}, "output"),
            ({"norm_momentum": 0.0}, "norm_momentum"),
        ],
    )
    def test_impossible_options(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            GeneratorOptions(**options)


def test_momentum_is_torchs() -> None:
    """Of the newest batch's statistics a share of 0.5 is kept, and in all norms."""
    network = Generator(GeneratorOptions(width=4, blocks=1, norm_momentum=0.5), draws())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.5}
    assert len(norms) == 3


class TestSRCNN:
    def test_the_reports_layers(self) -> None:
        network = SRCNN(SRCNNOptions(), draws())
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        assert [(one.kernel_size[0], one.out_channels) for one in convolutions] == [
            *((9, 64), (5, 64), (3, 128), (3, 128), (3, 256), (3, 256), (3, 256), (3, 256), (3, 128), (3, 64), (5, 3))
        ]
        after = [type(m) for m in network.modules() if isinstance(m, nn.ReLU | nn.Sigmoid | nn.BatchNorm2d)]
        relu, sigmoid, norm = nn.ReLU, nn.Sigmoid, nn.BatchNorm2d
        assert after == [*(relu, relu, relu, norm, sigmoid, relu, norm, sigmoid, relu, sigmoid, relu, sigmoid, sigmoid)]

    def test_the_residual_pair(self) -> None:
        """Without layers 7 and 8 (a sigmoid of nothing is a half), what layer 6 gave goes on."""
        network, x = SRCNN(SRCNNOptions(width=2), draws()).eval(), noise(1, 3, 6, 6)
        with torch.no_grad():
            network.layer8[0].weight.zero_()
        seen: list[Tensor] = []
        network.layer6.register_forward_hook(lambda _m, _i, out: seen.append(out))
        network.layer9.register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
        network(x)
        assert torch.allclose(seen[1], seen[0] + 0.5)


class TestAutoencoder:
    def test_its_number_of_weights(self) -> None:
        network = Autoencoder(AutoencoderOptions(), draws())
        assert sum(weight.numel() for weight in network.parameters()) == 1_847_683  # as configs/autoencoder.yaml tells

    @pytest.mark.parametrize(("scale", "ups"), [(1, [256, 128, 64]), (2, [256, 128, 64, 64])])
    def test_the_reports_layers(self, scale: int, ups: list[int]) -> None:
        network = Autoencoder(AutoencoderOptions(scale=scale, code_size=256), draws())
        down = [m for m in network.encoder if isinstance(m, nn.Conv2d)]
        assert [(one.out_channels, one.stride[0]) for one in down] == [(64, 2), (128, 2), (256, 2), (256, 1)]
        back = [m for m in network.decoder if isinstance(m, nn.ConvTranspose2d)]
        assert [(one.out_channels, one.stride[0]) for one in back] == [(n, 2) for n in ups]

    @pytest.mark.parametrize("scale", [1, 2])
    @pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
    def test_what_is_missing_of_a_square_is_made_up(self, scale: int, activation: Any) -> None:
        options = AutoencoderOptions(scale=scale, width=4, code_size=8, activation=activation)
        network, x = Autoencoder(options, draws()), noise(1, 3, 13, 5)
        whole = nn.functional.pad(x, (0, 3, 0, 3), mode="replicate")
        out = network(x)
        assert torch.equal(out, network(whole)[..., : 13 * scale, : 5 * scale])
        assert (out > 0).all()
        assert (out < 1).all()


class TestDCGAN:
    def test_the_reports_layers(self) -> None:
        network = DCGANGenerator(DCGANOptions(), draws())
        ends = [network.head, *(m for m in network.tail if isinstance(m, nn.Conv2d))]
        assert [(one.out_channels, one.kernel_size[0]) for one in ends] == [(128, 4), (128, 3), (64, 3), (3, 3)]
        doubles = [isinstance(block.after[0], nn.Upsample) for block in network.blocks]  # type: ignore[index, union-attr]
        assert doubles == [False, False, False, True, True]

    def test_the_reports_discriminator(self) -> None:
        network = DCGANDiscriminator(DCGANDiscriminatorOptions(), draws())
        layers = [m for m in network.features if isinstance(m, nn.Conv2d)]
        assert [one.out_channels for one in layers] == [64, 64, 128, 256, 512, 512, 512]
        assert [one.stride[0] for one in layers] == [1, 2, 2, 2, 2, 1, 1]
        kinds = [type(m) for m in network.features]
        assert kinds[:5] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d]
        assert kinds[-3:] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
        dense = [m for m in network.head if isinstance(m, nn.Linear)]
        assert [(one.in_features, one.out_features) for one in dense] == [(512 * 16, 1024), (1024, 1)]

    def test_the_skip_goes_around_the_convolutions(self) -> None:
        network, x = DCGANGenerator(DCGANOptions(width=4), draws()).eval(), noise(1, 4, 6, 6)
        block = network.blocks[-1]
        last = block.residual[-2]  # type: ignore[index]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        assert torch.equal(block(x), block.after(x))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (SRCNNOptions, "scale", 1),
        (SRCNNOptions, "channels", 2),
        (SRCNNOptions, "width", 0),
        (AutoencoderOptions, "scale", 4),
        (AutoencoderOptions, "code_size", 0),
        (AutoencoderOptions, "activation", "relu"),
        (DCGANOptions, "scale", 3),
        (DCGANOptions, "width", 1),
        (DCGANOptions, "blocks", 1),
        (DCGANDiscriminatorOptions, "size", 0),
        (DCGANDiscriminatorOptions, "head", "patch"),
        (DiscriminatorOptions, "strided_kernel", 5),
    ],
)
def test_impossible_options(kind: type, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        kind(**{option: value})
