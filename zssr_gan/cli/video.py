"""`zssr-gan video`: what a video holds, frame by frame, and its frames as lossless stills."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.cli.options import AsJson, Overwrite
from zssr_gan.errors import OutputError, SettingsError, VideoError

if TYPE_CHECKING:
    from zssr_gan.progress import Bar
    from zssr_gan.video.aspect import Display
    from zssr_gan.video.frames import Frame, Video, VideoInfo
    from zssr_gan.video.table import Summary
    from zssr_gan.video.tracking import Mark
    from zssr_gan.video.tracks import Track

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into a video, write its frames as lossless stills, follow a region through it. Needs PyAV: "
    "`pip install 'zssr-gan[video]'`.",
)

_RUNS_NAMED = 8


class Raw(StrEnum):
    """A bare stream."""

    h264 = "h264"
    hevc = "hevc"


class Fields(StrEnum):
    """How interlaced frames are taken."""

    auto = "auto"
    separate = "separate"
    woven = "woven"


class Pixels(StrEnum):
    """What a still holds."""

    auto = "auto"
    luma = "luma"
    rgb = "rgb"


File = Annotated[Path, typer.Argument(metavar="FILE", help="A video, or a folder of stills with a `frames.csv`.")]

Region = Annotated[
    str | None,
    typer.Option(metavar="X,Y,W,H", help="What is followed: left and top edge, width, height in pixels of frame N."),
]

FrameNumber = Annotated[
    int | None, typer.Option("--frame", min=0, metavar="N", help="The frame in which it lies there, counted from 0.")
]

Corners = Annotated[
    str | None,
    typer.Option(
        metavar="x1,y1,...,x4,y4",
        help="Four corners of something flat, such as a plate, around it: its perspective is followed too.",
    ),
]

RawStream = Annotated[
    Raw | None, typer.Option("--raw", help="Read a bare H.264 or H.265 stream, also inside an unknown container.")
]


@app.command(no_args_is_help=True)
def info(
    file: File,
    table: Annotated[
        Path | None, typer.Option("--frames", metavar="CSV", help="Write a table with a line for each frame.")
    ] = None,
    raw: RawStream = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show what the container and the decoder of a video say, and count its frames; with `--frames`, list them.

    ```
    zssr-gan video info clip.mp4 --frames clip.csv
    ```

    Every frame is decoded. A frame's time is the integer (PTS) of the file, with its time base; what is not stated is
    `not known`. Frames that repeat the one before, and corrupt ones, are named. The table has the SHA-256 of each
    frame's planes as decoded.

    Exit codes: 0 done, 1 the video cannot be read, or the table cannot be written, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    with running(failed=(VideoError, OutputError)) as bar:
        from zssr_gan.files import atomic_write
        from zssr_gan.video.io import open_video
        from zssr_gan.video.table import Summary, csv_lines, row

        if table is not None:
            from zssr_gan.inference.outputs import check_new_files

            check_new_files([table], [file], overwrite=overwrite)
        bar.start(0, str(file))
        summary = Summary()
        with open_video(file, raw=None if raw is None else raw.value, split="woven", combing=True) as video:
            rows = (row(frame) for frame in _counted(video, summary, bar))
            if table is None:
                for _ in rows:
                    pass
            else:
                atomic_write(table, csv_lines(rows), overwrite=overwrite)
        if as_json:
            found = {
                **asdict(video.info),
                "counted": asdict(summary),
                "by_the_pixels": video.combing,
                "notices": video.notices,
            }
            bar.result(json.dumps({"file": str(file), **found}, default=str))
        else:
            _show([*_container_lines(video.info), *_frame_lines(video.info, summary, video.combing)], bar)
            for notice in video.notices:
                bar.note(f"{file}: {notice}")


def _counted(video: "Video", summary: "Summary", bar: "Bar") -> Iterator["Frame"]:
    for frame in video.frames:
        summary.add(frame)
        bar.update("decoding", summary.frames, video.info.declared_frames)
        yield frame


def _show(lines: Sequence[tuple[str, object]], bar: "Bar") -> None:
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        bar.result(f"{name:{width}}  {'not known' if value is None else value}")


def _container_lines(info: "VideoInfo") -> Iterator[tuple[str, object]]:
    ratio, display = info.sample_aspect_ratio, info.display_aspect_ratio
    yield "SHA-256", info.sha256
    yield "container", f"{info.container}, {info.size_bytes:,} bytes"
    yield "codec", f"{info.codec_name}{f', profile {info.profile}' if info.profile else ''}"
    yield "size", f"{info.width}x{info.height}"
    yield "sample aspect ratio", ratio and f"{ratio.numerator}:{ratio.denominator}"
    yield "display aspect ratio", display and f"{display.numerator}:{display.denominator}"
    yield "pixel format", info.pixel_format
    yield "range", info.colour_range
    yield "matrix", info.matrix
    yield "rotation", f"{info.rotation} degrees" if info.rotation else "none"
    yield "field order", info.field_order
    yield "time base", info.time_base
    yield "average rate", info.average_rate and f"{info.average_rate} frames/s"
    yield "base rate", info.base_rate and f"{info.base_rate} frames/s"
    yield "declared frames", info.declared_frames


def _frame_lines(info: "VideoInfo", summary: "Summary", combing: Mapping[str, int]) -> Iterator[tuple[str, object]]:
    yield "counted frames", summary.frames
    if summary.first_pts is not None:
        yield "PTS", f"{summary.first_pts} to {summary.last_pts}"
    yield "picture types", _counts(summary.picture_types)
    yield "key frames", summary.key_frames
    if len(summary.sizes) > 1:
        yield "sizes", _counts(summary.sizes)
    if summary.interlaced:
        yield "interlaced frames", _counts(summary.interlaced)
    if combing:
        names = {"tff": "top field first", "bff": "bottom field first"}
        yield "by the pixels", _counts({names.get(name, name): count for name, count in combing.items() if count})
    yield "repeated frames", _runs(summary.repeated, frozen=True)
    yield "corrupt frames", _runs(summary.corrupt)
    yield "frames after damage", _runs(summary.after_damage)
    yield "decoder", ", ".join(f"{name} {version}" for name, version in info.decoder.items()) or "stills"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _runs(runs: Sequence[Sequence[int]], *, frozen: bool = False) -> str:
    """How many frames there are in runs, and the first runs; two and more that repeat one before are frozen."""
    if not runs:
        return "none"
    named = [
        f"{first}" if first == last else f"{first} to {last}{' (frozen)' if frozen else ''}"
        for first, last in runs[:_RUNS_NAMED]
    ]
    more = ", ..." if len(runs) > _RUNS_NAMED else ""
    return f"{sum(last - first + 1 for first, last in runs)}: frames {', '.join(named)}{more}"


@app.command(no_args_is_help=True)
def frames(
    file: File,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to write.")],
    fields: Annotated[
        Fields,
        typer.Option(help="Interlaced frames: both fields each where a frame is flagged, of all frames, or as stored."),
    ] = Fields.auto,
    pixels: Annotated[
        Pixels, typer.Option(help="Luma as stored where a frame has no colours, else RGB; always luma; always RGB.")
    ] = Pixels.auto,
    aspect: Annotated[
        str | None,
        typer.Option(metavar="auto|WxH", help="As the last step, resample to square pixels, or to this size."),
    ] = None,
    raw: RawStream = None,
    overwrite: Overwrite = False,
) -> None:
    """Write each frame of a video as a PNG file, named by its index and time, with a table (`frames.csv`).

    ```
    zssr-gan video frames clip.mp4 -o stills
    ```

    No frame is dropped, doubled, turned, deinterlaced or resampled unasked. The folder works wherever a video does. Of
    an interlaced frame each field becomes a still of its own, with its own time; nothing is interpolated between lines.

    Exit codes: 0 done, 1 the video cannot be read, or the folder cannot be written, 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    with running(failed=(VideoError, OutputError)) as bar:
        from zssr_gan.video.folder import check_folder, write_stills
        from zssr_gan.video.io import open_video
        from zssr_gan.video.table import Summary

        display = parse_display(aspect)
        check_folder(output, overwrite=overwrite)
        bar.start(0, str(file))
        summary = Summary()
        with open_video(file, raw=None if raw is None else raw.value, split=fields.value) as video:
            counted = replace(video, frames=_counted(video, summary, bar))
            stills = write_stills(counted, file, output, pixels=pixels.value, display=display, overwrite=overwrite)
        bar.result(f"{output}: {stills} stills and frames.csv")
        if fields is Fields.woven and summary.interlaced:
            bar.note(
                f"{file}: {sum(summary.interlaced.values())} stills weave two fields, of two times, into one picture"
            )
        if video.info.rotation:
            bar.note(f"{file}: players turn it by {video.info.rotation} degrees; the stills are as stored")
        for name, runs in summary.unsound:
            bar.note(f"{file}: frames that {name}: {_runs(runs, frozen=runs is summary.repeated)}")
        for notice in video.notices:
            bar.note(f"{file}: {notice}")


