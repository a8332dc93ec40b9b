"""`zssr-gan enhance` of a video: every frame through one network, learnt on frames of this video alone.

Two passes are made over the video: the first counts its frames and takes some to learn from, the second enlarges them
one after the other. What is done goes to a journal, so that a run that was killed goes on from there and ends with the
same bytes. Memory does not grow with the length.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from zssr_gan.devices import Machine, machine
from zssr_gan.errors import OutputError, SettingsError, VideoError
from zssr_gan.files import canonical_sha256, locked, sha256_file
from zssr_gan.imaging.colour import LEVELS, luma_of
from zssr_gan.imaging.resize import Size, enlarged_size, resize
from zssr_gan.inference.generator import generate
from zssr_gan.inference.outputs import check_new_files
from zssr_gan.inference.record import OptionFile, versions
from zssr_gan.inference.region import Region, check_inside, region_text
from zssr_gan.inference.request import Request
from zssr_gan.progress import ignore
from zssr_gan.provenance import scale_text
from zssr_gan.settings.zeroshot import GeneratorSettings, ZeroShotSettings
from zssr_gan.video.clip_files import ClipWork, write_clip
from zssr_gan.video.clip_learning import BoxOf, ClipPlan, Report, Say, planned
from zssr_gan.video.clip_record import ClipOptions, ClipRecord, outputs
from zssr_gan.video.encode import Encoder, Form, check_container, format_of
from zssr_gan.video.folder import TABLE, files_of
from zssr_gan.video.frames import Frame, Video, VideoInfo, planes_sha256
from zssr_gan.video.io import open_video
from zssr_gan.video.journal import Journal
from zssr_gan.video.planes import Layout, result_part, result_planes, seen_part, stored
from zssr_gan.video.steady import REACH, WindowFrame, flicker, steadied
from zssr_gan.video.table import row
from zssr_gan.video.tracks import Track, read_track
from zssr_gan.zeroshot.scheduler import run_single
from zssr_gan.zeroshot.upscale import upscale


def enhance_clip(
    source: Path,
    output: Path,
    request: Request,
    options: ClipOptions | None = None,
    *,
    track: Path | None = None,
    report: Report = ignore,
    say: Say = ignore,
) -> ClipRecord:
    """Enlarge every frame of a video, and write it with a table of its frames and a record.

    Args:
        source: a video, or a folder of stills with a `frames.csv`.
        output: a .nut or .mkv; `NAME.csv` and `NAME.json` come beside it, and `NAME.lossy.mp4` where it is wanted.
        request: learns one network on frames of this video, unless it has one, or a trained generator; its region is
            shown of every frame.
        options: of reading and writing.
        track: whose box is shown of each of its frames.
        report: gets progress.
        say: gets what a user should know.

    Raises:
        VideoError, ImageError: the video cannot be read or worked on.
        SettingsError: what is asked for does not fit a video, or not this one.
        OutputError: a file exists, or cannot be written.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    options = options or ClipOptions()
    check_container(output)
    request = _for_clip(request)
    followed = None if track is None else read_track(track, source)
    if followed is not None:
        if request.region is not None:
            raise SettingsError("a track has its own region: leave --region out")
        options = options.model_copy(update={"raw": followed.raw, "fields": followed.split})
    folder, targets = output.absolute().parent, outputs(output, lossy=options.lossy)
    with open_video(source, raw=options.raw, split=options.fields) as video:
        info = video.info
        box_of, pixels = _boxes(request.region, followed, info)
        with machine(request.options.for_image(pixels)) as used:
            tracked = None if track is None else OptionFile.read(track)
            key = _key(info, output.name, request, options, tracked, used)
            path = folder / f".zssr-gan-{key[:16]}.tmp"
            file = source / TABLE if source.is_dir() else source
            lock = path.with_suffix(".lock")
            with locked(lock, OutputError(f"{output}: another run is at work on it.")):
                journal = Journal(path)
                try:
                    written = _written_hashes(journal)
                    ours = [one for one in targets if one.is_file() and written.get(one.name) == sha256_file(one)]
                    new = [one for one in targets if one not in ours]
                    inputs = [*files_of(source), *([] if track is None else [track])]
                    check_new_files(new, inputs, overwrite=request.overwrite)
                    plan = planned(video, request, options, box_of, folder, journal, used, report, say)
                    form = _enlarge(source, info, plan, options, box_of, journal, used, report)
                    seconds = time.perf_counter() - clock
                    made = ClipWork(
                        file, output, plan.request, options, tracked, used, info, form, plan.noise, plan.notices,
                        started, seconds,
                    )  # fmt: skip
                    record = write_clip(made, journal, replaceable=[*targets] if request.overwrite else ours)
                    journal.clear()
                finally:
                    journal.close()
                    lock.unlink(missing_ok=True)
    return record


