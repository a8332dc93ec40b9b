"""The camera of a burst: each pixel of each frame as a weighted sum of the scene's, and how far it may be off.

The point spread function is sampled at the place where a pixel's centre lies in the scene, turned and stretched as its
frame is, so that nothing is interpolated (Elad and Feuer 1997). Compression's error is not independent between pixels
but between the cosine coefficients of a block: each is known to lie within a step (Gunturk et al. 2004).

Shapes: F frames, H W rows and columns of a frame; sH sW of the scene, with a border around the reference frame.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage, sparse
from scipy.special import ndtr

from zssr_gan.degradation.model import Degradation, KernelBlur
from zssr_gan.degradation.operators import KernelDownscale
from zssr_gan.errors import SettingsError
from zssr_gan.imaging.resize import Size
from zssr_gan.video.registration import Motion

Array = NDArray[Any]
"""Of floating-point numbers."""

Curvature = Callable[[Array], Array]
"""The second derivative of a loss, applied to a change of the residuals `F H W`."""

Loss = Callable[[Array], tuple[Array, Curvature]]
"""From residuals `F H W` to the gradient of their negative log-likelihood, and its curvature there, above 0."""

BORDER = 3
"""Pixels of a frame that the scene reaches beyond the reference frame, at each side."""

_FINER = 16  # samples of the point spread function along an HR pixel; between them it is linear

_LEAST = 2e-3  # of its largest value; what is smaller is left out

_ROUNDING = 1 / (12 * 255**2)  # variance

_INEXACT = 1 / 255  # standard deviation of what motion and blur are off, where only an interval is known

_COSINES = fft.dct(np.eye(8), axis=0, norm="ortho").astype(np.float32)


def scene_size(size: Size, scale: int) -> Size:
    """Of the scene that frames of a size are taken from, with its border."""
    return ((size[0] + 2 * BORDER) * scale, (size[1] + 2 * BORDER) * scale)


@lru_cache(maxsize=16)
def point_spread(degradation: Degradation, scale: int) -> Array:
    """The camera's point spread function by the offset from a frame's pixel, 16 samples per HR pixel, `k k`.

    It is what `Degradation.downscale` weighs HR pixels by, as a function of any offset.

    Raises:
        SettingsError: a kernel that holds for another scale.
    """
    width, blur = float(scale), degradation.blur
    spread, offset = np.ones((1, 1)), 0.0
    if isinstance(blur, KernelBlur):
        if blur.scale != (scale, scale):
            raise SettingsError(f"the blur kernel holds for scale {blur.scale}; fuse at that scale, or give another")
        values = torch.tensor(blur.values, dtype=torch.float64)
        spread, offset, width = KernelDownscale(values, blur.scale).kernel.numpy(), (scale - 1) / 2, 1.0
    elif blur is not None:
        spread = blur.kernel((width, width)).numpy()
    reach = math.ceil(max(spread.shape) / 2 + 2 * width + offset)
    fine = np.zeros((2 * reach * _FINER + 1, 2 * reach * _FINER + 1))
    places = [np.rint(_FINER * (np.arange(n) - n // 2 - offset + reach)).astype(int) for n in spread.shape]
    fine[np.ix_(*places)] = spread
    half = math.ceil(2 * width * _FINER)
    taps = _keys(np.arange(-half, half + 1) / (_FINER * width))
    for axis in (0, 1):
        fine = ndimage.correlate1d(fine, taps, axis, mode="constant")
    seen = np.abs(np.argwhere(np.abs(fine) > _LEAST * fine.max()) - reach * _FINER).max()
    cut = (reach - math.ceil(seen / _FINER)) * _FINER
    fine = fine[cut : len(fine) - cut, cut : len(fine) - cut]
    return np.ascontiguousarray(fine, np.float32)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic, a = -0.5."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


def blurred(scene: Array, degradation: Degradation, scale: int) -> Array:
    """`sH sW` as the camera blurs it, at every pixel of the scene."""
    spread = point_spread(degradation, scale)[::_FINER, ::_FINER]
    blurry: Array = ndimage.correlate(scene, spread / spread.sum(), mode="nearest")
    return blurry


def camera_matrix(degradation: Degradation, scale: int, motion: Motion, size: Size) -> sparse.csr_matrix:
    """`(F H W, sH sW)`, float32: the scene with its border, to the frames' pixels, without gain and bias.

    Rows sum to 1; those of pixels that lie beyond the scene are empty. The scene repeats its border.
    """
    spread = point_spread(degradation, scale)
    least = _LEAST * spread.max()
    tall, wide = scene_size(size, scale)
    turned = motion.linear.numpy() + np.eye(2)
    into = (_FINER * np.linalg.inv(turned)).astype(np.float32)  # samples of the table to a pixel of the scene
    half = min(len(spread), math.ceil(np.abs(into).sum(2).max() / 2))  # samples, to half a pixel
    table = np.pad(spread, 2 * half + 1)
    near = ndimage.maximum_filter(np.abs(table), 2 * half + 1) > least
    middle = np.float32(len(table) // 2)

    reach = math.ceil(len(spread) // 2 / _FINER * np.linalg.norm(turned, 2, axis=(1, 2)).max())
    offsets = np.indices((2 * reach, 2 * reach), np.int32).reshape(2, -1) - (reach - 1)
    places = (motion.places(size).numpy().reshape(len(motion), -1, 2) + BORDER + 0.5) * scale - 0.5
    inside = np.asarray(((places >= -0.5) & (places <= np.array([tall, wide]) - 0.5)).all(-1))
    places[~inside] = 0
    first = np.floor(places).astype(np.int32)
    beyond = (places - first).astype(np.float32)
    # Taps are counted in the scene with its border repeated, where they lie alike around every pixel.
    scene = np.pad(np.arange(tall * wide, dtype=np.int32).reshape(tall, wide), reach, mode="edge")
    steps = np.array([scene.shape[1], 1], np.int32)
    values, columns, counts = [], [], []
    for f in range(len(motion)):
        at = np.rint(into[f] @ (offsets - np.float32(0.5)) + middle).astype(np.int32).clip(0, len(table) - 1)
        taps = offsets[:, near[at[0], at[1]]]
        v, u = (into[f] @ taps.astype(np.float32) + middle)[:, None] - (into[f] @ beyond[f].T)[..., None]
        weights = _looked_up(table, v, u)
        kept = (np.abs(weights) > least) & inside[f, :, None]
        weights *= kept
        total = weights.sum(1, keepdims=True)
        weights /= np.where(total > 0, total, 1)
        values.append(weights[kept])
        columns.append(scene.ravel()[(((first[f] + reach) @ steps)[:, None] + steps @ taps)[kept]])
        counts.append(kept.sum(1))
    pointers = np.concatenate([[0], *counts]).cumsum(dtype=np.int32)
    shape = (len(pointers) - 1, tall * wide)
    return sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), pointers), shape)


def _looked_up(table: Array, v: Array, u: Array) -> Array:
    """A table's values at places (v, u), linear between its samples; beyond it, those of its border."""
    v, u = (place.clip(0, len(table) - 1.01) for place in (v, u))
    top, left = v.astype(np.int32), u.astype(np.int32)
    v, u, side = v - top.astype(np.float32), u - left.astype(np.float32), len(table)
    at, flat = (top * np.int32(side) + left).astype(np.intp), table.ravel()
    upper, right, lower, lower_right = (flat[shift:].take(at, mode="wrap") for shift in (0, 1, side, side + 1))
    upper += (right - upper) * u
    lower += (lower_right - lower) * u
    values: Array = upper + (lower - upper) * v
    return values


