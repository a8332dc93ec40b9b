"""Images whose truth is known and LR images of them, by bicubic or blind; and native LR images without a truth."""

from collections import Counter
from collections.abc import Sequence, Set

import numpy as np
import torch
from torch import Tensor

from zssr_gan.data.prepared import open_sources
from zssr_gan.data.sources import Content
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.operators import Downscale
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.evaluation.blind import QUALITIES, capture, degradation_text, draw_degradation
from zssr_gan.evaluation.cache import Cache, hash_of
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.evaluation.run import Images, Run, bicubic_images
from zssr_gan.imaging.resize import resize
from zssr_gan.provenance import CaseImage
from zssr_gan.seeds import derive_seed
from zssr_gan.settings.data import DataSettings, SourceSettings
from zssr_gan.zeroshot.case import LRImage, learn_case, read_lr

GROUP = 100
"""Images of a blind group, where there are so many."""

_SMALLEST = 8  # LR pixels


def known_truths(run: Run, seen: Set[str]) -> tuple[Images, list[str]]:
    """The images of `evaluate.truth`, made small by bicubic, with notices on those that are left out.

    Args:
        run: images that its generator was trained on are left out.
        seen: SHA-256 of others that are.

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
        seen = seen | {member.sha256 for member in run.split.entries if member.part == "train"}
    found, notices = _read(run, wanted, "truth", wanted.count, wanted.side, seen)
    truths = _alike([rounded(resize(_square(_pixels(one)), (wanted.side, wanted.side))) for one in found.values()])
    return bicubic_images(tuple(found), tuple(rounded(resize(x, (small, small))) for x in truths), truths), notices


def blind_groups(run: Run, images: Images, cache: Cache) -> list[Images]:
    """The truths again, in groups with a camera each, whose degradation is estimated from its LR images."""
    wanted, truths, seed = run.settings.evaluate.truth, images.truths, run.settings.seed
    assert wanted is not None
    assert truths is not None
    size = (images.lr[0].shape[-2], images.lr[0].shape[-1])
    rng = np.random.default_rng(derive_seed(seed, "blind"))
    groups = []
    for number in range(wanted.blind):
        # A group begins where the one before ended, so that every image serves before one serves again.
        places = [(number * GROUP + n) % len(images) for n in range(min(GROUP, len(images)))]
        ids, hr = tuple(images.ids[n] for n in places), tuple(truths[n] for n in places)
        degradation = draw_degradation(rng, QUALITIES[number % len(QUALITIES)])
        shots = capture(torch.stack(hr), degradation, size, derive_seed(seed, "noise", number))
        lr = [
            read_lr(CaseImage(name=name, sha256=""), shot.pixels, shot.file)
            for name, shot in zip(ids, shots, strict=True)
        ]
        assumed, estimated = _estimated(run, lr, cache)
        groups.append(
            Images(
                ids,
                tuple(shot.pixels for shot in shots),
                (assumed,) * len(ids),
                hr,
                cameras=(degradation.downscale,),
                done=degradation_text(degradation, run.scale[0]),
                estimated=estimated,
            )
        )
    return groups


def own_sizes(run: Run, wanted: SourceSettings) -> tuple[Images, list[str]]:
    """A set such as Set5 at its own sizes, cut to whole multiples of the scale and made small by bicubic."""
    scale = round(run.scale[0])
    if scale != run.scale[0]:
        raise SettingsError(f"evaluate.sets: {wanted.label} wants a whole scale, not {run.scale[0]:g}.")
    found, notices = _read(run, wanted, "sets", wanted.count, _SMALLEST * scale)
    truths, lr = [], []
    for pixels in map(_pixels, found.values()):
        rows, columns = (side // scale for side in pixels.shape[-2:])
        truths.append(rounded(pixels[:, : rows * scale, : columns * scale]))
        lr.append(rounded(resize(truths[-1], (rows, columns))))
    return bicubic_images(tuple(found), tuple(lr), tuple(truths)), notices


def native_images(run: Run, wanted: SourceSettings, cache: Cache) -> tuple[Images, list[str]]:
    """At most `evaluate.most` LR images and the degradation that is estimated from them; there are no truths."""
    most = wanted.count or run.settings.evaluate.most
    found, notices = _read(run, wanted, "native", most, run.settings.data.smallest)
    pixels = _alike([rounded(_pixels(one)) for one in found.values()])
    lr = [
        read_lr(CaseImage(name=name, sha256=one.sha256), image, one.file)
        for (name, one), image in zip(found.items(), pixels, strict=True)
    ]
    downscale, estimated = _estimated(run, lr, cache)
    images = Images(tuple(found), pixels, (downscale,) * len(lr), cameras=(downscale,), estimated=estimated)
    return images, notices


def _estimated(run: Run, lr: Sequence[LRImage], cache: Cache) -> tuple[Downscale, str]:
    """The degradation of images of one camera, and in words; cached, since it takes seconds."""
    seed = run.settings.seed
    key = {
        "lr": hash_of([one.blocks for one in lr]),
        "images": [[one.image.name, one.image.sha256] for one in lr],
        "jpeg": [None if one.jpeg is None else one.jpeg.quality for one in lr],
        "seed": seed,
    }
    estimate = cache.value("estimate", key, Estimate, lambda: learn_case(lr, seed=seed).estimates[""])
    return estimate.degradation.downscale, f"{estimate.summary} ({estimate.reasons})"


def _read(
    run: Run, wanted: SourceSettings, purpose: str, most: int | None, smallest: int, seen: Set[str] = frozenset()
) -> tuple[dict[str, Content], list[str]]:
    """Images of a source by id, in the order of the run's seed, and notices on those that are left out."""
    (source,) = open_sources(DataSettings(sources=(wanted,)))
    found, left_out, hashes = dict[str, Content](), Counter[str](), set[str]()
    for path in run.order(list(source.listing().entries), purpose):
        if most is not None and len(found) == most:
            break
        try:
            content = source.read(path)
        except ImageError:
            left_out["images could not be read and are left out"] += 1
            continue
        if content.sha256 in seen:
            left_out["images were trained on by a generator that is compared, and are left out as truths"] += 1
        elif min(_pixels(content).shape[-2:]) < smallest:
            left_out[f"images are smaller than {smallest} pixels a side and are left out"] += 1
        elif content.sha256 in hashes:
            left_out["files are copies of others, byte by byte, and are left out"] += 1
        else:
            hashes.add(content.sha256)
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
