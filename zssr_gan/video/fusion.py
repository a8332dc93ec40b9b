"""Fuse the frames of a burst into one image of the reference frame's moment: robust maximum a posteriori.

See `solver` for what is minimised (as Farsiu et al. 2004, with a likelihood of JPEG's own). Motion is found between the
frames, and again between each frame and the fused image as the camera blurs it (Hardie et al. 1997).

Shapes: F frames, C channels, H W rows and columns of a frame; sH sW of the scene, with its border where that is said.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from zssr_gan.degradation.model import Degradation
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.imaging.resize import resize
from zssr_gan.video.camera import BORDER, Array, blurred, scene_size
from zssr_gan.video.coding import Coding
from zssr_gan.video.prior import unlikeness
from zssr_gan.video.registration import (
    SMALLEST_SIDE,
    Motion,
    Registration,
    Target,
    find_motion,
    measure_motion,
    refine_motion,
)
from zssr_gan.video.solver import YCBCR, Burst, luma_planes, solve

STATIC = 0.05
"""Below this, `Fused.phases` says that frames have no sub-pixel shifts: shifts of 0.05 pixels give 0.04."""

LEAST_ERROR = 1.0
"""8-bit levels that any frame may be off."""

_PLAIN, _CODED = (4.5, 6.5), (3.5, 4.5)
"""Times what is left unexplained where frames fit best: where the reference frame is off by the first, it begins to
count alone, by the second it does; of coded frames, which have little to add, sooner."""

_STAYS = 1 / 3  # of the reference frame's coding error, that fusing leaves
_FALLBACKS = 3  # rounds of looking where it is
_ROUNDS = 2  # of registration to the fused image
_FIRST_STEPS, _LAST_STEPS = (3, 8), (4, 10)  # Newton's, and conjugate gradients' in each
_FARTHEST = 1 / 3  # of a side, that a frame may lie away
_STRAIN = 0.08, 0.01  # of a length: that a face may seem to stretch, and that it may more with each frame between
_LEAST_CORRELATION = 0.9  # of what noise allows; faces of other people have up to 0.9, a fifth of a frame hidden 0.8


@dataclass(frozen=True, slots=True)
class FusedFrameFacts:
    """What became of one frame."""

    shift: tuple[float, float]
    """(y, x), pixels of a frame: the frame's middle lies there in the reference frame, from its middle."""
    linear: tuple[float, ...]
    """What its affine map adds to the identity, row by row; with perspective, its tilt follows."""
    gain: float
    bias: float
    """In [0, 1] units."""
    residual: float
    """8-bit levels: robust standard deviation of the frame minus the fused image as its camera takes it."""
    correlation: float
    """Of the two; 1 is best."""
    error: float
    """Pixels of a frame: standard error of its place, with what a video's compression did; what moves is not in it."""
    weight: float
    """Mean over its pixels, 0 to 1; what lies beyond the scene counts 0."""
    coding_error: float | None = None
    """8-bit levels: standard deviation of what a video's compression did to it; None: of no such video."""
    rejected: str | None = None
    """Why it had no part in the result."""


@dataclass(frozen=True, slots=True)
class Fused:
    """An image fused from a burst, and what it rests on."""

    image: Tensor
    """`C sH sW` in [0, 1]."""
    support: Tensor
    """`sH sW`: effective number of frames that each pixel rests on."""
    residual: Tensor
    """`H W`, 8-bit levels: the reference frame minus the result as the camera takes it, luma."""
    frames: tuple[FusedFrameFacts, ...]
    motion: Motion
    """Of all frames, rejected ones too."""
    reference: int
    mask: Tensor | None = None
    """As it was given."""
    coding: Coding | None = None
    """Of all frames, as they were fused."""
    alone: float = 0.0
    """Share of the reference frame where others show something else, so that it counts alone."""

    @property
    def phases(self) -> tuple[float, float]:
        """How evenly the used frames' pixels lie between those of the reference frame, (y, x), mean over the frame.

        1: evenly; 0: all in the same places, as of a static scene before a static camera. Fusing then lowers noise,
        but no detail below a pixel of a frame was seen. It is 1 minus the length of the mean phase.
        """
        used = [f for f, fact in enumerate(self.frames) if fact.rejected is None]
        places = self.motion[used].places((self.residual.shape[0], self.residual.shape[1]))
        y, x = (1 - torch.exp(2j * torch.pi * places).mean(0).abs()).mean((0, 1)).tolist()
        return y, x


