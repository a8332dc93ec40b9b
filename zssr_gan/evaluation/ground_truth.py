"""Images whose truth is known and LR images of them: by bicubic, or blind in groups of one camera each."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.prepared import open_sources
from zssr_gan.data.sources import Content
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.model import Degradation, GaussianBlur
from zssr_gan.degradation.operators import Downscale
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.evaluation.blind import QUALITIES, capture, draw_degradation
from zssr_gan.evaluation.cache import Cache, hash_of
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.evaluation.run import Inputs, Run
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.data import DataSettings, SourceSettings
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr

_SMALLEST = 8  # LR pixels


@dataclass(frozen=True, slots=True)
class Truths:
    """Truths and LR images of them, which form one case."""

    ids: tuple[str, ...]
    images: tuple[Tensor, ...]
    inputs: Inputs
    """With the downscale that methods assume."""
    degradation: Degradation | None = None
    """What was really done; None: bicubic alone, or not known."""
    estimate: Estimate | None = None
    """What was estimated from the LR images; None: bicubic, and known."""

    @property
    def downscale(self) -> Downscale:
        """What methods assume."""
        return self.inputs.downscales[0]

    @property
    def camera(self) -> str:
        """What it is assumed to have done, for a person."""
        return "bicubic" if self.estimate is None else f"{self.estimate.summary} ({self.estimate.why})"


def known_truths(run: Run, taught: set[str]) -> tuple[Truths, list[str]]:
    """The images of `evaluate.truth`, made small by bicubic, with notices on those that are left out.

    Left out are those whose bytes the run's generator was trained on, and those of `taught` (SHA-256).

    Raises:
        SettingsError: no such set, no image is left, or a side that the scale does not divide.
    """
    wanted = run.settings.evaluate.truth
    if wanted is None:
        raise SettingsError("evaluate.truth: is not set, so that no truth is known: name a folder, {root: faces}.")
    small = round(wanted.side / run.scale[0])
    if small * run.scale[0] != wanted.side:
        raise SettingsError(f"evaluate.truth.side: is {wanted.side}, which the scale {run.scale[0]:g} does not divide.")
    if run.trained is not None:
        taught = taught | {member.sha256 for member in run.split.entries if member.part == "train"}
    found, notices = _read(run, wanted, "truth", wanted.count, wanted.side, taught)
    images = _alike([rounded(resize(_square(_pixels(one)), (wanted.side, wanted.side))) for one in found.values()])
    lr = tuple(rounded(resize(image, (small, small))) for image in images)
    return Truths(tuple(found), images, Inputs.by_bicubic(lr)), notices


def blind_groups(run: Run, truths: Truths, cache: Cache) -> list[Truths]:
    """The truths again, in groups with a camera each, whose degradation is estimated from its LR images."""
    wanted = run.settings.evaluate.truth
    assert wanted is not None  # else there are no truths
    size = (truths.inputs.images[0].shape[-2], truths.inputs.images[0].shape[-1])
    rng = np.random.default_rng(derive_seed(run.settings.seed, "blind"))
    groups = []
    for number in range(wanted.blind):
        # One group goes on where the other ended, so that every image serves before one serves again.
        places = [(number * wanted.group + n) % len(truths.ids) for n in range(min(wanted.group, len(truths.ids)))]
        ids, images = tuple(truths.ids[n] for n in places), tuple(truths.images[n] for n in places)
        degradation = draw_degradation(rng, QUALITIES[number % len(QUALITIES)])
        shots = capture(torch.stack(images), degradation, size, derive_seed(run.settings.seed, "noise", number))
        lr = [
            read_lr(CaseImage(name=name, sha256=""), shot.pixels, shot.file)
            for name, shot in zip(ids, shots, strict=True)
        ]
        groups.append(_estimated(run, ids, images, tuple(shot.pixels for shot in shots), lr, cache, degradation))
    return groups


def own_sizes(run: Run, wanted: SourceSettings) -> tuple[Truths, list[str]]:
    """A set such as Set5 at its own sizes, cut to whole multiples of the scale and made small by bicubic."""
    scale = round(run.scale[0])
    if scale != run.scale[0]:
        raise SettingsError(f"evaluate.sets: {wanted.label} wants a whole scale, not {run.scale[0]:g}.")
    found, notices = _read(run, wanted, "sets", wanted.count, _SMALLEST * scale)
    images = []
    for pixels in map(_pixels, found.values()):
        rows, columns = (side // scale * scale for side in pixels.shape[-2:])
        images.append(rounded(pixels[:, :rows, :columns]))
    lr = tuple(rounded(resize(x, (x.shape[-2] // scale, x.shape[-1] // scale))) for x in images)
    return Truths(tuple(found), tuple(images), Inputs.by_bicubic(lr)), notices


def native_images(run: Run, wanted: SourceSettings, cache: Cache) -> tuple[Truths, list[str]]:
    """At most `evaluate.most` LR images and the degradation that is estimated from them; there are no truths."""
    most = wanted.count or run.settings.evaluate.most
    found, notices = _read(run, wanted, "native", most, run.settings.data.smallest)
    pixels = _alike([rounded(_pixels(one)) for one in found.values()])
    lr = [
        read_lr(CaseImage(name=name, sha256=one.sha256), image, one.file)
        for (name, one), image in zip(found.items(), pixels, strict=True)
    ]
    return _estimated(run, tuple(found), (), pixels, lr, cache), notices


def _estimated(
    run: Run,
    ids: tuple[str, ...],
    images: tuple[Tensor, ...],
    pixels: tuple[Tensor, ...],
    lr: Sequence[LRImage],
    cache: Cache,
    degradation: Degradation | None = None,
) -> Truths:
    """Images of one camera with the degradation estimated from them; cached, since it takes seconds."""
    key: dict[str, JsonValue] = {
        "lr": hash_of([one.blocks for one in lr]),
        "images": [[one.image.name, one.image.sha256] for one in lr],
        "jpeg": [None if one.jpeg is None else one.jpeg.quality for one in lr],
        "seed": run.settings.seed,
    }
    estimate = cache.value("estimate", key, Estimate, lambda: learn_case(lr, seed=run.settings.seed).estimates[""])
    inputs = Inputs(pixels, (estimate.degradation.downscale,) * len(pixels))
    return Truths(ids, images, inputs, degradation, estimate)


def degradation_text(degradation: Degradation | None, scale: float) -> str:
    """A drawn degradation in a few words, widths in HR pixels."""
    assert degradation is not None
    assert isinstance(degradation.blur, GaussianBlur)
    assert degradation.noise is not None
    blur, jpeg = degradation.blur, degradation.jpeg
    major, minor = scale * blur.sigma_major, scale * blur.sigma_minor
    return (
        f"blur {major:.2f} x {minor:.2f} HR pixels at {blur.angle_degrees:.0f} degrees, "
        f"noise {255 * degradation.noise.sigma:.1f} of 255, {'no JPEG' if jpeg is None else f'JPEG {jpeg.quality}'}"
    )


def _read(
    run: Run, wanted: SourceSettings, purpose: str, most: int | None, smallest: int, taught: Set[str] = frozenset()
) -> tuple[dict[str, Content], list[str]]:
    """Images of a source by id, in the order of the run's seed, and notices on those that are left out."""
    (source,) = open_sources(DataSettings(sources=(wanted,)))
    found, left_out, seen = dict[str, Content](), Counter[str](), set[str]()
    for path in run.order([entry.path for entry in source.listing().entries], purpose):
        if most is not None and len(found) == most:
            break
        try:
            content = source.read(path)
        except ImageError:
            left_out["images could not be read and are left out"] += 1
            continue
        if content.sha256 in taught:
            left_out["images were trained on by a generator that is compared, and are left out as truths"] += 1
        elif min(_pixels(content).shape[-2:]) < smallest:
            left_out[f"images are smaller than {smallest} pixels a side and are left out"] += 1
        elif content.sha256 in seen:
            left_out["files are copies of others, byte by byte, and are left out"] += 1
        else:
            seen.add(content.sha256)
            found[f"{wanted.label}/{path}"] = content
    if not found:
        raise SettingsError(
            f"evaluate.{purpose}: {wanted.root or wanted.label} has no image of {smallest} pixels a side or more that "
            "can be read and that no generator was trained on which is compared: name another folder."
        )
    return found, [f"{count:,} {why}" for why, count in left_out.items()]


def _square(pixels: Tensor) -> Tensor:
    """The middle of an image, so that nothing is squeezed."""
    rows, columns = pixels.shape[-2:]
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    return pixels[:, top : top + side, left : left + side]


def _pixels(content: Content) -> Tensor:
    return content.picture.pixels.float()


def _alike(images: list[Tensor]) -> tuple[Tensor, ...]:
    """Images with equal channels, since one network learns from all: gray beside colours becomes RGB."""
    if len({len(image) for image in images}) == 1:
        return tuple(images)
    return tuple(image.expand(3, -1, -1) for image in images)
