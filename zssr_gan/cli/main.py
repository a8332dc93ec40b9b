"""The `zssr-gan` command: parses, calls, shows; the work is done elsewhere.

Exit codes: 0 done, 1 some images failed (verify: a mismatch), 2 usage, 130 Ctrl-C, 143 SIGTERM.
Commands import what needs torch when they run, so that `--help` and `--version` answer at once.
"""

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zssr_gan.cli import case, compare, degradation, enhance, fuse, info, model, store, verify, video, web, weights
from zssr_gan.progress import escape_unencodable_output
from zssr_gan.signals import turn_sigterm_into_an_exception

app = typer.Typer(
    name="zssr-gan",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (enhance.enhance, fuse.fuse, compare.compare, verify.verify):
    app.command(no_args_is_help=True)(command)
app.command()(web.web)
app.command()(info.info)
app.add_typer(case.app, name="case")
app.add_typer(degradation.app, name="degradation")
app.add_typer(store.app, name="store")
app.add_typer(weights.app, name="weights")
app.add_typer(model.app, name="model")
app.add_typer(video.app, name="video")
app.add_typer(web.users_app, name="web-user")


_SPINS = "10000"
"""Turns that a thread of OpenMP waits awake for the others. With libgomp's 300,000, two threads took six times the
processor time of one where other programs had the cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit code."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)  # read when torch is imported
    turn_sigterm_into_an_exception()
    escape_unencodable_output()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="zssr-gan")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except OSError as error:  # of standard output; files have errors of their own
        typer.echo(f"error: the output cannot be written ({error.strerror})", err=True)
        return 1
    return 0


@app.command(hidden=True)
def web_worker(cases: Path, device: str, server: int) -> None:
    """Run the jobs of `zssr-gan web`, of the process `server`, on one device; the server starts it."""
    web.work(cases, device, main, server)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zssr-gan {importlib.metadata.version('zssr-gan')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Super-resolution of images that exist only in low resolution, learnt from each image itself.

    `zssr-gan enhance photo.jpg` writes `photo_x2.png` and its record `photo_x2.json` beside the photo.
    `zssr-gan enhance --help` explains the rest.
    """
