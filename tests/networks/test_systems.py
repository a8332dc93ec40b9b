"""What papers and reports list of their networks: weights, orders of layers, and how open points are read."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.images import draws, noise
from zssr_gan.networks.autoencoder import Autoencoder, AutoencoderOptions
from zssr_gan.networks.dcgan import DCGANDiscriminator, DCGANDiscriminatorOptions, DCGANGenerator, DCGANOptions
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions
from zssr_gan.networks.srcnn import SRCNN, SRCNNOptions
from zssr_gan.networks.srgan import SRGANDiscriminatorOptions, SRGANGeneratorOptions


def rrdb(**options: Any) -> ESRGAN:
    return ESRGAN(ESRGANOptions(**{"width": 6, "growth": 4, "blocks": 2, **options}), draws())


class TestESRGAN:
    def test_the_papers_size(self) -> None:
        """16.7 million weights, as the authors' code has."""
        with torch.device("meta"):
            network = ESRGAN(ESRGANOptions())
        assert sum(weight.numel() for weight in network.parameters()) == 16_697_987
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())

    def test_a_block_by_hand(self) -> None:
        """Equations of the paper's figures 3 and 4, of one RRDB."""
        network = rrdb(blocks=1)
        block, x = network.body[0], noise(1, 6, 5, 5)
        y = x
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            seen = [y]
            for convolution in (dense.conv1, dense.conv2, dense.conv3, dense.conv4):
                seen.append(F.leaky_relu(convolution(torch.cat(seen, 1)), 0.2))
            y = y + 0.2 * dense.conv5(torch.cat(seen, 1))
        assert torch.allclose(block(x), x + 0.2 * y, atol=1e-6)

    def test_unshuffled_borders_are_made_up_and_cut_off(self) -> None:
        """An image that lacks a row and a column of a whole square, and the same with its last ones repeated."""
        network, x = rrdb(scale=2, unshuffle=2), noise(1, 3, 7, 9)
        whole = F.pad(x, (0, 1, 0, 1), mode="replicate")
        assert torch.equal(network(x), network(whole)[..., :14, :18])


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
    ("kind", "options", "words"),
    [
        (SRCNNOptions, {"scale": 1}, "scale is 2, 3 or 4, not 1"),
        (SRCNNOptions, {"channels": 2}, r"channels is 1 \(gray\) or 3 \(RGB\), not 2"),
        (SRCNNOptions, {"width": 0}, "width is at least 1, not 0"),
        (AutoencoderOptions, {"scale": 4}, "scale is 1 or 2, not 4"),
        (AutoencoderOptions, {"activation": "relu"}, "activation is sigmoid or tanh, not relu"),
        (DCGANOptions, {"blocks": 1}, "blocks is at least 2 for a scale of 4"),
        (DCGANDiscriminatorOptions, {"head": "patch"}, "head is flatten or adaptive"),
        (ESRGANOptions, {"unshuffle": 3}, "unshuffle is 1, 2 or 4"),
        (SRGANGeneratorOptions, {"scale": 3}, "scale is 1, 2, 4 or 8, not 3"),
        (SRGANGeneratorOptions, {"skip_probability": 1}, r"skip_probability is in \[0, 1\)"),
        (SRGANGeneratorOptions, {"norm_momentum": 0.0}, "norm_momentum"),
        (SRGANGeneratorOptions, {"input": "imagenet", "channels": 1}, "imagenet where channels is 3"),
        (SRGANGeneratorOptions, {"expansion": 2, "upsampling": "pixel_shuffle"}, "expansion"),
        (SRGANDiscriminatorOptions, {"strided_kernel": 5}, "strided_kernel is 3 or 4"),
        (SRGANDiscriminatorOptions, {"strided_kernel": 4, "size": 8}, "size is at least 16"),
    ],
)
def test_impossible_options(kind: type, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**options)
