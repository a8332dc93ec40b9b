"""An evaluation from start to end: parts, their files in the run's folder `report`, and the report.

`report/` gets index.html, each part's tables as .csv, .md and .tex, figures as PNG, parts/ (what index.html is made
of), and cache/, where results lie under a hash of all that they depend on, so that the same evaluation computes nothing
twice and resumes where it was stopped. cache/ may be deleted; its times are then measured anew.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zssr_gan.devices import Machine
from zssr_gan.errors import SettingsError, StoreError, ZssrGanError
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.figures import figures
from zssr_gan.evaluation.part import Part, encode_part
from zssr_gan.evaluation.parts import blind, native, sets, table_1, table_2, truth
from zssr_gan.evaluation.report import PART_SETTINGS, cache_key, write_report
from zssr_gan.evaluation.tables import to_csv, to_latex, to_markdown
from zssr_gan.evaluation.tracks import tracks
from zssr_gan.files import atomic_write, locked
from zssr_gan.progress import Bar
from zssr_gan.settings.run import RunSettings

PARTS = tuple(PART_SETTINGS)

_MAKE: Mapping[str, Callable[[Evaluator], Part | None]] = {
    "table1": table_1,
    "table2": table_2,
    "truth": truth,
    "blind": blind,
    "tracks": tracks,
    "sets": sets,
    "native": native,
    "figures": figures,
}

_FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def choose(only: str | None, known: Sequence[str], kind: str) -> tuple[str, ...]:
    """Names that `--only` asks for, with commas between, in the order of `known`; all for None.

    `kind` is what one of them is, for the message. Raises SettingsError: an unknown name, or none at all.
    """
    if only is None:
        return tuple(known)
    asked = [name.strip() for name in only.split(",")]
    if not any(asked):
        raise SettingsError(f"--only: names no {kind}: use some of {', '.join(known)}.")
    for unknown in (name for name in asked if name not in known):
        raise SettingsError(f"--only {only}: there is no {kind} {unknown!r}: use {', '.join(known)}.")
    return tuple(name for name in known if name in asked)


def evaluate(
    settings: RunSettings, config: Path, machine: Machine, bar: Bar, only: str | None = None
) -> tuple[Path | None, list[ZssrGanError]]:
    """Make parts of a run's evaluation and its report.

    Args:
        settings: of the run.
        config: its file, by which the run's folder is named.
        machine: to compute on.
        bar: progress and notices.
        only: parts with commas between. None: all that the settings ask for; a named part that they do not ask for is
            an error.

    Returns:
        Path of the report (None where every part failed), and errors of parts: the others are made all the same.

    Raises:
        SettingsError: `only` names an unknown part, or the report's settings do not fit.
        StoreError: another process evaluates this run.
    """
    names = choose(only, PARTS, "part")
    work = Evaluator(settings, config, machine, bar)
    report = work.folder / "report"
    held = StoreError(f"{report}: another run is evaluating there; wait until it ends, or stop it.")
    with locked(report / ".lock", held):
        unwanted, failures = _unwanted(settings), list[ZssrGanError]()
        for name in names:
            if only is None and name in unwanted:
                _remove(report, name)
                bar.note(f"{name}: {unwanted[name]}: left out")
                continue
            began = time.perf_counter()
            try:
                if (part := _MAKE[name](work)) is None:
                    _remove(report, name)
                    bar.note(f"{name}: split.json has no image of its role: left out")
                    continue
                _write(report, replace(part, cache_key=cache_key(work, name)))
            except ZssrGanError as error:
                bar.note(f"{name}: failed: {error}", "red")
                failures.append(error)
                continue
            bar.note(f"{name}: {time.perf_counter() - began:.0f} s")
        if len(failures) == len(names):
            return None, failures
        return write_report(work, [name for name in PARTS if name not in unwanted]), failures


def _unwanted(settings: RunSettings) -> dict[str, str]:
    """Parts that the settings do not ask for, and why."""
    wanted, found = settings.evaluate, dict[str, str]()
    if settings.train.pairs is not None:
        found |= dict.fromkeys(("table1", "table2"), "this run trains on HR images and has no synthetic ones")
    if wanted.truth is None:
        found |= dict.fromkeys(("truth", "blind", "tracks"), "evaluate.truth is not set, so no truth is known")
    else:
        found |= {
            name: f"evaluate.truth.{name} is 0" for name in ("blind", "tracks") if not getattr(wanted.truth, name)
        }
    if not wanted.sets:
        found["sets"] = "evaluate.sets names none"
    if not wanted.native:
        found["native"] = "evaluate.native names none"
    return found


def _write(report: Path, part: Part) -> None:
    """Write a part, its tables and its pictures."""
    for extension, encode in _FORMATS.items() if part.tables else ():
        path = report / f"{'time' if part.name == 'figures' else part.name}.{extension}"
        atomic_write(path, encode(part.tables).encode(), overwrite=True)
    for one in part.illustrations:
        if one.name:
            atomic_write(report / f"{one.name}.png", one.png, overwrite=True)
    atomic_write(report / "parts" / f"{part.name}.json", encode_part(part), overwrite=True)


def _remove(report: Path, name: str) -> None:
    """Remove what a part left under other settings, which does not hold for these."""
    (report / "parts" / f"{name}.json").unlink(missing_ok=True)
    for extension in _FORMATS:
        (report / f"{name}.{extension}").unlink(missing_ok=True)
