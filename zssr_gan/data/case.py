"""What the LR images of a run's training part teach together: the degradation of each camera, and one network for all.

Both are learnt once and kept in the run's folder, degradation.json (with a picture) and synthetic/shared.safetensors;
the same run finds them again.
"""

import time
from pathlib import Path

from zssr_gan.data.cameras import (
    Cameras,
    CaseDegradations,
    GroupEstimate,
    group_images,
    read_degradations,
)
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role, Split
from zssr_gan.data.store import SETTINGS, shard_files
from zssr_gan.degradation.estimate import given_estimate, read_estimate
from zssr_gan.degradation.model import Degradation, KernelBlur, Noise, degradation_of
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError, SettingsError, StoreError
from zssr_gan.progress import Bar
from zssr_gan.provenance import CaseImage, is_ours
from zssr_gan.settings.data import DataSettings
from zssr_gan.settings.run import RunSettings
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset, parse_settings
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr
from zssr_gan.zeroshot.shared import SharedModel, read_shared

LEARNT_FROM: tuple[Role, ...] = ("zssr", "generator")
"""Roles that are learnt from: the training part. Nothing is learnt from the test part."""


def zero_shot_settings(settings: RunSettings) -> ZeroShotSettings:
    """What the run's images are made with."""
    if settings.synth.init_from is not None:
        # What a network was learnt with is what it is used with, whatever the preset says.
        kept = Path(settings.synth.init_from).expanduser()
        return parse_settings(read_shared(kept).facts.settings, str(kept))
    chosen = load_preset(settings.synth.preset)
    if settings.synth.init == "shared":
        return chosen.for_case()
    return chosen.model_copy(update={"shared": None})  # it has no part in the result


class TrainingImages:
    """The LR images with a role that is learnt from. `failures`: a line for each that could not be read.

    Args:
        split: which image has which role.
        settings: where they lie.
    """

    def __init__(self, split: Split, settings: DataSettings) -> None:
        self.images = Prepared(split, settings, LEARNT_FROM)
        self.groups, self.notices = group_images(self.images)
        self.failures: list[str] = []
        self._read: dict[int, LRImage] | None = None

    def read(self, bar: Bar) -> dict[int, LRImage]:
        """All that can be read, by their places in `images`; read once."""
        if self._read is None:
            self._read = {}
            cameras = {number: group for group, numbers in self.groups.items() for number in numbers}
            for number in range(len(self.images)):
                bar.update("reading", number + 1, len(self.images))
                member = self.images.member(number)
                try:
                    image = self.images.read(number)
                except ImageError as error:
                    self.failures.append(f"{member.id}: was not learnt from ({error})")
                    continue
                named = CaseImage(name=member.id, sha256=member.sha256)
                self._read[number] = read_lr(named, image.pixels, image.file, camera=cameras[number])
        return self._read


def run_degradations(settings: RunSettings, training: TrainingImages, path: Path, bar: Bar) -> CaseDegradations | None:
    """The run's degradations, None where it assumes bicubic: from a file, from `path`, or estimated.

    Args:
        settings: the run's.
        training: what is estimated from.
        path: degradation.json of an earlier start of the run, if there was one. Nothing is written here.
        bar: progress.

    Raises:
        SettingsError: the file that is named holds no degradation, or one for another scale; or a user's own file lies
            at `path`.
        ImageError: no image can be estimated from.
    """
    synth, size = settings.synth, settings.data.size
    if synth.degradation_from == "bicubic":
        return None
    earlier = _earlier(settings, path)
    if synth.degradation_from == "noise":
        noise = given_estimate(Degradation(noise=Noise(sigma=synth.noise)), "the noise was given")
        return CaseDegradations(seed=None, size=size, groups=(GroupEstimate(group="all images", estimate=noise),))
    if synth.degradation_from == "file":
        given = Path(synth.degradation).expanduser()
        estimate = read_estimate(given)
        blur = estimate.degradation.blur
        if isinstance(blur, KernelBlur) and blur.scale != (synth.scale, synth.scale):
            raise SettingsError(
                f"{given}: its kernel holds for a scale of {blur.scale[0]} x {blur.scale[1]} alone (y, x), and "
                f"synth.scale is {synth.scale:g}."
            )
        bar.note(f"degradation of all images: {estimate.summary}, from {given}")
        return CaseDegradations(seed=None, size=size, groups=(GroupEstimate(group=given.stem, estimate=estimate),))
    if not training.groups:
        raise ImageError("there is no image to estimate the degradation from: no image of the training part has a role")
    if earlier is not None and _is_of(earlier, settings, training):
        for one in earlier.groups:
            bar.note(f"degradation of {one.group}: {one.estimate.summary}, as kept in {path}")
        return earlier
    for notice in training.notices:
        bar.note(notice)
    images, began = training.read(bar), time.perf_counter()
    if not images:
        raise ImageError("none of the images can be estimated from: they are broken or too small")
    estimates = learn_case(list(images.values()), seed=settings.seed, on_progress=bar.step).estimates
    seconds = time.perf_counter() - began
    for group, estimate in estimates.items():
        bar.note(f"degradation of {group}: {estimate.summary}, from {len(estimate.images):,} images in {seconds:.0f} s")
        bar.note(f"degradation of {group}: {estimate.why}")
    found = tuple(GroupEstimate(group=group, estimate=estimates[group]) for group in sorted(estimates))
    left_out = tuple(sorted(name for n, name in enumerate(training.images.ids) if n not in images))
    return CaseDegradations(seed=settings.seed, size=size, left_out=left_out, groups=found)


