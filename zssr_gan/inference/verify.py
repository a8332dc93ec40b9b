"""Checking a result against its record: by hashes, or by making it once more."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath, PurePosixPath

import torch

from zssr_gan.degradation.estimate import is_estimate, read_estimate
from zssr_gan.devices import RunOptions
from zssr_gan.errors import WeightsError, ZssrGanError
from zssr_gan.files import canonical_sha256, sha256_bytes, sha256_file
from zssr_gan.imaging.io import decode_picture, encode_picture, read_provenance
from zssr_gan.imaging.picture import Picture
from zssr_gan.inference.batch import VERSION, evidence_png, output_facts, result_text, written_file
from zssr_gan.inference.enhance import Enhanced, enhance_picture
from zssr_gan.inference.record import (
    CaseFacts,
    DegradationFacts,
    InputFile,
    ModelFacts,
    Record,
    TeacherImage,
    build_record,
    label_of,
    read_record,
)
from zssr_gan.inference.request import degradation_of_model, is_told_bicubic, model_facts
from zssr_gan.progress import Progress
from zssr_gan.provenance import strongest
from zssr_gan.settings.zeroshot import (
    GENERATOR_PRESETS,
    PRESETS,
    load_generator_preset,
    load_preset,
    parse_generator_settings,
    parse_settings,
)
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.zeroshot.shared import SharedStart, read_shared

# A result made once more from its record alone, and held against it: the bytes, and the account of them.


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and in one line what was found."""

    name: str
    ok: bool
    text: str


def make_again(record: Record, folder: Path, source: Path, on_progress: Callable[[Progress], None] | None) -> Check:
    """Make the result again from its record and the input, and compare bytes and account.

    Args:
        record: the record.
        folder: where it lies.
        source: the input.
        on_progress: gets each step.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        return Check("rerun", False, f"not made: {source} cannot be read ({error.strerror})")
    if sha256_bytes(data) != record.input.sha256:
        return Check("rerun", False, "not made: the input is not the recorded file")
    asked = record.arguments
    try:
        picture = decode_picture(data, record.input.name, max_megapixels=asked.max_megapixels)
        shared = None if record.case is None else read_shared(folder / record.case.path)
        generator = None if record.model is None else _recorded_generator(record.model, folder)
        read_settings = parse_settings if generator is None else parse_generator_settings
        enhanced = enhance_picture(
            picture,
            asked.scale,
            read_settings(record.settings, "the record's settings"),
            seed=asked.seed,
            # Not normalised again: that could move the last bit of a value.
            kernel=None if record.kernel is None else torch.tensor(record.kernel.values, dtype=torch.float64),
            degradation=None if record.degradation is None else record.degradation.values,
            shared=shared,
            generator=generator,
            options=_recorded_options(record),
            on_progress=on_progress,
        )
        text = result_text(
            {"label": record.label, "settings": record.settings},
            version=record.tool.version,
            input_sha256=record.input.sha256,
            seed=asked.seed,
            scale=asked.scale,
            model=record.model,
        )
        made = encode_picture(enhanced.picture, Path(record.output.name).suffix[1:].lower(), text)
        again = _rebuilt(record, data, picture, enhanced, made, text, shared, generator)
        untrue = _untrue(record, again)
    except ZssrGanError as error:
        return Check("rerun", False, f"not made: {error}")
    there = enhanced.report.get("versions")
    versions = "" if there == record.enhancement.get("versions") else "; library versions differ from the recorded ones"
    if sha256_bytes(made) != record.output.sha256:
        return Check("rerun", False, f"made again from the record: {_difference(made, folder, record)}{versions}")
    if untrue:
        told = ", ".join(untrue)
        return Check("rerun", False, f"made again: the same bytes, but the record tells {told} otherwise{versions}")
    return Check("rerun", True, f"made again from the record: the same bytes, and the same account ({_ON_TRUST})")


def _recorded_generator(told: ModelFacts, folder: Path) -> TrainedGenerator:
    """The generator that a record names, or an error that asks for it: another would make other pixels."""
    path = find_model(told, folder)
    generator = load_generator(path)
    if generator.sha256 != told.sha256:
        raise WeightsError(f"{path} is not the recorded generator: put the one of SHA-256 {told.sha256} there")
    return generator


def find_model(told: ModelFacts, folder: Path) -> Path:
    """The generator's file where a record in `folder` says, or beside it, whither it may have been copied."""
    there, beside = folder / told.path, folder / PurePosixPath(told.path).name
    return beside if beside.is_file() and not there.is_file() else there


_ON_TRUST = "taken on trust: times, versions, the device's name, and files that options named"


