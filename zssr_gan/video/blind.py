"""The camera of a burst from its frames alone: what they do not share is noise, and what they share is blurred.

The frames are joined by least squares into one image on a grid twice as fine, blurred as the camera blurs: sub-pixel
shifts show detail beyond a frame's own Nyquist frequency (Tsai and Huang 1984). Noise is what leaves as large a
residual when it is simulated. The blur is what the image's power spectrum falls off by, beyond the power law of natural
images (Field 1987), at the maximum of Whittle's (1953) likelihood.

Shapes: F frames, H W rows and columns of a frame; D simulated bursts; sH sW of the scene with its border; 2H 2W of the
finer grid; N = F H W.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage, optimize, sparse
from torch import Tensor

from zssr_gan.degradation.jpeg import compress
from zssr_gan.degradation.model import Blur, Degradation, GaussianBlur, Jpeg, KernelBlur, Noise
from zssr_gan.degradation.noise import LUMA_NOISE
from zssr_gan.imaging.resize import Size
from zssr_gan.video.camera import BORDER, Array, camera_matrix, scene_size
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.prior import differences
from zssr_gan.video.registration import Motion
from zssr_gan.video.solver import luma_planes

FEWEST = 4
"""Frames of one scene, the reference among them, that tell a camera."""

FEWEST_FOR_NOISE = 2
"""The same, that tell its noise alone, whatever their shifts."""

SHIFTED = 0.4
"""Least `Fused.phases` each way: with fewer sub-pixel shifts the finer grid is not seen."""

_FINER = 2
_ASSUMED = 2 / 255  # noise with which frames are first registered
_LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)  # of noise, simulated
_MOST_COMPRESSED = 2.5  # levels: JPEG's own error is most of the residual, so that 2 levels are seen as 3.5 to 4
_LEAST_NOISE = 0.7  # levels: of less, what is finer than the grid would be put into the image as stair-steps
_WHITE = 0.1
"""Largest correlation between neighbouring pixels of what frames do not share, where it is a camera's noise. Of faces
of 32 px with noise of 1.5 to 10 levels, never compressed with loss, it is 0.00 to 0.04; in H.264 of crf 10 to 33, 0.12
to 0.5 unless the noise is far above the quantiser's steps."""

_DRAWS = 3  # simulations of the noise that was found
_SMOOTH = 0.4  # pixels of the finer grid: blur of the image that simulated bursts show
_STIFFNESS, _ITERATIONS = 0.02, 50  # of least squares: differences are penalised as little as a hundredth of a frame

_SLOPE = 3.1
"""Exponent by which the power of images falls with the frequency: of 108 faces of 64 pixels 3.2 +- 0.3; their blur is
then off by 0.1 squared pixels of the finer grid. Of other images it is 2 to 3, and their blur comes out too small: they
are restored too softly, text and textures also as of square pixels (see `_SQUARE`)."""

_SQUARE = -0.05
"""Squared pixels of a frame: with less blur than that, in the mean of both axes, a burst is taken as one of pixels that
average over their square, which lets more through at a frame's Nyquist frequency, and beyond, than antialiased bicubic
does. Of 17 faces such bursts have -0.16 to -0.03, those of antialiased bicubic -0.04 to 0.07; text and textures have
-0.07 to -0.19 either way. The mistake that is made with them costs up to 5 dB of text's gain, and stays above bicubic
interpolation; the other one puts grain into faces, up to 2 dB below it."""

_LOWEST, _HIGHEST, _HIGHEST_JPEG = 0.05, 0.36, 0.30  # cycles a pixel of the finer grid: JPEG takes more away
_ROUNDER, _ROUNDER_JPEG = 0.35, 0.5  # share by which the blur's axes are drawn together: scenes have directions too
_ROUNDING = 0.02  # variance, squared levels, on the finer grid
_LEAST = 0.15**2  # squared pixels of a frame: less blur is taken for none


@dataclass(frozen=True, slots=True)
class BurstCamera:
    """What a burst tells of its camera."""

    degradation: Degradation
    why: str
    """In one sentence."""
    noise_why: str
    """Of the noise alone, as a part of a sentence."""
    blur_told: bool
    """Whether there are frames and sub-pixel shifts enough to tell the blur; else the noise alone is known."""
    correlation: float
    """Between neighbouring pixels of what the frames do not share."""

    @property
    def white(self) -> bool:
        """Whether that is as a camera's noise is, independent in each pixel; what a lossy codec leaves is not."""
        return self.correlation < _WHITE


