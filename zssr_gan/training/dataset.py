"""What a training reads: the generator's LR images, the discriminator's synthetic HR images, those for validation.

These are held in memory on 8-bit levels: 14,000 pairs of 32 and 64 px in colour take some 0.2 GB. Or, in their place,
HR images with LR images that are made of them on the fly: these are read when they are needed (`pairs.PairedImages`).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.cameras import Cameras
from zssr_gan.data.prepared import Prepared, ReadingAhead
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.degradation.model import Degradation, DegradedDownscale
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, EnlargedDownscale
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import canonical_sha256
from zssr_gan.imaging.colour import from_levels, luma_of, to_levels
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.pairs import PairedSettings
from zssr_gan.training.pairs import PairedImages
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
    left_out: tuple[str, ...]

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
        return tuple(map(_degradation, self.downscales))

    @property
    def facts(self) -> dict[str, JsonValue]:
        """Hashes of ids, pixels and cameras: whether two runs learn from the same."""
        cameras = [one.sha256 for one in self.degradations]
        return {
            "cameras": {
                name: canonical_sha256([cameras[place] for place in images.cameras])
                for name, images in self.by_purpose.items()
            },
            "images": {name: canonical_sha256(list(images.ids)) for name, images in self.by_purpose.items()},
            "pixels": {name: images.pixels_sha256 for name, images in self.by_purpose.items()},
        }


def read_unpaired(
    prepared: Prepared,
    store: SyntheticSet,
    cameras: Cameras,
    *,
    lr_role: str,
    held_out: int,
    patch: int | None,
    scale: int,
    seed: int,
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> TrainingData:
    """Read everything.

    Args:
        prepared: the split's images with the roles `generator` and `zssr`.
        store: the synthetic HR images.
        cameras: of the run.
        lr_role: role of the generator's images; with `zssr`, they come with their synthetic HR.
        held_out: how many of the store's images are set apart for validation.
        patch: side that is cut out of each, LR pixels; None: whole images.
        scale: factor per side that the store should have.
        seed: decides which are set apart.
        on_image: called with how many are read, and of how many.

    Raises:
        SettingsError: too few images, other sizes than are needed, or a store of another scale.
        ImageError: an image cannot be read any more; StoreError: the store is damaged.
    """
    there = {store.ids[n]: n for n in range(len(store)) if store.roles[n] == "zssr"}
    places = [n for n in range(len(prepared)) if prepared.member(n).role == lr_role or prepared.member(n).id in there]
    downscales: list[Downscale] = []
    found: dict[str, tuple[Tensor, Tensor | None, int]] = {}
    left_out = []
    for done, place in enumerate(places):
        on_image(done, len(places))
        name = prepared.member(place).id
        pixels = prepared.image(place)
        if patch is not None and min(pixels.shape[-2:]) < patch:
            left_out.append(name)
            continue
        downscale = cameras.of(prepared, place).downscale
        if downscale not in downscales:
            downscales.append(downscale)
        sr = _synthetic(store, there[name], pixels, scale) if name in there else None
        found[name] = (to_levels(pixels), sr, downscales.index(downscale))
    paired = sorted(name for name in found if name in there)
    drawn = sorted(paired, key=lambda name: derive_seed(seed, "validation", name))[:held_out]
    reals = [name for name in paired if name not in set(drawn)]
    others = sorted(name for name in found if name not in there)
    inputs = reals if lr_role == "zssr" else others
    for what, names in (("discriminator", reals), ("generator", inputs)):
        if not names:
            small = f", {len(left_out)} are smaller than train.patch" if left_out else ""
            raise SettingsError(
                f"train: no image is left for the {what} ({len(paired)} have a synthetic HR, "
                f"train.validation.images sets {len(drawn)} of them apart, {len(others)} have none{small})."
            )
    if len(drawn) < 2:
        raise SettingsError("train.validation.images: at least 2 images with a synthetic HR are needed.")
    channels = max(pixels.shape[0] for pixels, _, _ in found.values())
    if patch is None and len({found[name][0].shape[-2:] for name in found}) > 1:
        raise SettingsError("train.patch: is null, and the images are of several sizes: set it, such as to 16.")

    def images(names: Sequence[str], *, hr: bool) -> Images:
        chosen = [found[name] for name in names]
        srs = tuple(_coloured(sr, channels) for _, sr, _ in chosen if sr is not None) if hr else None
        return Images(
            tuple(names),
            tuple(_coloured(lr, channels) for lr, _, _ in chosen),
            srs,
            tuple(camera for _, _, camera in chosen),
        )

    return TrainingData(
        inputs=images(inputs, hr=lr_role == "zssr"),
        reals=images(reals, hr=True),
        held_out=images(drawn, hr=True),
        downscales=tuple(downscales),
        channels=channels,
        scale=scale,
        left_out=tuple(left_out),
    )


def read_pairs(
    prepared: Prepared,
    settings: PairedSettings,
    *,
    held_out: int,
    patch: int | None,
    seed: int,
    stack: ExitStack,
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> TrainingData:
    """HR images of which LR images are made while the training goes on; those for validation are read and made now.

    Args:
        prepared: the HR images of the training part.
        settings: the group `train.pairs`.
        held_out: how many are set apart for validation.
        patch: side that is cut out of each, LR pixels; None: whole images.
        seed: decides which are set apart, and all that is drawn.
        stack: closes what is opened here.
        on_image: called with how many of those for validation are read, and of how many.

    Raises:
        SettingsError: too few images, or of several sizes where whole ones are taken.
        ImageError: one for validation cannot be read any more.
    """
    by, sizes = settings.reduction, {n: prepared.size(n) for n in range(len(prepared))}
    fewest = patch * settings.scale if patch is not None else by
    fits = [n for n in sizes if min(side // by * by for side in sizes[n]) >= fewest]
    names = {prepared.member(n).id: n for n in fits}
    drawn = sorted(names, key=lambda name: derive_seed(seed, "validation", name))[:held_out]
    trained = sorted(set(names) - set(drawn))
    left_out = tuple(prepared.member(n).id for n in sizes if n not in set(fits))
    if len(drawn) < 2 or not trained:
        small = f" ({len(left_out)} are smaller than train.patch)" if left_out else ""
        raise SettingsError(
            f"train: the training part has {len(names)} HR images with the roles zssr or generator{small}, of which "
            f"train.validation.images sets {len(drawn)} apart: at least 2 are needed there, and 1 beside them."
        )
    if patch is None and len({sizes[names[name]] for name in names}) > 1:
        raise SettingsError("train.patch: is null, and the images are of several sizes: set it, such as to 24.")
    whole = []
    for done, name in enumerate(drawn):
        on_image(done, len(drawn))
        whole.append(prepared.levels(names[name]))
    channels = settings.channels or max(len(levels) for levels in whole)
    places = [names[name] for name in trained]

    def read(place: int) -> Tensor:
        levels = prepared.levels(places[place])
        if settings.channels is None and len(levels) > channels:
            raise ImageError(
                f"{trained[place]}: has colours, and the images held out are gray: set train.pairs.channels to 3, or "
                "to 1 for luma alone."
            )
        return _of_channels(levels, channels)

    truths = PairedImages(
        tuple(trained),
        tuple(prepared.member(place).sha256 for place in places),
        tuple(sizes[place] for place in places),
        stack.enter_context(ReadingAhead(read, settings.memory * 2**20)),
        settings,
        seed,
    )
    made = [
        truths.held_out(name, _of_channels(levels, channels), seed) for name, levels in zip(drawn, whole, strict=True)
    ]
    lrs, hrs, cameras = zip(*made, strict=True)
    return TrainingData(
        inputs=truths,
        reals=truths,
        held_out=Images(tuple(drawn), lrs, hrs, cameras),
        downscales=truths.downscales,
        channels=channels,
        scale=settings.scale,
        left_out=left_out,
    )


def _degradation(downscale: Downscale) -> Degradation:
    if isinstance(downscale, EnlargedDownscale):
        return _degradation(downscale.downscale)
    assert isinstance(downscale, DegradedDownscale | BicubicDownscale), "as cameras are"
    return downscale.degradation if isinstance(downscale, DegradedDownscale) else Degradation()


def _of_channels(levels: Tensor, channels: int) -> Tensor:
    """Gray as colours, or the luma of colours; 8-bit levels."""
    if len(levels) > channels:
        return to_levels(luma_of(from_levels(levels))[None])
    return levels.expand(channels, -1, -1)


def _synthetic(store: SyntheticSet, number: int, lr: Tensor, scale: int) -> Tensor:
    sr = torch.from_numpy(store.pixels(number)[1].copy()).permute(2, 0, 1).contiguous()
    wanted = tuple(scale * side for side in lr.shape[-2:])
    if tuple(sr.shape[-2:]) != wanted:
        raise SettingsError(
            f"train.generator.options.scale: {scale} makes {wanted[1]}x{wanted[0]} pixels of {store.ids[number]}, and "
            f"its synthetic HR has {sr.shape[-1]}x{sr.shape[-2]}: take synth.scale's."
        )
    return sr


def _coloured(levels: Tensor, channels: int) -> Tensor:
    """Gray beside colours counts as colours."""
    return levels.expand(channels, -1, -1)
