"""The shared start of a run: learnt once on the training part's LR images, kept in the store's folder, found again."""

import time
from pathlib import Path

from pydantic import JsonValue

from pipelines.progress import Bar
from pipelines.teachers import Teachers
from zssr_gan.config import ZeroShotSettings
from zssr_gan.data.cameras import Cameras
from zssr_gan.data.manifest import first_difference, read_settings
from zssr_gan.data.prepared import Prepared
from zssr_gan.devices import Machine
from zssr_gan.errors import SettingsError, StoreError
from zssr_gan.interrupts import uninterrupted
from zssr_gan.stages import RunSettings
from zssr_gan.zeroshot.shared import SharedStart, degradation_of, learn_shared, read_shared, step_of, write_shared


def shared_start(
    settings: RunSettings,
    zero_shot: ZeroShotSettings,
    teachers: Teachers,
    cameras: Cameras,
    store: Path,
    used: Machine,
    bar: Bar,
) -> SharedStart:
    """The run's shared start, which lies in `store` as shared.safetensors afterwards.

    Raises:
        SettingsError: the start that is given was learnt for other degradations.
        StoreError: one of other settings or images is there.
        ImageError: no image can be learnt from.
    """
    path = store / "shared.safetensors"
    if settings.synth.init_from is not None:
        bar.note(f"{settings.synth.init_from}: brings its own settings; synth.preset is not used")
        return _copied(Path(settings.synth.init_from).expanduser(), path, cameras)
    if path.exists():
        kept = read_shared(path)
        _refuse_another(kept, settings, zero_shot, teachers.images, cameras, path)
        return kept
    its = teachers.read(bar)
    images = [(teacher.image, teacher.pixels) for teacher in its]
    downscales = [cameras.of(teachers.images, teacher.number).downscale for teacher in its]
    scale = (settings.synth.scale, settings.synth.scale)
    began = time.perf_counter()

    def tell(what: str, iteration: int, total: int, loss: float) -> None:
        name = "shared start" if what == "learning" else "its rehearsal"
        bar.update(name, iteration, total, f"loss {loss:.4f}")

    start = learn_shared(images, zero_shot, scale, downscales, seed=settings.seed, machine=used, on_learning=tell)
    _refuse_to_replace(start, store)
    with uninterrupted():
        write_shared(start, path)
    bar.note(f"shared start: learnt on {len(images):,} images in {time.perf_counter() - began:.0f} s, kept as {path}")
    if zero_shot.shared is not None and zero_shot.shared.adaptation.iterations:
        bar.note(f"adaptation: {start.facts.adaptation['why']}")
    return start


def _copied(given: Path, path: Path, cameras: Cameras) -> SharedStart:
    """A start from elsewhere, copied to the store, so that the run holds all that its images were made with."""
    start = read_shared(given)
    strange = [name for name in map(degradation_of, cameras.downscales) if name not in start.facts.learnt_for]
    if strange:
        raise SettingsError(
            f"{given}: was learnt for the degradation {start.facts.degradation}, and synth.degradation gives "
            f"{strange[0]}: take the degradation that it was learnt for, or leave init_from out."
        )
    if not path.exists():
        _refuse_to_replace(start, path.parent)
        write_shared(start, path)
    elif read_shared(path).sha256 != start.sha256:
        raise StoreError(f"{path}: is another shared start than {given}; choose another folder (run_dir).")
    return start


def _refuse_another(
    kept: SharedStart,
    settings: RunSettings,
    zero_shot: ZeroShotSettings,
    teachers: Prepared,
    cameras: Cameras,
    path: Path,
) -> None:
    taught = {cameras.of(teachers, number).downscale for number in range(len(teachers))}
    scale = step_of((settings.synth.scale, settings.synth.scale), zero_shot, cameras.downscales[0])
    was: dict[str, JsonValue] = {
        "seed": kept.facts.seed,
        "scale": round(kept.facts.scale[0], 6),
        "degradation": list(kept.facts.learnt_for),
        "zero_shot": kept.facts.settings,
    }
    wanted: dict[str, JsonValue] = {
        "seed": settings.seed,
        "scale": round(scale[0], 6),
        "degradation": [*sorted(degradation_of(downscale) for downscale in taught)],
        "zero_shot": zero_shot.model_dump(mode="json"),
    }
    if (difference := first_difference(was, wanted)) is not None:
        key, old, new = difference
        raise StoreError(
            f"{path}: was learnt with {key} = {old}, and {new} is asked for now; choose another folder "
            "(run_dir), or take the old value to go on here."
        )
    known = {teachers.member(n).sha256 for n in range(len(teachers))}
    strange = [image.name for image in kept.facts.images if image.sha256 not in known]
    if strange:
        raise StoreError(
            f"{path}: was learnt on other images ({strange[0]} is not in the training part of split.json); choose "
            "another folder (run_dir)."
        )


def _refuse_to_replace(start: SharedStart, store: Path) -> None:
    """A lost start that was learnt again must be the one that the store's images were made with."""
    try:
        before = read_settings(store).settings.get("shared_sha256")
    except StoreError:
        return  # nothing was made yet
    if before != start.sha256:
        raise StoreError(
            f"{store}: its images were made with a shared start that is gone, and this is another one (learnt "
            "elsewhere, or again on another machine, with other threads, images or versions): put "
            "shared.safetensors back, or choose another folder (run_dir)."
        )
