"""The writer's side of a store: immutable shards in a folder, which no kill costs an image, and no image is in twice.

    synthetic/settings.json      what every image was made with, and the hash of it
    synthetic/shard-0000.h5      images (see shard.py for how they lie)
    synthetic/shard-0000.json    its sidecar, written last; the manifest is the union of these
    synthetic/.lock              locked by the one run that writes

A shard is written whole, flushed, renamed, and only then gets its sidecar in the same way. So at any moment a kill
leaves whole shards, and at most one without a sidecar, which the next start removes. Work is what has no sidecar yet.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import JsonValue

from zssr_gan.data.check import Damage, OnShard, find_damage
from zssr_gan.data.manifest import (
    SETTINGS,
    StoreSettings,
    first_difference,
    read_manifest,
    read_settings,
    shard_files,
    sidecar_files,
)
from zssr_gan.data.shard import (
    StoredImage,
    encode_shard,
    open_shard,
    read_sidecar,
    shard_number,
    shard_path,
    sidecar_path,
)
from zssr_gan.errors import OutputError, StoreError
from zssr_gan.files import FileLock, atomic_write, is_leftover, sha256_bytes
from zssr_gan.interrupts import uninterrupted

_LOCK: Final = ".lock"
_NAMING_LOCK: Final = ".naming-lock"


class Store:
    """The right to write into a store, held by one process of a run (rank 0) from entering to leaving the context.

    On entering, what an earlier run left unfinished is removed, and so are damaged images, so that they are made again;
    what is sound in their shards moves to new ones. `dropped` says which, and has to be shown to the user.

    Args:
        folder: made where it is missing; other files in it are left alone.
        settings: all that the images depend on, as a JSON object; they must be those of the images already there.
        drop_damaged: without it, a damaged shard is an error instead.
        hashes: whether to read all shards and check their hashes (about a second for 14,000 pairs of 32 and 64 px from
            cache); without it damage is found by sizes and sidecars only.
        on_shard: called while shards are checked, with how many are done, and of how many.

    Raises, on entering:
        StoreError: another run writes there; other settings, the first that differs named with both values; shards
            that are not ours; damage, without `drop_damaged`.
        OutputError: the disk refuses to be written, or has no locks.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, JsonValue],
        *,
        drop_damaged: bool = True,
        hashes: bool = True,
        on_shard: OnShard | None = None,
    ) -> None:
        self.folder = folder
        self.settings = StoreSettings.of(settings)
        self.dropped: tuple[Damage, ...] = ()
        self._drop_damaged, self._hashes, self._on_shard = drop_damaged, hashes, on_shard
        self._lock = FileLock(folder / _LOCK)

    def __enter__(self) -> Self:
        if not self._lock.acquire(wait=False):
            raise StoreError(
                f"{self.folder}: another run is writing there; wait until it ends, stop it, or choose another folder."
            )
        try:
            self._settle_settings()
            self._remove_unfinished()
            self._settle_damage()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def settings_sha256(self) -> str:
        """The hash of the settings, which `write_shard` asks for."""
        return self.settings.settings_sha256

    @property
    def done(self) -> set[str]:
        """Ids of the images that are kept, those that other processes wrote meanwhile included."""
        return {image.id for sidecar in read_manifest(self.folder) for image in sidecar.images}

    @property
    def next_number(self) -> int:
        """A shard number above all that are taken."""
        return 1 + max((shard_number(path) or 0 for path in shard_files(self.folder)), default=-1)

    def write(self, images: Sequence[StoredImage]) -> Path:
        """Write the next shard; see `write_shard`."""
        return write_shard(self.folder, self.next_number, images, self.settings_sha256)

    def _settle_settings(self) -> None:
        path = self.folder / SETTINGS
        try:
            kept = read_settings(self.folder)
        except StoreError:
            # Killed before it was written, or damaged: the shards know what they were made with.
            if shard_files(self.folder) and self.settings_sha256 not in _settings_of_shards(self.folder):
                raise
            atomic_write(path, self.settings.to_json(), overwrite=True)
            return
        if kept.settings_sha256 != self.settings_sha256:
            refuse_other_settings(self.folder, self.settings.settings)

    def _remove_unfinished(self) -> None:
        finished = {path.stem for path in sidecar_files(self.folder)}
        halves = [path for path in shard_files(self.folder) if path.stem not in finished]
        _remove([*(path for path in self.folder.iterdir() if is_leftover(path)), *halves])

    def _settle_damage(self) -> None:
        found = find_damage(self.folder, self.settings_sha256, hashes=self._hashes, on_shard=self._on_shard)
        if found and not self._drop_damaged:
            more = f" (and {len(found) - 1} more shards)" if len(found) > 1 else ""
            raise StoreError(
                f"{self.folder / found[0].shard}: is damaged{more}: {found[0].reason}; `zssr-gan store check` names "
                "all images that are lost."
            )
        damaged = {damage.shard for damage in found}
        there = {image.id for sidecar in read_manifest(self.folder, damaged) for image in sidecar.images}
        for damage in found:
            # A kill in between leaves the old shard, which is found again, and what it has lies in the new one already.
            sound = [image for image in _sound_images(self.folder, damage) if image.id not in there]
            with uninterrupted():
                if sound:
                    write_shard(self.folder, self.next_number, sound, self.settings_sha256, instead_of=damaged)
                    there |= {image.id for image in sound}
                # The sidecar goes first: without it the rest is not part of the store any more.
                _remove([self.folder / f"{damage.shard}.json", self.folder / f"{damage.shard}.h5"])
        self.dropped = tuple(found)


