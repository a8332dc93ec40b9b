"""Is a store what its sidecars say? Every damaged shard is named, with the images that are lost with it."""

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zssr_gan.data.manifest import SETTINGS, read_settings, sidecar_files
from zssr_gan.data.shard import Plane, Sidecar, open_shard, read_sidecar, role_of, shard_number
from zssr_gan.errors import StoreError
from zssr_gan.files import sha256_bytes, sha256_file

OnShard = Callable[[int, int], None]
"""Called with how many shards are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with one shard."""

    shard: str
    """Name without ending, as in "shard-0007"; or "settings.json"."""
    ids: tuple[str, ...]
    """The images that are damaged; all of the shard's where the damage is not in the pixels."""
    reason: str

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {"shard": self.shard, "ids": list(self.ids), "reason": self.reason}


def check(folder: Path, on_shard: OnShard | None = None) -> list[Damage]:
    """Compare every byte of a store with its hashes, and every sidecar with its file; only reads.

    Returns:
        What is damaged, empty where all is well. A shard without a sidecar is no damage: it was not finished, and the
        next run removes it.

    Raises:
        StoreError: no store, or a file that may not be read.
    """
    found: list[Damage] = []
    settings_sha256 = None
    try:
        settings_sha256 = read_settings(folder).settings_sha256
    except StoreError as error:
        if not folder.is_dir() or not sidecar_files(folder):
            raise
        found.append(Damage(SETTINGS, (), str(error)))
    return found + find_damage(folder, settings_sha256, hashes=True, on_shard=on_shard)


def find_damage(
    folder: Path, settings_sha256: str | None, *, hashes: bool, on_shard: OnShard | None = None
) -> list[Damage]:
    """Look at every shard: with `hashes` at every byte, without at sidecars and sizes, which takes milliseconds.

    `settings_sha256`: what the shards were to be made with; None where that is not known. Raises StoreError where a
    file may not be read: that is no damage, and nothing may be removed for it.
    """
    found: list[Damage] = []
    owners: dict[str, str] = {}
    paths = sidecar_files(folder)
    for done, path in enumerate(paths):
        if on_shard is not None:
            on_shard(done, len(paths))
        damage = _inspect(path, settings_sha256, owners, hashes=hashes)
        found += [damage] if damage is not None else []
    if on_shard is not None:
        on_shard(len(paths), len(paths))
    return found


def _inspect(path: Path, settings_sha256: str | None, owners: dict[str, str], *, hashes: bool) -> Damage | None:
    """One shard, by the path of its sidecar; `owners` are the ids of the sound shards before it, and takes its own."""
    file = path.with_suffix(".h5")
    for part in (path, file):
        _refuse_unreadable(part)
    try:
        sidecar = read_sidecar(path)
    except StoreError as error:
        return Damage(path.stem, _ids_inside(file), str(error))
    ids = tuple(image.id for image in sidecar.images)
    twice = tuple(name for name in ids if name in owners)
    if not file.exists():
        return Damage(path.stem, ids, "its HDF5 file is missing")
    if (size := file.stat().st_size) != sidecar.size_bytes:
        return Damage(path.stem, ids, f"its HDF5 file has {size} bytes instead of {sidecar.size_bytes}")
    if sidecar.number != shard_number(path) or settings_sha256 not in (None, sidecar.settings_sha256):
        return Damage(path.stem, ids, "its sidecar is of another shard or of other settings")
    if twice:
        return Damage(path.stem, twice, f"holds images that {owners[twice[0]]} holds already")
    damage = _compare(file, sidecar) if hashes else None
    if damage is None:
        owners.update(dict.fromkeys(ids, path.stem))
    return damage


def _refuse_unreadable(path: Path) -> None:
    """A file that exists but may not be read says nothing of its bytes; a bad sector does."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EIO):
            raise StoreError(f"{path}: cannot be read ({error.strerror}).") from error


def _compare(file: Path, sidecar: Sidecar) -> Damage | None:
    """Every byte and every image of a shard against its sidecar."""
    ids = tuple(image.id for image in sidecar.images)
    try:
        whole = sha256_file(file) == sidecar.sha256
        with open_shard(file) as shard:
            tables = _tables_agree(shard, sidecar)
            # Whole: one image at a time takes HDF5 five times as long. A shard was in memory once already.
            lr, sr = shard["lr"][:], shard["sr"][:]
            lost = tuple(
                image.id
                for image in sidecar.images
                if not (_pixels_agree(lr, image.lr) and _pixels_agree(sr, image.sr))
            )
    except Exception as error:  # of damaged bytes HDF5 makes any error that it likes
        return Damage(file.stem, ids, f"its HDF5 file cannot be read ({error})")
    if lost and tables:
        return Damage(file.stem, lost, "the pixels of these images are not those that were written")
    if lost or not tables or not whole:
        # With a sound file it is the sidecar that is wrong, its ids perhaps as well.
        return Damage(file.stem, _ids_inside(file) if whole else ids, "its HDF5 file and its sidecar do not agree")
    return None


def _tables_agree(shard: Any, sidecar: Sidecar) -> bool:
    """Whether file and sidecar say the same of which images lie where, and how they were made."""
    figures = [json.loads(text) for text in shard["figures"].asstr()[:]]
    return (
        shard.attrs["version"] == sidecar.version
        and shard.attrs["settings_sha256"] == sidecar.settings_sha256
        and list(shard["id"].asstr()[:]) == [image.id for image in sidecar.images]
        and [role_of(one) for one in figures] == [image.role for image in sidecar.images]
        and all(
            shard[f"{name}_offset"][:].tolist() == [plane.offset for plane in planes]
            and shard[f"{name}_shape"][:].tolist() == [list(plane.shape) for plane in planes]
            for name, planes in (
                ("lr", [image.lr for image in sidecar.images]),
                ("sr", [image.sr for image in sidecar.images]),
            )
        )
    )


def _pixels_agree(flat: NDArray[np.uint8], plane: Plane) -> bool:
    return sha256_bytes(flat[plane.place].tobytes()) == plane.sha256


def _ids_inside(file: Path) -> tuple[str, ...]:
    """The ids that a shard itself names; nothing where it cannot be read either."""
    try:
        with open_shard(file) as shard:
            return tuple(shard["id"].asstr()[:])
    except Exception:  # as in _compare
        return ()
