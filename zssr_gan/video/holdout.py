"""Whether fusing a burst pays, without a truth: frames that are left out must be predicted better by the rest, fused.

In turn a quarter of the frames is held out, the others are fused, and each held frame is registered again to that image
and to the reference frame restored alone, both as the camera blurs them. Fusion pays where the fused image leaves less
of the held frames unexplained, and where they lie in it where their motion says (cross-validation, Stone 1974). The
reference frame is held out too: a shift of the others' image against it is a shift of the result. Where registering all
frames again from their places moves them, what they then give is what the fused image and the reference frame alone are
compared with. It is a gate against failure, not a measure of quality.
"""

import statistics
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from zssr_gan.degradation.model import Degradation
from zssr_gan.video.fusion import LEAST_ERROR, Fused, fuse_burst, scene_target
from zssr_gan.video.registration import measure_motion, refine_motion
from zssr_gan.video.solver import luma_planes

FEWEST = 3
"""Usable frames, the reference among them, without which nothing can be held out."""

RATIO = 1.0
"""Median ratio of the unexplained, fused to single, below which fusing pays."""

OFF, REFERENCE_OFF = 1.1, 0.8
"""Distance, HR pixels, that held frames (median) and the held reference frame may lie from where their motion says;
together, the squares of their shares of these may sum to 1. Motion that is off by another amount in each frame
blurs the result, by the same amount shifts it."""

SETTLED = 0.2
"""HR pixels (median) that frames may move by when they are registered again, up to which distances decide."""

NEARER = -0.7
"""dB: by how much nearer to the image of frames that moved more than that the fused image must be than the reference
frame restored alone. It shares less noise with that image than the reference frame does: on faces that these constants
were chosen on fusing pays from -1.2 (JPEG) and from 0 (none) on."""

MOVED = 1.5
"""How many times less of the reference frame the others fused may leave unexplained where it may lie elsewhere."""

WORSE = 1.25
"""How many times as much of the reference frame as of the others may be left unexplained: 1.12 at most of 64 bursts of
one face, from 1.3 on where all others are of somebody else."""

MISSING = 4.0
"""How many times what frames leave unexplained the reference frame may differ from the result at one place. Faces under
the protocol of benchmarks/track.py: 1.7 to 2.3; a sheet of paper that one frame alone shows: above 5."""

NOISIER, LEAST_NOISE = 2.0, 2.5
"""How many times the noise of a frame the result may have, and the least that a frame is taken to have, 8-bit levels.
Faces under the protocol of benchmarks/track.py have 0.3 to 1.5 times with the right camera; where frames with noise of
1 to 10 levels are taken to have none, 5 to 10 times, and the result is up to 13 dB worse than one frame."""

_FOLDS = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the fused image is to be used, and on what grounds."""

    fuse: bool
    reason: str
    """One sentence."""
    ratio: float | None
    """Median over the held frames: residual from the others fused, over that from the reference frame alone."""
    off: float | None
    """Median over the held frames: how far they lie from where their motion says, HR pixels."""
    reference_off: float | None
    """How far the reference frame lies from its place in the image of the others, HR pixels."""
    ratios: tuple[float | None, ...]
    """Of each frame; None: it was not held out."""
    noise: float | None = None
    """8-bit levels of luma: robust standard deviation of the result's noise, by what leaving frames out changes."""


