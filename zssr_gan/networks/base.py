"""What every network declares of itself, and the refusal of an image that does not fit. One test holds all to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor, nn

from zssr_gan.errors import ImageError, WeightsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


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
    normalisation with its kept statistics); None: on the whole image. A network that enlarges has `scale` outputs a
    side at the place of each input pixel. With a `grid`, it is that of the place that looks furthest."""
    largest: int | None = None
    """Longest side of an input, pixels; None: any."""
    grid: int = 1
    """Side, in input pixels, of the squares that are worked on as a whole, counted from the first row and column: only
    at multiples of it may an image be cut without a change of what comes out."""

    @property
    def radius(self) -> int:
        """Input pixels that are looked at beyond the own one, on each side: the overlap that tiles need."""
        if self.receptive_field is None:
            raise ValueError(f"the {self.name} looks at the whole image")
        return self.receptive_field // 2

    def check(self, x: Tensor) -> None:
        """Raise ImageError where images `... C H W` have other channels or sizes than the network takes."""
        channels, rows, columns = x.shape[-3:]
        if channels not in self.channels:
            wanted = " or ".join(map(str, self.channels))
            raise ImageError(f"the {self.name} takes images of {wanted} channels, not of {channels}.")
        size = f"not {columns}x{rows} (width x height)"
        if self.largest == self.smallest and not rows == columns == self.smallest:
            raise ImageError(f"the {self.name} takes images of {self.smallest}x{self.smallest} pixels alone, {size}.")
        if min(rows, columns) < self.smallest:
            raise ImageError(f"the {self.name} takes images of {self.smallest} pixels a side or more, {size}.")
        if self.largest is not None and max(rows, columns) > self.largest:
            raise ImageError(f"the {self.name} takes images of {self.largest} pixels a side or fewer, {size}.")


class Network(Protocol):
    """A module that declares its facts, and refuses by them in its forward pass."""

    @property
    def facts(self) -> Facts:
        """See `Facts`."""


# First weights: drawn from a generator of their own, so that a seed gives the same network whatever else is drawn.


SLOPE = 0.2
"""Of the LeakyReLUs that these networks have."""


def draw_first_weights(network: nn.Module, draws: torch.Generator | None) -> None:
    """He et al. 2015: normal, with the deviation that keeps the size of the values through a layer; no biases.

    Args:
        network: of whose convolutions and dense layers they are.
        draws: a CPU generator; None takes torch's global one.
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


# What a training asks of a network that tells real images from generated ones, and the end that several share.


class DiscriminatorNetwork(nn.Module):
    """A network that makes logits of `B C H W` in [0, 1], positive for real: `B 1`, or `B 1 h w` of places.

    A kind of discriminator extends it in a file of `zssr_gan/networks/`, where `zssr_gan.networks.registry` finds it.
    It
    is made of its options, which have `channels` and a `size` (the images' side where they are square), and of a
    `torch.Generator` for its first weights.
    """

    kind: ClassVar[str]
    """Its name in settings."""
    options_kind: ClassVar[type]
    """The dataclass of its options; its ValueErrors are a user's mistakes, one sentence each."""
    options: "DataclassInstance"
    facts: Facts


def dense_head(channels: int, side: int | None, hidden: int) -> nn.Sequential:
    """Two dense layers, the last for the logit.

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


# What networks share that others trained and nobody here trains on: ImageNet's normalisation, and taking weights.


MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, R G B, [0, 1]."""


class FrozenFeatures(nn.Module):
    """A network whose weights stay as they are; gradients reach its input alone."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not of the weights: the published files do not have them.
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def normalised(self, x_BCHW: Tensor) -> Tensor:
        """Images in [0, 1] as the network learnt them; gray is repeated to three channels."""
        return (x_BCHW.expand(-1, 3, -1, -1) - self.mean) / self.deviation


def take_weights(target: nn.Conv2d, weights: Mapping[str, Tensor], key: str, network: str, name: str) -> None:
    """Copy `key.weight` and `key.bias` into a convolution.

    Args:
        target: the convolution.
        weights: by torchvision's names.
        key: the convolution's, such as `features.0`.
        network: torchvision's name of the network, such as `vgg19`.
        name: what the convolution is called, for a sentence.

    Raises:
        WeightsError: one is missing, or has another shape.
    """
    for kind in ("weight", "bias"):
        mine, given = getattr(target, kind), weights.get(f"{key}.{kind}")
        wrong = f"these are no weights of {network.upper()}: {key}.{kind} ({name})"
        if given is None:
            raise WeightsError(f"{wrong} is missing; take torchvision's {network}.")
        if given.shape != mine.shape:
            told, wanted = ("x".join(map(str, shape)) for shape in (given.shape, mine.shape))
            raise WeightsError(f"{wrong} is {told}, not {wanted}.")
        with torch.no_grad():
            mine.copy_(given)


# What a training, its files and its use ask of a network that enlarges, whichever kind it is.


class GeneratorNetwork(nn.Module):
    """A network that makes `B C sH sW` of `B C H W` in [0, 1], not clipped, and refuses by its facts what does not fit.

    A kind of generator extends it in a file of `zssr_gan/networks/`, where `zssr_gan.networks.registry` finds it. It is
    made of its options, which have a `scale` and `channels`, and of a `torch.Generator` for its first weights.
    """

    kind: ClassVar[str]
    """Its name in settings and cards."""
    options_kind: ClassVar[type]
    """The dataclass of its options; its ValueErrors are a user's mistakes, one sentence each."""
    options: "DataclassInstance"
    """All that makes up the network, of plain values: a card keeps them, and makes the network again from them."""
    facts: Facts

    def draw_skipped(self, draws: torch.Generator) -> Sequence[bool]:
        """Begin an epoch: draw what is left out in it. Here nothing is."""
        del draws
        return ()

    def skip_nothing(self) -> None:
        """From now on leave nothing out, in training either. Here nothing ever is."""

    @property
    def parts(self) -> Sequence[nn.Module]:
        """What `torch.compile` takes each by itself, since what joins them changes from epoch to epoch."""
        return (self,)
