"""VGG19 and VGG16 (Simonyan and Zisserman 2015) as sources of features: the convolutions, with torchvision's key names.

VGG19 is the seed paper's mediator (Moreira et al.); VGG16 is what LPIPS looks through (Zhang et al. 2018). Neither is
ever trained: gradients reach the input, not the weights.

Shapes: B images, C channels, H W rows and columns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import Facts, FrozenFeatures, take_weights

Network = Literal["vgg16", "vgg19"]

_STAGES = (64, 128, 256, 512, 512)
"""Channels of the five stages; a pooling comes between two."""

_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Of each stage, how many."""

_WIDTHS = {
    network: {f"conv{stage}_{n + 1}": _STAGES[stage - 1] for stage, count in enumerate(counts, 1) for n in range(count)}
    for network, counts in _CONVOLUTIONS.items()
}

LAYERS = {network: tuple(widths) for network, widths in _WIDTHS.items()}
"""Of each network, the convolutions by their usual names, in order."""


@dataclass(frozen=True, slots=True)
class VGGOptions:
    """Which features are wanted, and of which network."""

    network: Network = "vgg19"
    layers: tuple[str, ...] = ("conv5_4",)
    """Names out of `LAYERS[network]`; convolutions behind the deepest of them are not there at all."""
    activated: bool = True
    """After the ReLU (Ledig et al. 2017), or before it (Wang et al. 2018, ESRGAN)."""

    def __post_init__(self) -> None:
        """Refuse networks that are not known here, and layers that they do not have."""
        if self.network not in LAYERS:
            raise ValueError(f"the network is {' or '.join(LAYERS)}, not {self.network!r}")
        there = LAYERS[self.network]
        unknown = [layer for layer in self.layers if layer not in there]
        if unknown or not self.layers:
            told = ", ".join(unknown) or "none given"
            raise ValueError(f"{self.network.upper()} has no such layer ({told}): name some of conv1_1 ... {there[-1]}")

    @property
    def depth(self) -> int:
        """Convolutions that are needed."""
        return max(LAYERS[self.network].index(layer) for layer in self.layers) + 1


class VGG(FrozenFeatures):
    """Features of images `B C H W` in [0, 1], by layer: `B C' H/p W/p`, fractions cut, p = 1, 2, 4, 8, 16.

    Gray images are repeated to three channels. The weights are frozen, and stay so.

    Args:
        options: see `VGGOptions`.
        weights: by torchvision's names (`features.0.weight`, ...); others, such as the classifier's, are ignored.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    def __init__(self, options: VGGOptions, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.options = options
        self.facts = self._facts()
        self.features = nn.ModuleDict()
        for (name, place), (outputs, inputs) in zip(
            _places(options.network).items(), _shapes(options.network), strict=True
        ):
            if len(self.features) < options.depth:
                self.features[str(place)] = convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
                take_weights(convolution, weights, f"features.{place}", options.network, name)
        self.requires_grad_(False)

    def _facts(self) -> Facts:
        """Of the deepest layer asked for."""
        field, jump, pools = 1, 1, 0
        for name in LAYERS[self.options.network][: self.options.depth]:
            if _opens_stage(name):
                field, jump, pools = field + jump, 2 * jump, pools + 1
            field += 2 * jump
        return Facts(
            name=self.options.network.upper(), scale=None, channels=(1, 3), smallest=2**pools, receptive_field=field
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Those that come out."""
        return self.options.layers

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """Features by layer, in float32; ImageError where nothing of an image would be left after the poolings."""
        self.facts.check(x_BCHW)
        y = self.normalised(x_BCHW)
        found: dict[str, Tensor] = {}
        for name, convolution in zip(LAYERS[self.options.network], self.features.values(), strict=False):
            if _opens_stage(name):
                y = F.max_pool2d(y, 2)
            raw = convolution(y)
            y = F.relu(raw)
            if name in self.options.layers:
                found[name] = (y if self.options.activated else raw).float()
        return found