def pixel_loss(variance: Array) -> Loss:
    """Of independent Gaussian errors with a variance `F H W`, to which rounding's is added."""
    weight = (1 / (variance + _ROUNDING)).astype(np.float32)
    return lambda residual: (weight * residual, lambda change: weight * change)


def block_loss(variance: float, table: tuple[int, ...], *, halved: bool = False) -> Loss:
    """Of pixels with independent Gaussian errors that were then compressed by JPEG, blocks from a frame's corner.

    A coefficient that was stored as c says that it was within half a step of c, and no more: the likelihood is the
    normal distribution's share of that interval.

    Args:
        variance: of the errors, rounding not among them.
        table: 64 steps of quantisation, row by row from the lowest frequency.
        halved: whether the plane was stored at half the size.
    """
    deviation = math.sqrt((variance / 4 if halved else variance) + _ROUNDING + _INEXACT**2)
    steps = np.array(table, np.float64).reshape(8, 8) / 255
    floor = 1 / (deviation**2 + steps**2 / 12)  # curvature of the Gaussian of the same variance

    def loss(residual: Array) -> tuple[Array, Curvature]:
        coefficients = _coefficients(_pooled(residual) if halved else residual).astype(np.float64)
        slope, bend = _interval_loss(coefficients / deviation, steps / deviation)
        curvature = np.maximum(bend / deviation**2, floor).astype(np.float32)

        def back(blocks: Array) -> Array:
            plane = _from_coefficients(blocks, (residual.shape[1], residual.shape[2]), halved=halved)
            return _unpooled(plane, residual.shape) if halved else plane

        def bent(change: Array) -> Array:
            return back(curvature * _coefficients(_pooled(change) if halved else change))

        return back((slope / deviation).astype(np.float32)), bent

    return loss


