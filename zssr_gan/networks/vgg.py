"""VGG19 (Simonyan and Zisserman 2015) as a source of features: its 16 convolutions, with torchvision's key names.

As a mediator (Moreira et al.) and in evaluation it is never trained: gradients reach its input, not its weights.

Shapes: B images, C channels, H W rows and columns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.errors import WeightsError
from zssr_gan.networks.facts import Facts

_WIDTHS = {
    **{f"conv1_{n}": 64 for n in (1, 2)},
    **{f"conv2_{n}": 128 for n in (1, 2)},
    **{f"conv3_{n}": 256 for n in (1, 2, 3, 4)},
    **{f"conv4_{n}": 512 for n in (1, 2, 3, 4)},
    **{f"conv5_{n}": 512 for n in (1, 2, 3, 4)},
}
LAYERS = tuple(_WIDTHS)
"""The convolutions by their usual names, in order."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, R G B, [0, 1]."""


@dataclass(frozen=True, slots=True)
class VGG19Options:
    """Which features are wanted."""

    layers: tuple[str, ...] = ("conv5_4",)
    """Names out of `LAYERS`; convolutions behind the deepest of them are not there at all."""
    activated: bool = True
    """After the ReLU (Ledig et al. 2017), or before it (Wang et al. 2018, ESRGAN)."""

    def __post_init__(self) -> None:
        """Refuse layers that VGG19 does not have."""
        unknown = [layer for layer in self.layers if layer not in LAYERS]
        if unknown or not self.layers:
            told = ", ".join(unknown) or "none given"
            raise ValueError(f"VGG19 has no such layer ({told}): name some of conv1_1 ... conv5_4")

    @property
    def depth(self) -> int:
        """Convolutions that are needed."""
        return max(LAYERS.index(layer) for layer in self.layers) + 1


class VGG19(nn.Module):
    """Features of images `B C H W` in [0, 1], by layer: `B C' H/p W/p`, fractions cut, p = 1, 2, 4, 8, 16.

    Gray images are repeated to three channels. The weights are frozen, and stay so.

    Args:
        options: see `VGG19Options`.
        weights: by torchvision's names (`features.0.weight`, ...); others, such as the classifier's, are ignored.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, options: VGG19Options, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.options = options
        self.facts = self._facts()
        self.features = nn.ModuleDict()
        for (name, place), (outputs, inputs) in zip(_places().items(), _shapes(), strict=True):
            if len(self.features) < options.depth:
                self.features[str(place)] = convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
                for kind in ("weight", "bias"):
                    _take(getattr(convolution, kind), weights, f"features.{place}.{kind}", name)
        # Not of the weights: torchvision's files do not have them.
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def _facts(self) -> Facts:
        """Of the deepest layer asked for."""
        field, jump, pools = 1, 1, 0
        for name in LAYERS[: self.options.depth]:
            if _opens_stage(name):
                field, jump, pools = field + jump, 2 * jump, pools + 1
            field += 2 * jump
        return Facts(name="VGG19", scale=None, channels=(1, 3), smallest=2**pools, receptive_field=field)

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """Features by layer, in float32; ImageError where nothing of an image would be left after the poolings."""
        self.facts.check(x_BCHW)
        y = (x_BCHW.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        found: dict[str, Tensor] = {}
        for name, convolution in zip(LAYERS, self.features.values(), strict=False):
            if _opens_stage(name):
                y = F.max_pool2d(y, 2)
            raw = convolution(y)
            y = F.relu(raw)
            if name in self.options.layers:
                found[name] = (y if self.options.activated else raw).float()
        return found


def orthogonal_weights(draws: torch.Generator) -> dict[str, Tensor]:
    """Random weights of all 16 convolutions, by torchvision's names, for machines without the learnt ones.

    Orthogonal (Saxe et al. 2014), and from the second convolution on each filter sums to zero: what comes out of a
    ReLU is positive, and would, through sixteen layers, become one constant that drowns the differences between
    images. The gain is that which then keeps the values' mean square from layer to layer. Biases are zero.
    """
    weights: dict[str, Tensor] = {}
    for layer, (place, (outputs, inputs)) in enumerate(zip(_places().values(), _shapes(), strict=True)):
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


def _places() -> dict[str, int]:
    """Of each convolution, its number in torchvision's list, where ReLUs and poolings count too."""
    places: dict[str, int] = {}
    place = 0
    for name in LAYERS:
        place += _opens_stage(name)
        places[name] = place
        place += 2
    return places


def _shapes() -> list[tuple[int, int]]:
    """(outputs, inputs) of each convolution."""
    widths = list(_WIDTHS.values())
    return list(zip(widths, [3, *widths[:-1]], strict=True))


def _take(target: Tensor, weights: Mapping[str, Tensor], key: str, name: str) -> None:
    given = weights.get(key)
    if given is None:
        raise WeightsError(f"these are no weights of VGG19: {key} ({name}) is missing; take torchvision's vgg19.")
    if given.shape != target.shape:
        told, wanted = ("x".join(map(str, shape)) for shape in (given.shape, target.shape))
        raise WeightsError(f"these are no weights of VGG19: {key} ({name}) is {told}, not {wanted}.")
    with torch.no_grad():
        target.copy_(given)
