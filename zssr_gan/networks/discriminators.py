"""What a training asks of a network that tells real images from generated ones, and the end that several share."""

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from zssr_gan.networks.facts import Facts
from zssr_gan.networks.first_weights import SLOPE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class DiscriminatorNetwork(nn.Module):
    """A network that makes logits of `B C H W` in [0, 1], positive for real: `B 1`, or `B 1 h w` of places.

    A kind of discriminator extends it in a file of `zssr_gan/networks/`, where `zssr_gan.training.models` finds it. It
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
