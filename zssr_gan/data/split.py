"""Who is in which part and has which role: made by a seed, kept as split.json, the same bytes on any machine.

The split comes first, by identity where identities are known and by image where not; roles are dealt out inside the
parts. Every draw is a rank by SHA-256 of (seed, purpose, id): no random generator, whose numbers may change with its
version, and no order but that of the ids.
"""

import hashlib
import json
import math
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median_low
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from zssr_gan.data.sources import Entry, Source
from zssr_gan.errors import ImageError, SettingsError, ZssrGanError
from zssr_gan.files import atomic_write
from zssr_gan.settings.data import DataSettings, SourceSettings

# Every image of a source, opened once: is it whole, how large is it, and what is its hash?
#
# It takes about 0.3 ms of one core an image of 20x16 px, nearly all of it decoding; so large sets are shared out to
# processes (threads decode one at a time), and small ones are not worth their start.


Found = tuple[str, int, int] | str
"""An image's (SHA-256, width, height), or why it cannot be read."""

_BATCH = 256  # images a task: about 0.1 s

_WORTH_PROCESSES = 20_000  # images; below, one process is done before others have started

_MOST_PROCESSES = 16


class CensusError(ZssrGanError):
    """The images could not be gone through to the end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a source is: `done` of `total` images; `total` is None while they are listed."""

    source: str
    done: int
    total: int | None


def examine(
    source: Source,
    paths: Sequence[str],
    on_progress: Callable[[Progress], None] = lambda _: None,
    processes: int | None = None,
) -> Iterator[Found]:
    """Open each image, in order; what was found of each comes as soon as it is known, and no pixels are kept.

    Args:
        source: whose images.
        paths: which.
        on_progress: called often.
        processes: how many share the work; default: by the number of images and cores.

    Raises:
        CensusError: a process that shared the work was ended from outside.
    """
    if processes is None:
        processes = 1 if len(paths) < _WORTH_PROCESSES else min(_cores(), _MOST_PROCESSES)
    batches = (paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH))
    done = 0
    for found in _in_processes(source, batches, processes) if processes > 1 else _here(source, batches):
        yield from found
        done += len(found)
        on_progress(Progress(source.name, done, len(paths)))


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _look(source: Source, paths: Sequence[str]) -> list[Found]:
    found: list[Found] = []
    for path in paths:
        try:
            content = source.read(path)
        except ImageError as error:
            found.append(_reason(error, f"{source.name}/{path}: "))
        else:
            _, height, width = content.picture.pixels.shape
            found.append((content.sha256, width, height))
    return found


def _reason(error: ImageError, name: str) -> str:
    """Why, without what differs between machines: the decoder's own words hang on its version."""
    words = str(error).removeprefix(name).removesuffix(".")
    return words.partition(" (")[0] if "damaged or truncated" in words else words


def _here(source: Source, batches: Iterator[Sequence[str]]) -> Iterator[list[Found]]:
    for batch in batches:
        # In smaller pieces, so that the progress of a small set moves too.
        for start in range(0, len(batch), 16):
            yield _look(source, batch[start : start + 16])