@app.command(no_args_is_help=True)
def track(
    file: File,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .json to write.")],
    frame: FrameNumber = None,
    region: Region = None,
    corners: Corners = None,
    most: Annotated[
        int | None, typer.Option("--frames", min=1, metavar="K", help="Follow it through K frames each way [all].")
    ] = None,
    fields: Annotated[
        Fields, typer.Option(help="How interlaced frames are taken, as in `video frames`.")
    ] = Fields.auto,
    raw: RawStream = None,
    overwrite: Overwrite = False,
) -> None:
    """Follow a region, such as a face or a plate, through a video, forwards and backwards from a frame.

    ```
    zssr-gan video track clip.mp4 --region 174,266,32,40 --frame 600 -o track.json
    ```

    Every frame is registered to the marked one (shift, size, turn, light; with four corners, perspective), and followed
    back to the frame before. Where the two disagree, or the region looks otherwise, the frame is not used; after
    several such frames in a row the track ends there. It does not drift.

    The file has a line for each frame: index, time, hash, four corners, light, error. It can be edited, and
    `zssr-gan fuse FILE --track track.json` takes it. A sheet of the frames lies beside it (`track.png`): look at it.

    Exit codes: 0 done, 1 the video cannot be read or followed, or a file cannot be written, 2 usage, 130 Ctrl-C, 143
    SIGTERM.
    """
    with running(failed=(VideoError, OutputError)) as bar:
        from zssr_gan.files import write_together
        from zssr_gan.inference.outputs import check_new_files
        from zssr_gan.video.folder import files_of

        if output.suffix.lower() != ".json":
            raise SettingsError(f"-o {output}: a track is a .json file, with its sheet, a .png, beside it")
        picture, mark = output.with_suffix(".png"), marked(region, frame, corners)
        check_new_files([output, picture], files_of(file), overwrite=overwrite)
        found, sheet = follow_with_sheet(file, mark, fields, raw, most, bar)
        write_together({output: found.encode(), picture: sheet}, replaceable=[output, picture] if overwrite else [])
        used = [one for one in found.frames if one.status == "tracked"]
        errors = sorted(one.error_px for one in used if one.error_px)
        off = f", standard error {errors[len(errors) // 2]:.3f} pixels (median)" if errors else ""
        bar.result(f"{output}: {len(used)} frames, {found.frames[0].index} to {found.frames[-1].index}{off}; {picture}")
        for way, why in zip(("backwards", "forwards"), found.ended, strict=True):
            bar.note(f"{way}: {why}")
        if hidden := len(found.frames) - len(used):
            bar.note(f"{hidden} frames between are not to be used; the file says why")


