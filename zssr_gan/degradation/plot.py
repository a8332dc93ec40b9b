"""Draw an estimate of a degradation: its kernel beside bicubic's, how sure it is, its noise, and the words.

Kernels stand enlarged on the grid of HR pixels, upright as the images are. Colours are told apart by the colour-blind
too (Okabe and Ito 2008).
"""

import io
import math
import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zssr_gan.degradation.estimate import Estimate, encode_estimate
from zssr_gan.degradation.estimate_lines import lines_of
from zssr_gan.degradation.found_compression import SetCompression
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur, KernelBlur, MotionBlur
from zssr_gan.files import write_together
from zssr_gan.imaging.colour import LEVELS
from zssr_gan.imaging.sheets import encode_sheet

if TYPE_CHECKING:  # matplotlib takes a part of a second, and most runs draw nothing
    from matplotlib.axes import Axes

_WHOLE, _PARTS, _NEGATIVE = (
    (213 / 255, 94 / 255, 0),
    (86 / 255, 180 / 255, 233 / 255),
    (204 / 255, 121 / 255, 167 / 255),
)

_OUTLINES = {
    "gaussian": "one-sigma ellipse of the blur",
    "motion": "way of the motion",
    "defocus": "edge of the disk out of focus",
}

_SIDE, _PANEL_HEIGHT, _TITLE_HEIGHT, _LINE_HEIGHT, _LABELS = 448, 500, 60, 20, 130  # pixels

_DPI = 100

_SEEN = 0.01  # weights below this share of the peak are not shown


def degradation_picture(estimate: Estimate, of: str = "", *, words: bool = True) -> Tensor:
    """Draw an estimate: `3 H W` in [0, 1].

    Args:
        estimate: what was found.
        of: the camera's name, where there are several.
        words: with a title and the lines of the estimate below; False for a page that has these as text.
    """
    from matplotlib.figure import Figure

    kernels = 1 if estimate.degradation.blur is None and estimate.blur_estimated is None else 2
    found = [one for kind in estimate.kinds for one in kind.compressions]
    blocks = [one for one in found if one.evidence is not None and one.quality is not None]
    panels = kernels + bool(estimate.noise_by_brightness) + bool(blocks)
    width = _SIDE * (max(2, panels) if words else panels)
    lines = []
    for name, text in lines_of(estimate) if words else ():
        wrapped = textwrap.wrap(text, (width - _LABELS) // 9) or [""]
        lines += [(name if number == 0 else "", name, line) for number, line in enumerate(wrapped)]
    title = _TITLE_HEIGHT if words else 0
    height = title + _PANEL_HEIGHT + _LINE_HEIGHT * len(lines) + (20 if words else 0)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = []
    for number in range(panels):
        left, bottom = _SIDE * number + 48, height - title - 36 - 390
        axes.append(figure.add_axes((left / width, bottom / height, 390 / width, 390 / height)))
    _draw_kernels(axes[:kernels], estimate)
    if estimate.noise_by_brightness:
        _draw_noise(axes[kernels], estimate)
    if blocks:
        _draw_blocks(axes[-1], blocks[0])
    if words:
        figure.text(24 / width, 1 - 24 / height, _title(estimate, of), fontsize=14, va="top")
    for number, (label, name, line) in enumerate(lines):
        y = 1 - (title + _PANEL_HEIGHT + _LINE_HEIGHT * number) / height
        loud = estimate.fallback and name in ("not used", "why")
        figure.text(24 / width, y, label, fontsize=10, va="top", color=_WHOLE if loud else "0.35")
        figure.text(_LABELS / width, y, line, fontsize=10, va="top", parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=_DPI)
    levels = np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)[..., :3].copy()
    return torch.from_numpy(levels).permute(2, 0, 1).float().div_(255)


def _title(estimate: Estimate, of: str) -> str:
    images = f"{len(estimate.images)} image{'' if len(estimate.images) == 1 else 's'}{of and f' of {of}'}"
    if estimate.fallback:
        return f"Degradation of {images}: not sure enough, bicubic is assumed"
    return f"Degradation of {images}, estimated from them alone"


def _draw_kernels(axes: "list[Axes]", estimate: Estimate) -> None:
    """The estimated kernel, where there is one, and bicubic's at the same size."""
    blur = estimate.degradation.blur or estimate.blur_estimated
    parts = () if estimate.certainty is None else estimate.certainty.blurs
    scale = blur.scale if isinstance(blur, KernelBlur) else (2, 2)
    drawn = [blur] if isinstance(blur, Blur) else []
    name = "" if not drawn else _OUTLINES[drawn[0].kind]
    none = Degradation().kernel(scale)
    found = none if blur is None else Degradation(blur=blur).kernel(scale)
    reach = max(_reach(found), _reach(none), *(1.1 * _extent(one, scale) for one in (*drawn, *parts)), 3.0)
    _draw_kernel(axes[-1], none, reach)
    axes[-1].set_title(f"Bicubic's kernel, x{scale[1]}: peak {none.max():.3f}", fontsize=10)
    axes[-1].plot([], [], color=_NEGATIVE, linewidth=3, label="weight below zero")
    if blur is not None:
        _draw_kernel(axes[0], found, reach)
        used = "not used" if estimate.fallback else "used"
        axes[0].set_title(f"Estimated kernel at x{scale[1]}, {used}: peak {found.max():.3f}", fontsize=10)
        for number, one in enumerate(drawn):
            label = f"{name}, from all images" if number == 0 else None
            axes[0].plot(*_outline(one, scale), color=_WHOLE, linewidth=4, label=label)
        for number, one in enumerate(parts):
            label = f"the same from each of {len(parts)} parts of them" if number == 0 else None
            axes[0].plot(*_outline(one, scale), color=_PARTS, linewidth=1.5, label=label)
    for shown in axes:
        if shown.get_legend_handles_labels()[0]:
            _legend(shown, -0.02)


