"""Checking a result against its record: by hashes, or by making it once more."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zssr_gan.degradation.estimate import read_estimate
from zssr_gan.errors import ZssrGanError
from zssr_gan.files import canonical_sha256, json_keys, sha256_file
from zssr_gan.imaging.io import decode_picture, read_picture, read_provenance
from zssr_gan.inference.batch import enhance_opened, open_input, record_and_files
from zssr_gan.inference.outputs import ImageTask
from zssr_gan.inference.record import (
    COMPARISON_VERSION,
    DegradationFacts,
    Record,
    RecordError,
    RequestFacts,
    read_record,
    read_record_json,
)
from zssr_gan.inference.request import Request, find_file, model_facts
from zssr_gan.progress import OnProgress
from zssr_gan.provenance import FileModel, Label, label_of, strongest
from zssr_gan.training.model_card import load_generator
from zssr_gan.zeroshot.shared import read_shared

_ON_TRUST = "taken on trust: times, versions, the device's name, and files that options named"

_VARIES = {"times", "versions", "decoder", "device_name", "seconds", "path"}
"""Keys of a record whose values may differ from run to run; what lies at a path has its hash beside it."""


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


def verify_record(path: Path, *, rerun: bool = False, on_progress: OnProgress | None = None) -> Verification:
    """Compare the files that a record names with its hashes; with `rerun`, make the result again from the record.

    The file of an estimate beside the results of its case is checked against its own hashes, and so is the record of a
    comparison, which is not made again. Files are looked for
    from the record's own folder. A rerun takes the whole request from the record and compares the bytes of the files
    that it would write, and the record itself, but for what is taken on trust: times, versions, the device's name, and
    what lies in files that options named.

    Raises:
        RecordError: the record is missing, broken or of another version.
    """
    folder, keys = path.absolute().parent, json_keys(path)
    if "degradation_sha256" in keys:
        return Verification(path, (_check_estimate(path),))
    if "comparison_version" in keys:
        return Verification(path, tuple(_check_comparison(path, rerun=rerun)))
    content = read_record_json(path)
    if content["schema_version"] == 1:
        return Verification(path, tuple(_check_schema_1(content, path, rerun=rerun)))
    record = read_record(path)
    request, source = record.request, record.input
    checks = [
        *check_files(folder, ("input", source), ("output", record.output), ("evidence", record.evidence)),
        _check_original(source.sha256, source.sha256_after),
        check_label(
            record.label,
            request.label(source.sha256),
            own_text(folder / record.output.name),
            means=record.label_means,
            statement=record.statement,
        ),
        _check_hash("settings", request.settings, request.settings_sha256),
    ]
    if request.degradation.source != "default":
        values = request.degradation.values.model_dump(mode="json")
        checks.append(_check_hash("degradation", values, request.degradation.sha256))
    checks += _check_option_files(record, folder)
    if rerun:
        checks.append(make_again(record, folder, find_file(source.path, folder), on_progress))
    return Verification(path, tuple(checks))


def make_again(record: Record, folder: Path, source: Path, on_progress: OnProgress | None) -> Check:
    """Make the result again from its record and the input `source`; compare the bytes and the records."""
    try:
        request = Request.from_record(record, folder)
        opened = open_input(source, request)
        if opened.sha256 != record.input.sha256:
            return Check("rerun", False, "not made: the input is not the recorded file")
        result = folder / record.output.name
        evidence = None if record.evidence is None else folder / record.evidence.name
        task = ImageTask(folder / record.input.path, result, None, evidence)
        (enhanced,) = enhance_opened([opened], request, on_progress)
        again, contents = record_and_files(task, opened, enhanced, record.tool.version)
    except ZssrGanError as error:
        return Check("rerun", False, f"not made: {error}")
    same = again.enhancement.versions == record.enhancement.versions
    versions = "" if same else "; library versions differ from the recorded ones"
    if again.output.sha256 != record.output.sha256:
        return Check("rerun", False, f"made again from the record: {difference(contents[result], result)}{versions}")
    recorded, found = (one.model_dump(mode="json") for one in (record, again))
    return check_rerun(recorded, found, versions)


def check_rerun(recorded: dict[str, Any], found: dict[str, Any], more: str = "") -> Check:
    """Compare a record with that of a rerun that gave the same bytes; `more` ends the text of what differs."""
    if wrong := list(_differences(recorded, found)):
        text = f"made again: the same bytes, but another record, in {', '.join(wrong)}{more}"
        return Check("rerun", False, text)
    return Check("rerun", True, f"made again from the record: the same bytes, and the same record ({_ON_TRUST})")


def _differences(recorded: dict[str, Any], found: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of the values in which a record and a rerun differ, without what may differ from run to run."""
    for key in {**recorded, **found}:
        old, new, name = recorded.get(key, _MISSING), found.get(key, _MISSING), f"{prefix}{key}"
        if key in _VARIES:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{name}.")
        elif not _alike(_timeless(old), _timeless(new)):
            yield name