def burst_camera(
    frames: Tensor,
    reference: int,
    jpeg: Jpeg | None,
    scale: int = 2,
    *,
    affine: bool = True,
    start: Motion | None = None,
    mask: Tensor | None = None,
) -> BurstCamera | None:
    """The blur and noise of the camera that took a burst; None where no two frames show the same.

    Args:
        frames: `F C H W` in [0, 1].
        reference: the frame that others are registered to.
        jpeg: how they were compressed, with blocks from a frame's corner.
        scale: at which the camera is to hold.
        affine, start, mask: see `fuse_burst`.
    """
    assumed = Degradation(noise=Noise(sigma=_ASSUMED), jpeg=jpeg)
    fused = fuse_burst(frames, assumed, _FINER, reference, affine=affine, start=start, mask=mask)
    used = [f for f, fact in enumerate(fused.frames) if fact.rejected is None]
    if len(used) < FEWEST_FOR_NOISE:
        return None
    joined = _Joined(255 * luma_planes(frames)[used, 0].numpy(), fused.motion[used], jpeg)
    sigma = joined.noise() if jpeg is None else min(_MOST_COMPRESSED, joined.noise())
    blur: GaussianBlur | KernelBlur | None = None
    blur_told = len(used) >= FEWEST and min(fused.phases) >= SHIFTED
    if blur_told:
        width, blur = _blur_of(
            joined.power, joined.transfer(), joined.error_power(sigma), joined.size, compressed=jpeg is not None
        )
        if width < _SQUARE and jpeg is None and scale > 1:
            blur = square_pixels(scale)
            sigma = _Joined(joined.levels, joined.motion, None, square_pixels(_FINER)).noise()
    coloured = frames.shape[1] == 3 and not torch.equal(frames[:, 0], frames[:, 1])
    noise = Noise(sigma=min(0.5, sigma / 255 / (LUMA_NOISE if coloured else 1)), coloured=coloured)
    why = noise_why = f"noise of {sigma:.1f} levels by what {len(used)} registered frames do not share"
    if blur_told:
        why = (
            f"{words_of(blur)} by the power spectrum of what {len(used)} registered frames share; noise of {sigma:.1f} "
            "levels by what they do not"
        )
    return BurstCamera(Degradation(blur=blur, noise=noise, jpeg=jpeg), why, noise_why, blur_told, joined.correlation)


def words_of(blur: Blur | KernelBlur | None) -> str:
    """A camera's blur in a few words."""
    if isinstance(blur, KernelBlur):
        return "square pixels, with no other blur" if blur == square_pixels(blur.scale[0]) else "a blur kernel"
    return "no blur" if blur is None else blur.summary


def square_pixels(scale: int) -> KernelBlur:
    """Pixels that average over their square and over nothing beside it, at one scale."""
    return KernelBlur(values=((1.0,) * scale,) * scale, scale=(scale, scale))


class _Joined:
    """Frames `F H W` (levels) joined on a finer grid, and simulations of the same."""

    def __init__(self, levels: Array, motion: Motion, jpeg: Jpeg | None, blur: KernelBlur | None = None) -> None:
        self.levels, self.motion, self.jpeg = levels, motion, jpeg
        self.size: Size = (levels.shape[1], levels.shape[2])
        self.rows: sparse.csr_matrix = camera_matrix(Degradation(blur=blur), _FINER, motion, self.size)
        self.seen = (np.asarray(self.rows.sum(1)).ravel() > 0).astype(np.float32)
        each = levels[0].size
        self.gain = np.repeat(motion.gain.numpy(), each).astype(np.float32)
        self.bias = 255 * np.repeat(motion.bias.numpy(), each).astype(np.float32)
        y = levels.ravel().astype(np.float32) - self.bias
        middle = np.float32(y.mean())
        (scene,), (self.residual,) = self._solved((y - middle * self.gain)[None])
        left = y - self.gain * (self.rows @ scene.ravel() + middle)
        self.correlation = _correlation((left * self.seen).reshape(levels.shape), 3 * float(self.residual))
        self.power = _power(scene, self.size)
        smooth = ndimage.gaussian_filter(scene, _SMOOTH, mode="nearest") + middle
        self.clean = self.gain * (self.rows @ smooth.ravel())

    def noise(self) -> float:
        """Standard deviation, levels, with which simulated bursts leave as large a residual as the frames do."""
        _, residuals = self._solved(self._errors(_LEVELS))
        return max(_LEAST_NOISE, float(np.interp(self.residual, np.maximum.accumulate(residuals), _LEVELS)))

    def error_power(self, sigma: float) -> Array:
        """`2H W + 1`: power spectrum of what such noise, rounding and compression put into the joined image."""
        scenes, _ = self._solved(self._errors((sigma,) * _DRAWS))
        power: Array = np.mean([_power(scene, self.size) for scene in scenes], 0)
        return power

    def transfer(self) -> Array:
        """`2H W + 1`: share of a scene's power that is left in the joined image, of random scenes of that power law."""
        shape = scene_size(self.size, _FINER)
        radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
        law = np.maximum(radius, 1 / max(shape)) ** (-_SLOPE / 2)
        drawn = np.random.default_rng(1).standard_normal((_DRAWS, *shape))
        scenes = np.fft.irfft2(np.fft.rfft2(drawn) * law, shape).astype(np.float32)
        joined, _ = self._solved(self.gain * (self.rows @ scenes.reshape(_DRAWS, -1).T).T)
        before, after = (np.sum([_power(one, self.size) for one in images], 0) for images in (scenes, joined))
        ratio: Array = after / before
        return ratio

    def _errors(self, sigmas: tuple[float, ...]) -> Array:
        """`D N`: stored minus clean frames for each noise."""
        rng, out = np.random.default_rng(0), []
        for sigma in sigmas:
            noisy = self.clean + self.bias + sigma * rng.standard_normal(self.clean.size)
            pixels = torch.from_numpy(noisy.reshape(-1, 1, *self.size) / 255).float().clamp(0, 1)
            stored = (
                (255 * pixels).round()
                if self.jpeg is None
                else 255 * compress(pixels, self.jpeg.luma, self.jpeg.chroma)
            )
            out.append(stored.numpy().ravel() - self.bias - self.clean)
        return np.stack(out).astype(np.float32)

    def _solved(self, y: Array) -> tuple[Array, Array]:
        """Scenes `D sH sW` of right sides `D N` by least squares, and the deviation of their residuals, `D`."""
        shape = scene_size(self.size, _FINER)
        stencils, _, importance = differences(shape)
        weight = self.seen * self.gain

        def curved(x: Array) -> Array:
            stiff: Array = _STIFFNESS * (stencils.T @ (importance[:, None] * (stencils @ x)))
            stiff += self.rows.T @ ((weight * self.gain)[:, None] * (self.rows @ x))
            return stiff

        left = self.rows.T @ (weight[:, None] * y.T)
        x, direction = np.zeros_like(left), left.copy()
        power = (left * left).sum(0)
        for _ in range(_ITERATIONS):
            image = curved(direction)
            length = power / np.maximum((direction * image).sum(0), 1e-30)
            x, left = x + length * direction, left - length * image
            before, power = power, (left * left).sum(0)
            direction = left + power / np.maximum(before, 1e-30) * direction
        residual = (y - (self.gain[:, None] * (self.rows @ x)).T)[:, self.seen > 0]
        # By the median: what moves otherwise is a small part of the pixels, and most of the squares.
        return x.T.reshape(-1, *shape), 1.4826 * np.median(np.abs(residual), 1)


