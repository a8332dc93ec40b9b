"""What a training says between steps, and leaves to read: metrics.jsonl, and its curves, epoch table and samples."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.errors import OutputError
from zssr_gan.files import atomic_write
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.progress import ignore
from zssr_gan.training.sampling import Images, whole_batch

Line = Mapping[str, Any]
"""Of metrics.jsonl: `step` and `phase`; then losses and whose they are (`who`), or `validation`, or `epoch`."""


@dataclass(frozen=True)
class Callbacks:
    """What a caller hears of between steps.

    `progress`: step, all steps and losses, after each logged step. `notice`: a sentence. `best`: the best generator so
    far, with step, phase and figures. `samples`: step, all steps, and outputs on the images held out. `begun`: the step
    after which a run begins. `logged`: step and values of a line of metrics.jsonl.
    """

    progress: Callable[[int, int, Mapping[str, float]], None] = ignore
    notice: Callable[[str], None] = ignore
    best: Callable[[GeneratorNetwork, int, str, Mapping[str, float]], None] = ignore
    samples: Callable[[int, int, Sequence[Tensor]], None] = ignore
    begun: Callable[[int], None] = ignore
    logged: Callable[[int, Mapping[str, JsonValue]], None] = ignore


SILENT = Callbacks()
"""Of a caller that listens to nothing."""


class MetricsLog:
    """metrics.jsonl: one JSON object a line, the step first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_back(self, step: int) -> None:
        """Leave out what was logged after `step`, and a line that a kill tore. Raises OutputError."""
        lines = [_text(line) for line in self.read() if line["step"] <= step]
        atomic_write(self.path, "".join(lines).encode(), overwrite=True)

    def append(self, step: int, values: Mapping[str, JsonValue]) -> None:
        """Write one more line. Raises OutputError."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_text({"step": step, **values}))
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}).") from error

    def flush(self) -> None:
        """Wait until the disk holds it: before a checkpoint that counts on it."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All lines before the first that `append` cannot have written. Raises OutputError."""
        lines = []
        try:
            whole = self.path.read_text("utf-8", errors="replace") if self.path.exists() else ""
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read ({error.strerror}): move it away, or mend it.") from error
        for text in whole.splitlines():
            try:
                line = json.loads(text, parse_constant=int)  # NaN and Infinity are ValueErrors, too
            except ValueError:
                break
            if not isinstance(line, dict) or type(line.get("step")) is not int:
                break
            groups = [line.get(name, {}) for name in ("validation", "epoch")]
            figures = [value for name, value in line.items() if name not in ("phase", "who", "validation", "epoch")]
            if not all(isinstance(group, dict) for group in groups) or not all(map(_is_figure, figures)):
                break
            lines.append(line)
        return lines


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _text(line: Line) -> str:
    return json.dumps(line, allow_nan=False) + "\n"


SHOWN = 8
"""Rows of a sheet of samples: always the same images."""