def fuse_burst(
    frames: Tensor,
    degradation: Degradation,
    scale: int = 2,
    reference: int = 0,
    *,
    affine: bool = True,
    motion: Motion | None = None,
    start: Motion | None = None,
    mask: Tensor | None = None,
    mean: Tensor | None = None,
    pull: float = 300.0,
    coding: Coding | None = None,
) -> Fused:
    """Fuse frames into an image of one of them, `scale` times as large; motion and weights are those of luma.

    Args:
        frames: `F C H W` in [0, 1], C 1 or 3, of one size, at least 12 pixels a side; a single one is restored alone.
        degradation: the camera's blur, noise and compression; JPEG's blocks begin at a frame's corner.
        scale: 1 to 4, per side; 1 restores without enlarging.
        reference: the frame whose moment and place the result shows.
        affine: whether frames may turn and change size; else they shift alone.
        motion: of all frames, relative to the reference, where it is known; it is then not refined.
        start: of all frames, relative to the reference, off by less than about 2 pixels; it is refined. With a tilt,
            perspective is too.
        mask: `H W` of the reference frame, of what moves as one; motion is found by that part alone.
        mean: `C sH sW`, an image that the result is pulled to, e.g. the aligned mean of single-frame results.
        pull: how strongly; 300 is a standard deviation of 15 levels.
        coding: what a video's compression did to the frames; errors that are not known are measured.

    Raises:
        ImageError: frames too small, of another shape, or holding NaN or infinity.
        SettingsError: a scale or reference out of range, or a kernel for another scale.
    """
    _check(frames, scale, reference)
    planes = luma_planes(frames)
    y, refined = planes[:, 0], motion is None and len(frames) > 1
    if refined and start is not None:
        found = _registered(y, Target(y[reference], mask=mask), start, reference, affine=affine)
    elif refined:
        found = find_motion(y, reference, affine=affine)
    else:
        found = measure_motion(y, Target(y[reference], mask=mask), Motion.none(len(y)) if motion is None else motion)
    scene = _extended(planes[reference], scale)
    given, coding = coding, coding and coding.measured(found.residual, reference)
    least = _LEAST_CORRELATION * _share_of_signal(y[reference], degradation, coding)
    for _ in range(_ROUNDS if refined else 0):
        used = [f for f, reason in enumerate(_reasons(planes, found, reference, least)) if reason is None]
        burst = Burst.of(planes, found.motion, degradation, scale, reference, used, coding)
        scene[0], _ = solve(burst, 0, scene[0], _FIRST_STEPS)
        target = scene_target(scene[0], degradation, scale, mask)
        found = _registered(y, target, found.motion, reference, affine=affine)
        coding = given and given.measured(found.residual, reference)
    reasons = _reasons(planes, found, reference, least)
    used = [f for f, reason in enumerate(reasons) if reason is None]
    burst, weights = Burst.of(planes, found.motion, degradation, scale, reference, used, coding), None
    goal = None if mean is None else _goal(mean, pull, scale)
    differs = np.zeros(planes.shape[2:], np.float32)
    for _ in range(_FALLBACKS + 1):
        weights = None
        for channel in range(len(scene)):
            pilot, weights = solve(burst, channel, scene[channel], _FIRST_STEPS, weights)
            scene[channel], weights = solve(
                burst,
                channel,
                pilot,
                _LAST_STEPS,
                weights if channel else None,
                unlikeness(pilot),
                None if goal is None else (goal[0][channel], goal[1]),
            )
        more = np.maximum(differs, _differs(burst, scene, float(coding.error[reference]) if coding else 0.0))
        if not (more > differs).any():
            break
        differs, burst = more, replace(burst, agreement=_agreement(burst, more, scale))
    assert weights is not None
    if coding is not None:
        scene[0] = coding.bounded(scene[0], planes[reference, 0].numpy(), reference, scale)
    measured = measure_motion(y, scene_target(scene[0], degradation, scale, mask), found.motion)
    seen = weights * np.asarray(burst.rows.sum(1) > 0).reshape(weights.shape)
    r = used.index(reference)
    shares = np.ones(len(used)) if coding is None else coding[used].shares(r)
    support = (burst.rows.T @ (seen * shares[:, None, None]).ravel()).reshape(scene[0].shape) * scale**2
    support = support.clip(max=shares.sum())  # where frames are closer together, a pixel is not seen by more of them
    return Fused(
        image=_rgb(torch.from_numpy(_cut(scene, scale).copy())).clamp_(0, 1),
        support=torch.from_numpy(_cut(support, scale).copy()),
        residual=torch.from_numpy(
            255 * (burst.pixels[0, r] - burst.gain[r] * (burst.rows @ scene[0].ravel()).reshape(weights.shape)[r])
        ),
        frames=_facts(measured, reference, dict(zip(used, seen.mean((1, 2)), strict=True)), reasons, coding),
        motion=found.motion,
        reference=reference,
        mask=mask,
        coding=coding,
        alone=float((differs if mask is None else differs[mask.numpy()]).mean()),
    )