def _in_processes(source: Source, batches: Iterator[Sequence[str]], processes: int) -> Iterator[list[Found]]:
    """The same in order, with a few batches under way: memory does not grow with the set."""
    # spawn: a fork of a process with threads (torch's, a progress bar's) can hang.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    under_way: deque[Future[list[Found]]] = deque()
    try:
        with _started_without_ctrl_c():
            for _, batch in zip(range(processes), batches, strict=False):  # in this order none is lost
                under_way.append(pool.submit(_look, source, batch))
        for batch in batches:
            under_way.append(pool.submit(_look, source, batch))
            if len(under_way) > 3 * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise CensusError("a process that read images was ended, often for lack of memory: run it again.") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _started_without_ctrl_c() -> Iterator[None]:
    """Processes started within do not hear Ctrl-C, which a terminal sends to all: their parent ends them in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


SCHEMA_VERSION: Final = 1

Part = Literal["train", "test"]

Role = Literal["zssr", "generator", "table1", "unseen"]

PARTS: Mapping[Part, tuple[Role, Role]] = {"train": ("zssr", "generator"), "test": ("table1", "unseen")}
"""The parts, and the roles inside each."""


class SplitError(ZssrGanError):
    """A split.json that is missing, damaged, or not of a version that this program knows."""


@dataclass(frozen=True, slots=True)
class Member:
    """One image that can be used.

    `id`: the source's name, "/", and `path`, which is relative to the source's root. `sha256`: of the file's bytes (of
    the pixels for lfw). `width`, `height`: pixels, upright. `identity`: whom it shows, unique inside its source.
    `part`, `role`: None for a duplicate, which takes no part; `role` also for who was not drawn. `duplicate_of`: the id
    of the first image with the same content.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    id: str
    path: str
    sha256: str
    width: int
    height: int
    identity: str | None
    part: Part | None
    role: Role | None
    duplicate_of: str | None

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
    data: dict[str, JsonValue]
    entries: tuple[Member, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[str, ...]
    notices: tuple[str, ...]


def make_split(
    settings: DataSettings,
    sources: Sequence[Source],
    seed: int,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Split:
    """Open every image once, and deal out parts and roles.

    Args:
        settings: what is asked.
        sources: one for each of `settings.sources`, in their order.
        seed: same seed, same split.
        on_progress: called often while images are opened.

    Raises:
        SettingsError: a set is not there, or has fewer images than asked; it says how many were asked and are there.
    """
    members: list[Member] = []
    skipped: list[Skipped] = []
    missing: list[str] = []
    notices: list[str] = []
    for source, asked in zip(sources, settings.sources, strict=True):
        on_progress(Progress(source.name, 0, None))
        listing = source.listing()
        skipped += [Skipped(f"{source.name}/{path}", reason) for path, reason in listing.unusable]
        missing += [f"{source.name}/{path}" for path in listing.missing]
        notices += listing.notices
        entries = _sample(source.name, listing.entries, asked, seed)
        found = examine(source, [entry.path for entry in entries], on_progress)
        for entry, facts in zip(entries, found, strict=True):
            name = f"{source.name}/{entry.path}"
            if isinstance(facts, str):
                skipped.append(Skipped(name, facts))
            elif min(facts[1:]) < settings.smallest:
                size = f"{facts[1]}x{facts[2]}"
                skipped.append(
                    Skipped(name, f"is {size} px, and the shorter side is to be at least {settings.smallest}")
                )
            else:
                members.append(Member(name, entry.path, *facts, entry.identity, None, None, None))
    members = _mark_duplicates(sorted(members, key=lambda member: member.id))
    return Split(
        schema_version=SCHEMA_VERSION,
        seed=seed,
        data=settings.without_roots(),
        entries=tuple(_deal(members, settings, seed)),
        skipped=tuple(sorted(skipped, key=lambda one: one.id)),
        missing=tuple(sorted(missing)),
        notices=tuple(notices),
    )


def _rank(seed: int, purpose: str, ids: Iterable[str]) -> list[str]:
    """The ids in an order that is random for who does not know seed and purpose, and the same everywhere."""
    return sorted(ids, key=lambda name: (hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest(), name))


def _sample(name: str, entries: Sequence[Entry], asked: SourceSettings, seed: int) -> list[Entry]:
    """`count` of the entries, in the order of their paths; drawn by path, before any is opened."""
    if not entries:
        raise SettingsError(f"{name}: there are no images in {asked.root or name}.")
    if asked.count is None:
        return list(entries)
    if asked.count > len(entries):
        raise SettingsError(
            f"{name}: count asks for {asked.count} images and there are {len(entries)}: lower it, or set it to null to "
            "take all."
        )
    drawn = set(_rank(seed, "count", (f"{name}/{entry.path}" for entry in entries))[: asked.count])
    return [entry for entry in entries if f"{name}/{entry.path}" in drawn]


def _mark_duplicates(members: Sequence[Member]) -> list[Member]:
    """Members, sorted by id, with all but the first of each content marked; across sources too."""
    first: dict[str, str] = {}
    marked = []
    for member in members:
        original = first.setdefault(member.sha256, member.id)
        marked.append(member if original == member.id else replace(member, duplicate_of=original))
    return marked


def _deal(members: Sequence[Member], settings: DataSettings, seed: int) -> list[Member]:
    """Members, in their order, with part and role."""
    usable: dict[str, list[Member]] = {source.label: [] for source in settings.sources}
    for member in members:
        if member.duplicate_of is None:
            usable[member.source].append(member)
    parts: dict[str, Part] = {}
    roles: dict[str, Role] = {}
    for source, its in usable.items():
        dealt = _parts(source, its, settings.train, seed)
        for part in PARTS:
            roles |= _roles(source, part, [name for name, where in dealt.items() if where == part], settings, seed)
        parts |= dealt
    return [replace(member, part=parts.get(member.id), role=roles.get(member.id)) for member in members]


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
    lines = ["{"]
    lines += [f'"{key}": {_json(getattr(split, key))},' for key in ("schema_version", "seed", "data")]
    lists: dict[str, Sequence[str]] = {
        "entries": [_json(asdict(member)) for member in split.entries],
        "skipped": [_json(asdict(one)) for one in split.skipped],
        "missing": [_json(name) for name in split.missing],
        "notices": [_json(text) for text in split.notices],
    }
    for key, items in lists.items():
        end = "" if key == "notices" else ","
        lines.append(f'"{key}": [' + ("\n" + ",\n".join(items) + "\n" if items else "") + "]" + end)
    return ("\n".join(lines) + "\n}\n").encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_split(split: Split, path: Path, *, overwrite: bool = False) -> None:
    """Write split.json, whole or not at all. Raises OutputError, also where it exists and `overwrite` is not set."""
    atomic_write(path, split_bytes(split), overwrite=overwrite)


def read_split(path: Path) -> Split:
    """Read split.json back; about a second for each 300,000 images. Raises SplitError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SplitError(f"{path}: is not there; 'make prepare' makes it.") from error
    except OSError as error:
        raise SplitError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        return TypeAdapter(Split).validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = ": ".join(filter(None, (".".join(str(part) for part in first["loc"]), first["msg"])))
        raise SplitError(f"{path}: is no split that this version of zssr-gan can read ({why}).") from error


# A split in numbers: what a person checks before hours of work are built on it.


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
