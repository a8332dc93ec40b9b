"""Check an enhanced video against its record, or make it once more and compare bytes and records."""

import csv
import tempfile
from pathlib import Path
from typing import Any

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import sha256_file
from zssr_gan.inference.record import RecordError
from zssr_gan.inference.request import Request, find_file
from zssr_gan.inference.verify import Check, Verification, check_files, check_label, check_rerun
from zssr_gan.progress import ignore
from zssr_gan.provenance import read_json
from zssr_gan.video.clip import enhance_clip
from zssr_gan.video.clip_files import frame_facts
from zssr_gan.video.clip_learning import Report
from zssr_gan.video.clip_record import ClipRecord, outputs
from zssr_gan.video.folder import TABLE
from zssr_gan.video.io import open_video


def verify_clip(path: Path, *, rerun: bool = False, report: Report = ignore) -> Verification:
    """Compare the files of an enhanced video with its record; with `rerun`, enhance it again, and compare both again.

    Raises:
        RecordError: a broken record, or one of another version.
    """
    record = read_json(path, ClipRecord, RecordError)
    folder = path.absolute().parent
    files = record.request.files
    checks = [
        *check_files(
            folder,
            ("input", record.input),
            ("output", record.output),
            ("table", record.table),
            ("lossy", record.lossy),
            ("network", files.get("init-from")),
            ("model", files.get("model")),
            ("track", record.track),
        ),
        check_label(
            record.label,
            record.least_label(),
            _own_text(folder / record.output.name),
            means=record.label_means,
            statement=record.statement,
        ),
        _check_frames(record, folder / record.table.name),
    ]
    if rerun:
        source = find_file(record.input.path, folder)
        checks.append(_rerun(record, source.parent if source.name == TABLE else source, folder, report))
    return Verification(path, tuple(checks))


def _own_text(video: Path) -> dict[str, str]:
    """The text fields of a video; Matroska has their names in capital letters."""
    try:
        with open_video(video, split="woven") as opened:
            return {key.lower(): text for key, text in opened.info.metadata.items()}
    except ZssrGanError:  # there is no file, or it is not a video
        return {}


def _check_frames(record: ClipRecord, table: Path) -> Check:
    """Whether the record has of every frame what the table has."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            same = tuple(map(frame_facts, csv.DictReader(file))) == record.frames
    except (OSError, ValueError, KeyError, IndexError, TypeError, csv.Error) as error:
        return Check("frames", False, f"{table} cannot be read ({error})")
    return Check("frames", same, f"the record has {'the frames of' if same else 'other frames than'} {table.name}")


def _rerun(record: ClipRecord, source: Path, folder: Path, report: Report) -> Check:
    """Whether the recorded network, applied again, gives the same bytes in every file, and the same record."""
    try:
        pixels = record.input.width * record.input.height
        request = Request.from_facts(record.request, folder, record.tool.version, pixels)
        track = None if record.track is None else find_file(record.track.path, folder)
        with tempfile.TemporaryDirectory(prefix="zssr-gan-") as hidden:
            output = Path(hidden) / record.output.name
            again = enhance_clip(source, output, request, record.options, track=track, report=report)
            files = outputs(output, lossy=record.options.lossy)[:-1]
            recorded = [file for file in (record.output, record.table, record.lossy) if file is not None]
            other = [new.name for new, old in zip(files, recorded, strict=True) if sha256_file(new) != old.sha256]
    except ZssrGanError as error:
        return Check("rerun", False, f"not made: {error}")
    if other:
        return Check("rerun", False, f"made again from the record: other bytes in {', '.join(other)}")
    return check_rerun(_without_names(record), _without_names(again))


def _without_names(record: ClipRecord) -> dict[str, Any]:
    """A record's JSON without the names of learnt frames, which earlier versions wrote otherwise."""
    facts = record.model_dump(mode="json")
    for image in facts["request"]["case"] or ():
        del image["name"]
    return facts
