"""Synthetic HR images of prepared LR ones: many images' zero-shot work in one fleet, and what the store keeps of each.

Shapes: C channels, H W rows and columns.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.cameras import (
    Camera,
    Cameras,
    CaseDegradations,
    GroupEstimate,
    degradations_png,
    encode_degradations,
    group_images,
    read_degradations,
)
from zssr_gan.data.prepared import Prepared, PreparedImage
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.split import Role, Split
from zssr_gan.data.store import first_difference, read_settings
from zssr_gan.degradation.estimate import read_estimate
from zssr_gan.degradation.estimator import EstimationSettings, Evidence, estimate_degradation, jpeg_of
from zssr_gan.degradation.model import Jpeg, KernelBlur, degradation_of
from zssr_gan.devices import Machine
from zssr_gan.errors import DeviceError, ImageError, SettingsError, StoreError, ZssrGanError, is_out_of_memory
from zssr_gan.files import write_together
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.imaging.picture import Metadata, Picture, quantise, to_samples
from zssr_gan.imaging.resize import Scale
from zssr_gan.imaging.tiles import copied_middle_of
from zssr_gan.progress import Bar
from zssr_gan.provenance import CaseImage, finite_json, is_ours
from zssr_gan.settings.data import DataSettings
from zssr_gan.settings.run import RunSettings
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset, parse_settings
from zssr_gan.signals import uninterrupted
from zssr_gan.zeroshot.scheduler import Tick, Work, run_fleet
from zssr_gan.zeroshot.shared import LARGEST_SIDE, SharedStart, learn_shared, middle, read_shared, step_of, write_shared
from zssr_gan.zeroshot.steps import SMALLEST_SIDE
from zssr_gan.zeroshot.upscale import SuperResolved, super_resolving

SYNTHESISED: tuple[Role, ...] = ("zssr", "table1")
"""Roles whose synthetic HR images are made."""


def zero_shot_settings(settings: RunSettings) -> ZeroShotSettings:
    """What the run's images are made with."""
    if settings.synth.init_from is not None:
        # What a network was learnt with is what it is used with, whatever the preset says.
        kept = Path(settings.synth.init_from).expanduser()
        return parse_settings(read_shared(kept).facts.settings, str(kept))
    chosen = load_preset(settings.synth.preset)
    if settings.synth.noise is not None:
        chosen = chosen.with_noise(settings.synth.noise, "synth.noise")
    if settings.synth.degradation_from != "bicubic" and chosen.has_noise:
        raise SettingsError(
            f"synth.preset: {settings.synth.preset} has a training noise of its own, and noise is part of the "
            "degradation: set it to 0 there, or synth.degradation to bicubic."
        )
    if settings.synth.init == "shared":
        return chosen.for_case()
    return chosen.model_copy(update={"shared": None})  # it has no part in the result


@dataclass(frozen=True, slots=True)
class Failed:
    """An image that could not be made, and why, in one sentence."""

    id: str
    why: str


