"""What networks share: how options are checked, the facts that each declares, first weights, and published weights.

Shapes: B images, C channels, H W rows and columns, s the scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, get_args, get_origin

import torch
from torch import Tensor, nn

from zssr_gan.errors import ImageError, WeightsError

SLOPE = 0.2
"""Negative slope of the LeakyReLUs."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of R G B, [0, 1]."""


@dataclass(frozen=True, slots=True)
class Options:
    """Base of the dataclasses of options; ValueError, in one sentence, where no network can be made of them.

    Checked are `channels` (1 or 3), `scale` (1, 2, 4 or 8), fields of type `Literal`, and that whole numbers are at
    least 1; `check` adds what only one network refuses.
    """

    choices: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """Values that a whole number may have, by the field's name."""
    least: ClassVar[Mapping[str, int]] = {}
    """Smallest value of a whole number where it is not 1, by the field's name."""

    def __post_init__(self) -> None:
        """Check all fields."""
        for field in fields(self):
            allowed = get_args(field.type) if get_origin(field.type) is Literal else ()
            allowed = {"scale": (1, 2, 4, 8), "channels": (1, 3), **self.choices}.get(field.name, allowed)
            value = getattr(self, field.name)
            if allowed and value not in allowed:
                *most, last = map(str, allowed)
                kinds = "1 (gray) or 3 (RGB)" if field.name == "channels" else " or ".join([", ".join(most), last])
                raise ValueError(f"{field.name} is {kinds}, not {value}")
            if type(value) is int and value < (least := self.least.get(field.name, 1)):
                raise ValueError(f"{field.name} is at least {least}, not {value}")
        self.check()

    def check(self) -> None:
        """Raise ValueError where options do not fit together."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a caller must know to feed a network, to cut images into tiles for it, and to say what came out."""

    name: str
    """As a sentence calls it: `generator`."""
    scale: tuple[int, int] | None
    """Output pixels for one input pixel, (y, x); None where no image comes out."""
    channels: tuple[int, ...]
    """Channel counts that it takes; an image that comes out has as many."""
    smallest: int
    """Shortest side of an input, pixels."""
    receptive_field: int | None
    """Side, in input pixels, of the square on which the outputs at one place depend, of a trained network (batch
    normalisation with its running statistics); None: on the whole image. A network that enlarges has `scale` outputs a
    side at the place of each input pixel. With a `grid`, it is that of the place that looks furthest."""
    largest: int | None = None
    """Longest side of an input, pixels; None: any."""
    grid: int = 1
    """Side, in input pixels, of the squares that are processed as one, counted from the first row and column: only at
    multiples of it can an image be cut without changing the output."""

    @property
    def radius(self) -> int:
        """Input pixels that an output depends on beyond its own, on each side: the overlap that tiles need."""
        if self.receptive_field is None:
            raise ValueError(f"the {self.name} looks at the whole image")
        return self.receptive_field // 2

    def check(self, x: Tensor) -> None:
        """Raise ImageError where images `... C H W` have other channels or sizes than the network takes."""
        channels, rows, columns = x.shape[-3:]
        if channels not in self.channels:
            wanted = " or ".join(map(str, self.channels))
            raise ImageError(f"the {self.name} takes images of {wanted} channels, not of {channels}.")
        if self.largest == self.smallest:
            wanted = f"{self.smallest}x{self.smallest} pixels alone"
        elif min(rows, columns) < self.smallest:
            wanted = f"{self.smallest} pixels a side or more"
        else:
            wanted = f"{self.largest} pixels a side or fewer"
        if min(rows, columns) < self.smallest or (self.largest is not None and max(rows, columns) > self.largest):
            raise ImageError(f"the {self.name} takes images of {wanted}, not {columns}x{rows} (width x height).")


class Network(Protocol):
    """A module that declares its facts, and refuses by them in its forward pass."""

    @property
    def facts(self) -> Facts:
        """See `Facts`."""


