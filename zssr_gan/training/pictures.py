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
    "truth_db": "to the HR image",
    "bicubic_db": "bicubic to it",
    "residual_db": "degraded, to the input",
}

_NO_LOSSES = {"step", "phase", "who", "gradient", "loss"}
"""Of a line of the generator's."""


def samples_png(made: Sequence[Tensor], images: Images, title: str, *, paired: bool = False) -> bytes:
    """LR, bicubic, synthetic HR (`paired`: the truth) and output, a row an image; the title holds what must be said."""
    rows = []
    for number, sr in enumerate(made[:SHOWN]):
        batch = whole_batch(images, [number])
        assert batch.hr is not None
        bicubic = resize(batch.lr[0], (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        others = [("bicubic", bicubic), ("HR image" if paired else "synthetic HR", batch.hr[0])]
        others.append(("SRGAN, generative", sr))
        rows.append([(images.ids[number], batch.lr[0]), *others])
    picture = Picture(contact_sheet(rows, title=title, cell=192), None, 8, Metadata())
    return encode_picture(picture, "png", {MARK: "comparison sheet"})


def curves_png(lines: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """metrics.jsonl as curves: the losses of both networks, the discriminator's accuracy, the validation, the rate."""
    figure = Figure(figsize=(9, 15), layout="constrained")
    figure.suptitle(title, fontsize=10, wrap=True)
    panels = figure.subplots(6, 1, sharex=True)
    its = [line for line in lines if line.get("who") == "generator"]
    names = sorted({name for line in its for name in line} - _NO_LOSSES)
    for name in names:
        _draw(panels[0], its, name)
    if names:
        _draw(panels[0], its, "loss", "weighted sum", color="black", linestyle=":")
    # Losses differ by powers of ten, and one may be 0 or below: from its smallest value above 0 on, the axis is a line.
    sizes = [abs(line[name]) for line in its for name in (*names, "loss") if line.get(name)]
    panels[0].set_yscale("symlog", linthresh=min(sizes, default=1.0))
    _finish(panels[0], "generator: losses, unweighted", bool(names))
    its = [line for line in lines if line.get("who") == "discriminator"]
    _draw(panels[1], its, "loss")
    _finish(panels[1], "discriminator: loss", bool(its))
    _draw(panels[2], its, "accuracy", "told rightly")
    panels[2].set_ylim(-0.02, 1.02)
    _finish(panels[2], "discriminator: accuracy", bool(its))
    checks = [{"step": line["step"], **line["validation"]} for line in lines if "validation" in line]
    for name, label in _FIGURES.items():
        if name in ("synthetic_db", "truth_db") and not any(name in check for check in checks):
            continue  # a training has one of them
        _draw(panels[3], checks, name, label)
    _finish(panels[3], "validation: PSNR, dB", bool(checks))
    _draw(panels[4], checks, "loss", "content losses, weighted")
    _finish(panels[4], "validation: loss", any(check.get("loss") is not None for check in checks))
    epochs = [{"step": line["step"], **line["epoch"]} for line in lines if "epoch" in line]
    _draw(panels[5], epochs, "rate", "of the generator", marker=".")
    _finish(panels[5], "rate", bool(epochs))
    panels[5].set_xlabel("steps of both networks")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()


def _draw(axes: Any, lines: Sequence[Mapping[str, Any]], name: str, label: str | None = None, **style: Any) -> None:
    """The values of a name by step; lines that have none are passed over."""
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    axes.plot(*zip(*points, strict=True) if points else ((), ()), label=label or name, **{"linewidth": 1, **style})


def _finish(axes: Any, label: str, named: bool) -> None:
    axes.set_ylabel(label, fontsize=9)
    if named:
        axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
