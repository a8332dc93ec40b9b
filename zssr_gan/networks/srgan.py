"""Generator and discriminator of the SRGAN (Ledig et al. 2017), as Moreira et al. train them without pairs (III-C).

Where the paper is open it points to Ledig et al., and so do the defaults. Inside, pixels are moved to [-1, 1].

Shapes: B images, C channels, H W rows and columns, s the scale.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.facts import Facts
from zssr_gan.networks.generators import GeneratorNetwork

_SLOPE = 0.2  # of the discriminator's LeakyReLU
_SMALL = 0.1  # share of He's deviation for a layer that should change little at first


@dataclass(frozen=True, slots=True)
class GeneratorOptions:
    """What a generator is made of. The defaults are the paper's."""

    scale: int = 2
    """Factor per side: 1, 2, 4 or 8. Each doubling is one upscaling block. The paper lists two of these, yet doubles
    the size once, and its 86 layers count as 1 convolution + 1 PReLU + 16 * 5 + 1 convolution + 1 batch normalisation +
    1 upscaling block + 1 convolution: we read it as one."""
    channels: int = 3
    """1 (gray) or 3 (RGB)."""
    width: int = 64
    """Channels between the first and the last convolution."""
    blocks: int = 16
    """Residual blocks."""
    skip_probability: float = 0.1
    """Chance of each residual block to be left out for an epoch of training (see `Generator.draw_skipped`). The paper
    gives no number; it should be small, since a block that is out stays out for all steps of the epoch, where Huang et
    al. 2016 draw anew for each."""
    norm: bool = True
    """Whether there is batch normalisation."""
    upsampling: Literal["nearest", "pixel_shuffle"] = "nearest"
    """`nearest`: each pixel is repeated (Keras' UpSampling2D, the paper's). `pixel_shuffle`: the convolution gives each
    pixel's four (Shi et al. 2016; Ledig et al.'s)."""
    residual: bool = False
    """Whether the output is added to the bicubic enlargement of the input."""

    def __post_init__(self) -> None:
        """Refuse what no generator can be made of."""
        if self.scale not in (1, 2, 4, 8):
            raise ValueError("scale is 1, 2, 4 or 8: upscaling blocks double the size")
        if self.channels not in (1, 3):
            raise ValueError("channels is 1 (gray) or 3 (RGB)")
        if self.width < 1 or self.blocks < 0:
            raise ValueError("width is at least 1, and blocks at least 0")
        if not 0 <= self.skip_probability < 1:
            raise ValueError("skip_probability is in [0, 1)")
        if self.upsampling not in ("nearest", "pixel_shuffle"):
            raise ValueError("upsampling is nearest or pixel_shuffle")


