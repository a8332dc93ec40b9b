"""LPIPS (Zhang et al. 2018, version 0.1) through VGG16: how far apart two images look, learnt from people."""

from collections.abc import Mapping

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.networks.vgg import VGG, VGGOptions

LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
"""The last convolutions of VGG16's stages, after the ReLU."""
_SMALL = 1e-10  # as the reference


class LPIPS:
    """d = sum_l mean_hw w_l . (phi_l(x) - phi_l(y))^2, each place's features scaled to length 1. Lower is closer.

    Args:
        weights: VGG16's by torchvision's names, and w_l as `lin.0` ... `lin.4`, one number a channel.

    Raises:
        WeightsError: one of them is missing or has another shape.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.network = VGG(VGGOptions("vgg16", LAYERS), weights)
        self.scales = {}
        for number, layer in enumerate(LAYERS):
            scale, width = weights.get(f"lin.{number}"), (64, 128, 256, 512, 512)[number]
            if scale is None or tuple(scale.shape) != (width,):
                raise WeightsError(f"these are no weights of LPIPS: lin.{number} ({layer}) must hold {width} numbers.")
            self.scales[layer] = scale

    @torch.no_grad()
    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """d of `B C H W` and `B C H W`, [0, 1], at least 16 pixels a side: B values."""
        found, wanted = self.network(one), self.network(other)
        distances = []
        for layer, scale in self.scales.items():
            apart = (_directions(found[layer]) - _directions(wanted[layer])).square()
            distances.append((apart * scale[:, None, None]).sum(1).mean((1, 2)))
        return torch.stack(distances).sum(0)


def _directions(features: Tensor) -> Tensor:
    """Each place's features, scaled to length 1."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + _SMALL)
