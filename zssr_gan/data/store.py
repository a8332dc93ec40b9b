"""The writer's side of a store: immutable shards in a folder, which no kill costs an image, and no image is in twice.

    synthetic/settings.json      what every image was made with, and the hash of it
    synthetic/shard-0000.h5      images (see shard.py for how they lie)
    synthetic/shard-0000.json    its sidecar, written last; the manifest is the union of these
    synthetic/.lock              locked by the one run that writes

A shard is written whole, flushed, renamed, and only then gets its sidecar in the same way. So at any moment a kill
leaves whole shards, and at most one without a sidecar, which the next start removes. Work is what has no sidecar yet.
"""

import dataclasses
import errno
import json
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from zssr_gan.data.shard import (
    SETTINGS,
    Plane,
    Sidecar,
    StoredImage,
    StoreSettings,
    encode_shard,
    first_difference,
    open_shard,
    read_manifest,
    read_settings,
    read_sidecar,
    role_of,
    shard_files,
    shard_number,
    shard_path,
    sidecar_files,
    sidecar_path,
)
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import OutputError, StoreError
from zssr_gan.files import atomic_write, is_leftover, locked, sha256_bytes, sha256_file
from zssr_gan.signals import uninterrupted

# Is a store what its sidecars say? Every damaged shard is named, with the images that are lost with it.


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
        self._left = ExitStack()

    def __enter__(self) -> Self:
        held = f"{self.folder}: another run is writing there; wait until it ends, stop it, or choose another folder."
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder / _LOCK, StoreError(held)))
            self._settle_settings()
            self._remove_unfinished()
            self._settle_damage()
            self._left = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.close()

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
        with locked(folder / _NAMING_LOCK):
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


# A store at a glance: how many images of which roles, sizes and labels, and what their figures are on average.


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure over all images that have it as a finite number."""

    images: int
    mean: float
    median: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What `zssr-gan store info` shows; counts are of images, the most frequent first."""

    folder: str
    images: int
    shards: int
    size_bytes: int
    """On the disk: shards, sidecars and settings."""
    settings_sha256: str
    versions: dict[str, int]
    labels: dict[str, int]
    roles: dict[str, int]
    sizes: dict[str, int]
    """As in "32x32 to 64x64, RGB": width before height, LR to HR."""
    choices: dict[str, int]
    """What was chosen for an image, where its figures name a "choice"."""
    figures: dict[str, Figure]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return dataclasses.asdict(self)


def summarise(folder: Path) -> Summary:
    """Read every image's figures, not its pixels. Raises StoreError where there is no store or it is damaged."""
    with SyntheticSet(folder, allow_empty=True) as store:
        # Shard after shard rather than by id, so that each file is opened once.
        figures = [store.figures(number) for number in store.by_shard()]
        numbers: dict[str, list[float]] = {}
        for one in figures:
            for name, value in _numbers(one):
                numbers.setdefault(name, []).append(value)
        every = range(len(store))
        return Summary(
            folder=str(folder),
            images=len(store),
            shards=store.shards,
            size_bytes=sum(path.stat().st_size for path in [folder / SETTINGS, *shard_files(folder)]),
            settings_sha256=store.settings.settings_sha256,
            versions=_counted(store.version(number) for number in every),
            labels=_counted(str(one.get("label")) for one in figures),
            roles=_counted(role or "none" for role in store.roles),
            sizes=_counted(_size(*store.sizes(number)) for number in every),
            choices=_counted(made_by for one in figures if (made_by := _made_by(one)) is not None),
            figures={
                name: Figure(len(values), statistics.fmean(values), statistics.median(values))
                for name, values in numbers.items()
            },
        )


def _numbers(figures: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Figures that have a mean, dotted where they are nested; seeds are numbers that have none."""
    for key, value in figures.items():
        if "seed" in key:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield prefix + key, float(value)


def _made_by(figures: Mapping[str, JsonValue]) -> str | None:
    """What an image's pixels are of, by the network's share of them."""
    choice = figures.get("choice")
    if isinstance(choice, str):
        return choice
    share = choice.get("share") if isinstance(choice, Mapping) else None
    return None if share is None else {0.0: "back-projection", 1.0: "network"}.get(float(str(share)), "both")


def _counted(values: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _size(lr: tuple[int, int, int], sr: tuple[int, int, int]) -> str:
    return f"{lr[1]}x{lr[0]} to {sr[1]}x{sr[0]}, {'gray' if sr[2] == 1 else 'RGB'}"
