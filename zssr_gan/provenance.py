"""What every written file says of itself: labels, the mark, and JSON that reads back alike."""

import importlib.metadata
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import why_unreadable

_T = TypeVar("_T")

try:
    VERSION: Final = importlib.metadata.version("zssr-gan")
except importlib.metadata.PackageNotFoundError:  # a checkout on a GPU machine that has torch alone
    VERSION: Final = "0 (not installed)"  # type: ignore[misc]  # the other one of the two

Label = Literal["fused", "internal", "case", "generative"]

LABELS: Mapping[Label, str] = {
    "fused": "Every pixel was computed by arithmetic, without a network, from frames that its record lists and hashes.",
    "internal": "Every pixel was computed from this image alone; no other image had a part in it.",
    "case": "The pixels were learnt from the low-resolution images of the case, which its record lists and hashes.",
    "generative": "The pixels come from a generator trained on other images; detail may stem from outside the case.",
}
"""What the pixels were learnt from: the four labels used everywhere in this project, and what each means."""

STATEMENT = "This is a processed image, not an original. Its detail is an estimate, to be read beside the input."

MARK = "zssr-gan:kind"
"""Name of the text field in every written image, by which a later run knows not to enhance it again."""


def strongest(*labels: Label) -> Label:
    """The label that covers the most images: no later step lowers one."""
    return max(labels, key=tuple(LABELS).index)


def label_of(
    image_sha256: str,
    learnt_from: Iterable[str] = (),
    *,
    frames: Collection[str] = (),
    shared: bool = False,
    generator: bool = False,
) -> Label:
    """What a result was learnt from.

    Args:
        image_sha256: of its image's file.
        learnt_from: SHA-256 of the images that its degradation was estimated from; of bicubic, none.
        frames: SHA-256 of what it was fused from, without a network.
        shared: whether its network was learnt on a case.
        generator: whether a trained generator made it.
    """
    if generator:
        return "generative"
    if shared or any(one != image_sha256 and one not in frames for one in learnt_from):
        return "case"
    return "fused" if frames else "internal"


def provenance_text(*, kind: str, version: str, label: Label, facts: Mapping[str, str]) -> dict[str, str]:
    """Text fields of a result or an evidence map. No times and no paths: the same work gives the same bytes.

    Args:
        kind: "result", "evidence map" or "comparison sheet".
        version: of the program that made the pixels.
        label: what the pixels were learnt from.
        facts: further fields, e.g. {"seed": "0"}.
    """
    text = {
        "Software": f"zssr-gan {version}",
        MARK: kind,
        "zssr-gan:label": f"{label}: {LABELS[label]}",
        "zssr-gan:statement": STATEMENT,
    }
    return text | {f"zssr-gan:{key}": value for key, value in facts.items()}


def is_ours(path: Path) -> bool:
    """Whether an image file carries our mark: it is a result, an evidence map or a sheet, not a source."""
    try:
        with path.open("rb") as file:
            # Text fields stand before the pixels in PNG and TIFF; at most an ICC profile comes first.
            return MARK.encode() in file.read(1 << 20)
    except OSError:
        return False


def scale_text(scale: tuple[float, float]) -> str:
    """Factors (y, x) as the command takes them: "2", "1.5", or width first as in "2x3"."""
    y, x = (repr(float(factor)).removesuffix(".0") for factor in scale)
    return x if x == y else f"{x}x{y}"


def finite_json(value: JsonValue) -> JsonValue:
    """JSON has no infinity: an exact agreement's infinite dB becomes the word "inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_json(item) for item in value]
    return value


MAX_MEGAPIXELS: Final = 100.0
"""Larger inputs are refused where no other limit is asked for."""


class FileModel(BaseModel):
    """Base of what is written to a file as JSON: frozen, and on reading an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_json(path: Path, kind: type[_T], error: type[ZssrGanError]) -> _T:
    """Read a file of JSON as a pydantic model or dataclass. Raises `error`, a sentence: it cannot be read as one."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError as problem:
        raise error(f"{path}: {why_unreadable(path, problem)}.") from problem
    except ValidationError as problem:
        why = first_problem(problem)
        raise error(f"{path}: is damaged, or of another version of zssr-gan ({why}).") from problem


def first_problem(error: ValidationError) -> str:
    """The first problem that pydantic found, after its key where there is one: "title: Field required"."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _as_utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


class CaseImage(FileModel):
    """An LR image that the network was learnt on; bytes of its name that are not UTF-8 are escaped."""

    name: Annotated[str, AfterValidator(_as_utf8)]
    sha256: str
    """Of the file, or of the pixels where they came from no file."""
