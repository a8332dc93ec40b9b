"""What a person looks at: outputs beside inputs on images held out, and the curves of the losses."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from zssr_gan.imaging.codecs import Metadata, encode_picture
from zssr_gan.imaging.picture import Picture
from zssr_gan.imaging.resampling import resize
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.record import MARK
from zssr_gan.training.sampling import Images, whole_batch

SHOWN = 8
"""Rows of a sheet of samples: always the same images."""
_FIGURES = {
    "synthetic_db": "to the synthetic HR",
    "bicubic_db": "bicubic to it",
    "residual_db": "degraded, to the input",
}


def samples_png(made: Sequence[Tensor], images: Images, title: str) -> bytes:
    """LR, bicubic, synthetic HR and output of images, in rows; the title holds what must be said."""
    rows = []
    for number, sr in enumerate(made[:SHOWN]):
        batch = whole_batch(images, [number])
        assert batch.hr is not None
        bicubic = resize(batch.lr[0], (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        others = [("bicubic", bicubic), ("synthetic HR", batch.hr[0]), ("SRGAN, generative", sr)]
        rows.append([(images.ids[number], batch.lr[0]), *others])
    picture = Picture(contact_sheet(rows, title=title, cell=192), None, 8, Metadata())
    return encode_picture(picture, "png", {MARK: "comparison sheet"})


def curves_png(lines: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """metrics.jsonl as curves: the losses of both networks, and the validation."""
    figure = Figure(figsize=(9, 9), layout="constrained")
    figure.suptitle(title, fontsize=10, wrap=True)
    panels = figure.subplots(3, 1, sharex=True)
    for who, axes in zip(("generator", "discriminator"), panels[:2], strict=True):
        its = [line for line in lines if line.get("who") == who]
        names = sorted({name for line in its for name in line} - {"step", "phase", "who", "gradient"})
        for name in names:
            points = [(line["step"], line[name]) for line in its if line.get(name)]
            axes.plot([step for step, _ in points], [value for _, value in points], label=name, linewidth=1)
        axes.set_yscale("log" if who == "generator" else "linear")
        _finish(axes, f"{who}: losses without weights", bool(names))
    checks = [(line["step"], line["validation"]) for line in lines if "validation" in line]
    for name, label in _FIGURES.items():
        panels[2].plot([step for step, _ in checks], [values[name] for _, values in checks], label=label)
    _finish(panels[2], "validation: PSNR, dB", bool(checks))
    panels[2].set_xlabel("steps of both networks")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()


def _finish(axes: Any, label: str, named: bool) -> None:
    axes.set_ylabel(label, fontsize=9)
    if named:
        axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
