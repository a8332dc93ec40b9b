"""The systems of the literature, small: python -m pipelines.zoo (or: make zoo); half an hour on two cores.

Prepares and trains each of them by its own config's block `small`, as `make prepare` and `make train` do, into a folder
of its own, and then compares all that are there with truths, in a table for x2 and one for x4. The same command resumes
what was stopped, and does nothing twice. A system that fails is named, and the others go on.
Exit codes: 0 done, 1 a system or a table failed, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.arguments import run_stage
from zssr_gan.data.prepared import open_sources
from zssr_gan.errors import SettingsError
from zssr_gan.evaluation.runner import choose
from zssr_gan.progress import Bar, duration
from zssr_gan.settings.data import DataSettings, SourceSettings
from zssr_gan.settings.run import load_run
from zssr_gan.signals import Terminated

SYSTEMS = ("srgan_x4", "esrgan_x4", "srgan_celeba", "dcgan", "srgan_patches", "autoencoder", "srcnn")

TABLES = ("zoo_x2", "zoo_x4")

CONFIGS = Path("configs")

MOST = 1000
"""Of a folder's images so many are looked at: the small runs are trained on 40 of them."""

_STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it with `arguments` (default: those of the process); return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.zoo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help=f"images of high resolution, of 128 px or more (a sample of {MOST:,}); default: built-in photographs",
    )
    parser.add_argument("--only", default=None, metavar="SYSTEMS", help=f"some of {','.join(SYSTEMS)}")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of all runs; default: runs/zoo, with --data runs/zoo-<its name>"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of every training"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (cuda:1, ...) or mps")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="CPU threads")
    options = parser.parse_args(arguments)
    machine = ["--device", options.device, *([] if options.threads is None else ["--threads", str(options.threads)])]

    def work(bar: Bar) -> int:
        systems = choose(options.only, SYSTEMS, "system")
        data = None if options.data is None else given_folder(options.data)
        folder = options.out or Path("runs") / ("zoo" if data is None else f"zoo-{data.root.name}")
        failed = train_all(systems, folder, data, options.set, machine, bar)
        failed += make_tables(folder, data, machine, bar)
        if failed:
            bar.note(f"error: failed: {', '.join(failed)}; what they said stands above.", "red")
        return 1 if failed else 0

    return run_stage(work, "Stopped: results so far are saved; run the same command again to resume.")


@dataclass(frozen=True, slots=True)
class Given:
    """A folder of images, and how many of them are looked at."""

    root: Path
    count: int


def given_folder(root: Path) -> Given:
    """What `--data` names. Raises SettingsError where it is no folder or holds no image."""
    whole = root.expanduser().resolve()
    if not whole.is_dir():
        raise SettingsError(f"--data {root}: is no folder.")
    (source,) = open_sources(DataSettings(sources=(SourceSettings(kind="folder", root=str(whole)),)))
    images = len(source.listing().entries)
    if not images:
        raise SettingsError(f"--data {root}: holds no image.")
    return Given(whole, min(MOST, images))


def train_all(
    systems: Sequence[str], folder: Path, data: Given | None, changes: Sequence[str], machine: Sequence[str], bar: Bar
) -> list[str]:
    """Prepare and train each; return those that failed.

    Args:
        systems: of `SYSTEMS`.
        folder: each gets one of its own in it.
        data: folder of images; None: what the config names.
        changes: "a.b=value", for each.
        machine: options of `make train` that say what it runs on.
        bar: for lines between.
    """
    given = {name: [f"run_dir={_quoted(folder / name)}", *_source(data), *changes] for name in systems}
    for name, its in given.items():  # a mistake in `changes` is an error before anything is trained
        load_run(CONFIGS / f"{name}.yaml", its, small=True)
    failed, began = [], time.monotonic()
    for number, (name, its) in enumerate(given.items(), 1):
        bar.note(f"{name}: {number} of {len(given)}, {duration(time.monotonic() - began)} so far", "bold")
        words = ["--config", str(CONFIGS / f"{name}.yaml"), "--small", *_set(its)]
        if not (run("prepare", words) and run("train", [*words, *machine])):
            failed.append(name)
    return failed


def make_tables(folder: Path, data: Given | None, machine: Sequence[str], bar: Bar) -> list[str]:
    """Compare all generators in the folder with truths; return the tables that failed."""
    failed = []
    for name in TABLES:
        bar.note(f"{name}: the table", "bold")
        report = folder / name.removeprefix("zoo_")
        its = [f"run_dir={_quoted(report)}", *_source(data)]
        if data is not None:
            its += ["evaluate.truth.kind=folder", f"evaluate.truth.root={_quoted(data.root)}"]
        words = ["--config", str(CONFIGS / f"{name}.yaml"), "--only", "truth", *_set(its), *machine]
        if not run("evaluate", words):
            failed.append(name)
    return failed


def run(stage: str, words: Sequence[str]) -> bool:
    """Run a stage as a process of its own, so that nothing that happens in it ends the others; whether it went well.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    command = ["-m", f"pipelines.{stage}", *words]
    print(f"$ python {shlex.join(command)}", file=sys.stderr, flush=True)
    with subprocess.Popen([sys.executable, *command]) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt as stop:
            if isinstance(stop, Terminated):  # Ctrl-C goes to all processes of a terminal, SIGTERM to one
                process.terminate()
            process.wait()  # it keeps what it has
            raise
    if code in _STOPPED:  # and has said so
        raise KeyboardInterrupt
    return code == 0


def _source(data: Given | None) -> list[str]:
    """The change that takes the folder's images; none where there is no folder."""
    if data is None:
        return []
    return [f"data.sources=[{{kind: folder, root: {_quoted(data.root)}, count: {data.count}}}]"]


def _quoted(path: Path) -> str:
    """As text in YAML, whatever characters it has."""
    return "'" + str(path).replace("'", "''") + "'"


def _set(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


if __name__ == "__main__":
    sys.exit(main())
