"""The report of an evaluation: one HTML file that needs nothing else, made of parts and of what is known of their run.

It opens from a disk, loads nothing, prints, and reads without its script. The same report gives the same bytes. What
practitioners ask of one: SWGDE 15-M-002 and ASTM E2825 (what was done, and how far it may be trusted).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files

from zssr_gan.evaluation.parts import Part
from zssr_gan.evaluation.report_charts import Chart, drawn
from zssr_gan.evaluation.report_pictures import ShownScene, shown_picture, shown_scene
from zssr_gan.evaluation.report_tables import ShownTable, label_in, leading, shown_table
from zssr_gan.record import LABELS

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

_KINDS = {"CSV": "csv", "Markdown": "md", "LaTeX": "tex"}


@dataclass(frozen=True, slots=True)
class Missing:
    """A part that was not made."""

    name: str
    command: str
    """That makes it."""


@dataclass(frozen=True, slots=True)
class Camera:
    """What is assumed of how a camera made its images."""

    name: str
    lines: tuple[tuple[str, str], ...]
    """What each is about, and what it says."""
    png: bytes
    """The kernel and the noise."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values under a title: hashes, versions, a model card."""

    title: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows, in this order."""

    title: str
    run: str
    """Name of the run."""
    description: str
    parts: tuple[Part | Missing, ...]
    warnings: tuple[str, ...] = ()
    """What must be said loudly, a sentence each."""
    cameras: tuple[Camera, ...] = ()
    """Where there is none, bicubic is assumed."""
    facts: tuple[Facts, ...] = ()
    settings: str = ""
    """Of the run, as YAML."""
    files: frozenset[str] = frozenset()
    """Names of the files beside the report; a part's tables are linked where they are `<part>.csv`, `.md` or `.tex`."""


def render(report: Report) -> bytes:
    """The report as one HTML file, UTF-8.

    Raises:
        OSError: a picture is none.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("zssr_gan.evaluation", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = files("zssr_gan.evaluation") / "page"
    made = [part for part in report.parts if isinstance(part, Part)]
    text = environment.get_template("page.html").render(
        report=report,
        parts=[_shown(number, part, report.files) for number, part in enumerate(report.parts)],
        leading=leading(made),
        counted=_counted(made),
        limits=LIMITS,
        labels=LABELS,
        label_in=label_in,
        picture=shown_picture,
        # Ours, and no text of anybody else.
        style=Markup((page / "page.css").read_text("utf-8")),
        script=Markup((page / "page.js").read_text("utf-8")),
    )
    return text.encode()


@dataclass(frozen=True, slots=True)
class _Shown:
    """A part as the template has it; `missing` or all of the others."""

    key: str
    title: str
    missing: Missing | None = None
    part: Part | None = None
    scenes: tuple[ShownScene, ...] = ()
    tables: tuple[tuple[ShownTable, tuple[Chart, ...]], ...] = ()
    """Each with its charts."""
    files: tuple[tuple[str, str], ...] = ()
    """Kinds and names."""


def _shown(number: int, part: Part | Missing, files: Collection[str]) -> _Shown:
    key = f"part-{number + 1}"
    if isinstance(part, Missing):
        return _Shown(key, part.name, missing=part)
    return _Shown(
        key,
        part.title,
        part=part,
        scenes=tuple(shown_scene(f"{key}-scene-{n + 1}", scene) for n, scene in enumerate(part.scenes)),
        tables=tuple((shown_table(f"{key}-table-{n + 1}", table), drawn(table)) for n, table in enumerate(part.tables)),
        files=tuple((kind, name) for kind, end in _KINDS.items() if (name := f"{part.name}.{end}") in files),
    )


def _counted(parts: Sequence[Part]) -> str:
    """What is in the report, in numbers."""
    counts = {
        "part": len(parts),
        "table": sum(len(part.tables) for part in parts),
        "scene": sum(len(part.scenes) for part in parts),
        "picture": sum(len(part.illustrations) for part in parts),
    }
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count)
