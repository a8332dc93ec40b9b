"""What moves the weights of a training: Adam, or for the generator Muon where it fits and Adam for the rest."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zssr_gan.errors import SettingsError
from zssr_gan.networks.base import DiscriminatorNetwork, GeneratorNetwork
from zssr_gan.settings.train import OptimiserSettings
from zssr_gan.zeroshot.optimiser import BETA_1, BETA_2, MUON_RATIO, muon_step

_DEVICES_OWN = ("lr", "fused", "foreach", "capturable")  # of an optimiser's groups; rates are set before each step

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
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight.grad.flatten(1))
            if isinstance(group["lr"], Tensor):
                for alike in _by_shape(weights):
                    self._step_together(alike, group["lr"])
                continue
            for weight in weights:
                step = muon_step(self.state[weight]["momentum"], weight.grad.flatten(1))
                weight.sub_(step.view_as(weight), alpha=group["lr"])

    def _step_together(self, weights: list[Tensor], rate: Tensor) -> None:
        """Move weights of one shape by batches of products, where a GPU would be launched for each."""
        momenta = [self.state[weight]["momentum"] for weight in weights]
        momentum = torch.stack(momenta)
        gradients = [weight.grad.flatten(1) for weight in weights if weight.grad is not None]
        steps = muon_step(momentum, torch.stack(gradients)).mul_(rate)
        torch._foreach_copy_(momenta, momentum.unbind())
        torch._foreach_sub_(weights, [step.view(weight.shape) for step, weight in zip(steps, weights, strict=True)])


def _by_shape(weights: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """The weights of each shape."""
    groups: dict[torch.Size, list[Tensor]] = {}
    for weight in weights:
        groups.setdefault(weight.shape, []).append(weight)
    return groups.values()


def optimisers_of(network: nn.Module, settings: OptimiserSettings, name: str) -> list[torch.optim.Optimizer]:
    """The optimisers of a network, each group with its first rate as `initial_lr`.

    On CUDA, Adam is one kernel, and rates are tensors, so that steps can be replayed as a graph: see `set_rates`.
    `name`: `generator` or `discriminator`; the latter is always moved by Adam, for whose pace GANs are tuned.
    """
    rate = settings.lr if name == "generator" else settings.lr_discriminator or settings.lr
    inner: list[Tensor] = []
    if name == "generator" and settings.kind == "muon":
        convolutions = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
        inner = [weight for weight in convolutions if min(weight.shape[:2]) > _PIXELS]
    rest = [weight for weight in network.parameters() if not any(weight is one for one in inner)]
    on_cuda = rest[0].is_cuda
    adam = torch.optim.Adam(rest, rate, (BETA_1, BETA_2), fused=on_cuda or None, capturable=on_cuda)
    made: list[torch.optim.Optimizer] = [adam]
    if inner:
        made.append(Muon(inner, MUON_RATIO * rate))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
            if on_cuda:
                group["lr"] = torch.tensor(group["lr"], device=rest[0].device)
    return made


def set_rates(optimisers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Set all rates to a share of the first ones."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            rate = group["initial_lr"] * share
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def restore(optimiser: torch.optim.Optimizer, values: Mapping[str, Any]) -> None:
    """Take over a `state_dict`, but not how it was computed: it may be another device's."""
    own = optimiser.state_dict()["param_groups"]
    groups = [
        {**saved, **{name: mine[name] for name in _DEVICES_OWN if name in mine}}
        for saved, mine in zip(values["param_groups"], own, strict=True)
    ]
    optimiser.load_state_dict({**values, "param_groups": groups})


def place_networks(networks: Iterable[object], device: torch.device) -> None:
    """Move the modules among `networks` to a device; on CUDA channels come last, as its convolutions want them."""
    for network in networks:
        if isinstance(network, nn.Module):
            network.to(device)
            if device.type == "cuda":
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out


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