class _Trained(nn.Module):
    """What training, model cards and inference need of a network.

    A subclass is made of its options and of a `torch.Generator` on the CPU for its first weights (None: torch's global
    one), and defines `compute`; `zssr_gan.networks.registry` lists it.
    """

    kind: ClassVar[str]
    """Its name in settings and cards."""
    options_kind: ClassVar[type[Options]]
    """The dataclass of its options."""
    options: Options
    """All that makes up the network, of plain values: a card holds them, and makes the network again from them."""
    facts: Facts

    def __init__(self, options: Options, facts: Facts) -> None:
        super().__init__()
        self.options, self.facts = options, facts

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Apply the network, to float32; ImageError where images have other channels or sizes than it takes."""
        self.facts.check(x_BCHW)
        return self.compute(x_BCHW).float()

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """The output for images in [0, 1] that fit."""
        raise NotImplementedError


class GeneratorNetwork(_Trained):
    """A network that makes `B C sH sW`, not clipped, of `B C H W` in [0, 1].

    Args:
        options: they have `scale` and `channels`.
        receptive_field, grid: see `Facts`.
    """

    def __init__(self, options: Any, receptive_field: int | None, grid: int = 1) -> None:
        scale = (options.scale, options.scale)
        super().__init__(options, Facts("generator", scale, (options.channels,), 1, receptive_field, grid=grid))

    def draw_skipped(self, draws: torch.Generator) -> Sequence[bool]:
        """Begin an epoch: draw which blocks are skipped in it. Here there are none."""
        del draws
        return ()

    def skip_nothing(self) -> None:
        """Skip no block from now on, in training either."""

    @property
    def parts(self) -> Sequence[nn.Module]:
        """What `torch.compile` takes each by itself, since what joins them changes from epoch to epoch."""
        return (self,)


class DiscriminatorNetwork(_Trained):
    """A network that makes logits of `B C H W` in [0, 1], positive for real: `B 1`, or `B 1 h w` of places.

    Args:
        options: they have `channels`, a `size` (the side of square images) and a `head`, for which images have that
            one size if it is `flatten`.
        smallest, receptive_field: see `Facts`.
    """

    features: nn.Module
    head: nn.Module

    def __init__(self, options: Any, smallest: int, receptive_field: int | None) -> None:
        fixed = options.head == "flatten"
        sides = (options.size, receptive_field, options.size) if fixed else (smallest, receptive_field, None)
        super().__init__(options, Facts("discriminator", None, (options.channels,), *sides))

    def compute(self, x_BCHW: Tensor) -> Tensor:
        """The head's logits of the features."""
        logits: Tensor = self.head(self.features(x_BCHW * 2 - 1))
        return logits


def convolution(inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size, for odd kernels."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


def dense_head(channels: int, side: int | None, hidden: int) -> nn.Sequential:
    """Two dense layers, of which the last gives the logit.

    Args:
        channels: of the features.
        side: of the features, all of which the first layer sees; None: it sees their mean over the image, of any size.
        hidden: width between the two.
    """
    return nn.Sequential(
        *([nn.AdaptiveAvgPool2d(1)] if side is None else []),
        nn.Flatten(),
        nn.Linear(channels * (1 if side is None else side**2), hidden),
        nn.LeakyReLU(SLOPE),
        nn.Linear(hidden, 1),
    )


def draw_first_weights(network: nn.Module, draws: torch.Generator | None) -> None:
    """Draw weights by He et al. 2015: normal, with the deviation that preserves the values' scale; biases are zero.

    Args:
        network: all its convolutions and dense layers are drawn.
        draws: a CPU generator, so that a seed gives the same network whatever else is drawn; None: torch's global one.
    """
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            # Its inputs are the weights' first dimension, which torch calls "fan out"; of its weights, one in stride^2
            # meets a value.
            nn.init.kaiming_normal_(module.weight, a=SLOPE, mode="fan_out", generator=draws)
            with torch.no_grad():
                module.weight *= module.stride[0]
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=SLOPE, generator=draws)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ImageNetNormalisation(nn.Module):
    """Subtracts ImageNet's mean and divides by its deviation; its constants are no part of the `state_dict`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Normalise images in [0, 1]."""
        return (x_B3HW - self.mean) / self.deviation


def mismatch(network: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """The first weight of a network that is missing in `weights` or has another shape, in words; None if all fit."""
    for name, wanted in network.state_dict().items():
        if name not in weights:
            return f"{name} is missing"
        if weights[name].shape != wanted.shape:
            given, own = ("x".join(map(str, one.shape)) for one in (weights[name], wanted))
            return f"{name} is {given}, not {own}"
    return None


def load_frozen(network: nn.Module, weights: Mapping[str, Tensor], title: str, mend: str) -> None:
    """Load published weights into a network built on the meta device, in float32, and freeze it.

    Args:
        network: it takes the tensors that its `state_dict` names; others are ignored.
        weights: by those names.
        title, mend: what the network is called and what to do, for the sentence of an error.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """
    if (wrong := mismatch(network, weights)) is not None:
        raise WeightsError(f"these are no weights of {title}: {wrong}; {mend}.")
    state = network.state_dict()  # its metadata keep batch normalisations from asking for more than their weights
    for name in state:
        state[name] = weights[name].float()
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False)
