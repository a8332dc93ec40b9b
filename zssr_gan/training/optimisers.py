"""What moves the weights of a training: Adam, or for the generator Muon where it fits and Adam for the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zssr_gan.errors import SettingsError
from zssr_gan.networks.base import DiscriminatorNetwork, GeneratorNetwork
from zssr_gan.settings.train import OptimiserSettings
from zssr_gan.zeroshot.optimiser import orthogonalise

_PIXELS = 3  # channels at most: a convolution with no more on one side reads or writes pixels
_BETAS = (0.9, 0.999)
_MUON_RATIO, _MUON_MOMENTUM = 10.0, 0.95  # Muon's rate as a multiple of Adam's, and the decay of its momentum


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", for convolutions.

    The Nesterov momentum of a weight matrix (output channels; inputs of all places), replaced by the nearest matrix
    whose singular values are all about 1. `torch.optim.Muon` takes two-dimensional weights alone.

    Args:
        weights: `O I k k` each, O no more than I k k.
        lr: rate.
        momentum: share that the mean of the gradient keeps.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # none is ever given
        """Move the weights."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:  # of a block that is left out in this epoch
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                mean = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                nesterov = torch.lerp(weight.grad, mean, group["momentum"])
                weight.sub_(orthogonalise(nesterov.flatten(1)).view_as(weight), alpha=group["lr"])


def optimisers_of(network: nn.Module, settings: OptimiserSettings, name: str) -> list[torch.optim.Optimizer]:
    """The optimisers of a network, each group with its first rate as `initial_lr`.

    Args:
        network: the generator or the discriminator.
        settings: rates and kind.
        name: `generator` or `discriminator`; the latter is always moved by Adam, of whose pace GANs are tuned.
    """
    rate = settings.lr if name == "generator" else settings.lr_discriminator or settings.lr
    inner: list[Tensor] = []
    if name == "generator" and settings.kind == "muon":
        convolutions = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
        inner = [weight for weight in convolutions if min(weight.shape[:2]) > _PIXELS]
    rest = [weight for weight in network.parameters() if not any(weight is one for one in inner)]
    made: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, rate, _BETAS)]
    if inner:
        made.append(Muon(inner, _MUON_RATIO * rate, _MUON_MOMENTUM))
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
        torch.compile(_small)(torch.ones(16, device=device))
    except RuntimeError as error:  # of many kinds: no C++ compiler, no Triton
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise SettingsError(
            f"train.compile: torch cannot compile for {device} on this machine ({why}): install a C++ compiler, or set "
            "it to false."
        ) from error
    for part in (*generator.parts, discriminator):
        part.compile()


def _small(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1
