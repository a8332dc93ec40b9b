"""The report of a run, `report/index.html`: parts in `report/parts`, and what is known of the run.

One HTML file that needs nothing else: it opens from a disk, loads nothing, prints, and reads without its script. The
same report gives the same bytes. What practitioners ask of one: SWGDE 15-M-002 and ASTM E2825 (what was done, and how
far it may be trusted).
"""

import base64
import io
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image

from zssr_gan.data.cameras import read_degradations
from zssr_gan.data.split import PARTS, Split, read_split
from zssr_gan.data.store import SETTINGS, read_settings
from zssr_gan.degradation.estimate_lines import lines_of
from zssr_gan.degradation.plot import degradation_picture
from zssr_gan.evaluation.cache import version_of
from zssr_gan.evaluation.charts import charts_of
from zssr_gan.evaluation.metrics.metric import Definition
from zssr_gan.evaluation.part import Part, Scene, decode_part
from zssr_gan.evaluation.run import CONTENT, GENERATOR, Run
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Row, templates
from zssr_gan.files import atomic_write, canonical_sha256, sha256_file
from zssr_gan.imaging.sheets import encode_sheet
from zssr_gan.provenance import LABELS
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.training.model_card import summary as card_summary
from zssr_gan.zeroshot.shared import read_shared

_SPLIT, _DEGRADATION, _SHARED = "split.json", "degradation.json", "synthetic/shared.safetensors"

_GENERATORS = {"generator": GENERATOR, "generator before the discriminator": CONTENT}

_PACKAGES = ("zssr-gan", "torch", "numpy", "scipy", "scikit-image", "torchmetrics")

_TRUTH = {"features", "lpips", "inception", "truth"}

PART_SETTINGS = {
    "table1": {"most"},
    "table2": {"most"},
    "truth": _TRUTH,
    "blind": _TRUTH,
    "tracks": {"truth"},
    "sets": {"sets"},
    "native": {"most", "native"},
    "figures": {"most"},
}
"""Settings of the group `evaluate` that each part depends on, in the report's order."""


@dataclass(frozen=True, slots=True)
class Section:
    """Names and values under a title (hashes, versions, a model card, a camera), with a picture for some."""

    title: str
    lines: Sequence[tuple[str, str]]
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
    warnings: Sequence[str] = ()
    """A sentence each, shown at the top."""
    cameras: Sequence[Section] = ()
    """Estimated degradations, with kernel and noise as a picture; where there are none, bicubic is assumed."""
    facts: Sequence[Section] = ()
    settings: str = ""
    """Of the run, as YAML."""
    files: frozenset[str] = frozenset()
    """Names of the files beside the report; a part's tables are linked where they are `<part>.csv`, `.md` or `.tex`."""


@dataclass(frozen=True, slots=True)
class Leader:
    """The best method against truths, by the first column of the part `truth`, and its difference to the baseline."""

    row: Row
    column: Definition
    baseline: str = ""
    difference: Cell | None = None
    """None: there is none with an interval."""


def write_report(run: Run, names: Sequence[str]) -> Path:
    """Write `report/index.html` in the run's folder, replacing an earlier one, and return its path.

    Args:
        run: its folder has parts in `report/parts/NAME.json`; what else the stages left there is shown too.
        names: of the parts, in the report's order. One that is not there, or that another version wrote, is named in
            the report with the command that makes it.

    Raises:
        SettingsError, StoreError, WeightsError: what a stage left is damaged.
        OutputError: the disk refuses.
    """
    folder = run.folder / "report"
    split = read_split(run.folder / _SPLIT) if (run.folder / _SPLIT).exists() else None
    paths = {name: run.folder / path for name, path in _GENERATORS.items()}
    generators = {name: load_generator(path) for name, path in paths.items() if path.exists()}
    sources = "" if split is None else ", ".join(dict.fromkeys(member.source for member in split.entries))
    parts = {name: _read_part(folder / "parts" / f"{name}.json") for name in names}
    versions = (*((package, version_of(package)) for package in _PACKAGES), ("python", platform.python_version()))
    report = Report(
        title=f"Super-resolution of {sources}" if sources else "Super-resolution",
        run=run.folder.name,
        description=run.settings.description,
        parts=parts,
        warnings=tuple(dict.fromkeys(_warnings(run, generators, parts))),
        cameras=tuple(_cameras(run.folder / _DEGRADATION)),
        facts=(
            *(() if split is None else (_images(split, sources),)),
            *(Section(f"Model card of the {name}", _card(generator)) for name, generator in generators.items()),
            Section("SHA-256", tuple(_hashes(run.folder, generators))),
            Section("Versions that this report was made with", versions),
        ),
        settings=run.settings.model_copy(update={"run_dir": str(run.folder)}).as_yaml(run.folder),
        files=frozenset(path.name for path in folder.iterdir()),
    )
    atomic_write(folder / "index.html", render(report), overwrite=True)
    return folder / "index.html"


