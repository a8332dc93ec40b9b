"""Which images, in which part, with which role: python -m pipelines.prepare --config FILE (or: make prepare).

Opens every image of the config's sources once; writes config.yaml (as resolved) and split.json into the run's folder.
Exit codes: 0 done, 1 the disk or the machine refuses, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.arguments import run_stage, stage_arguments
from zssr_gan.data.prepared import prepare
from zssr_gan.data.split import SUMMARY_COLUMNS, Split, summary_lines, summary_rows
from zssr_gan.progress import Bar, printable
from zssr_gan.settings.run import load_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage with `arguments` (default: those of the process); return the exit code."""
    parser = stage_arguments("prepare", __doc__, "data.size=32", machine=False)
    parser.add_argument("--overwrite", action="store_true", help="replace a split.json that is another one")
    options = parser.parse_args(arguments)

    made: list[tuple[Split, Path]] = []

    def work(bar: Bar) -> int:
        settings = load_run(options.config, options.set, small=options.small)

        def on_images(name: str, done: int, total: int | None) -> None:
            bar.update(f"listing {name}" if total is None else name, done, total)

        split = prepare(settings, options.config, overwrite=options.overwrite, on_images=on_images)
        made.append((split, settings.folder(options.config) / "split.json"))
        return 0

    code = run_stage(work, "Stopped while images were read: the same command starts anew.")
    for split, path in made:  # below the bar, which is gone by now
        show(split)
        print(printable(str(path)))
    return code


def show(split: Split) -> None:
    """Print the report."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in SUMMARY_COLUMNS:
        table.add_column(name, justify="left" if name in SUMMARY_COLUMNS[:3] else "right")
    for row in summary_rows(split):
        table.add_row(*row)
    console.print(table)
    console.print("Widths and heights: least/median/greatest, in pixels.")
    for line in summary_lines(split):
        console.print(Text(printable(line)), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
