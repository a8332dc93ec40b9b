"""Every network holds to the facts that it declares: scale, channels, sizes, how far it looks."""

import copy
import functools
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.images import draws, noise
from tests.networks.weights import alexnet_weights, cached_inception_weights, vgg_weights
from zssr_gan.errors import ImageError
from zssr_gan.networks.autoencoder import Autoencoder, AutoencoderOptions
from zssr_gan.networks.base import Facts, Network
from zssr_gan.networks.dcgan import DCGANDiscriminator, DCGANDiscriminatorOptions, DCGANGenerator, DCGANOptions
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions
from zssr_gan.networks.inception import Inception
from zssr_gan.networks.registry import DISCRIMINATORS, GENERATORS
from zssr_gan.networks.srcnn import SRCNN, SRCNNOptions
from zssr_gan.networks.srgan import SRGANDiscriminator, SRGANDiscriminatorOptions, SRGANGenerator, SRGANGeneratorOptions
from zssr_gan.networks.vgg import VGG, AlexNet, VGGOptions
from zssr_gan.networks.zssr import ZSSR
from zssr_gan.settings.zeroshot import ZSSRSettings


def zssr(factor: tuple[int, int], channels: int = 3, **options: object) -> Callable[[], nn.Module]:
    return lambda: ZSSR(ZSSRSettings(width=4, initial="lecun", **options), channels, factor, [draws()])  # type: ignore[arg-type]


def vgg(*layers: str, network: Literal["vgg16", "vgg19"] = "vgg19") -> Callable[[], nn.Module]:
    return lambda: VGG(VGGOptions(network, layers), vgg_weights(network))


def maker(kind: Any, options: type, **defaults: object) -> Callable[..., Callable[[], nn.Module]]:
    return lambda **changes: lambda: kind(options(**{**defaults, **changes}), draws())


generator = maker(SRGANGenerator, SRGANGeneratorOptions, width=4, blocks=2)
discriminator = maker(SRGANDiscriminator, SRGANDiscriminatorOptions, width=4, hidden=8)
esrgan = maker(ESRGAN, ESRGANOptions, width=3, growth=2, blocks=1)
srcnn = maker(SRCNN, SRCNNOptions, width=2)
autoencoder = maker(Autoencoder, AutoencoderOptions, width=4, code_size=8)
dcgan = maker(DCGANGenerator, DCGANOptions, width=4)
dcgan_discriminator = maker(DCGANDiscriminator, DCGANDiscriminatorOptions, width=2, hidden=4)

# A new network comes with its kinds; each is small, since what it declares does not depend on its width.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "zssr, interpolated": zssr((1, 1), depth=3),
    "zssr, lr x2": zssr((2, 2), depth=2, grid="lr"),
    "zssr, lr x(3, 2), gray": zssr((3, 2), 1, depth=4, grid="lr", residual=True),
    "generator": generator(),
    "generator, the paper's depth": generator(blocks=16, width=2),
    "generator x1": generator(scale=1),
    "generator x4, gray": generator(scale=4, channels=1),
    "generator x8, shuffled": generator(scale=8, upsampling="pixel_shuffle", blocks=0),
    "generator, residual, no norm": generator(residual=True, norm=False),
    "generator x4, as Arain et al.'s": generator(scale=4, expansion=4),
    "generator x4, as Tariq's": generator(scale=4, activation="relu", input="imagenet", output="tanh"),
    "esrgan": esrgan(),
    "esrgan x1, gray": esrgan(scale=1, channels=1),
    "esrgan x2": esrgan(scale=2, blocks=2),
    "esrgan x2, unshuffled": esrgan(scale=2, unshuffle=2),
    "esrgan x1, unshuffled": esrgan(scale=1, unshuffle=4, blocks=0),
    "srcnn x2": srcnn(),
    "srcnn x3, gray": srcnn(scale=3, channels=1),
    "srcnn x4": srcnn(scale=4),
    "autoencoder": autoencoder(),
    "autoencoder x2, gray": autoencoder(scale=2, channels=1, activation="tanh"),
    "dcgan": dcgan(),
    "dcgan x1, gray": dcgan(scale=1, channels=1, blocks=2, width=8),
    "dcgan x2": dcgan(scale=2),
    "dcgan x8": dcgan(scale=8, blocks=3),
    "dcgan's discriminator": dcgan_discriminator(),
    "dcgan's discriminator of 33 px": dcgan_discriminator(size=33),
    "dcgan's discriminator, any size, gray": dcgan_discriminator(head="adaptive", channels=1),
    "discriminator": discriminator(),
    "discriminator, as Wang et al.'s": discriminator(blocks=10, size=128, strided_kernel=4, norm="before"),
    "discriminator, strided by 4, patches": discriminator(head="patch", blocks=5, strided_kernel=4),
    "discriminator of 17 px": discriminator(size=17, norm="before", norm_first=False),
    "discriminator, any size, gray": discriminator(head="adaptive", channels=1, norm="none"),
    "discriminator, patches": discriminator(head="patch", norm="before"),
    "discriminator, small patches": discriminator(head="patch", blocks=3),
    "vgg19 conv1_2": vgg("conv1_2"),
    "vgg19 conv3_1": vgg("conv1_1", "conv3_1"),
    "alexnet": lambda: AlexNet(alexnet_weights(draws())),
    "inception": lambda: Inception(cached_inception_weights()),
    "vgg16 conv4_3": vgg("conv4_3", network="vgg16"),
    "vgg19 conv4_4": vgg("conv4_4"),
}
networks = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def built(name: str) -> nn.Module:
    """Built once for all tests, since random weights of the deep ones take seconds."""
    return NETWORKS[name]().eval()


