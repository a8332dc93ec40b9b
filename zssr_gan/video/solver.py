"""The image that frames of a burst, and what is expected of images, make most likely.

It minimises, over the frames' pixels y with camera A, light (g, b), weights W and the loss L of their errors,

    L(W^.5 (y - b - g A x)) + strength * sum_k w_k |D_k x| + likeness |U x|^2 / 2 + pull |x - goal|^2 / 2

where D are first and second differences, |.| is smooth near 0, and U takes off the mean of like patches. W are Cauchy's
weights, squared, of the local residual. Newton's steps with iteratively reweighted differences (Farsiu et al. 2004),
each by conjugate gradients (Hestenes and Stiefel 1952).

Shapes: R frames in use, C planes, H W rows and columns of a frame; sH sW of the scene with its border.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage, sparse
from torch import Tensor

from zssr_gan.degradation.model import Degradation, Noise
from zssr_gan.imaging.colour import LUMA
from zssr_gan.imaging.resize import Size
from zssr_gan.video.camera import Array, Loss, block_loss, camera_matrix, pixel_loss
from zssr_gan.video.coding import Coding
from zssr_gan.video.prior import differences
from zssr_gan.video.registration import Motion

YCBCR = torch.tensor([LUMA, [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
"""From RGB, full range, chroma about 0 (JFIF 1.02)."""


def luma_planes(images: Tensor) -> Tensor:
    """Planes `B C H W` that are solved for: a gray image itself, Y, Cb and Cr of an RGB one."""
    pixels = images.float().cpu()
    return pixels if pixels.shape[1] == 1 else torch.einsum("pc,bchw->bphw", YCBCR, pixels)


_STRENGTH = 0.12
_TYPICAL = 12 / 255  # difference that the strength is counted in
_SMOOTH = 16 / 255  # difference below which its loss is nearly quadratic
_LIKENESS = 300.0
_Quadratic = tuple[sparse.csr_matrix, sparse.csc_matrix, Array | np.float32, Array]
"""A matrix M, its transpose, a strength s, and M x: the term s |M x|^2 / 2."""

_TOLERANCE = 5.0  # standard deviations at which a weight has fallen to a quarter


@dataclass(frozen=True, slots=True)
class Burst:
    """Frames and their camera as the solver takes them."""

    rows: sparse.csr_matrix
    """`(R H W, sH sW)`, of `camera_matrix`."""
    squares: sparse.csr_matrix
    """Its values squared."""
    gain: Array
    """`R 1 1`."""
    pixels: Array
    """`C R H W`, gray or Y, Cb, Cr, without bias."""
    losses: tuple[Loss, ...]
    """Of each plane's errors."""
    least: float
    """Standard deviation of luma's noise."""
    reference: int
    """Which of the R."""
    agreement: Array | None = None
    """`R H W`, 0 where the reference frame shows something else and counts alone, to 1; None: 1 everywhere."""

    @classmethod
    def of(
        cls,
        planes: Tensor,
        motion: Motion,
        degradation: Degradation,
        scale: int,
        reference: int,
        used: Sequence[int],
        coding: Coding | None = None,
    ) -> "Burst":
        """The frames `used` of `F C H W`, gray or Y, Cb, Cr, with the motion of all.

        `coding`: of all frames; it stands in for JPEG.
        """
        rows = camera_matrix(degradation, scale, motion[used], (planes.shape[2], planes.shape[3]))
        pixels = planes[used].transpose(0, 1).numpy().copy()
        pixels[0] -= motion.bias[used].float()[:, None, None].numpy()
        noise = degradation.noise or Noise(sigma=0)
        brightness = ndimage.gaussian_filter(pixels[0], (0, 1, 1), mode="nearest")
        variance = noise.deviation(torch.from_numpy(brightness)).square().numpy()
        share = [1.0] + [0.0] * (len(pixels) - 1)  # of the noise's variance in each plane
        if len(pixels) > 1 and noise.coloured:
            share = YCBCR.square().sum(1).tolist()
        jpeg, losses = degradation.jpeg if coding is None else None, []
        coded = 0.0 if coding is None else coding.variance[used].float()[:, None, None].numpy()
        for channel, part in enumerate(share):
            if jpeg is None:
                losses.append(pixel_loss(part * variance + coded))
            else:
                table, halved = (jpeg.luma, False) if channel == 0 else (jpeg.chroma, jpeg.halved)
                losses.append(block_loss(part * float(variance.mean()), table, halved=halved))
        gain = motion.gain[used].float()[:, None, None].numpy()
        least = float(np.sqrt(share[0] * variance.mean() + np.mean(coded) + 1 / (12 * 255**2)))
        return cls(
            rows,
            sparse.csr_matrix((rows.data**2, rows.indices, rows.indptr), rows.shape),
            gain,
            pixels,
            tuple(losses),
            least,
            used.index(reference),
        )


