"""What a run has to be evaluated: its images by role, its synthetic HR images, its generators, its truths."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipelines.evaluated_methods import Inputs
from pipelines.synth import SYNTHESISED
from zssr_gan.data.cameras import Cameras, read_degradations
from zssr_gan.data.opening import open_sources
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role, read_split
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.evaluation.planes import rounded
from zssr_gan.imaging.codecs import Metadata
from zssr_gan.imaging.picture import from_samples
from zssr_gan.imaging.resampling import BicubicDownscale, resize
from zssr_gan.stages import DataSettings, RunSettings
from zssr_gan.training.card import TrainedGenerator, load_generator
from zssr_gan.zeroshot.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Chosen:
    """Images of a role: their ids, places in `Prepared`, and LR pixels."""

    ids: tuple[str, ...]
    numbers: tuple[int, ...]
    inputs: Inputs
    cameras: tuple[int, ...]
    """Places among the run's downscales."""
    total: int
    """That the role has."""

    @property
    def told(self) -> str:
        """How many of how many, for a title."""
        if len(self.ids) == self.total:
            return f"all {self.total:,} images"
        return f"{len(self.ids):,} of {self.total:,} images, drawn by the seed,"


@dataclass(frozen=True, slots=True)
class Truths:
    """Truths, and what halving made of them."""

    ids: tuple[str, ...]
    images: tuple[Tensor, ...]
    inputs: Inputs
    notices: tuple[str, ...]


class Run:
    """A run's folder.

    Raises:
        SettingsError: a stage before has not been run.
    """

    def __init__(self, settings: RunSettings, config: Path) -> None:
        self.settings, self.folder = settings, settings.folder(config)
        for path, target in (
            (self.folder / "split.json", "prepare"),
            (self.folder / "synthetic" / "settings.json", "synth"),
            (self.folder / "train" / "generator.safetensors", "train"),
        ):
            if not path.exists():
                raise SettingsError(f"{path}: is not there; `make {target}` with the same CONFIG and SET makes it.")
        self.split = read_split(self.folder / "split.json")
        known = self.folder / "degradation.json"
        self.cameras = Cameras(read_degradations(known) if known.exists() else None)
        self.downscales = list(self.cameras.downscales)
        self.scale = (settings.synth.scale, settings.synth.scale)
        self.generator = load_generator(self.folder / "train" / "generator.safetensors")
        before = self.folder / "train" / "content" / "generator.safetensors"
        self.content: TrainedGenerator | None = load_generator(before) if before.exists() else None

    def order(self, ids: Sequence[str], purpose: str) -> list[str]:
        """Ids in the order of the run's seed, which hangs on nothing but seed, purpose and id."""
        return sorted(ids, key=lambda name: (derive_seed(self.settings.seed, purpose, name), name))

    def chosen(self, role: Role, most: int | None) -> Chosen:
        """At most so many images of a role, drawn by the seed; of a role with synthetic HR, those that have one."""
        images = Prepared(self.split, self.settings.data, (role,))
        known = images.ids
        if role in SYNTHESISED:
            with SyntheticSet(self.folder / "synthetic") as store:
                there = set(store.ids)
            known = tuple(name for name in known if name in there)  # `make synth` named those that failed
        ids = self.order(known, "evaluate")[:most]
        numbers = tuple(images.index(name) for name in ids)
        downscales = tuple(self.cameras.of(images, number).downscale for number in numbers)
        pixels = tuple(images.image(number) for number in numbers)
        places = tuple(self.downscales.index(downscale) for downscale in downscales)
        return Chosen(tuple(ids), numbers, Inputs(pixels, downscales), places, len(images))

    def synthetic(self, ids: Sequence[str]) -> tuple[Tensor, ...]:
        """The synthetic HR images of these ids. Raises StoreError where one is missing."""
        with SyntheticSet(self.folder / "synthetic") as store:
            return tuple(from_samples(store.pixels(store.index(name))[1], Metadata()).pixels.clone() for name in ids)

    def truths(self) -> Truths:
        """The images of `evaluate.truth`, made small; none whose bytes the generator was trained on.

        Raises:
            SettingsError: no such set, no image is left, or a side that the scale does not divide.
        """
        wanted = self.settings.evaluate.truth
        if wanted is None:
            raise SettingsError("evaluate.truth: is not set, so that no truth is known: name a folder, {root: faces}.")
        scale = self.settings.synth.scale
        small = round(wanted.side / scale)
        if small * scale != wanted.side:
            raise SettingsError(f"evaluate.truth.side: is {wanted.side}, which synth.scale {scale:g} does not divide.")
        (source,) = open_sources(DataSettings(sources=(wanted,)))
        taught = {member.sha256 for member in self.split.entries if member.part == "train"}
        ids: list[str] = []
        images: list[Tensor] = []
        known = failed = 0
        for path in self.order([entry.path for entry in source.listing().entries], "truth"):
            if wanted.count is not None and len(ids) == wanted.count:
                break
            try:
                content = source.read(path)
            except ImageError:
                failed += 1
                continue
            if content.sha256 in taught:
                known += 1
                continue
            ids.append(f"{wanted.label}/{path}")
            images.append(rounded(resize(content.picture.pixels, (wanted.side, wanted.side))).float())
        if not images:
            raise SettingsError(
                f"evaluate.truth: {wanted.root or wanted.label} has no image that can be read and is not in the "
                "training part of split.json: name another folder."
            )
        if len({len(image) for image in images}) > 1:  # one network is learnt on all
            images = [image.expand(3, -1, -1) for image in images]
        lr = tuple(rounded(resize(image, (small, small))) for image in images)
        notices = []
        if known:
            notices.append(f"{known:,} images are in the training part of split.json and are left out as truths")
        if failed:
            notices.append(f"{failed:,} images could not be read and are left out as truths")
        return Truths(tuple(ids), tuple(images), Inputs(lr, (BicubicDownscale(),) * len(lr)), tuple(notices))


def device_name(device: torch.device) -> str:
    """What a table calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
