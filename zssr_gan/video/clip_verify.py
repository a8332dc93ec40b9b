"""Check an enhanced video against its record, or make it once more and compare the bytes."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import sha256_file
from zssr_gan.inference.record import RecordError
from zssr_gan.inference.request import Request, find_file
from zssr_gan.inference.verify import Check, Verification, check_file
from zssr_gan.progress import ignore
from zssr_gan.provenance import read_json, strongest
from zssr_gan.video.clip import enhance_clip
from zssr_gan.video.clip_learning import Report
from zssr_gan.video.clip_record import ClipRecord, outputs
from zssr_gan.video.folder import TABLE


def verify_clip(path: Path, *, rerun: bool = False, report: Report = ignore) -> Verification:
    """Compare the files of an enhanced video with its record; with `rerun`, enhance it again and compare the bytes.

    Raises:
        RecordError: a broken record, or one of another version.
    """
    record = read_json(path, ClipRecord, RecordError)
    folder = path.absolute().parent
    source = find_file(record.input.path, folder)
    checks = [
        check_file("input", source, record.input.sha256),
        _check_label(record),
        *(
            check_file(name, folder / file.name, file.sha256)
            for name, file in (("output", record.output), ("table", record.table), ("lossy", record.lossy))
            if file is not None
        ),
        *_check_networks(record, folder),
    ]
    if rerun:
        checks.append(_rerun(record, source.parent if source.name == TABLE else source, folder, report))
    return Verification(path, tuple(checks))


def _check_label(record: ClipRecord) -> Check:
    least = record.least_label()
    if strongest(record.label, least) != record.label:
        return Check("label", False, f"the record says {record.label}, but lists what makes it {least}")
    return Check("label", True, f"the label is {record.label}, as what the record lists makes it")


def _check_networks(record: ClipRecord, folder: Path) -> Iterator[Check]:
    for option, name in (("init-from", "network"), ("model", "model")):
        file = record.request.files.get(option)  # type: ignore[call-overload]
        if file is not None:
            yield check_file(name, find_file(file.path, folder), file.sha256)
    if record.track is not None:
        yield check_file("track", find_file(record.track.path, folder), record.track.sha256)


def _rerun(record: ClipRecord, source: Path, folder: Path, report: Report) -> Check:
    """Whether the recorded network, applied again, gives the same bytes in every file but the record."""
    try:
        pixels = record.input.width * record.input.height
        request = Request.from_facts(record.request, folder, record.tool.version, pixels)
        track = None if record.track is None else find_file(record.track.path, folder)
        with tempfile.TemporaryDirectory(prefix="zssr-gan-") as hidden:
            output = Path(hidden) / record.output.name
            enhance_clip(source, output, request, record.options, track=track, report=report)
            files = outputs(output, lossy=record.options.lossy)[:-1]
            recorded = [file for file in (record.output, record.table, record.lossy) if file is not None]
            other = [new.name for new, old in zip(files, recorded, strict=True) if sha256_file(new) != old.sha256]
    except ZssrGanError as error:
        return Check("rerun", False, f"not made: {error}")
    text = f"other bytes in {', '.join(other)}" if other else "the same bytes"
    return Check("rerun", not other, f"enhanced again from the record: {text}")
