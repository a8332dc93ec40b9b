"""`zssr-gan fuse`: stills of one scene, or the frames of a track, fused into one image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import FILES, Overwrite
from zssr_gan.cli.video import Fields, Raw, follow_with_sheet, marked, parse_display
from zssr_gan.errors import ImageError, OutputError, SettingsError

if TYPE_CHECKING:
    from zssr_gan.progress import Bar
    from zssr_gan.video.case_mean import MeanKind
    from zssr_gan.video.crops import TrackSource
    from zssr_gan.video.fuse import FusedStills
    from zssr_gan.video.tracking import Mark

_VIDEO = "Of a video"

_WORTH_SAYING = 0.01  # share of the region


def fuse(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="A folder of stills, in the order of their names, or the files; a video."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", rich_help_panel=FILES, help="The .png or .tif to write.")
    ],
    scale: Annotated[
        int, typer.Option("-s", "--scale", min=1, max=4, metavar="S", help="Factor per side, 1 to 4.")
    ] = 2,
    reference: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="The frame whose moment the result shows, from 0 [the first, or --frame]."
        ),
    ] = None,
    track: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_VIDEO, help="A track, of `zssr-gan video track`."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H", rich_help_panel=_VIDEO, help="Or what to follow: left, top, width, height."),
    ] = None,
    frame: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", rich_help_panel=_VIDEO, help="The frame in which it lies there, from 0."),
    ] = None,
    corners: Annotated[
        str | None,
        typer.Option(
            metavar="x1,y1,...,x4,y4", rich_help_panel=_VIDEO, help="Four corners of something flat, as of a plate."
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option(min=2, metavar="K", rich_help_panel=_VIDEO, help="How many are fused: the nearest ones that fit."),
    ] = 16,
    aspect: Annotated[
        str | None,
        typer.Option(
            metavar="auto|WxH",
            rich_help_panel=_VIDEO,
            help="As the last step, correct the width, for pixels that are not square: as the file states, or so that "
            "whole frames have this size.",
        ),
    ] = None,
    fields: Annotated[
        Fields, typer.Option(rich_help_panel=_VIDEO, help="Interlaced frames, as in `video frames`.")
    ] = Fields.auto,
    raw: Annotated[Raw | None, typer.Option(rich_help_panel=_VIDEO, help="Read a bare H.264 or H.265 stream.")] = None,
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
    """Fuse frames of one scene into one image of the reference frame's moment: stills, cut alike, or a part of a video.

    ```
    zssr-gan fuse crops/ -o face.png --reference 4
    zssr-gan fuse clip.mp4 --region 174,266,32,40 --frame 600 -o face.png
    zssr-gan fuse clip.mp4 --track track.json -o face.png
    ```

    Of a video, the region is followed as by `zssr-gan video track`; a sheet (`face_track.png`) shows where it was
    found: look at it. Frames that repeat others, are damaged, or in which the region was not found, have no part and
    are recorded.

    Frames are registered (to a few hundredths of a pixel where nothing is compressed) and weighed by how well they
    agree; frames that show something else have no part and are named. Frames that are held out say whether fusing
    pays; where it does not, the result is the reference frame restored alone, and that is said.

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
        from dataclasses import replace

        from zssr_gan.imaging.endings import VIDEO_EXTENSIONS
        from zssr_gan.inference.outputs import collect_sources
        from zssr_gan.video.case_mean import MeanOption
        from zssr_gan.video.fuse import camera_option
        from zssr_gan.video.fuse_files import check_outputs, fuse_files

        source: list[Path] | TrackSource
        sheet: bytes | None = None
        pulled = MeanOption(cast("MeanKind", mean), init_from)
        if track is not None or (region, frame, corners) != (None, None, None):
            if track is not None and (region, corners) != (None, None):
                raise SettingsError("--track says what is fused, and so does --region: give one of them")
            mark = None if track is not None else marked(region, frame, corners)
            check_outputs(
                output, inputs, pulled, followed=mark is not None, overwrite=overwrite
            )  # following takes long
            source, sheet = _followed(inputs, track, mark, fields, raw, frames, bar)
            source = replace(source, reference=reference, display=parse_display(aspect))
        else:
            if video := next((path for path in inputs if path.name.lower().endswith(VIDEO_EXTENSIONS)), None):
                raise SettingsError(
                    f"{video}: is a video: say what is fused of it: --region X,Y,W,H --frame N, or --track"
                )
            try:
                source, notices = collect_sources(inputs)
            except ImageError as error:  # there is none: no image has failed
                raise SettingsError(str(error)) from error
            for notice in notices:
                bar.note(notice)
        named = [] if degradation in ("auto", "bicubic") else [Path(degradation)]
        named += [init_from] if init_from is not None else []
        named += [track, track.with_suffix(".png")] if track is not None else []
        done = fuse_files(
            source,
            output,
            scale,
            reference or 0,
            camera_option(degradation),
            affine=not shifts,
            mean=pulled,
            options=named,
            sheet=sheet,
            overwrite=overwrite,
            on_progress=bar.update,
        )
        if sheet is not None:
            bar.note(f"{output.with_name(f'{output.stem}_track.png')}: shows where the region was found; look at it")
        _show(done, output, bar)


def _followed(
    inputs: list[Path], track: Path | None, mark: "Mark | None", fields: Fields, raw: Raw | None, most: int, bar: "Bar"
) -> "tuple[TrackSource, bytes | None]":
    """The track in a file; or followed now, with its sheet."""
    from zssr_gan.video.crops import TrackSource
    from zssr_gan.video.tracks import read_track

    if len(inputs) != 1:
        raise SettingsError(f"--track and --region are of one video, and {len(inputs)} inputs are given: name one")
    (video,) = inputs
    if mark is None:
        assert track is not None
        found = read_track(track, video)
        if found.edited:
            bar.note(f"{track}: was edited after it was written, and is used as it is now")
        return TrackSource(video, found, most=most), None
    found, sheet = follow_with_sheet(video, mark, fields, raw, most, bar)
    first, last = found.frames[0].index, found.frames[-1].index
    bar.note(f"followed through frames {first} to {last}")
    return TrackSource(video, found, most=most), sheet


def _show(done: "FusedStills", output: Path, bar: "Bar") -> None:
    from zssr_gan.video.fusion import STATIC

    for name, fact in zip(done.names, done.fused.frames, strict=True):
        if fact.rejected is not None:
            bar.note(f"{name} has no part: {fact.rejected}")
    for one in done.left_out:
        bar.note(f"frame {one['index']} has no part: {one['rejected']}")
    if done.stored is not None:
        rows, columns = done.picture.pixels.shape[1:]
        bar.note(f"as the last step, {done.stored[0]}x{done.stored[1]} pixels became {columns}x{rows}")
    bar.note(f"degradation: {done.assumed} ({done.degradation.why})")
    if done.verdict.fuse and max(done.fused.phases) < STATIC:
        bar.note("nothing moves between the frames by parts of a pixel: fusing lowers the noise, but adds no detail")
    if done.verdict.fuse and done.fused.alone >= _WORTH_SAYING:
        bar.note(
            f"in {100 * done.fused.alone:.0f} % of the region the other frames show something else: there the "
            "reference frame counts alone (the evidence shows where)"
        )
    used = sum(fact.rejected is None for fact in done.fused.frames)
    what = f"{used} frames fused" if done.verdict.fuse else "the reference frame alone, restored; fusing does not pay"
    bar.result(f"{output}: {what}: {done.verdict.reason}")
