"""The files of an enhanced video: put together from the journal, read back, and written with table and record."""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from statistics import fmean

from zssr_gan.devices import Machine, device_name
from zssr_gan.errors import VideoError
from zssr_gan.files import (
    as_output_error,
    atomic_write,
    check_unchanged,
    relative_path,
    sha256_bytes,
    sha256_file,
    write_together,
)
from zssr_gan.imaging.colour import LEVELS, luma_of
from zssr_gan.inference.record import (
    InputFile,
    OptionFile,
    Times,
    Tool,
    WrittenFile,
    versions,
)
from zssr_gan.inference.request import Request
from zssr_gan.provenance import VERSION, provenance_text, scale_text
from zssr_gan.signals import uninterrupted
from zssr_gan.video.clip_record import (
    ClipOptions,
    ClipRecord,
    ClipResult,
    ClipTimes,
    Flicker,
    FrameFacts,
    clip_label,
    label_means,
    outputs,
)
from zssr_gan.video.encode import Coded, Form, LossyCopy, write_video
from zssr_gan.video.frames import VideoInfo
from zssr_gan.video.io import open_video
from zssr_gan.video.journal import Journal
from zssr_gan.video.planes import stored
from zssr_gan.video.steady import flicker
from zssr_gan.video.table import COLUMNS, csv_lines

TABLE_COLUMNS = (*COLUMNS, "box", "averaged", "bicubic_flicker", "result_sha256")

_PIECE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class ClipWork:
    """What is known of a clip whose frames are all done."""

    source: Path
    output: Path
    request: Request
    options: ClipOptions
    track: OptionFile | None
    used: Machine
    info: VideoInfo
    form: Form
    noise: float
    notices: tuple[str, ...]
    started: datetime
    seconds: float


def write_clip(made: ClipWork, journal: Journal, *, replaceable: list[Path]) -> ClipRecord:
    """Write a clip's files, or, where anything fails, none; the journal gets their hashes first.

    Raises:
        OutputError: a file exists that is not `replaceable`, or the disk refuses.
        VideoError: what was written reads back otherwise.
    """
    targets = outputs(made.output, lossy=made.options.lossy)
    folder = made.output.absolute().parent
    frames = tuple(frame_facts(row) for row, _ in rows(journal))
    facts = made.request.facts(made.request.settings, made.used, "", folder)
    label = clip_label(facts, {frame.sha256 for frame in frames})
    texts = provenance_text(
        kind="enhanced video",
        version=VERSION,
        label=label,
        facts={
            "input-sha256": made.info.sha256,
            "settings-sha256": facts.settings_sha256,
            "scale": scale_text(made.request.scale),
            "seed": str(made.request.seed),
            "range": made.form.colour_range or "not stated",
            "matrix": made.form.matrix or "not stated",
            "sample-aspect-ratio": str(made.form.sample_aspect_ratio or "not known"),
        },
    )
    texts["zssr-gan:label"] = f"{label}: {label_means(facts, label)}"
    parts = {path: folder / f".zssr-gan-{secrets.token_hex(8)}.tmp" for path in targets[:-1]}
    try:
        with as_output_error(made.output):
            times, shaken = _put_together(made, journal, frames, texts, [*parts.values()])
        written = {path: _written(path, part) for path, part in parts.items()}
        output, table, *lossy = written.values()
        record = ClipRecord(
            tool=Tool(version=VERSION),
            label=label,
            label_means=label_means(facts, label),
            request=facts,
            options=made.options,
            track=None if made.track is None else made.track.seen_from(folder),
            input=_input_facts(made, folder),
            video=json.loads(json.dumps(asdict(made.info), default=str)),
            noise=made.noise,
            flicker=shaken,
            times_of_frames=times,
            output=ClipResult(
                **output.model_dump(),
                width=made.form.width,
                height=made.form.height,
                frames=len(frames),
                pixel_format=made.form.pixel_format,
            ),
            table=table,
            lossy=lossy[0] if lossy else None,
            notices=made.notices,
            device_name=device_name(made.used.device),
            versions={**versions(), **made.info.decoder},
            times=Times(
                started_utc=made.started.isoformat(timespec="seconds"),
                finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(made.seconds, 3),
            ),
            frames=frames,
        )
        data = record.encode()
        hashes = {path.name: one.sha256 for path, one in written.items()}
        journal.append({"written": {**hashes, targets[-1].name: sha256_bytes(data)}})
        with uninterrupted():
            contents = {path: _pieces(part) for path, part in parts.items()}
            write_together({**contents, targets[-1]: data}, replaceable=replaceable)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return record


