"""Where the frames of a burst lie in one image of their scene, to a few hundredths of a pixel.

Lucas and Kanade's (1981) image registration in Baker and Matthews' (2004) forwards additive form, on a pyramid of
Gaussian blurs: shift, then affine map or homography, with gain and bias of the light and Huber's weights, all frames as
one batch. The image is sampled by cubic B-splines (Unser 1999), whose derivative is exact.

Shapes: F frames, H W rows and columns, P parameters. Places are (y, x), in pixels of a frame, the first centre at 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from zssr_gan.errors import ImageError
from zssr_gan.imaging.resize import Size
from zssr_gan.video.spline import Spline

SMALLEST_SIDE = 12

_SIGMAS = (2.0, 1.0, 0.5)  # of the pyramid's blurs, pixels of a frame that is 32 pixels high
_ITERATIONS = 5  # at each blur, at most
_CONVERGED = 0.01  # of a blur: after a step that moves no frame by more, the next would move it by a tenth of that
_FARTHEST = 16  # pixels that the first search looks, at most a quarter of the side
_CLEARLY = 0.8  # ratio of losses below which the shift that correlates best is better than none
_HUBER = 2.0  # standard deviations beyond which a residual counts linearly
_AFFINE_PRIOR = 1.5 / 32  # standard deviation of what an affine map moves the border, per pixel of the side
_OUTLIER = 12 / 255  # residual of which Geman and McClure's loss is a half
_GAIN_PRIOR, _BIAS_PRIOR = 0.3, 0.2


@dataclass(frozen=True, slots=True)
class Motion:
    """Place and light of each frame: `frame(p) = gain * scene(c + (1 + linear)(p - c) + shift) + bias`, c the centre.

    With perspective, the place minus c is divided by `1 + tilt (p - c)`. All float64. The scene is that of the
    reference frame, whose own values are 0, 0, 1, 0.
    """

    shift: Tensor
    """`F 2`, (y, x) in pixels of a frame."""
    linear: Tensor
    """`F 2 2`, what the affine map adds to the identity."""
    gain: Tensor
    """`F`."""
    bias: Tensor
    """`F`, [0, 1] units."""
    tilt: Tensor | None = None
    """`F 2`, (y, x) per pixel of a frame; None: no perspective."""

    def __len__(self) -> int:
        return len(self.gain)

    def __getitem__(self, frames: "slice | Sequence[int]") -> "Motion":
        index = frames if isinstance(frames, slice) else list(frames)
        tilt = None if self.tilt is None else self.tilt[index]
        return Motion(self.shift[index], self.linear[index], self.gain[index], self.bias[index], tilt)

    @classmethod
    def none(cls, count: int) -> "Motion":
        """Of frames that all are the reference."""
        zeros = torch.zeros(count, 2, 2, dtype=torch.float64)
        return cls(zeros[:, 0], zeros, torch.ones(count, dtype=torch.float64), zeros[:, 0, 0])

    def places(self, size: Size) -> Tensor:
        """`F H W 2`: where the pixels of a frame of this size (rows, columns) lie in the reference frame."""
        centred = _grid(size)
        middle = torch.tensor([(side - 1) / 2 for side in size], dtype=torch.float64)
        if self.tilt is not None:
            from_middle = centred + centred @ self.linear.mT[:, None] + self.shift[:, None, None]
            return middle + from_middle / self._depth(centred)
        places: Tensor = middle + centred + centred @ self.linear.mT[:, None] + self.shift[:, None, None]
        return places

    @property
    def matrices(self) -> Tensor:
        """`F 3 3`: from (y, x, 1) in a frame to that in the reference frame, both from the middle."""
        found = torch.eye(3, dtype=torch.float64) + F.pad(self.linear, (0, 1, 0, 1))
        found[:, :2, 2] = self.shift
        found[:, 2, :2] = 0 if self.tilt is None else self.tilt
        return found

    def _depth(self, centred: Tensor) -> Tensor:
        """`F H W 1`: what perspective divides by; what lies behind the camera is far away."""
        assert self.tilt is not None
        return (1 + torch.einsum("hwi,fi->fhw", centred, self.tilt)[..., None]).clamp(min=1e-3)

    @property
    def strain(self) -> Tensor:
        """`F`: by how much the affine map stretches or shrinks a length at most; turning does not count."""
        singular: Tensor = torch.linalg.svdvals(self.linear + torch.eye(2, dtype=torch.float64))
        return (singular - 1).abs().amax(-1)

    def relative_to(self, index: int) -> "Motion":
        """The same with one frame as the reference."""
        gain = self.gain / self.gain[index]
        bias = self.bias - gain * self.bias[index]
        if self.tilt is not None:
            found = torch.linalg.inv(self.matrices[index]) @ self.matrices
            found = found / found[:, 2:, 2:]
            linear = found[:, :2, :2] - torch.eye(2, dtype=torch.float64)
            return Motion(found[:, :2, 2], linear, gain, bias, found[:, 2, :2])
        inverse = torch.linalg.inv(self.linear[index] + torch.eye(2, dtype=torch.float64))
        linear = inverse @ (self.linear - self.linear[index])
        shift = (self.shift - self.shift[index]) @ inverse.T
        return Motion(shift, linear, gain, bias)

    def distance(self, other: "Motion", size: Size) -> Tensor:
        """`F`: mean over a frame's pixels of how far apart the two put them, in pixels of a frame."""
        apart: Tensor = torch.linalg.vector_norm(self.places(size) - other.places(size), dim=-1)
        return apart.mean((1, 2))


