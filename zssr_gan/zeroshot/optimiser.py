"""Optimisers over a fleet: one tensor of weights, and a learning rate for each member.

`torch.optim` knows one rate for a tensor; a rate a member is what this file exists for.

Shapes: N members, P parameters of one, L inner convolutions, R C the rows and columns of their weight matrices.
"""

import torch
from torch import Tensor

from zssr_gan.config import OptimiserSettings
from zssr_gan.networks.zssr import ZSSR


class FleetOptimiser:
    """Adam on a fleet's weights, or Muon on its inner convolutions and Adam on the rest.

    A moving average of the weights is kept beside them where the settings ask for one; its decay is reached
    gradually, (1 + t) / (10 + t).

    Args:
        network: its `weights_NP` are changed in place.
        settings: kind, decay of the average, clipping.
    """

    def __init__(self, network: ZSSR, settings: OptimiserSettings) -> None:
        self.weights = network.weights_NP.detach()
        self.settings = settings
        self.average = self.weights.clone() if settings.average else None
        self.steps = 0
        # A network lays its inner matrices first, so that each part is one view of the weights.
        matrices = network.inner_matrices if settings.kind == "muon" else (0, 0, 0)
        inner = matrices[0] * matrices[1] * matrices[2]
        self._parts: list[tuple[slice, _Adam | _Muon]] = [(slice(inner, None), _Adam(self.weights[:, inner:]))]
        if inner:
            self._parts.append((slice(0, inner), _Muon(self.weights[:, :inner], matrices, settings.muon_ratio)))

    @torch.no_grad()
    def step(self, gradient: Tensor, rates: Tensor) -> None:
        """Move the weights against `gradient` (`N P`) at `rates` (`N`; 0 leaves a member as it is)."""
        s = self.settings
        if s.clip:
            norm = gradient.norm(dim=1, keepdim=True)
            gradient = gradient * (s.clip / norm.clamp(min=s.clip))
        rates = rates.to(gradient)[:, None]
        self.steps += 1
        for part, rule in self._parts:
            self.weights[:, part].sub_(rates * rule.direction(gradient[:, part]))
        if self.average is not None:
            decay = min(s.average, (1 + self.steps) / (10 + self.steps))
            # A member that has stopped stands still, however long the others go on.
            self.average.lerp_(self.weights, (1 - decay) * (rates > 0).to(self.weights))

    def result(self) -> Tensor:
        """The weights to use: their moving average where one is kept, else the last ones; `N P`."""
        return (self.weights if self.average is None else self.average).clone()


class _Adam:
    """Kingma and Ba 2015, algorithm 1."""

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, weights: Tensor) -> None:
        self.mean = torch.zeros_like(weights)
        self.square = torch.zeros_like(weights)
        self.steps = 0

    def direction(self, gradient: Tensor) -> Tensor:
        """The step at a learning rate of 1."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        root = (self.square / (1 - self.beta2**self.steps)).sqrt_().add_(self.epsilon)
        return (self.mean / (1 - self.beta1**self.steps)).div_(root)


class _Muon:
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": the Nesterov momentum of a weight
    matrix, replaced by the nearest matrix whose singular values are all about 1."""

    momentum = 0.95

    def __init__(self, weights: Tensor, matrices: tuple[int, int, int], ratio: float) -> None:
        self.mean = torch.zeros_like(weights)
        self.matrices = matrices
        self.ratio = ratio

    def direction(self, gradient: Tensor) -> Tensor:
        """The step at a learning rate of 1."""
        self.mean.lerp_(gradient, 1 - self.momentum)
        nesterov = torch.lerp(gradient, self.mean, self.momentum)
        return self.ratio * orthogonalise(nesterov.unflatten(1, self.matrices)).flatten(1)


def orthogonalise(matrices: Tensor) -> Tensor:
    """The matrices with their singular values pushed to about 1, by five quintic Newton-Schulz iterations.

    Each iteration multiplies X by a polynomial in X X^T. Those polynomials commute, so all five are multiplied on the
    small square side, and X is touched twice only.

    Args:
        matrices: `... R C` with R <= C, as a convolution's weights are, flattened from its output channels.

    Returns:
        The same shape; singular values between about 0.7 and 1.2. Coefficients: Jordan et al. 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    product = identity
    for _ in range(5):
        polynomial = a * identity + b * gram + c * gram @ gram
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    result: Tensor = product @ x
    return result
