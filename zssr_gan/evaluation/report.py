"""The report of an evaluation as one HTML file that needs nothing else.

It opens from a disk, loads nothing, prints, and reads without its script. The same report gives the same bytes. What
practitioners ask of one: SWGDE 15-M-002 and ASTM E2825 (what was done, and how far it may be trusted).
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from PIL import Image

from zssr_gan.evaluation.charts import charts_of
from zssr_gan.evaluation.metrics.metric import Definition
from zssr_gan.evaluation.part import Part, Scene
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Row, templates
from zssr_gan.provenance import LABELS

LIMITS = (
    "Every result here is a processed image, not an original: its detail is an estimate, to be read beside the input.",
    "A result is an investigative lead, not an identification: nobody may be identified or excluded by it alone.",
    "Compare every result with the original file, at its own size, before anything is concluded from it.",
    "That a result agrees with its input (a small residual) does not make its detail true: many different faces shrink "
    "to the same few pixels.",
    "Figures hold for the images that were measured, and for LR images that were made as theirs. An interval says how "
    "sure the mean over such images is, and nothing about a single face.",
    "Where no truth is known, no figure can say how close a result is to the person who was seen.",
)
"""What a reader must know before a result is used, a sentence or two each."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values under a title (hashes, versions, a model card, a camera), with a picture for some."""

    title: str
    lines: tuple[tuple[str, str], ...]
    png: bytes = b""


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows, in this order."""

    title: str
    run: str
    """Name of the run."""
    description: str
    parts: Mapping[str, Part | None]
    """By name; None: it was not made."""
    warnings: tuple[str, ...] = ()
    """A sentence each, shown at the top."""
    cameras: tuple[Facts, ...] = ()
    """Estimated degradations, with kernel and noise as a picture; where there are none, bicubic is assumed."""
    facts: tuple[Facts, ...] = ()
    settings: str = ""
    """Of the run, as YAML."""
    files: frozenset[str] = field(default=frozenset())
    """Names of the files beside the report; a part's tables are linked where they are `<part>.csv`, `.md` or `.tex`."""


@dataclass(frozen=True, slots=True)
class Leader:
    """The best method against truths, by the first column of the part `truth`, and its difference to the baseline."""

    row: Row
    column: Definition
    cell: Cell
    baseline: str = ""
    """Empty: there is no such difference."""
    difference: Cell | None = None

    @property
    def certain(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        interval = None if self.difference is None else self.difference.interval
        return interval is not None and not interval[0] <= 0 <= interval[1]


def leader(truth: Part | None) -> Leader | None:
    """The leader of a part's first table; None where there is no such table, or no best."""
    if truth is None or not truth.tables or not truth.tables[0].columns:
        return None
    table = truth.tables[0]
    first = min(table.best(0), default=None)
    if first is None:
        return None
    row, column = table.rows[first], table.columns[0]
    for gains in truth.tables[1:]:
        same = [one for one in gains.rows if gains.baseline and one.texts == row.texts and one.cells[0].interval]
        if same:
            return Leader(row, column, row.cells[0], gains.baseline, same[0].cells[0])
    return Leader(row, column, row.cells[0])


def render(report: Report) -> bytes:
    """The report as one HTML file, UTF-8.

    Raises:
        OSError: a picture is none.
    """
    from markupsafe import Markup  # an extra

    page = files("zssr_gan.evaluation") / "page"
    parts = [part for part in report.parts.values() if part is not None]
    counts = {
        "part": len(parts),
        "table": sum(len(part.tables) for part in parts),
        "scene": sum(len(part.scenes) for part in parts),
        "picture": sum(len(part.illustrations) for part in parts),
    }
    text = (
        templates()
        .get_template("page.html")
        .render(
            report=report,
            leader=leader(report.parts.get("truth")),
            counts=counts,
            limits=LIMITS,
            labels=LABELS,
            picture=_picture,
            sides=sides,
            charts_of=charts_of,
            # Ours: no text of anybody else.
            markup=Markup,
            style=Markup((page / "page.css").read_text("utf-8")),
            script=Markup((page / "page.js").read_text("utf-8")),
        )
    )
    return text.encode()


def sides(scene: Scene) -> tuple[int, int]:
    """Numbers of the views that lie left and right first: bicubic and the last result (which has a label)."""
    results = [number for number, view in enumerate(scene.views) if view.label is not None]
    bicubic = [number for number, view in enumerate(scene.views) if view.caption == "bicubic"]
    return next(iter(bicubic or results), 0), results[-1] if results else len(scene.views) - 1


def _picture(png: bytes) -> dict[str, str | int]:
    """Attributes of an `img` of a PNG: its data URI and its size in pixels."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        width, height = picture.size
    return {"src": f"data:image/png;base64,{base64.b64encode(png).decode()}", "width": width, "height": height}