def rows(journal: Journal) -> Iterator[tuple[dict[str, str], bytes]]:
    """Each frame's line of the table, and its bytes; a repeated one's are those before."""
    data = b""
    for entry, own in journal.entries():
        if "row" in entry:
            data = own or data
            yield entry["row"], data


def _put_together(
    made: ClipWork, journal: Journal, frames: Sequence[FrameFacts], texts: dict[str, str], parts: list[Path]
) -> tuple[ClipTimes, Flicker | None]:
    """Write video, table and lossy copy, and read the video back: the same planes, how its times are off, flicker."""
    video, table, *copies = parts
    first = frames[0].pts if made.form.time_base is not None else 0
    shift = max(0, -(first or 0))  # no container holds times below 0 everywhere

    def ticks(place: int) -> int:
        pts = frames[place].pts
        return place if made.form.time_base is None or pts is None else pts + shift

    coded = (Coded(data, ticks(place)) for place, (_, data) in enumerate(rows(journal)))
    write_video(video, made.output.suffix, made.form, coded, texts)
    atomic_write(table, csv_lines((row for row, _ in rows(journal)), TABLE_COLUMNS))
    texts = texts | {"title": f"lossy copy of {made.output.name}, to look at alone"}
    lossy = LossyCopy(copies[0], made.form, texts) if copies else None
    largest, base, count = Fraction(0), made.form.base, 0
    plain = [row["bicubic_flicker"] for row, _ in rows(journal)]
    before, own = None, list[float]()
    with open_video(video, split="woven") as read:
        for place, frame in enumerate(read.frames):
            if place >= len(frames) or frame.sha256 != frames[place].result_sha256:
                raise VideoError("what was written reads back with other pixels; the disk or a library is at fault.")
            assert frame.pts is not None
            assert frame.time_base is not None
            largest = max(largest, abs(frame.pts * frame.time_base - ticks(place) * base))
            count += 1
            luma = luma_of(stored(frame))
            if plain[place] and before is not None:
                own.append(LEVELS * flicker(before, luma))
            before = luma
            if lossy is not None:
                lossy.add(frame.planes, ticks(place))
        container_base = read.info.time_base
    if count != len(frames):
        raise VideoError(f"of {len(frames)} frames that were written {count} can be read back.")
    if lossy is not None:
        lossy.close()
    shaken = (
        Flicker(result=round(fmean(own), 3), bicubic=round(fmean(map(float, filter(None, plain))), 3)) if own else None
    )
    times = ClipTimes(
        time_base=None if made.form.time_base is None else str(made.form.time_base),
        container_time_base=str(container_base),
        shifted_by=shift,
        largest_rounding=str(largest),
    )
    return times, shaken


def frame_facts(row: dict[str, str]) -> FrameFacts:
    """What the record has of a frame, from its line of the table."""
    box = [int(part) for part in row["box"].split(",")]
    return FrameFacts(
        index=int(row["index"]),
        field="top" if row["field"] == "top" else "bottom" if row["field"] else None,
        pts=int(row["pts"]) if row["pts"] else None,
        sha256=row["sha256"],
        same_as=int(row["same_as"]) if row["same_as"] else None,
        corrupt=row["corrupt"] == "1",
        box=(box[0], box[1], box[2], box[3]),
        averaged=float(row["averaged"]),
        result_sha256=row["result_sha256"],
    )


def _input_facts(made: ClipWork, folder: Path) -> InputFile:
    """What the record says of the input: of a folder of stills, of its table."""
    check_unchanged(made.source, made.info.sha256)
    return InputFile(
        name=made.source.name,
        path=relative_path(made.source, folder),
        size_bytes=made.info.size_bytes,
        width=made.info.width,
        height=made.info.height,
        sha256=made.info.sha256,
        sha256_after=made.info.sha256,
    )


def _written(path: Path, part: Path) -> WrittenFile:
    return WrittenFile(name=path.name, size_bytes=part.stat().st_size, sha256=sha256_file(part))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
