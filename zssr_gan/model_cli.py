"""`zssr-gan model`: what a trained generator is, and what it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.errors import ZssrGanError

if TYPE_CHECKING:
    from zssr_gan.training.card import ImageList

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
    rows = {
        "label": f"{found.label}: its detail can come from other images",
        "network": f"{found.name}, " + ", ".join(f"{name} {value}" for name, value in found.options.items()),
        **_images(found.images, truths=found.truths),
        "cameras": ", ".join(camera.name for camera in found.cameras),
        "training": f"step {found.step:,} of {found.steps:,} ({found.phase}), seed {found.seed}, {found.precision}",
        "figures": ", ".join(
            f"{name} {value:.3g}" for name, value in found.metrics.items() if isinstance(value, float)
        ),
        "sha256": generator.sha256,
    }
    for name, text in rows.items():
        typer.echo(printable(f"{name:11} {text}"))
    for warning in found.warnings:
        typer.echo(printable(f"WARNING     {warning}"))


_PURPOSES = {
    "inputs": ("inputs", "LR images that the generator learnt from"),
    "reals": ("reals", "synthetic HR images that the discriminator was shown"),
    "held_out": ("held out", "images for validation, not trained on"),
}
_PURPOSES_OF_PAIRS = {**_PURPOSES, "inputs": ("truths", "HR images that it learnt from, with LR images made of them")}


def _images(lists: "Mapping[str, ImageList]", *, truths: bool) -> dict[str, str]:
    """A row each, which says where two lists are the same images."""
    rows, seen = {}, dict[str, str]()
    purposes = _PURPOSES_OF_PAIRS if truths else _PURPOSES
    for purpose, images in lists.items():
        name, what = purposes[purpose]
        same = f" (of the same images as {seen[images.sha256]})" if images.sha256 in seen else ""
        rows[name] = f"{images.count:,} {what}{same}"
        seen.setdefault(images.sha256, name)
    return rows