_MISSING = object()


def _alike(old: object, new: object) -> bool:
    """Whether JSON values are equal, numbers up to the last bits of sums, which on a GPU depend on the batch."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_alike(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_alike, old, new))
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-4)
    return old == new


def _timeless(value: object) -> object:
    """A list's JSON without durations."""
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in _VARIES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def difference(made: bytes, path: Path) -> str:
    """How a rerun departs from the file that lies at `path`, in words."""
    new = decode_picture(made, path.name, max_megapixels=math.inf).pixels
    try:
        old = read_picture(path, max_megapixels=new[0].numel() / 1e6).pixels
    except ZssrGanError:
        return "the bytes differ from the recorded hash"
    if old.shape != new.shape:
        return f"the size differs ({tuple(new.shape)} instead of {tuple(old.shape)})"
    levels = float((new - old).abs().max()) * 255
    return f"pixels differ, by up to {levels:.1f} of 255 levels" if levels else "the same pixels, in other bytes"


def _check_schema_1(old: dict[str, Any], path: Path, *, rerun: bool) -> Iterator[Check]:
    """Checks of a record that an earlier version wrote: its files and values against their hashes."""
    folder = path.absolute().parent
    try:
        yield from check_files(
            folder, *((name, old.get(name)) for name in ("input", "output", "evidence", "case", "model"))
        )
        yield _check_original(old["input"]["sha256"], old["input"]["sha256_after"])
        least = label_of("", shared=bool(old.get("case")), generator=bool(old.get("model")))
        yield check_label(old["label"], least, own_text(folder / Path(old["output"]["name"]).name))
        yield _check_hash("settings", old["settings"], old["settings_sha256"])
        for name in ("kernel", "degradation"):
            if (recorded := old.get(name)) is not None:
                yield _check_hash(name, recorded["values"], recorded["values_sha256"])
        if rerun:
            version = old["tool"]["version"]
            sentence = f"not made: the record has schema 1; a rerun needs the zssr-gan that wrote it ({version})"
            yield Check("rerun", False, sentence)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RecordError(f"{path}: a broken record: {type(error).__name__}: {error}") from error


def _check_comparison(path: Path, *, rerun: bool) -> Iterator[Check]:
    """Checks of a comparison's record: its files, its label, and what each system was, against their hashes."""
    folder = path.absolute().parent
    try:
        record = json.loads(path.read_text("utf-8"))
        if (version := record["comparison_version"]) != COMPARISON_VERSION:
            raise RecordError(
                f"{path}: a record of comparison {version}; this program reads version {COMPARISON_VERSION}"
            )
        sha256, labels, changed = record["input"]["sha256"], list[Label](), list[str]()
        yield from check_files(folder, ("input", record["input"]), ("sheet", record["sheet"]))
        yield _check_original(sha256, record["input"]["sha256_after"])
        for system in (one for one in record["systems"] if "failed" not in one):
            cameras, facts = [camera := DegradationFacts.model_validate(system["degradation"])], []
            labels += [system["label"], label_of(sha256, () if system["name"] == "bicubic" else camera.learnt_from)]
            if "request" in system:
                request = RequestFacts.model_validate(system["request"])
                labels.append(request.label(sha256))
                cameras.append(request.degradation)
                facts.append((request.settings, request.settings_sha256))
                yield from check_files(folder, ("model", request.files.get("model")))
            facts += [(one.values.model_dump(mode="json"), one.sha256) for one in cameras]
            changed += [] if all(canonical_sha256(value) == known for value, known in facts) else [system["name"]]
        own = own_text(folder / Path(record["sheet"]["name"]).name)
        yield check_label(record["label"], strongest(*labels), own, means=record["label_means"])
        good, bad = "settings and cameras as hashed", f"changed after they were hashed: those of {', '.join(changed)}"
        yield _check("systems", not changed, good, bad)
        if rerun:
            sentence = "not made: a comparison is not made again; what `zssr-gan enhance` makes of the image can be"
            yield Check("rerun", False, sentence)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RecordError(f"{path}: a broken record: {type(error).__name__}: {error}") from error