def output_of(source: Path, output: Path | None, request: Request, options: ClipOptions) -> Path:
    """The file that a result is written to, where none is named: `NAME_x2`, beside the input or in a folder.

    It is a .mkv where whole milliseconds hold the video's times, and else a .nut. Raises as `open_video`.
    """
    if output is not None and not output.is_dir():
        return output
    with open_video(source, raw=options.raw, split=options.fields) as video:
        base = next(video.frames).time_base
    part = "" if request.region is None else f"_{region_text(request.region, '_')}"
    ending = ".nut" if base is None or (1000 * base).denominator > 1 else ".mkv"
    name = f"{source.name if source.is_dir() else source.stem}_x{scale_text(request.scale)}{part}{ending}"
    return (source.parent if output is None else output) / name


def _for_clip(request: Request) -> Request:
    """The request, which learns one network on all frames where it has none yet. Raises SettingsError."""
    if request.init == "scratch" and request.shared is None and request.model is None:
        raise SettingsError("a video has one network for all its frames: leave --init scratch out")
    if request.init == "auto" and isinstance(request.settings, ZeroShotSettings):
        request = replace(request, init="shared", settings=request.settings.for_case())
    return request


def _boxes(region: Region | None, track: Track | None, info: VideoInfo) -> tuple[BoxOf, int]:
    """What is shown of each frame, and how many pixels that is."""
    if track is not None:
        boxes = {(frame.index, frame.field): track.box(frame) for frame in track.frames}
        return lambda frame: boxes.get((frame.index, frame.field)), math.prod(track.region[2:])

    def box_of(frame: Frame) -> Region:
        rows, columns = frame.planes[0].shape
        if region is None:
            return 0, 0, columns, rows
        check_inside(region, (rows, columns))
        return region

    return box_of, info.width * info.height if region is None else math.prod(region[2:])


def _key(
    info: VideoInfo, name: str, request: Request, options: ClipOptions, track: OptionFile | None, used: Machine
) -> str:
    """What a run's bytes depend on, hashed: the journal of another run is not used."""
    return canonical_sha256(
        {
            "input": info.sha256,
            "name": name,
            "preset": request.preset,
            "settings": request.settings.model_dump(mode="json"),
            "scale": list(request.scale),
            "region": None if request.region is None else list(request.region),
            "seed": request.seed,
            "degradation": request.degradation.model_dump(mode="json"),
            "estimates": request.to_estimate,
            "files": {option: file.sha256 for option, file in sorted(request.files.items())},
            "options": options.model_dump(mode="json"),
            "track": None if track is None else track.sha256,
            "machine": [str(used.device), used.precision, used.threads, used.tile],
            "versions": {**versions(), **info.decoder},
        }
    )


def _written_hashes(journal: Journal) -> dict[str, str]:
    """Hashes of the files that a run was about to write when it was killed."""
    written: dict[str, str] = {}
    for facts, _ in journal.entries():
        written = facts.get("written", written)
    return written


@dataclass(slots=True)
class _Shown:
    """A frame whose result is to come, and what is said of those after it that repeat it."""

    frame: Frame
    box: Region
    repeats: list[dict[str, str]] = field(default_factory=list)