def _rebuilt(
    record: Record,
    data: bytes,
    picture: Picture,
    enhanced: Enhanced,
    made: bytes,
    text: Mapping[str, str],
    shared: SharedStart | None,
    generator: TrainedGenerator | None,
) -> Record:
    """The record that the rerun itself would write, where the first run's places and times are taken over."""
    sha256, (height, width) = sha256_bytes(data), picture.pixels.shape[-2:]
    kernel, case, degradation = record.kernel, record.case, record.degradation
    model = None if record.model is None or generator is None else model_facts(generator, record.model.path, sha256)
    if degradation is not None and degradation.name is None and generator is not None:
        own = degradation_of_model(generator)
        degradation = None if own is None else own.facts(Path(), None)
    label = strongest(enhanced.report["label"], label_of(sha256, case, degradation, model))
    return build_record(
        version=record.tool.version,
        arguments=record.arguments.model_copy(
            update={
                "kernel": None if kernel is None else kernel.name,
                "degradation": _asked_degradation(record, generator),
            }
        ),
        source=InputFile(
            name=PurePosixPath(record.input.path).name,
            path=record.input.path,
            size_bytes=len(data),
            width=width,
            height=height,
            sha256=sha256,
            sha256_after=sha256,
        ),
        output=output_facts(record.output.name, enhanced.picture, made),
        evidence=None if record.evidence is None else written_file(record.evidence.name, evidence_png(enhanced, text)),
        kernel=None
        if kernel is None
        else kernel.model_copy(update={"values_sha256": canonical_sha256(kernel.model_dump(mode="json")["values"])}),
        case=None
        if case is None or shared is None
        else CaseFacts(path=case.path, sha256=shared.sha256, images=teachers(shared)),
        model=model,
        degradation=degradation
        and degradation.model_copy(
            update={
                "values_sha256": degradation.values.sha256,
                "image_count": degradation.image_count if degradation.images is None else len(degradation.images),
            }
        ),
        report={**enhanced.report, "label": label},
        times=record.times,
        option_files=_option_files(record),
    )


def _asked_degradation(record: Record, generator: TrainedGenerator | None) -> str | None:
    if record.degradation is not None:
        return record.degradation.name
    return "bicubic" if is_told_bicubic(generator, record.kernel, None) else None


def _option_files(record: Record) -> dict[str, str]:
    """Where the command line has the files that options named; that much of it depends on the place.

    A path counts only where it ends in the name that the record has elsewhere.
    """
    try:
        words = shlex.split(record.command_line)
    except ValueError:  # no shell would take it either
        return {}
    asked, kernel, case, degradation = record.arguments, record.kernel, record.case, record.degradation
    built_in = asked.preset in (*PRESETS, *GENERATOR_PRESETS)
    named = {
        "preset": None if built_in or case is not None else asked.preset,
        "kernel": None if kernel is None else kernel.name,
        "degradation": None if degradation is None else degradation.name,
        "init-from": None if case is None else case.path,
        "model": None if record.model is None else record.model.path,
    }
    told = {word.removeprefix("--"): value for word, value in pairwise(words)}
    return {
        option: told[option] if PurePath(told.get(option, "")).name == PurePath(name).name else name
        for option, name in named.items()
        if name is not None
    }


def _untrue(record: Record, again: Record) -> list[str]:
    """What of a record's account a rerun does not bear out; durations, versions and the device's name aside."""
    told, found = (_account(one) for one in (record, again))
    wrong = [key for key in {**told, **found} if told.get(key, _MISSING) != found.get(key, _MISSING)]
    return wrong + [f"arguments.{name}" for name in _at_odds(record)]


_MISSING = object()


def _account(record: Record) -> dict[str, object]:
    """A record as "group.name": value, without what may differ from run to run."""
    whole = record.model_dump(mode="json")
    del whole["times"]
    for passing in ("versions", "device_name", "seconds"):
        whole["enhancement"].pop(passing, None)
    flat: dict[str, object] = {}
    for key, value in whole.items():
        parts = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
        flat |= {name: _timeless(one) for name, one in parts.items()}
    return flat


def _at_odds(record: Record) -> list[str]:
    """Arguments that could not have led to the recorded settings and machine; each is a function of the others."""
    asked, report, settings = record.arguments, record.enhancement, record.settings
    pairs = settings.get("pairs")
    resolved = {"precision": asked.precision, "device": asked.device, "threads": asked.threads}
    wrong = [
        name
        for name, value in resolved.items()
        if value not in (None, "auto") and str(report.get(name)).partition(":")[0] != str(value).partition(":")[0]
    ]
    if asked.noise is not None and (not isinstance(pairs, dict) or pairs.get("noise") != asked.noise):
        wrong.append("noise")
    # Another version's presets may have had other constants.
    if record.tool.version == VERSION and _preset_of(record) not in (None, settings):
        wrong.append("preset")
    return wrong


def _preset_of(record: Record) -> object:
    """The settings that the preset named in a record comes to; None where it is none of ours."""
    asked = record.arguments
    if record.model is not None:
        known = asked.preset in GENERATOR_PRESETS
        return load_generator_preset(asked.preset).model_dump(mode="json") if known else None
    if asked.preset not in PRESETS:
        return None
    preset = load_preset(asked.preset)
    preset = preset if asked.noise is None else preset.with_noise(asked.noise)
    size = record.input.width * record.input.height
    resolved = preset.for_size(size) if record.case is None else preset.for_case()
    return resolved.model_dump(mode="json")


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


def teachers(start: SharedStart) -> tuple[TeacherImage, ...]:
    """What a record says of the images that a shared start was learnt on."""
    return tuple(TeacherImage(name=image.name, sha256=image.sha256) for image in start.facts.images)


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
