"""A run's folder as the stages before left it: images by role, synthetic HR images, generators."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from zssr_gan.data.cameras import Cameras, read_degradations
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role, Split, read_split
from zssr_gan.data.synthesis import SYNTHESISED
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.degradation.operators import BicubicDownscale, Downscale
from zssr_gan.errors import SettingsError
from zssr_gan.imaging.picture import Metadata, from_samples
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.run import RunSettings
from zssr_gan.training.model_card import TrainedGenerator, load_generator


@dataclass(frozen=True, slots=True)
class Inputs:
    """LR images, and how each came out of a larger one."""

    images: tuple[Tensor, ...]
    downscales: tuple[Downscale, ...]

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def by_bicubic(cls, images: tuple[Tensor, ...]) -> "Inputs":
        """Images that were shrunk by bicubic, or are assumed to be."""
        return cls(images, (BicubicDownscale(),) * len(images))


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
    def count_text(self) -> str:
        """Number of images and of how many, for a title."""
        if len(self.ids) == self.total:
            return f"all {self.total:,} images"
        return f"{len(self.ids):,} of {self.total:,} images, drawn by the seed,"


class Run:
    """A run's folder. What a stage before should have made is looked for when it is asked for, and SettingsError says
    which stage is missing."""

    def __init__(self, settings: RunSettings, config: Path) -> None:
        self.settings, self.folder = settings, settings.folder(config)
        pairs = settings.train.pairs
        # What keeps the size is measured by what it makes of images that were shrunk and enlarged again.
        scale = settings.scale if pairs is None else float(pairs.reduction)
        self.scale = (scale, scale)

    @cached_property
    def split(self) -> Split:
        """Which image has which role."""
        return read_split(self._made("split.json", "prepare"))

    @cached_property
    def cameras(self) -> Cameras:
        """What took the images."""
        known = self.folder / "degradation.json"
        return Cameras(read_degradations(known) if known.exists() else None)

    @cached_property
    def downscales(self) -> list[Downscale]:
        """Of each of the cameras."""
        return list(self.cameras.downscales)

    @cached_property
    def generator(self) -> TrainedGenerator:
        """The run's."""
        return load_generator(self._made("train/generator.safetensors", "train"))

    @property
    def trained(self) -> TrainedGenerator | None:
        """The run's generator, where it has one."""
        return self.generator if (self.folder / "train" / "generator.safetensors").exists() else None

    @cached_property
    def content(self) -> TrainedGenerator | None:
        """The generator as it was before the discriminator came, where the training had two phases."""
        before = self.folder / "train" / "content" / "generator.safetensors"
        return load_generator(before) if before.exists() else None

    def _made(self, name: str, target: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise SettingsError(f"{path}: is not there; `make {target}` with the same CONFIG and SET makes it.")
        return path

    def order(self, ids: Sequence[str], purpose: str) -> list[str]:
        """Ids in the order of the run's seed, which depends on seed, purpose and id alone."""
        return sorted(ids, key=lambda name: (derive_seed(self.settings.seed, purpose, name), name))

    def chosen(self, role: Role, most: int | None) -> Chosen:
        """At most so many images of a role, drawn by the seed; of a role with synthetic HR, those that have one."""
        images = Prepared(self.split, self.settings.data, (role,))
        known = images.ids
        if role in SYNTHESISED:
            with SyntheticSet(self._made("synthetic/settings.json", "synth").parent) as store:
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


def scale_of(generator: TrainedGenerator) -> float:
    """The factor per side by which a generator enlarges."""
    assert generator.facts.scale is not None, "a generator enlarges"
    return float(generator.facts.scale[0])
