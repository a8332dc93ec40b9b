"""One image by several systems, side by side on one sheet: zero-shot presets, trained generators, interpolation.

Beside the sheet lies a record of all systems: what each was, what its pixels were learnt from, and what it took. It is
of another form than a result's (`zssr_gan.inference.record`), since it vouches for no enlarged image as a file of its
own.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.degradation.operators import BicubicDownscale, back_project
from zssr_gan.devices import RunOptions
from zssr_gan.errors import OutputError, SettingsError
from zssr_gan.files import atomic_write, canonical_sha256, sha256_bytes, write_together
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture, quantise
from zssr_gan.imaging.resize import Scale, resize
from zssr_gan.imaging.sheets import contact_sheet, evidence_overlay, round_limit
from zssr_gan.inference.batch import (
    VERSION,
    Opened,
    enhance_opened,
    input_facts,
    let_go,
    open_input,
    seen_in_training,
    what_failed,
    written_file,
)
from zssr_gan.inference.enhance import Enhanced
from zssr_gan.inference.generator import own_scale
from zssr_gan.inference.outputs import Job
from zssr_gan.inference.request import Request, make_request
from zssr_gan.progress import Progress
from zssr_gan.provenance import LABELS, MARK, MAX_MEGAPIXELS, Label, finite_json, provenance_text, scale_text, strongest
from zssr_gan.settings.zeroshot import PRESETS, load_preset
from zssr_gan.signals import uninterrupted

# One sheet over all images of a run: input, plain interpolation, result and evidence map side by side.


ROWS = 100
"""Images that one sheet shows at most; more would make a picture that no viewer opens."""

SIDE = 512
"""Pixels that a sheet keeps of an image's longer side."""


class Comparison:
    """Gathers the rows of a contact sheet, reduced at once so that the memory does not grow with the photographs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = 0
        self._rows: list[list[tuple[str, Tensor]]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, job: Job, picture: Picture, enhanced: Enhanced) -> None:
        """Add one image's row."""
        if len(self._rows) == ROWS:
            self.left_out += 1
            return
        limit = round_limit(enhanced.disagreement)
        cells = [
            (job.source.name, picture.pixels),
            ("bicubic", enhanced.bicubic),
            (job.result.name, enhanced.picture.pixels),
            (
                f"disagreement of the views, brightest {limit:g} levels",
                evidence_overlay(enhanced.disagreement, limit=limit),
            ),
        ]
        self._rows.append([(caption, reduced(image)) for caption, image in cells])

    def write(self, *, overwrite: bool) -> bool:
        """Write the sheet; returns whether there was anything to show.

        Raises:
            OutputError: the file exists and `overwrite` is not set, or the disk refuses it.
        """
        if not self._rows:
            return False
        content = encoded_sheet(contact_sheet(self._rows), self.path, {MARK: "comparison sheet"})
        atomic_write(self.path, content, overwrite=overwrite)
        return True


def encoded_sheet(sheet: Tensor, path: Path, text: Mapping[str, str]) -> bytes:
    """A sheet (`3 H W`, [0, 1]) as the file `path` is to hold it, with text fields."""
    picture = Picture(pixels=sheet, alpha=None, bits=8, metadata=Metadata())
    return encode_picture(picture, path.suffix[1:].lower(), text)


def reduced(image: Tensor) -> Tensor:
    """An image (`C H W`, [0, 1]) as a sheet needs it: a copy of at most 512 pixels a side."""
    height, width = image.shape[-2:]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return image.clone()  # a view would keep the whole photograph alive
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return resize(image, size).clamp(0, 1)


PLAIN = ("bicubic", "back-projected")
"""Systems that learn nothing."""

GENERATOR = Path("train") / "generator.safetensors"
"""Within the folder of a run."""

_OTHERS = (".pth", ".pt")
"""Endings of others' weights: meant as a generator's file, whose reader tells what makes one of them."""

RECORD_VERSION = 1

Kind = Literal["plain", "zero-shot", "generator"]