def _registered(y: Tensor, target: Target, start: Motion, reference: int, *, affine: bool) -> Registration:
    """Refine the motion of frames; those that would be stretched as no face is between two frames shift alone."""
    found = refine_motion(y, target, start, affine=affine)
    found = replace(found, motion=found.motion.relative_to(reference))
    away = (torch.arange(len(y)) - reference).abs()
    stretched = found.motion.strain > _STRAIN[0] + _STRAIN[1] * away
    if not affine or start.tilt is not None or not stretched.any():
        return found
    found = refine_motion(y, target, found.motion, shifting=stretched)
    return replace(found, motion=found.motion.relative_to(reference))


def _differs(burst: Burst, scene: Array, coding_error: float) -> Array:
    """`H W`: 1 where the reference frame shows something else than a scene that all frames share, 0 where it does not.

    Others would outvote it there: a limb that moved, what hides a part, something that it alone shows.
    """
    if len(burst.gain) == 1:
        return np.zeros(burst.pixels.shape[2:], np.float32)
    off = []
    for plane, pixels in zip(scene, burst.pixels, strict=True):
        residual = pixels - burst.gain * (burst.rows @ plane.ravel()).reshape(pixels.shape)
        near = np.sqrt(ndimage.gaussian_filter(residual**2, (0, 1, 1), mode="nearest"))
        # By the tenth that fits best, since most of a frame may move.
        typical = float(np.quantile(np.delete(near, burst.reference, 0), 0.1))
        off.append(near[burst.reference] / max(typical, _STAYS * coding_error, LEAST_ERROR / 255))
    near = np.max(off, 0)
    alike, unlike = _CODED if coding_error else _PLAIN
    step = ((near - alike) / (unlike - alike)).clip(0, 1).astype(np.float32)
    smooth: Array = step * step * (3 - 2 * step)
    return smooth


def _agreement(burst: Burst, differs: Array, scale: int) -> Array:
    """`R H W`: what differs in the reference frame, where the pixels of all frames lie in the scene, from 1."""
    border = ((scale * BORDER,) * 2,) * 2
    scene = np.pad(differs.repeat(scale, 0).repeat(scale, 1), border, mode="edge")
    agreement: Array = 1 - (burst.rows @ scene.ravel()).reshape(burst.pixels[0].shape).clip(0, 1)
    return agreement


def _facts(
    measured: Registration, reference: int, weights: dict[int, float], reasons: list[str | None], coding: Coding | None
) -> tuple[FusedFrameFacts, ...]:
    motion, tilt = measured.motion, measured.motion.tilt
    error = measured.error
    if coding is not None:
        error = coding.place_error(error, measured.residual, reference)
    return tuple(
        FusedFrameFacts(
            shift=(float(motion.shift[f, 0]), float(motion.shift[f, 1])),
            linear=tuple(motion.linear[f].flatten().tolist() + ([] if tilt is None else tilt[f].tolist())),
            gain=float(motion.gain[f]),
            bias=float(motion.bias[f]),
            residual=255 * float(measured.residual[f]),
            correlation=float(measured.correlation[f]),
            error=float(error[f]),
            weight=float(weights.get(f, 0)),
            coding_error=None if coding is None else 255 * float(coding.error[f]),
            rejected=reason,
        )
        for f, reason in enumerate(reasons)
    )


