"""The report of an evaluation: one HTML file that needs nothing else, made of parts and of what is known of their run.

It opens from a disk, loads nothing, prints, and reads without its script. The same report gives the same bytes. What
practitioners ask of one: SWGDE 15-M-002 and ASTM E2825 (what was done, and how far it may be trusted).
"""

import base64
import io
import platform
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from matplotlib.ticker import MaxNLocator
from PIL import Image

from zssr_gan.data.cameras import read_degradations
from zssr_gan.data.split import PARTS, Split, read_split
from zssr_gan.data.store import SETTINGS, read_settings
from zssr_gan.degradation.plot import account, degradation_panels
from zssr_gan.evaluation.metrics.metric import Definition
from zssr_gan.evaluation.part import Part, Scene, View, decode_part
from zssr_gan.evaluation.run import Run
from zssr_gan.evaluation.tables import BETTER, Cell, Marked, Row, Table, difference_in, lay_out, remarks_of
from zssr_gan.files import atomic_write, canonical_sha256, sha256_file
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.provenance import LABELS, MARK, Label
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.training.model_card import account as account_of_card
from zssr_gan.zeroshot.shared import read_shared

# Tables as a report's page shows them: which cell is the best of its column, which has none, and what leads.


_TRUTH = "truth"
"""Name of the part that holds methods against truths."""


@dataclass(frozen=True, slots=True)
class ShownCell:
    """A cell: its value and its spread apart, and the mark of its note."""

    value: str
    spread: str
    """Standard deviation and interval; empty where there are none."""
    mark: str
    said: str
    """What its note says: why there is no value, or what must be said beside it."""
    none: bool
    best: bool


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table; `key` is an id of the page, that its notes' ids begin with."""

    key: str
    title: str
    heads: tuple[str, ...]
    columns: tuple[Marked, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[ShownCell, ...]], ...]
    """Texts and cells."""
    remarks: tuple[str, ...]
    definitions: tuple[Marked, ...]
    reasons: tuple[Marked, ...]
    compares: bool
    """Whether a best of a column is marked."""


@dataclass(frozen=True, slots=True)
class Leading:
    """The best of the methods that were held against truths, by the table's first column."""

    method: str
    label: str
    figure: str
    """With its interval and unit."""
    definition: str
    direction: str
    images: int
    said: str
    """What must be said beside the figure."""
    baseline: str = ""
    """The method that it is compared with; empty where the part has no such differences."""
    difference: str = ""
    sure: bool = False
    """Whether the interval of the difference leaves 0 out."""


def label_in(text: str) -> bool:
    """Whether a text of a row is one of the labels of `zssr_gan.inference.record`."""
    return text in LABELS


def of_means(table: Table) -> bool:
    """Whether rows are methods: means over images, with intervals; not single images, among which none is best."""
    return any(cell.ends is not None for row in table.rows for cell in row.cells.values())


def shown_table(key: str, table: Table) -> ShownTable:
    """A table for the page."""
    laid_out = lay_out(table)
    texts, columns = len(table.heads), len(table.columns)
    compares = of_means(table)
    best = {column.name: _best(table, column) if compares else set[int]() for column in table.columns}
    rows = []
    for number, (row, said) in enumerate(zip(table.rows, laid_out.rows, strict=True)):
        cells = tuple(
            _cell(row.cells[column.name], marked, best=number in best[column.name])
            for column, marked in zip(table.columns, said[texts:], strict=True)
        )
        rows.append((row.texts, cells))
    return ShownTable(
        key,
        table.title,
        table.heads,
        laid_out.heads[texts:],
        tuple(rows),
        remarks_of(table),
        laid_out.notes[:columns],
        laid_out.notes[columns:],
        compares and any(best.values()),
    )


def leading(parts: Sequence[Part]) -> Leading | None:
    """What leads the first table of the part with truths; None where there is no such table, or nothing leads."""
    tables = next((part.tables for part in parts if part.name == _TRUTH), ())
    if not tables or not tables[0].columns or not of_means(tables[0]):
        return None
    column, rows = tables[0].columns[0], tables[0].rows
    first = min(_best(tables[0], column), default=None)
    if first is None:
        return None
    cell = rows[first].cells[column.name]
    found = Leading(
        method=rows[first].texts[0],
        label=next(filter(label_in, rows[first].texts), ""),
        figure=_with_unit(cell, column),
        definition=column.name,
        direction=BETTER[column.higher_is_better],
        images=cell.count,
        said=cell.said,
    )
    return _against(found, rows[first], tables[1:], column)