def _correlation(residual: Array, most: float) -> float:
    """Between neighbouring pixels of residuals `F H W` (0: not seen), each cut at `most`, mean of both directions."""
    cut = residual.clip(-most, most)
    cut = cut - cut.mean((1, 2), keepdims=True)
    products = [float((cut[:, 1:] * cut[:, :-1]).mean()), float((cut[:, :, 1:] * cut[:, :, :-1]).mean())]
    return sum(products) / 2 / max(float((cut**2).mean()), 1e-9)


def _power(scene: Array, size: Size) -> Array:
    """Power spectrum of a scene without its border, under a Hann window of energy 1 and without its mean there."""
    border = _FINER * BORDER
    inner = scene[border:-border, border:-border]
    window = np.outer(*(np.hanning(_FINER * side + 2)[1:-1] for side in size))
    window /= np.sqrt((window**2).sum())
    flat = inner - (inner * window).sum() / window.sum()
    power: Array = np.abs(np.fft.rfft2(flat * window)) ** 2
    return power


def _blur_of(
    power: Array, transfer: Array, error: Array, size: Size, *, compressed: bool
) -> tuple[float, GaussianBlur | None]:
    """The Gaussian blur of the joined image with this spectrum, transfer and error's spectrum.

    Returns:
        Its mean variance along both axes, squared pixels of a frame, below 0 where the image is sharper than
        antialiased bicubic leaves it; and the blur, where there is any.
    """
    y, x = np.fft.fftfreq(_FINER * size[0])[:, None], np.fft.rfftfreq(_FINER * size[1])[None]
    radius = np.hypot(y, x)
    seen = (radius > _LOWEST) & (radius < (_HIGHEST_JPEG if compressed else _HIGHEST)) & (x > 0)
    y, x = (np.broadcast_to(axis, radius.shape)[seen] for axis in (y, x))
    law, power, error = transfer[seen] * radius[seen] ** -_SLOPE, power[seen], error[seen] + _ROUNDING

    def misfit(point: Array) -> float:
        damped = np.exp(
            point[0] - 4 * np.pi**2 * (point[1] * y * y + 2 * point[2] * x * y + point[3] * x * x).clip(-0.5)
        )
        expected = damped * law + error
        return float((np.log(expected) + power / expected).sum())

    starts = ([5.0, width, 0.0, width] for width in (0.2, 1.0))
    found = min((optimize.minimize(misfit, start, method="L-BFGS-B") for start in starts), key=lambda one: one.fun)
    yy, xy, xx = found.x[1:]
    middle, rounder = (yy + xx) / 2, 1 - (_ROUNDER_JPEG if compressed else _ROUNDER)
    off, cross = rounder * (yy - xx) / 2, rounder * xy
    covariance = torch.tensor([[middle + off, cross], [cross, middle - off]], dtype=torch.float64) / _FINER**2
    values, vectors = torch.linalg.eigh(covariance)
    blur = GaussianBlur.of_covariance(vectors @ torch.diag(values.clamp(min=0)) @ vectors.T)
    return float(values.mean()), blur if values.max() > _LEAST else None
