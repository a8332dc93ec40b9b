"""What a store holds: its settings file, and the union of its sidecars, which is the manifest."""

import functools
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from zssr_gan.data.shard import Sidecar, read_sidecar, shard_number
from zssr_gan.errors import StoreError
from zssr_gan.files import canonical_sha256

SETTINGS: Final = "settings.json"


class StoreSettings(BaseModel):
    """The settings that every image of a store was made with, as they lie in `settings.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    settings_sha256: str
    settings: dict[str, JsonValue]

    @classmethod
    def of(cls, settings: Mapping[str, JsonValue]) -> "StoreSettings":
        """Settings with their hash; tuples become lists, as in the file. Raises ValueError for NaN and infinity."""
        plain = json.loads(json.dumps(settings, allow_nan=False))
        return cls(settings=plain, settings_sha256=canonical_sha256(plain))

    def to_json(self) -> bytes:
        """JSON for people."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n").encode()


def read_settings(folder: Path) -> StoreSettings:
    """The settings of the store in `folder`. Raises StoreError where there is none, or they are damaged."""
    path = folder / SETTINGS
    try:
        found = StoreSettings.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        what = "no store of synthetic images (it has no settings.json)" if folder.is_dir() else "no such folder"
        raise StoreError(f"{folder}: {what}; `make synth` makes one in runs/NAME/synthetic.") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise StoreError(f"{path}: not the settings of a store ({error.errors()[0]['msg']}).") from error
    if canonical_sha256(found.settings) != found.settings_sha256:
        raise StoreError(f"{path}: the settings are not those that their hash was made of: the file is damaged.")
    return found


def first_difference(old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> tuple[str, str, str] | None:
    """The first key, dotted, in which settings differ, with both values as text; None where they are equal."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    for key in [*after, *before]:
        was, wanted = before.get(key, "nothing"), after.get(key, "nothing")
        if was != wanted:
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


def sidecar_files(folder: Path) -> list[Path]:
    """The sidecars of a store, in the order of their numbers. Raises StoreError where the folder cannot be listed."""
    return [path for path in shard_files(folder) if path.suffix == ".json"]


def shard_files(folder: Path) -> list[Path]:
    """HDF5 files and sidecars alike, in the order of their numbers; with and without their other half."""
    try:
        numbered = [(number, path) for path in folder.iterdir() if (number := shard_number(path)) is not None]
    except OSError as error:
        raise StoreError(f"{folder}: cannot be listed ({error.strerror}).") from error
    return [path for _, path in sorted(numbered)]


def read_manifest(folder: Path, without: Collection[str] = ()) -> list[Sidecar]:
    """Every sidecar of a store, in the order of their numbers; a shard that is still being written has none yet.

    `without`: shards ("shard-0007") that are not looked at. Raises StoreError where a sidecar is damaged.
    """
    return [_kept_sidecar(path, *_stamp(path)) for path in sidecar_files(folder) if path.stem not in without]


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}).") from error
    return status.st_ino, status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4096)
def _kept_sidecar(path: Path, _inode: int, _changed_ns: int, _size: int) -> Sidecar:
    """A sidecar, read once: whoever writes many shards looks through the manifest before each."""
    return read_sidecar(path)