def judge_fusion(
    frames: Tensor, degradation: Degradation, fused: Fused, scale: int = 2, *, affine: bool = True
) -> Verdict:
    """Hold frames out, and say whether a fused image is to be preferred to the reference frame restored alone.

    Args:
        frames: `F C H W` in [0, 1], as they were fused.
        degradation: of the camera, as they were fused.
        fused: of `fuse_burst`; its motion is what is judged.
        scale: as they were fused.
        affine: as they were fused.
    """
    usable = [f for f, fact in enumerate(fused.frames) if fact.rejected is None and f != fused.reference]
    none: list[float | None] = [None] * len(frames)
    if len(usable) + 1 < FEWEST:
        reason = f"only {len(usable) + 1} of the frames can be used, and {FEWEST} are the least that can be judged"
        return Verdict(False, reason, None, None, None, tuple(none))
    alone = fuse_alone(frames, degradation, fused, scale).image
    ratios, off, changes = list(none), [], []
    result = luma_planes(fused.image[None])[0, 0]
    for fold in range(min(_FOLDS, len(usable))):
        held = usable[fold::_FOLDS]
        rest = [fused.reference, *(f for f in usable if f not in held)]
        coding = fused.coding and fused.coding[rest]
        image = fuse_burst(frames[rest], degradation, scale, motion=fused.motion[rest], coding=coding).image
        change = (luma_planes(image[None])[0, 0] - result).square()
        changes.append(((len(usable) + 1) / len(held) - 1) * change)
        by_rest, by_one = (
            refine_motion(
                luma_planes(frames[held])[:, 0],
                scene_target(luma_planes(one[None])[0, 0].numpy(), degradation, scale, fused.mask, 0),
                fused.motion[held],
                affine=affine,
            )
            for one in (image, alone)
        )
        size = (frames.shape[2], frames.shape[3])
        off += (scale * by_rest.motion.distance(fused.motion[held], size)).tolist()
        for place, f in enumerate(held):
            ratios[f] = float(by_rest.residual[place] / by_one.residual[place])
    ratio, apart = statistics.median(value for value in ratios if value is not None), statistics.median(off)
    others = statistics.median(fused.frames[f].residual for f in usable)
    of_reference = fused.frames[fused.reference]
    # Frames that an encoder copied, or without noise, leave next to nothing; the reference frame has its own error.
    expected = max(others, of_reference.coding_error or 0.0, LEAST_ERROR)
    worse = of_reference.residual / expected
    missing = _missing(fused) / expected
    noise = _noise(changes, scale)
    beside, moved = _reference_held(frames, degradation, fused, usable, scale, affine=affine)
    again, nearer = _registered_again(frames, degradation, fused, alone, scale, affine=affine)
    if again > SETTLED and nearer < NEARER:
        reason = (
            f"registered again, frames lie {again:.2f} pixels from where their motion says, and what they then give is "
            f"{-nearer:.1f} dB nearer to the reference frame restored alone than to the fused image"
        )
    elif again <= SETTLED and np.hypot(apart / OFF, beside / REFERENCE_OFF) > 1:
        reason = (
            f"frames that are held out lie {apart:.2f} pixels from where their motion says, and the reference frame "
            f"{beside:.2f}"
        )
    elif again <= SETTLED and moved > MOVED:
        reason = f"the others fused fit the reference frame {moved:.1f} times as well where it may lie elsewhere"
    elif worse > WORSE:
        reason = f"the fused image leaves {worse:.1f} times as much of the reference frame unexplained as of the others"
    elif missing > MISSING:
        reason = (
            f"at one place the reference frame differs from the fused image {missing:.1f} times as much as frames do: "
            "something that it shows would be lost"
        )
    elif noise > NOISIER * max(expected, LEAST_NOISE):
        reason = (
            f"the fused image has noise of {noise:.1f} levels, where frames differ by {others:.1f}: fusing has made it "
            "larger, as it does where a camera with too little noise is assumed"
        )
    elif ratio >= RATIO:
        reason = (
            "the other frames leave as much of a frame that is held out unexplained as the reference frame alone does "
            f"({100 * ratio:.0f} %)"
        )
    else:
        gain = f"frames that are held out are predicted better by the others fused, by {100 - 100 * ratio:.0f} %"
        return Verdict(True, gain, ratio, apart, beside, tuple(ratios), noise)
    return Verdict(False, reason, ratio, apart, beside, tuple(ratios), noise)


def _reference_held(
    frames: Tensor, degradation: Degradation, fused: Fused, usable: list[int], scale: int, *, affine: bool
) -> tuple[float, float]:
    """How far the reference frame lies from its place in the others' image, HR pixels, and how much better it fits."""
    coding = fused.coding and fused.coding[usable]
    image = fuse_burst(frames[usable], degradation, scale, motion=fused.motion[usable], coding=coding).image
    target = scene_target(luma_planes(image[None])[0, 0].numpy(), degradation, scale, fused.mask, 0)
    y, place = luma_planes(frames[[fused.reference]])[:, 0], fused.motion[[fused.reference]]
    there = refine_motion(y, target, place, affine=affine, sigma=0)
    apart = there.motion.distance(place, (frames.shape[2], frames.shape[3]))
    return scale * float(apart), float(measure_motion(y, target, place).residual / there.residual)


def _registered_again(
    frames: Tensor, degradation: Degradation, fused: Fused, alone: Tensor, scale: int, *, affine: bool
) -> tuple[float, float]:
    """How far frames move when they are registered again, HR pixels (median); how much nearer to their image then the
    fused image is than the reference frame restored alone, dB."""
    place, border = fused.reference, 2 * scale
    image = fuse_burst(
        frames, degradation, scale, place, affine=affine, start=fused.motion, mask=fused.mask, coding=fused.coding
    )
    moved = image.motion.distance(fused.motion, (frames.shape[2], frames.shape[3]))
    used = [f for f, fact in enumerate(fused.frames) if fact.rejected is None and f != place]
    by_one, by_all = (
        float((luma_planes((one - image.image)[None])[0, 0, border:-border, border:-border]).square().mean())
        for one in (alone, fused.image)
    )
    return scale * float(moved[used].median()), 10 * float(np.log10(max(by_one, 1e-12) / max(by_all, 1e-12)))


def _noise(changes: list[Tensor], scale: int) -> float:
    """8-bit levels: deviation by the squared changes `sH sW` of folds, without a border of 2 pixels of a frame.

    By the median: what moves, or hides a part, changes much where it is.
    """
    border = 2 * scale
    variance = torch.stack(changes).mean(0)[border:-border, border:-border]
    return 255 * float(variance.median().sqrt())


def _missing(fused: Fused) -> float:
    """8-bit levels: the most by which the reference frame differs from the result, over about 3 pixels."""
    residual = fused.residual if fused.mask is None else fused.residual * fused.mask
    return float(np.sqrt(ndimage.gaussian_filter(residual.numpy() ** 2, 1, mode="nearest").max()))


def fuse_alone(frames: Tensor, degradation: Degradation, fused: Fused, scale: int = 2) -> Fused:
    """The reference frame of frames that were fused, restored alone."""
    place = [fused.reference]
    return fuse_burst(frames[place], degradation, scale, coding=fused.coding and fused.coding[place])
