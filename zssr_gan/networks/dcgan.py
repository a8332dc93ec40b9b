"""Generator and discriminator of the DCGAN for enhancement in Tariq's report ("Image Enhancement", V), not from noise.

The report, whose author could not train it, lists the layers and leaves open how they fit; so we read it:

- Five residual blocks that each double the size would make 512 pixels of 16, where 64 are wanted: the last two do, or
  as many as the scale takes, and the others keep it.
- "Skip connections similar to ResNet" go around the two convolutions of a block, before its size changes.
- A first kernel of 4 with a padding of 1 would lose a row and a column: it has one more of padding behind.

Shapes: B images, C channels, H W rows and columns, s the scale.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import (
    SLOPE,
    DiscriminatorNetwork,
    GeneratorNetwork,
    Options,
    convolution,
    dense_head,
    draw_first_weights,
)

_STRIDES = (1, 2, 2, 2, 2, 1, 1)
"""Of the discriminator's convolutions."""

_WIDTHS = (1, 1, 2, 4, 8, 8, 8)
"""Their channels, as multiples of the width."""


@dataclass(frozen=True, slots=True)
class DCGANOptions(Options):
    """What a generator is made of. The defaults are the report's."""

    scale: int = 4
    """Factor per side: 1, 2, 4 or 8, by as many of the blocks as it takes, the last ones."""
    channels: int = 3
    """1 (gray) or 3 (RGB)."""
    width: int = 128
    """Channels from the first convolution to the last but two; the last but one has half as many."""
    blocks: int = 5
    """Residual blocks."""

    least: ClassVar = {"width": 2}

    def check(self) -> None:
        """Refuse fewer blocks than doublings."""
        if self.blocks < self.doublings:
            raise ValueError(f"blocks is at least {self.doublings} for a scale of {self.scale}")

    @property
    def doublings(self) -> int:
        """Blocks that double the size."""
        return int(math.log2(self.scale))


class DCGANGenerator(GeneratorNetwork):
    """Enlarges LR images: `B C H W` in [0, 1] to `B C sH sW` in (0, 1). Any size."""

    kind: ClassVar[str] = "dcgan"
    options_kind: ClassVar[type] = DCGANOptions
    options: DCGANOptions

    def __init__(self, options: DCGANOptions, draws: torch.Generator | None = None) -> None:
        super().__init__(options, _receptive_field(options))
        width = options.width
        self.head = nn.Conv2d(options.channels, width, 4)
        self.blocks = nn.Sequential(
            *(_Block(width, doubles=n >= options.blocks - options.doublings) for n in range(options.blocks))
        )
        self.tail = nn.Sequential(
            *(convolution(width, width), nn.ReLU()),
            *(convolution(width, width // 2), nn.ReLU()),
            convolution(width // 2, options.channels),
        )
        draw_first_weights(self, draws)

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """See `GeneratorNetwork`."""
        head = F.relu(self.head(F.pad(x_BCHW * 2 - 1, (1, 2, 1, 2))))
        out: Tensor = self.tail(self.blocks(head))
        return out.float().sigmoid()


def _receptive_field(options: DCGANOptions) -> int:
    low, high = -3, options.scale - 1 + 3  # of the tail, around the outputs of one input pixel
    for n in reversed(range(options.blocks)):
        low, high = low - 1, high + 1  # the block's transposed convolution
        if n >= options.blocks - options.doublings:
            low, high = low // 2, high // 2
        low, high = low - 2, high + 2
    return (high + 2) - (low - 1) + 1  # the first kernel looks one pixel back and two ahead: the field is even


class _Block(nn.Module):
    """Two convolutions with batch normalisation and ReLU, added to the input; then twice the size or not, batch
    normalisation, ReLU, transposed convolution."""

    def __init__(self, width: int, *, doubles: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *(convolution(width, width, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(convolution(width, width, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
        )
        self.after = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest") if doubles else nn.Identity(),
            *(nn.BatchNorm2d(width), nn.ReLU()),
            nn.ConvTranspose2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(x + self.residual(x))
        return out


@dataclass(frozen=True, slots=True)
class DCGANDiscriminatorOptions(Options):
    """What a discriminator is made of. The defaults are the report's."""

    channels: int = 3
    """1 (gray) or 3 (RGB)."""
    width: int = 64
    """Channels of the first convolution; others have up to eight times as many."""
    head: Literal["flatten", "adaptive"] = "flatten"
    """`flatten`: a dense layer on all features, for images of one `size` (the report's). `adaptive`: on their mean over
    the image, any size."""
    hidden: int = 1024
    """Width of the dense layer before the last."""
    size: int = 64
    """Side of the images, pixels; for `head: flatten` alone."""


class DCGANDiscriminator(DiscriminatorNetwork):
    """Tells real from generated images `B C H W` in [0, 1] by logits `B 1`.

    The first convolution has a LeakyReLU, the four of stride 2 have batch normalisation behind it, as the report lists
    them, and the two last ones batch normalisation and a ReLU.
    """

    kind: ClassVar[str] = "dcgan"
    options_kind: ClassVar[type] = DCGANDiscriminatorOptions
    options: DCGANDiscriminatorOptions

    def __init__(self, options: DCGANDiscriminatorOptions, draws: torch.Generator | None = None) -> None:
        super().__init__(options, smallest=1, receptive_field=None)
        layers: list[nn.Module] = []
        inputs, side = options.channels, options.size
        for number, (stride, times) in enumerate(zip(_STRIDES, _WIDTHS, strict=True)):
            outputs, norm = options.width * times, nn.BatchNorm2d(options.width * times)
            layers.append(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1))
            if number == 0:
                layers.append(nn.LeakyReLU(SLOPE))
            elif stride == 2:
                layers += [nn.LeakyReLU(SLOPE), norm]
            else:
                layers += [norm, nn.ReLU()]
            inputs, side = outputs, math.ceil(side / stride)
        self.features = nn.Sequential(*layers)
        self.head = dense_head(inputs, side if options.head == "flatten" else None, options.hidden)
        draw_first_weights(self, draws)
