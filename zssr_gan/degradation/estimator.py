"""Estimate the degradation of a case from its own LR images: blur, noise and compression, with how sure it is.

Shapes: C channels, H W rows and columns.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Literal

import torch
from torch import Tensor

from zssr_gan.degradation.certainty import certainty_of, verdict
from zssr_gan.degradation.compression import find_compression, is_unlike
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.degradation.footage import (
    KNOWN_FOOTAGE,
    SEEN_FOOTAGE,
    WEBP_FOOTAGE,
    are_frames,
    footage_verdict,
    is_frame,
    jpeg_of_webp,
    single_frames_verdict,
)
from zssr_gan.degradation.found_compression import CompressionGroup, SetCompression, set_compressions
from zssr_gan.degradation.model import Blur, Degradation, Jpeg
from zssr_gan.degradation.motions import own_motions
from zssr_gan.degradation.noise import LUMA_NOISE, SIDE, noise_of_colours, noise_of_luma
from zssr_gan.degradation.recurrence import EstimationSettings, Fit, Recurrence, Tiles, fit_blur, fit_noise
from zssr_gan.degradation.shapes import choose_shape
from zssr_gan.degradation.sharper import own_blurs
from zssr_gan.imaging.colour import luma_of
from zssr_gan.imaging.resize import Size
from zssr_gan.imaging.tiles import copied_middle_of
from zssr_gan.provenance import VERSION, CaseImage
from zssr_gan.seeds import content_hash, derive_seed

_SMALLEST = 2 * SIDE
_MULTIPLE = 4  # sides are cut to multiples of it, so that more tiles are of one size
_SIZES = 16  # sizes of tiles that are looked at, the most frequent first: each size costs a pass
_PIXELS = 2**25
"""Pixels of all images together that stay in memory; of more, each image's middle is."""
_LEAST_SIDE, _MOST_SIDE = 256, 2048
_MOST_READ = 50
"""Images that are all searched for compression, in some 5 s; of more so many, and those that are unlike these."""
_MOST_OF_SEVERAL = 2000  # images, of a set with several compressions, that are all searched: minutes
_BLOCK = 8  # pixels of JPEG's blocks

