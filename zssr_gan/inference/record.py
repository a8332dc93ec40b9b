"""The record beside every result: what another analyst needs to explain and to repeat each pixel.

A record is JSON named as its result (`face_x2.png` has `face_x2.json`). Apart from `times` and the durations named
`seconds` it is a function of the input, the settings and the machine: two runs give the same record. Paths are
relative to the record's own folder, so that a case folder can be moved as a whole.

What practitioners and the courts ask for: SWGDE 15-M-002 and 22-V-001, ASTM E2825.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from zssr_gan.degradation.model import Degradation
from zssr_gan.errors import ZssrGanError
from zssr_gan.files import canonical_sha256
from zssr_gan.provenance import LABELS, MAX_MEGAPIXELS, STATEMENT, Label, finite_json, scale_text

SCHEMA_VERSION: Final = 1


class RecordError(ZssrGanError):
    """A record that is missing, not JSON, or not of a version that this program knows."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _plain_name(name: str) -> str:
    if "\0" in name or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError("a file's name alone belongs here")
    return name


def _path(path: str) -> str:
    if "\0" in path:
        raise ValueError("no path holds a NUL")
    return path


# A record may come from anyone: its names must not lead elsewhere, and none may break the calls that look for it.
FileName = Annotated[str, AfterValidator(_plain_name)]

FilePath = Annotated[str, AfterValidator(_path)]


class Tool(_Model):
    """The program that made the result."""

    name: Literal["zssr-gan"] = "zssr-gan"
    version: str


class InputFile(_Model):
    """The file that was enhanced; it is opened for reading only, and hashed before and after to show it."""

    name: FileName
    path: FilePath = Field(description="relative to the record's folder, with forward slashes")
    size_bytes: int
    width: int = Field(description="pixels, upright")
    height: int
    sha256: str = Field(description="of the bytes that were decoded")
    sha256_after: str = Field(description="of the file once the result was made")


class WrittenFile(_Model):
    """A file that was written: the result, or its evidence map. It lies in the record's folder."""

    name: FileName
    size_bytes: int
    sha256: str


class ResultFile(WrittenFile):
    """The result, with the form of its pixels."""

    width: int
    height: int
    channels: int
    bits: int


class KernelFacts(_Model):
    """The blur kernel. Its values are kept whole, so that a rerun needs no second file."""

    name: FileName
    sha256: str = Field(description="of the kernel's file")
    values: list[list[float]] = Field(description="as used: normalised to sum 1")
    values_sha256: str = Field(description="of the values as canonical JSON")

    @model_validator(mode="after")
    def _rectangle(self) -> Self:
        if len({len(row) for row in self.values}) != 1 or not self.values[0]:
            raise ValueError("the values are rows of one length")
        return self


class TeacherImage(_Model):
    """A low-resolution image of the case that was learnt from."""

    name: FileName
    sha256: str = Field(description="of the file")


class CaseFacts(_Model):
    """The network that was learnt on the images of the case."""

    path: FilePath = Field(description="of its file, relative to the record's folder, with forward slashes")
    sha256: str = Field(description="of its file")
    images: tuple[TeacherImage, ...]


class ModelFacts(_Model):
    """The trained generator that made the pixels."""

    path: FilePath = Field(description="of its file, relative to the record's folder, with forward slashes")
    sha256: str = Field(description="of its file")
    card: dict[str, JsonValue] = Field(description="whole: what it is, what it was trained on and how")
    input_was: tuple[str, ...] = Field(
        (), description="what the input itself was for in the training: inputs, reals, held_out; by its SHA-256"
    )


class DegradationFacts(_Model):
    """What the camera was taken to do. Its values are kept whole, so that a rerun needs no second file."""

    name: FileName | None = Field(description="of its file; null where the shared start or generator brought it along")
    path: FilePath | None = Field(description="of its file, relative to the record's folder, with forward slashes")
    sha256: str | None = Field(description="of its file")
    values: Degradation
    values_sha256: str = Field(description="of the values as canonical JSON")
    images: tuple[TeacherImage, ...] | None = Field(
        description="what it was estimated from; null where these are the images that `case` lists"
    )
    image_count: int = Field(description="how many these are; 0 where it was given")
    fallback: bool = Field(description="whether bicubic is assumed because the estimate was not sure enough")
    why: str = Field(description="how sure it was, in one sentence")


class Arguments(_Model):
    """The command as resolved: what was asked, defaults filled in."""

    scale: tuple[float, float] = Field(description="factors per side as (y, x)")
    preset: str
    seed: int
    noise: float | None
    kernel: str | None
    degradation: str | None = None
    device: str
    precision: str
    threads: int | None
    tile: int | None
    max_megapixels: float


class Times(_Model):
    """When it was done; the only part, beside durations, that differs from run to run."""

    started_utc: str
    finished_utc: str
    seconds: float


