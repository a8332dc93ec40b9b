"""Checking a result against its record: by hashes, or by making it once more."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zssr_gan.enhancement import Progress
from zssr_gan.errors import ZssrGanError
from zssr_gan.files import canonical_sha256, sha256_file
from zssr_gan.imaging.codecs import read_provenance
from zssr_gan.kept import model_facts
from zssr_gan.record import (
    CaseFacts,
    DegradationFacts,
    ModelFacts,
    Record,
    TeacherImage,
    label_of,
    read_record,
    strongest,
)
from zssr_gan.rerun import Check, find_model, make_again, teachers
from zssr_gan.training.card import load_generator
from zssr_gan.zeroshot.degradation_estimate import is_estimate, read_estimate
from zssr_gan.zeroshot.shared import read_shared


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

    An estimate's file, which lies beside the results of its case, is held against its own hashes.

    Files are looked for from the record's own folder. A rerun takes settings, seed, scale, kernel, degradation, device,
    precision, threads and tiles from the record and compares the bytes of the files that it would write, and the
    record itself, but for what is taken on trust: times, versions, the device's name, and what lies in files that
    options named.

    Raises:
        RecordError: the record is missing, broken or of another version.
    """
    if is_estimate(path):
        return Verification(path, (_check_estimate(path),))
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
        _check_label(record, folder),
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
        checks.append(_check_case(record.case, folder / record.case.path))
    if record.model is not None:
        checks.append(_check_model(record.model, find_model(record.model, folder), record.input.sha256))
    if record.degradation is not None:
        checks.append(_check_degradation(record.degradation, record.case, folder))
    if rerun:
        checks.append(make_again(record, folder, source, on_progress))
    return Verification(path, tuple(checks))


def _check_estimate(path: Path) -> Check:
    """An estimate's file, which lies beside the results of its case: whole, or what is wrong with it."""
    try:
        found = read_estimate(path)
    except ZssrGanError as error:
        return Check("degradation", False, str(error))
    count = len(found.images)
    of = f"an estimate of {count} image{'' if count == 1 else 's'}" if count else "a degradation that was given"
    return Check("degradation", True, f"{of}, whole: {found.summary}")


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


def _check_label(record: Record, folder: Path) -> Check:
    """The label against the output's own, and against the images that were learnt from."""
    least = label_of(record.input.sha256, record.case, record.degradation, record.model)
    if strongest(record.label, least) != record.label:
        return Check("label", False, f"the record says {record.label}, but lists what makes it {least}")
    return _check(
        "label",
        _label_in_file(folder / record.output.name) in (None, record.label),
        f"the label is {record.label}, as in the output",
        f"the record says {record.label}, the output itself another label",
    )


def _check_degradation(told: DegradationFacts, case: CaseFacts | None, folder: Path) -> Check:
    """The values against their hash; and against the estimate's file where it is there, though none is needed."""
    if told.values.sha256 != told.values_sha256:
        return Check("degradation", False, "the degradation's values in the record were changed after they were hashed")
    if told.path is None:
        return Check("degradation", True, "the values are those that were hashed")
    path = folder / told.path
    if not path.exists():
        return Check("degradation", True, f"the values are those that were hashed ({told.name} itself is not there)")
    file = _check_file("degradation", path, told.sha256 or "")
    if not file.ok:
        return file
    try:
        found = read_estimate(path)
    except ZssrGanError as error:
        return Check("degradation", False, str(error))
    images = tuple(TeacherImage(name=image.name, sha256=image.sha256) for image in found.images)
    listed = told.images if told.images is not None else case and case.images
    same = (found.degradation, images, len(images), found.fallback, found.why) == (
        *(told.values, listed, told.image_count, told.fallback, told.why),
    )
    return _check(
        "degradation", same, f"{file.text}, with the values and images listed", f"{path.name} tells it otherwise"
    )


def _check_model(told: ModelFacts, path: Path, image_sha256: str) -> Check:
    """The generator's file, and card and list of images in it against the record's."""
    file = _check_file("model", path, told.sha256)
    if not file.ok:
        return file
    try:
        same = model_facts(load_generator(path), told.path, image_sha256) == told
    except ZssrGanError as error:
        return Check("model", False, str(error))
    return _check(
        "model",
        same,
        f"{file.text}, with the card kept",
        f"{path.name} has another card or list of images than the record tells",
    )


def _check_case(told: CaseFacts, path: Path) -> Check:
    """The shared start's file, and the list of images in it against the record's."""
    file = _check_file("case", path, told.sha256)
    if not file.ok:
        return file
    try:
        same = teachers(read_shared(path)) == told.images
    except ZssrGanError as error:
        return Check("case", False, str(error))
    return _check(
        "case", same, f"{file.text}, learnt on the images listed", f"{path.name} was learnt on others than are listed"
    )
