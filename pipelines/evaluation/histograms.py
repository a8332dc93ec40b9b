"""Histograms of pixel intensities: whether a method keeps the distribution of its input."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure as Drawing
from torch import Tensor


def histograms_png(sets: Mapping[str, Sequence[Tensor]]) -> bytes:
    """Shares of the 256 levels, over all channels, a curve a set."""
    drawing = Drawing(figsize=(8, 4), layout="constrained")
    axes = drawing.add_subplot()
    for name, images in sets.items():
        levels = torch.cat([image.mul(255).round().flatten() for image in images]).numpy()
        shares, edges = np.histogram(levels, bins=64, range=(0, 256))
        axes.stairs(shares / shares.sum(), edges, label=f"{name} ({len(images):,} images)")
    axes.set_xlabel("intensity, levels of 255")
    axes.set_ylabel("share of pixels in 4 levels")
    axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()