def _earlier(settings: RunSettings, path: Path) -> CaseDegradations | None:
    """What an earlier start of the run wrote. Anything else there is a user's, who may have no second copy of it."""
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
        raise SettingsError(
            f"{path}: lies where the run keeps its own estimates, and cannot be taken for them: {way_out} ({error})"
        ) from error


def _is_of(earlier: CaseDegradations, settings: RunSettings, training: TrainingImages) -> bool:
    """Whether it was estimated from these images, as they are prepared now, with these settings and this seed."""
    wanted = {}
    for group, numbers in training.groups.items():
        members = [training.images.member(number) for number in numbers]
        wanted[group] = sorted(member.sha256 for member in members if member.id not in earlier.left_out)
    found = {one.group: sorted(image.sha256 for image in one.estimate.images) for one in earlier.groups}
    constants = EstimationSettings().model_dump(mode="json")
    return (
        (earlier.seed, earlier.size) == (settings.seed, settings.data.size)
        # A group of which nothing could be read has no estimate.
        and found == {group: images for group, images in wanted.items() if images}
        and all(one.estimate.settings == constants for one in earlier.groups)
    )


def run_shared(
    settings: RunSettings,
    zero_shot: ZeroShotSettings,
    training: TrainingImages,
    cameras: Cameras,
    path: Path,
    machine: Machine,
    bar: Bar,
) -> SharedModel:
    """The run's shared network: the one that the settings name, else the run's own at `path`, else learnt.

    Nothing is written.

    Raises:
        SettingsError: the network that is given was learnt for other degradations.
        StoreError: another network lies at `path`.
        ImageError: no image can be learnt from.
    """
    there = read_shared(path) if path.exists() else None
    if settings.synth.init_from is not None:
        bar.note(f"{settings.synth.init_from}: brings its own settings; synth.preset is not used")
        given = Path(settings.synth.init_from).expanduser()
        network = read_shared(given)
        strange = [name for name in map(degradation_of, cameras.downscales) if name not in network.facts.learnt_for]
        if strange:
            raise SettingsError(
                f"{given}: was learnt for the degradation {', '.join(network.facts.learnt_for)}, and "
                f"synth.degradation gives {strange[0]}: take the degradation that it was learnt for, or leave "
                "init_from out."
            )
    elif there is not None and ((path.parent / SETTINGS).exists() or shard_files(path.parent)):
        return there  # the store knows its hash
    else:
        images, began = training.read(bar), time.perf_counter()
        learnt = learn_case(
            list(images.values()),
            seed=settings.seed,
            degradations=[cameras.of(training.images, number).downscale for number in images],
            settings=zero_shot,
            scale=(settings.synth.scale, settings.synth.scale),
            machine=machine,
            on_progress=bar.step,
        ).shared
        assert learnt is not None
        network, seconds = learnt, time.perf_counter() - began
        bar.note(f"shared model: learnt on {len(images):,} images in {seconds:.0f} s, kept as {path}")
    if there is not None and there.sha256 != network.sha256:
        raise StoreError(f"{path}: is another shared model than this run's; choose another folder (run_dir).")
    return network