def _enlarge(
    source: Path,
    info: VideoInfo,
    plan: ClipPlan,
    options: ClipOptions,
    box_of: BoxOf,
    journal: Journal,
    used: Machine,
    report: Report,
) -> Form:
    """Enlarge what the journal does not hold yet; the form of the result."""
    done, place, clock = journal.frames, 0, time.perf_counter()
    network = _network(plan.request, options, used)
    form: Form | None = None
    plain: Tensor | None = None
    before: Tensor | None = None
    reach = REACH if options.steady else 0

    def add(line: dict[str, str], made: dict[str, str], data: bytes) -> None:
        nonlocal place
        place += 1
        if place <= done:
            return
        journal.append({"row": {**line, **made}}, data)
        speed = (place - done) / max(1e-9, time.perf_counter() - clock)
        report("enhancing", place, plan.frames, f"{speed:.3g} frames/s")

    report("enhancing", done, plan.frames, "")
    with open_video(source, raw=options.raw, split=options.fields) as video:
        if video.info.sha256 != info.sha256:
            raise VideoError("was changed while it was read; nothing that was read of it can be relied on.")
        for shown, x, averaged in steadied(_window_frames(video, box_of), plan.noise, reach):
            frame, box = shown.frame, shown.box
            if form is None:
                form = _form(frame, box, info, plan, options)
                layout, encoder = Layout.of(form.pixel_format), Encoder(form)
            made, data, last = {}, b"", place + 1 + len(shown.repeats)
            if last >= done:  # of the last that is done, to compare the next with
                before, plain = plain, _plain(frame, box, (form.height, form.width))
                shaken = "" if before is None else f"{LEVELS * flicker(before, plain):.3f}"
            if last > done:
                seen, at = seen_part(x, box)
                large = result_part(network(seen), at, (box[3], box[2]), plan.request.scale)
                planes = result_planes(large, frame, box, layout)
                data = encoder.encode(planes)
                made = {
                    "averaged": f"{averaged:.3f}",
                    "bicubic_flicker": shaken,
                    "result_sha256": planes_sha256(planes),
                }
            add(_line(frame, box), made, data)
            for line in shown.repeats:
                add(line, {**made, "bicubic_flicker": ""}, b"")
    assert form is not None
    return form


def _window_frames(video: Video, box_of: BoxOf) -> Iterator[WindowFrame[_Shown]]:
    """The frames that are shown, each with those after it that repeat it."""
    last: _Shown | None = None
    for frame in video.frames:
        box = box_of(frame)
        if box is None:
            continue
        if last is not None and (frame.sha256, box) == (last.frame.sha256, last.box):
            last.repeats.append(_line(frame, box))
            continue
        last = _Shown(frame, box)
        yield WindowFrame(last, stored(frame), sound=not frame.damage)


def _plain(frame: Frame, box: Region, size: Size) -> Tensor:
    """Luma of a frame's box, enlarged by bicubic to `size`, in whole levels."""
    left, top, width, height = box
    luma = luma_of(stored(frame))[top : top + height, left : left + width]
    return resize(luma[None], size)[0].mul(LEVELS).round().div(LEVELS)


def _line(frame: Frame, box: Region) -> dict[str, str]:
    return {**row(frame), "box": ",".join(map(str, box))}


def _form(frame: Frame, box: Region, info: VideoInfo, plan: ClipPlan, options: ClipOptions) -> Form:
    height, width = enlarged_size((box[3], box[2]), plan.request.scale)
    full = frame.colour_range is None and frame.pixel_format.startswith("yuvj")
    ratio = info.sample_aspect_ratio
    return Form(
        pixel_format=format_of(frame, options.pixel_format),
        width=width,
        height=height,
        time_base=frame.time_base if plan.increasing else None,
        sample_aspect_ratio=ratio / 2 if ratio is not None and frame.field else ratio,
        colour_range="full" if full else frame.colour_range,
        matrix=frame.matrix,
    )


def _network(request: Request, options: ClipOptions, used: Machine) -> Callable[[Tensor], Tensor]:
    """What enlarges `C H W` of a frame."""
    settings, downscale = request.settings, request.degradation.values.downscale
    refinement = settings.refinement.model_copy(update={"ensemble": options.views > 1})
    settings = settings.model_copy(update={"refinement": refinement})
    if request.model is None:
        assert isinstance(settings, ZeroShotSettings)

        def enlarge(x: Tensor) -> Tensor:
            job = upscale(
                x.to(used.device), request.scale, settings, downscale, used, seed=request.seed, shared=request.shared
            )
            return run_single(job).take_image().cpu()

        return enlarge
    model = request.model
    assert isinstance(settings, GeneratorSettings)

    def generated(x: Tensor) -> Tensor:
        model.facts.check(x.new_empty(model.facts.channels[0], *x.shape[-2:]))
        (made,) = generate([x.to(used.device)], request.scale, settings, downscale, model, used)
        return made.take_image().cpu()

    return torch.no_grad()(generated)