class Record(_Model):
    """One result's record, as it lies on disk."""

    schema_version: Literal[1] = SCHEMA_VERSION
    tool: Tool
    label: Label
    label_means: str
    statement: str = STATEMENT
    command_line: str = Field(description="typed in the input's folder, makes the result again, as NAME_again")
    arguments: Arguments
    input: InputFile
    output: ResultFile
    evidence: WrittenFile | None
    settings: dict[str, JsonValue]
    settings_sha256: str
    kernel: KernelFacts | None
    case: CaseFacts | None = Field(None, description="the network that was learnt on the images of a case")
    model: ModelFacts | None = Field(None, description="the trained generator, if one was used")
    degradation: DegradationFacts | None = Field(None, description="where it is not bicubic or a kernel that was given")
    enhancement: dict[str, JsonValue] = Field(description="steps, choice, residual, versions, device, tiles, ...")
    times: Times


def build_record(
    *,
    version: str,
    arguments: Arguments,
    source: InputFile,
    output: ResultFile,
    evidence: WrittenFile | None,
    kernel: KernelFacts | None,
    case: CaseFacts | None = None,
    model: ModelFacts | None = None,
    degradation: DegradationFacts | None = None,
    report: Mapping[str, Any],
    times: Times,
    option_files: Mapping[str, str] | None = None,
) -> Record:
    """Put a record together.

    Args:
        version: of this program.
        arguments: what was asked.
        source, output, evidence: the files.
        kernel: the blur kernel, if one was given.
        case, model: the network learnt on a case, or the trained generator, if there is one.
        degradation: what the camera was taken to do, if that is not bicubic or the kernel.
        report: what `enhance_picture` says of its work; its "label" and "settings" move to the record's top.
        times: when.
        option_files: by option ("kernel", "model", ...), where its file lies, seen from the input's folder.
    """
    work = finite_json(dict(report))
    assert isinstance(work, dict)
    label, settings = work.pop("label"), work.pop("settings")
    return Record.model_validate(
        {
            "tool": Tool(version=version),
            "label": label,
            "label_means": LABELS[report["label"]],
            "command_line": _command_line(source, output, arguments, work, option_files or {}),
            "arguments": arguments,
            "input": source,
            "output": output,
            "evidence": evidence,
            "settings": settings,
            "settings_sha256": canonical_sha256(settings),
            "kernel": kernel,
            "case": case,
            "model": model,
            "degradation": degradation,
            "enhancement": work,
            "times": times,
        }
    )


def label_of(
    image_sha256: str, case: CaseFacts | None, degradation: DegradationFacts | None, model: ModelFacts | None = None
) -> Label:
    """What a result was learnt from: its own image, by hash, or others too, with its networks or its degradation."""
    if model is not None:
        return "generative"
    if case is not None:
        return "case"
    if degradation is None or degradation.values == Degradation():
        return "internal"
    # Without a case, only a degradation that was given lists no images, and counts none.
    images = degradation.images
    if images is None or len(images) != degradation.image_count:
        return "case"
    return "case" if any(image.sha256 != image_sha256 for image in images) else "internal"


def _command_line(
    source: InputFile,
    output: ResultFile,
    arguments: Arguments,
    report: Mapping[str, JsonValue],
    option_files: Mapping[str, str],
) -> str:
    """The command as another analyst would type it, with what "auto" came to on the machine where it ran."""
    limit = arguments.max_megapixels
    options = {
        "scale": scale_text(arguments.scale),
        "preset": None if "init-from" in option_files else option_files.get("preset", arguments.preset),
        "init-from": option_files.get("init-from"),
        "model": option_files.get("model"),
        "seed": arguments.seed,
        "noise": None if "init-from" in option_files else arguments.noise,
        "kernel": option_files.get("kernel", arguments.kernel),
        "degradation": option_files.get("degradation", arguments.degradation),
        "device": report.get("device", arguments.device),
        "precision": report.get("precision", arguments.precision),
        "threads": report.get("threads", arguments.threads),
        "tile": report.get("tile", arguments.tile),
        "max-megapixels": None if limit == MAX_MEGAPIXELS else limit,
    }
    # Another name than the result's: that may lie in this folder, and is there to be compared with.
    name = Path(output.name)
    words = ["zssr-gan", "enhance", _typed(source.name), "-o", _typed(f"{name.stem}_again{name.suffix}")]
    for option, value in options.items():
        words += [] if value is None else [f"--{option}", str(value)]
    return shlex.join(words)


def _typed(name: str) -> str:
    """A file's name as a command takes it: one that begins with a dash would be read as an option."""
    return f"./{name}" if name.startswith("-") else name


def encode_record(record: Record) -> bytes:
    """A record's file: JSON for people, indented, in the order of the model."""
    text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is not UTF-8 comes from Python as lone surrogates; escaped so they are still valid JSON.
    return (text + "\n").encode("utf-8", "backslashreplace")


def read_record(path: Path) -> Record:
    """Read and check a record.

    Raises:
        RecordError: missing, unreadable, not JSON, or not a record of a version known here.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: the record cannot be read ({error.strerror})") from error
    except ValueError as error:
        hint = f"; did you mean {path.with_suffix('.json').name}?" if path.suffix.lower() != ".json" else ""
        raise RecordError(f"{path}: not a record, since it is not JSON{hint}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is None:
        raise RecordError(f"{path}: JSON, but not a record of zssr-gan")
    if version != SCHEMA_VERSION:
        raise RecordError(f"{path}: a record of version {version}; this program reads version {SCHEMA_VERSION}")
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: a broken record: {key}: {first['msg']}") from error
