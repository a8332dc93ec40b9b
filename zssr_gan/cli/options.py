"""Options that several commands have, once each."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from zssr_gan.imaging.endings import READ_KINDS

# Panels of the help.
FILES, MACHINE, REPORT = "Files", "Machine", "What is reported"


def decimal(text: str | float) -> float:
    """An option's number. Raises BadParameter, with a hint where a comma is its decimal point or it is in percent."""
    try:
        return float(text)
    except ValueError as error:
        mended = str(text).replace(",", ".")
        hint = f": write {mended}, with a decimal point" if mended.count(".") == 1 and "," in str(text) else ""
        with contextlib.suppress(ValueError):
            hint = f": write {float(mended[:-1]) / 100:g}" if mended.endswith("%") else hint
        raise typer.BadParameter(f"{text!r} is not a number{hint}.") from error


Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Same seed, same bytes.")]

Recursive = Annotated[bool, typer.Option("--recursive", "-r", rich_help_panel=FILES, help="Look into subfolders too.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", rich_help_panel=FILES, help="Replace files that exist.")]

Device = Annotated[
    str,
    typer.Option(
        metavar="NAME", rich_help_panel=MACHINE, help="auto (CUDA, else CPU), cpu, cuda (cuda:1, ...) or mps."
    ),
]

Threads = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, metavar="N", rich_help_panel=MACHINE, help="CPU threads [all cores; small images: one]."
    ),
]

Tile = Annotated[
    int | None,
    typer.Option(min=16, metavar="PX", rich_help_panel=MACHINE, help="Side of a tile; smaller takes less memory."),
]

AsJson = Annotated[bool, typer.Option("--json", rich_help_panel=REPORT, help="JSON on standard output, for scripts.")]

Quiet = Annotated[bool, typer.Option("-q", "--quiet", rich_help_panel=REPORT, help="Report failures only.")]

Verbose = Annotated[bool, typer.Option("-v", "--verbose", rich_help_panel=REPORT, help="Tracebacks of failures too.")]

Images = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT", help=f"Images ({', '.join(READ_KINDS)}), or folders."),
]
