"""`zssr-gan enhance` of a video: the options that it has beside those of images, and what a person sees of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zssr_gan.cli.video import Fields
from zssr_gan.errors import DeviceError, ImageError, NumericalError, OutputError, SettingsError
from zssr_gan.signals import exit_code

if TYPE_CHECKING:
    from zssr_gan.inference.request import Request
    from zssr_gan.progress import Bar

VIDEO = "Videos"

Track = Annotated[
    Path | None, typer.Option(metavar="FILE", rich_help_panel=VIDEO, help="Show the box of this track, frame by frame.")
]
Lossy = Annotated[
    bool, typer.Option("--lossy", rich_help_panel=VIDEO, help="Write NAME.lossy.mp4 (H.264) too, to look at.")
]
Views = Annotated[
    Literal["1", "8"],
    typer.Option(rich_help_panel=VIDEO, help="Flips and turns of a frame; 8 take eight times as long for little."),
]
PixelFormat = Annotated[
    str | None,
    typer.Option(
        "--pixel-format", metavar="NAME", rich_help_panel=VIDEO, help="gray, yuv420p10le, ... [that of the frames]."
    ),
]
FieldsOf = Annotated[
    Fields, typer.Option(rich_help_panel=VIDEO, help="Interlaced frames: parted where flagged, all parted, or woven.")
]


def is_video(inputs: Sequence[Path], output: Path | None) -> bool:
    """Whether a video is asked for: by the ending of an input, or of the output."""
    from zssr_gan.imaging.endings import VIDEO_EXTENSIONS

    names = [one.name for one in inputs if not one.is_dir()] + ([] if output is None else [output.name])
    return any(name.lower().endswith(VIDEO_EXTENSIONS) for name in names)


def run_clip(
    inputs: Sequence[Path],
    output: Path | None,
    request: "Request",
    bar: "Bar",
    *,
    track: Path | None,
    for_images: Mapping[str, object],
    skip_existing: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Enhance one video; raises typer.Exit with the command's exit code where it is not done.

    Args:
        inputs: one video, or a folder of stills.
        output: file or folder; None: beside the input.
        request: as for images.
        bar: shows progress.
        track: the file of a track; its box is shown.
        for_images: options that no video has, by name, as they were given.
        skip_existing: whether a result that is there is left as it is.
        as_json: whether the result is shown as JSON.
        options: see `ClipOptions`.
    """
    from zssr_gan.cli.model import show_model
    from zssr_gan.video.clip import enhance_clip, output_of
    from zssr_gan.video.clip_record import ClipOptions, outputs

    if len(inputs) != 1:
        raise SettingsError("a video is enhanced alone: give one video at a time, and images in a run of their own")
    if given := [f"--{name}" for name, value in for_images.items() if value]:
        raise SettingsError(f"{', '.join(given)}: for images alone; leave it out for a video")
    (source,) = inputs
    try:
        asked = ClipOptions.model_validate(options)
        output = output_of(source, output, request, asked)
        if skip_existing and all(path.exists() for path in outputs(output, lossy=asked.lossy)):
            bar.info(f"{output}: exists already")
            return
        bar.start(0, str(source))
        if request.model is not None:
            show_model(request, request.model, bar)
        record = enhance_clip(source, output, request, asked, track=track, report=bar.update, say=bar.info)
    except (ImageError, OutputError, DeviceError, NumericalError) as error:
        bar.note(f"error: {error}", "red")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as stop:
        bar.note("Stopped: what is finished (the network once learnt, frames) is saved; run it again to resume.", "red")
        raise typer.Exit(exit_code(stop)) from stop
    if as_json:
        bar.result(record.model_dump_json())
    elif not bar.quiet:
        times = record.times_of_frames
        held = "times exact" if times.largest_rounding == "0" else f"times off by up to {times.largest_rounding} s"
        if times.shifted_by:
            held += f", later by {times.shifted_by} ticks"
        made = f"{record.output.frames} frames, {record.output.width}x{record.output.height}, {record.label}"
        if record.flicker is not None:
            own, plain = record.flicker.result, record.flicker.bicubic
            bar.info(f"flicker where it is stillest: {own:.2f} of 255 levels, of bicubic {plain:.2f}")
        bar.result(f"{output}: {made}, {held}, {record.times.seconds:.1f} s")
