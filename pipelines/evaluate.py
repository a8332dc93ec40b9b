"""Tables and figures of a run: python -m pipelines.evaluate --config FILE (or: make eval).

Reads what the stages before left in the run's folder, writes report/ there: table1, table2, truth and time as .csv, .md
and .tex, the figures as PNG, and kept/, where results lie by a hash of all that they hang on, so that the same command
computes nothing twice and goes on where it was stopped. kept/ may be deleted; its times are then measured anew.
Exit codes: 0 done, 1 an image failed or the disk refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.evaluate_figures import Figures
from pipelines.evaluate_tables import Tables
from pipelines.evaluated_run import Run
from pipelines.kept_results import Kept
from pipelines.progress import Bar
from zssr_gan.data.split import SplitError
from zssr_gan.devices import PRECISIONS, Machine, RunOptions, machine
from zssr_gan.errors import DeviceError, SettingsError, StoreError, WeightsError, ZssrGanError
from zssr_gan.files import FileLock
from zssr_gan.interrupts import exit_code, turn_sigterm_into_an_exception
from zssr_gan.stages import RunSettings, load_run

PARTS = ("table1", "table2", "truth", "figures")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML of the run: configs/*.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting: evaluate.samples=4"
    )
    parser.add_argument("--only", default=None, metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (cuda:1, ...) or mps")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="CPU threads")
    options = parser.parse_args(arguments)
    turn_sigterm_into_an_exception()
    with Bar() as bar:
        try:
            parts = chosen_parts(options.only)
            settings = load_run(options.config, options.set)
            with machine(RunOptions(options.device, options.precision, options.threads)) as used:
                evaluate(settings, options.config, parts, used, bar, asked=options.only is not None)
        except KeyboardInterrupt as stop:
            bar.note("Stopped: what is done is kept; the same command goes on from there.", "red")
            return exit_code(stop)
        except ZssrGanError as error:
            bar.note(f"error: {error}", "red")
            usage = SettingsError | SplitError | StoreError | DeviceError | WeightsError
            return 2 if isinstance(error, usage) else 1
    return 0


def chosen_parts(only: str | None) -> tuple[str, ...]:
    """The parts that are asked for, in their own order. Raises SettingsError for an unknown one."""
    if only is None:
        return PARTS
    asked = [part.strip() for part in only.split(",")]
    strange = next((part for part in asked if part not in PARTS), None)
    if strange is not None:
        raise SettingsError(f"--only {only}: there is no part {strange!r}: use {', '.join(PARTS)}.")
    return tuple(part for part in PARTS if part in asked)


def evaluate(
    settings: RunSettings, config: Path, parts: Sequence[str], used: Machine, bar: Bar, *, asked: bool
) -> None:
    """Make these parts, and print the files.

    Args:
        settings, config: of the run.
        parts: of `PARTS`.
        used: what it runs on.
        bar: progress.
        asked: whether somebody named the parts: what the settings do not allow is then an error.
    """
    run = Run(settings, config)
    report = run.folder / "report"
    lock = FileLock(report / ".lock")
    if not lock.acquire(wait=False):
        raise StoreError(f"{report}: another run is evaluating there; wait until it ends, or stop it.")
    try:
        tables = Tables(run, Kept(report / "kept"), used, bar)
        make: Mapping[str, Callable[[], list[Path]]] = {
            "table1": tables.table_1,
            "table2": tables.table_2,
            "truth": tables.truth,
            "figures": Figures(tables).draw,
        }
        for part in parts:
            if part == "truth" and settings.evaluate.truth is None and not asked:
                bar.note("truth: evaluate.truth is not set, so no truth is known: left out")
                continue
            began = time.perf_counter()
            for path in make[part]():
                print(path)
            bar.note(f"{part}: {time.perf_counter() - began:.0f} s")
    finally:
        lock.release()


if __name__ == "__main__":
    sys.exit(main())
