"""One shard of a store: an HDF5 file of LR and synthetic HR images of any size, and the sidecar that vouches for it.

Any program that reads HDF5 reads a shard. The pixels lie one image after another in flat arrays; tables say where:

    lr, sr                  uint8, flat: all LR images, all synthetic HR images
    lr_offset, sr_offset    int64, n: where an image begins in them
    lr_shape, sr_shape      int64, n x 3: its rows, columns, channels (1 gray, 3 RGB)
    id                      UTF-8 text, n: "<name of the source>/<path in it>"
    figures                 UTF-8 text, n: a JSON object of what is known of the image (label, role, choice, ...)
    attributes              schema_version, version (of zssr-gan), settings (JSON), settings_sha256

So the first image of a shard with plain h5py, as an array of rows, columns, channels:

    import h5py
    with h5py.File("shard-0000.h5") as shard:
        start, shape = shard["sr_offset"][0], shard["sr_shape"][0]
        sr = shard["sr"][start : start + shape.prod()].reshape(shape)
        name = shard["id"].asstr()[0]

The sidecar repeats the tables and adds the SHA-256 of each image's pixels (bytes in the order rows, columns, channels),
of the file, and its size. Both are written once and never changed.
"""

import functools
import importlib.metadata
import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, ValidationError

from zssr_gan.errors import StoreError
from zssr_gan.files import canonical_sha256, sha256_bytes
from zssr_gan.provenance import LABELS, finite_json

SCHEMA_VERSION: Final = 1

STORAGE: Mapping[str, object] = {}
"""How the pixels lie in the file, as h5py's `create_dataset` takes it: contiguous. See benchmarks/README.md."""

_NAME = re.compile(r"shard-(\d{4,})\.(h5|json)")


@dataclass(frozen=True, slots=True, eq=False)
class StoredImage:
    """One image of a store. Arrays are `H W C` uint8, C = 1 gray or 3 RGB; `sr` is the synthetic HR image.

    `id`: "<name of the source>/<path in it>" with forward slashes, unique in the store. `figures`: a JSON object, with
    "label" (what the pixels were learnt from, see `zssr_gan.provenance.LABELS`) and, where it has one, "role".
    """

    id: str
    lr: NDArray[np.uint8]
    sr: NDArray[np.uint8]
    figures: dict[str, JsonValue]


class _Model(BaseModel):
    # Not strict about arrays: JSON has no tuples.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Plane(_Model):
    """Where an image lies in its flat array."""

    offset: int
    shape: tuple[int, int, int]
    sha256: str

    @property
    def place(self) -> slice:
        """The image's part of the flat array."""
        rows, columns, channels = self.shape
        return slice(self.offset, self.offset + rows * columns * channels)


def _refuse_unfit_id(name: str) -> str:
    """Ids are plain relative paths, so that those which differ are different files wherever they are written to."""
    path = PurePosixPath(name)
    plain = path.as_posix() == name and path.name and not path.is_absolute() and ".." not in path.parts
    if not plain or "\0" in name:
        raise ValueError("not a plain relative path with forward slashes")
    return name


class Entry(_Model):
    """One image of a shard, as its sidecar has it."""

    id: Annotated[str, AfterValidator(_refuse_unfit_id)]
    role: str | None
    lr: Plane
    sr: Plane


class Sidecar(_Model):
    """The sidecar of a shard: written last, so that a shard with one is whole."""

    schema_version: Literal[1] = SCHEMA_VERSION
    version: str
    number: int
    settings_sha256: str
    size_bytes: int
    sha256: str
    images: tuple[Entry, ...]

    def to_json(self) -> bytes:
        """JSON for people: a line an image."""
        content = self.model_dump(mode="json")
        lines = ",\n".join(f"  {json.dumps(image)}" for image in content.pop("images"))
        head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
        return f'{{\n{head},\n "images": [\n{lines}\n ]\n}}\n'.encode()


def shard_path(folder: Path, number: int) -> Path:
    """The HDF5 file of a shard."""
    return folder / f"shard-{number:04}.h5"


def sidecar_path(folder: Path, number: int) -> Path:
    """The sidecar of a shard."""
    return folder / f"shard-{number:04}.json"


def shard_number(path: Path) -> int | None:
    """The number of a shard's file or sidecar; None for other files."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else int(match[1])


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar. Raises StoreError where it is damaged or cannot be read."""
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise StoreError(
            f"{path}: the sidecar is damaged ({what}); `zssr-gan store check` says what is lost."
        ) from error


