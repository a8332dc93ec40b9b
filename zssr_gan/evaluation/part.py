"""One part of an evaluation: tables, pictures, and scenes on which methods are compared.

A part is stored as one JSON file, so that the report can be made of parts that were measured at different times.
"""

from dataclasses import dataclass

from pydantic import Base64Bytes, TypeAdapter

from zssr_gan.evaluation.tables import Table
from zssr_gan.files import with_checksum, without_checksum
from zssr_gan.provenance import Label


@dataclass(frozen=True, slots=True)
class Illustration:
    """A picture as PNG: a chart, a map, or a scene as one method shows it."""

    caption: str
    """Of a scene's view: the method's name, `truth` or `LR`."""
    png: Base64Bytes
    label: Label | None = None
    """What its pixels were learnt from; None where they are no result."""
    name: str = ""
    """Of its file beside the report; empty: it has none."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One image by several methods, to be laid over each other: all views have the result's size."""

    caption: str
    views: tuple[Illustration, ...]
    maps: tuple[Illustration, ...] = ()
    """Evidence: where results are not to be trusted."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an evaluation."""

    name: str
    """For `--only`, and of its files."""
    title: str
    text: tuple[str, ...] = ()
    """Paragraphs that a reader must know before the tables."""
    tables: tuple[Table, ...] = ()
    illustrations: tuple[Illustration, ...] = ()
    scenes: tuple[Scene, ...] = ()
    cache_key: str = ""
    """Hash of all that it depends on in its run: with another one it is outdated."""


_PART = TypeAdapter(Part)


def encode_part(part: Part) -> bytes:
    """A part as JSON with a checksum, the same bytes for the same part."""
    return with_checksum(_PART.dump_json(part) + b"\n")


def decode_part(data: bytes) -> Part | None:
    """The part in bytes of `encode_part`; None where they are damaged or of another version."""
    try:
        return _PART.validate_json(without_checksum(data))
    except ValueError:  # of pydantic too
        return None
