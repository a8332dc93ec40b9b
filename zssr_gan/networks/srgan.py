"""Generator and discriminator of the SRGAN (Ledig et al. 2017), as Moreira et al. train them without pairs (III-C).

Where the paper is open it points to Ledig et al., and so do the defaults. Inside, pixels are moved to [-1, 1].

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
    ImageNetNormalisation,
    Options,
    convolution,
    dense_head,
    draw_first_weights,
)

_SMALL = 0.1  # share of He's deviation for a layer that should change little at first


@dataclass(frozen=True, slots=True)
class SRGANGeneratorOptions(Options):
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
    """Chance of each residual block to be left out for an epoch of training (see `SRGANGenerator.draw_skipped`). The
    paper gives no number; it should be small, since a block that is out stays out for all steps of the epoch, where
    Huang et al. 2016 draw anew for each."""
    norm: bool = True
    """Whether there is batch normalisation."""
    upsampling: Literal["nearest", "pixel_shuffle"] = "nearest"
    """`nearest`: each pixel is repeated (Keras' UpSampling2D, the paper's). `pixel_shuffle`: the convolution gives each
    pixel's four (Shi et al. 2016; Ledig et al.'s)."""
    residual: bool = False
    """Whether the output is added to the bicubic enlargement of the input."""
    expansion: int = 1
    """With `nearest`: channels of the upscaling blocks, as a multiple of `width`. Ledig et al. list 256 filters, of
    which their shuffle leaves 64; where pixels are repeated instead and the list is kept, as in Keras' tutorials, it is
    4, and a generator of scale 4 has 2.0 million weights instead of 1.55."""
    activation: Literal["prelu", "relu"] = "prelu"
    """Of the first layer and the residual blocks; upscaling blocks always have a PReLU."""
    input: Literal["centred", "imagenet"] = "centred"
    """How pixels come in: moved to [-1, 1], or with ImageNet's mean and deviation of each colour taken out."""
    output: Literal["linear", "tanh"] = "linear"
    """What comes out of the last convolution, and is moved from [-1, 1] back: its values, or their tanh."""
    norm_momentum: float = 0.1
    """Weight of the newest batch in the running statistics of batch normalisation, torch's `momentum`; Keras' is one
    minus this. A finished generator's statistics are computed anew, whatever it is."""

    least: ClassVar = {"blocks": 0}

    def check(self) -> None:
        """Refuse chances out of range, and options that exclude each other."""
        if not 0 <= self.skip_probability < 1:
            raise ValueError("skip_probability is in [0, 1)")
        if not 0 < self.norm_momentum <= 1:
            raise ValueError("norm_momentum is in (0, 1]")
        if self.expansion > 1 and self.upsampling == "pixel_shuffle":
            raise ValueError("expansion is 1 where upsampling is pixel_shuffle")
        if self.input == "imagenet" and self.channels == 1:
            raise ValueError("input is imagenet where channels is 3 alone")

    @property
    def doublings(self) -> int:
        """Upscaling blocks."""
        return int(math.log2(self.scale))


