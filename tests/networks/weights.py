"""Random weights in the shapes of published ones."""

import functools
import math

import torch
from torch import Tensor

from zssr_gan.networks.esrgan import ESRGAN
from zssr_gan.networks.inception import InceptionLayers
from zssr_gan.networks.vgg import Network, orthogonal_weights

ALEXNET = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
"""Of torchvision's file: number in `features`, shape of the weights."""


def alexnet_weights(draws: torch.Generator) -> dict[str, Tensor]:
    """He's deviation, and biases that are not zero."""
    found = {}
    for place, shape in ALEXNET.items():
        weight = torch.randn(shape, generator=draws)
        found[f"features.{place}.weight"] = weight * (2 / weight[0].numel()) ** 0.5
        found[f"features.{place}.bias"] = 0.1 * torch.randn(shape[0], generator=draws)
    return found


@functools.cache
def vgg_weights(network: Network = "vgg19") -> dict[str, Tensor]:
    """Random ones, made once: they take seconds."""
    return orthogonal_weights(torch.Generator().manual_seed(0), network)


@functools.cache
def cached_inception_weights() -> dict[str, Tensor]:
    """Random ones, made once."""
    return inception_weights(torch.Generator().manual_seed(0))


def inception_weights(draws: torch.Generator) -> dict[str, Tensor]:
    """He's deviation, and normalisations that are not the identity."""
    found = {}
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in InceptionLayers().state_dict().items()}
    for name, shape in shapes.items():
        if name.endswith("conv.weight"):
            found[name] = torch.randn(shape, generator=draws) * (2 / math.prod(shape[1:])) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            found[name] = 0.75 + 0.5 * torch.rand(shape, generator=draws)
        else:
            found[name] = 0.1 * torch.randn(shape, generator=draws)
    return found


NAMINGS = ("BasicSR", "ESRGAN", "ESRGAN, older")
"""Families of names for the weights of ESRGAN's generator."""


def esrgan_weights(network: ESRGAN, naming: str) -> dict[str, Tensor]:
    """A generator's weights as a file of such a family has them."""
    doublings, blocks = network.options.doublings, network.options.blocks
    places = [0, *(3 * (n + 1) for n in range(doublings)), 3 * doublings + 2, 3 * doublings + 4]
    ours = ["conv_first", *(f"conv_up{n + 1}" for n in range(doublings)), "conv_hr", "conv_last"]
    named = {
        "BasicSR": lambda name: name,
        "ESRGAN": lambda name: {
            **{"conv_first": "conv_first", "conv_body": "trunk_conv", "conv_hr": "HRconv", "conv_last": "conv_last"},
            **{f"conv_up{n}": f"upconv{n}" for n in range(1, 4)},
        }.get(name, name.replace("body.", "RRDB_trunk.").replace("rdb", "RDB")),
        "ESRGAN, older": lambda name: {
            "conv_body": f"model.1.sub.{blocks}",
            **{mine: f"model.{place}" for mine, place in zip(ours, places, strict=True)},
        }.get(name, f"{name.replace('body.', 'model.1.sub.').replace('rdb', 'RDB')}.0"),
    }[naming]
    found = {}
    for key, weight in network.state_dict().items():
        name, _, parameter = key.rpartition(".")
        found[f"{named(name)}.{parameter}"] = weight.clone()
    return found
