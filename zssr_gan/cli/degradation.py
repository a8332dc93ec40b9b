"""`zssr-gan degradation`: estimates what the camera did to the images of a case, and shows such an estimate."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import AsJson, Images, Overwrite, Recursive, Seed
from zssr_gan.errors import ImageError, OutputError, SettingsError
from zssr_gan.signals import uninterrupted

if TYPE_CHECKING:
    from zssr_gan.degradation.estimate import Estimate
    from zssr_gan.progress import Bar


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Estimate how the camera of a case blurs, adds noise and compresses, from its own images; show an estimate.",
)

STAGES = {
    "blur": "estimating the blur",
    "certainty": "estimating it from parts of the images",
    "motions": "looking for each image's own motion",
    "thirds": "comparing sharp and soft images",
}
"""Of an estimate, as a person reads them."""


@app.command(no_args_is_help=True)
def estimate(
    inputs: Images,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .json file to write.")],
    recursive: Recursive = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Estimate what the camera did to these images, from them alone: its blur, its noise, its JPEG compression.

    ```
    zssr-gan degradation estimate faces/ -o case.json
    zssr-gan enhance faces/ -o out/ --init shared --degradation case.json
    ```

    Small patterns recur in an image at several sizes: the blur is the one under which the images, made smaller, look
    like themselves. One tiny image shows little, a hundred show much: give all images of **one camera**, as the camera
    wrote them (not resized, not enhanced, not saved again). Ten parts of 16 x 16 pixels are the least.

    Beside the file comes a picture of it (`case.png`): the kernel beside bicubic's, and the blur by each part of the
    images. Where these differ much, or the blur is hardly one, **bicubic is assumed**, and the output says so.

    A file that cannot be read is named and left out.

    Exit codes: 0 done, 1 some images could not be read, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    with running() as bar:
        from zssr_gan.degradation.plot import picture_path, write_estimate
        from zssr_gan.inference.case import CaseFiles
        from zssr_gan.inference.outputs import check_new_files, collect_sources
        from zssr_gan.zeroshot.case import learn_case

        if output.suffix.lower() != ".json":
            raise OutputError(f"-o {output}: an estimate is a .json file, with a .png beside it")
        sources, notices = collect_sources(inputs, recursive=recursive)
        targets = [output, picture_path(output)]
        check_new_files(targets, sources, overwrite=overwrite)
        for notice in notices:
            bar.note(notice)
        bar.start(0, f"{len(sources)} images")
        files = CaseFiles(sources)
        images = files.images(network=False, on_image=lambda done, total: bar.update("reading", done, total))
        for failure in files.failures.values():
            bar.failure(failure)
        if not images:
            raise ImageError("none of the images can be read")
        (found,) = learn_case(
            images,
            seed=seed,
            on_progress=lambda now: bar.update(STAGES[now.stage], now.iteration, now.total),
        ).estimates.values()
        with uninterrupted():
            write_estimate(found, output, replaceable=targets if overwrite else ())
        if as_json:
            paths = {"output": str(output), "picture": str(picture_path(output))}
            bar.result(json.dumps({**paths, **_as_json(found), "failures": list(files.failures.values())}))
        else:
            bar.result(f"{output}, and its picture {picture_path(output)}")
            _show(found, bar)
        if found.fallback and as_json:
            bar.note(found.reasons, "bold yellow")
    raise typer.Exit(1 if files.failures else 0)


@app.command("set", no_args_is_help=True)
def set_by_hand(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .json file to write.")],
    blur: Annotated[
        float | None,
        typer.Option(min=0, max=8, help="Standard deviation of a round Gaussian in pixels of the images; 0: none."),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, max=127, help="Standard deviation in levels of 255 at medium brightness; 0: none."),
    ] = None,
    jpeg: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="QUALITY", help="JPEG quality, as libjpeg counts it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write what a person knows of the camera as a file for `--degradation`; nothing is estimated. Give one value or
    more; what is not given is none.

    ```
    zssr-gan degradation set --blur 0.8 --noise 3 --jpeg 70 -o camera.json
    zssr-gan enhance faces/ -o out/ --degradation camera.json
    ```

    The record of a result says that the values were set by hand. Beside the file comes a picture of it.

    Exit codes: 0 done, 2 usage, or a file that exists.
    """
    with running() as bar:
        from zssr_gan.degradation.estimate import given_estimate
        from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
        from zssr_gan.degradation.plot import picture_path, write_estimate
        from zssr_gan.imaging.colour import LEVELS
        from zssr_gan.inference.outputs import check_new_files

        if output.suffix.lower() != ".json":
            raise OutputError(f"-o {output}: an estimate is a .json file, with a .png beside it")
        if blur is None and noise is None and jpeg is None:
            raise SettingsError("no value is set: give --blur, --noise or --jpeg (--blur 0 for bicubic alone)")
        targets = [output, picture_path(output)]
        check_new_files(targets, [], overwrite=overwrite)
        camera = Degradation(
            blur=GaussianBlur(sigma_major=blur, sigma_minor=blur) if blur else None,
            noise=Noise(sigma=noise / LEVELS) if noise else None,
            jpeg=None if jpeg is None else Jpeg.of_quality(jpeg),
        )
        found = given_estimate(camera, "a person set these values; nothing was read from images")
        with uninterrupted():
            write_estimate(found, output, replaceable=targets if overwrite else ())
        bar.result(f"{output}, and its picture {picture_path(output)}")
        _show(found, bar)


@app.command(no_args_is_help=True)
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `degradation estimate` wrote.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PICTURE", help="Draw it too, as `degradation estimate` does: a .png."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show an estimate: what is assumed of the camera, how sure that is, and what it was read from.

    ```
    zssr-gan degradation show case.json
    zssr-gan degradation show degradation-1a2b3c4d5e6f.json -o camera.png
    ```

    A JPEG compression that was found is listed as `found`: its quality, how many images show it, and how sure that is;
    in the picture stands at which of the 64 places of the 8x8 grid the blocks of how many images begin.

    Exit codes: 0 done, 2 no such file, one that was changed, or a picture that cannot be written.
    """
    with running() as bar:
        from zssr_gan.degradation.estimate import read_estimate
        from zssr_gan.files import write_together

        found = read_estimate(path)
        if output is not None:
            from zssr_gan.degradation.plot import encode_degradation_picture
            from zssr_gan.inference.outputs import check_new_files

            if output.suffix.lower() != ".png":
                raise OutputError(f"-o {output}: the picture is a .png file")
            check_new_files([output], [path], overwrite=overwrite)
            contents = {output: encode_degradation_picture(found)}
            with uninterrupted():
                write_together(contents, replaceable=contents if overwrite else ())
        if as_json:
            bar.result(json.dumps(_as_json(found)))
        else:
            _show(found, bar)


def _show(found: "Estimate", bar: "Bar") -> None:
    from zssr_gan.degradation.estimate_lines import lines_of

    lines = lines_of(found)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        bar.result(f"{name:{width}}  {text}")


def _as_json(found: "Estimate") -> dict[str, object]:
    """The estimate for scripts: its file without the list of images, and the summary."""
    return {"summary": found.summary, **found.model_dump(mode="json"), "images": len(found.images)}