def _reach(kernel: Tensor) -> float:
    """The distance from a kernel's centre to the farthest weight that can be seen, in HR pixels."""
    seen = (kernel.abs() >= _SEEN * kernel.abs().max()).nonzero()
    middle = torch.tensor([(side - 1) / 2 for side in kernel.shape])
    return float((seen - middle).abs().max()) + 0.5


def _draw_kernel(axes: "Axes", kernel: Tensor, reach: float) -> None:
    """A kernel on the grid of HR pixels, the darker the more weight, `reach` pixels from the centre to an edge."""
    from matplotlib.colors import to_rgb

    share = (kernel / kernel.max()).numpy()
    # The square root, so that a kernel's flanks are seen beside its peak.
    strength = np.sqrt(np.minimum(np.abs(share), 1)) * (np.abs(share) >= _SEEN)
    deepest = np.where(share[..., None] > 0, to_rgb("#3c3c3c"), to_rgb(_NEGATIVE))
    rows, columns = kernel.shape
    extent = (-columns / 2, columns / 2, rows / 2, -rows / 2)
    axes.imshow(1 + (deepest - 1) * strength[..., None], extent=extent, interpolation="nearest")
    count = math.ceil(reach) + 1
    axes.set_xticks(np.arange(-count, count + 1) + columns % 2 / 2, [])
    axes.set_yticks(np.arange(-count, count + 1) + rows % 2 / 2, [])
    axes.grid(color="0.88", linewidth=0.6)
    axes.tick_params(length=0)
    axes.set(xlim=(-reach, reach), ylim=(reach, -reach))


def _outline(blur: Blur, scale: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Points (x, y) of a Gaussian's one-sigma ellipse, a motion's way or a disk's edge, in HR pixels."""
    if isinstance(blur, GaussianBlur):
        major, minor, degrees = blur.sigma_major, blur.sigma_minor, blur.angle_degrees
    elif isinstance(blur, MotionBlur):
        major, minor, degrees = blur.length / 2, 0.0, blur.angle_degrees
    else:
        major, minor, degrees = blur.radius, blur.radius, 0.0
    t, angle = torch.linspace(0, 2 * math.pi, 181), math.radians(degrees)
    along, across = major * t.cos(), minor * t.sin()
    x = along * math.cos(angle) - across * math.sin(angle)
    y = along * math.sin(angle) + across * math.cos(angle)
    return (x * scale[1]).tolist(), (y * scale[0]).tolist()


def _extent(blur: Blur, scale: tuple[int, int]) -> float:
    """How far a blur's outline goes from its centre along an axis, in HR pixels."""
    x, y = _outline(blur, scale)
    return max(map(abs, x + y))


def _draw_noise(axes: "Axes", estimate: Estimate) -> None:
    """The noise's standard deviation over brightness: as measured, and as assumed."""
    if estimate.degradation.noise is not None:
        brightness = torch.linspace(0, 1, 101)
        deviation = estimate.degradation.noise.deviation(brightness) * LEVELS
        axes.plot(brightness.tolist(), deviation.tolist(), color=_WHOLE, linewidth=2, label="assumed")
    measured = [(one.brightness, one.sigma * LEVELS) for one in estimate.noise_by_brightness]
    axes.plot(*zip(*measured, strict=True), "o", color=_PARTS, label="measured")
    axes.set_title("Noise (levels of 255) over brightness", fontsize=10)
    axes.set_xticks([0, 0.5, 1], ["black", "0.5", "white"])
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.88", linewidth=0.6)
    _legend(axes, -0.08)


def _draw_blocks(axes: "Axes", found: SetCompression) -> None:
    """How many images have their first block of JPEG at which of the 64 places."""
    counts = np.zeros((8, 8), int)
    for (row, column), count in found.places.items():
        counts[row, column] = count
    axes.imshow(counts, cmap="Greys", vmin=0)
    for row, column in zip(*counts.nonzero(), strict=True):
        light = "white" if 2 * counts[row, column] > counts.max() else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=light, fontsize=8)
    again = "" if found.saved_again is None else f" (saved again with {found.saved_again})"
    axes.set_title(f"Images of JPEG {found.name}{again}, by place of the blocks", fontsize=10)
    axes.set_xticks(range(8))
    axes.set_yticks(range(8))
    axes.set_xlabel("pixels from the corner to the first block", fontsize=9)


def _legend(axes: "Axes", y: float) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, y), frameon=False, fontsize=9)


def picture_path(path: Path) -> Path:
    """Where the picture of an estimate's file lies."""
    return path.with_suffix(".png")


def encode_degradation_picture(estimate: Estimate) -> bytes:
    """The file of an estimate's picture."""
    text = {"zssr-gan:degradation-sha256": estimate.degradation_sha256}
    return encode_sheet(degradation_picture(estimate), "degradation", text)


def write_estimate(estimate: Estimate, path: Path, *, replaceable: Collection[Path] = ()) -> None:
    """Write an estimate and, beside it, its picture: both, or none.

    Raises:
        OutputError: one of them exists and is not `replaceable`, or the disk refuses.
    """
    # The JSON file last: where it stands, the picture does too.
    contents = {picture_path(path): encode_degradation_picture(estimate), path: encode_estimate(estimate)}
    write_together(contents, replaceable=replaceable)
