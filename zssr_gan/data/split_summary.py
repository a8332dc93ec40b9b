"""A split in numbers: what a person checks before hours of work are built on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from zssr_gan.data.split import PARTS, Member, Split

Range = tuple[int, int, int]
"""Least, median and greatest."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of image of one source. `kind`: "train", "test" or "duplicate"; `role`: empty where there is none.

    `identities`: how many are known; `widths`, `heights`: pixels.
    """

    source: str
    kind: str
    role: str
    images: int
    identities: int
    widths: Range
    heights: Range


def summarise(split: Split) -> list[Row]:
    """Rows in the order of the settings' sources, the parts and their roles; those without images are left out."""
    groups: dict[tuple[str, str, str], list[Member]] = {}
    for member in split.entries:
        key = (member.source, member.part or "duplicate", member.role or "")
        groups.setdefault(key, []).append(member)
    kinds = [(part, role) for part, roles in PARTS.items() for role in (*roles, "")] + [("duplicate", "")]
    return [
        _row(source, kind, role, groups[source, kind, role])
        for source in source_names(split)
        for kind, role in kinds
        if (source, kind, role) in groups
    ]


def source_names(split: Split) -> list[str]:
    """Names of the sources, in the order of the settings."""
    sources = split.data["sources"]
    assert isinstance(sources, list)
    return [str(source["name"]) for source in sources if isinstance(source, dict)]


def reasons(split: Split) -> dict[str, Counter[str]]:
    """For each source: why images were skipped, and how many for each reason; sizes are counted together."""
    found: dict[str, Counter[str]] = {name: Counter() for name in source_names(split)}
    for one in split.skipped:
        found[one.id.partition("/")[0]]["is too small" if " px, " in one.reason else one.reason] += 1
    return found


def _row(source: str, kind: str, role: str, members: Sequence[Member]) -> Row:
    return Row(
        source,
        kind,
        role,
        len(members),
        len({member.identity for member in members} - {None}),
        _range([member.width for member in members]),
        _range([member.height for member in members]),
    )


def _range(values: Sequence[int]) -> Range:
    return min(values), median_low(values), max(values)
