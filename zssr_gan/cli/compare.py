"""`zssr-gan compare`: one image by several systems, side by side on one sheet."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import talk
from zssr_gan.errors import ImageError, OutputError

if TYPE_CHECKING:
    from zssr_gan.inference.compare import Failed, Shown
    from zssr_gan.progress import Display


app = typer.Typer(rich_markup_mode="markdown")


@app.command(no_args_is_help=True)
def compare(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False, help="One image.")],
    models: Annotated[
        list[str],
        typer.Option("--models", metavar="A,B,...", show_default=False, help="What is compared; may be repeated."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="SHEET", show_default=False, help="The .png or .tif to write.")
    ],
    scale: Annotated[
        str | None,
        typer.Option(
            *("-s", "--scale"),
            metavar="S",
            show_default=False,
            help="Of all but the generators [their largest, or 2].",
        ),
    ] = None,
    degradation: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            show_default=False,
            help="The camera: bicubic, or what `zssr-gan degradation estimate` keeps [as trained for, or bicubic].",
        ),
    ] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Below each result, where the views of its network disagree.")
    ] = False,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Where runs are looked for by their names.")] = Path(
        "runs"
    ),
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Same seed, same pixels.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto (CUDA, else CPU), cpu, cuda or mps.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, metavar="N", help="CPU threads [all cores].", show_default=False)
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=16, metavar="PX", help="Side of a tile; smaller takes less memory.")
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Tracebacks of failures too.")] = False,
) -> None:
    """Compare systems on one image: one sheet with the input, bicubic, and what each of them makes of it.

    ```
    zssr-gan compare face.png --models back-projected,fast,demo -o sheet.png
    zssr-gan compare face.png --models a.safetensors --models b.safetensors -o sheet.png --evidence
    ```

    A system is `bicubic` or `back-projected`, a preset of `zssr-gan enhance` (`fast`, `quality`, ...) or a .yaml file
    of settings, a trained generator's .safetensors, or the name of a run (`demo` is
    runs/demo/train/generator.safetensors). A run that is called like a preset is given by its file.

    Below each result stand its name, its label (`internal` or `generative`), its scale and the seconds it took. All
    are shown at one size, whatever their scale.

    Beside the sheet comes its record (`sheet.json`): the hash of the input, and each system's settings, hashes, label
    and account. A single result with a record that can be verified is made by `zssr-gan enhance`.

    Exit codes: 0 done, 1 some systems failed, or a file exists or cannot be written, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    with talk("Stopped: nothing is written.", lambda error: 1 if isinstance(error, OutputError) else 2) as display:
        from zssr_gan.devices import RunOptions
        from zssr_gan.inference.compare import Failed, check_sheet, named_systems, record_path
        from zssr_gan.inference.compare import compare as compare_systems
        from zssr_gan.inference.outputs import check_new_files, collect_sources
        from zssr_gan.progress import printable

        check_sheet(output)
        options = RunOptions(device=device, threads=threads, tile=tile)
        systems = named_systems(models, scale=scale, degradation=degradation, runs=runs, seed=seed, options=options)
        if image.is_dir():
            raise ImageError(f"{image}: is a folder, and one image is compared at a time")
        sources, _ = collect_sources([image])
        check_new_files([output, record_path(output)], sources, overwrite=overwrite)
        done = compare_systems(
            image,
            systems,
            output,
            evidence=evidence,
            overwrite=overwrite,
            on_start=lambda _place, system: display.start(0, system.name),
            on_progress=display.update,
            on_done=lambda one: _show(one, display, verbose=verbose),
        )
        failed = [one for one in done if isinstance(one, Failed)]
        if len(failed) == len(done):
            display.note("nothing is written, since no system came to a result", "red")
        else:
            display.result(printable(f"{output}, and its record {record_path(output)}"))
    raise typer.Exit(1 if failed else 0)


def _show(one: "Shown | Failed", display: "Display", *, verbose: bool) -> None:
    """A line for each system, as soon as it is done."""
    from zssr_gan.inference.compare import Shown
    from zssr_gan.progress import printable
    from zssr_gan.provenance import scale_text

    if isinstance(one, Shown):
        scale = scale_text(one.system.request.scale)
        display.result(printable(f"{one.system.name}: {one.label}, x{scale}, {one.seconds:.1f} s"))
        for notice in one.notices:
            display.note(printable(f"{one.system.name}: {notice}"))
        return
    display.note(printable(f"failed: {one.message}"), "red")
    if verbose:
        for line in "".join(traceback.format_exception(one.error)).splitlines():
            display.note(printable(line))