def encode_shard(
    number: int,
    images: Sequence[StoredImage],
    settings: Mapping[str, JsonValue],
    settings_sha256: str,
    *,
    storage: Mapping[str, object] = STORAGE,
) -> tuple[bytes, Sidecar]:
    """The bytes of a shard's HDF5 file, and its sidecar.

    Made in memory, where HDF5 cannot fail half-way as it does on a full disk. The same images give the same bytes.

    Args:
        number: of the shard.
        images: at least one, each id once.
        settings, settings_sha256: of the run.
        storage: how the pixels lie in the file; other values are for the benchmark.

    Raises:
        StoreError: an image that a store does not hold: not 8 bit, no gray or RGB, no label, no id, an id twice.
        ValueError: no image at all.
    """
    if not images:
        raise ValueError("a shard holds at least one image")
    _refuse_unfit(images)
    planes = {name: _planes([np.ascontiguousarray(getattr(image, name)) for image in images]) for name in ("lr", "sr")}
    version = importlib.metadata.version("zssr-gan")
    # The name is never on the disk, but HDF5 takes two open files of one name for one.
    with h5py.File(f"zssr-gan-{secrets.token_hex(8)}", "w", driver="core", backing_store=False) as file:
        file.attrs.update(
            schema_version=SCHEMA_VERSION,
            version=version,
            settings=json.dumps(settings, allow_nan=False),
            settings_sha256=settings_sha256,
        )
        for name, (flat, places) in planes.items():
            file.create_dataset(name, data=flat, **storage)
            file[f"{name}_offset"] = np.array([plane.offset for plane in places], np.int64)
            file[f"{name}_shape"] = np.array([plane.shape for plane in places], np.int64)
        text = h5py.string_dtype()
        file.create_dataset("id", data=[image.id for image in images], dtype=text)
        figures = [json.dumps(finite_json(dict(image.figures)), allow_nan=False) for image in images]
        file.create_dataset("figures", data=figures, dtype=text)
        file.flush()
        content: bytes = file.id.get_file_image()
    return content, Sidecar(
        version=version,
        number=number,
        settings_sha256=settings_sha256,
        size_bytes=len(content),
        sha256=sha256_bytes(content),
        images=tuple(
            Entry(id=image.id, role=role_of(image.figures), lr=lr, sr=sr)
            for image, lr, sr in zip(images, planes["lr"][1], planes["sr"][1], strict=True)
        ),
    )


def role_of(figures: Mapping[str, JsonValue]) -> str | None:
    """The role that the figures name, if they name one."""
    role = figures.get("role")
    return role if isinstance(role, str) else None


def open_shard(path: Path) -> Any:
    """A shard's HDF5 file for reading, which the caller closes. Raises StoreError where it cannot be opened."""
    try:
        # Shards never change, so HDF5's own locks protect nothing, and some network disks refuse them.
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened; `zssr-gan store check` says what is damaged ({error}).") from error


def _refuse_unfit(images: Sequence[StoredImage]) -> None:
    seen: set[str] = set()
    for image in images:
        try:
            _refuse_unfit_id(image.id).encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"the id {image.id!r} is not UTF-8: give the source file another name.") from error
        except ValueError as error:
            raise StoreError(f"the id {image.id!r} is {error}, as in 'lfw/000.png'.") from error
        if image.id in seen:
            raise StoreError(f"{image.id}: is twice in one shard.")
        seen.add(image.id)
        for name, array in (("LR", image.lr), ("HR", image.sr)):
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
                kind = f"{array.dtype} of shape {array.shape}"
                raise StoreError(f"{image.id}: its {name} image is {kind}; a store holds H W C uint8, gray or RGB.")
        if image.figures.get("label") not in LABELS:
            raise StoreError(f"{image.id}: its figures lack a label, which is one of {', '.join(LABELS)}.")


def _planes(arrays: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], list[Plane]]:
    """All pixels in one flat array, and where each image lies in it."""
    places, offset = [], 0
    for array in arrays:
        places.append(Plane(offset=offset, shape=array.shape, sha256=sha256_bytes(array.tobytes())))
        offset += array.size
    return np.concatenate([array.reshape(-1) for array in arrays]), places


# What a store holds: its settings file, and the union of its sidecars, which is the manifest.


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