def solve(
    burst: Burst,
    channel: int,
    start: Array,
    steps: tuple[int, int],
    weights: Array | None = None,
    likeness: sparse.csr_matrix | None = None,
    goal: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """The scene of one plane `sH sW`, border and all, and the weights `R H W` of its pixels.

    Args:
        burst: the frames.
        channel: which plane.
        start: of the scene.
        steps: Newton's, and those of conjugate gradients in each.
        weights: of the frames' pixels; None finds them.
        likeness: of `unlikeness`, where like patches count.
        goal: an image that the scene is pulled to, and how strongly each pixel is.
    """
    y, flat, found = burst.pixels[channel], start.ravel().copy(), weights
    for _ in range(steps[0]):
        residual = y - burst.gain * (burst.rows @ flat).reshape(y.shape)
        if weights is None:
            found = _weights(residual, burst)
        assert found is not None
        quadratic: list[_Quadratic] = []
        if likeness is not None:
            quadratic.append((likeness, likeness.T, np.float32(_LIKENESS), likeness @ flat))
        if goal is not None:
            itself = sparse.identity(flat.size, np.float32, "csr")
            quadratic.append((itself, itself.T, goal[1].ravel(), flat - goal[0].ravel()))
        flat = flat + _newton(
            burst, burst.losses[channel], residual, np.sqrt(found), flat, start.shape, quadratic, steps[1]
        )
    assert found is not None
    return flat.reshape(start.shape), found


def _newton(
    burst: Burst,
    loss: Loss,
    residual: Array,
    root: Array,
    scene: Array,
    size: Size,
    quadratic: list[_Quadratic],
    iterations: int,
) -> Array:
    """A step from `scene`; `root` is that of the weights."""
    slope, curvature = loss(root * residual)
    stencils, squares, importance = differences(size)
    change = stencils @ scene
    stiffness = _STRENGTH / _TYPICAL * importance / np.sqrt(change**2 + np.float32(_SMOOTH**2))
    terms = [(stencils, stencils.T, stiffness, change), *quadratic]
    rows, back, scaled = burst.rows, burst.rows.T, root * burst.gain  # making `.T` takes as long as a small product

    def curved(step: Array) -> Array:
        out: Array = back @ (scaled * curvature(scaled * (rows @ step).reshape(root.shape))).ravel()
        for matrix, transposed, strength, _ in terms:
            out += transposed @ (strength * (matrix @ step))
        return out

    downhill = back @ (scaled * slope).ravel()
    for _, transposed, strength, value in terms:
        downhill -= transposed @ (strength * value)
    # The diagonal of all this preconditions: the mean curvature as Hutchinson (1989) estimates it.
    probe = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), root.shape)
    mean = np.float32((probe * curvature(probe)).mean())
    diagonal = burst.squares.T @ (scaled**2 * mean).ravel() + squares.T @ stiffness
    diagonal += sum(strength for _, _, strength, _ in quadratic)
    return _conjugate_gradients(curved, downhill, diagonal, iterations)


def _conjugate_gradients(curved: Callable[[Array], Array], right: Array, diagonal: Array, iterations: int) -> Array:
    """The x of `curved(x) = right` after so many iterations from 0, preconditioned by a diagonal."""
    x, left = np.zeros_like(right), right
    direction = left / diagonal
    power = float(left @ direction)
    for _ in range(iterations):
        image = curved(direction)
        length = np.float32(power / max(float(direction @ image), 1e-30))
        x, left = x + length * direction, left - length * image
        scaled = left / diagonal
        power, before = float(left @ scaled), power
        direction = scaled + np.float32(power / max(before, 1e-30)) * direction
    return x


def _weights(residual: Array, burst: Burst) -> Array:
    """Cauchy's, squared, of the residual around each pixel; the reference frame is what the result shows: 1."""
    near = np.sqrt(ndimage.gaussian_filter(residual**2, (0, 1, 1), mode="nearest"))
    typical = max(burst.least, float(np.median(near)))
    weights: Array = (1 + (near / (_TOLERANCE * typical)) ** 2) ** -2
    if burst.agreement is not None:
        weights *= burst.agreement
    weights[burst.reference] = 1
    return weights.astype(np.float32)
