"""Tables, figures and the report of a run: python -m pipelines.evaluate --config FILE (or: make eval).

Reads what the stages before left in the run's folder, writes report/ there: index.html to look at, each part's tables
as .csv, .md and .tex, figures as PNG, parts/ (what index.html is made of), and kept/, where results lie by a hash of
all that they hang on, so that the same command computes nothing twice and goes on where it was stopped. kept/ may be
deleted; its times are then measured anew.
Exit codes: 0 done, 1 an image failed or the disk refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zssr_gan.devices import PRECISIONS, Machine, RunOptions, machine
from zssr_gan.errors import DeviceError, SettingsError, StoreError, WeightsError, ZssrGanError
from zssr_gan.evaluation.cache import Kept
from zssr_gan.evaluation.figures import Drawings
from zssr_gan.evaluation.ground_truth_table import TruthTables
from zssr_gan.evaluation.native_table import NativeTables
from zssr_gan.evaluation.paper_tables import PaperTables
from zssr_gan.evaluation.part import Part, encode_part
from zssr_gan.evaluation.report import stamp, write_report
from zssr_gan.evaluation.run import Run
from zssr_gan.evaluation.runner import Measuring
from zssr_gan.evaluation.set_table import SetTables
from zssr_gan.files import atomic_write, locked
from zssr_gan.progress import Bar
from zssr_gan.settings.run import RunSettings, load_run
from zssr_gan.signals import exit_code, turn_sigterm_into_an_exception

# Some of a command's parts, as `--only` names them.


def chosen(only: str | None, known: Sequence[str], kind: str) -> tuple[str, ...]:
    """Those of `known` that are asked for, in their own order; all where nobody asks.

    Args:
        only: names with commas between, as the user wrote them.
        known: all names.
        kind: what one of them is, for the error.

    Raises:
        SettingsError: an unknown name, or none at all.
    """
    if only is None:
        return tuple(known)
    asked = [name.strip() for name in only.split(",")]
    if not any(asked):
        raise SettingsError(f"--only: names no {kind}: use some of {', '.join(known)}.")
    strange = next((name for name in asked if name not in known), None)
    if strange is not None:
        raise SettingsError(f"--only {only}: there is no {kind} {strange!r}: use {', '.join(known)}.")
    return tuple(name for name in known if name in asked)


PARTS = ("table1", "table2", "truth", "blind", "sets", "native", "figures")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML of the run: configs/*.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting: evaluate.samples=4"
    )
    parser.add_argument("--small", action="store_true", help="take the file's block `small`: a run of minutes")
    parser.add_argument("--only", default=None, metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (cuda:1, ...) or mps")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="CPU threads")
    options = parser.parse_args(arguments)
    turn_sigterm_into_an_exception()
    with Bar() as bar:
        try:
            parts = chosen(options.only, PARTS, "part")
            settings = load_run(options.config, options.set, small=options.small)
            with machine(RunOptions(options.device, options.precision, options.threads)) as used:
                evaluate(settings, options.config, parts, used, bar, asked=options.only is not None)
        except KeyboardInterrupt as stop:
            bar.note("Stopped: what is done is kept; the same command goes on from there.", "red")
            return exit_code(stop)
        except ZssrGanError as error:
            bar.note(f"error: {error}", "red")
            usage = SettingsError | StoreError | DeviceError | WeightsError
            return 2 if isinstance(error, usage) else 1
    return 0


def evaluate(
    settings: RunSettings, config: Path, parts: Sequence[str], used: Machine, bar: Bar, *, asked: bool
) -> None:
    """Make these parts and the report, and print its path.

    Args:
        settings, config: of the run.
        parts: of `PARTS`.
        used: what it runs on.
        bar: progress.
        asked: whether somebody named the parts: what the settings do not allow is then an error.
    """
    run = Run(settings, config)
    report = run.folder / "report"
    held = StoreError(f"{report}: another run is evaluating there; wait until it ends, or stop it.")
    with locked(report / ".lock", held):
        measuring = Measuring(run, Kept(report / "kept"), used, bar)
        paper, truths = PaperTables(measuring), TruthTables(measuring)
        make: Mapping[str, Callable[[], Part | None]] = {
            "table1": paper.table_1,
            "table2": paper.table_2,
            "truth": truths.truth,
            "blind": truths.blind,
            "sets": SetTables(measuring).part,
            "native": NativeTables(measuring).part,
            "figures": Drawings(measuring).draw,
        }
        lacking = {} if asked else unasked(settings)
        failures: list[ZssrGanError] = []
        for name in parts:
            if name in lacking:
                _removed(name, measuring)
                bar.note(f"{name}: {lacking[name]}: left out")
                continue
            began = time.perf_counter()
            try:
                made = _written(name, make[name](), measuring)
            except ZssrGanError as error:  # the others and the report are made all the same
                bar.note(f"{name}: failed: {error}", "red")
                failures.append(error)
                continue
            if made:
                bar.note(f"{name}: {time.perf_counter() - began:.0f} s")
        if len(failures) < len(parts):
            print(write_report(run, [name for name in PARTS if name not in unasked(settings)]))
        if failures:
            raise failures[0]


def _written(name: str, part: Part | None, measuring: Measuring) -> bool:
    """Write what a part has to show; whether it has anything."""
    path = measuring.report / "parts" / f"{name}.json"
    if part is None:
        _removed(name, measuring)
        return False
    if part.tables and name != "figures":
        measuring.written(name, part.tables)
    atomic_write(path, encode_part(replace(part, stamp=stamp(measuring.run, name))), overwrite=True)
    return True


def _removed(name: str, measuring: Measuring) -> None:
    """Remove what a part left under other settings, which is not true of these."""
    (measuring.report / "parts" / f"{name}.json").unlink(missing_ok=True)
    measuring.unwritten(name)


def unasked(settings: RunSettings) -> dict[str, str]:
    """The parts that the settings do not ask for, and why."""
    wanted, found = settings.evaluate, dict[str, str]()
    if settings.train.pairs is not None:
        found |= dict.fromkeys(("table1", "table2"), "this run trains on HR images and has no synthetic ones")
    if wanted.truth is None:
        found |= dict.fromkeys(("truth", "blind"), "evaluate.truth is not set, so no truth is known")
    elif not wanted.truth.blind:
        found["blind"] = "evaluate.truth.blind is 0"
    if not wanted.sets:
        found["sets"] = "evaluate.sets names none"
    if not wanted.native:
        found["native"] = "evaluate.native names none"
    return found


if __name__ == "__main__":
    sys.exit(main())