def samples_png(made: Sequence[Tensor], images: Images, title: str, *, paired: bool = False) -> bytes:
    """LR, bicubic, synthetic HR (`paired`: the truth) and output, a row an image; the title holds what must be said."""
    rows = []
    for number, sr in enumerate(made[:SHOWN]):
        batch = whole_batch(images, number)
        assert batch.hr is not None
        bicubic = resize(batch.lr[0], (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
        hr = ("HR image" if paired else "synthetic HR", batch.hr[0])
        rows.append([(images.ids[number], batch.lr[0]), ("bicubic", bicubic), hr, ("SRGAN, generative", sr)])
    return encode_sheet(contact_sheet(rows, title=title, cell=192), "comparison sheet")


_NO_LOSSES = {"step", "phase", "who", "gradient", "loss"}
"""Of a line of the generator's."""


def curves_png(lines: Sequence[Line], title: str) -> bytes:
    """metrics.jsonl as curves: the losses of both networks, the discriminator's accuracy, the validation, the rate."""
    figure = Figure(figsize=(9, 15), layout="constrained")
    figure.suptitle(title, fontsize=10, wrap=True)
    panels = figure.subplots(6, 1, sharex=True)
    ours, theirs = ([line for line in lines if line.get("who") == who] for who in ("generator", "discriminator"))
    checks, epochs = (
        [{"step": line["step"], **line[name]} for line in lines if name in line] for name in ("validation", "epoch")
    )
    names = sorted({name for line in ours for name in line} - _NO_LOSSES)
    for name in names:
        _draw(panels[0], ours, name)
    if names:
        _draw(panels[0], ours, "loss", "weighted sum", color="black", linestyle=":")
    # Losses differ by powers of ten, and one may be 0 or below: from its smallest value above 0 on, the axis is a line.
    sizes = [abs(line[name]) for line in ours for name in (*names, "loss") if line.get(name)]
    panels[0].set_yscale("symlog", linthresh=min(sizes, default=1.0))
    _finish(panels[0], "generator: losses, unweighted", bool(names))
    _draw(panels[1], theirs, "loss")
    _finish(panels[1], "discriminator: loss", bool(theirs))
    _draw(panels[2], theirs, "accuracy", "classified rightly")
    panels[2].set_ylim(-0.02, 1.02)
    _finish(panels[2], "discriminator: accuracy", bool(theirs))
    for name, label in (("synthetic_db", "to the synthetic HR"), ("truth_db", "to the HR image")):
        if any(name in check for check in checks):  # a training has one of them
            _draw(panels[3], checks, name, label)
    _draw(panels[3], checks, "bicubic_db", "bicubic to it")
    _draw(panels[3], checks, "residual_db", "degraded, to the input")
    _finish(panels[3], "validation: PSNR, dB", bool(checks))
    _draw(panels[4], checks, "loss", "content losses, weighted")
    _finish(panels[4], "validation: loss", any(check.get("loss") is not None for check in checks))
    _draw(panels[5], epochs, "rate", "of the generator", marker=".")
    _finish(panels[5], "rate", bool(epochs))
    panels[5].set_xlabel("steps of both networks")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()


def _draw(axes: Any, lines: Sequence[Line], name: str, label: str | None = None, **style: Any) -> None:
    """Draw the values of a name by step; lines that have none are passed over."""
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    axes.plot(*zip(*points, strict=True) if points else ((), ()), label=label or name, **{"linewidth": 1, **style})


def _finish(axes: Any, label: str, named: bool) -> None:
    axes.set_ylabel(label, fontsize=9)
    if named:
        axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


HEADS = {
    **{"epoch": "epoch", "step": "step", "phase": "phase", "generator": "G loss", "discriminator": "D loss"},
    **{"real": "D loss, real", "fake": "D loss, fake", "validation_loss": "validation loss"},
    **{"validation_db": "validation PSNR, dB", "rate": "rate"},
}
"""Columns by name: losses are means over the epoch, all weighted terms together; the rate is the generator's in the
epoch's last step."""


def epoch_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """A row an epoch, by the names in `HEADS`; None where there is no value. `lines`: those of metrics.jsonl."""
    rows = []
    for line in lines:
        if (epoch := line.get("epoch")) is None:
            continue
        ours, theirs, checked = (epoch.get(name) or {} for name in ("generator", "discriminator", "validation"))
        validation = (checked.get("loss"), checked.get("truth_db", checked.get("synthetic_db")))
        losses = (ours.get("loss"), *(theirs.get(name) for name in ("loss", "real", "fake")))
        values = (epoch["number"], line["step"], line["phase"], *losses, *validation, epoch["rate"])
        rows.append(dict(zip(HEADS, values, strict=True)))
    return rows


def epochs_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """In full digits; what has no value is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(HEADS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def epochs_markdown(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """With four digits; columns that have no value anywhere are left out."""
    names = [name for name in HEADS if any(row[name] is not None for row in rows)]
    cells = [[HEADS[name] for name in names], ["---"] * len(names)]
    cells += [[_short(row[name]) for name in names] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells).encode()


def _short(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
