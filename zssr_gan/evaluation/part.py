"""What an evaluation has to show, part by part: tables, pictures, and scenes that methods are compared on.

A part is kept as one JSON file, so that the report can be made of parts that were measured at different times.
"""

from dataclasses import dataclass

from pydantic import Base64Bytes, TypeAdapter

from zssr_gan.evaluation.tables import Table
from zssr_gan.files import verify, with_checksum
from zssr_gan.provenance import Label


@dataclass(frozen=True, slots=True)
class Illustration:
    """A picture, a chart or a map, as PNG."""

    caption: str
    png: Base64Bytes


@dataclass(frozen=True, slots=True)
class View:
    """A scene as one method shows it; all views of a scene have one size, the result's."""

    name: str
    """Of the method, as the tables have it; `truth` and `LR` too."""
    label: Label | None
    """What its pixels were learnt from; None where they are no result."""
    png: Base64Bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """One image by several methods, to be laid over each other."""

    caption: str
    views: tuple[View, ...]
    """The plain interpolation is among them, and called bicubic."""
    maps: tuple[Illustration, ...] = ()
    """Evidence: where results are not to be trusted."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an evaluation."""

    name: str
    """As `--only` has it."""
    title: str
    text: tuple[str, ...] = ()
    """What a reader must know before the tables, a paragraph each."""
    tables: tuple[Table, ...] = ()
    illustrations: tuple[Illustration, ...] = ()
    scenes: tuple[Scene, ...] = ()
    stamp: str = ""
    """A hash of all that it hangs on, so that it can be told whether it still holds."""


_PART = TypeAdapter(Part)


def encode_part(part: Part) -> bytes:
    """A part as JSON below a line with its hash, the same bytes for the same part."""
    return with_checksum(_PART.dump_json(part) + b"\n")


def decode_part(data: bytes) -> Part | None:
    """What `encode_part` wrote; None where it is damaged or of another version."""
    try:
        return _PART.validate_json(verify(data))
    except ValueError:  # pydantic's too
        return None
