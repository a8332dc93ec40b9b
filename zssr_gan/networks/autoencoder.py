"""Convolutional autoencoder of Arain, Imran, Farooqui and Rehman ("Resolution Enhancement of Low-Quality Images").

The encoder's convolutions of 64, 128 and 256 channels halve the size each, and the decoder mirrors them by transposed
ones. The report gives a `code_size` of 128 or 256 and does not say of what: we read it as the channels of the code, at
an eighth of the size. Were it the width of a dense layer, images could have one size alone.

Shapes: B images, C channels, H W rows and columns, s the scale.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import GeneratorNetwork, Options, convolution, draw_first_weights

_HALVINGS = 3

_GRID = 2**_HALVINGS  # pixels that become one place of the code


@dataclass(frozen=True, slots=True)
class AutoencoderOptions(Options):
    """What an autoencoder is made of. The defaults are the report's."""

    scale: int = 1
    """Factor per side. 1: the image enhanced at its own size. 2: followed by another transposed convolution, which
    doubles the size; the report does not say how its x2 is made."""
    channels: int = 3
    """1 (gray) or 3 (RGB)."""
    code_size: int = 128
    """Channels of the code (the report: 128 or 256)."""
    width: int = 64
    """Channels of the first convolution; each of the two after it has twice as many."""
    activation: Literal["sigmoid", "tanh"] = "sigmoid"
    """Of the output; tanh is moved from [-1, 1] to [0, 1]."""

    choices: ClassVar = {"scale": (1, 2)}


class Autoencoder(GeneratorNetwork):
    """Enhances images: `B C H W` in [0, 1] to `B C sH sW` in (0, 1).

    Any size: rows and columns that are missing from a multiple of eight are made up by repeating the last ones, and
    what comes of them is cut off again.
    """

    kind: ClassVar[str] = "autoencoder"
    options_kind: ClassVar[type] = AutoencoderOptions
    options: AutoencoderOptions

    def __init__(self, options: AutoencoderOptions, draws: torch.Generator | None = None) -> None:
        super().__init__(options, _receptive_field(options.scale), _GRID)
        widths = [options.width * 2**n for n in range(_HALVINGS)]
        encoder: list[nn.Module] = []
        for inputs, outputs in zip([options.channels, *widths[:-1]], widths, strict=True):
            encoder += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*encoder, convolution(widths[-1], options.code_size), nn.ReLU())
        back = [options.code_size, *reversed(widths), *widths[: options.scale - 1]]
        decoder: list[nn.Module] = []
        for inputs, outputs in pairwise(back):
            # Its kernel is a multiple of its stride: else pixels get unlike numbers of contributions, a checkerboard.
            decoder += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
        self.decoder = nn.Sequential(*decoder, convolution(back[-1], options.channels))
        draw_first_weights(self, draws)

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """See `GeneratorNetwork`."""
        rows, columns = x_BCHW.shape[-2:]
        padded = F.pad(x_BCHW * 2 - 1, (0, -columns % _GRID, 0, -rows % _GRID), mode="replicate")
        out: Tensor = self.decoder(self.encoder(padded))
        s, out = self.options.scale, out.float()
        out = out.sigmoid() if self.options.activation == "sigmoid" else out.tanh() * 0.5 + 0.5
        return out[..., : s * rows, : s * columns]


def _receptive_field(scale: int) -> int:
    reach = 0
    for place in range(_GRID):  # of an input pixel in its square
        low, high = place * scale - 1, (place + 1) * scale  # its outputs, and the last convolution
        for _ in range(_HALVINGS + scale - 1):
            low, high = (low - 1) // 2, (high + 1) // 2  # a transposed one: 2 i + {-1, 0, 1, 2} comes of i
        low, high = low - 1, high + 1  # the code's own
        for _ in range(_HALVINGS):
            low, high = 2 * low - 1, 2 * high + 1
        reach = max(reach, place - low, high - place)
    return 2 * reach + 1
