"""The record beside every result: what another analyst needs to explain and to repeat each pixel.

A record is JSON named as its result (`face_x2.png` has `face_x2.json`). Apart from `times`, the versions, the device's
name and the durations named `seconds` it is a function of the input, the request and the machine: two runs give the
same record. Paths are relative to the record's own folder, so that a case folder can be moved as a whole.

What practitioners and the courts ask for: SWGDE 15-M-002 and 22-V-001, ASTM E2825.
"""

import contextlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import PIL
import torch
from pydantic import AfterValidator, Field, JsonValue, ValidationError

from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.footage import WEBP_FOOTAGE
from zssr_gan.degradation.found_compression import Codec, ImageCompression
from zssr_gan.degradation.model import Degradation, GaussianBlur
from zssr_gan.errors import ZssrGanError
from zssr_gan.files import relative_path, sha256_file, why_unreadable
from zssr_gan.provenance import STATEMENT, VERSION, CaseImage, FileModel, Label, finite_json, first_problem, label_of
from zssr_gan.zeroshot.selection import Selection

SCHEMA_VERSION: Final = 2

COMPARISON_VERSION: Final = 2
"""Of the record beside a comparison's sheet, which has a form of its own."""


class RecordError(ZssrGanError):
    """A record that is missing, not JSON, or not of a version that this program knows."""


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


class Tool(FileModel):
    """The program that made the result."""

    name: Literal["zssr-gan"] = "zssr-gan"
    version: str


class InputFile(FileModel):
    """The file that was enhanced; it is opened for reading only, and hashed before and after to show it."""

    name: FileName
    path: FilePath = Field(description="relative to the record's folder, with forward slashes")
    size_bytes: int
    width: int = Field(description="pixels, upright")
    height: int
    sha256: str = Field(description="of the bytes that were decoded")
    sha256_after: str = Field(description="of the file once the result was made")


class WrittenFile(FileModel):
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


class OptionFile(FileModel):
    """A file that an option of the command named, or that was learnt for all images of the run."""

    path: FilePath = Field(description="relative to the record's folder, with forward slashes")
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file as it lies there now. Raises OSError."""
        return cls(path=str(path), sha256=sha256_file(path))

    def seen_from(self, folder: Path) -> Self:
        """The same with its path relative to `folder`."""
        return self.model_copy(update={"path": relative_path(Path(self.path), folder)})


SHOWS_NOTHING = "this picture shows no noise or compression, and alone does not tell its blur: bicubic is assumed"
"""Why nothing is assumed of the camera of a picture that was looked at."""


class DegradationFacts(FileModel):
    """What the camera is taken to have done, whole, and where that is known from."""

    values: Degradation = Degradation()
    sha256: str = Field(Degradation().sha256, description="of the values as canonical JSON")
    source: Literal["default", "bicubic", "given", "picture", "estimate", "shared", "model"] = Field(
        "default",
        description="bicubic: asked for; picture: seen in the input itself; shared, model: what the network learnt for",
    )
    images: tuple[CaseImage, ...] = Field((), description="what it was estimated from; none where it was given")
    fallback: bool = Field(False, description="whether bicubic is assumed because the estimate was not sure enough")
    why: str = Field("bicubic is assumed where nothing else is asked for", description="in one sentence")
    codec: Codec | None = Field(
        None, description="what `values.jpeg` stands for: video, whose strength is not known, or lossy webp"
    )
    compression: ImageCompression | None = Field(
        None, description="what was found in this image, and in others with it"
    )

    @property
    def learnt_from(self) -> list[str]:
        """SHA-256 of the images that a result owes its degradation to: of bicubic, none."""
        return [] if self.values == Degradation() else [image.sha256 for image in self.images]

    @classmethod
    def of(
        cls, values: Degradation, source: Literal["bicubic", "given", "picture", "shared", "model"], why: str
    ) -> Self:
        """A degradation that was not estimated by this program."""
        return cls(values=values, sha256=values.sha256, source=source, why=why)

    @classmethod
    def estimated(cls, found: Estimate, image_sha256: str = "") -> Self:
        """An estimate's degradation, with the compression of the image of this hash where it has its own."""
        values, kind = found.of(image_sha256), found.of_kind(image_sha256)
        why, codec = kind.why, found.codec_of(image_sha256)
        if codec != kind.codec:
            why = f"{WEBP_FOOTAGE}; of the video's frames with which this image was estimated: {why}"
        if values.blur is None and image_sha256 in kind.own_blur:
            why = f"bicubic is assumed: this image is sharper than the blur of the others would leave it; {why}"
        elif image_sha256 in kind.own_blur and isinstance(values.blur, GaussianBlur):
            why = f"the blur is that of the images of about this sharpness; {why}"
        return cls(
            values=values,
            sha256=values.sha256,
            source="estimate",
            images=found.images,
            fallback=kind.fallback,
            codec=codec if values.jpeg is not None else None,
            why=why,
            compression=found.compression_of(image_sha256),
        )


class ModelFacts(FileModel):
    """The trained generator that made the pixels."""

    card: dict[str, JsonValue] = Field(description="whole: what it is, what it was trained on and how")
    input_was: tuple[str, ...] = Field(
        (), description="what the input itself was for in the training: inputs, reals, held_out; by its SHA-256"
    )


