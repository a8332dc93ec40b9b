"""Which images, in which part, with which role: python -m pipelines.prepare --config FILE (or: make prepare).

Opens every image of the config's sources once; writes config.yaml (as resolved) and split.json into the run's folder.
Exit codes: 0 done, 1 the disk or the machine refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zssr_gan.data.prepared import open_sources
from zssr_gan.data.split import (
    Progress,
    Range,
    Split,
    SplitError,
    make_split,
    read_split,
    reasons,
    source_names,
    split_bytes,
    summarise,
    write_split,
)
from zssr_gan.errors import SettingsError, ZssrGanError
from zssr_gan.files import atomic_write
from zssr_gan.progress import Bar, printable
from zssr_gan.settings.run import RunSettings, load_run
from zssr_gan.signals import exit_code, turn_sigterm_into_an_exception, uninterrupted

SHOWN = 5  # of each kind of image that is not used; all are in split.json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.prepare", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML of the run: configs/*.yaml")
    parser.add_argument("--small", action="store_true", help="take the file's block `small`: a run of minutes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting: data.size=32 (repeatable)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a split.json that is another one")
    options = parser.parse_args(arguments)
    turn_sigterm_into_an_exception()
    with Bar() as bar:
        try:
            settings = load_run(options.config, options.set, small=options.small)
            path = settings.folder(options.config) / "split.json"
            split = prepare(settings, path, bar, overwrite=options.overwrite)
            with uninterrupted():
                write(settings, options.config, split, path, overwrite=options.overwrite)
        except KeyboardInterrupt as stop:
            bar.note("Stopped while images were read: the same command starts anew.", "red")
            return exit_code(stop)
        except ZssrGanError as error:
            bar.note(f"error: {error}", "red")
            return 2 if isinstance(error, SettingsError | SplitError) else 1
    show(split)
    print(printable(str(path)))
    return 0


def prepare(settings: RunSettings, path: Path, bar: Bar, *, overwrite: bool) -> Split:
    """The split of these settings. Raises SettingsError where `path` holds one of other settings that is to be kept."""
    if path.exists() and not overwrite:
        there = read_split(path)  # before minutes are spent on one that could not be written
        changed = [key for key, value in settings.data.without_roots().items() if there.data.get(key) != value]
        if changed or there.seed != settings.seed:
            raise another(path, f"data.{changed[0]}" if changed else "seed")

    def show_progress(progress: Progress) -> None:
        what = f"listing {progress.source}" if progress.total is None else progress.source
        bar.update(what, progress.done, progress.total)

    return make_split(settings.data, open_sources(settings.data), settings.seed, show_progress)


def write(settings: RunSettings, config: Path, split: Split, path: Path, *, overwrite: bool) -> None:
    """Write split.json and config.yaml. Raises SettingsError where another split is there and is to be kept."""
    if not path.exists() or overwrite:
        write_split(split, path, overwrite=overwrite)
    elif path.read_bytes() != split_bytes(split):
        raise another(path, "what the images' folders hold")
    atomic_write(path.with_name("config.yaml"), settings.as_yaml(config).encode(), overwrite=True)


def another(path: Path, what: str) -> SettingsError:
    """Why a split stays: what was synthesised from it would no longer fit."""
    return SettingsError(
        f"{path}: holds another split ({what} differs), which later stages may stand on: give another "
        "run_dir, or allow --overwrite."
    )


def show(split: Split) -> None:
    """Print the report."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("source", "part", "role"):
        table.add_column(name)
    for name in ("images", "identities", "width", "height"):
        table.add_column(name, justify="right")
    for row in summarise(split):
        sizes = (size_text(row.widths), size_text(row.heights))
        table.add_row(row.source, row.kind, row.role, f"{row.images:,}", f"{row.identities:,}", *sizes)
    console.print(table)
    console.print("Widths and heights: least/median/greatest, in pixels.")
    for name in source_names(split):
        console.print(Text(source_text(split, name)), soft_wrap=True)
    unused = {
        "skipped": [f"{one.id}: {one.reason}" for one in split.skipped],
        "duplicate": [f"{one.id}: is {one.duplicate_of}" for one in split.entries if one.duplicate_of],
        "missing": [f"{name}: is in the set's list, and not there" for name in split.missing],
    }
    lines = list(split.notices)
    for what, facts in unused.items():
        lines += [f"{what}: {fact}" for fact in facts[:SHOWN]]
        lines += [f"{what}: ... and {len(facts) - SHOWN:,} more, in split.json"] if len(facts) > SHOWN else []
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)


def source_text(split: Split, name: str) -> str:
    """One source in a line: how many images were found, how many of them can be used, and why others cannot."""
    its = [member for member in split.entries if member.source == name]
    duplicates = sum(member.duplicate_of is not None for member in its)
    why = reasons(split)[name]
    skipped = f"{why.total():,} skipped" + (
        f" ({', '.join(f'{count:,} {reason}' for reason, count in sorted(why.items()))})" if why else ""
    )
    missing = sum(one.startswith(f"{name}/") for one in split.missing)
    identities = len({member.identity for member in its} - {None})
    return (
        f"{name}: {len(its) + why.total():,} found, {len(its) - duplicates:,} usable, {identities:,} identities, "
        f"{duplicates:,} duplicates, {skipped}, {missing:,} missing"
    )


def size_text(sizes: Range) -> str:
    """Least, median and greatest."""
    return "/".join(str(size) for size in sizes)


if __name__ == "__main__":
    sys.exit(main())
