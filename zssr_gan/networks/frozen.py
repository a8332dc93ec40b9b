"""What networks share that others trained and nobody here trains on: ImageNet's normalisation, and taking weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zssr_gan.errors import WeightsError

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
