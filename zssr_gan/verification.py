"""Checking a result against its record: by hashes, or by making it once more."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zssr_gan.config import parse_settings
from zssr_gan.enhancement import Progress, RunOptions, enhance_picture
from zssr_gan.errors import ZssrGanError
from zssr_gan.files import sha256_bytes, sha256_file
from zssr_gan.imaging.codecs import decode_picture, encode_picture, read_provenance
from zssr_gan.jobs import result_text
from zssr_gan.record import Record, canonical_sha256, read_record
from zssr_gan.zeroshot.shared import read_shared


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and in one line what was found."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a record's verification found."""

    record: Path
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)


def verify_record(
    path: Path, *, rerun: bool = False, on_progress: Callable[[Progress], None] | None = None
) -> Verification:
    """Compare the files that a record names with its hashes; with `rerun`, make the result again from the record.

    Files are looked for from the record's own folder. A rerun takes settings, seed, scale, kernel, device, precision,
    threads and tiles from the record and compares the bytes of the file that it would write.

    Raises:
        RecordError: the record is missing, broken or of another version.
    """
    record = read_record(path)
    folder = path.absolute().parent
    source = _find_input(record, folder)
    checks = [
        _check_file("input", source, record.input.sha256),
        _check(
            "original",
            record.input.sha256 == record.input.sha256_after,
            "the input was the same before and after the work",
            "the record says that the input changed during the work",
        ),
        _check_file("output", folder / record.output.name, record.output.sha256),
        _check(
            "label",
            _label_in_file(folder / record.output.name) in (None, record.label),
            f"the label is {record.label}, as in the output",
            f"the record says {record.label}, the output itself another label",
        ),
    ]
    if record.evidence is not None:
        checks.append(_check_file("evidence", folder / record.evidence.name, record.evidence.sha256))
    checks.append(
        _check(
            "settings",
            canonical_sha256(record.settings) == record.settings_sha256,
            "the settings are those that were hashed",
            "the settings in the record were changed after they were hashed",
        )
    )
    if record.kernel is not None:
        checks.append(
            _check(
                "kernel",
                canonical_sha256(record.kernel.model_dump(mode="json")["values"]) == record.kernel.values_sha256,
                f"the values of {record.kernel.name} are those that were hashed",
                "the kernel's values in the record were changed after they were hashed",
            )
        )
    if record.case is not None:
        checks.append(_check_file("case", folder / record.case.path, record.case.sha256))
    if rerun:
        checks.append(_rerun(record, folder, source, on_progress))
    return Verification(path, tuple(checks))


def _find_input(record: Record, folder: Path) -> Path:
    """The input where the record says, or beside the record, whither it may have been copied with the result."""
    told = folder / record.input.path
    beside = folder / record.input.name
    return beside if beside.is_file() and not told.is_file() else told


def _label_in_file(path: Path) -> str | None:
    """The label in an output's own text; None where there is no file, or no text in it."""
    try:
        return read_provenance(path).get("zssr-gan:label", "").partition(":")[0] or None
    except ZssrGanError:
        return None


def _check(name: str, ok: bool, good: str, bad: str) -> Check:
    return Check(name, ok, good if ok else bad)


def _check_file(name: str, path: Path, sha256: str) -> Check:
    try:
        found = sha256_file(path)
    except OSError as error:
        return Check(name, False, f"{path} cannot be read ({error.strerror})")
    if found == sha256:
        return Check(name, True, f"{path.name} is the recorded file (SHA-256 {found[:12]}...)")
    return Check(name, False, f"{path.name} is not the recorded file (SHA-256 {found[:12]}..., not {sha256[:12]}...)")


def _rerun(record: Record, folder: Path, source: Path, on_progress: Callable[[Progress], None] | None) -> Check:
    try:
        data = source.read_bytes()
    except OSError as error:
        return Check("rerun", False, f"not made: {source} cannot be read ({error.strerror})")
    if sha256_bytes(data) != record.input.sha256:
        return Check("rerun", False, "not made: the input is not the recorded file")
    report, asked = record.enhancement, record.arguments
    try:
        picture = decode_picture(data, record.input.name, max_megapixels=asked.max_megapixels)
        enhanced = enhance_picture(
            picture,
            asked.scale,
            parse_settings(record.settings, "the record's settings"),
            seed=asked.seed,
            # Not normalised again: that could move the last bit of a value.
            kernel=None if record.kernel is None else torch.tensor(record.kernel.values, dtype=torch.float64),
            shared=None if record.case is None else read_shared(folder / record.case.path),
            options=_recorded_options(record),
            on_progress=on_progress,
        )
        text = result_text(
            {"label": record.label, "settings": record.settings},
            version=record.tool.version,
            input_sha256=record.input.sha256,
            seed=asked.seed,
            scale=asked.scale,
        )
        made = encode_picture(enhanced.picture, Path(record.output.name).suffix[1:].lower(), text)
    except ZssrGanError as error:
        return Check("rerun", False, f"not made: {error}")
    if sha256_bytes(made) == record.output.sha256:
        told = _untrue(record, enhanced.report)
        if told:
            return Check(
                "rerun", False, f"made again: the same bytes, but the record tells {', '.join(told)} otherwise"
            )
        return Check("rerun", True, "made again from the record: the same bytes, and the same account")
    there = enhanced.report.get("versions")
    versions = "" if there == report.get("versions") else "; library versions differ from the recorded ones"
    return Check("rerun", False, f"made again from the record: {_difference(made, folder, record)}{versions}")


def _untrue(record: Record, report: Mapping[str, Any]) -> list[str]:
    """What of a record's account a rerun does not bear out; durations and versions aside."""
    told = {**record.enhancement, "label": record.label, "settings": record.settings}
    # What reading changed is said by the file, and JSON knows no difference between tuples and lists.
    found = json.loads(json.dumps(report))
    passing = {"seconds", "versions", "device_name"}
    return [key for key in found if key not in passing and _timeless(told.get(key)) != _timeless(found[key])]


def _timeless(value: object) -> object:
    """JSON without what differs from run to run: durations."""
    if isinstance(value, Mapping):
        return {key: _timeless(one) for key, one in value.items() if key != "seconds"}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _difference(made: bytes, folder: Path, record: Record) -> str:
    """How a rerun departs from the file that lies there, in words."""
    try:
        old = decode_picture((folder / record.output.name).read_bytes(), record.output.name).pixels
    except (OSError, ZssrGanError):
        return "the bytes differ from the recorded hash"
    new = decode_picture(made, record.output.name).pixels
    if old.shape != new.shape:
        return f"the size differs ({tuple(new.shape)} instead of {tuple(old.shape)})"
    levels = float((new - old).abs().max()) * 255
    if levels == 0:
        return "the same pixels, in other bytes"
    return f"pixels differ, by up to {levels:.1f} of 255 levels"


def _recorded_options(record: Record) -> RunOptions:
    """Device, precision, threads and tiles as they came out, not as they were asked ("auto")."""
    report, asked = record.enhancement, record.arguments
    threads, tile = report.get("threads"), report.get("tile")
    return RunOptions(
        device=str(report.get("device", asked.device)),
        precision=str(report.get("precision", asked.precision)),
        threads=threads if isinstance(threads, int) else asked.threads,
        tile=tile if isinstance(tile, int) else asked.tile,
    )
