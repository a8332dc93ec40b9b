"""`zssr-gan fuse`: stills of one scene, fused into one image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import FILES, Overwrite
from zssr_gan.errors import ImageError, OutputError

if TYPE_CHECKING:
    from zssr_gan.progress import Bar
    from zssr_gan.video.case_mean import MeanKind
    from zssr_gan.video.fuse import FusedStills


def fuse(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="A folder of stills, in the order of their names, or the files."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", rich_help_panel=FILES, help="The .png or .tif to write.")
    ],
    scale: Annotated[
        int, typer.Option("-s", "--scale", min=1, max=4, metavar="S", help="Factor per side, 1 to 4.")
    ] = 2,
    reference: Annotated[
        int, typer.Option(min=0, metavar="N", help="The frame whose moment the result shows, counted from 0.")
    ] = 0,
    degradation: Annotated[
        str,
        typer.Option(
            metavar="WHAT", help="The camera: auto (estimated from the frames), bicubic, or a FILE of an estimate."
        ),
    ] = "auto",
    shifts: Annotated[
        bool, typer.Option("--shifts", help="Frames shift alone; they do not turn or change size.")
    ] = False,
    mean: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="none: arithmetic. own, shared: pulled to what a network learns on these frames, or on the case.",
        ),
    ] = "none",
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            metavar="PATH",
            help="Of --mean shared: a folder with a folder of frames for each track, or a model that such a run wrote.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fuse stills of one scene, cut alike, into one image of the reference frame's moment.

    ```
    zssr-gan fuse crops/ -o face.png --reference 4
    ```

    Frames are registered to a few hundredths of a pixel and weighed by how well they agree; frames that show something
    else have no part and are named. Frames that are held out say whether fusing pays; where it does not, the result is
    the reference frame restored alone, and that is said.

    `--mean shared --init-from tracks/` pulls the result to what a small network expects, which learns on the fused
    images of all tracks of the case (in `tracks/`, a folder of frames each); it is written as `face_mean.safetensors`,
    and used again with `--init-from face_mean.safetensors`. `--mean own` learns on these frames alone.

    Beside the result come the reference frame enlarged plainly (`face_bicubic.png`), the evidence
    (`face_evidence.png`: frames in effect a pixel, residual, what was learnt) and the record (`face.json`): each
    frame's hash, motion, light, weight and error, the camera, the verdict, and the literature of every step. Results
    are labelled `fused`, with a mean `internal` or `case`; with a degradation that was estimated from other images,
    `case`.

    Exit codes: 0 done, 1 an image cannot be read or used, or a file exists or cannot be written, 2 usage, 130 Ctrl-C,
    143 SIGTERM.
    """
    with running(failed=(ImageError, OutputError)) as bar:
        from zssr_gan.inference.outputs import collect_sources
        from zssr_gan.video.case_mean import MeanOption
        from zssr_gan.video.fuse import camera_option
        from zssr_gan.video.fuse_files import fuse_files

        paths, notices = collect_sources(inputs)
        for notice in notices:
            bar.note(notice)
        done = fuse_files(
            paths,
            output,
            scale,
            reference,
            camera_option(degradation),
            affine=not shifts,
            mean=MeanOption(cast("MeanKind", mean), init_from),
            overwrite=overwrite,
            on_progress=bar.update,
        )
        _show(done, paths, output, bar)


def _show(done: "FusedStills", paths: list[Path], output: Path, bar: "Bar") -> None:
    from zssr_gan.video.fusion import STATIC

    for path, fact in zip(paths, done.fused.frames, strict=True):
        if fact.rejected is not None:
            bar.note(f"{path.name} has no part: {fact.rejected}")
    bar.note(f"degradation: {done.degradation.why}")
    if done.verdict.fuse and max(done.fused.phases) < STATIC:
        bar.note("nothing moves between the frames by parts of a pixel: fusing lowers the noise, but adds no detail")
    used = sum(fact.rejected is None for fact in done.fused.frames)
    what = f"{used} frames fused" if done.verdict.fuse else "the reference frame alone, restored; fusing does not pay"
    bar.result(f"{output}: {what}: {done.verdict.reason}")
