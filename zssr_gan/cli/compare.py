"""`zssr-gan compare`: one image by several systems, side by side on one sheet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import Device, Overwrite, Seed, Threads, Tile, Verbose
from zssr_gan.errors import ImageError, OutputError

if TYPE_CHECKING:
    from zssr_gan.inference.compare import Failed, Shown
    from zssr_gan.progress import Bar


def compare(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="One image.")],
    models: Annotated[
        list[str], typer.Option("--models", metavar="A,B,...", help="What is compared; may be repeated.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="SHEET", help="The .png or .tif to write.")],
    scale: Annotated[
        str | None, typer.Option("-s", "--scale", metavar="S", help="Of all but the generators [their largest, or 2].")
    ] = None,
    degradation: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="The camera: auto (as trained, or as the image shows), bicubic, or a FILE of an estimate.",
        ),
    ] = "auto",
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Below each result, where the views of its network disagree.")
    ] = False,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Where runs are looked for by their names.")] = Path(
        "runs"
    ),
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    tile: Tile = None,
    verbose: Verbose = False,
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

    Beside the sheet comes its record (`sheet.json`): the hash of the input, and of each system its settings, hashes and
    label. `zssr-gan verify` checks it; a result that can also be made again is one of `zssr-gan enhance`.

    Exit codes: 0 done, 1 some systems failed, or a file exists or cannot be written, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    with running(failed=OutputError, verbose=verbose) as bar:
        from zssr_gan.devices import RunOptions
        from zssr_gan.inference.compare import Failed, check_sheet, named_systems, record_path
        from zssr_gan.inference.compare import compare as compare_systems
        from zssr_gan.inference.outputs import check_new_files, collect_sources, parse_scale

        check_sheet(output)
        options = RunOptions(device=device, threads=threads, tile=tile)
        factors = None if scale is None else parse_scale(scale)
        systems = named_systems(models, scale=factors, degradation=degradation, runs=runs, seed=seed, options=options)
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
            on_start=lambda _place, system: bar.start(0, system.name),
            on_progress=bar.step,
            on_done=lambda one: _show(one, bar),
        )
        failed = [one for one in done if isinstance(one, Failed)]
        if len(failed) == len(done):
            bar.note("nothing is written, since no system came to a result", "red")
        else:
            bar.result(f"{output}, and its record {record_path(output)}")
    raise typer.Exit(1 if failed else 0)


def _show(one: "Shown | Failed", bar: "Bar") -> None:
    """Write a line for a system that is done."""
    from zssr_gan.inference.compare import Shown
    from zssr_gan.provenance import scale_text

    if not isinstance(one, Shown):
        bar.failure(one.message, one.error)
        return
    scale = scale_text(one.system.request.scale)
    bar.result(f"{one.system.name}: {one.label}, x{scale}, {one.seconds:.1f} s")
    for notice in one.notices:
        bar.note(f"{one.system.name}: {notice}")
