"""Images as functions of the place: cubic B-splines (Unser 1999), whose derivative is exact."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


class Spline:
    """An image `H W` as a function of the place, with its derivatives (cubic B-spline, Unser 1999)."""

    def __init__(self, image: Tensor) -> None:
        self.size = image.shape
        self._values = torch.from_numpy(
            np.pad(ndimage.spline_filter(image.numpy(), order=3, mode="mirror"), 2, mode="reflect")
        )

    def __call__(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Values `...` and gradients `... 2` at `... 2`; beyond the image, those at its border."""
        corners, weights, slopes = [], [], []
        for axis, side in enumerate(self.size):
            place = places[..., axis].clamp(0, side - 1)
            first = place.floor()
            t = place - first
            corners.append(first.long() + 1)
            weights.append([(1 - t) ** 3 / 6, t**3 / 2 - t**2 + 2 / 3, (-(t**3) + t**2 + t) / 2 + 1 / 6, t**3 / 6])
            slopes.append([-((1 - t) ** 2) / 2, 1.5 * t**2 - 2 * t, -1.5 * t**2 + t + 0.5, t**2 / 2])
        width = self._values.shape[1]
        corner, values = corners[0] * width + corners[1], self._values.flatten()
        value, down, along = (torch.zeros_like(t) for _ in range(3))
        for row in range(4):
            taps = [values[corner + (row * width + column)] for column in range(4)]
            across = sum(tap * weight for tap, weight in zip(taps, weights[1], strict=True))
            value += weights[0][row] * across
            down += slopes[0][row] * across
            along += weights[0][row] * sum(tap * slope for tap, slope in zip(taps, slopes[1], strict=True))
        return value, torch.stack([down, along], -1)
