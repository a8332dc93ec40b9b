"""`zssr-gan weights`: fetches published weights of networks, lists them, and checks what was fetched."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from zssr_gan.cli.exit_codes import show_progress, talk
from zssr_gan.errors import ZssrGanError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Fetch weights that others published, for the networks that need them. Nothing is fetched unasked.",
)

_MB = 1_000_000

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@contextmanager
def _usage() -> Iterator[None]:
    """Errors of ours in what was asked for: exit code 2."""
    from zssr_gan.progress import printable

    try:
        yield
    except ZssrGanError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        raise typer.Exit(2) from error


@app.command(no_args_is_help=True)
def fetch(name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="vgg19.")]) -> None:
    """Download published weights (vgg19: 575 MB), check their SHA-256, and only then put them in place.

    They are kept in the platform's cache folder, or in the folder that the variable ZSSR_GAN_WEIGHTS names. Weights
    that are there and right are not downloaded again.

    Exit codes: 0 they are there, 1 they could not be fetched or are not what was published, 2 an unknown name,
    130 Ctrl-C, 143 SIGTERM.
    """
    from zssr_gan.networks.pretrained import fetch as fetch_weights
    from zssr_gan.networks.pretrained import published
    from zssr_gan.progress import printable

    with _usage():
        found = published(name)
    with talk("Stopped: nothing was kept of what was not whole.", lambda _: 1) as display:

        def show(done: int, total: int) -> None:
            show_progress(display, f"fetching {name}, MB", done // _MB, -(-total // _MB))

        display.start(0, found.url)
        fresh = fetch_weights(found, show)
        display.result(printable(f"{name}: {'fetched and checked' if fresh else 'already there'}, {found.path}"))


@app.command(name="list")
def list_weights(as_json: AsJson = False) -> None:
    """Name the weights that can be fetched, how large they are, and which of them are here."""
    from zssr_gan.networks.pretrained import PUBLISHED
    from zssr_gan.progress import printable

    rows = [
        {
            "name": found.name,
            "what": found.what,
            "url": found.url,
            "sha256": found.sha256,
            "size_bytes": found.size_bytes,
            "path": str(found.path),
            "here": found.path.is_file(),
        }
        for found in PUBLISHED.values()
    ]
    if as_json:
        typer.echo(json.dumps({"weights": rows}))
        return
    for row, found in zip(rows, PUBLISHED.values(), strict=True):
        where = found.path if row["here"] else f"not here; from {found.url}"
        typer.echo(printable(f"{found.name}  {found.what}, {found.size_bytes / _MB:.0f} MB"))
        typer.echo(printable(f"  {where}"))


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="vgg19 [all that are here].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare every byte of fetched weights with the published SHA-256.

    Exit codes: 0 all is as published, 1 something is damaged, 2 the weights named are not here.
    """
    from zssr_gan.networks.pretrained import PUBLISHED, damage, published
    from zssr_gan.progress import printable

    with _usage():
        chosen = [published(name)] if name else [found for found in PUBLISHED.values() if found.path.is_file()]
        wrong = {found.name: damage(found) for found in chosen}
    if as_json:
        typer.echo(json.dumps({"ok": not any(wrong.values()), "weights": wrong}))
    else:
        for found in chosen:
            why = wrong[found.name]
            again = f"damaged, {why}; run `zssr-gan weights fetch {found.name}` again"
            typer.echo(printable(f"{found.path}: {'as published' if why is None else again}"))
        if not chosen:
            typer.echo("no weights have been fetched on this machine")
    raise typer.Exit(1 if any(wrong.values()) else 0)