class Generator(GeneratorNetwork):
    """Enlarges LR images: `B C H W` in [0, 1] to `B C sH sW`, not clipped. Any size, gray or colour.

    `skipped` is state of the training that no checkpoint of weights holds: draw it from a generator that hangs on the
    epoch alone, and a resumed run, or another process, skips the same blocks. Blocks that are out get no gradient at
    all, so DDP needs `find_unused_parameters`; `torch.compile` is for each of `blocks` by itself, as every new choice
    would compile the whole network once more.

    Args:
        options: see `GeneratorOptions`.
        draws: CPU generator of the first weights (He et al. 2015); None takes torch's global one.
    """

    options: GeneratorOptions
    skipped: tuple[bool, ...]
    """Of each residual block, whether it is left out in training."""

    def __init__(self, options: GeneratorOptions, draws: torch.Generator | None = None) -> None:
        super().__init__()
        self.options = options
        self.facts = self._facts()
        width, norm = options.width, options.norm
        self.head = nn.Sequential(_convolution(options.channels, width, 9), nn.PReLU(width))
        self.blocks = nn.ModuleList(_ResidualBlock(width, norm) for _ in range(options.blocks))
        self.fusion = nn.Sequential(_convolution(width, width, 3), *([nn.BatchNorm2d(width)] if norm else []))
        shuffle = options.upsampling == "pixel_shuffle"
        self.upscaling = nn.Sequential(*(_UpscalingBlock(width, shuffle=shuffle) for _ in range(self._doublings)))
        self.tail = _convolution(width, options.channels, 9)
        self.skip_nothing()
        _draw_first_weights(self, draws)
        with torch.no_grad():
            if options.residual:
                self.tail.weight *= _SMALL  # so that it begins near bicubic
            if not norm:
                for block in self.blocks:
                    assert isinstance(block, _ResidualBlock)
                    block.last.weight *= _SMALL  # else sixteen sums make the features large

    @property
    def _doublings(self) -> int:
        return int(math.log2(self.options.scale))

    def _facts(self) -> Facts:
        reach = 9 // 2  # of the last convolution, in output pixels
        for _ in range(self._doublings):
            reach = math.ceil(reach / 2) + 1  # the larger pixels, then the block's convolution
        reach += 9 // 2 + 2 * self.options.blocks + 1
        return Facts(
            name="generator",
            scale=(self.options.scale, self.options.scale),
            channels=(self.options.channels,),
            smallest=1,
            receptive_field=2 * reach + 1,
        )

    def draw_skipped(self, draws: torch.Generator) -> tuple[bool, ...]:
        """Draw which residual blocks are left out from now on, in training alone: the paper's random layer skipping.

        To be called once an epoch; each block is left out with `skip_probability`, by itself.

        Returns:
            Of each block, whether it is out; kept as `skipped`.
        """
        chances = torch.rand(self.options.blocks, generator=draws, dtype=torch.float64)
        self.skipped = tuple((chances < self.options.skip_probability).tolist())
        return self.skipped

    def skip_nothing(self) -> None:
        """Let all blocks take part, in training too, until the next draw."""
        self.skipped = (False,) * self.options.blocks

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The residual blocks, of which some are skipped, and what is around them."""
        return (self.head, *self.blocks, self.fusion, self.upscaling, self.tail)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Enlarge images in [0, 1]; ImageError where they have other channels."""
        self.facts.check(x_BCHW)
        head: Tensor = self.head(x_BCHW * 2 - 1)
        y = head
        for block, skipped in zip(self.blocks, self.skipped, strict=True):
            if not (self.training and skipped):
                y = block(y)
        out: Tensor = self.tail(self.upscaling(head + self.fusion(y)))
        out = out.float() * 0.5
        if not self.options.residual:
            return out + 0.5
        size = [side * self.options.scale for side in x_BCHW.shape[-2:]]
        return out + F.interpolate(x_BCHW.float(), size=size, mode="bicubic", antialias=True)


