"""First weights: drawn from a generator of their own, so that a seed gives the same network whatever else is drawn."""

import torch
from torch import nn

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