def _check_estimate(path: Path) -> Check:
    """An estimate's file, which lies beside the results of its case: whole, or what is wrong with it."""
    try:
        found = read_estimate(path)
    except ZssrGanError as error:
        return Check("degradation", False, str(error))
    count = len(found.images)
    of = f"an estimate of {count} image{'' if count == 1 else 's'}" if count else "a degradation that was given"
    return Check("degradation", True, f"{of}, whole: {found.summary}")


def _check_option_files(record: Record, folder: Path) -> Iterator[Check]:
    """The files of networks and estimates, and what the record says of their content."""
    request, sha256 = record.request, record.input.sha256
    readers: dict[str, tuple[str, Callable[[Path], object], object]] = {
        "init-from": ("case", lambda path: read_shared(path).facts.images, request.case),
        "model": ("model", lambda path: model_facts(load_generator(path), sha256), request.model),
        "degradation": (
            "estimate",
            lambda path: DegradationFacts.estimated(read_estimate(path), sha256),
            request.degradation,
        ),
    }
    for option, file in request.files.items():
        if option not in readers:  # their content is in the record, whole
            continue
        name, read, recorded = readers[option]
        path = find_file(file.path, folder)
        if option == "degradation" and not path.exists():
            yield Check(name, True, f"{path.name} itself is not there; the record holds its values")
            continue
        check = _check_file(name, path, file.sha256)
        if check.ok:
            try:
                good, bad = f"{check.text}, as the record describes it", f"{path.name} is not what the record describes"
                check = _check(name, read(path) == recorded, good, bad)
            except ZssrGanError as error:
                check = Check(name, False, str(error))
        yield check


def _check(name: str, ok: bool, good: str, bad: str) -> Check:
    return Check(name, ok, good if ok else bad)


def _check_original(before: str, after: str) -> Check:
    good = "the input was the same before and after the work"
    return _check("original", before == after, good, "the record says that the input changed during the work")


def _check_hash(name: str, value: object, sha256: str) -> Check:
    good, bad = f"the recorded {name} as hashed", f"the {name} in the record was changed after it was hashed"
    return _check(name, canonical_sha256(value) == sha256, good, bad)


def check_files(folder: Path, *named: tuple[str, FileModel | dict[str, Any] | None]) -> Iterator[Check]:
    """Whether the files that a record names have their recorded hashes.

    Args:
        folder: the record's own. A file with a `path` is looked for there and in the folder, one with a `name` alone
            in the folder.
        named: names of checks, and what the record says of each file, as a model or as JSON; None: it has none.
    """
    for name, file in named:
        if file is not None:
            facts = file if isinstance(file, dict) else file.model_dump()
            path = find_file(facts["path"], folder) if "path" in facts else folder / Path(facts["name"]).name
            yield _check_file(name, path, facts["sha256"])


def _check_file(name: str, path: Path, sha256: str) -> Check:
    try:
        found = sha256_file(path)
    except OSError as error:
        return Check(name, False, f"{path} cannot be read ({error.strerror})")
    good = f"{path.name} is the recorded file (SHA-256 {found[:12]}...)"
    bad = f"{path.name} is not the recorded file (SHA-256 {found[:12]}..., not {sha256[:12]}...)"
    return _check(name, found == sha256, good, bad)


def check_label(
    recorded: Label, least: Label, own: Mapping[str, str], *, means: str | None = None, statement: str | None = None
) -> Check:
    """The label against the output's own text, and against the images that were learnt from.

    Args:
        recorded: the label in the record.
        least: what the images that the record lists make it.
        own: the output's own text.
        means, statement: what the record says of the label and of the result; None: is not looked at.
    """
    if strongest(recorded, least) != recorded:
        return Check("label", False, f"the record says {recorded}, but lists what makes it {least}")
    label, _, meaning = own.get("zssr-gan:label", "").partition(": ")
    if not label:
        return Check("label", True, f"the label is {recorded}; the output has no label of its own")
    if label != recorded:
        return Check("label", False, f"the record says {recorded}, the output itself {label}")
    own_statement = own.get("zssr-gan:statement", statement)
    for name, told, found in (("label_means", means, meaning), ("statement", statement, own_statement)):
        if told is not None and told != found:
            return Check("label", False, f"the record's {name} is not what the output itself says: {found}")
    return Check("label", True, f"the label is {recorded}, as in the output")


def own_text(image: Path) -> dict[str, str]:
    """The text fields that an image has of this program; none where there is no file, or no text in it."""
    try:
        return read_provenance(image)
    except ZssrGanError:
        return {}
