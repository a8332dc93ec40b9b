"""The writer's side of a store: immutable shards in a folder, which no kill costs an image, and no image is in twice.

    synthetic/settings.json      what every image was made with, and the hash of it
    synthetic/shard-0000.h5      images (see shard.py for how they lie)
    synthetic/shard-0000.json    its sidecar, named last; the manifest is the union of these
    synthetic/.lock              locked by the one run that writes

A kill leaves whole shards, and at most one without a sidecar, which the next start removes. A damaged shard is removed
too: its images are made anew from their seeds.
"""

import errno
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import JsonValue, model_validator

from zssr_gan.data.shard import Sidecar, StoredImage, describe_shard, encode_shard, shard_number, shard_path
from zssr_gan.errors import OutputError, StoreError
from zssr_gan.files import atomic_write, canonical_sha256, is_leftover, locked, write_together
from zssr_gan.progress import OnCount
from zssr_gan.provenance import FileModel, read_json
from zssr_gan.signals import uninterrupted

SETTINGS: Final = "settings.json"


class StoreSettings(FileModel):
    """The settings that every image of a store was made with, as they lie in `settings.json`."""

    schema_version: Literal[1] = 1
    settings_sha256: str
    settings: dict[str, JsonValue]

    @model_validator(mode="after")
    def _hash(self) -> Self:
        if canonical_sha256(self.settings) != self.settings_sha256:
            raise ValueError("the settings have another hash")
        return self


def read_settings(folder: Path) -> StoreSettings:
    """The settings of the store in `folder`. Raises StoreError where there is none, or they are damaged."""
    path = folder / SETTINGS
    if not path.exists():
        what = "no store of synthetic images (it has no settings.json)" if folder.is_dir() else "no such folder"
        raise StoreError(f"{folder}: {what}; `make synth` makes one in runs/NAME/synthetic.")
    return read_json(path, StoreSettings, StoreError)


