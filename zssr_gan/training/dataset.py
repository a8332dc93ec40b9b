"""What a training reads: the generator's LR images, the discriminator's synthetic HR images, those for validation.

These are held in memory on 8-bit levels: 14,000 pairs of 32 and 64 px in colour take some 0.2 GB. Or, in their place,
HR images with LR images that are made of them on the fly: these are read when they are needed (`pairs.PairedImages`).
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.cameras import Cameras
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.degradation.model import Degradation, DegradedDownscale
from zssr_gan.degradation.operators import Downscale, EnlargedDownscale
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import canonical_sha256
from zssr_gan.imaging.colour import from_levels, luma_of, to_levels
from zssr_gan.imaging.resize import Size
from zssr_gan.progress import OnCount
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.pairs import PairedImages
from zssr_gan.training.reading_ahead import ReadingAhead
from zssr_gan.training.sampling import Images, PatchSource


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Images by purpose.

    `inputs`: the generator's. `reals`: the discriminator's, with their LR images. `held_out`: with a synthetic HR, and
    in neither of these. `downscales`: of the cameras that images point to. `left_out`: ids that were too small.
    """

    inputs: PatchSource
    reals: PatchSource
    held_out: Images
    downscales: tuple[Downscale, ...]
    channels: int
    scale: int
    left_out: tuple[str, ...] = ()

    @property
    def by_purpose(self) -> dict[str, PatchSource]:
        """The three, by name; of pairs `reals` are the same images as `inputs`, and do not stand there again."""
        reals = {} if self.paired else {"reals": self.reals}
        return {"inputs": self.inputs, **reals, "held_out": self.held_out}

    @property
    def paired(self) -> bool:
        """Whether the HR images are truths, of which the LR images were made."""
        return isinstance(self.inputs, PairedImages)

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        """Of each of `downscales`."""
        inner = (one.downscale if isinstance(one, EnlargedDownscale) else one for one in self.downscales)
        return tuple(one.degradation if isinstance(one, DegradedDownscale) else Degradation() for one in inner)

    @property
    def facts(self) -> dict[str, JsonValue]:
        """Hashes of ids, pixels and cameras: whether two runs learn from the same."""
        cameras, named = [one.sha256 for one in self.degradations], self.by_purpose.items()
        return {
            "cameras": {name: canonical_sha256([cameras[n] for n in images.cameras]) for name, images in named},
            "images": {name: canonical_sha256(list(images.ids)) for name, images in named},
            "pixels": {name: images.pixels_sha256 for name, images in named},
        }


def read_unpaired(
    settings: TrainSettings,
    prepared: Prepared,
    store: SyntheticSet,
    cameras: Cameras,
    *,
    scale: int,
    seed: int,
    on_image: OnCount = lambda _done, _total: None,
) -> TrainingData:
    """Read LR images, with the roles `generator` and `zssr`, and the synthetic HR images that the latter have.

    `scale`: factor per side that the store should have. `seed` decides which images are set apart.

    Raises:
        SettingsError: too few images, other sizes than are needed, or a store of another scale.
        ImageError: an image cannot be read any more; StoreError: the store is damaged.
    """
    there = {name: n for n, name in enumerate(store.ids) if store.roles[n] == "zssr"}
    members = [prepared.member(n) for n in range(len(prepared))]
    places = [n for n, one in enumerate(members) if one.role == settings.images or one.id in there]
    downscales: dict[Downscale, int] = {}
    found: dict[str, tuple[Tensor, Tensor | None, int]] = {}
    left_out = []
    for done, place in enumerate(places):
        on_image(done, len(places))
        name, pixels = members[place].id, prepared.image(place)
        if settings.patch is not None and min(pixels.shape[-2:]) < settings.patch:
            left_out.append(name)
            continue
        camera = downscales.setdefault(cameras.of(prepared, place).downscale, len(downscales))
        sr = _synthetic(store, there[name], pixels, scale) if name in there else None
        found[name] = (to_levels(pixels), sr, camera)
    drawn, reals = _set_apart([n for n in found if n in there], settings, seed, "images with a synthetic HR", left_out)
    inputs = sorted(name for name in found if name not in there)
    if settings.images == "generator" and not inputs:
        raise SettingsError("train: no image of the role generator is left: set train.images to zssr.")
    _require_one_size(settings, ((lr.shape[-2], lr.shape[-1]) for lr, _, _ in found.values()))
    channels = max(len(lr) for lr, _, _ in found.values())

    def images(names: Sequence[str], *, hr: bool = True) -> Images:
        lrs, srs, its = zip(*(found[name] for name in names), strict=True)
        made = [tuple(of_channels(x, channels) for x in some) for some in (lrs, srs if hr else ())]
        return Images(tuple(names), made[0], made[1] if hr else None, its)

    with_hr, known = images(reals), tuple(downscales)
    own = with_hr if settings.images == "zssr" else images(inputs, hr=False)
    return TrainingData(own, with_hr, images(drawn), known, channels, scale, tuple(left_out))