OnEstimate = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is at most."""

_Compressions = tuple[CompressionGroup | None, dict[str, int], dict[str, Jpeg | None], tuple[SetCompression, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """An LR image as an estimate takes it."""

    image: CaseImage
    pixels: Tensor
    """`C H W`, [0, 1]; as its file holds them, or `jpeg` would not be true of them."""
    jpeg: Jpeg | None = None
    """How its file was compressed."""
    footage: bool | None = None
    """Whether it is a frame of a video whose codec changed it; None: its pixels are to say so."""
    webp_step: float | None = None
    """Of its quantiser, in levels, where its file is lossy WebP."""


def middle_for_estimate(pixels: Tensor, images: int) -> Tensor:
    """What an estimate from so many images takes of one, `C h w`: its middle, cut between the blocks of JPEG."""
    side = min(_MOST_SIDE, max(_LEAST_SIDE, math.isqrt(_PIXELS // max(1, images)))) // _BLOCK * _BLOCK
    return copied_middle_of(pixels, side, _BLOCK)


def estimate_degradation(
    evidence: Sequence[Evidence],
    settings: EstimationSettings | None = None,
    *,
    seed: int = 0,
    on_estimate: OnEstimate | None = None,
) -> Estimate:
    """Estimate what a camera did to the images that it took, from them alone; their order does not matter.

    Args:
        evidence: the LR images, of any sizes. Those below 16 pixels a side have a part in noise and compression only.
        settings: constants.
        seed: of the noise in simulated images.
        on_estimate: called after every blur that is tried.
    """
    settings = settings or EstimationSettings()
    frames, others = _frames_and_others(evidence)
    seen = KNOWN_FOOTAGE if all(one.footage for one in frames) else SEEN_FOOTAGE
    seen = WEBP_FOOTAGE if frames and all(one.webp_step for one in frames) else seen
    if not (frames and others):
        return _estimate_of_kind(evidence, settings, seed, on_estimate, seen if frames else None)
    of_frames = _estimate_of_kind(frames, settings, seed, on_estimate, seen)
    if of_frames.blur_estimated is None and of_frames.codec == "video":  # too few, and each is taken as it is alone
        jpeg, why = single_frames_verdict(seen)
        used = of_frames.degradation.model_copy(update={"jpeg": jpeg})
        update = {"degradation": used, "degradation_sha256": used.sha256, "jpeg_from": "colours", "why": why}
        of_frames = of_frames.model_copy(update=update)
    of_others = _estimate_of_kind(others, settings, seed, on_estimate, None)
    fewer, most = sorted((of_others, of_frames), key=lambda one: len(one.images))
    return most.with_others(fewer)


def _estimate_of_kind(
    evidence: Sequence[Evidence],
    settings: EstimationSettings,
    seed: int,
    on_estimate: OnEstimate | None,
    seen: str | None,
) -> Estimate:
    """The estimate of images that are all frames of a video, where `seen` says how that is known, or all none."""
    by_content = sorted(((content_hash(one.pixels), one) for one in evidence), key=lambda pair: pair[0])
    ordered = [one for _, one in by_content]
    seed = derive_seed("degradation", seed, *(content for content, _ in by_content))
    compressed, qualities, own, compressions = _compression(ordered)
    compression = None if compressed is None else compressed.jpeg
    on_grid = compressed is None or compressed.on_grid
    seen = None if compressions else seen
    # A copy tells nothing new.
    distinct = {content: one.pixels for content, one in by_content}
    tiles = cut_tiles(list(distinct.values()), settings)
    counter = _Counter(on_estimate, settings)
    coloured = [] if seen or compression is not None else [one.pixels for one in ordered]
    noise, by_brightness = noise_of_colours(coloured)
    found: Fit | None = None
    recurrence: Recurrence | None = None
    certainty, blur = None, None
    pixels, own_blur = [one.pixels for one in ordered], dict[int, Blur | None]()
    noise_from: Literal["colours", "recurrence", "nothing"] = "nothing" if noise is None else "colours"
    if len(tiles) < settings.fewest:
        parts = f"{len(tiles)} part{'' if len(tiles) == 1 else 's'}"
        why = (
            f"bicubic is assumed: {parts} of images of {_SMALLEST} pixels a side or more are too few to estimate a "
            f"blur from, {settings.fewest} are needed"
        )
        sure = False
    else:
        # A blur that is fitted through blocks at unknown places is worse than one that ignores them.
        through = compression if on_grid else None
        recurrence = Recurrence(tiles, through, settings, seed)
        step = counter.of("blur")
        if noise is not None:
            found = fit_blur(recurrence, noise.sigma * LUMA_NOISE, on_step=step)
            found, shape = choose_shape(recurrence, found, step)
            # Free noise fills the zeros of a line or a disk, and makes a Gaussian fit as well.
            if not shape:
                close_by = fit_blur(recurrence, None, start=found, on_step=step)
                if found.misfit > settings.colours_trusted * close_by.misfit:
                    # Colours stored at half the size (JPEG's, a video's) have no noise left to tell; luma has.
                    noise, by_brightness = None, ()
        if noise is None:
            found = fit_blur(recurrence, None, on_step=step)
            if through is not None:
                found = Fit(found.blur, fit_noise(recurrence, found.blur), found.misfit)
            found, shape = choose_shape(recurrence, found, step)
            if on_grid:
                noise, noise_from = noise_of_luma(found.noise, pixels, compression), "recurrence"
        assert found is not None
        certainty = certainty_of(recurrence, found, counter.of("certainty"))
        sure, why = verdict(certainty, settings)
        if shape:
            why = f"{why}; {shape}"
        if sure:
            blur = found.blur
        if compression is None and not compressions and not seen:
            motions, moved = own_motions(pixels, recurrence, found, counter.of("motions"))
            own_blur |= motions
            sure, why = (True, moved) if motions else (sure, why)
        if not sure:
            why = f"bicubic is assumed: {why}"
            if noise_from == "recurrence":  # found together with a blur that is not used
                noise, noise_from = None, "nothing"
    if seen:
        sure, compression, why = footage_verdict(found, sure, why, seen)
        noise, noise_from = None, "nothing"
        webp = {one.image.sha256: jpeg_of_webp(one.webp_step) for one in ordered if one.webp_step is not None}
        if len(webp) == len(ordered):
            compression = sorted(webp.values(), key=lambda jpeg: jpeg.luma)[len(webp) // 2]
        own = {sha256: jpeg for sha256, jpeg in webp.items() if jpeg != compression}
    used = Degradation(
        blur=blur if sure else None,
        noise=noise if noise is not None and noise.sigma > 0 else None,
        jpeg=compression,
    )
    if used.blur is not None and not own_blur:
        assert recurrence is not None
        assert found is not None
        own_blur = own_blurs(
            pixels, used, recurrence, found, lambda some: cut_tiles(some, settings), counter.of("thirds")
        )
    read: Literal["tables", "pixels"] = "tables" if compressed is None or math.isinf(compressed.evidence) else "pixels"
    return Estimate(
        degradation=used,
        degradation_sha256=used.sha256,
        blur_estimated=None if found is None else found.blur,
        fallback=not sure,
        why=why,
        certainty=certainty,
        noise_from=noise_from,
        noise_by_brightness=by_brightness,
        jpeg_from="nothing" if compression is None else "colours" if seen else read,
        jpeg_qualities=qualities,
        own_jpeg=own,
        compressions=compressions,
        codec=None if seen is None else "webp" if seen == WEBP_FOOTAGE else "video",
        own_blur={ordered[place].image.sha256: blur for place, blur in own_blur.items()},
        images=tuple(sorted((one.image for one in ordered), key=lambda image: (image.sha256, image.name))),
        settings=asdict(settings),
        seed=seed,
        versions={"zssr-gan": VERSION, "torch": torch.__version__},
    )


def seen_compression(evidence: Sequence[Evidence]) -> tuple[Jpeg | None, bool]:
    """How most images were compressed by JPEG, and whether most are frames of a compressed video."""
    found = _compression(evidence)
    compressed, _, _, _ = found
    frames, others = _frames_and_others(evidence, found)
    return None if compressed is None else compressed.jpeg, len(frames) > len(others)


def _frames_and_others(
    evidence: Sequence[Evidence], found: _Compressions | None = None
) -> tuple[list[Evidence], list[Evidence]]:
    """The images that are frames of a compressed video, told or seen, and the others, as all that JPEG explains.

    `found`: of `_compression`, where it is known; searching takes seconds.
    """
    if all(one.footage for one in evidence):
        return list(evidence), []
    if not any(_may_be_frame(one) for one in evidence):
        return [], list(evidence)
    compressed, _, own, compressions = found or _compression(evidence)
    of_most = None if compressed is None else compressed.jpeg
    in_jpeg = {sha256 for one in compressions for sha256 in one.phases}
    in_jpeg |= {one.image.sha256 for one in evidence if one.jpeg or own.get(one.image.sha256, of_most)}
    outside = [one for one in evidence if one.image.sha256 not in in_jpeg]
    frames = list(compress(outside, are_frames([one.pixels for one in outside], [one.footage for one in outside])))
    return frames, [one for one in evidence if one not in frames]


def _may_be_frame(one: Evidence) -> bool:
    return one.jpeg is None and bool(is_frame(one.pixels) if one.footage is None else one.footage)


def cut_tiles(images: Sequence[Tensor], settings: EstimationSettings) -> Tiles:
    """Luma of images `C H W`, the larger ones cut; blocks of 8x8 that begin in an image's corner begin in a tile's.

    Where the images are few, the tiles are smaller, so that there are more: parts of them are to be compared.
    """
    lumas = [luma_of(image) for image in images]
    side = settings.tile // 8 * 8
    groups = _groups(lumas, side)
    while sum(map(len, groups)) < 2 * settings.fewest and side >= 4 * _SMALLEST:
        side = side // 16 * 8
        groups = _groups(lumas, side)
    # Evenly chosen of each size.
    every = math.ceil(max(1.0, sum(map(len, groups)) / settings.tiles))
    return Tiles(tuple(torch.stack(group[::every]) for group in groups))


def _groups(lumas: Sequence[Tensor], side: int) -> list[list[Tensor]]:
    """Tiles of at most `side` pixels by their sizes, the most frequent first."""
    by_size: dict[Size, list[Tensor]] = {}
    for luma in lumas:
        for top in range(0, luma.shape[0], side):
            for left in range(0, luma.shape[1], side):
                tile = luma[top : top + side, left : left + side]
                rows, columns = (n // _MULTIPLE * _MULTIPLE for n in tile.shape)
                if min(rows, columns) >= _SMALLEST:
                    by_size.setdefault((rows, columns), []).append(tile[:rows, :columns])
    return sorted(by_size.values(), key=len, reverse=True)[:_SIZES]


def _searched(evidence: Sequence[Evidence]) -> tuple[CompressionGroup, ...]:
    return find_compression([one.pixels for one in evidence], [one.jpeg for one in evidence]).groups


def _compression(evidence: Sequence[Evidence]) -> _Compressions:
    """What most images went through, how many have which quality, what others went through, by their SHA-256, and all.

    Of several qualities the middle one is that of most. All tables of files are looked at, and do not end the search:
    what a crop was cut out of may have been compressed before, and more.
    """
    some = list(evidence[:: max(1, math.ceil(len(evidence) / _MOST_READ))])
    some += {one.jpeg: one for one in evidence if one.jpeg not in {some_one.jpeg for some_one in some}}.values()
    groups = _searched(some)
    if len(some) < len(evidence) <= _MOST_OF_SEVERAL:
        if len({group.jpeg for group in groups}) > 1 or any(group.outer for group in groups):
            some = list(evidence)
        else:
            known = [group.jpeg for group in groups if group.jpeg is not None]
            rest = [one for one in evidence if one.jpeg is None and one not in some]
            some += [one for one in rest if is_unlike(one.pixels, known)]
        groups = _searched(some) if len(some) > sum(len(group.images) for group in groups) else groups
    seen = sorted((group for group in groups if group.jpeg is not None), key=lambda group: group.quality or 0)
    members = [group for group in seen for _ in group.images]
    most = members[len(members) // 2] if 2 * len(members) > len(some) else None
    jpeg = None if most is None else most.jpeg
    # A compression of unknown quality is more like that of most than like none.
    others = [group for group in groups if group.jpeg != jpeg and (group.jpeg is not None or not group.evidence)]
    own = {some[n].image.sha256: group.jpeg for group in others for n in group.images}
    qualities = [group.quality for group in members]
    if most is not None and math.isinf(most.evidence):  # all files say theirs, read or not
        qualities = [one.jpeg.quality for one in evidence if one.jpeg is not None]
    return most, dict(Counter(map(str, qualities))), own, set_compressions(groups, [one.image.sha256 for one in some])


class _Counter:
    """Counts the blurs tried in each phase."""

    def __init__(self, on_estimate: OnEstimate | None, settings: EstimationSettings) -> None:
        self.on_estimate = on_estimate
        self.most = {
            "blur": 10 * settings.trials,
            "certainty": settings.parts * (settings.trials // 3),
            "motions": 30,
            "thirds": settings.trials,
        }

    def of(self, what: str) -> Callable[[], None]:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            if self.on_estimate is not None:
                self.on_estimate(what, done, self.most[what])

        return count
