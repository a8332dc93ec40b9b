"""Generator of ESRGAN: residual-in-residual dense blocks, RRDB, without normalisation (Wang et al. 2018, section 3.1).

Its discriminator is that of `networks/srgan.py`, with other options (see there); what is relativistic about it is its
loss. The names of the weights are those of the community's files (BasicSR, Real-ESRGAN), and so is what is computed:
pixels go in and come out in [0, 1], unmoved.

Shapes: B images, C channels, H W rows and columns, s the scale, u the unshuffling.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import SLOPE, GeneratorNetwork, Options, convolution, draw_first_weights

_RESIDUAL = 0.2  # what is added to a block's input is made this small (section 3.1, residual scaling)

_SMALL = 0.1  # share of He's deviation for the dense blocks' first weights (section 3.1, smaller initialisation)


@dataclass(frozen=True, slots=True)
class ESRGANOptions(Options):
    """What a generator is made of. The defaults are the paper's: 16.7 million weights."""

    scale: int = 4
    """Factor per side: 1, 2, 4 or 8. Each doubling repeats each pixel four times, with a convolution after it."""
    channels: int = 3
    """1 (gray) or 3 (RGB)."""
    width: int = 64
    """Channels between the first and the last convolution."""
    growth: int = 32
    """Channels that each convolution of a dense block adds."""
    blocks: int = 23
    """Residual-in-residual dense blocks, of 15 convolutions each."""
    unshuffle: int = 1
    """Side of the squares of pixels that first become channels of one place: 1 (none), 2 or 4. The work is then done on
    as much smaller an image, which is enlarged so much more: Real-ESRGAN's x2 has 2, its x1 4 (Wang et al. 2021)."""

    choices: ClassVar = {"unshuffle": (1, 2, 4)}
    least: ClassVar = {"blocks": 0}

    @property
    def doublings(self) -> int:
        """Times that the size is doubled behind the blocks."""
        return int(math.log2(self.scale * self.unshuffle))


class ESRGAN(GeneratorNetwork):
    """Enlarges LR images: `B C H W` in [0, 1] to `B C sH sW`, not clipped. Any size.

    With `unshuffle`, rows and columns that are missing from a whole square are made up by repeating the last ones, and
    what comes of them is cut off again.
    """

    kind: ClassVar[str] = "esrgan"
    options_kind: ClassVar[type] = ESRGANOptions
    options: ESRGANOptions

    def __init__(self, options: ESRGANOptions, draws: torch.Generator | None = None) -> None:
        super().__init__(options, _receptive_field(options), grid=options.unshuffle)
        width = options.width
        self.conv_first = convolution(options.channels * options.unshuffle**2, width)
        self.body = nn.Sequential(*(_RRDB(width, options.growth) for _ in range(options.blocks)))
        self.conv_body = convolution(width, width)
        for n in range(options.doublings):
            setattr(self, f"conv_up{n + 1}", convolution(width, width))
        self.conv_hr = convolution(width, width)
        self.conv_last = convolution(width, options.channels)
        draw_first_weights(self, draws)
        with torch.no_grad():
            for block in self.body.modules():
                if isinstance(block, nn.Conv2d):
                    block.weight *= _SMALL

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """See `GeneratorNetwork`."""
        u, (rows, columns) = self.options.unshuffle, x_BCHW.shape[-2:]
        if u > 1:
            x_BCHW = F.pixel_unshuffle(F.pad(x_BCHW, (0, -columns % u, 0, -rows % u), mode="replicate"), u)
        first = self.conv_first(x_BCHW)
        y = first + self.conv_body(self.body(first))
        for n in range(self.options.doublings):
            y = F.interpolate(y, scale_factor=2, mode="nearest")
            y = F.leaky_relu(getattr(self, f"conv_up{n + 1}")(y), SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(y), SLOPE))
        s = self.options.scale
        return out[..., : s * rows, : s * columns]


def _receptive_field(options: ESRGANOptions) -> int:
    reach, deep = 0, 2 + 15 * options.blocks
    for place in range(options.unshuffle):  # of an input pixel in its square
        # Its outputs, and the last two layers.
        low, high = place * options.scale - 2, (place + 1) * options.scale + 1
        for _ in range(options.doublings):
            low, high = (low - 1) // 2, (high + 1) // 2
        first, last = options.unshuffle * (low - deep), options.unshuffle * (high + deep + 1) - 1
        reach = max(reach, place - first, last - place)
    return 2 * reach + 1


class _RRDB(nn.Module):
    """Three dense blocks, one after the other, whose outcome is added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + _RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))
        return out


class _DenseBlock(nn.Module):
    """Five convolutions, of which each sees the input and what all before it have made."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (convolution(width + n * growth, growth) for n in range(4))
        self.conv5 = convolution(width + 4 * growth, width)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for convolve in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(convolve(seen), SLOPE)], 1)
        out: Tensor = x + _RESIDUAL * self.conv5(seen)
        return out
