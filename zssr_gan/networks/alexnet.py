"""AlexNet (the narrower one of Krizhevsky 2014) as a source of features, with torchvision's key names.

Frozen, as `vgg.py`. Shapes: B images, C channels, H W rows and columns.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.facts import Facts
from zssr_gan.networks.frozen import FrozenFeatures, take_weights

# Of each convolution: its number in torchvision's list, channels out and in, kernel, stride, padding.
_LAYERS = {
    "conv1": (0, 64, 3, 11, 4, 2),
    "conv2": (3, 192, 64, 5, 1, 2),
    "conv3": (6, 384, 192, 3, 1, 1),
    "conv4": (8, 256, 384, 3, 1, 1),
    "conv5": (10, 256, 256, 3, 1, 1),
}
LAYERS = tuple(_LAYERS)
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
    layers = LAYERS

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
        for name, convolution in zip(LAYERS, self.features.values(), strict=True):
            if name in _POOLED:
                y = F.max_pool2d(y, 3, 2)
            y = F.relu(convolution(y))
            found[name] = y.float()
        return found