class RequestFacts(FileModel):
    """The resolved request: all that made the result of its input."""

    preset: str
    settings: dict[str, JsonValue]
    settings_sha256: str
    scale: tuple[float, float] = Field(description="factors per side as (y, x)")
    region: tuple[int, int, int, int] | None = Field(
        None, description="left and top edge, width, height in pixels of the input, upright; the whole was learnt from"
    )
    seed: int
    degradation: DegradationFacts
    case: tuple[CaseImage, ...] | None = Field(description="the images that the shared model was learnt on")
    model: ModelFacts | None = Field(description="the trained generator, if one was used")
    files: dict[Literal["preset", "kernel", "degradation", "init-from", "model"], OptionFile]
    device: str
    precision: str
    threads: int
    tile: int
    max_megapixels: float

    def label(self, image_sha256: str) -> Label:
        """What a result of the image with this hash was learnt from."""
        learnt_from = self.degradation.learnt_from
        return label_of(image_sha256, learnt_from, shared=self.case is not None, generator=self.model is not None)


class EvidenceFigures(FileModel):
    """How far the views disagree, what the result misses of the input, what it adds to bicubic; in levels of 255."""

    views: int
    disagreement_mean: float
    disagreement_95th_percentile: float
    disagreement_largest: float
    residual_mean: float
    residual_largest: float
    added_variation_mean: float | None = Field(
        None, description="how much more the result varies locally than bicubic does; none in earlier records"
    )
    added_variation_95th_percentile: float | None = None
    added_variation_largest: float | None = None


class Work(FileModel):
    """What was done, and how the result agrees with the input."""

    true_scale: tuple[float, float] = Field(description="(y, x), of the sizes in whole pixels")
    downscale: str = Field(description="the operator: bicubic, kernel or degradation")
    choice: Selection = Field(description="how much of the pixels is the network's")
    steps: tuple[dict[str, JsonValue], ...] = Field(description="each thing done with every parameter, in order")
    residual_db: float = Field(description="PSNR of the result, shrunk again, against the input; at most 100")
    evidence: EvidenceFigures
    notices: tuple[str, ...] = Field(description="what a user should know, a sentence each")
    warnings: tuple[str, ...] = Field(
        (), description="why the result may be wrong, a sentence each; a quiet run shows them"
    )
    device_name: str
    versions: dict[str, str]
    seconds: float


class Times(FileModel):
    """When it was done."""

    started_utc: str
    finished_utc: str
    seconds: float


class Record(FileModel):
    """One result's record, as it lies on disk."""

    schema_version: Literal[2] = SCHEMA_VERSION
    tool: Tool
    label: Label
    label_means: str
    statement: str = STATEMENT
    command_line: str = Field(description="typed in the input's folder, makes the result again, as NAME_again")
    request: RequestFacts
    input: InputFile
    output: ResultFile
    evidence: WrittenFile | None
    enhancement: Work
    times: Times


def encode_json(value: Any) -> bytes:
    """A file of JSON for people, indented, in the order of the keys."""
    text = json.dumps(finite_json(value), indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is not UTF-8 comes from Python as lone surrogates; escaped so they are still valid JSON.
    return (text + "\n").encode("utf-8", "backslashreplace")


def encode_record(record: Record) -> bytes:
    """A record's file."""
    return encode_json(record.model_dump(mode="json"))


def read_record_json(path: Path) -> dict[str, Any]:
    """A record's content, of any version known here (1 or 2); only `read_record` checks it.

    Raises:
        RecordError: missing, unreadable, not JSON, or not of a version known here.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: {why_unreadable(path, error)}") from error
    except ValueError as error:
        hint = f"; did you mean {path.with_suffix('.json').name}?" if path.suffix.lower() != ".json" else ""
        raise RecordError(f"{path}: not a record, since it is not JSON{hint}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is None:
        raise RecordError(f"{path}: JSON, but not a record of zssr-gan")
    if version not in (1, SCHEMA_VERSION):
        raise RecordError(f"{path}: a record of version {version}; this program reads versions 1 and {SCHEMA_VERSION}")
    assert isinstance(content, dict)
    return content


def read_record(path: Path) -> Record:
    """Read and check a record of this version.

    Raises:
        RecordError: see `read_record_json`; or broken, or of schema 1.
    """
    content = read_record_json(path)
    if content["schema_version"] == 1:
        raise RecordError(f"{path}: a record of schema 1, whose hashes can be verified and nothing more")
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        raise RecordError(f"{path}: a broken record: {first_problem(error)}") from error


@cache  # of a folder of tiny images, looking them up took as long as the network
def versions() -> Mapping[str, str]:
    """The versions that pixels may depend on, by name."""
    return {
        "zssr-gan": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": importlib.metadata.version("scipy"),
        "pillow": PIL.__version__,
        **_triton(),
    }


def _triton() -> dict[str, str]:
    """Of the kernels that a GPU may learn by, where its distribution has that name."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return {"triton": importlib.metadata.version("triton")}
    return {}
