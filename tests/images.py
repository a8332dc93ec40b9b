"""Images and draws that many tests make, and Hypothesis' strategies for them."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

sides = st.integers(4, 40)
scales = st.floats(1, 8)
quick = settings(max_examples=40, deadline=None, derandomize=True)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Even in [0, 1)."""
    return torch.rand(shape, generator=draws(seed))


def ramp(height: int, width: int) -> Tensor:
    """1 2 H W: channel 0 is each pixel's row position, channel 1 its column position (centres at halves)."""
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    return torch.stack([rows[:, None].expand(height, width), columns.expand(height, width)])[None].float()