def render(report: Report) -> bytes:
    """The report as one HTML file, UTF-8.

    Raises:
        OSError: a picture is none.
    """
    from markupsafe import Markup  # an extra

    page = files("zssr_gan.evaluation") / "page"
    template = templates().get_template("page.html")
    text = template.render(
        report=report,
        leader=leader(report.parts.get("truth")),
        labels=LABELS,
        picture=_picture,
        sides=sides,
        charts_of=charts_of,
        # Ours: no text of anybody else.
        markup=Markup,
        style=Markup((page / "page.css").read_text("utf-8")),
        script=Markup((page / "page.js").read_text("utf-8")),
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


def leader(truth: Part | None) -> Leader | None:
    """The leader of a part's first table; None where there is no such table, or no best."""
    tables = () if truth is None else truth.tables
    best = tables[0].best(0) if tables and tables[0].columns else set[int]()
    if not best:
        return None
    row, column = tables[0].rows[min(best)], tables[0].columns[0]
    for gains in tables[1:]:
        for one in gains.rows if gains.baseline else ():
            if one.texts == row.texts and one.cells[0].interval:
                return Leader(row, column, gains.baseline, one.cells[0])
    return Leader(row, column)


def cache_key(run: Run, name: str) -> str:
    """Hash of all that a part depends on in its run: a part with another one no longer holds."""
    settings = run.settings.model_dump(mode="json", exclude={"run_dir", "description", "evaluate"})
    files = (_SPLIT, _DEGRADATION, f"synthetic/{SETTINGS}", *map(str, _GENERATORS.values()))
    hashes = {path: sha256_file(run.folder / path) for path in files if (run.folder / path).exists()}
    own = run.settings.evaluate.model_dump(mode="json", include=PART_SETTINGS[name])
    return canonical_sha256({"settings": settings, "evaluate": own, "files": hashes})


def _read_part(path: Path) -> Part | None:
    try:
        return decode_part(path.read_bytes())
    except OSError:
        return None


def _warnings(run: Run, generators: Mapping[str, TrainedGenerator], parts: Mapping[str, Part | None]) -> Iterator[str]:
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
    for name, part in parts.items():
        if part is not None and part.cache_key != cache_key(run, name):
            yield (
                f"The part {part.title!r} was made with other settings, images or another generator than those below: "
                "`make eval` makes it again."
            )


def _cameras(path: Path) -> Iterator[Section]:
    for one in read_degradations(path).groups if path.exists() else ():
        png = encode_sheet(degradation_picture(one.estimate, words=False), "degradation")
        yield Section(one.group, tuple(lines_of(one.estimate)), png)


def _images(split: Split, sources: str) -> Section:
    roles = Counter(member.role for member in split.entries)
    counts = [(f"role {role}", f"{roles[role]:,}") for part in PARTS.values() for role in part if roles[role]]
    return Section("Images", (("sources", sources), *counts))


def _card(generator: TrainedGenerator) -> tuple[tuple[str, str], ...]:
    card = generator.card
    if card.origin is not None:  # nothing is known of its training
        return tuple(card_summary(generator))
    losses = card.settings.get("losses")
    weights = losses.items() if isinstance(losses, dict) else ()
    versions = (f"{name} {version}" for name, version in card.versions.items())
    return (
        *card_summary(generator),
        ("losses", ", ".join(f"{name} {value}" for name, value in weights)),
        ("mediator", "none" if card.mediator is None else f"{card.mediator.network}, {card.mediator.source}"),
        ("weights", "the running mean of the training's" if card.mean_weights else "those of that step"),
        ("trained on", ", ".join([str(card.device), *versions])),
        *((f"SHA-256 of {name.replace('held_out', 'held out')}", one.sha256) for name, one in card.images.items()),
    )


def _hashes(folder: Path, generators: Mapping[str, TrainedGenerator]) -> Iterator[tuple[str, str]]:
    for name in (_SPLIT, _DEGRADATION):
        if (folder / name).exists():
            yield name, sha256_file(folder / name)
    if (folder / "synthetic" / SETTINGS).exists():
        yield "settings of the synthetic images", read_settings(folder / "synthetic").settings_sha256
    if (folder / _SHARED).exists():
        yield "shared model", read_shared(folder / _SHARED).sha256
    yield from ((name, generator.sha256) for name, generator in generators.items())
