"""Optimisers over a fleet: one tensor of weights, and a learning rate for each member.

`torch.optim` knows one rate for a tensor; a rate a member is what this file exists for.

Shapes: N members, P parameters of one, L inner convolutions, R C the rows and columns of their weight matrices.
"""

import math

import torch
from torch import Tensor

from zssr_gan.config import OptimiserSettings
from zssr_gan.networks.zssr import ZSSR

_BLOCK = 1 << 17  # weights that Adam moves at once on a CPU: with their gradient and moments 2 MiB


class FleetOptimiser:
    """Adam on a fleet's weights, or Muon on its inner convolutions and Adam on the rest.

    A moving average of the weights is kept beside them where the settings ask for one; its decay is reached
    gradually, (1 + t) / (10 + t).

    Args:
        network: its `weights_NP` are changed in place.
        settings: kind, decay of the average, clipping.
    """

    def __init__(self, network: ZSSR, settings: OptimiserSettings) -> None:
        self.network = network
        self.settings = settings
        self.average_NP = network.weights_NP.detach().clone() if settings.average else None
        self.steps_N1 = torch.zeros(network.members, 1, device=network.weights_NP.device)
        # A network lays its inner matrices first, so that each part is one view of the weights.
        matrices = network.inner_matrices if settings.kind == "muon" else (0, 0, 0)
        inner = matrices[0] * matrices[1] * matrices[2]
        weights = network.weights_NP.detach()
        self._parts: list[tuple[slice, _Adam | _Muon]] = [(slice(inner, None), _Adam(weights[:, inner:], settings))]
        if inner:
            self._parts.append((slice(0, inner), _Muon(weights[:, :inner], matrices, settings)))

    @torch.no_grad()
    def step(self, gradient_NP: Tensor, rates: Tensor) -> None:
        """Move the weights against the gradient at `rates` (`N`; 0 leaves a member as it is)."""
        s = self.settings
        if s.clip:
            norm = gradient_NP.norm(dim=1, keepdim=True)
            gradient_NP = gradient_NP * (s.clip / norm.clamp(min=s.clip))
        weights_NP = self.network.weights_NP
        rates_N1 = rates.to(gradient_NP)[:, None]
        self.steps_N1 += 1
        for part, rule in self._parts:
            rule.move(weights_NP[:, part], gradient_NP[:, part], self.steps_N1, rates_N1)
        if self.average_NP is not None:
            decay_N1 = ((1 + self.steps_N1) / (10 + self.steps_N1)).clamp(max=s.average)
            # A member that has stopped stands still, however long the others go on.
            self.average_NP.lerp_(weights_NP, (1 - decay_N1) * (rates_N1 > 0))

    def result(self, places: Tensor | None = None) -> Tensor:
        """A copy of the weights to use, of all members or those at `places`; `N P`.

        They are their moving average where one is kept, else the last ones.
        """
        weights_NP = self.network.weights_NP.detach() if self.average_NP is None else self.average_NP
        return weights_NP.clone() if places is None else weights_NP[places]

    @torch.no_grad()
    def put(self, places: Tensor) -> None:
        """Begin anew for the members at `places`, whose weights have just been set."""
        self.steps_N1[places] = 0
        if self.average_NP is not None:
            self.average_NP[places] = self.network.weights_NP[places]
        for _, rule in self._parts:
            for moment_NP in rule.moments:
                moment_NP[places] = 0

    def keep(self, places: Tensor) -> None:
        """Leave only the members at `places`; the network has done so already."""
        self.steps_N1 = self.steps_N1[places]
        if self.average_NP is not None:
            self.average_NP = self.average_NP[places]
        for _, rule in self._parts:
            rule.moments = [moment_NP[places] for moment_NP in rule.moments]


class _Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, weights_NP: Tensor, settings: OptimiserSettings) -> None:
        self.beta1, self.beta2, self.epsilon = settings.beta1, settings.beta2, settings.epsilon
        self.moments = [torch.zeros_like(weights_NP), torch.zeros_like(weights_NP)]

    def move(self, weights_NP: Tensor, gradient_NP: Tensor, steps_N1: Tensor, rates_N1: Tensor) -> None:
        """Move the weights in place."""
        # 1 - beta^t; by expm1, since in float32 the first steps would lose digits.
        unbias_mean, unbias_square = (-torch.expm1(steps_N1 * math.log(beta)) for beta in (self.beta1, self.beta2))
        root_N1 = unbias_square.sqrt()
        rates_N1, epsilon_N1 = rates_N1 * root_N1 / unbias_mean, self.epsilon * root_N1
        # On a CPU a block at a time goes through all of this in the core's cache: a fleet's weights would go through
        # memory at each operation.
        width = weights_NP.shape[1] if weights_NP.device.type != "cpu" else max(1, _BLOCK // len(weights_NP))
        tensors = (weights_NP, gradient_NP, *self.moments)
        for weights, gradient, mean, square in zip(*(t.split(width, 1) for t in tensors), strict=True):
            mean.lerp_(gradient, 1 - self.beta1)
            square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            weights.sub_((mean / square.sqrt().add_(epsilon_N1)).mul_(rates_N1))


class _Muon:
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": the Nesterov momentum of a weight
    matrix, replaced by the nearest matrix whose singular values are all about 1."""

    def __init__(self, weights_NP: Tensor, matrices: tuple[int, int, int], settings: OptimiserSettings) -> None:
        self.ratio, self.momentum = settings.muon_ratio, settings.muon_momentum
        self.moments = [torch.zeros_like(weights_NP)]
        self.matrices = matrices

    def move(self, weights_NP: Tensor, gradient_NP: Tensor, _steps_N1: Tensor, rates_N1: Tensor) -> None:
        """Move the weights in place."""
        (mean,) = self.moments
        mean.lerp_(gradient_NP, 1 - self.momentum)
        nesterov = torch.lerp(gradient_NP, mean, self.momentum)
        step_NP = orthogonalise(nesterov.unflatten(1, self.matrices)).flatten(1)
        weights_NP.sub_(self.ratio * rates_N1 * step_NP)


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