@dataclass(frozen=True, slots=True)
class System:
    """One of the compared, by the name that the user gave it."""

    name: str
    kind: Kind
    request: Request
    """Of a plain one, scale, degradation and limits alone are used."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What came of the image by one system."""

    system: System
    pixels: Tensor
    """`C H W`, [0, 1], at most 512 pixels a side."""
    disagreement: Tensor | None
    """Of the views, levels of 255, `sH sW`; None where there are none."""
    label: Label
    seconds: float
    report: dict[str, Any]
    """As `Enhanced` has it; empty for a plain one."""
    pixels_sha256: str
    """Of the result's whole pixels, float32 in the order `C H W`."""
    notices: tuple[str, ...] = ()
    """What a user should know of it, a sentence each."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A system from which nothing came."""

    system: System
    message: str
    error: Exception


def named_systems(
    names: Sequence[str],
    *,
    scale: str | None = None,
    degradation: str | None = None,
    runs: Path = Path("runs"),
    seed: int = 0,
    options: RunOptions | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> list[System]:
    """The systems of `--models`, each read and checked before any work.

    Args:
        names: each of `PLAIN`, a preset, a .yaml file of settings, a generator's file, or a run's name in `runs`; a
            text may hold several with commas between.
        scale: of all but the generators, which have their own; None: the largest of theirs, or 2.
        degradation: what the camera did, for all systems: `bicubic` or a file; None: what each generator was trained
            for, and bicubic for the others.
        runs: the folder of the runs.
        seed, options, max_megapixels: as `make_request` has them.

    Raises:
        SettingsError: none is named, one twice or not known, or see `make_request`.
        WeightsError: a file is no generator.
        DeviceError: a device that is not there.
    """
    wanted = [name for text in names for part in text.split(",") if (name := part.strip())]
    if not wanted:
        raise SettingsError(f"--models names nothing: {_choice(runs)}")
    if degradation == "estimate":
        raise SettingsError(
            "--degradation: one image tells too little of its camera; give the file that "
            "`zssr-gan degradation estimate` makes of several"
        )

    def asked(**how: Any) -> Request:
        return make_request(seed=seed, options=options, max_megapixels=max_megapixels, degradation=degradation, **how)

    files = {name: file for name in wanted if (file := _generator_file(name, runs)) is not None}
    _refuse_twice(wanted, files)
    generators = {name: System(name, "generator", asked(model=file)) for name, file in files.items()}
    scales = [own_scale(one.request.model.generator) for one in generators.values() if one.request.model is not None]
    if scale is None and scales:
        scale = scale_text(max(scales))
    return [
        generators[name]
        if name in generators
        else System(name, "plain", asked(scale=scale))
        if name in PLAIN
        else System(name, "zero-shot", asked(scale=scale, preset=name))
        for name in wanted
    ]


def _refuse_twice(names: Sequence[str], files: Mapping[str, Path]) -> None:
    """One system has one name: a file under two would be two rows of the same pixels."""
    named: dict[str, str] = {}
    for name in names:
        place = os.path.realpath(files.get(name, name))  # of a preset no file, and still its own alone
        if place in named:
            other = "" if named[place] == name else f", as {named[place]} too"
            raise SettingsError(f"--models names {name} twice{other}")
        named[place] = name


def _generator_file(name: str, runs: Path) -> Path | None:
    """A generator's file, where the name tells of one; None for what has other settings."""
    if name in (*PLAIN, *PRESETS) or Path(name).suffix.lower() in (".yaml", ".yml"):
        return None
    if Path(name).suffix.lower() in (".safetensors", *_OTHERS):
        return Path(name)
    if (file := runs / name / GENERATOR).is_file():
        return file
    raise SettingsError(f"--models {name}: is none of those that are known ({file} is not there): {_choice(runs)}")


def _choice(runs: Path) -> str:
    made = sorted(file.parents[1].name for file in runs.glob(f"*/{GENERATOR}"))
    known = ", ".join([*PLAIN, *PRESETS, *made])
    return f"name some of {known}, a generator's .safetensors, or a .yaml file of settings"


def record_path(sheet: Path) -> Path:
    """Of a sheet's record."""
    return sheet.with_suffix(".json")


def compare(
    source: Path,
    systems: Sequence[System],
    sheet: Path,
    *,
    evidence: bool = False,
    overwrite: bool = False,
    on_start: Callable[[int, System], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_done: Callable[[Shown | Failed], None] | None = None,
) -> list[Shown | Failed]:
    """Put an image through the systems one after the other, and write the sheet and its record, both or none.

    A system that fails is among what is returned, and in the record; where all fail nothing is written.

    Args:
        source: the image.
        systems: what is compared, in the order of the sheet.
        sheet: the file to write; the record lies beside it.
        evidence: a second row, where the views of each system's network disagree, all by one scale of colours.
        overwrite: whether both files may be replaced.
        on_start, on_progress, on_done: told of each system, from this thread.

    Raises:
        ImageError: the image cannot be read, or changed meanwhile.
        OutputError: the files cannot be written.
    """
    job = Job(source, sheet, record_path(sheet), None)
    opened = open_input(job, systems[0].request)
    done: list[Shown | Failed] = []
    for place, system in enumerate(systems):
        if on_start is not None:
            on_start(place, system)
        done.append(_tried(job, system, opened, on_progress))
        if on_done is not None:
            on_done(done[-1])
    shown = [one for one in done if isinstance(one, Shown)]
    if shown:
        label = strongest(*(one.label for one in shown))
        facts = {"input-sha256": sha256_bytes(opened.data)}
        text = provenance_text(kind="comparison sheet", version=VERSION, label=label, facts=facts)
        content = encoded_sheet(_sheet(source.name, opened.picture, shown, evidence=evidence), sheet, text)
        files = {sheet: content, record_path(sheet): _record(job, opened, done, label, content)}
        with uninterrupted():
            write_together(files, replaceable=files if overwrite else ())
    return done


def check_sheet(sheet: Path) -> None:
    """OutputError where a sheet would not be a PNG or TIFF."""
    if sheet.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise OutputError(f"-o {sheet}: the sheet is a .png or .tif file, with its record beside it")


def _tried(job: Job, system: System, opened: Opened, on_progress: Callable[[Progress], None] | None) -> Shown | Failed:
    """One system's result; what it held in memory ends here."""
    began = time.perf_counter()
    try:
        if system.kind == "plain":
            made = quantise(replace(opened.picture, pixels=_plain(system, opened.picture), alpha=None)).pixels
            label: Label = "internal"
            disagreement, report = None, {}
        else:
            enhanced = enhance_opened(job, system.request, opened.picture, on_progress)
            made, report, label = enhanced.picture.pixels, enhanced.report, enhanced.report["label"]
            disagreement = enhanced.disagreement if report["evidence"]["views"] > 1 else None
    except Exception as error:
        let_go(error)
        return Failed(system, f"{system.name}: {what_failed(job, error)}", error)
    digest = sha256_bytes(made.contiguous().numpy().tobytes())
    seconds = time.perf_counter() - began
    return Shown(
        system, reduced(made), disagreement, label, seconds, report, digest, tuple(_notices(system, opened, report))
    )


def _notices(system: System, opened: Opened, report: Mapping[str, Any]) -> list[str]:
    """As `enhance` tells them: of the work, of the generator's training, and what its card warns of."""
    said = [notice for notice in report.get("notices", ()) if notice not in opened.picture.notices]
    if (kept := system.request.model) is None:
        return said
    was = kept.generator.purposes_of(sha256_bytes(opened.data))
    return [*said, *([seen_in_training(was)] if was else []), *kept.generator.card.warnings]


def _plain(system: System, picture: Picture) -> Tensor:
    """Interpolation, and, where it is asked for, back-projection to the input: `C sH sW`."""
    lr = picture.pixels
    rows, columns = (round(side * factor) for side, factor in zip(lr.shape[-2:], system.request.scale, strict=True))
    made = resize(lr, (rows, columns))
    if system.name == "back-projected":
        iterations = load_preset("quality").refinement.back_projections
        camera = system.request.degradation
        downscale = BicubicDownscale() if camera is None else camera.degradation.downscale
        made = back_project(made[None], lr[None], downscale, iterations)[0]
    return made.clamp_(0, 1)


def _sheet(name: str, picture: Picture, shown: Sequence[Shown], *, evidence: bool) -> Tensor:
    """Input, bicubic (at the largest of the scales, where it is no system of its own) and each result: `3 H W`."""
    height, width = picture.pixels.shape[-2:]
    cells = [(f"{name}\ninput, {width}x{height}", reduced(picture.pixels))]
    if all(one.system.name != "bicubic" for one in shown):
        scale: Scale = max(one.system.request.scale for one in shown)
        size = (round(height * scale[0]), round(width * scale[1]))
        cells.append((f"bicubic\nx{scale_text(scale)}", reduced(resize(picture.pixels, size).clamp_(0, 1))))
    before = len(cells)
    cells += [(_caption(one), one.pixels) for one in shown]
    rows = [cells]
    maps = [one.disagreement for one in shown if one.disagreement is not None]
    if evidence and maps:
        limit = max(map(round_limit, maps))
        # As large as the largest result: both rows then come to one size.
        nothing = torch.ones(3, *max((tuple(one.pixels.shape[1:]) for one in shown), key=math.prod))
        below = [("", nothing)] * before
        for one in shown:
            if one.disagreement is None:
                below.append(("one view alone: nothing to disagree with", nothing))
            else:
                overlay = reduced(evidence_overlay(one.disagreement, limit=limit))
                below.append((f"disagreement of the views, brightest {limit:g} levels", overlay))
        rows.append(below)
    return contact_sheet(rows, cell=SIDE)


def _caption(one: Shown) -> str:
    return f"{one.system.name}\n{one.label}, x{scale_text(one.system.request.scale)}, {one.seconds:.1f} s"


def _record(job: Job, opened: Opened, done: Sequence[Shown | Failed], label: Label, content: bytes) -> bytes:
    """The record's file: JSON for people."""
    systems: list[JsonValue] = [_facts(job, opened, one) for one in done]
    record: dict[str, JsonValue] = {
        "comparison_version": RECORD_VERSION,
        "tool": {"name": "zssr-gan", "version": VERSION},
        "label": label,
        "label_means": LABELS[label],
        "input": input_facts(job, opened.picture, opened.data).model_dump(mode="json"),
        "sheet": written_file(job.result.name, content).model_dump(mode="json"),
        "systems": systems,
        "started_utc": opened.started.isoformat(timespec="seconds"),
    }
    text = json.dumps(finite_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")  # as `encode_record`


def _facts(job: Job, opened: Opened, one: Shown | Failed) -> dict[str, JsonValue]:
    """What the record says of one system."""
    system, request = one.system, one.system.request
    settings = None if system.kind == "plain" else request.settings.model_dump(mode="json")
    digest = sha256_bytes(opened.data)
    folder, kept = job.result.parent, request.degradation
    model = None if request.model is None else request.model.facts(folder, digest).model_dump(mode="json")
    camera = None if kept is None else kept.facts(folder, None).model_dump(mode="json")
    facts: dict[str, JsonValue] = {
        "name": system.name,
        "kind": system.kind,
        "arguments": request.arguments.model_dump(mode="json") if system.kind != "plain" else None,
        "scale": list(request.scale),
        "settings": settings,
        "settings_sha256": None if settings is None else canonical_sha256(settings),
        "model": model,
        "degradation": camera,
    }
    if isinstance(one, Failed):
        return {**facts, "failed": one.message}
    return {
        **facts,
        "label": one.label,
        "pixels_sha256": one.pixels_sha256,
        "notices": list(one.notices),
        "seconds": round(one.seconds, 3),
        "enhancement": {key: value for key, value in one.report.items() if key not in ("label", "settings")},
    }