class SRGANGenerator(GeneratorNetwork):
    """Enlarges LR images: `B C H W` in [0, 1] to `B C sH sW`, not clipped. Any size, gray or colour.

    `skipped` is state of the training and not part of the `state_dict`: draw it from a generator seeded by the epoch,
    and a resumed run, or another process, skips the same blocks. Skipped blocks get no gradient, so DDP needs
    `find_unused_parameters`; `torch.compile` takes each of `parts` by itself, as every new choice would compile the
    whole network once more.
    """

    kind: ClassVar[str] = "srgan"
    options_kind: ClassVar[type] = SRGANGeneratorOptions
    options: SRGANGeneratorOptions
    skipped: tuple[bool, ...]
    """Of each residual block, whether training skips it."""

    def __init__(self, options: SRGANGeneratorOptions, draws: torch.Generator | None = None) -> None:
        super().__init__(options, _generator_field(options))
        width = options.width
        self.head = nn.Sequential(convolution(options.channels, width, 9), _activation(options))
        self.blocks = nn.ModuleList(_ResidualBlock(options) for _ in range(options.blocks))
        self.fusion = nn.Sequential(convolution(width, width, 3), *_norms(options))
        upscaling: list[nn.Module] = []
        for _ in range(options.doublings):
            upscaling.append(_UpscalingBlock(width, options))
            width = options.width * options.expansion
        self.upscaling = nn.Sequential(*upscaling)
        self.tail = convolution(width, options.channels, 9)
        self.normalisation = ImageNetNormalisation()
        self.skip_nothing()
        draw_first_weights(self, draws)
        with torch.no_grad():
            if options.residual:
                self.tail.weight *= _SMALL  # so that it begins near bicubic
            if not options.norm:
                for block in self.blocks:
                    assert isinstance(block, _ResidualBlock)
                    block.last.weight *= _SMALL  # else sixteen sums make the features large

    def draw_skipped(self, draws: torch.Generator) -> tuple[bool, ...]:
        """Draw which residual blocks are skipped from now on, in training alone: the paper's random layer skipping.

        To be called once an epoch; each block is skipped with `skip_probability`, independently.

        Returns:
            Of each block, whether it is skipped.
        """
        chances = torch.rand(self.options.blocks, generator=draws, dtype=torch.float64)
        self.skipped = tuple((chances < self.options.skip_probability).tolist())
        return self.skipped

    def skip_nothing(self) -> None:
        """Skip no block, in training either, until the next draw."""
        self.skipped = (False,) * self.options.blocks

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The residual blocks, of which some are skipped, and what is around them."""
        return (self.head, *self.blocks, self.fusion, self.upscaling, self.tail)

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """See `GeneratorNetwork`."""
        head: Tensor = self.head(x_BCHW * 2 - 1 if self.options.input == "centred" else self.normalisation(x_BCHW))
        y = head
        for block, skipped in zip(self.blocks, self.skipped, strict=True):
            if not (self.training and skipped):
                y = block(y)
        out: Tensor = self.tail(self.upscaling(head + self.fusion(y)))
        out = (out.float().tanh() if self.options.output == "tanh" else out.float()) * 0.5
        if not self.options.residual:
            return out + 0.5
        size = [side * self.options.scale for side in x_BCHW.shape[-2:]]
        return out + F.interpolate(x_BCHW.float(), size=size, mode="bicubic", antialias=True)


def _generator_field(options: SRGANGeneratorOptions) -> int:
    reach = 9 // 2  # of the last convolution, in output pixels
    for _ in range(options.doublings):
        reach = math.ceil(reach / 2) + 1  # the larger pixels, then the block's convolution
    return 2 * (reach + 9 // 2 + 2 * options.blocks + 1) + 1


class _ResidualBlock(nn.Module):
    """Convolution, batch normalisation, PReLU, convolution, batch normalisation, added to the input."""

    def __init__(self, options: SRGANGeneratorOptions) -> None:
        super().__init__()
        width = options.width
        self.first = nn.Sequential(convolution(width, width, 3), *_norms(options), _activation(options))
        self.last = convolution(width, width, 3)
        self.norm = _norms(options)[0] if options.norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.norm(self.last(self.first(x)))
        return out


class _UpscalingBlock(nn.Sequential):
    """Convolution, twice the size, PReLU."""

    def __init__(self, inputs: int, options: SRGANGeneratorOptions) -> None:
        shuffle, outputs = options.upsampling == "pixel_shuffle", options.width * options.expansion
        super().__init__(
            convolution(inputs, 4 * outputs if shuffle else outputs, 3),
            nn.PixelShuffle(2) if shuffle else nn.Upsample(scale_factor=2, mode="nearest"),
            nn.PReLU(outputs),
        )


def _activation(options: SRGANGeneratorOptions) -> nn.Module:
    return nn.PReLU(options.width) if options.activation == "prelu" else nn.ReLU()


def _norms(options: SRGANGeneratorOptions) -> list[nn.Module]:
    """Batch normalisation, or nothing."""
    return [nn.BatchNorm2d(options.width, momentum=options.norm_momentum)] if options.norm else []


@dataclass(frozen=True, slots=True)
class SRGANDiscriminatorOptions(Options):
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
    strided_kernel: int = 3
    """Side of the kernels of stride 2: 3, or 4 (Wang et al. 2018)."""

    choices: ClassVar = {"strided_kernel": (3, 4)}

    def check(self) -> None:
        """Refuse images of which kernels of 4 leave nothing."""
        if self.head == "flatten" and self.size < self.smallest:
            raise ValueError(f"size is at least {self.smallest}: kernels of 4 leave nothing of a smaller image")

    @property
    def smallest(self) -> int:
        """Side, in pixels, of the smallest image of which the blocks leave anything."""
        return 1 if self.strided_kernel == 3 else int(2 ** (self.blocks // 2))


class SRGANDiscriminator(DiscriminatorNetwork):
    """Tells real from generated images `B C H W` in [0, 1] by logits: `B 1`, or `B 1 h w` for the patch head.

    Wang et al. (2018, ESRGAN) take the same for 128 px, of ten blocks, as their code shows: `blocks: 10, norm: before,
    norm_first: false, strided_kernel: 4, hidden: 100`; what is relativistic about it is its loss.
    """

    kind: ClassVar[str] = "srgan"
    options_kind: ClassVar[type] = SRGANDiscriminatorOptions
    options: SRGANDiscriminatorOptions

    def __init__(self, options: SRGANDiscriminatorOptions, draws: torch.Generator | None = None) -> None:
        super().__init__(options, options.smallest, _discriminator_field(options))
        layers: list[nn.Module] = []
        inputs, side = options.channels, options.size
        for block in range(options.blocks):
            outputs = options.width * min(2 ** (block // 2), 8)
            norm = "none" if block == 0 and not options.norm_first else options.norm
            kernel, stride = _kernel(options, block), _stride(block)
            # A normalisation right after a convolution takes its bias away again.
            layers.append(nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=1, bias=norm != "before"))
            if norm == "before":
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(SLOPE))
            if norm == "after":
                layers.append(nn.BatchNorm2d(outputs))
            inputs, side = outputs, (side + 2 - kernel) // stride + 1
        self.features = nn.Sequential(*layers)
        if options.head == "patch":
            activation = nn.LeakyReLU(SLOPE)
            self.head = nn.Sequential(nn.Conv2d(inputs, options.hidden, 1), activation, nn.Conv2d(options.hidden, 1, 1))
        else:
            self.head = dense_head(inputs, None if options.head == "adaptive" else side, options.hidden)
        draw_first_weights(self, draws)


def _stride(block: int) -> int:
    return 1 + block % 2


def _kernel(options: SRGANDiscriminatorOptions, block: int) -> int:
    return 3 if _stride(block) == 1 else options.strided_kernel


def _discriminator_field(options: SRGANDiscriminatorOptions) -> int | None:
    field, jump = 1, 1
    for block in range(options.blocks):
        field += (_kernel(options, block) - 1) * jump
        jump *= _stride(block)
    return field if options.head == "patch" else None
