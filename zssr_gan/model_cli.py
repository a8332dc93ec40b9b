"""`zssr-gan model`: what a trained generator is, and what it was trained on."""

from pathlib import Path
from typing import Annotated

import typer

from zssr_gan.errors import ZssrGanError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at trained generators, as `make train` writes them.",
)


@app.callback()
def _group() -> None:
    """Keeps `card` a command of its own while it is the only one."""


@app.command(no_args_is_help=True)
def card(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="generator.safetensors.")],
    images: Annotated[
        bool, typer.Option("--images", help="What it was trained on: SHA-256, purpose and id, a line an image.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole card, as JSON.")] = False,
) -> None:
    """Show the card of a generator: network, images, training, figures, and the file's SHA-256.

    Exit codes: 0 done, 2 the file is missing or no generator.
    """
    from zssr_gan.display import printable
    from zssr_gan.training.card import load_generator
    from zssr_gan.training.card_account import account

    try:
        generator = load_generator(file)
    except ZssrGanError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        raise typer.Exit(2) from error
    if images:
        for purpose, files in generator.images.items():
            for name, sha256 in files.items():
                typer.echo(printable(f"{sha256}  {purpose:8}  {name}"))
        return
    found = generator.card
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    for name, text in account(generator):
        typer.echo(printable(f"{name:11} {text}"))
    for warning in found.warnings:
        typer.echo(printable(f"WARNING     {warning}"))
