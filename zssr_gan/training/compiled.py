"""`torch.compile` for a training: the networks' passes become fewer and larger kernels, after minutes of compiling."""

import torch

from zssr_gan.errors import SettingsError
from zssr_gan.networks.discriminators import DiscriminatorNetwork
from zssr_gan.networks.generators import GeneratorNetwork


def compile_networks(generator: GeneratorNetwork, discriminator: DiscriminatorNetwork, device: torch.device) -> None:
    """Have both run compiled, in place: names of weights and copies of the networks stay as they are.

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