def _against(found: Leading, row: Row, tables: Sequence[Table], column: Definition) -> Leading:
    """With the paired difference, where one of the tables has it."""
    name = difference_in(column.name)
    for table in tables:
        own = next((one for one in table.columns if one.name == name), None)
        its = next((one for one in table.rows if one.texts == row.texts), None)
        if own is None or its is None or its.cells[name].ends is None:
            continue
        low, high = its.cells[name].ends or (0.0, 0.0)
        baseline = own.meaning.rpartition(" to ")[2]
        return replace(found, baseline=baseline, difference=_with_unit(its.cells[name], own), sure=low > 0 or high < 0)
    return found


def _with_unit(cell: Cell, column: Definition) -> str:
    value, _, spread = cell.text.partition(" ")
    _, bracket, interval = spread.rpartition("[")
    unit = f" {column.unit}" if column.unit else ""
    return f"{value}{unit} {bracket}{interval}" if bracket else f"{value}{unit}"


def _best(table: Table, column: Definition) -> set[int]:
    """Rows with the best value of a column; nothing where no direction is defined, or there is nothing to choose.

    Nor where no value stands without a word of caution, such as those that look through random weights.
    """
    cells = [row.cells[column.name].mean for row in table.rows]
    values = [cell.value for cell in cells if cell.value is not None]
    sure = any(cell.value is not None and not cell.why for cell in cells)
    if column.higher_is_better is None or len(values) < 2 or not sure:
        return set()
    wanted = (max if column.higher_is_better else min)(values)
    return {number for number, cell in enumerate(cells) if cell.value == wanted}


def _cell(cell: Cell, marked: Marked, *, best: bool) -> ShownCell:
    value, _, spread = marked.text.partition(" ")
    return ShownCell(value, spread, marked.mark, cell.said, none=cell.mean.value is None, best=best)


# Charts of a table of means: for each column a row a method, a dot for the mean and a line for its interval.
#
# Only places are computed here, in the units of an SVG's view box; the page draws them, so that a chart prints, follows
# the colours of the page, and needs no script (Cleveland 1984: dots on a common scale are read best).


WIDTH = 390

_NAMES, _RIGHT, _TOP, _ROW, _AXIS = 200, 16, 8, 22, 28

_LONGEST, _LINES, _TALLER = 30, 2, 28
"""Signs of a name that fit in a line before the dots, lines that fit, and a row's height where a name needs two; the
whole name stands in the table and in the dot's title."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A method's mean; places from left and top."""

    lines: tuple[str, ...]
    """Its name."""
    whole: str
    """The name, not shortened, and the figure."""
    label: str
    """Of `record.LABELS`, or empty: decides form and colour."""
    y: float
    x: float | None
    """None: no value."""
    ends: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A column of a table."""

    title: str
    told: str
    """Unit and direction."""
    height: int
    left: int
    """Where the scale begins."""
    right: int
    axis: int
    """Height of the scale's line."""
    ticks: tuple[tuple[float, str], ...]
    zero: float | None
    """Place of 0, where it lies inside and the figures are on both sides of it or differences."""
    dots: tuple[Dot, ...]
    width: int = WIDTH


def drawn(table: Table) -> tuple[Chart, ...]:
    """A chart for each column in which two methods have a value; nothing for tables that are not of means."""
    if not of_means(table):
        return ()
    charts = (_chart(table, column) for column in table.columns)
    return tuple(chart for chart in charts if sum(dot.x is not None for dot in chart.dots) > 1)


def _chart(table: Table, column: Definition) -> Chart:
    cells = [row.cells[column.name] for row in table.rows]
    values = [value for cell in cells for value in _values(cell)] or [0.0]
    ticks, low, high = _scale(values)
    left, right = _NAMES, WIDTH - _RIGHT

    def place(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 2)

    names = [tuple(textwrap.wrap(row.texts[0], _LONGEST, max_lines=_LINES, placeholder=" …")) for row in table.rows]
    tall = _TALLER if any(len(lines) > 1 for lines in names) else _ROW
    dots = []
    for number, (row, cell) in enumerate(zip(table.rows, cells, strict=True)):
        dots.append(
            Dot(
                names[number],
                f"{row.texts[0]}: {cell.text}{f' ({cell.said})' if cell.mean.value is None else ''}",
                next(filter(label_in, row.texts), ""),
                _TOP + (number + 0.5) * tall,
                None if cell.mean.value is None else place(cell.mean.value),
                None if cell.ends is None else (place(cell.ends[0]), place(cell.ends[1])),
            )
        )
    axis = _TOP + len(dots) * tall
    return Chart(
        column.name,
        ", ".join(filter(None, (column.unit, BETTER[column.higher_is_better]))),
        axis + _AXIS,
        left,
        right,
        axis,
        tuple((place(tick), f"{tick:.6g}") for tick in ticks),
        place(0.0) if low < 0 < high else None,
        tuple(dots),
    )


