"""`zssr-gan model`: what a trained generator is and was trained on, and generators that others trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import AsJson
from zssr_gan.errors import OutputError
from zssr_gan.provenance import LABELS

if TYPE_CHECKING:
    from zssr_gan.inference.request import Request
    from zssr_gan.progress import Bar
    from zssr_gan.training.model_card import TrainedGenerator

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at trained generators, as `make train` writes them, or make such files of what others trained.",
)


@app.command(no_args_is_help=True)
def card(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="generator.safetensors.")],
    images: Annotated[
        bool, typer.Option("--images", help="What it was trained on: SHA-256, purpose and id, a line an image.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the card of a generator: network, images, training, figures, and the file's SHA-256.

    Exit codes: 0 done, 2 the file is missing or no generator.
    """
    with running() as bar:
        from zssr_gan.training.model_card import load_generator, summary

        generator = load_generator(file)
        found = generator.card
        if images:
            if found.origin is not None:
                bar.note("the images that it was trained on are not known")
            for purpose, files in generator.images.items():
                for name, sha256 in files.items():
                    bar.result(f"{sha256}  {purpose:8}  {name}")
        elif as_json:
            typer.echo(json.dumps(found.model_dump(mode="json"), indent=1))
        else:
            for name, text in summary(generator):
                bar.result(f"{name:11} {text}")
            for warning in found.warnings:
                bar.result(f"WARNING     {warning}")


@app.command("import", no_args_is_help=True)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".pth or .safetensors of an ESRGAN generator (RRDB).")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to be written.")],
) -> None:
    """Make a generator's file of weights that others trained, for `zssr-gan enhance --model`.

    Read are the generators of ESRGAN, BasicSR and Real-ESRGAN, x1 to x8; blocks, width and scale are found from the
    weights. Nothing is downloaded, and nothing in the file is run. The card says which file it was, by its SHA-256, and
    that its training is not known. Results are labelled `generative`.

    Exit codes: 0 done, 1 the output cannot be written, 2 the file is missing or no such generator.
    """
    with running(failed=OutputError) as bar:
        from zssr_gan.training.importing import import_generator

        made = import_generator(file, output)
        options = ", ".join(f"{name} {value}" for name, value in made.options.items())
        bar.result(f"{output}: {made.name}, {options}")
        for warning in made.warnings:
            bar.note(f"WARNING: {warning}")


def show_model(request: "Request", model: "TrainedGenerator", bar: "Bar") -> None:
    """What the pixels will come from, what that means, and loudly what its card warns of."""
    from zssr_gan.inference.request import named
    from zssr_gan.training.model_card import CameraCard

    card = model.card
    images = card.images.get("inputs")
    learnt = "" if images is None else f" on {images.count:,} images"
    trained = f"trained{learnt}, step {card.step:,} of {card.steps:,}" if card.origin is None else card.training
    bar.info(f"{request.files['model'].path}: {card.name}, {trained}")
    bar.info(f"  generative: {LABELS['generative']}")
    used = CameraCard.of(request.degradation.values)
    if used not in card.cameras:
        cameras = named([camera.name for camera in card.cameras])
        trained = f"trained for {cameras}" if card.origin is None else "what it was trained for is not known"
        bar.info(f"  {trained}; its outputs are back-projected onto the input by {used.name}, as asked", "bold yellow")
    elif used.name != "bicubic":
        bar.info(f"  its outputs are back-projected onto the input by {used.name}, which it was trained for")
    for warning in card.warnings:
        bar.info(f"  WARNING: {warning}", "bold yellow")
