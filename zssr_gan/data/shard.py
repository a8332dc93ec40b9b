"""One shard of a store: an HDF5 file of LR and synthetic HR images of any size, and a JSON sidecar with its hashes.

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
of all figures, and of the file. Both are written once and never changed.
"""

import importlib.metadata
import io
import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, JsonValue

from zssr_gan.errors import StoreError
from zssr_gan.files import canonical_sha256, sha256_bytes
from zssr_gan.provenance import LABELS, FileModel, finite_json


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


class Plane(FileModel):
    """Where an image lies in its flat array."""

    offset: int
    shape: tuple[int, int, int]
    sha256: str


def _plain_id(name: str) -> str:
    """Ids are plain relative paths, so that those which differ are different files wherever they are written to."""
    path = PurePosixPath(name)
    plain = path.as_posix() == name and path.name and not path.is_absolute() and ".." not in path.parts
    if not plain or "\0" in name or name.encode(errors="replace").decode() != name:
        raise ValueError("no plain relative path in UTF-8 with forward slashes")
    return name


class SidecarImage(FileModel):
    """One image of a shard, as its sidecar has it."""

    id: Annotated[str, AfterValidator(_plain_id)]
    role: str | None
    lr: Plane
    sr: Plane


class Sidecar(FileModel):
    """The sidecar of a shard: written last, so that a shard with one is whole."""

    schema_version: Literal[1] = 1
    version: str
    number: int
    settings_sha256: str
    size_bytes: int
    sha256: str
    figures_sha256: str | None = None
    """Of all figures as they lie in the file; None in stores of earlier versions."""
    images: tuple[SidecarImage, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of its images."""
        return tuple(image.id for image in self.images)

    def to_json(self) -> bytes:
        """JSON for people: a line an image."""
        content = self.model_dump(mode="json")
        lines = ",\n".join(f"  {json.dumps(image)}" for image in content.pop("images"))
        head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
        return f'{{\n{head},\n "images": [\n{lines}\n ]\n}}\n'.encode()

    def differs_from(self, found: "Sidecar") -> str | None:
        """Where the HDF5 file that `found` describes is another than the one this was written for; None nowhere.

        Tables, figures and pixels count. Other bytes of the file do not: a program that opens it for writing sets flags
        in it. Stores of earlier versions have no hash of the figures: there the file's own is compared.
        """
        ignored = ("size_bytes", "sha256") if self.figures_sha256 else ("figures_sha256",)
        if found.model_copy(update={name: getattr(self, name) for name in ignored}) == self:
            return None
        images = [mine.id for its, mine in zip(found.images, self.images, strict=False) if its != mine]
        return f"{len(images)} images, {images[0]} first" if images else "its figures, settings or number"


def shard_path(folder: Path, number: int) -> Path:
    """The HDF5 file of a shard; its sidecar has the suffix `.json`."""
    return folder / f"shard-{number:04}.h5"


def shard_number(path: Path) -> int | None:
    """The number of a shard's file or sidecar; None for other files."""
    match = re.fullmatch(r"shard-(\d{4,})\.(h5|json)", path.name)
    return None if match is None else int(match[1])


def encode_shard(
    number: int, images: Sequence[StoredImage], settings: Mapping[str, JsonValue]
) -> tuple[bytes, Sidecar]:
    """The bytes of a shard's HDF5 file, and its sidecar.

    Made in memory, where HDF5 cannot fail half-way as it does on a full disk. The same images give the same bytes.

    Args:
        number: of the shard.
        images: at least one, each id once.
        settings: of the run, as plain JSON.

    Raises:
        StoreError: an image that a store does not hold: not 8 bit, no gray or RGB, no label, no id, an id twice.
        ValueError: no image at all.
    """
    if not images:
        raise ValueError("a shard holds at least one image")
    _refuse_unfit(images)
    figures = [json.dumps(finite_json(dict(image.figures)), allow_nan=False) for image in images]
    # The name is never on the disk, but HDF5 takes two open files of one name for one.
    with h5py.File(f"zssr-gan-{secrets.token_hex(8)}", "w", driver="core", backing_store=False) as file:
        file.attrs.update(
            schema_version=1,
            version=importlib.metadata.version("zssr-gan"),
            settings=json.dumps(settings, allow_nan=False),
            settings_sha256=canonical_sha256(settings),
        )
        for name in ("lr", "sr"):
            arrays = [getattr(image, name) for image in images]
            sizes = np.array([array.size for array in arrays], np.int64)
            # Contiguous; chunks and compression cost more than they save (benchmarks/store.md).
            file.create_dataset(name, data=np.concatenate([array.reshape(-1) for array in arrays]))
            file[f"{name}_offset"] = sizes.cumsum() - sizes
            file[f"{name}_shape"] = np.array([array.shape for array in arrays], np.int64)
        text = h5py.string_dtype()
        file.create_dataset("id", data=[image.id for image in images], dtype=text)
        file.create_dataset("figures", data=figures, dtype=text)
        file.flush()
        content: bytes = file.id.get_file_image()
    return content, describe_shard(content, number)


def describe_shard(content: bytes, number: int) -> Sidecar:
    """The sidecar of shard `number`, whose HDF5 file has these bytes. Of damaged bytes HDF5 makes any exception."""
    with h5py.File(io.BytesIO(content)) as file:
        figures = file["figures"].asstr()[:].tolist()
        roles = [json.loads(text).get("role") for text in figures]
        settings_sha256 = canonical_sha256(json.loads(file.attrs["settings"]))
        if settings_sha256 != file.attrs["settings_sha256"]:
            raise ValueError("its settings have another hash")
        planes = {}
        for name in ("lr", "sr"):
            flat = file[name][:]  # at once: one image at a time takes HDF5 five times as long
            places = zip(file[f"{name}_offset"][:].tolist(), file[f"{name}_shape"][:].tolist(), strict=True)
            planes[name] = [
                Plane(offset=at, shape=shape, sha256=sha256_bytes(flat[at : at + math.prod(shape)].tobytes()))
                for at, shape in places
            ]
        return Sidecar(
            version=file.attrs["version"],
            number=number,
            settings_sha256=settings_sha256,
            size_bytes=len(content),
            sha256=sha256_bytes(content),
            figures_sha256=canonical_sha256(figures),
            images=tuple(
                SidecarImage(id=name, role=role if isinstance(role, str) else None, lr=lr, sr=sr)
                for name, role, lr, sr in zip(file["id"].asstr()[:], roles, planes["lr"], planes["sr"], strict=True)
            ),
        )


def _refuse_unfit(images: Sequence[StoredImage]) -> None:
    seen: set[str] = set()
    for image in images:
        try:
            _plain_id(image.id)
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