def _values(cell: Cell) -> Sequence[float]:
    return [] if cell.mean.value is None else [cell.mean.value, *(cell.ends or ())]


def _scale(values: Sequence[float]) -> tuple[list[float], float, float]:
    """Round figures for the scale, and where it begins and ends: nowhere near a value's dot."""
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.06
    low, high = low - margin, high + margin
    ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high)]
    return [0.0 if abs(tick) < 1e-12 * (high - low) else tick for tick in ticks if low <= tick <= high], low, high


# Pictures and scenes as a report's page shows them: PNG inside the page, with the size that they are laid out by.


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture as an `img` takes it."""

    source: str
    """A data URI."""
    width: int
    """Pixels."""
    height: int


@dataclass(frozen=True, slots=True)
class ShownView:
    """A view of a scene."""

    name: str
    label: Label | None
    picture: ShownPicture


@dataclass(frozen=True, slots=True)
class ShownScene:
    """A scene, and which of its views are laid over each other first."""

    key: str
    caption: str
    views: tuple[ShownView, ...]
    left: int
    right: int
    maps: tuple[tuple[str, ShownPicture], ...]
    """Captions and pictures."""


def shown_picture(png: bytes) -> ShownPicture:
    """A PNG for the page. Raises OSError where it is none."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        width, height = picture.size
    return ShownPicture(f"data:image/png;base64,{base64.b64encode(png).decode()}", width, height)


def shown_scene(key: str, scene: Scene) -> ShownScene:
    """A scene for the page; `key` is an id that no other scene has.

    Left is bicubic, right the last result: a view without a label (the truth, the LR image) is none.
    """
    results = [number for number, view in enumerate(scene.views) if view.label is not None]
    bicubic = [number for number, view in enumerate(scene.views) if view.name == "bicubic"]
    return ShownScene(
        key,
        scene.caption,
        tuple(_view(view) for view in scene.views),
        left=next(iter(bicubic or results), 0),
        right=results[-1] if results else len(scene.views) - 1,
        maps=tuple((one.caption, shown_picture(one.png)) for one in scene.maps),
    )


def _view(view: View) -> ShownView:
    return ShownView(view.name, view.label, shown_picture(view.png))


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


# The report of an evaluation, `report/index.html`: parts that lie in `report/parts`, and what is known of the run.


_SPLIT, _DEGRADATION = "split.json", "degradation.json"

_TABLES = (".csv", ".md", ".tex")

_PACKAGES = ("zssr-gan", "torch", "numpy", "scipy", "scikit-image", "torchmetrics")


def write_report(run: Run, names: Sequence[str]) -> Path:
    """Write `report/index.html` in the run's folder, replacing an earlier one.

    Args:
        run: its folder has the parts, as `encode_part` writes them, in `report/parts/NAME.json`; what else the stages
            left there stands in the report, and none of it must be there.
        names: of the parts, in the order in which the report has them. One that is not there, or that another version
            wrote, is named in the report with the command that makes it.

    Returns:
        The report's path.

    Raises:
        SettingsError, StoreError, WeightsError: what a stage left is damaged.
        OutputError: the disk refuses.
    """
    folder = run.folder / "report"
    path = run.folder / _SPLIT
    split = read_split(path) if path.exists() else None
    generators = _generators(run.folder)
    sources = () if split is None else tuple(dict.fromkeys(member.source for member in split.entries))
    parts = tuple(_part(folder / "parts" / f"{name}.json", name) for name in names)
    report = Report(
        title=f"Super-resolution of {', '.join(sources)}" if sources else "Super-resolution",
        run=run.folder.name,
        description=run.settings.description,
        parts=parts,
        warnings=tuple(dict.fromkeys((*_warnings(run, generators), *_stale(run, parts)))),
        cameras=tuple(_cameras(run.folder / _DEGRADATION)),
        facts=(
            *(() if split is None else (_images(split, sources),)),
            *(_card(f"Model card of the {name}", generator) for name, generator in generators.items()),
            Facts("SHA-256", tuple(_hashes(run.folder, generators))),
            Facts("Versions that this report was made with", tuple(_versions())),
        ),
        settings=run.settings.model_copy(update={"run_dir": str(run.folder)}).as_yaml(run.folder),
        files=frozenset(path.name for path in folder.iterdir() if path.suffix in _TABLES),
    )
    path = folder / "index.html"
    atomic_write(path, render(report), overwrite=True)
    return path