@dataclass(frozen=True)
class Synthesiser:
    """Makes synthetic HR images.

    Args:
        images: the LR images.
        settings: zero-shot settings; those for a case where there is a shared start.
        scale: (y, x).
        seed: the run's.
        machine: what it runs on.
        shared: the network learnt on the case, else each image has its own.
        cameras: how each LR image came out of an HR one.
    """

    images: Prepared
    settings: ZeroShotSettings
    scale: Scale
    seed: int
    machine: Machine
    shared: SharedStart | None = None
    cameras: Cameras = field(default_factory=Cameras)

    def run(
        self,
        numbers: Iterable[int],
        capacity: int,
        *,
        on_tick: Callable[[Tick], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> Iterator[StoredImage | Failed]:
        """Make the images of these numbers, taken one by one as places in the fleet become free.

        Args:
            numbers: places in `images`.
            capacity: networks in training side by side.
            on_tick, on_notice: see `run_fleet`.
        """
        works = ((number, self._work(number, capacity)) for number in numbers)
        for ended in run_fleet(works, capacity, on_tick=on_tick, on_notice=on_notice):
            if ended.error is not None:
                yield Failed(self.images.member(ended.key).id, str(ended.error))
            else:
                assert ended.result is not None
                yield ended.result

    def _work(self, number: int, capacity: int) -> Work[StoredImage]:
        image = self.images.read(number)
        height, width = image.pixels.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            name = self.images.member(number).id
            raise ImageError(f"{name}: is {width}x{height} pixels; zero-shot learning needs {SMALLEST_SIDE} a side.")
        camera = self.cameras.of(self.images, number)
        lr_CHW = image.pixels.to(self.machine.device)
        settings = self.settings if self.shared is not None else self.settings.for_size(lr_CHW[0].numel())
        try:
            done = yield from super_resolving(
                lr_CHW,
                self.scale,
                settings,
                camera.downscale,
                seed=self.seed,
                precision=self.machine.precision,
                tile=self.machine.tile,
                shared=self.shared,
            )
        except ZssrGanError as error:
            raise type(error)(f"{self.images.member(number).id}: {error}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            name = self.images.member(number).id
            raise DeviceError(f"{name}: the device has too little memory to apply its networks.") from error
        return self._stored(number, image, camera, done, capacity)

    def _stored(
        self, number: int, image: PreparedImage, camera: Camera, done: SuperResolved, capacity: int
    ) -> StoredImage:
        member = self.images.member(number)
        result = _eight_bits(done.image_CHW)
        again = camera.downscale(result.pixels[None], (image.pixels.shape[-2], image.pixels.shape[-1]))[0]
        error = float((again - image.pixels).square().mean())
        trainings = [step for step in done.steps if "iterations" in step]
        figures: dict[str, Any] = {
            # Of others there is the shared network, and the degradation, where that was estimated from more than this.
            "label": "internal" if self.shared is None and camera.learnt_from <= {member.sha256} else "case",
            "role": member.role,
            "source": member.source,
            "source_sha256": member.sha256,
            "degradation": {"group": camera.group, "sha256": camera.sha256},
            "seeds": [seed for step in trainings for seed in step["seeds"]],
            "iterations": sum(sum(step["iterations"]) for step in trainings),
            # A shared network's loss is the case's, not this image's.
            "loss": trainings[-1]["last_loss"][0] if any(trainings[-1]["iterations"]) else None,
            "restarts": sum(sum(step["restarts"]) for step in trainings),
            "residual_db": round(psnr_db(error), 3),
            "choice": done.choice,
            "notices": [*image.notices, *done.notices],
            "device": str(self.machine.device),
            "precision": self.machine.precision,
            "threads": self.machine.threads,
            "fleet": capacity if any(any(step["iterations"]) for step in trainings) else None,
            "torch": torch.__version__,
        }
        kept = finite_json(figures)
        assert isinstance(kept, dict)
        return StoredImage(member.id, _samples(_eight_bits(image.pixels)), _samples(result), kept)


def _eight_bits(pixels: Tensor) -> Picture:
    return quantise(Picture(pixels.detach().cpu(), None, 8, Metadata()))


def _samples(picture: Picture) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return to_samples(picture).astype(np.uint8, copy=False)


# The LR images that a run learns from: of the training part, read once for the degradation and the shared start.


LEARNT_FROM: tuple[Role, ...] = ("zssr", "generator")
"""Roles that are learnt from: the training part. The test part teaches nobody."""

_BLOCK = 16  # pixels of JPEG's blocks where colour is halved: a cut between them keeps them whole


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """An LR image to learn from."""

    number: int
    """Its place among those with a role that is learnt from."""
    image: CaseImage
    pixels: Tensor
    """`C H W`, [0, 1]: what a shared start learns from."""
    blocks: Tensor
    """The same, cut between the blocks of its file's compression."""
    jpeg: Jpeg | None
    """How its file was compressed, where the pixels are the file's own."""


class Teachers:
    """The images with a role that is learnt from.

    Args:
        split: which image has which role.
        settings: where they lie.
    """

    def __init__(self, split: Split, settings: DataSettings) -> None:
        self.images = Prepared(split, settings, LEARNT_FROM)
        self.failures: list[str] = []
        """What could not be read, a line each."""
        self._read: list[Teacher] | None = None

    def read(self, bar: Bar) -> list[Teacher]:
        """All that can be learnt from; from the second call on those that the first one read."""
        if self._read is None:
            self._read = []
            for number in range(len(self.images)):
                bar.update("reading", number + 1, len(self.images))
                try:
                    self._read.append(self._one(number))
                except ImageError as error:
                    self.failures.append(f"{self.images.member(number).id}: was not learnt from ({error})")
        return self._read

    def _one(self, number: int) -> Teacher:
        member = self.images.member(number)
        image = self.images.read(number)
        jpeg = None if image.file is None else jpeg_of(image.file)
        named = CaseImage(name=member.id, sha256=member.sha256)
        return Teacher(number, named, middle(image.pixels), copied_middle_of(image.pixels, LARGEST_SIDE, _BLOCK), jpeg)


# The degradations of a run: estimated once from the training part's LR images, kept in its folder, found again.


def case_degradations(settings: RunSettings, teachers: Teachers, path: Path, bar: Bar) -> CaseDegradations | None:
    """The run's degradations, None where it assumes bicubic: from a file, from `path` as kept, or estimated.

    Args:
        settings: the run's.
        teachers: what is estimated from.
        path: degradation.json of an earlier start of the run, if there was one. Nothing is written here.
        bar: how far it is.

    Raises:
        SettingsError: the file that is named holds no degradation, or one for another scale; or a user's own file lies
            at `path`.
        ImageError: no image can be estimated from.
    """
    if settings.synth.degradation_from == "bicubic":
        return None
    kept = _kept(settings, path)
    if settings.synth.degradation_from == "file":
        given = Path(settings.synth.degradation).expanduser()
        estimate = read_estimate(given)
        blur, scale = estimate.degradation.blur, settings.synth.scale
        if isinstance(blur, KernelBlur) and blur.scale != (scale, scale):
            raise SettingsError(
                f"{given}: its kernel holds for a scale of {blur.scale[0]} x {blur.scale[1]} alone (y, x), and "
                f"synth.scale is {scale:g}."
            )
        bar.note(f"degradation of all images: {estimate.summary}, from {given}")
        named = GroupEstimate(group=given.stem, estimate=estimate)
        return CaseDegradations(seed=None, size=settings.data.size, groups=(named,))
    groups, notices = group_images(teachers.images)
    if not groups:
        raise ImageError("there is no image to estimate the degradation from: no image of the training part has a role")
    if kept is not None and _is_of(kept, settings, teachers, groups):
        for one in kept.groups:
            bar.note(f"degradation of {one.group}: {one.estimate.summary}, as kept in {path}")
        return kept
    for notice in notices:
        bar.note(notice)
    return _estimated(settings, teachers, groups, bar)


def keep_degradations(degradations: CaseDegradations, path: Path) -> None:
    """Write degradation.json, and degradation.png beside it, where they do not hold these already."""
    picture = path.with_suffix(".png")
    content = encode_degradations(degradations)
    if picture.exists() and path.exists() and path.read_bytes() == content:
        return
    contents = {picture: degradations_png(degradations), path: content}
    with uninterrupted():
        write_together(contents, replaceable=list(contents))


def _kept(settings: RunSettings, path: Path) -> CaseDegradations | None:
    """What an earlier start of the run kept. Anything else there is a user's, who may have no second copy of it."""
    given = Path(settings.synth.degradation).expanduser()
    if settings.synth.degradation_from == "file" and given.exists() and path.exists() and given.samefile(path):
        raise SettingsError(
            f"synth.degradation: {given} lies where the run keeps its own estimates, and would be replaced: move it "
            "away, and name it by synth.degradation there."
        )
    way_out = "move it away (an estimate can be named by synth.degradation there)."
    picture = path.with_suffix(".png")
    if picture.exists() and not is_ours(picture):
        raise SettingsError(f"{picture}: lies where the run draws its estimates, and is no such picture: {way_out}")
    if not path.exists():
        return None
    try:
        return read_degradations(path)
    except SettingsError as error:
        why = str(error).removeprefix(f"{path}: ").removesuffix(".")
        raise SettingsError(
            f"{path}: lies where the run keeps its own estimates, and cannot be taken for them ({why}): {way_out}"
        ) from error


def _is_of(kept: CaseDegradations, settings: RunSettings, teachers: Teachers, groups: dict[str, list[int]]) -> bool:
    """Whether it was estimated from these images, as they are prepared now, with these settings and this seed."""
    if (kept.seed, kept.size) != (settings.seed, settings.data.size):
        return False
    members = {group: [teachers.images.member(number) for number in groups[group]] for group in groups}
    wanted = {
        group: sorted(member.sha256 for member in its if member.id not in kept.left_out)
        for group, its in members.items()
    }
    found = {one.group: sorted(image.sha256 for image in one.estimate.images) for one in kept.groups}
    constants = EstimationSettings().model_dump(mode="json")
    # A group of which nothing could be read has no estimate.
    return found == {group: images for group, images in wanted.items() if images} and all(
        one.estimate.settings == constants for one in kept.groups
    )


def _estimated(settings: RunSettings, teachers: Teachers, groups: dict[str, list[int]], bar: Bar) -> CaseDegradations:
    by_number = {teacher.number: teacher for teacher in teachers.read(bar)}
    found = []
    for place, (group, numbers) in enumerate(groups.items(), 1):
        its = [by_number[number] for number in numbers if number in by_number]
        if not its:
            continue
        began = time.perf_counter()

        def tell(what: str, done: int, most: int, group: str = group, place: int = place) -> None:
            bar.update(f"degradation of {group}: {what}", done, most, f"group {place} of {len(groups)}")

        evidence = [Evidence(teacher.image, teacher.blocks, teacher.jpeg) for teacher in its]
        estimate = estimate_degradation(evidence, EstimationSettings(), seed=settings.seed, on_estimate=tell)
        found.append(GroupEstimate(group=group, estimate=estimate))
        seconds = time.perf_counter() - began
        bar.note(f"degradation of {group}: {estimate.summary}, from {len(its):,} images in {seconds:.0f} s")
        bar.note(f"degradation of {group}: {estimate.why}")
    if not found:
        raise ImageError("none of the images can be estimated from: they are broken or too small")
    members = (teachers.images.member(number) for numbers in groups.values() for number in numbers)
    read = {teacher.image.name for teacher in by_number.values()}
    left_out = tuple(sorted(member.id for member in members if member.id not in read))
    return CaseDegradations(seed=settings.seed, size=settings.data.size, left_out=left_out, groups=tuple(found))


# The shared start of a run: learnt once on the training part's LR images, kept in the store's folder, found again.


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

    def tell(iteration: int, total: int, loss: float) -> None:
        bar.update("shared start", iteration, total, f"loss {loss:.4f}")

    start = learn_shared(images, zero_shot, scale, downscales, seed=settings.seed, machine=used, on_learning=tell)
    _refuse_to_replace(start, store)
    with uninterrupted():
        write_shared(start, path)
    bar.note(f"shared start: learnt on {len(images):,} images in {time.perf_counter() - began:.0f} s, kept as {path}")
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
