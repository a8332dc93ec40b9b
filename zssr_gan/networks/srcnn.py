"""The SRCNN of Islam, Steiner, Maheshwari and Subianto's project report ("Super Resolution"): eleven convolutions.

As in Dong et al. (2014), the image is enlarged by bicubic interpolation first and then mended; the network is deeper.
The report's pairs have one size, since its small images were enlarged again; here the network does that itself, so that
it takes LR images as all generators do.

Shapes: B images, C channels, H W rows and columns, s the scale.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import GeneratorNetwork, Options, convolution, draw_first_weights


@dataclass(frozen=True, slots=True)
class SRCNNOptions(Options):
    """What the network is made of. The defaults are the report's."""

    scale: int = 2
    """Factor per side of the bicubic enlargement: 2, 3 or 4."""
    channels: int = 3
    """1 (gray) or 3 (RGB, the report's)."""
    width: int = 64
    """Channels of the first two layers and the last but one; the others have twice and four times as many."""

    choices: ClassVar = {"scale": (2, 3, 4)}


class SRCNN(GeneratorNetwork):
    """Enlarges LR images: `B C H W` in [0, 1] to `B C sH sW` in (0, 1). Any size.

    Layers are named by the report's numbers; what goes into layer 7 is added to what comes out of layer 8.
    """

    kind: ClassVar[str] = "srcnn"
    options_kind: ClassVar[type] = SRCNNOptions
    options: SRCNNOptions

    def __init__(self, options: SRCNNOptions, draws: torch.Generator | None = None) -> None:
        super().__init__(options, _receptive_field(options.scale))
        w, channels = options.width, options.channels
        self.layer1, self.layer2 = _layer(channels, w, 9, nn.ReLU()), _layer(w, w, 5, nn.ReLU())
        self.layer3 = _layer(w, 2 * w, 3, nn.ReLU(), nn.BatchNorm2d(2 * w))
        self.layer4 = _layer(2 * w, 2 * w, 3, nn.Sigmoid())
        self.layer5 = _layer(2 * w, 4 * w, 3, nn.ReLU(), nn.BatchNorm2d(4 * w))
        self.layer6 = _layer(4 * w, 4 * w, 3, nn.Sigmoid())
        self.layer7, self.layer8 = _layer(4 * w, 4 * w, 3, nn.ReLU()), _layer(4 * w, 4 * w, 3, nn.Sigmoid())
        self.layer9, self.layer10 = _layer(4 * w, 2 * w, 3, nn.ReLU()), _layer(2 * w, w, 3, nn.Sigmoid())
        self.output = _layer(w, channels, 5, nn.Sigmoid())
        draw_first_weights(self, draws)

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """See `GeneratorNetwork`."""
        size = [side * self.options.scale for side in x_BCHW.shape[-2:]]
        y = F.interpolate(x_BCHW, size=size, mode="bicubic", antialias=True)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5, self.layer6):
            y = layer(y)
        y = y + self.layer8(self.layer7(y))
        out: Tensor = self.output(self.layer10(self.layer9(y)))
        return out


def _layer(inputs: int, outputs: int, kernel: int, *after: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs, kernel), *after)


def _receptive_field(scale: int) -> int:
    reach = 4 + 2 + 8 * 1 + 2  # pixels of the enlarged image that all layers look beyond their own one
    # Bicubic takes four LR pixels; the outermost output at an LR pixel's place looks furthest.
    return 1 - 2 * (math.floor((0.5 - reach) / scale - 0.5) - 1)