def refuse_other_settings(folder: Path, settings: Mapping[str, JsonValue], *, but: Collection[str] = ()) -> None:
    """Raise StoreError, naming the first difference, where a store was made with others; `but` are keys left out."""
    try:
        kept = dict(read_settings(folder).settings)
    except StoreError:
        return  # nothing was made yet
    wanted = dict(settings)
    for key in but:
        kept.pop(key, None)
        wanted.pop(key, None)
    for one in (kept, wanted):
        one.setdefault("degradation", "bicubic")  # which is not written down, so that earlier stores go on
    if (different := first_difference(kept, wanted)) is None:
        return
    key, was, now = different
    raise StoreError(
        f"{folder}: its images were made with {key} = {_short(was)}, and {_short(now)} is asked for now; "
        "choose another folder (run_dir), or take the old value to go on here."
    )


def write_shard(
    folder: Path,
    number: int,
    images: Sequence[StoredImage],
    settings_sha256: str,
    *,
    instead_of: Collection[str] = (),
) -> Path:
    """Write one shard and then its sidecar; any process of a run may, while one of them holds the `Store`.

    Args:
        folder: of the store.
        number: not taken yet; who writes which is settled by the run.
        images: at least one, none of which the store holds.
        settings_sha256: of the settings that the images were made with.
        instead_of: shards ("shard-0007") that are removed afterwards, and whose images may be among these.

    Returns:
        The path of the HDF5 file.

    Raises:
        StoreError: an image that is there already, or that a store does not hold; other settings than the store's.
        OutputError: the disk refuses (full, no permission), or the number is taken. Nothing of the shard is left then.
    """
    settings = read_settings(folder)
    if settings.settings_sha256 != settings_sha256:
        raise StoreError(f"{folder}: the store has other settings than these images; choose another folder.")
    path, sidecar_file = shard_path(folder, number), sidecar_path(folder, number)
    _refuse_known(folder, images, instead_of)
    content, sidecar = encode_shard(number, images, settings.settings, settings_sha256)
    atomic_write(path, content)
    try:
        # Two processes that were given the same image by mistake meet here, and only the first gets its sidecar.
        with FileLock(folder / _NAMING_LOCK):
            _refuse_known(folder, images, instead_of)
            atomic_write(sidecar_file, sidecar.to_json())
    except BaseException:
        if not sidecar_file.exists():  # an interrupt may come just after it was written
            path.unlink(missing_ok=True)
        raise
    return path


def _refuse_known(folder: Path, images: Sequence[StoredImage], but: Collection[str]) -> None:
    wanted = {image.id for image in images}
    for sidecar in read_manifest(folder, but):
        for image in sidecar.images:
            if image.id in wanted:
                raise StoreError(f"{image.id}: is in shard {sidecar.number} of {folder} already, and is kept once.")


def _sound_images(folder: Path, damage: Damage) -> list[StoredImage]:
    """The images of a damaged shard whose pixels are still those that were hashed; none where the file is not read."""
    sidecar_file = folder / f"{damage.shard}.json"
    try:
        sidecar = read_sidecar(sidecar_file)
        if set(damage.ids) >= {image.id for image in sidecar.images}:
            return []
        with open_shard(sidecar_file.with_suffix(".h5")) as shard:
            figures = dict(zip(shard["id"].asstr()[:], shard["figures"].asstr()[:], strict=True))
            sound = []
            for image in sidecar.images:
                lr, sr = shard["lr"][image.lr.place], shard["sr"][image.sr.place]
                hashes = (sha256_bytes(lr.tobytes()), sha256_bytes(sr.tobytes()))
                if image.id not in damage.ids and hashes == (image.lr.sha256, image.sr.sha256):
                    shapes = lr.reshape(image.lr.shape), sr.reshape(image.sr.shape)
                    sound.append(StoredImage(image.id, *shapes, json.loads(figures[image.id])))
            return sound
    except (StoreError, OSError, KeyError, ValueError, RuntimeError):
        return []


def _settings_of_shards(folder: Path) -> set[str]:
    hashes = set()
    for path in sidecar_files(folder):
        try:
            hashes.add(read_sidecar(path).settings_sha256)
        except StoreError:
            continue
    return hashes


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: is left over and cannot be removed ({error.strerror}).") from error


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
