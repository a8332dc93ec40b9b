"""LPIPS (Zhang et al. 2018, version 0.1): how far apart two images look, learnt from people's choices."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.networks.alexnet import AlexNet
from zssr_gan.networks.vgg import VGG, VGGOptions

Net = Literal["alexnet", "vgg16"]
"""The authors' default, and the one that they advise as a loss."""
VGG16_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
_WIDTHS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}
_SMALL = 1e-10  # as the reference


class LPIPS:
    """d = sum_l mean_hw w_l . (phi_l(x) - phi_l(y))^2, each place's features scaled to length 1. Lower is closer.

    Args:
        net: whose features; after the ReLU, of AlexNet's five convolutions or of the last in each of VGG16's stages.
        weights: the network's by torchvision's names, and w_l as `lin.0` ... `lin.4`, one number a channel.

    Raises:
        WeightsError: one of them is missing or has another shape.
    """

    def __init__(self, net: Net, weights: Mapping[str, Tensor]) -> None:
        self.network = AlexNet(weights) if net == "alexnet" else VGG(VGGOptions("vgg16", VGG16_LAYERS), weights)
        self.scales = {}
        for number, (layer, width) in enumerate(zip(self.network.layers, _WIDTHS[net], strict=True)):
            scale = weights.get(f"lin.{number}")
            if scale is None or tuple(scale.shape) != (width,):
                raise WeightsError(f"these are no weights of LPIPS: lin.{number} ({layer}) must hold {width} numbers.")
            self.scales[layer] = scale

    @torch.no_grad()
    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """d of `B C H W` and `B C H W`, [0, 1]: B values. ImageError where images are smaller than the network takes
        (31 pixels a side, or 16)."""
        found, wanted = self.network(one), self.network(other)
        distances = []
        for layer, scale in self.scales.items():
            apart = (_directions(found[layer]) - _directions(wanted[layer])).square()
            distances.append((apart * scale[:, None, None]).sum(1).mean((1, 2)))
        return torch.stack(distances).sum(0)


def _directions(features: Tensor) -> Tensor:
    """Each place's features, scaled to length 1."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + _SMALL)
