"""Tell a disk from a Gaussian by the dark ring that it leaves in the mean power spectrum of a set of images.

Noise fills the ring, but noise that is known is no obstacle. The scenes' own spectrum is smooth: the logarithm of its
power is taken as a parabola over the logarithm of the frequency, with one and two turns over the angle.

Shapes: B images, H W rows and columns, u v frequencies.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zssr_gan.degradation.recurrence import Tiles
from zssr_gan.degradation.spectra import hann, radii, transformed, windows
from zssr_gan.imaging.colour import LEVELS

_SIDE, _FINER = 16, 4  # pixels of the windows; frequencies before a window smooths them, for one after
_LOWEST, _HIGHEST = 0.05, 0.75  # cycles a pixel, those compared
_TRIALS = 500
_START = np.array([5, -2.5, 0, 0, 0, 0])  # of the scenes' spectrum: a power law
_STEPS = np.array([1, 0.5, 0.2, 0.2, 0.2, 0.1])


def dark_ring(tiles: Tiles, noise: float, sigma: float) -> tuple[float, float]:
    """The radius of the disk that fits the mean power spectrum best, LR pixels, and how many times as well as the best
    Gaussian it fits; 0 and 0 where no tile holds a window.

    Args:
        tiles: of one camera, not compressed.
        noise: standard deviation of luma's noise, [0, 1] units.
        sigma: where the search begins, standard deviation of the blur an axis, LR pixels.
    """
    spectra = [
        transformed(windows(group * LEVELS, _SIDE, 2).flatten(0, 2))[0].abs().square()
        for group in tiles.of_side(_SIDE).groups
    ]
    if not spectra:
        return 0.0, 0.0
    compared = (radii(_SIDE) > _LOWEST) & (radii(_SIDE) < _HIGHEST)
    power = torch.cat(spectra).mean(0)[compared].double()
    _, gaussian = _fit(power, noise, sigma, lambda r, width: (-2 * (math.pi * r * width) ** 2).exp())
    radius, disk = _fit(power, noise, 2 * sigma, _disk)
    return radius, gaussian / disk


def _fit(power: Tensor, noise: float, width: float, blurred: Callable[[Tensor, float], Tensor]) -> tuple[float, float]:
    """The width of a blur under which the power that is compared fits best, and the mean deviance there."""
    from scipy.optimize import minimize  # costs half a second to import

    fine = _SIDE * _FINER
    y, x = (torch.fft.fftfreq(fine, dtype=torch.float64).reshape(shape) for shape in ((-1, 1), (1, -1)))
    radius, angle = torch.hypot(y, x), torch.atan2(y + 0 * x, x + 0 * y)
    fall, once, twice = radius.clamp(min=0.02).log(), (2 * angle).cos(), (4 * angle).cos()
    shapes = torch.stack([torch.ones_like(fall), fall, fall**2, once, once * fall, twice])
    window = torch.zeros(fine, fine, dtype=torch.float64)
    window[:_SIDE, :_SIDE] = hann(_SIDE)
    leakage = torch.fft.fft2(torch.fft.fft2(window).abs().square()) / fine**2
    compared = (radii(_SIDE) > _LOWEST) & (radii(_SIDE) < _HIGHEST)
    floor = (noise * LEVELS) ** 2 + 1 / 12

    def cost(point: NDArray[np.float64]) -> float:
        scene = torch.einsum("n,nuv->uv", torch.from_numpy(point[:-1]), shapes).exp()
        seen = torch.fft.ifft2(torch.fft.fft2(scene * blurred(radius, abs(float(point[-1]))).square()) * leakage).real
        ratio = power / (seen[::_FINER, ::_FINER][:, : _SIDE // 2 + 1][compared] + floor).clamp(min=1e-9)
        return float((ratio - ratio.log() - 1).mean())

    begin = np.append(_START, width)
    for steps in (np.append(_STEPS, 0.2), np.append(_STEPS, 0.2) / 4):  # a simplex that has shrunk is opened again
        simplex = np.vstack([begin, begin + np.diag(steps)])
        found = minimize(cost, begin, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": _TRIALS})
        begin = found.x
    return abs(float(begin[-1])), float(found.fun)


def _disk(radius: Tensor, width: float) -> Tensor:
    """The transfer function of an even disk."""
    place = (2 * math.pi * width * radius).clamp(min=1e-4)
    transfer: Tensor = 2 * torch.special.bessel_j1(place) / place
    return transfer