def read_pairs(
    settings: TrainSettings,
    prepared: Prepared,
    *,
    seed: int,
    stack: ExitStack,
    on_image: OnCount = lambda _done, _total: None,
) -> TrainingData:
    """HR images of which LR images are made during the training; those for validation are read and made now.

    `prepared`: the HR images of the training part. `seed` decides which are set apart, and all draws. `stack` closes
    what is opened here.

    Raises:
        SettingsError: too few images, or of several sizes where whole ones are taken.
        ImageError: one for validation cannot be read any more.
    """
    pairs = settings.pairs
    assert pairs is not None
    by = pairs.reduction
    fewest = by if settings.patch is None else settings.patch * pairs.scale
    members = [prepared.member(n) for n in range(len(prepared))]
    sizes = {one.id: prepared.size(n) for n, one in enumerate(members)}
    places = {one.id: n for n, one in enumerate(members) if min(sizes[one.id]) // by * by >= fewest}
    left_out = [one.id for one in members if one.id not in places]
    what = "HR images of the training part (roles zssr and generator)"
    drawn, trained = _set_apart(places, settings, seed, what, left_out)
    _require_one_size(settings, (sizes[name] for name in places))
    whole = []
    for done, name in enumerate(drawn):
        on_image(done, len(drawn))
        whole.append(prepared.levels(places[name]))
    channels = pairs.channels or max(map(len, whole))

    def read(place: int) -> Tensor:
        levels = prepared.levels(places[trained[place]])
        if pairs.channels is None and len(levels) > channels:
            raise ImageError(
                f"{trained[place]}: has colours, and the images held out are gray: set train.pairs.channels to 3, or "
                "to 1 for luma alone."
            )
        return of_channels(levels, channels)

    sha256 = {name: members[places[name]].sha256 for name in trained}
    images = stack.enter_context(ReadingAhead(read, pairs.memory * 2**20))
    truths = PairedImages(sha256, [sizes[name] for name in trained], images, pairs, seed)
    made = [truths.held_out(name, of_channels(x, channels), seed) for name, x in zip(drawn, whole, strict=True)]
    lrs, hrs, cameras = zip(*made, strict=True)
    held_out = Images(tuple(drawn), lrs, hrs, cameras)
    return TrainingData(truths, truths, held_out, truths.downscales, channels, pairs.scale, tuple(left_out))


def of_channels(levels: Tensor, channels: int) -> Tensor:
    """Gray as colours, or the luma of colours; 8-bit levels `C H W`."""
    if len(levels) > channels:
        return to_levels(luma_of(from_levels(levels))[None])
    return levels.expand(channels, -1, -1)


def _set_apart(
    names: Collection[str], settings: TrainSettings, seed: int, what: str, left_out: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The images that are drawn for validation, and the others, sorted. Raises SettingsError where they are too few."""
    drawn = sorted(names, key=lambda name: derive_seed(seed, "validation", name))[: settings.validation.images]
    others = sorted(set(names) - set(drawn))
    if len(drawn) < 2 or not others:
        small = f" ({len(left_out)} are smaller than train.patch)" if left_out else ""
        raise SettingsError(
            f"train: there are {len(names)} {what}{small}, of which train.validation.images sets {len(drawn)} apart: "
            "at least 2 are needed there, and 1 beside them."
        )
    return drawn, others


def _require_one_size(settings: TrainSettings, sizes: Iterable[Size]) -> None:
    if settings.patch is None and len(set(sizes)) > 1:
        raise SettingsError("train.patch: is null, and the images are of several sizes: set it, such as to 16.")


def _synthetic(store: SyntheticSet, number: int, lr: Tensor, scale: int) -> Tensor:
    sr = torch.from_numpy(store.pixels(number)[1].copy()).permute(2, 0, 1).contiguous()
    wanted = tuple(scale * side for side in lr.shape[-2:])
    if tuple(sr.shape[-2:]) != wanted:
        raise SettingsError(
            f"train.generator.options.scale: {scale} makes {wanted[1]}x{wanted[0]} pixels of {store.ids[number]}, and "
            f"its synthetic HR has {sr.shape[-1]}x{sr.shape[-2]}: take synth.scale's."
        )
    return sr
