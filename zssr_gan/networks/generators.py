"""What a training, its files and its use ask of a network that enlarges, whichever kind it is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from zssr_gan.networks.facts import Facts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class GeneratorNetwork(nn.Module):
    """A network that makes `B C sH sW` of `B C H W` in [0, 1], not clipped, and refuses by its facts what does not fit.

    A kind of generator extends it in a file of `zssr_gan/networks/`, where `zssr_gan.training.models` finds it. It is
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