def follow_with_sheet(
    video: Path, mark: "Mark", fields: Fields, raw: Raw | None, most: int | None, bar: "Bar"
) -> tuple["Track", bytes]:
    """Follow a mark through a video; its track, and the PNG of the sheet that shows where it was found."""
    from zssr_gan.video.track_sheet import TrackSheet
    from zssr_gan.video.tracking import follow

    bar.start(0, str(video))
    sheet = TrackSheet()
    found = follow(
        video,
        mark,
        raw=None if raw is None else raw.value,
        split=fields.value,
        most=most,
        on_frame=sheet.add,
        on_progress=bar.update,
    )
    return found, sheet.encode(found)


def marked(region: str | None, frame: int | None, corners: str | None) -> "Mark":
    """What --region, --frame and --corners say. Raises SettingsError."""
    from zssr_gan.inference.region import parse_region
    from zssr_gan.video.tracking import Mark
    from zssr_gan.video.tracks import parse_corners

    return Mark.of(
        None if region is None else parse_region(region), frame, None if corners is None else parse_corners(corners)
    )


def parse_display(aspect: str | None) -> "Display":
    """What --aspect says. Raises SettingsError."""
    if aspect is None:
        return None
    if aspect == "auto":
        return "auto"
    width, _, height = aspect.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 16384 and 0 < int(height) <= 16384):
        raise SettingsError(f"--aspect {aspect}: auto, or a size in pixels such as 640x480")
    return int(width), int(height)
