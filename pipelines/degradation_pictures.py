"""degradation.png: what is assumed of each camera, a panel each: the kernel, the blur's ellipse, and words."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.data.cameras import CaseDegradations
from zssr_gan.imaging.codecs import Metadata, encode_picture
from zssr_gan.imaging.degradation import GaussianBlur
from zssr_gan.imaging.picture import Picture
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.record import MARK
from zssr_gan.zeroshot.degradation import Estimate

_SCALE = 2  # kernels are shown for it, in pixels of the HR image
_SIDE = 320  # pixels of a kernel's picture
_FEWEST_PIXELS = 15  # of the HR image that a picture shows, so that narrow kernels look narrow
_COLUMNS = 3
_LINE = (1.0, 0.35, 0.1)


def degradations_png(degradations: CaseDegradations) -> bytes:
    """One panel a group, in rows."""
    panels = [estimate_sheet(one.estimate, one.group) for one in degradations.groups]
    rows = [panels[at : at + _COLUMNS] for at in range(0, len(panels), _COLUMNS)]
    lines = [_joined(row, -1) for row in rows]
    return encode_picture(Picture(_joined(lines, -2), None, 8, Metadata()), "png", {MARK: "degradation"})


def estimate_sheet(estimate: Estimate, title: str) -> Tensor:
    """The kernel of an estimate with its ellipse, and what was found in words: `3 H W`, [0, 1], on white."""
    sure = estimate.certainty
    words = [f"{estimate.summary}.", f"From {len(estimate.images):,} images: {estimate.why}."]
    if sure is not None:
        errors = f"{sure.sigma_major:.3f} and {sure.sigma_minor:.3f} LR pixels"
        words.append(f"Standard errors of the blur's widths: {errors}, over {len(sure.blurs)} parts of the set.")
    words.append(f"The kernel at x{_SCALE}; the line lies one standard deviation of the blur from its centre.")
    return contact_sheet([[("\n".join(words), _kernel(estimate))]], title=title, cell=_SIDE)


def _kernel(estimate: Estimate) -> Tensor:
    """`3 H W`: the kernel, black where it is 0 (and where it is negative), the blur's ellipse over it."""
    kernel = estimate.degradation.kernel((float(_SCALE), float(_SCALE)))
    side = max(_FEWEST_PIXELS, *kernel.shape)
    top, left = ((side - n) // 2 for n in kernel.shape)
    canvas = torch.zeros(side, side)
    canvas[top : top + kernel.shape[0], left : left + kernel.shape[1]] = (kernel / kernel.max()).clamp(0, 1)
    factor = max(1, _SIDE // side)
    picture = canvas.repeat_interleave(factor, 0).repeat_interleave(factor, 1).repeat(3, 1, 1)
    blur = estimate.degradation.blur
    if isinstance(blur, GaussianBlur):
        turn = torch.linspace(0, 2 * math.pi, 8 * _SIDE, dtype=torch.float64)
        angle = math.radians(blur.angle_degrees)
        a, b = blur.sigma_major * turn.cos(), blur.sigma_minor * turn.sin()
        # The kernel's own centre, which lies between two pixels where its side is even.
        y = (top + kernel.shape[0] / 2 + _SCALE * (a * math.sin(angle) + b * math.cos(angle))) * factor
        x = (left + kernel.shape[1] / 2 + _SCALE * (a * math.cos(angle) - b * math.sin(angle))) * factor
        last = side * factor - 1
        picture[:, y.long().clamp(0, last), x.long().clamp(0, last)] = torch.tensor(_LINE)[:, None]
    return picture


def _joined(panels: list[Tensor], axis: int) -> Tensor:
    """Panels side by side (-1) or one below the other (-2), on white."""
    across = -3 - axis
    widest = max(panel.shape[across] for panel in panels)
    filled = []
    for panel in panels:
        missing = widest - panel.shape[across]
        filled.append(F.pad(panel, (0, 0, 0, missing) if axis == -1 else (0, missing), value=1.0))
    return torch.cat(filled, axis)