def orthogonal_weights(draws: torch.Generator, network: Network = "vgg19") -> dict[str, Tensor]:
    """Random weights of all of a network's convolutions, by torchvision's names, for machines without the learnt ones.

    Orthogonal (Saxe et al. 2014), and from the second convolution on each filter sums to zero: what comes out of a
    ReLU is positive, and would, through so many layers, become one constant that drowns the differences between
    images. The gain is that which then keeps the values' mean square from layer to layer. Biases are zero.
    """
    weights: dict[str, Tensor] = {}
    for layer, (place, (outputs, inputs)) in enumerate(zip(_places(network).values(), _shapes(network), strict=True)):
        weight = torch.empty(outputs, inputs, 3, 3)
        if layer == 0:
            # More filters than inputs: their columns are orthonormal, and they are shorter than 1.
            nn.init.orthogonal_(weight, math.sqrt(2 * outputs / weight[0].numel()), generator=draws)
        else:
            matrix = torch.randn(weight[0].numel(), outputs, generator=draws)
            filters = torch.linalg.qr(matrix - matrix.mean(0)).Q.T  # within the space of those that sum to zero
            # A ReLU leaves half the mean square of a normal variable, of which 1/pi is the square of its mean.
            weight = (filters * math.sqrt(2 / (1 - 1 / math.pi))).reshape(weight.shape)
        weights[f"features.{place}.weight"] = weight
        weights[f"features.{place}.bias"] = torch.zeros(outputs)
    return weights


def _opens_stage(name: str) -> bool:
    """Whether a pooling comes right before a convolution."""
    return name.endswith("_1") and name != "conv1_1"


def _places(network: Network) -> dict[str, int]:
    """Of each convolution, its number in torchvision's list, where ReLUs and poolings count too."""
    places: dict[str, int] = {}
    place = 0
    for name in LAYERS[network]:
        place += _opens_stage(name)
        places[name] = place
        place += 2
    return places


def _shapes(network: Network) -> list[tuple[int, int]]:
    """(outputs, inputs) of each convolution."""
    widths = list(_WIDTHS[network].values())
    return list(zip(widths, [3, *widths[:-1]], strict=True))


# AlexNet (the narrower one of Krizhevsky 2014) as a source of features, with torchvision's key names.
#
# Frozen, as `vgg.py`. Shapes: B images, C channels, H W rows and columns.


# Of each convolution: its number in torchvision's list, channels out and in, kernel, stride, padding.
_LAYERS = {
    "conv1": (0, 64, 3, 11, 4, 2),
    "conv2": (3, 192, 64, 5, 1, 2),
    "conv3": (6, 384, 192, 3, 1, 1),
    "conv4": (8, 256, 384, 3, 1, 1),
    "conv5": (10, 256, 256, 3, 1, 1),
}

ALEXNET_LAYERS = tuple(_LAYERS)
"""The convolutions, in order."""

_POOLED = ("conv2", "conv3")  # before these comes a pooling, 3x3 with stride 2


class AlexNet(FrozenFeatures):
    """Features of images `B C H W` in [0, 1] after each ReLU, by layer; conv1's are 4 pixels apart, the last's 16.

    Args:
        weights: by torchvision's names (`features.0.weight`, ...); others, such as the classifier's, are ignored.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    facts = Facts(name="ALEXNET", scale=None, channels=(1, 3), smallest=31, receptive_field=163)
    layers = ALEXNET_LAYERS

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.features = nn.ModuleDict()
        for name, (place, outputs, inputs, kernel, stride, padding) in _LAYERS.items():
            self.features[str(place)] = convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding)
            take_weights(convolution, weights, f"features.{place}", "alexnet", name)
        self.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """Features by layer, in float32; ImageError where an image is too small."""
        self.facts.check(x_BCHW)
        y = self.normalised(x_BCHW)
        found: dict[str, Tensor] = {}
        for name, convolution in zip(ALEXNET_LAYERS, self.features.values(), strict=True):
            if name in _POOLED:
                y = F.max_pool2d(y, 3, 2)
            y = F.relu(convolution(y))
            found[name] = y.float()
        return found
