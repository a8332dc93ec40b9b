"""What the LR images of a run's training part teach together: the degradation of each camera, and one network for all.

Both are learnt once and written into the run's folder, as degradation.json (with a picture) and
synthetic/shared.safetensors; a restarted run reads them from there.
"""

import time
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from pydantic import JsonValue

from zssr_gan.data.cameras import (
    Cameras,
    CaseDegradations,
    GroupEstimate,
    group_images,
    read_degradations,
    write_degradations,
)
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role, Split
from zssr_gan.data.store import SETTINGS, refuse_other_settings, shard_files
from zssr_gan.degradation.estimate import given_estimate, read_estimate
from zssr_gan.degradation.model import Degradation, KernelBlur, Noise, degradation_of
from zssr_gan.degradation.recurrence import EstimationSettings
from zssr_gan.devices import Machine
from zssr_gan.errors import ImageError, SettingsError, StoreError
from zssr_gan.files import sha256_file
from zssr_gan.progress import Bar
from zssr_gan.provenance import CaseImage, is_ours
from zssr_gan.settings.run import RunSettings
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset, parse_settings
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr
from zssr_gan.zeroshot.shared import SharedModel, read_shared, write_shared

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


class RunCase:
    """The training part of a run, and what is learnt from it.

    Args:
        settings: of the run.
        split: which image has which role.
        folder: of the run.
        machine: what the shared network is learnt on.
        bar: progress.
    """

    def __init__(self, settings: RunSettings, split: Split, folder: Path, machine: Machine, bar: Bar) -> None:
        self.settings, self.machine, self.bar = settings, machine, bar
        self.store, self.degradation_file = folder / "synthetic", folder / "degradation.json"
        self.split_file = folder / "split.json"
        self.zero_shot = zero_shot_settings(settings)
        self.images = Prepared(split, settings.data, LEARNT_FROM)
        self.groups, self.notices = group_images(self.images)
        self.failures: list[str] = []
        """A line for each image that could not be read."""

    @cached_property
    def readable(self) -> dict[int, LRImage]:
        """All images that can be read, by their places in `images`."""
        found = {}
        cameras = {number: group for group, numbers in self.groups.items() for number in numbers}
        for number in range(len(self.images)):
            self.bar.update("reading", number + 1, len(self.images))
            member = self.images.member(number)
            try:
                image = self.images.read(number)
            except ImageError as error:
                self.failures.append(f"{member.id}: was not learnt from ({error})")
            else:
                named = CaseImage(name=member.id, sha256=member.sha256)
                picture = image.picture
                found[number] = read_lr(named, picture.pixels, image.file, camera=cameras[number], picture=picture)
        return found

    def learn(self) -> dict[str, JsonValue]:
        """Learn what the run needs and does not have yet, and write it into its folder.

        Returns:
            All that the run's synthetic images depend on, for its store.

        Raises:
            SettingsError: a given file holds no degradation or one for another scale, or a given network was learnt for
                others; a user's own file lies where the run keeps its estimates.
            StoreError: the run's store was made with other settings, or another shared model.
            ImageError: no image can be learnt from.
        """
        synth = self.settings.synth
        facts: dict[str, JsonValue] = {
            "split_sha256": sha256_file(self.split_file),
            "seed": self.settings.seed,
            "scale": synth.scale,
            "init": synth.init,
            "shared_sha256": None,
            "size": self.settings.data.size,
            "zero_shot": self.zero_shot.model_dump(mode="json"),
        }
        if synth.degradation_from != "bicubic":
            facts["degradation"] = synth.degradation_from
        # Before anything is estimated or learnt for a store that would refuse it.
        refuse_other_settings(self.store, facts, ignore=("shared_sha256", "degradations"))
        degradations = None
        if synth.degradation_from != "bicubic":
            degradations = self._degradations()
            facts["degradations"] = {**degradations.hashes}
            refuse_other_settings(self.store, facts, ignore=("shared_sha256",))
            write_degradations(degradations, self.degradation_file)
        if synth.init == "shared":
            path = self.store / "shared.safetensors"
            network = self._shared(Cameras(degradations), path)
            facts["shared_sha256"] = network.sha256
            try:
                refuse_other_settings(self.store, facts)
            except StoreError as error:
                raise StoreError(
                    f"{self.store}: its images were made with a shared model that is gone, and this is another one "
                    "(learnt elsewhere, or again on another machine, with other threads, images or versions): put "
                    "shared.safetensors back, or choose another folder (run_dir)."
                ) from error
            if not path.exists():
                write_shared(network, path)
        return facts

    def _degradations(self) -> CaseDegradations:
        """From a file or a number that the settings give, from an earlier start of the run, or estimated."""
        size, path = self.settings.data.size, self.degradation_file
        earlier = self._earlier()
        if self.settings.synth.degradation_from != "estimate":
            return CaseDegradations(seed=None, size=size, groups=(self._given(),))
        if not self.groups:
            raise ImageError(
                "there is no image to estimate the degradation from: no image of the training part has a role"
            )
        if earlier is not None and self._is_of_these_images(earlier):
            for one in earlier.groups:
                self.bar.note(f"degradation of {one.group}: {one.estimate.summary}, as kept in {path}")
            return earlier
        for notice in self.notices:
            self.bar.note(notice)
        images, began = self.readable, time.perf_counter()
        if not images:
            raise ImageError("none of the images can be estimated from: they are broken or too small")
        estimates = learn_case(list(images.values()), seed=self.settings.seed, on_progress=self.bar.step).estimates
        seconds = time.perf_counter() - began
        for group, estimate in estimates.items():
            found = f"{estimate.summary}, from {len(estimate.images):,} images in {seconds:.0f} s"
            self.bar.note(f"degradation of {group}: {found}")
            self.bar.note(f"degradation of {group}: {estimate.reasons}")
        return CaseDegradations(
            seed=self.settings.seed,
            size=size,
            left_out=tuple(sorted(name for number, name in enumerate(self.images.ids) if number not in images)),
            groups=tuple(GroupEstimate(group=group, estimate=estimates[group]) for group in sorted(estimates)),
        )

    def _given(self) -> GroupEstimate:
        """What the settings say of all images."""
        synth = self.settings.synth
        if synth.degradation_from == "noise":
            noise = Degradation(noise=Noise(sigma=synth.noise))
            return GroupEstimate(group="all images", estimate=given_estimate(noise, "the noise was given"))
        path = Path(synth.degradation).expanduser()
        estimate = read_estimate(path)
        blur = estimate.degradation.blur
        if isinstance(blur, KernelBlur) and blur.scale != (synth.scale, synth.scale):
            raise SettingsError(
                f"{path}: its kernel holds for a scale of {blur.scale[0]} x {blur.scale[1]} alone (y, x), and "
                f"synth.scale is {synth.scale:g}."
            )
        self.bar.note(f"degradation of all images: {estimate.summary}, from {path}")
        return GroupEstimate(group=path.stem, estimate=estimate)

    def _earlier(self) -> CaseDegradations | None:
        """What an earlier start of the run wrote. Anything else there is a user's, perhaps their only copy."""
        path, picture = self.degradation_file, self.degradation_file.with_suffix(".png")
        given = Path(self.settings.synth.degradation).expanduser()
        if self.settings.synth.degradation_from == "file" and given.exists() and path.exists() and given.samefile(path):
            raise SettingsError(
                f"synth.degradation: {given} lies where the run keeps its own estimates, and would be replaced: move "
                "it away, and name it by synth.degradation there."
            )
        way_out = "move it away (an estimate can be named by synth.degradation there)."
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

    def _is_of_these_images(self, earlier: CaseDegradations) -> bool:
        """Whether it was estimated from these images, as they are prepared now, with these settings and this seed."""
        wanted = {}
        for group, numbers in self.groups.items():
            members = [self.images.member(number) for number in numbers]
            wanted[group] = sorted(member.sha256 for member in members if member.id not in earlier.left_out)
        found = {one.group: sorted(image.sha256 for image in one.estimate.images) for one in earlier.groups}
        constants = asdict(EstimationSettings())
        return (
            (earlier.seed, earlier.size) == (self.settings.seed, self.settings.data.size)
            # A group of which nothing could be read has no estimate.
            and found == {group: images for group, images in wanted.items() if images}
            and all(one.estimate.settings == constants for one in earlier.groups)
        )

    def _shared(self, cameras: Cameras, path: Path) -> SharedModel:
        """The shared network that the settings name, else the run's own at `path`, else a new one."""
        synth = self.settings.synth
        there = read_shared(path) if path.exists() else None
        if synth.init_from is not None:
            self.bar.note(f"{synth.init_from}: brings its own settings; synth.preset is not used")
            given = Path(synth.init_from).expanduser()
            network = read_shared(given)
            strange = [name for name in map(degradation_of, cameras.downscales) if name not in network.facts.learnt_for]
            if strange:
                raise SettingsError(
                    f"{given}: was learnt for the degradation {', '.join(network.facts.learnt_for)}, and "
                    f"synth.degradation gives {strange[0]}: take the degradation that it was learnt for, or leave "
                    "init_from out."
                )
        elif there is not None and ((self.store / SETTINGS).exists() or shard_files(self.store)):
            return there  # the store knows its hash
        else:
            images, began = self.readable, time.perf_counter()
            learnt = learn_case(
                list(images.values()),
                seed=self.settings.seed,
                degradations=[cameras.of(self.images, number).downscale for number in images],
                settings=self.zero_shot,
                scale=(synth.scale, synth.scale),
                machine=self.machine,
                on_progress=self.bar.step,
            ).shared
            assert learnt is not None
            network, seconds = learnt, time.perf_counter() - began
            self.bar.note(f"shared model: learnt on {len(images):,} images in {seconds:.0f} s, written to {path}")
        if there is not None and there.sha256 != network.sha256:
            raise StoreError(f"{path}: is another shared model than this run's; choose another folder (run_dir).")
        return network