@dataclass(frozen=True, slots=True)
class Registration:
    """Motion of the frames, and how well each one fits."""

    motion: Motion
    residual: Tensor
    """`F`, [0, 1] units: robust standard deviation of frame minus image."""
    correlation: Tensor
    """`F`: of the frame with the image, without blur, weighted as in the last step; 1 is best."""
    fit: Tensor
    """`F`: mean over the pixels of Geman and McClure's (1987) loss of the residual, 0 to 1; a pixel beyond the image
    counts as 0.5."""
    error: Tensor
    """`F`: standard error of the place as the residual has it, mean over the frame, pixels of a frame (a lower bound:
    what is not noise is not in it)."""


@dataclass(frozen=True, slots=True)
class Target:
    """An image to register frames to.

    Args:
        image: `H W` in [0, 1], as blurred as the frames are.
        scale: its pixels per pixel of a frame, each way (y, x).
        border: its rows and columns beyond the reference frame, at each side.
        mask: `H W` of what is to be seen, where that is not all.
    """

    image: Tensor
    scale: tuple[float, float] = (1.0, 1.0)
    border: int = 0
    mask: Tensor | None = None


def find_motion(frames: Tensor, reference: int = 0, *, affine: bool = True) -> Registration:
    """Register the frames of a burst to one of them.

    Args:
        frames: `F H W` in [0, 1], at least 12 pixels a side.
        reference: which frame.
        affine: whether frames may turn, shear and change size; else they shift alone.

    Raises:
        ImageError: frames that are too small, or hold NaN or infinity.
    """
    if min(frames.shape[1:]) < SMALLEST_SIDE:
        raise ImageError(f"frames must have at least {SMALLEST_SIDE} pixels a side to be registered")
    if not torch.isfinite(frames).all():
        raise ImageError("a frame holds NaN or infinity")
    side = min(frames.shape[1:])
    unit = min(1.0, max(0.6, side / 32))
    target, count = Target(frames[reference]), len(frames)
    # What hides a part of a frame misleads the correlation, so that no shift is tried, too.
    near = _nearest_shifts(frames, reference, unit)
    starts = Motion(
        torch.cat([near.shift, 0 * near.shift]), *(torch.cat([x, x]) for x in (near.linear, near.gain, near.bias))
    )
    tried = _descend(torch.cat([frames, frames]), target, starts, _SIGMAS[0] * unit, affine=False)
    found = tried.motion[[f if tried.fit[f] < _CLEARLY * tried.fit[f + count] else f + count for f in range(count)]]
    for sigma in _SIGMAS[1:-1]:
        found = _descend(frames, target, found, sigma * unit, affine=False).motion
    for sigma in _SIGMAS[1:-1] if affine else ():
        found = _descend(frames, target, found, sigma * unit, affine=True).motion
    last = _descend(frames, target, found, _SIGMAS[-1] * unit, affine=affine)
    return replace(last, motion=last.motion.relative_to(reference))


