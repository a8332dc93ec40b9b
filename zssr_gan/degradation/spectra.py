"""Power spectra pooled over many small images, and the noise that can be read from them.

Shapes: B images, C channels, H W rows and columns, S windows, n their side, u v frequencies.
"""

import torch
from torch import Tensor

from zssr_gan.imaging.colour import LEVELS

_ROUNDING = 1 / 12
"""Variance of rounding to whole levels, in squared levels."""


def hann(side: int) -> Tensor:
    """Window `n n` of energy 1, without zeros at its border."""
    one = torch.hann_window(side + 2, periodic=False)[1:-1]
    window = one[:, None] * one[None]
    return window / window.square().sum().sqrt()


def radii(side: int) -> Tensor:
    """`n n / 2 + 1`: distance of each frequency from 0, in cycles a pixel."""
    return torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])


def windows(levels: Tensor, side: int, step: int) -> Tensor:
    """All windows of `... H W`, `step` pixels apart: `... rows columns n n`."""
    return levels.unfold(-2, side, step).unfold(-2, side, step)


def transformed(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Fourier transform of windowed patches `... n n` without their means: `... u v`, and the means `...`."""
    window = hann(patches.shape[-1]).to(patches)
    means = (patches * window).sum((-2, -1), keepdim=True) / window.sum()
    return torch.fft.rfft2((patches - means) * window), means[..., 0, 0]


def noise_variances(images: list[Tensor], bins: int = 4, quietest: float = 0.1) -> list[tuple[float, float, int]]:
    """How noisy colour images are at each brightness.

    What a camera sees in red, green and blue changes together at the highest frequencies; its noise does not. So the
    least eigenvalue of the channels' covariance there is the noise's variance, and a bound on it where colours are
    not quite parallel. (Patches' covariances are read so in Liu, Tanaka and Okutomi 2013, over pixels for channels.)

    Args:
        images: `3 H W` in [0, 1] each, at least 8 pixels a side.
        bins: of brightness, each with as many windows.
        quietest: share of the windows of each bin that is used: those with the least at low frequencies.

    Returns:
        For each bin: mean brightness in [0, 1], variance in squared levels (of 255), windows used. Windows that touch
        black or white are left out: what is clipped has no noise.
    """
    side = 8
    radius = radii(side)
    low, high = (radius > 0.1) & (radius < 0.3), radius > 0.45
    spectra, brightness, busy = [], [], []
    for image in images:
        patches = windows(image * LEVELS, side, 2).flatten(1, 2).transpose(0, 1)  # S 3 n n
        spectrum, means = transformed(patches)
        seen = ((patches.amin((2, 3)) > 0) & (patches.amax((2, 3)) < LEVELS)).all(1)
        spectra.append(spectrum[seen][..., high])
        brightness.append(means[seen].mean(1))
        busy.append(spectrum[seen][..., low].abs().square().mean((1, 2)))
    all_SCf, bright_S, busy_S = torch.cat(spectra), torch.cat(brightness), torch.cat(busy)
    found = []
    for part in bright_S.argsort().tensor_split(bins):
        if not len(part):
            continue
        quiet = part[busy_S[part].argsort()[: max(1, round(quietest * len(part)))]]
        values = all_SCf[quiet].transpose(0, 1).flatten(1)
        covariance = (values @ values.conj().T).real / values.shape[1]
        least = float(torch.linalg.eigvalsh(covariance.double())[0])
        found.append((float(bright_S[quiet].mean()) / LEVELS, max(0.0, least - _ROUNDING), len(quiet)))
    return found
