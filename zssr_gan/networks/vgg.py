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

from zssr_gan.networks.base import Facts, ImageNetNormalisation, load_frozen

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
    """A convolution with a ReLU behind it."""

    place: int
    """Its number in torchvision's `features`, where ReLUs and poolings count too."""
    inputs: int
    outputs: int
    pool: int = 0
    """Side of the pooling (stride 2) right before it; 0: none."""
    kernel: int = 3
    stride: int = 1
    padding: int = 1


def _layers(network: Network) -> dict[str, _Layer]:
    layers: dict[str, _Layer] = {}
    place, inputs = 0, 3
    for name in LAYERS[network]:
        pool = 2 if name.endswith("_1") and name != "conv1_1" else 0
        place += bool(pool)
        layers[name] = _Layer(place, inputs, _WIDTHS[int(name[4]) - 1], pool)
        place, inputs = place + 2, layers[name].outputs
    return layers


class _Features(nn.Module):
    """Features of images `B C H W` in [0, 1] by layer; gray ones are repeated to three channels. Weights are frozen.

    Args:
        name: torchvision's.
        chain: the convolutions by name.
        layers: those that come out.
        activated: after the ReLU, or before it.
        smallest: see `Facts`; None: of which the poolings leave one place.
        weights: by torchvision's names (`features.0.weight`, ...); others, such as the classifier's, are ignored.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    def __init__(
        self,
        name: str,
        chain: Mapping[str, _Layer],
        layers: tuple[str, ...],
        activated: bool,
        smallest: int | None,
        weights: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.layers, self.activated, self._chain = layers, activated, chain
        field, jump = 1, 1  # of the deepest layer
        for layer in chain.values():
            if layer.pool:
                field, jump = field + (layer.pool - 1) * jump, 2 * jump
            field, jump = field + (layer.kernel - 1) * jump, layer.stride * jump
        self.facts = Facts(name.upper(), None, (1, 3), smallest=smallest or jump, receptive_field=field)
        self.normalisation = ImageNetNormalisation()
        with torch.device("meta"):
            self.features = nn.ModuleDict(
                {
                    str(one.place): nn.Conv2d(one.inputs, one.outputs, one.kernel, one.stride, one.padding)
                    for one in chain.values()
                }
            )
        load_frozen(self, weights, name.upper(), f"take torchvision's {name}")

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """Features by layer, in float32; ImageError where nothing of an image would be left after the poolings."""
        self.facts.check(x_BCHW)
        y = self.normalisation(x_BCHW.expand(-1, 3, -1, -1))
        found: dict[str, Tensor] = {}
        for (name, layer), convolve in zip(self._chain.items(), self.features.values(), strict=True):
            raw = convolve(F.max_pool2d(y, layer.pool, 2) if layer.pool else y)
            y = F.relu(raw)
            if name in self.layers:
                found[name] = (y if self.activated else raw).float()
        return found


class VGG(_Features):
    """VGG16 or VGG19 up to the deepest layer asked for: `B C' H/p W/p`, fractions cut, p = 1, 2, 4, 8, 16."""

    def __init__(self, options: VGGOptions, weights: Mapping[str, Tensor]) -> None:
        depth = max(LAYERS[options.network].index(layer) for layer in options.layers) + 1
        chain = dict(list(_layers(options.network).items())[:depth])
        super().__init__(options.network, chain, options.layers, options.activated, None, weights)


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
    "conv1": _Layer(0, 3, 64, kernel=11, stride=4, padding=2),
    "conv2": _Layer(3, 64, 192, pool=3, kernel=5, padding=2),
    "conv3": _Layer(6, 192, 384, pool=3),
    "conv4": _Layer(8, 384, 256),
    "conv5": _Layer(10, 256, 256),
}


class AlexNet(_Features):
    """AlexNet's features after each ReLU; conv1's are 4 pixels apart, the last's 16."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__("alexnet", _ALEXNET, tuple(_ALEXNET), True, 31, weights)