def refine_motion(
    frames: Tensor,
    target: Target,
    start: Motion,
    *,
    affine: bool = True,
    sigma: float = 0.6,
    shifting: Tensor | None = None,
) -> Registration:
    """Register frames to an image of their scene, from a start that is off by less than about 2 pixels.

    Args:
        frames: `F H W` in [0, 1].
        target: e.g. the fused image, blurred by the camera.
        start: the motion so far; where it has a tilt, and `affine`, perspective is found too.
        affine: as in `find_motion`.
        sigma: standard deviation of a blur of both, pixels of a frame.
        shifting: `F`, whether a frame shifts alone all the same.
    """
    return _descend(frames, target, start, sigma, affine=affine, shifting=shifting)


def measure_motion(frames: Tensor, target: Target, motion: Motion) -> Registration:
    """How well frames fit an image of their scene under a motion, which is not changed (see `refine_motion`)."""
    return _descend(frames, target, motion, 0.0, affine=True, iterations=0)


def _grid(size: Size) -> Tensor:
    """`H W 2`: each pixel's place from the centre."""
    sides = [torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in size]
    return torch.stack(torch.meshgrid(*sides, indexing="ij"), -1)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """`... H W` float64; what lies beyond the border repeats it."""
    pixels = images.double().numpy()
    if sigma > 0:
        pixels = ndimage.gaussian_filter(pixels, (0,) * (pixels.ndim - 2) + (sigma, sigma), mode="nearest")
    return torch.from_numpy(np.ascontiguousarray(pixels))


