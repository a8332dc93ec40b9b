"""One image by several systems, side by side on one sheet: zero-shot presets, trained generators, interpolation.

Beside the sheet lies a record of all systems: what each was, what its pixels were learnt from, and what it took. It is
of another form than a result's (`zssr_gan.inference.record`), since it vouches for no enlarged image as a file of its
own.
"""

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

from zssr_gan.degradation.operators import back_project
from zssr_gan.devices import RunOptions
from zssr_gan.errors import OutputError, SettingsError
from zssr_gan.files import sha256_bytes, write_together
from zssr_gan.imaging.picture import Picture, quantise
from zssr_gan.imaging.resize import Scale, resize
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet, evidence_overlay, round_limit
from zssr_gan.inference.batch import Opened, enhance_opened, input_facts, open_input, written_file
from zssr_gan.inference.options import degradation_option, make_request
from zssr_gan.inference.outputs import ImageTask
from zssr_gan.inference.record import COMPARISON_VERSION, encode_json
from zssr_gan.inference.request import Request
from zssr_gan.inference.result import clear_traceback, error_message, seen_in_training
from zssr_gan.inference.sheet import SIDE, reduced
from zssr_gan.progress import OnProgress
from zssr_gan.provenance import LABELS, VERSION, Label, label_of, provenance_text, scale_text, strongest
from zssr_gan.settings.zeroshot import PRESETS, load_preset
from zssr_gan.signals import uninterrupted

PLAIN = ("bicubic", "back-projected")
"""Systems that learn nothing."""

GENERATOR = Path("train") / "generator.safetensors"
"""Within the folder of a run."""

_OTHERS = (".pth", ".pt")
"""Endings of others' weights: meant as a generator's file, whose reader says how one is made of them."""


@dataclass(frozen=True, slots=True)
class System:
    """One of the compared, by the name that the user gave it."""

    name: str
    kind: Literal["plain", "zero-shot", "generator"]
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
    notices: tuple[str, ...]
    """What a user should know of it, a sentence each."""
    facts: dict[str, JsonValue]
    """What the record says of it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A system from which nothing came."""

    system: System
    message: str
    error: Exception