def _check(frames: Tensor, scale: int, reference: int) -> None:
    if frames.dim() != 4 or frames.shape[1] not in (1, 3) or min(frames.shape[2:]) < SMALLEST_SIDE:
        raise ImageError(
            f"frames to be fused are gray or RGB and have at least {SMALLEST_SIDE} pixels a side, not "
            f"{'x'.join(map(str, frames.shape))} (frames x channels x rows x columns)"
        )
    if not torch.isfinite(frames).all():
        raise ImageError("a frame holds NaN or infinity")
    if scale not in (1, 2, 3, 4):
        raise SettingsError(f"frames are fused at scale 1, 2, 3 or 4, not {scale}")
    if not 0 <= reference < len(frames):
        raise SettingsError(f"the reference is one of the frames 0 to {len(frames) - 1}, not {reference}")


def _share_of_signal(y: Tensor, degradation: Degradation, coding: Coding | None) -> float:
    """Of a frame's variance, what is not noise: the correlation of two frames that differ by noise alone."""
    noise = 0.0 if degradation.noise is None else degradation.noise.sigma
    differs = noise**2 + (0.0 if coding is None else float(coding.error.square().median()) / 4)  # the rest is alike
    return max(0.0, 1 - differs / max(float(y.var()), 1e-10))


def _reasons(planes: Tensor, found: Registration, reference: int, least: float) -> list[str | None]:
    """For each frame, why it cannot be used; the reference always can."""
    size = (planes.shape[2], planes.shape[3])
    away = found.motion.distance(Motion.none(len(planes)), size)
    reasons: list[str | None] = []
    for f in range(len(planes)):
        same = next((g for g in (reference, *range(f)) if g != f and torch.equal(planes[g], planes[f])), None)
        if f == reference:
            reasons.append(None)
        elif same is not None:
            reasons.append(f"its pixels are those of frame {same}")
        elif not away[f] <= _FARTHEST * min(size):
            reasons.append(f"it would lie {float(away[f]):.1f} pixels away from the reference frame")
        elif not found.correlation[f] >= least:
            reasons.append(f"it shows something else: its correlation is {float(found.correlation[f]):.2f}")
        else:
            reasons.append(None)
    return reasons


def scene_target(
    scene: Array, degradation: Degradation, scale: int, mask: Tensor | None = None, border: int = BORDER
) -> Target:
    """The luma of a scene as the camera blurs it, to register frames to; `mask`: of the reference frame."""
    if mask is not None:
        mask = F.pad(mask.repeat_interleave(scale, 0).repeat_interleave(scale, 1), (scale * border,) * 4)
    return Target(torch.from_numpy(blurred(scene, degradation, scale)), (scale, scale), scale * border, mask)


def _goal(mean: Tensor, pull: float, scale: int) -> tuple[Array, Array]:
    """Planes of a mean image with a border, and how strongly each pixel is pulled: the border is not."""
    planes = luma_planes(mean[None])[0]
    around = (scale * BORDER,) * 4
    strength = F.pad(torch.full(mean.shape[1:], pull), around)
    return F.pad(planes[None], around, mode="replicate")[0].numpy(), strength.numpy()


def _rgb(planes: Tensor) -> Tensor:
    return planes if len(planes) == 1 else torch.einsum("cp,phw->chw", torch.linalg.inv(YCBCR), planes)


def _extended(image: Tensor, scale: int) -> Array:
    """`C sH sW`: `C H W` with its border repeated, enlarged by bicubic."""
    padded = F.pad(image[None], (BORDER,) * 4, mode="replicate")
    return resize(padded, scene_size((image.shape[1], image.shape[2]), scale))[0].numpy()


def _cut(scene: Array, scale: int) -> Array:
    """Without the border."""
    border = BORDER * scale
    return scene[..., border:-border, border:-border]
