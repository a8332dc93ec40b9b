"""VGG19 and VGG16 (Simonyan and Zisserman 2015) and AlexNet (Krizhevsky 2014) as sources of features.

Convolutions alone, with torchvision's key names. VGG19 is the seed paper's mediator (Moreira et al.); VGG16 and AlexNet
are what LPIPS looks through (Zhang et al. 2018). None is ever trained: gradients reach the input, not the weights.

Shapes: B images, C channels, H W rows and columns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import Facts, ImageNetNormalisation, convolution, load_frozen

Network = Literal["vgg16", "vgg19"]

_WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the five stages; a pooling comes between two."""

_STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions of each stage."""

LAYERS = {
    network: tuple(f"conv{stage}_{n + 1}" for stage, count in enumerate(counts, 1) for n in range(count))
    for network, counts in _STAGES.items()
}
"""Of each network, the convolutions by their usual names, in order."""


@dataclass(frozen=True, slots=True)
class VGGOptions:
    """Which features are wanted, and of which network."""

    network: Network = "vgg19"
    layers: tuple[str, ...] = ("conv5_4",)
    """Names out of `LAYERS[network]`; convolutions behind the deepest of them are not built."""
    activated: bool = True
    """After the ReLU (Ledig et al. 2017), or before it (Wang et al. 2018, ESRGAN)."""

    def __post_init__(self) -> None:
        """Refuse unknown networks, and layers that they do not have."""
        if self.network not in LAYERS:
            raise ValueError(f"the network is {' or '.join(LAYERS)}, not {self.network!r}")
        known = LAYERS[self.network]
        unknown = [layer for layer in self.layers if layer not in known]
        if unknown or not self.layers:
            given = ", ".join(unknown) or "none given"
            raise ValueError(
                f"{self.network.upper()} has no such layer ({given}): name some of conv1_1 ... {known[-1]}"
            )


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution of a VGG."""

    place: int
    """Its number in torchvision's `features`, where ReLUs and poolings count too."""
    inputs: int
    outputs: int
    pooled: bool
    """Whether a pooling comes right before it."""


def _layers(network: Network) -> dict[str, _Layer]:
    layers: dict[str, _Layer] = {}
    place, inputs = 0, 3
    for name in LAYERS[network]:
        pooled = name.endswith("_1") and name != "conv1_1"
        place += pooled
        layers[name] = _Layer(place, inputs, _WIDTHS[int(name[4]) - 1], pooled)
        place, inputs = place + 2, layers[name].outputs
    return layers


class VGG(nn.Module):
    """Features of images `B C H W` in [0, 1], by layer: `B C' H/p W/p`, fractions cut, p = 1, 2, 4, 8, 16.

    Gray images are repeated to three channels. The weights are frozen.

    Args:
        options: see `VGGOptions`.
        weights: by torchvision's names (`features.0.weight`, ...); others, such as the classifier's, are ignored.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    def __init__(self, options: VGGOptions, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.options = options
        depth = max(LAYERS[options.network].index(layer) for layer in options.layers) + 1
        self._layers = dict(list(_layers(options.network).items())[:depth])
        field, jump = 1, 1  # of the deepest layer asked for
        for layer in self._layers.values():
            if layer.pooled:
                field, jump = field + jump, 2 * jump
            field += 2 * jump
        self.facts = Facts(options.network.upper(), None, (1, 3), smallest=jump, receptive_field=field)
        self.normalisation = ImageNetNormalisation()
        with torch.device("meta"):
            self.features = nn.ModuleDict(
                {str(layer.place): convolution(layer.inputs, layer.outputs) for layer in self._layers.values()}
            )
        load_frozen(self, weights, options.network.upper(), f"take torchvision's {options.network}")

    @property
    def layers(self) -> tuple[str, ...]:
        """Those that come out."""
        return self.options.layers

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """Features by layer, in float32; ImageError where nothing of an image would be left after the poolings."""
        self.facts.check(x_BCHW)
        y = self.normalisation(x_BCHW.expand(-1, 3, -1, -1))
        found: dict[str, Tensor] = {}
        for (name, layer), convolve in zip(self._layers.items(), self.features.values(), strict=True):
            raw = convolve(F.max_pool2d(y, 2) if layer.pooled else y)
            y = F.relu(raw)
            if name in self.options.layers:
                found[name] = (y if self.options.activated else raw).float()
        return found


def orthogonal_weights(draws: torch.Generator, network: Network = "vgg19") -> dict[str, Tensor]:
    """Random weights of all convolutions, by torchvision's names, for machines without the published ones.

    Orthogonal (Saxe et al. 2014), and from the second convolution on each filter sums to zero: the outputs of a ReLU
    are positive, and would, through so many layers, become one constant that drowns the differences between images.
    The gain preserves the values' mean square from layer to layer. Biases are zero.
    """
    weights: dict[str, Tensor] = {}
    for layer in _layers(network).values():
        weight = torch.empty(layer.outputs, layer.inputs, 3, 3)
        if layer.place == 0:
            # More filters than inputs: their columns are orthonormal, and they are shorter than 1.
            nn.init.orthogonal_(weight, math.sqrt(2 * layer.outputs / weight[0].numel()), generator=draws)
        else:
            matrix = torch.randn(weight[0].numel(), layer.outputs, generator=draws)
            filters = torch.linalg.qr(matrix - matrix.mean(0)).Q.T  # within the space of those that sum to zero
            # A ReLU leaves half the mean square of a normal variable, of which 1/pi is the square of its mean.
            weight = (filters * math.sqrt(2 / (1 - 1 / math.pi))).reshape(weight.shape)
        weights[f"features.{layer.place}.weight"] = weight
        weights[f"features.{layer.place}.bias"] = torch.zeros(layer.outputs)
    return weights


_ALEXNET = {
    "conv1": (0, 3, 64, 11, 4, 2),
    "conv2": (3, 64, 192, 5, 1, 2),
    "conv3": (6, 192, 384, 3, 1, 1),
    "conv4": (8, 384, 256, 3, 1, 1),
    "conv5": (10, 256, 256, 3, 1, 1),
}
"""Of each convolution: its number in torchvision's `features`, channels in and out, kernel, stride, padding."""


class AlexNet(nn.Module):
    """Features of images `B C H W` in [0, 1] after each ReLU, by layer; conv1's are 4 pixels apart, the last's 16.

    Args:
        weights: by torchvision's names (`features.0.weight`, ...); others, such as the classifier's, are ignored.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    facts = Facts(name="ALEXNET", scale=None, channels=(1, 3), smallest=31, receptive_field=163)
    layers = tuple(_ALEXNET)

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.normalisation = ImageNetNormalisation()
        with torch.device("meta"):
            self.features = nn.ModuleDict(
                {
                    str(place): nn.Conv2d(inputs, outputs, kernel, stride, padding)
                    for place, inputs, outputs, kernel, stride, padding in _ALEXNET.values()
                }
            )
        load_frozen(self, weights, "ALEXNET", "take torchvision's alexnet")

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """Features by layer, in float32; ImageError where an image is too small."""
        self.facts.check(x_BCHW)
        y = self.normalisation(x_BCHW.expand(-1, 3, -1, -1))
        found: dict[str, Tensor] = {}
        for name, convolve in zip(_ALEXNET, self.features.values(), strict=True):
            y = F.relu(convolve(F.max_pool2d(y, 3, 2) if name in ("conv2", "conv3") else y))
            found[name] = y.float()
        return found
