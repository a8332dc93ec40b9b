"""Blur kernels of a few numbers, drawn on pixels: Gaussians, lines and disks.

Each pixel holds the mean over its area. The area's own variance of 1/12 is taken off a Gaussian before.

Shapes: k l of a kernel, both odd; N points, as (y, x).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMAS = 4.0
"""A Gaussian is cut so many standard deviations from its centre."""

_FINER = 7  # samples of a Gaussian along a pixel's side; odd

_NARROWEST = 0.05  # pixels: a Gaussian of no width cannot be inverted

_LINE, _DISK = 257, 1500  # points


def sampled_gaussian(covariance: Tensor) -> Tensor:
    """`k l` float64, odd sides, sum 1; `covariance` over (y, x) in squared pixels.

    Of a Gaussian narrower than a pixel, the values at the pixels' centres alone are a comb that depends on its angle.
    """
    values, vectors = torch.linalg.eigh(covariance)
    covariance = vectors @ torch.diag((values - 1 / 12).clamp(min=_NARROWEST**2)) @ vectors.T
    rows, columns = (math.ceil(SIGMAS * math.sqrt(float(covariance[axis, axis]))) for axis in (0, 1))
    y, x = torch.meshgrid(
        *(
            torch.arange(-n * _FINER - _FINER // 2, n * _FINER + _FINER // 2 + 1, dtype=torch.float64) / _FINER
            for n in (rows, columns)
        ),
        indexing="ij",
    )
    place = torch.stack([y, x], -1)
    fine = torch.exp(-0.5 * (place @ torch.linalg.inv(covariance) * place).sum(-1))
    kernel = F.avg_pool2d(fine[None], _FINER)[0]
    return kernel / kernel.sum()


def spread(points: Tensor, sigma: float, ratio: tuple[float, float]) -> Tensor:
    """The mean of round Gaussians at points, in pixels of an image larger by `ratio` (y, x): `k l` float64, sum 1.

    Args:
        points: `N 2` float64, in pixels before enlarging; their middle is 0.
        sigma: standard deviation of each Gaussian, in the same pixels.
    """
    sides = []
    for axis in (0, 1):
        places = points[:, axis] * ratio[axis]
        width = math.sqrt(max((sigma * ratio[axis]) ** 2 - 1 / 12, _NARROWEST**2))
        reach = math.ceil(float(places.abs().max()) + SIGMAS * width)
        edges = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
        # Shares of each Gaussian within each row or column of pixels: `N k`.
        sides.append(torch.special.ndtr((edges - places[:, None]) / width).diff(dim=1))
    kernel: Tensor = sides[0].T @ sides[1]
    return kernel / kernel.sum()


def line_points(length: float, angle_degrees: float) -> Tensor:
    """`N 2`, even over a line; the angle is from the x axis towards the y axis."""
    angle = math.radians(angle_degrees)
    places = (torch.arange(_LINE, dtype=torch.float64) + 0.5) / _LINE - 0.5
    return length * places[:, None] * torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)


def disk_points(radius: float) -> Tensor:
    """`N 2`, even over a disk, on the spiral of a sunflower (Vogel 1979), in pairs about the centre."""
    number = torch.arange(_DISK // 2, dtype=torch.float64) + 0.5
    along, angle = radius * (number / len(number)).sqrt(), number * math.pi * (3 - math.sqrt(5))
    half = torch.stack([along * angle.sin(), along * angle.cos()], 1)
    return torch.cat([half, -half])