def first_difference(old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> tuple[str, str, str] | None:
    """The first key, dotted, in which settings differ, with both values as short text; None where they are equal."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    for key in [*after, *before]:
        was, wanted = before.get(key, "nothing"), after.get(key, "nothing")
        if was != wanted:
            was, wanted = (text if len(text) <= 100 else f"{text[:97]}..." for text in (was, wanted))
            return key, was, wanted
    return None


def _leaves(value: JsonValue | Mapping[str, JsonValue], key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys with their values as JSON text, in which 1, 1.0 and true differ."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}[{index}]")
    else:
        yield key, json.dumps(value)


def refuse_other_settings(folder: Path, settings: Mapping[str, JsonValue], *, ignore: Collection[str] = ()) -> None:
    """Raise StoreError, naming the first difference, where a store has other settings than these.

    `ignore`: keys that may differ.
    """
    try:
        old = read_settings(folder).settings
    except StoreError:
        return  # nothing was made yet
    # Bicubic is not written down, so that earlier stores can be resumed.
    default: dict[str, JsonValue] = {"degradation": "bicubic"}
    before, after = (
        default | {key: value for key, value in one.items() if key not in ignore} for one in (old, settings)
    )
    if (different := first_difference(before, after)) is not None:
        key, was, now = different
        raise StoreError(
            f"{folder}: its images were made with {key} = {was}, and {now} is asked for now; "
            "choose another folder (run_dir), or take the old value to resume here."
        )


def shard_files(folder: Path, suffix: str = "") -> list[Path]:
    """HDF5 files and sidecars, or those with a suffix, by their numbers. StoreError where it cannot be listed."""
    try:
        numbered = [(number, path) for path in folder.iterdir() if (number := shard_number(path)) is not None]
    except OSError as error:
        raise StoreError(f"{folder}: cannot be listed ({error.strerror}).") from error
    return [path for _, path in sorted(numbered) if not suffix or path.suffix == suffix]


def read_manifest(folder: Path) -> list[Sidecar]:
    """Every sidecar of a store, in the order of their numbers. Raises StoreError where one is damaged."""
    try:
        states = [(path, path.stat()) for path in shard_files(folder, ".json")]
    except OSError as error:
        raise StoreError(f"{folder}: a sidecar cannot be read ({error.strerror}).") from error
    return [_cached_sidecar(path, (one.st_ino, one.st_mtime_ns, one.st_size)) for path, one in states]


@functools.lru_cache(maxsize=4096)
def _cached_sidecar(path: Path, _state: tuple[int, int, int]) -> Sidecar:
    """A sidecar, read once: whoever writes many shards looks through the manifest before each."""
    return read_json(path, Sidecar, StoreError)


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with one shard. `shard`: as in "shard-0007", or "settings.json". `ids`: the images that it held."""

    shard: str
    ids: tuple[str, ...]
    reason: str


def check(folder: Path, on_shard: OnCount = lambda *_: None) -> list[Damage]:
    """Compare every image and table of a store with its hashes; what is damaged. Only reads.

    A shard without a sidecar is no damage: it was not finished, and the next run removes it. `on_shard` is called with
    how many shards are done, and of how many.

    Raises:
        StoreError: no store, or a file that may not be read: that is no damage, and nothing may be removed for it.
    """
    paths = shard_files(folder, ".json") if folder.is_dir() else []
    found, settings = list[Damage](), None
    try:
        settings = read_settings(folder)
    except StoreError as error:
        if not paths:
            raise
        found.append(Damage(SETTINGS, (), str(error)))
    owners: dict[str, str] = {}  # id -> shard, of the sound ones so far
    for done, path in enumerate(paths):
        on_shard(done, len(paths))
        ids, fault = _check_shard(path, settings)
        twice = next((name for name in ids if name in owners), None)
        if fault is None and twice is not None:
            fault = f"holds images that {owners[twice]} holds already ({twice})"
        if fault is None:
            owners |= dict.fromkeys(ids, path.stem)
        else:
            found.append(Damage(path.stem, ids, fault))
    on_shard(len(paths), len(paths))
    return found


def _check_shard(path: Path, settings: StoreSettings | None) -> tuple[tuple[str, ...], str | None]:
    """The ids of the shard whose sidecar is `path`, and what is wrong with it, None where it is sound."""
    file, number = path.with_suffix(".h5"), shard_number(path)
    assert number is not None
    _refuse_unreadable(path, file)
    sidecar = found = fault = None
    try:
        found = describe_shard(file.read_bytes(), number)
    except FileNotFoundError:
        fault = "its HDF5 file is missing"
    except MemoryError as error:
        raise StoreError(f"{file}: does not fit into the free memory.") from error
    except Exception as error:  # of damaged bytes HDF5 makes any
        fault = f"its HDF5 file cannot be read ({error})"
    try:
        sidecar = read_json(path, Sidecar, StoreError)
    except StoreError as error:
        fault = str(error)
    if sidecar is not None and found is not None and (where := sidecar.differs_from(found)):
        fault = f"its HDF5 file and its sidecar do not agree ({where})"
    elif sidecar is not None and settings is not None and sidecar.settings_sha256 != settings.settings_sha256:
        fault = "was made with other settings than those of the store"
    known = sidecar or found
    return () if known is None else known.ids, fault


def _refuse_unreadable(*paths: Path) -> None:
    for path in paths:
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EIO):  # a bad sector is damage
                raise StoreError(f"{path}: cannot be read ({error.strerror}).") from error