_READ = {
    "table1": {"samples", "most"},
    "table2": {"samples", "most"},
    "truth": {"samples", "features", "lpips", "inception", "truth"},
    "blind": {"samples", "features", "lpips", "inception", "truth"},
    "sets": {"samples", "sets"},
    "native": {"samples", "most", "native", "native_preset"},
    "figures": {"samples", "most", "timed"},
}
"""Of the group `evaluate`, what each part hangs on."""

_LEFT = (
    *("split.json", "degradation.json", "synthetic/settings.json", "train/generator.safetensors"),
    "train/content/generator.safetensors",
)
"""Of what the stages before left."""


def stamp(run: Run, name: str) -> str:
    """Of all that a part hangs on in its run: a part with another one is no longer true of it."""
    settings = run.settings.model_dump(mode="json", exclude={"run_dir", "description", "evaluate"})
    left = {path: sha256_file(run.folder / path) for path in _LEFT if (run.folder / path).exists()}
    own = run.settings.evaluate.model_dump(mode="json", include=_READ[name])
    return canonical_sha256({"settings": settings, "evaluate": own, "left": dict(left)})


def _stale(run: Run, parts: Sequence[Part | Missing]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Part) and part.stamp != stamp(run, part.name):
            yield (
                f"The part {part.title!r} was made with other settings, images or another generator than those below: "
                "`make eval` makes it again."
            )


def _generators(folder: Path) -> dict[str, TrainedGenerator]:
    """Those of the run that are there, by what they are called."""
    places = {"generator": folder / "train", "generator before the discriminator": folder / "train" / "content"}
    return {
        name: load_generator(place / "generator.safetensors")
        for name, place in places.items()
        if (place / "generator.safetensors").exists()
    }


def _part(path: Path, name: str) -> Part | Missing:
    try:
        part = decode_part(path.read_bytes())
    except OSError:
        part = None
    if part is not None:
        return part
    return Missing(name, f'make eval ARGS="--only {name}"')


def _warnings(run: Run, generators: Mapping[str, TrainedGenerator]) -> Iterator[str]:
    split = run.folder / _SPLIT
    for name, generator in generators.items():
        yield from generator.card.warnings
        if split.exists() and generator.card.split_sha256 != sha256_file(split):
            yield f"The {name} was trained with another split.json than the run's: it may have seen unseen images."
    features = run.settings.evaluate.features
    if features.weights == "random":
        yield (
            f"Perceptual and Frechet distances look through a {features.network} with random weights: they were learnt "
            "from nothing, and rank nothing as people would. Set evaluate.features.weights to learnt ones."
        )


def _cameras(path: Path) -> Iterator[Camera]:
    if not path.exists():
        return
    for one in read_degradations(path).groups:
        picture = Picture(degradation_panels(one.estimate), None, 8, Metadata())
        png = encode_picture(picture, "png", {MARK: "degradation"})
        yield Camera(one.group, tuple(account(one.estimate)), png)


def _images(split: Split, sources: Sequence[str]) -> Facts:
    roles = Counter(member.role for member in split.entries)
    counted = ((f"role {role}", f"{roles[role]:,}") for part in PARTS.values() for role in part if roles[role])
    return Facts("Images", (("sources", ", ".join(sources)), *counted))


def _card(title: str, generator: TrainedGenerator) -> Facts:
    card = generator.card
    losses = card.settings.get("losses")
    weights = losses.items() if isinstance(losses, dict) else ()
    mediator = "none" if card.mediator is None else f"{card.mediator.network}, {card.mediator.source}"
    lists = ((f"SHA-256 of {name}", one.sha256) for name, one in card.images.items())
    if card.origin is not None:  # of its training nothing is known
        return Facts(title, tuple(account_of_card(generator)))
    lines = (
        *account_of_card(generator),
        ("losses", ", ".join(f"{name} {value}" for name, value in weights)),
        ("mediator", mediator),
        ("weights", "the running mean of the training's" if card.mean_weights else "those of that step"),
        (
            "trained on",
            ", ".join([str(card.device), *(f"{name} {version}" for name, version in card.versions.items())]),
        ),
        *((name.replace("held_out", "held out"), sha256) for name, sha256 in lists),
    )
    return Facts(title, lines)


def _hashes(folder: Path, generators: Mapping[str, TrainedGenerator]) -> Iterator[tuple[str, str]]:
    for name in (_SPLIT, _DEGRADATION):
        if (folder / name).exists():
            yield name, sha256_file(folder / name)
    store = folder / "synthetic"
    if (store / SETTINGS).exists():
        yield "settings of the synthetic images", read_settings(store).settings_sha256
    if (store / "shared.safetensors").exists():
        yield "shared start", read_shared(store / "shared.safetensors").sha256
    yield from ((name, generator.sha256) for name, generator in generators.items())


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "python", platform.python_version()