def _interval_loss(
    x: NDArray[np.float64], step: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and second derivative of -log(Phi(step/2 - x) - Phi(-step/2 - x)); far outside, of a parabola."""
    near = np.abs(x).clip(max=step / 2 + 4)
    upper, lower = step / 2 - near, -step / 2 - near
    share = ndtr(upper) - ndtr(lower)
    at_upper, at_lower = (np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) for z in (upper, lower))
    slope = (at_upper - at_lower) / share
    bend = slope**2 + (upper * at_upper - lower * at_lower) / share
    return (slope + np.abs(x) - near) * np.sign(x), bend


def _coefficients(planes: Array) -> Array:
    """Orthonormal cosine transform of 8x8 blocks of `F H W`: `F n m 8 8`; what a block lacks is 0."""
    frames, height, width = planes.shape
    padded = np.zeros((frames, height + -height % 8, width + -width % 8), np.float32)
    padded[:, :height, :width] = planes
    blocks = padded.reshape(frames, padded.shape[1] // 8, 8, -1, 8).swapaxes(2, 3)
    coefficients: Array = _COSINES @ blocks @ _COSINES.T
    return coefficients


def _from_coefficients(blocks: Array, size: Size, *, halved: bool) -> Array:
    """The transpose of `_coefficients`, for planes of a size, or of its half."""
    height, width = ((side + 1) // 2 for side in size) if halved else size
    planes = (_COSINES.T @ blocks @ _COSINES).swapaxes(2, 3)
    planes = planes.reshape(len(planes), planes.shape[1] * 8, -1)
    cut: Array = planes[:, :height, :width]
    return cut


def _pooled(planes: Array) -> Array:
    """`F H W` averaged over 2x2 pixels; at an odd border the last row or column is repeated."""
    planes = np.pad(planes, ((0, 0), (0, planes.shape[1] % 2), (0, planes.shape[2] % 2)), mode="edge")
    return (planes[:, ::2, ::2] + planes[:, 1::2, ::2] + planes[:, ::2, 1::2] + planes[:, 1::2, 1::2]) / 4


def _unpooled(planes: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `_pooled`."""
    large = np.repeat(np.repeat(planes, 2, 1), 2, 2) / 4
    for axis in (1, 2):
        if shape[axis] % 2:
            last = [slice(None)] * 3
            last[axis] = slice(shape[axis] - 1, shape[axis])
            beyond = [slice(None)] * 3
            beyond[axis] = slice(shape[axis], None)
            large[tuple(last)] += large[tuple(beyond)]
            large = np.delete(large, shape[axis], axis)
    return large
