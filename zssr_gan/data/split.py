"""Which image is in which part and has which role: drawn by a seed, written to split.json, the same on any machine.

The split comes first, by identity where identities are known and by image where not; roles are dealt out inside the
parts. Every draw is a rank by SHA-256 of (seed, purpose, id): no random generator, whose numbers may change with its
version, and no order but that of the ids.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median_low
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from zssr_gan.data.sources import OnImages, Source, examine
from zssr_gan.errors import SettingsError
from zssr_gan.provenance import read_json
from zssr_gan.settings.data import DataSettings, SourceSettings

Part = Literal["train", "test"]

Role = Literal["zssr", "generator", "table1", "unseen"]

PARTS: Mapping[Part, tuple[Role, Role]] = {"train": ("zssr", "generator"), "test": ("table1", "unseen")}
"""The parts, and the roles inside each."""


@dataclass(frozen=True, slots=True)
class Member:
    """One image that can be used.

    `id`: the source's name, "/", and `path`, which is relative to the source's root. `sha256`: of the file's bytes (of
    the pixels for lfw). `width`, `height`: pixels, upright. `identity`: of its person, unique inside its source.
    `part`, `role`: None for a duplicate; `role` also for an image that was not drawn. `duplicate_of`: the id
    of the first image with the same content.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    id: str
    path: str
    sha256: str
    width: int
    height: int
    identity: str | None
    part: Part | None = None
    role: Role | None = None
    duplicate_of: str | None = None

    @property
    def source(self) -> str:
        """The name of its source."""
        return self.id.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that cannot be used, and why."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Split:
    """What split.json holds.

    `data`: the settings, without where the files lie. `entries`, `skipped`: sorted by id. `missing`: ids of images that
    a set's own lists name and that are not there. `notices`: what else was odd, one sentence each.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    schema_version: Literal[1]
    seed: int
    data: dict[str, Any]
    entries: tuple[Member, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[str, ...]
    notices: tuple[str, ...]

    def other_setting(self, settings: DataSettings) -> str | None:
        """The first of these settings that is not what the split was made with."""
        return next(
            (f"data.{key}" for key, value in settings.without_roots().items() if self.data.get(key) != value), None
        )


def make_split(
    settings: DataSettings,
    sources: Sequence[Source],
    seed: int,
    on_images: OnImages = lambda *_: None,
) -> Split:
    """Open every image once, and deal out parts and roles.

    Args:
        settings: what is asked.
        sources: one for each of `settings.sources`, in their order.
        seed: same seed, same split.
        on_images: called often while images are opened.

    Raises:
        SettingsError: a set is not there, or has fewer images than asked; it says how many were asked and are there.
    """
    members, skipped, missing, notices = list[Member](), list[Skipped](), list[str](), list[str]()
    for source, asked in zip(sources, settings.sources, strict=True):
        on_images(source.name, 0, None)
        listing = source.listing()
        skipped += [Skipped(f"{source.name}/{path}", reason) for path, reason in listing.unusable]
        missing += [f"{source.name}/{path}" for path in listing.missing]
        notices += listing.notices
        paths = _sample(source.name, list(listing.entries), asked, seed)
        for path, facts in zip(paths, examine(source, paths, on_images), strict=True):
            name = f"{source.name}/{path}"
            if isinstance(facts, str):
                skipped.append(Skipped(name, facts))
            elif min(facts[1:]) < settings.smallest:
                why = f"is {facts[1]}x{facts[2]} px, and the shorter side is to be at least {settings.smallest}"
                skipped.append(Skipped(name, why))
            else:
                members.append(Member(name, path, *facts, listing.entries[path]))
    return Split(
        schema_version=1,
        seed=seed,
        data=settings.without_roots(),
        entries=tuple(_deal(sorted(members, key=lambda member: member.id), settings, seed)),
        skipped=tuple(sorted(skipped, key=lambda one: one.id)),
        missing=tuple(sorted(missing)),
        notices=tuple(notices),
    )


def _rank(seed: int, purpose: str, ids: Iterable[str]) -> list[str]:
    """The ids in an order that is random for who does not know seed and purpose, and the same everywhere."""
    return sorted(ids, key=lambda name: (hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest(), name))


def _sample(name: str, paths: list[str], asked: SourceSettings, seed: int) -> list[str]:
    """`count` of the paths, in their order; drawn before any image is opened."""
    if not paths:
        raise SettingsError(f"{name}: there are no images in {asked.root or name}.")
    if asked.count is None:
        return paths
    if asked.count > len(paths):
        raise SettingsError(
            f"{name}: count asks for {asked.count} images and there are {len(paths)}: lower it, or set it to null to "
            "take all."
        )
    drawn = set(_rank(seed, "count", (f"{name}/{path}" for path in paths))[: asked.count])
    return [path for path in paths if f"{name}/{path}" in drawn]


def _deal(members: Sequence[Member], settings: DataSettings, seed: int) -> list[Member]:
    """Members, sorted by id, with part and role; all but the first of each content are marked as duplicates of it."""
    first: dict[str, str] = {}
    usable: dict[str, list[Member]] = {source.label: [] for source in settings.sources}
    for member in members:
        if first.setdefault(member.sha256, member.id) == member.id:
            usable[member.source].append(member)
    parts: dict[str, Part] = {}
    roles: dict[str, Role] = {}
    for source, its in usable.items():
        dealt = _parts(source, its, settings.train, seed)
        for part in PARTS:
            roles |= _roles(source, part, [name for name, where in dealt.items() if where == part], settings, seed)
        parts |= dealt
    originals = {member.id: first[member.sha256] for member in members if first[member.sha256] != member.id}
    return [
        replace(one, part=parts.get(one.id), role=roles.get(one.id), duplicate_of=originals.get(one.id))
        for one in members
    ]


def _parts(source: str, members: Sequence[Member], share: float, seed: int) -> dict[str, Part]:
    """The part of each id: all images of one identity are in the same."""
    groups: dict[str, list[str]] = {}
    single: dict[str, list[str]] = {}
    for member in members:
        if member.identity is None:
            single[member.id] = [member.id]
        else:
            groups.setdefault(member.identity, []).append(member.id)
    parts: dict[str, Part] = {}
    # Apart, so that each has its share in training: with TinyFace nine of ten images are distractors without identity.
    for purpose, units in ((f"identities of {source}", groups), (f"images of {source}", single)):
        train = math.floor(share * len(units) + 0.5)
        for place, unit in enumerate(_rank(seed, purpose, units)):
            for name in units[unit]:
                parts[name] = "train" if place < train else "test"
    return parts


def _roles(source: str, part: Part, ids: Sequence[str], settings: DataSettings, seed: int) -> dict[str, Role]:
    """The role of each id that has one."""
    one, other = PARTS[part]
    asked = {role: getattr(settings.roles, role) for role in (one, other)}
    wanted = sum(count or 0 for count in asked.values())
    if wanted > len(ids):
        counts = " and ".join(f"{count} {role}" for role, count in asked.items() if count)
        kind = "training" if part == "train" else "test"
        raise SettingsError(
            f"{source}: data.roles asks for {counts} and its {kind} part has {len(ids)} images: lower a "
            "count, or set one to null to take what remains."
        )
    front = len(ids) - asked[other] if asked[one] is None else asked[one]
    back = len(ids) - front if asked[other] is None else asked[other]
    # One role from each end: asking for more of one takes nothing away from the other.
    order = _rank(seed, f"roles of the {part} part", ids)
    return dict.fromkeys(order[:front], one) | dict.fromkeys(order[len(order) - back :], other)


def split_bytes(split: Split) -> bytes:
    """split.json: one line an image, so that it can be read, searched and compared."""
    lines = []
    for key, value in ((field.name, getattr(split, field.name)) for field in fields(split)):
        if isinstance(value, tuple):
            items = ",\n".join(_json(one if isinstance(one, str) else asdict(one)) for one in value)
            lines.append(f'"{key}": [' + (f"\n{items}\n" if items else "") + "]")
        else:
            lines.append(f'"{key}": {_json(value)}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_split(path: Path) -> Split:
    """Read split.json back; about a second for each 300,000 images. Raises SettingsError."""
    if not path.exists():
        raise SettingsError(f"{path}: is not there; `make prepare` with the same CONFIG, SET and SMALL makes it.")
    return read_json(path, Split, SettingsError)


SUMMARY_COLUMNS = ("source", "part", "role", "images", "identities", "width", "height")


def summary_rows(split: Split) -> list[tuple[str, ...]]:
    """What a person checks before hours of work are built on a split: a row for each kind of image of each source.

    Widths and heights: least/median/greatest, in pixels.
    """
    groups: dict[tuple[str, str, str], list[Member]] = {}
    for member in split.entries:
        groups.setdefault((member.source, member.part or "duplicate", member.role or ""), []).append(member)
    kinds = [(part, role) for part, roles in PARTS.items() for role in (*roles, "")] + [("duplicate", "")]
    return [
        (
            *(source["name"], part, role, f"{len(group):,}", f"{len({one.identity for one in group} - {None}):,}"),
            *(_range([getattr(one, side) for one in group]) for side in ("width", "height")),
        )
        for source in split.data["sources"]
        for part, role in kinds
        if (group := groups.get((source["name"], part, role)))
    ]


def _range(values: Sequence[int]) -> str:
    return f"{min(values)}/{median_low(values)}/{max(values)}"


_SHOWN = 5  # images of each kind that are not used


def summary_lines(split: Split) -> list[str]:
    """A line for each source, all notices, and the first images of each kind that are not used."""
    lines = []
    for name in (source["name"] for source in split.data["sources"]):
        its = [member for member in split.entries if member.source == name]
        duplicates = sum(member.duplicate_of is not None for member in its)
        reasons = [one.reason for one in split.skipped if one.id.startswith(f"{name}/")]
        counts = Counter("is too small" if " px, " in reason else reason for reason in reasons)
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))
        lines.append(
            f"{name}: {len(its) + len(reasons):,} found, {len(its) - duplicates:,} usable, "
            f"{len({member.identity for member in its} - {None}):,} identities, {duplicates:,} duplicates, "
            f"{len(reasons):,} skipped{f' ({why})' if why else ''}, "
            f"{sum(one.startswith(f'{name}/') for one in split.missing):,} missing"
        )
    lines += split.notices
    for kind, unused in {
        "skipped": [f"{one.id}: {one.reason}" for one in split.skipped],
        "duplicate": [f"{one.id}: is {one.duplicate_of}" for one in split.entries if one.duplicate_of],
        "missing": [f"{name}: is in the set's list, and not there" for name in split.missing],
    }.items():
        lines += [f"{kind}: {one}" for one in unused[:_SHOWN]]
        if len(unused) > _SHOWN:
            lines.append(f"{kind}: ... and {len(unused) - _SHOWN:,} more, in split.json")
    return lines
