"""`zssr-gan enhance`: enlarges images by networks learnt on them, or by a trained generator."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zssr_gan.cli.degradation import STAGES
from zssr_gan.cli.enhance_clip import FieldsOf, Lossy, PixelFormat, Track, Views, is_video, run_clip
from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import (
    FILES,
    MACHINE,
    AsJson,
    Device,
    Images,
    Overwrite,
    Quiet,
    Recursive,
    Seed,
    Threads,
    Tile,
    Verbose,
    decimal,
)
from zssr_gan.cli.video import Fields, RawStream
from zssr_gan.errors import SettingsError, ZssrGanError
from zssr_gan.provenance import MAX_MEGAPIXELS
from zssr_gan.signals import exit_code

if TYPE_CHECKING:
    from zssr_gan.inference.outputs import RunPlan
    from zssr_gan.inference.request import Request
    from zssr_gan.inference.result import Result
    from zssr_gan.progress import Bar


def enhance(
    inputs: Images,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Folder, or a file name if there is one input [beside it]."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            "-s",
            "--scale",
            metavar="S",
            help="Factor per side, 1 to 8: 2, 1.5; or WIDTHxHEIGHT: 2x3 [2; a model's own].",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H", help="Part of one picture, in its upright pixels: left, top, width, height."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of those above, or a .yaml file of settings [quality].")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A trained generator, as `make train` writes it: nothing is learnt here."),
    ] = None,
    init: Annotated[
        Literal["auto", "scratch", "shared"],
        typer.Option(metavar="WAY", help="scratch: a network for each image; shared: one learnt on all of them first."),
    ] = "auto",
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="FILE", help="A shared model that an earlier run wrote.")
    ] = None,
    kernel: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Blur kernel of the input: KernelGAN's .mat, or .npy.")
    ] = None,
    degradation: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="What the camera did: auto, bicubic, estimate (from these images), or an estimate's FILE.",
        ),
    ] = "auto",
    noise: Annotated[
        float | None,
        typer.Option(
            parser=decimal,
            metavar="SD",
            help="Noise of the camera, 0 to 0.5 (10 of 255 levels: 0.04) [what is seen in each image].",
        ),
    ] = None,
    seed: Seed = 0,
    extension: Annotated[
        Literal["png", "tif", "tiff"] | None,
        typer.Option("--ext", metavar="EXT", rich_help_panel=FILES, help="png or tif [png; tif for a TIFF]."),
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", rich_help_panel=FILES, help="Ending of the results' names [_x2].")
    ] = None,
    recursive: Recursive = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", rich_help_panel=FILES, help="Go on where a run was stopped.")
    ] = False,
    overwrite: Overwrite = False,
    evidence: Annotated[
        bool,
        typer.Option("--evidence", rich_help_panel=FILES, help="Write NAME_evidence.png: how uncertain the result is."),
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="SHEET", rich_help_panel=FILES, help="Write one .png: input, bicubic, result, evidence in rows."
        ),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record/--no-record", rich_help_panel=FILES, help="Write NAME.json [yes].", show_default=False),
    ] = True,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(metavar="KIND", rich_help_panel=MACHINE, help="fp32, bf16 or auto."),
    ] = "auto",
    threads: Threads = None,
    tile: Tile = None,
    max_megapixels: Annotated[
        float, typer.Option(parser=decimal, metavar="MP", rich_help_panel=MACHINE, help="Refuse larger inputs.")
    ] = MAX_MEGAPIXELS,
    track: Track = None,
    lossy: Lossy = False,
    views: Views = "1",
    pixel_format: PixelFormat = None,
    fields: FieldsOf = Fields.auto,
    raw: RawStream = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Enlarge images by networks that are trained on these images alone, or by a trained generator.

    **Examples**

    ```
    zssr-gan enhance photo.jpg
    zssr-gan enhance photo.jpg -o big.png -s 3
    zssr-gan enhance photo.jpg --region 120,80,64,64 --preset fast
    zssr-gan enhance faces/ -o out/ --preset fast --compare sheet.png
    zssr-gan enhance frames/ -o out/ --noise 0.04 --skip-existing
    zssr-gan enhance faces/ -o out/ --init scratch
    zssr-gan enhance faces/ -o out/ --model generator.safetensors --evidence
    zssr-gan enhance clip.mp4 -o clip_x2.nut --preset fast --region 120,80,64,64
    ```

    **Presets**

    | name | what it is |
    | --- | --- |
    | quality | best figures: about a minute an image |
    | fast | nearly the same figures in a fraction of the time |
    | original | ZSSR with its authors' constants |
    | paper | the seed paper's stage 1: 8 flips and turns, learning rate by its slope test, stop at 1e-6 |

    Tiny images have little to learn from alone. Where 8 or more of the images given have at most 64x64 pixels, and
    these are at least half of all, one network is learnt on all of them (a case) and used for each; else each has its
    own. `--init shared` or `scratch` decides it. Results from other images too are labelled `case`, not `internal`, and
    their records list what was learnt from; `--init scratch` keeps every result `internal`.

    `--model FILE` takes a generator that `make train` has trained, at its own scale and at once: results are labelled
    `generative`, since their detail may stem from other people's images. With it, `--preset` says what is done with its
    output: `generator` (the default: eight flips and turns, then back-projection to the input), `raw` (as it is), or a
    .yaml file with the group refinement. The camera is taken to be the one it was trained for, unless `--degradation`
    says otherwise. `zssr-gan model card FILE` shows what it was trained on.

    A camera blurs, adds noise and compresses. With several images (and not `--init scratch`) what it did is estimated
    from all of them, said, and written beside the results (see `zssr-gan degradation --help`). Where they tell too
    little, and with one image, networks learn to remove the JPEG compression or noise that it shows, and else the
    camera is taken to shrink like bicubic interpolation. `--degradation bicubic` assumes that for all;
    `--degradation estimate` estimates with one image or `--init scratch` too. All are taken to be of one camera: images
    of several belong in several runs.

    Scales other than 2: `-s 1.5`, or width before height: `-s 2x3` makes it twice as wide and three times as high.

    `--region X,Y,W,H` gives a part of one picture, in pixels of the upright picture from its top left corner: the
    network learns from the whole picture, and the pixels are those of the whole result. The result's name has the
    region: photo_x2_120_80_64_64.png.

    A video becomes a lossless one (FFV1), each frame through one network that is learnt on this video's frames alone,
    with every frame's time: `.nut` holds each time base, `.mkv` whole milliseconds. Where nothing moves, frames are
    averaged, against flicker. A run that was stopped or killed resumes. Sound is left out.

    An input is never written over. Each result has a record, NAME.json, by which anyone can check and repeat it:
    `zssr-gan verify NAME.json --rerun`.

    Exit codes: 0 done, 1 some images failed, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    if quiet and verbose:
        raise typer.BadParameter("-q and -v contradict each other")
    with running("Stopped before the work began: nothing is written.", quiet=quiet, verbose=verbose) as bar:
        from zssr_gan.devices import RunOptions
        from zssr_gan.inference.options import degradation_option, make_request
        from zssr_gan.inference.outputs import parse_scale, plan_run
        from zssr_gan.inference.region import parse_region

        request = make_request(
            None if scale is None else parse_scale(scale),
            preset,
            model=model,
            region=None if region is None else parse_region(region),
            seed=seed,
            noise=noise,
            kernel=kernel,
            degradation=degradation_option(degradation),
            init=None if init == "auto" else init,
            init_from=init_from,
            options=RunOptions(device=device, precision=precision, threads=threads, tile=tile),
            max_megapixels=max_megapixels,
            overwrite=overwrite,
        )
        if is_video(inputs, output):
            for_images = {"evidence": evidence, "compare": compare, "ext": extension, "suffix": suffix,
                          "recursive": recursive, "no-record": not record}  # fmt: skip
            return run_clip(
                inputs, output, request, bar, track=track, for_images=for_images, skip_existing=skip_existing,
                as_json=as_json, lossy=lossy, views=int(views), pixel_format=pixel_format, fields=fields.value,
                raw=None if raw is None else raw.value,
            )  # fmt: skip
        plan = plan_run(
            inputs,
            scale=request.scale,
            region=request.region,
            output=output,
            suffix=suffix,
            extension=extension,
            recursive=recursive,
            record=record,
            evidence=evidence,
            compare=compare,
            overwrite=overwrite,
            skip_existing=skip_existing,
        )
        results: list[Result] = []
        try:
            problems = _run(plan, request, compare, results, bar, as_json=as_json)
        except ZssrGanError as error:  # of the case as a whole; an image's own is a result
            bar.note(f"error: {error}", "red")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            done = sum(result.status == "done" for result in results)
            bar.note(
                f"{'Stopped by SIGTERM' if exit_code(stop) == 143 else 'Stopped'}: {done} of {len(plan.todo)} images "
                "are done; what was in work left no file. Run it again with --skip-existing to resume.",
                "red",
            )
            raise typer.Exit(exit_code(stop)) from stop
        failures = [result.message for result in results if result.status == "failed"] + problems
        if len(results) > 1:
            counts = Counter(result.status for result in results)
            bar.info(", ".join(f"{counts[word]} {word}" for word in ("done", "skipped", "failed") if counts[word]))
        if len(results) > 1 or problems:
            for message in failures:
                bar.note(f"  {message}", "red")
    if results and all(isinstance(result.error, SettingsError) for result in results):
        raise typer.Exit(2)  # such as a region beyond the picture, which is known once the picture is read
    raise typer.Exit(1 if failures else 0)


def _run(
    plan: "RunPlan", request: "Request", compare: Path | None, results: "list[Result]", bar: "Bar", *, as_json: bool
) -> list[str]:
    """Learn the case, then enhance each image, into `results`; returns what went wrong with the comparison sheet."""
    from zssr_gan.cli.model import show_model
    from zssr_gan.imaging import preview
    from zssr_gan.inference.batch import run_plan
    from zssr_gan.inference.case import learn_from_files
    from zssr_gan.inference.sheet import Sheet

    sheet = None if compare is None else Sheet(compare)
    for notice in plan.notices:
        bar.info(notice)
    if plan.todo:
        preview.show(lambda: preview.plain_enlargement(plan.todo[0].source, request.scale), now=True)
    one_line = request.to_estimate == "auto"
    request = learn_from_files(
        plan,
        request,
        lambda done, total: bar.update("reading", done, total),
        lambda now: bar.step(replace(now, stage=STAGES.get(now.stage, now.stage))),
        bar.info,
    )
    if request.estimate is not None and not one_line:
        bar.info(f"degradation: {request.estimate.summary}")
        bar.info(f"  {request.estimate.reasons}", "bold yellow" if request.estimate.fallback else "")
    if request.model is not None:
        show_model(request, request.model, bar)
    bar.images = len(plan.todo)
    for result in run_plan(
        plan,
        request,
        on_start=lambda place, task: bar.start(place, str(task.source)),
        on_progress=bar.step,
        on_result=None if sheet is None else sheet.add,
    ):
        results.append(result)
        _show(result, bar, as_json=as_json)
    try:
        if sheet is not None and sheet.write(overwrite=request.overwrite) and not (bar.quiet or as_json):
            more = f" (the first {len(sheet)} images)" if sheet.left_out else ""
            bar.result(f"{sheet.path}: input, bicubic, result and evidence side by side{more}")
    except ZssrGanError as error:
        return [str(error)]
    return []


def _show(result: "Result", bar: "Bar", *, as_json: bool) -> None:
    """Write what came of one image, as soon as it is known."""
    if as_json:
        bar.result(json.dumps(result.as_json()))
    if result.status == "failed":
        bar.failure(result.message, result.error)
        return
    for notice in result.notices:
        bar.info(f"{result.task.source}: {notice}")
    for warning in result.warnings:
        bar.note(f"{result.task.source}: WARNING: {warning}", "bold yellow")
    if not as_json and not bar.quiet:
        bar.result(result.line())