class Store:
    """The right to write into a store, held by one process of a run (rank 0) from entering to leaving the context.

    On entering, what an earlier run left unfinished is removed, and so are damaged shards, whose images are then made
    again. `dropped` says which, and has to be shown to the user.

    Args:
        folder: made where it is missing; other files in it are left alone.
        settings: all that the images depend on, as a JSON object.
        on_shard: called while shards are checked (about a second for 14,000 pairs of 32 and 64 px from cache).

    Raises, on entering:
        StoreError: another run writes there, or the images there were made with other settings.
        OutputError: the disk refuses to be written, or has no locks.
    """

    def __init__(self, folder: Path, settings: Mapping[str, JsonValue], on_shard: OnCount = lambda *_: None) -> None:
        self.folder = folder
        plain = json.loads(json.dumps(settings, allow_nan=False))  # tuples become lists, as in the file
        self.settings = StoreSettings(settings=plain, settings_sha256=canonical_sha256(plain))
        self.dropped: tuple[Damage, ...] = ()
        self._on_shard, self._left = on_shard, ExitStack()

    def __enter__(self) -> Self:
        held = f"{self.folder}: another run is writing there; wait until it ends, stop it, or choose another folder."
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder / ".lock", StoreError(held)))
            self._settle_settings()
            finished = {path.stem for path in shard_files(self.folder, ".json")}
            _remove(*(path for path in self.folder.iterdir() if is_leftover(path)))
            _remove(*(path for path in shard_files(self.folder) if path.stem not in finished))
            self.dropped = tuple(check(self.folder, self._on_shard))
            for damage in self.dropped:
                # The sidecar goes first: without it the rest is not part of the store any more.
                _remove(*(self.folder / f"{damage.shard}{suffix}" for suffix in (".json", ".h5")))
            self._left = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    @property
    def settings_sha256(self) -> str:
        """The hash of the settings, which `write_shard` asks for."""
        return self.settings.settings_sha256

    @property
    def done(self) -> set[str]:
        """Ids of the images that are there, those that other processes wrote meanwhile included."""
        return {name for sidecar in read_manifest(self.folder) for name in sidecar.ids}

    @property
    def next_number(self) -> int:
        """A shard number above all that are taken."""
        return 1 + max((shard_number(path) or 0 for path in shard_files(self.folder)), default=-1)

    def write(self, images: Sequence[StoredImage]) -> Path:
        """Write the next shard; see `write_shard`."""
        return write_shard(self.folder, self.next_number, images, self.settings_sha256)

    def _settle_settings(self) -> None:
        """Compare the settings with those that are there, or write them."""
        try:
            found = read_settings(self.folder)
        except StoreError:
            # Killed before it was written, or damaged: the shards know what they were made with.
            known = {sidecar.settings_sha256 for sidecar in read_manifest(self.folder)}
            if shard_files(self.folder) and self.settings_sha256 not in known:
                raise
            text = json.dumps(self.settings.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
            atomic_write(self.folder / SETTINGS, text.encode(), overwrite=True)
        else:
            if found.settings_sha256 != self.settings_sha256:
                refuse_other_settings(self.folder, self.settings.settings)


def write_shard(folder: Path, number: int, images: Sequence[StoredImage], settings_sha256: str) -> Path:
    """Write one shard and its sidecar; any process of a run may, while one of them holds the `Store`.

    Args:
        folder: of the store.
        number: not taken yet; who writes which is settled by the run.
        images: at least one, none of which the store holds.
        settings_sha256: of the settings that the images were made with.

    Returns the path of the HDF5 file.

    Raises:
        StoreError: an image that is there already, or that a store does not hold; other settings than the store's.
        OutputError: the disk refuses (full, no permission), or the number is taken. Nothing of the shard is left then.
    """
    settings = read_settings(folder)
    if settings.settings_sha256 != settings_sha256:
        raise StoreError(f"{folder}: the store has other settings than these images; choose another folder.")
    content, sidecar = encode_shard(number, images, settings.settings)
    path = shard_path(folder, number)
    # Of two processes that were given the same image by mistake only the first writes it.
    with locked(folder / ".naming-lock"), uninterrupted():
        for other in read_manifest(folder):
            if twice := set(other.ids) & set(sidecar.ids):
                raise StoreError(
                    f"{min(twice)}: is in shard {other.number} of {folder} already: an image is stored once."
                )
        write_together({path: content, path.with_suffix(".json"): sidecar.to_json()})
    return path


def _remove(*paths: Path) -> None:
    with uninterrupted():
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"{path}: is left over and cannot be removed ({error.strerror}).") from error