def build(name: str) -> tuple[nn.Module, Facts]:
    network = copy.deepcopy(built(name))
    declared: Network = network  # type: ignore[assignment]
    return network, declared.facts


def image(channels: int, rows: int, columns: int) -> Tensor:
    return noise(2, channels, rows, columns)


def run(network: nn.Module, x: Tensor) -> Tensor:
    """The output; of several layers, the deepest; of one member of a fleet."""
    out = network(x[None])[0] if isinstance(network, ZSSR) else network(x)
    return list(out.values())[-1] if isinstance(out, dict) else out


def sizes(facts: Facts) -> list[tuple[int, int]]:
    if facts.largest is not None:
        return [(facts.largest, facts.largest)]
    least = facts.smallest
    return [(least, least), (least, least + 6), (least + 9, max(least, 21))]


def test_every_network_is_here() -> None:
    held = {type(built(name)) for name in NETWORKS}
    assert held == {*GENERATORS.values(), *DISCRIMINATORS.values(), ZSSR, VGG, AlexNet, Inception}


@networks
def test_sizes_and_channels(name: str) -> None:
    network, facts = build(name)
    # Each number of channels, and each size.
    some = [(channels, sizes(facts)[0]) for channels in facts.channels]
    for channels, (rows, columns) in [*some, *((facts.channels[-1], size) for size in sizes(facts)[1:])]:
        with torch.no_grad():
            out = run(network, image(channels, rows, columns))
        assert out.dtype == torch.float32
        assert out.isfinite().all()
        assert len(out) == 2
        if facts.scale is not None:
            assert out.shape[1:] == (channels, rows * facts.scale[0], columns * facts.scale[1])


@networks
def test_what_does_not_fit_is_refused_in_one_sentence(name: str) -> None:
    network, facts = build(name)
    side = max(facts.smallest, 21) if facts.largest is None else facts.largest
    (channels, *_) = facts.channels
    wrong = [image(2, side, side), image(channels, facts.smallest - 1, side), image(channels, side, 0)]
    if facts.largest is not None:
        wrong += [image(channels, facts.largest + 1, side), image(channels, side, facts.largest + 1)]
    for x in wrong:
        with pytest.raises(ImageError) as refusal:
            run(network, x)
        assert str(refusal.value).startswith(f"the {facts.name} takes images of ")
        assert str(refusal.value).count(".") == 1


@networks
def test_receptive_field(name: str) -> None:
    """Measured by gradients, at the place in the middle: as far as declared, and no further."""
    network, facts = build(name)
    network.double()
    field = facts.receptive_field
    side = facts.largest or (48 if field is None else field + 28)
    x = image(facts.channels[-1], side, side)[:1].double().requires_grad_()
    out = run(network, x)
    down, across = (1, 1) if facts.scale is None else facts.scale
    reached = 0
    extents: list[int] = []
    for place in range(side // 2, side // 2 + facts.grid):
        if out.dim() == 2:  # a logit of the whole image
            seen = out
        else:
            row, column = (place, place) if facts.scale else (out.shape[-2] // 2, out.shape[-1] // 2)
            seen = out[:, :, row * down : (row + 1) * down, column * across : (column + 1) * across]
        (gradient,) = torch.autograd.grad(seen.square().sum(), x, retain_graph=True)
        looked_at = gradient[0].abs().sum(0) > 0
        for axis in (0, 1):
            places = looked_at.any(1 - axis).nonzero()[:, 0]
            first, last = int(places[0]), int(places[-1])
            extents.append(last - first + 1)
            reached = max(reached, place - first, last - place)
    if facts.grid > 1:
        # Of a square that is worked on as a whole, one place looks further than another.
        assert 2 * reached + 1 == field
    else:
        assert set(extents) == {side if field is None else field}


@networks
def test_gradients_reach_the_input_and_every_weight_that_learns(name: str) -> None:
    network, facts = build(name)
    side = facts.largest or max(facts.smallest, 9)
    x = image(facts.channels[-1], side, side).requires_grad_()
    out = run(network.train(), x)
    (out * noise(*out.shape)).sum().backward()
    learning = {own: weight for own, weight in network.named_parameters() if weight.requires_grad}
    for own, weight in {**learning, "input": x}.items():
        assert weight.grad is not None, own
        assert weight.grad.isfinite().all(), own
        # A bias before a normalisation has no gradient but rounding.
        assert own.endswith("bias") or weight.grad.abs().max() > 1e-7, own


def test_facts_alone() -> None:
    with pytest.raises(ImageError, match="takes images of 9 pixels a side or fewer, not 10x5"):
        Facts("network", None, (3,), smallest=4, receptive_field=None, largest=9).check(torch.zeros(1, 3, 5, 10))
    with pytest.raises(ValueError, match="whole image"):
        _ = Facts("network", None, (3,), smallest=4, receptive_field=None).radius
    assert Facts("network", (2, 2), (3,), smallest=1, receptive_field=81).radius == 40