def _nearest_shifts(frames: Tensor, reference: int, unit: float) -> Motion:
    """The whole-pixel shifts of the largest normalised correlation (Lewis 1995) of each frame's middle."""
    smooth = _blurred(frames, unit)
    image = smooth[reference][None, None]
    reach = [min(_FARTHEST, side // 4) for side in frames.shape[1:]]
    middle = smooth[:, None, reach[0] : frames.shape[1] - reach[0], reach[1] : frames.shape[2] - reach[1]]
    best = correlations(image, middle).flatten(1).argmax(1)
    width = 2 * reach[1] + 1
    shift = torch.stack([best // width - reach[0], best % width - reach[1]], 1).double()
    return replace(Motion.none(len(frames)), shift=shift)


def correlations(image: Tensor, templates: Tensor) -> Tensor:
    """Normalised correlation (Lewis 1995) with each place of an image `1 1 H W`, times the template's own deviation.

    Of templates `F 1 h w`: `F (H - h + 1) (W - w + 1)`.
    """
    centred = templates - templates.mean((2, 3), keepdim=True)
    ones, count = torch.ones_like(centred[:1]), centred[0].numel()
    means = F.conv2d(image, ones) / count
    variance = (F.conv2d(image.square(), ones) / count - means.square()).clamp(min=1e-10)
    return (F.conv2d(image, centred) / variance.sqrt())[0]


def _descend(
    frames: Tensor,
    target: Target,
    start: Motion,
    sigma: float,
    *,
    affine: bool,
    iterations: int = _ITERATIONS,
    shifting: Tensor | None = None,
) -> Registration:
    """Gauss and Newton's steps on weighted squares of `frame - gain * image(place) - bias`, each frame by itself."""
    size = (frames.shape[1], frames.shape[2])
    y, image = _blurred(frames, sigma), Spline(_blurred(target.image, sigma * target.scale[0]))
    scale = torch.tensor(target.scale, dtype=torch.float64)
    margin = round(1.5 * sigma)  # what a blur saw from beyond a border is left out
    inside = torch.zeros(size, dtype=torch.bool)
    inside[margin : size[0] - margin, margin : size[1] - margin] = True
    last = torch.tensor(image.size, dtype=torch.float64) - 1 - margin * scale
    half = (max(size) - 1) / 2
    unit = _grid(size) / half
    beyond = [0.0] * (4 + 2 * (start.tilt is not None)) * affine
    prior = torch.tensor([0.0, 0.0, 1 / _GAIN_PRIOR**2, 1 / _BIAS_PRIOR**2, *beyond], dtype=torch.float64)
    prior[4:] = 1 / (_AFFINE_PRIOR * max(size)) ** 2
    shift, linear, gain, bias = start.shift.clone(), start.linear.clone(), start.gain.clone(), start.bias.clone()
    tilt = None if start.tilt is None else start.tilt.clone()
    converged = False
    for iteration in range(iterations + 1):
        motion = Motion(shift, linear, gain, bias, tilt)
        places = (motion.places(size) + 0.5) * scale - 0.5 + target.border
        value, slope = image(places)
        slope = slope * scale * gain[:, None, None, None]
        if tilt is not None:
            slope = slope / motion._depth(_grid(size))
        seen = inside & (places >= margin * scale).all(-1) & (places <= last).all(-1)
        if target.mask is not None:
            seen &= _at(target.mask, places)
        residual = y - gain[:, None, None] * value - bias[:, None, None]
        spread = _deviation(residual, seen)
        weight = (_HUBER * spread[:, None, None] / residual.abs().clamp(min=1e-12)).clamp(max=1) * seen
        columns = [slope, value[..., None], torch.ones_like(value)[..., None]]
        if affine:
            columns.append((slope[..., :, None] * unit[..., None, :]).flatten(-2))
        if affine and tilt is not None:
            from_middle = motion.places(size) - torch.tensor([(side - 1) / 2 for side in size], dtype=torch.float64)
            columns.append(-(slope * from_middle).sum(-1, keepdim=True) * unit / half)
        j_FNP = torch.cat(columns, -1).flatten(1, 2)
        if shifting is not None:
            j_FNP[shifting, :, 4:] = 0  # the prior alone is left, by which the first step ends at no affine map
        weighted = j_FNP * weight.flatten(1)[..., None]
        normal = weighted.mT @ j_FNP + torch.diag_embed(spread[:, None] ** 2 * prior + 1e-9)
        if iteration == iterations or converged:
            break
        now = torch.cat([torch.zeros_like(shift), (gain - 1)[:, None], bias[:, None]], 1)
        if affine:
            now = torch.cat([now, half * linear.flatten(1)], 1)
        if affine and tilt is not None:
            now = torch.cat([now, half**2 * tilt], 1)
        right = (weighted * residual.flatten(1)[..., None]).sum(1) - spread[:, None] ** 2 * prior * now
        step = torch.linalg.solve(normal, right)
        converged = bool((step.abs() < _CONVERGED * sigma).all())
        shift, gain, bias = shift + step[:, :2].clamp(-1, 1), gain + step[:, 2], bias + step[:, 3]
        if affine:
            linear = linear + step[:, 4:8].clamp(-1, 1).unflatten(1, (2, 2)) / half
        if affine and tilt is not None:
            tilt = tilt + step[:, 8:].clamp(-1, 1) / half**2
    loss = (residual**2 / (residual**2 + _OUTLIER**2)).where(seen, 0.5).mean((1, 2))
    return Registration(motion, spread, _correlation(y, value, weight), loss, _standard_error(normal, spread, unit))


def _at(mask: Tensor, places: Tensor) -> Tensor:
    """A mask `H W` at the pixels nearest to places `... 2`; False beyond it."""
    y, x = (places[..., axis].round().long() + 1 for axis in (0, 1))
    padded = F.pad(mask, (1, 1, 1, 1))
    return padded[y.clamp(0, mask.shape[0] + 1), x.clamp(0, mask.shape[1] + 1)]


def _deviation(residual: Tensor, seen: Tensor) -> Tensor:
    """`F`: standard deviation by the median of the absolute values of `F H W`, at least a quarter of a level."""
    flat = residual.abs().masked_fill(~seen, math.nan).flatten(1)
    return (1.4826 * flat.nanmedian(1).values).nan_to_num(1.0).clamp(min=0.25 / 255)


def _correlation(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum((1, 2), keepdim=True).clamp(min=1e-9)
    a, b = (x - (weight * x).sum((1, 2), keepdim=True) / total for x in (a, b))
    both = (weight * a * b).sum((1, 2))
    found: Tensor = both / ((weight * a * a).sum((1, 2)) * (weight * b * b).sum((1, 2))).sqrt().clamp(min=1e-12)
    return found


def _standard_error(normal: Tensor, spread: Tensor, unit: Tensor) -> Tensor:
    covariance: Tensor = torch.linalg.inv(normal) * spread[:, None, None] ** 2
    if normal.shape[-1] == 4:
        return covariance[:, :2, :2].diagonal(dim1=1, dim2=2).sum(1).sqrt()
    variance = torch.zeros(len(normal), *unit.shape[:2], dtype=torch.float64)
    for axis in (0, 1):
        of = [axis, 4 + 2 * axis, 5 + 2 * axis]
        basis = torch.cat([torch.ones_like(unit[..., :1]), unit], -1)
        variance += torch.einsum("hwi,fij,hwj->fhw", basis, covariance[:, of][:, :, of], basis)
    return variance.sqrt().mean((1, 2))
