"""`zssr-gan degradation`: estimates what the camera did to the images of a case, and shows such an estimate."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import show_progress, talk
from zssr_gan.errors import ImageError
from zssr_gan.signals import uninterrupted

if TYPE_CHECKING:
    from zssr_gan.degradation.estimate import Estimate
    from zssr_gan.progress import Display


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Estimate how the camera of a case blurs, adds noise and compresses, from its own images; show an estimate.",
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]

STAGES = {"blur": "estimating the blur", "certainty": "estimating it from parts of the images"}
"""What a user reads while an estimate is made."""


def _talk() -> AbstractContextManager["Display"]:
    return talk("Stopped: nothing is written.", lambda _: 2)


def show_step(display: "Display", stage: str, done: int, total: int) -> None:
    """A step of reading or estimating, for the bar and its time left."""
    show_progress(display, STAGES.get(stage, stage), done, total)


@app.command(no_args_is_help=True)
def estimate(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", show_default=False, help="Images of one camera, or folders of them."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The .json file to write.", show_default=False)
    ],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders too.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, metavar="N", help="Same seed, same bytes.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    as_json: AsJson = False,
) -> None:
    """Estimate what the camera did to these images, from them alone: its blur, its noise, its JPEG compression.

    ```
    zssr-gan degradation estimate faces/ -o case.json
    zssr-gan enhance faces/ -o out/ --init shared --degradation case.json
    ```

    Small patterns recur in an image at several sizes: the blur is the one under which the images, made smaller, look
    like themselves. One tiny image tells little, a hundred tell much: give all images of **one camera**, as the camera
    wrote them (not resized, not enhanced, not saved again). Ten parts of 16 x 16 pixels are the least.

    Beside the file comes a picture of it (`case.png`): the kernel beside bicubic's, and the blur as each part of the
    images tells it. Where these differ much, or the blur is hardly one, **bicubic is assumed**, and it is said.

    A file that cannot be read is named and left out.

    Exit codes: 0 done, 1 some images could not be read, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    with _talk() as display:
        from zssr_gan.degradation.estimator import estimate_degradation
        from zssr_gan.degradation.plot import gather, picture_path, write_estimate
        from zssr_gan.errors import OutputError
        from zssr_gan.inference.outputs import check_new_files, collect_sources
        from zssr_gan.progress import printable

        if output.suffix.lower() != ".json":
            raise OutputError(f"-o {output}: an estimate is a .json file, with a .png beside it")
        sources, left_out = collect_sources(inputs, recursive=recursive)
        targets = [output, picture_path(output)]
        check_new_files(targets, sources, overwrite=overwrite)
        if left_out:
            display.note(f"left out {left_out} results of earlier runs found in the folders")
        display.start(0, f"{len(sources)} images")
        gathered = gather(sources, on_image=lambda done, total: show_step(display, "reading", done, total))
        for failure in gathered.failures:
            display.note(f"failed: {printable(failure)}", "red")
        if not gathered.evidence:
            raise ImageError("none of the images can be read")
        found = estimate_degradation(
            gathered.evidence,
            seed=seed,
            on_estimate=lambda what, done, total: show_step(display, what, done, total),
        )
        with uninterrupted():
            write_estimate(found, output, replaceable=targets if overwrite else ())
        if as_json:
            files = {"output": str(output), "picture": str(picture_path(output))}
            display.result(json.dumps({**files, **_facts(found), "failures": list(gathered.failures)}))
        else:
            display.result(printable(f"{output}, and its picture {picture_path(output)}"))
            _show(found, display)
        if found.fallback:
            display.note(
                printable(f"BICUBIC IS ASSUMED: {found.why.removeprefix('bicubic is assumed: ')}"), "bold yellow"
            )
    raise typer.Exit(1 if gathered.failures else 0)


@app.command(no_args_is_help=True)
def show(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="What `degradation estimate` wrote.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show an estimate: what is assumed of the camera, how sure that is, and what it was read from.

    Exit codes: 0 done, 2 no such file, or one that was changed.
    """
    with _talk() as display:
        from zssr_gan.degradation.estimate import read_estimate

        found = read_estimate(path)
        if as_json:
            display.result(json.dumps(_facts(found)))
        else:
            _show(found, display)


def _show(found: "Estimate", display: "Display") -> None:
    from zssr_gan.degradation.plot import account
    from zssr_gan.progress import printable

    lines = account(found)
    width = max(len(name) for name, _ in lines)
    for name, said in lines:
        display.result(printable(f"{name:{width}}  {said}"))


def _facts(found: "Estimate") -> dict[str, object]:
    """The estimate for scripts: its file without the list of images, and the summary."""
    whole = found.model_dump(mode="json")
    return {"summary": found.summary, **whole, "images": len(found.images)}
