"""A run's folder as the stages before left it: images by role, synthetic HR images, generators."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from torch import Tensor

from zssr_gan.data.cameras import Cameras
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role, Split, read_split
from zssr_gan.data.synthesis import SYNTHESISED
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.degradation.operators import BicubicDownscale, Downscale
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.evaluation.metrics.perceptual import reason
from zssr_gan.networks.registry import parameters
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.run import RunSettings
from zssr_gan.training.model_card import TrainedGenerator, load_generator

GENERATOR = Path("train") / "generator.safetensors"

CONTENT = Path("train") / "content" / "generator.safetensors"
"""The generator as it was before the adversarial phase."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """LR images, `C H W` in [0, 1], and what is known of each."""

    ids: tuple[str, ...]
    lr: tuple[Tensor, ...]
    downscales: tuple[Downscale, ...]
    """That methods assume, of each image."""
    truths: tuple[Tensor, ...] | None = None
    cameras: tuple[Downscale, ...] = (BicubicDownscale(),)
    """That results are shrunk by to be compared with their LR images."""
    camera_of: tuple[int, ...] = ()
    """Of each image, its place among `cameras`; empty: the first."""
    done: str = ""
    """What their camera did, where that was drawn, for a person."""
    estimated: str = ""
    """What it is estimated to have done; empty: nothing was estimated."""

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, begin: int, end: int) -> Self:
        """Some of the images, without their truths and cameras."""
        return type(self)(self.ids[begin:end], self.lr[begin:end], self.downscales[begin:end])

    def as_bicubic(self) -> Self:
        """The same images, assumed to be shrunk by bicubic."""
        return replace(self, downscales=(BicubicDownscale(),) * len(self))


def bicubic_images(ids: tuple[str, ...], lr: tuple[Tensor, ...], truths: tuple[Tensor, ...]) -> Images:
    """LR images that bicubic made of their truths."""
    return Images(ids, lr, (BicubicDownscale(),) * len(ids), truths)


def joined_images(groups: Sequence[Images]) -> Images:
    """The images of several groups with a camera and truths each."""
    return Images(
        ids=tuple(one for group in groups for one in group.ids),
        lr=tuple(one for group in groups for one in group.lr),
        downscales=tuple(one for group in groups for one in group.downscales),
        truths=tuple(one for group in groups for one in group.truths or ()),
        cameras=tuple(group.cameras[0] for group in groups),
        camera_of=tuple(place for place, group in enumerate(groups) for _ in group.ids),
    )


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
        return Cameras.of_run(self.folder)

    @cached_property
    def generator(self) -> TrainedGenerator:
        """The run's."""
        return load_generator(self._made(str(GENERATOR), "train"))

    @property
    def trained(self) -> TrainedGenerator | None:
        """The run's generator, where it has one."""
        return self.generator if (self.folder / GENERATOR).exists() else None

    @cached_property
    def content(self) -> TrainedGenerator | None:
        """The generator as it was before the adversarial phase, where the training had two phases."""
        return load_generator(self.folder / CONTENT) if (self.folder / CONTENT).exists() else None

    @cached_property
    def others(self) -> dict[str, TrainedGenerator | str]:
        """Generators that `evaluate.truth.models` asks for, by their names in a table; a text: why one cannot be used.

        They enlarge by the run's scale, or by 1. Raises SettingsError: one that is named is not there, or does not.
        """
        wanted = () if self.settings.evaluate.truth is None else self.settings.evaluate.truth.models
        if wanted == "beside":
            own = self.folder / GENERATOR
            paths = [path for path in sorted(self.folder.parent.glob(f"*/{GENERATOR}")) if path != own]
        else:
            paths = [self._path_of(name) for name in wanted]
        found: dict[str, TrainedGenerator | str] = {}
        for path in paths:
            name = _name_of(path)
            try:
                generator = load_generator(path)
            except WeightsError as error:
                # With its path: two that cannot be read may have one name, and each gets its row.
                found[f"{name} ({path})"] = reason(error)
                continue
            scale = scale_of(generator)
            if scale in (self.scale[0], 1.0):
                weights = f"{parameters(generator) / 1e6:.2g} million weights, SHA-256 {generator.sha256[:8]}"
                found[f"{name} ({generator.card.name}, {weights})"] = generator
            elif wanted != "beside":
                table = f"the table is of x{self.scale[0]:g}"
                raise SettingsError(f"evaluate.truth.models: {name} enlarges by {scale:g}, and {table}.")
        return found

    def _path_of(self, name: str) -> Path:
        """The generator's file of a name: a path, or a run beside this one."""
        for path in (Path(name).expanduser(), self.folder.parent / name / GENERATOR):
            if path.is_file():
                return path
        beside = self.folder.parent
        raise SettingsError(f"evaluate.truth.models: {name} is neither a file nor a run with a generator in {beside}.")

    def _made(self, name: str, target: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise SettingsError(f"{path}: is not there; `make {target}` with the same CONFIG and SET makes it.")
        return path

    def order(self, ids: Sequence[str], purpose: str) -> list[str]:
        """Ids in an order that depends on the run's seed, purpose and id alone."""
        return sorted(ids, key=lambda name: (derive_seed(self.settings.seed, purpose, name), name))

    def images(self, role: Role, most: int | None) -> tuple[Images, str]:
        """At most so many images of a role, drawn by the seed, and their number for a title.

        Images of a role with synthetic HR that have none (`make synth` named those that failed) are left out.
        """
        every = Prepared(self.split, self.settings.data, (role,))
        known = every.ids
        if role in SYNTHESISED:
            with SyntheticSet(self._made("synthetic/settings.json", "synth").parent) as store:
                there = set(store.ids)
            known = tuple(name for name in known if name in there)
        ids = tuple(self.order(known, "evaluate")[:most])
        numbers = [every.index(name) for name in ids]
        downscales = tuple(self.cameras.of(every, number).downscale for number in numbers)
        cameras = tuple(self.cameras.downscales)
        places = tuple(map(cameras.index, downscales))
        drawn = len(ids) < len(every)
        count = f"{len(ids):,} of {len(every):,} images, drawn by the seed," if drawn else f"all {len(ids):,} images"
        return Images(ids, tuple(map(every.image, numbers)), downscales, None, cameras, places), count

    def synthetic(self, ids: Sequence[str]) -> tuple[Tensor, ...]:
        """The synthetic HR images of these ids. Raises StoreError where one is missing."""
        with SyntheticSet(self.folder / "synthetic") as store:
            return tuple(store.tensors(store.index(name))[1] for name in ids)


def scale_of(generator: TrainedGenerator) -> float:
    """The factor per side by which a generator enlarges."""
    assert generator.facts.scale is not None, "a generator enlarges"
    return float(generator.facts.scale[0])


def _name_of(path: Path) -> str:
    """The run of a generator's file, and its phase; a file elsewhere has its own name."""
    if path.parts[-2:] == GENERATOR.parts:
        return path.parents[1].name
    if path.parts[-3:] == CONTENT.parts:
        return f"{path.parents[2].name} before the discriminator"
    return path.stem
