"""What moves the weights of a training: Adam, or for the generator Muon where it fits and Adam for the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zssr_gan.errors import SettingsError
from zssr_gan.networks.base import DiscriminatorNetwork, GeneratorNetwork
from zssr_gan.settings.train import OptimiserSettings
from zssr_gan.zeroshot.optimiser import BETA_1, BETA_2, MUON_RATIO, muon_step

_PIXELS = 3  # channels at most: a convolution with no more on one side reads or writes pixels


class Muon(torch.optim.Optimizer):
    """Muon for convolutions: weights `O I k k`, O no more than I k k, are matrices of O rows.

    `torch.optim.Muon` takes two-dimensional weights alone.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float) -> None:
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # none is ever given
        """Move the weights; those of a block that is left out in this epoch have no gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                gradient, state = weight.grad.flatten(1), self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                weight.sub_(muon_step(state["momentum"], gradient).view_as(weight), alpha=group["lr"])


def optimisers_of(network: nn.Module, settings: OptimiserSettings, name: str) -> list[torch.optim.Optimizer]:
    """The optimisers of a network, each group with its first rate as `initial_lr`.

    `name`: `generator` or `discriminator`; the latter is always moved by Adam, for whose pace GANs are tuned.
    """
    rate = settings.lr if name == "generator" else settings.lr_discriminator or settings.lr
    inner: list[Tensor] = []
    if name == "generator" and settings.kind == "muon":
        convolutions = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
        inner = [weight for weight in convolutions if min(weight.shape[:2]) > _PIXELS]
    rest = [weight for weight in network.parameters() if not any(weight is one for one in inner)]
    made: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, rate, (BETA_1, BETA_2))]
    if inner:
        made.append(Muon(inner, MUON_RATIO * rate))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return made


def compile_networks(generator: GeneratorNetwork, discriminator: DiscriminatorNetwork, device: torch.device) -> None:
    """Compile both by `torch.compile`, in place: names of weights and copies of the networks stay as they are.

    Each of the generator's parts is compiled by itself. Which blocks are skipped changes from epoch to epoch, and each
    choice would compile the whole network anew; blocks by themselves are alike, and one compilation does for all.

    Raises SettingsError where torch cannot compile on this machine.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(16, device=device))
    except RuntimeError as error:  # of many kinds: no C++ compiler, no Triton
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise SettingsError(
            f"train.compile: torch cannot compile for {device} on this machine ({why}): install a C++ compiler, or set "
            "it to false."
        ) from error
    for part in (*generator.parts, discriminator):
        part.compile()
