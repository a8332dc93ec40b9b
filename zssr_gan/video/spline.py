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
        stored, width = self._values.flatten(), self._values.shape[1]
        weights, slopes, corners = [], [], []
        for axis, side in enumerate(self.size):
            place = places[..., axis].clamp(0, side - 1)
            first = place.floor()
            t = place - first
            rest, t2 = 1 - t, t * t
            corners.append(first.long() + 1)
            weights.append([rest**2 * rest / 6, (t / 2 - 1) * t2 + 2 / 3, (rest / 2 - 1) * rest**2 + 2 / 3, t2 * t / 6])
            slopes.append([rest**2 / -2, (1.5 * t - 2) * t, (2 - 1.5 * rest) * rest, t2 / 2])
        corner = corners[0] * width + corners[1]
        value, down, along = (torch.zeros_like(weights[0][0]) for _ in range(3))
        for row, (weight, slope) in enumerate(zip(weights[0], slopes[0], strict=True)):
            across, change = (torch.zeros_like(value) for _ in range(2))
            for column, (beside, sloping) in enumerate(zip(weights[1], slopes[1], strict=True)):
                taps = stored[row * width + column :].take(corner)
                across.addcmul_(taps, beside)
                change.addcmul_(taps, sloping)
            value.addcmul_(across, weight)
            down.addcmul_(across, slope)
            along.addcmul_(change, weight)
        return value, torch.stack([down, along], -1)
