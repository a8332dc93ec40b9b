"""Power spectra of windows of small images.

Shapes: H W rows and columns, n a window's side, u v frequencies.
"""

import torch
from torch import Tensor


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