def named_systems(
    names: Sequence[str],
    *,
    scale: Scale | None = None,
    degradation: str = "auto",
    runs: Path = Path("runs"),
    seed: int = 0,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen, so that one default serves all calls
) -> list[System]:
    """The systems of `--models`, each read and checked before any work.

    Args:
        names: each of `PLAIN`, a preset, a .yaml file of settings, a generator's file, or a run's name in `runs`; a
            text may hold several with commas between.
        scale: of all but the generators, which have their own; None: the largest of theirs, or 2.
        degradation: what the camera did, for all systems: `bicubic` or a file; `auto`: what each generator was trained
            for, and for the others what the image shows, or bicubic.
        runs: the folder of the runs.
        seed, options: as `make_request` has them.

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

    common: dict[str, Any] = {
        "seed": seed,
        "options": options,
        "degradation": degradation_option(degradation),
    }
    files = {name: file for name in wanted if (file := _generator_file(name, runs)) is not None}
    _refuse_twice(wanted, files)
    systems = {name: System(name, "generator", make_request(model=file, **common)) for name, file in files.items()}
    if scale is None and systems:
        scale = max(system.request.scale for system in systems.values())
    for name in wanted:
        if name in PLAIN:
            systems[name] = System(name, "plain", make_request(scale, init="scratch", **common))
        elif name not in systems:
            systems[name] = System(name, "zero-shot", make_request(scale, name, init="scratch", **common))
    return [systems[name] for name in wanted]


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
    """A generator's file, where the name is of one; None for what has other settings."""
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
    on_progress: OnProgress | None = None,
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
        on_start, on_progress, on_done: called for each system, from this thread.

    Raises:
        ImageError: the image cannot be read, or changed meanwhile.
        OutputError: the files cannot be written.
    """
    task = ImageTask(source, sheet, record_path(sheet), None)
    opened = open_input(source, systems[0].request)
    done: list[Shown | Failed] = []
    for place, system in enumerate(systems):
        if on_start is not None:
            on_start(place, system)
        done.append(_tried(task, system, opened, on_progress))
        if on_done is not None:
            on_done(done[-1])
    shown = [one for one in done if isinstance(one, Shown)]
    if shown:
        label = strongest(*(one.label for one in shown))
        facts = {"input-sha256": opened.sha256}
        text = provenance_text(kind="comparison sheet", version=VERSION, label=label, facts=facts)
        drawn = _sheet(source.name, opened.picture, shown, evidence=evidence)
        files = {sheet: encode_sheet(drawn, "comparison sheet", text, extension=sheet.suffix)}
        files[record_path(sheet)] = _record(task, opened, done, label, files)
        with uninterrupted():
            write_together(files, replaceable=files if overwrite else ())
    return done


def check_sheet(sheet: Path) -> None:
    """OutputError where a sheet would not be a PNG or TIFF."""
    if sheet.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise OutputError(f"-o {sheet}: the sheet is a .png or .tif file, with its record beside it")


def _tried(task: ImageTask, system: System, opened: Opened, on_progress: OnProgress | None) -> Shown | Failed:
    """One system's result; what it held in memory ends here."""
    began, request, sha256 = time.perf_counter(), system.request, opened.sha256
    disagreement: Tensor | None = None
    facts: dict[str, JsonValue] = {}
    notices: list[str] = []
    try:
        if system.kind == "plain":
            made = quantise(replace(opened.picture, pixels=_plain(system, opened.picture), alpha=None)).pixels
            used = request.degradation.learnt_from if system.name == "back-projected" else ()
            label = label_of(sha256, used)
        else:
            (enhanced,) = enhance_opened([opened], request, on_progress)
            made, work = enhanced.picture.pixels, enhanced.work
            resolved = request.facts(enhanced.settings, enhanced.machine, sha256, task.result.parent)
            label = resolved.label(sha256)
            disagreement = enhanced.disagreement if work.evidence.views > 1 else None
            notices = [*work.warnings, *(one for one in work.notices if one not in opened.picture.notices)]
            facts = {"request": resolved.model_dump(mode="json"), "enhancement": work.model_dump(mode="json")}
    except Exception as error:
        message = f"{system.name}: {error_message(task.source, error)}"
        clear_traceback(error)
        return Failed(system, message, error)
    if request.model is not None:  # as `enhance` shows them
        was = request.model.purposes_of(sha256)
        notices += [*([seen_in_training(was)] if was else []), *request.model.card.warnings]
    facts["pixels_sha256"] = sha256_bytes(made.contiguous().numpy().tobytes())
    return Shown(system, reduced(made), disagreement, label, time.perf_counter() - began, tuple(notices), facts)


def _plain(system: System, picture: Picture) -> Tensor:
    """Interpolation, and, where it is asked for, back-projection to the input: `C sH sW`."""
    lr = picture.pixels
    rows, columns = (round(side * factor) for side, factor in zip(lr.shape[-2:], system.request.scale, strict=True))
    made = resize(lr, (rows, columns))
    if system.name == "back-projected":
        iterations = load_preset("quality").refinement.back_projections
        made = back_project(made[None], lr[None], system.request.degradation.values.downscale, iterations)[0]
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


def _record(
    task: ImageTask, opened: Opened, done: Sequence[Shown | Failed], label: Label, files: dict[Path, bytes]
) -> bytes:
    """The record's file: JSON for people."""
    return encode_json(
        {
            "comparison_version": COMPARISON_VERSION,
            "tool": {"name": "zssr-gan", "version": VERSION},
            "label": label,
            "label_means": LABELS[label],
            "input": input_facts(task, opened).model_dump(mode="json"),
            "sheet": written_file(task.result, files).model_dump(mode="json"),
            "systems": [_facts(one) for one in done],
            "started_utc": opened.started.isoformat(timespec="seconds"),
        }
    )


def _facts(one: Shown | Failed) -> dict[str, JsonValue]:
    """What the record says of one system; `pixels_sha256` is of the whole pixels, float32 in the order `C H W`."""
    request = one.system.request
    common: dict[str, JsonValue] = {
        "name": one.system.name,
        "kind": one.system.kind,
        "scale": list(request.scale),
        "degradation": request.degradation.model_dump(mode="json"),
    }
    if isinstance(one, Failed):
        return {**common, "preset": request.preset, "seed": request.seed, "failed": one.message}
    result: dict[str, JsonValue] = {"label": one.label, "notices": list(one.notices), "seconds": round(one.seconds, 3)}
    return {**common, **result, **one.facts}