class _ResidualBlock(nn.Module):
    """Convolution, batch normalisation, PReLU, convolution, batch normalisation, added to the input."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(
            _convolution(width, width, 3), *([nn.BatchNorm2d(width)] if norm else []), nn.PReLU(width)
        )
        self.last = _convolution(width, width, 3)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.norm(self.last(self.first(x)))
        return out


class _UpscalingBlock(nn.Sequential):
    """Convolution, twice the size, PReLU."""

    def __init__(self, width: int, *, shuffle: bool) -> None:
        super().__init__(
            _convolution(width, 4 * width if shuffle else width, 3),
            nn.PixelShuffle(2) if shuffle else nn.Upsample(scale_factor=2, mode="nearest"),
            nn.PReLU(width),
        )


@dataclass(frozen=True, slots=True)
class DiscriminatorOptions:
    """What a discriminator is made of. The defaults are the paper's, with Ledig et al.'s widths and strides."""

    channels: int = 3
    """1 (gray) or 3 (RGB)."""
    width: int = 64
    """Channels of the first two blocks; each two after them have twice as many, up to eight times."""
    blocks: int = 8
    """Convolutions, of strides 1, 2, 1, 2, ...; fewer look less far."""
    norm: Literal["after", "before", "none"] = "after"
    """Batch normalisation after the activation (the paper's order), before it (Ledig et al.'s), or none."""
    norm_first: bool = True
    """Whether the first block has it too (Ledig et al.'s has not)."""
    head: Literal["flatten", "adaptive", "patch"] = "flatten"
    """`flatten`: a dense layer on all features, for images of one `size` (the paper's). `adaptive`: on their mean over
    the image, any size. `patch`: on those of each place, so that no logit looks further than the blocks do."""
    hidden: int = 1024
    """Width of the dense layer before the last."""
    size: int = 64
    """Side of the images, pixels; for `head: flatten` alone."""

    def __post_init__(self) -> None:
        """Refuse what no discriminator can be made of."""
        if self.channels not in (1, 3):
            raise ValueError("channels is 1 (gray) or 3 (RGB)")
        if min(self.width, self.blocks, self.hidden, self.size) < 1:
            raise ValueError("width, blocks, hidden and size are at least 1")
        if self.norm not in ("after", "before", "none"):
            raise ValueError("norm is after, before or none")
        if self.head not in ("flatten", "adaptive", "patch"):
            raise ValueError("head is flatten, adaptive or patch")


class Discriminator(nn.Module):
    """Tells real from generated images `B C H W` in [0, 1] by logits: `B 1`, or `B 1 h w` for the patch head.

    Args:
        options: see `DiscriminatorOptions`.
        draws: CPU generator of the first weights (He et al. 2015); None takes torch's global one.
    """

    def __init__(self, options: DiscriminatorOptions, draws: torch.Generator | None = None) -> None:
        super().__init__()
        self.options = options
        self.facts = self._facts()
        layers: list[nn.Module] = []
        inputs, side = options.channels, options.size
        for block in range(options.blocks):
            outputs = options.width * min(2 ** (block // 2), 8)
            norm = "none" if block == 0 and not options.norm_first else options.norm
            # A normalisation right after a convolution takes its bias away again.
            layers.append(_convolution(inputs, outputs, 3, stride=_stride(block), bias=norm != "before"))
            if norm == "before":
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(_SLOPE))
            if norm == "after":
                layers.append(nn.BatchNorm2d(outputs))
            inputs, side = outputs, math.ceil(side / _stride(block))
        self.features = nn.Sequential(*layers)
        activation = nn.LeakyReLU(_SLOPE)
        if options.head == "patch":
            self.head = nn.Sequential(nn.Conv2d(inputs, options.hidden, 1), activation, nn.Conv2d(options.hidden, 1, 1))
        else:
            pool = [nn.AdaptiveAvgPool2d(1)] if options.head == "adaptive" else []
            places = 1 if pool else side**2
            self.head = nn.Sequential(
                *pool,
                nn.Flatten(),
                nn.Linear(inputs * places, options.hidden),
                activation,
                nn.Linear(options.hidden, 1),
            )
        _draw_first_weights(self, draws)

    def _facts(self) -> Facts:
        field, jump = 1, 1
        for block in range(self.options.blocks):
            field += 2 * jump
            jump *= _stride(block)
        fixed = self.options.head == "flatten"
        return Facts(
            name="discriminator",
            scale=None,
            channels=(self.options.channels,),
            smallest=self.options.size if fixed else 1,
            largest=self.options.size if fixed else None,
            receptive_field=field if self.options.head == "patch" else None,
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, positive for real; ImageError where images have other channels or sizes."""
        self.facts.check(x_BCHW)
        logits: Tensor = self.head(self.features(x_BCHW * 2 - 1))
        return logits.float()


def _stride(block: int) -> int:
    return 1 + block % 2


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)


def _draw_first_weights(network: nn.Module, draws: torch.Generator | None) -> None:
    """He et al. 2015: normal, with the deviation that keeps the size of the values through a layer; no biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=_SLOPE, generator=draws)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
