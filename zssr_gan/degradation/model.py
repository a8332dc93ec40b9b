"""How a camera made an LR image of a scene, as data, and applied: blur, shrinking, noise, compression, in this order.

The order is that of the field's protocols (Liu and Sun 2014; Zhang et al. 2018, SRMD). Each part can be absent.

Shapes: B images, C channels, H W rows and columns; k l of a kernel.
"""

import math
from functools import lru_cache
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from zssr_gan.degradation import jpeg
from zssr_gan.degradation.blur_kernels import checked_kernel, kernel_symmetries
from zssr_gan.degradation.blur_shapes import SIGMAS, disk_points, line_points, sampled_gaussian, spread
from zssr_gan.degradation.operators import BicubicDownscale, Downscale, KernelDownscale, correlate, correlate_transpose
from zssr_gan.errors import SettingsError
from zssr_gan.files import canonical_sha256, sha256_bytes
from zssr_gan.imaging.resize import Scale, Size, resize, resize_transpose


def degradation_of(downscale: Downscale) -> str:
    """`bicubic`, or `kernel` or `degradation` with the SHA-256 of its values."""
    if isinstance(downscale, DegradedDownscale):
        return f"degradation {downscale.degradation.sha256}"
    if isinstance(downscale, KernelDownscale):
        return f"kernel {sha256_bytes(downscale.kernel.double().cpu().numpy().tobytes())}"
    return downscale.name


_LEVEL = 1 / 255

_LEAST_NOISE = _LEVEL / math.sqrt(12)  # rounding's own

_EXPECTED_ERROR = 0.03
"""Standard deviation of what a network leaves wrong, [0, 1] units, that an input's own error is weighed against."""


_COMPRESSED = 16.0
"""Factor of the damping where the input was compressed: the errors of a block's pixels are not independent, as
back-projection takes them to be, and it would write the blocks' edges into the result. Measured at qualities 60 to 95:
4 is a little worse, more changes nothing."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GaussianBlur(_Model):
    """An anisotropic Gaussian before an antialiased bicubic shrinking: a lens, and the pixels' own area."""

    kind: Literal["gaussian"] = "gaussian"
    sigma_major: float = Field(ge=0, le=8)
    """Standard deviation along the wider axis, in pixels of the LR image; at x2, twice as many of the HR image."""
    sigma_minor: float = Field(ge=0, le=8)
    """The same across it."""
    angle_degrees: float = 0.0
    """Of the wider axis, from the x axis towards the y axis, which points down."""

    def covariance(self) -> Tensor:
        """`2 2` float64 over (y, x), in squared pixels of the LR image."""
        angle = math.radians(self.angle_degrees)
        turn = torch.tensor(
            [[math.sin(angle), math.cos(angle)], [math.cos(angle), -math.sin(angle)]], dtype=torch.float64
        )
        widths = torch.tensor([self.sigma_major, self.sigma_minor], dtype=torch.float64)
        return turn @ torch.diag(widths.square()) @ turn.T

    @property
    def reach(self) -> float:
        """From the centre to where the blur is cut, in pixels of the LR image."""
        return SIGMAS * self.sigma_major

    @property
    def summary(self) -> str:
        """In a few words."""
        return f"blur of {self.sigma_major:.2f} x {self.sigma_minor:.2f} LR pixels at {self.angle_degrees:.0f} degrees"

    def kernel(self, ratio: Scale) -> Tensor:
        """The blur in pixels of an image larger by `ratio` (y, x): `k l` float64, both odd, sum 1."""
        stretch = torch.diag(torch.tensor(ratio, dtype=torch.float64))
        return sampled_gaussian(stretch @ self.covariance() @ stretch)

    @classmethod
    def of_covariance(cls, covariance: Tensor) -> Self:
        """The blur with this covariance, as `covariance` gives it."""
        values, vectors = torch.linalg.eigh(covariance.double())
        minor, major = (math.sqrt(max(0.0, float(value))) for value in values)
        angle = math.degrees(math.atan2(float(vectors[0, 1]), float(vectors[1, 1])))
        return cls(sigma_major=major, sigma_minor=minor, angle_degrees=angle % 180)


class MotionBlur(_Model):
    """Straight motion at an even speed through a lens with a round Gaussian, before the same shrinking."""

    kind: Literal["motion"] = "motion"
    length: float = Field(ge=0, le=32)
    """Of the way, in pixels of the LR image; at x2, twice as many of the HR image."""
    angle_degrees: float = 0.0
    """Of the way, from the x axis towards the y axis, which points down."""
    sigma: float = Field(0.0, ge=0, le=8)
    """Standard deviation of the lens's Gaussian, in pixels of the LR image."""

    def covariance(self) -> Tensor:
        """As `GaussianBlur.covariance`."""
        along = math.sqrt(self.length**2 / 12 + self.sigma**2)
        return GaussianBlur(sigma_major=along, sigma_minor=self.sigma, angle_degrees=self.angle_degrees).covariance()

    @property
    def reach(self) -> float:
        """As `GaussianBlur.reach`."""
        return self.length / 2 + SIGMAS * self.sigma

    @property
    def summary(self) -> str:
        """In a few words."""
        return f"motion of {self.length:.2f} LR pixels at {self.angle_degrees:.0f} degrees"

    def kernel(self, ratio: Scale) -> Tensor:
        """As `GaussianBlur.kernel`."""
        return spread(line_points(self.length, self.angle_degrees), self.sigma, ratio)


class DefocusBlur(_Model):
    """A lens out of focus, an even disk with an edge softened by a round Gaussian, before the same shrinking."""

    kind: Literal["defocus"] = "defocus"
    radius: float = Field(ge=0, le=16)
    """In pixels of the LR image; at x2, twice as many of the HR image."""
    sigma: float = Field(0.0, ge=0, le=8)
    """Standard deviation of the edge's Gaussian, in pixels of the LR image."""

    def covariance(self) -> Tensor:
        """As `GaussianBlur.covariance`."""
        return (self.radius**2 / 4 + self.sigma**2) * torch.eye(2, dtype=torch.float64)

    @property
    def reach(self) -> float:
        """As `GaussianBlur.reach`."""
        return self.radius + SIGMAS * self.sigma

    @property
    def summary(self) -> str:
        """In a few words."""
        return f"defocus, a disk with a radius of {self.radius:.2f} LR pixels"

    def kernel(self, ratio: Scale) -> Tensor:
        """As `GaussianBlur.kernel`."""
        return spread(disk_points(self.radius), self.sigma, ratio)


Blur = GaussianBlur | MotionBlur | DefocusBlur
"""Blurs of a few numbers in LR pixels, which hold at any scale."""


class KernelBlur(_Model):
    """A kernel of any form that holds for one scale: it is the whole shrinking, as `KernelDownscale` does it."""

    kind: Literal["kernel"] = "kernel"
    values: tuple[tuple[float, ...], ...]
    """In pixels of the HR image."""
    scale: tuple[Annotated[int, Field(ge=1, le=8)], Annotated[int, Field(ge=1, le=8)]]
    """(y, x)."""

    @model_validator(mode="after")
    def _is_kernel(self) -> Self:
        try:
            checked_kernel(self.values)
        except SettingsError as error:
            raise ValueError(str(error)) from error  # as every other bad value, so that a file's reader names the file
        return self


class Noise(_Model):
    """Gaussian noise of a variance that rises with brightness (Foi et al. 2008)."""

    sigma: float = Field(ge=0, le=0.5)
    """Standard deviation at medium brightness (0.5), [0, 1] units."""
    shot: float = Field(0.0, ge=0, le=1)
    """Share of the variance there that is in proportion to brightness; the rest is the same everywhere."""
    coloured: bool = True
    """Whether each channel has noise of its own; else it is gray, as where colours were stored at half the size."""

    def deviation(self, brightness: Tensor) -> Tensor:
        """Standard deviation at each brightness in [0, 1]."""
        return self.sigma * (1 + self.shot * (2 * brightness.clamp(0, 1) - 1)).sqrt()

    def stretched(self, low: float, gain: float) -> "Noise":
        """The noise of pixels that are stretched, `(x - low) * gain`; at most what this model holds."""
        share = 1 + self.shot * (2 * (low + 0.5 / gain) - 1)  # of the variance at the new medium brightness
        sigma = min(0.5, gain * self.sigma * math.sqrt(max(share, 0)))
        return Noise(sigma=sigma, shot=min(1, self.shot / (gain * share)) if share > 0 else 0, coloured=self.coloured)


_Step = Annotated[int, Field(ge=1, le=65535)]


class Jpeg(_Model):
    """Compression by JPEG."""

    quality: int = Field(ge=1, le=100)
    """As libjpeg counts it; the nearest, where the encoder's tables are its own."""
    luma: Annotated[tuple[_Step, ...], Field(min_length=64, max_length=64)]
    chroma: Annotated[tuple[_Step, ...], Field(min_length=64, max_length=64)]
    """Quantisation tables, row by row from the lowest frequency."""
    halved: bool = True
    """Whether colour is stored at half the size (4:2:0)."""

    @classmethod
    def of_quality(cls, quality: int, *, halved: bool = True) -> Self:
        """With libjpeg's tables."""
        luma, chroma = jpeg.tables_of(quality)
        return cls(quality=quality, luma=luma, chroma=chroma, halved=halved)

    @property
    def summary(self) -> str:
        """In a few words."""
        return jpeg.quality_words(self.quality, own_table=jpeg.is_own_table(self.luma, self.quality))


class Degradation(_Model):
    """How an LR image came out of a scene."""

    blur: Annotated[Blur | KernelBlur, Field(discriminator="kind")] | None = None
    """None: antialiased bicubic alone."""
    noise: Noise | None = None
    jpeg: Jpeg | None = None

    @property
    def sha256(self) -> str:
        """Of its values as canonical JSON."""
        return canonical_sha256(self.model_dump(mode="json"))

    @property
    def downscale(self) -> Downscale:
        """The degradation as it is applied: bicubic where there is nothing to it; a kernel alone is not damped.

        Equal degradations give one object, so that their images can be trained as one batch and share its matrices.
        """
        return _downscale_of(self)

    def kernel(self, scale: Scale) -> Tensor:
        """The whole linear part at a scale, blur and shrinking: `k l` float64, in pixels of the HR image, sum 1."""
        side = 2 * math.ceil(SIGMAS * 8) + 1
        lr = torch.zeros(1, 1, side, side, dtype=torch.float64)
        lr[0, 0, side // 2, side // 2] = 1
        size = (round(side * scale[0]), round(side * scale[1]))
        # The row of the linear map that makes the LR pixel in the middle.
        weights = self.downscale.transpose(lr, size)[0, 0]
        seen = weights.abs() > 1e-5 * weights.abs().max()
        rows, columns = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
        cut = weights[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cut / cut.sum()


@lru_cache(maxsize=256)
def _downscale_of(degradation: Degradation) -> Downscale:
    """See `Degradation.downscale`."""
    blur = degradation.blur
    if isinstance(blur, KernelBlur) and degradation.noise is None and degradation.jpeg is None:
        # Not normalised again: that could move the last bit of a value.
        return KernelDownscale(torch.tensor(blur.values, dtype=torch.float64), blur.scale)
    return BicubicDownscale() if degradation == Degradation() else DegradedDownscale(degradation)


class DegradedDownscale:
    """A degradation as an operator: its linear part when called, noise and compression by `capture`.

    Both hand gradients through, so that a consistency loss can look through the whole.
    """

    name = "degradation"
    multiple = 1
    single_step = True
    captures = True

    def __init__(self, degradation: Degradation) -> None:
        self.degradation = degradation
        blur = degradation.blur
        self._given = None
        self._kernels: dict[Scale, Tensor] = {}
        if isinstance(blur, KernelBlur):
            self._given = KernelDownscale(checked_kernel(blur.values), blur.scale)
            self.multiple = self._given.multiple
        self.bicubic = blur is None
        # Symmetries and reach are given for x2, and hold for any equal scales.
        kernel = self._kernel((2.0, 2.0)) if self._given is None else self._given.kernel
        self.symmetries = kernel_symmetries(kernel)
        self.reach = max(kernel.shape) // 2
        given = degradation.noise
        self._noise = (
            given if given is not None and given.sigma > _LEAST_NOISE else Noise(sigma=_LEAST_NOISE, coloured=False)
        )
        self.damping: float | None = (self._input_error() / _EXPECTED_ERROR) ** 2
        if degradation.jpeg is not None:
            self.damping *= _COMPRESSED

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Blur and shrink `B C H W` to `size`; a kernel's own must be the input's divided by its scale."""
        if self._given is not None:
            return self._given(x, size)
        kernel = self._kernel((x.shape[-2] / size[0], x.shape[-1] / size[1]))
        return resize(correlate(x, kernel) if kernel.numel() > 1 else x, size)

    def transpose(self, y: Tensor, size: Size) -> Tensor:
        """See `Downscale`."""
        if self._given is not None:
            return self._given.transpose(y, size)
        kernel = self._kernel((size[0] / y.shape[-2], size[1] / y.shape[-1]))
        x = resize_transpose(y, size)
        return correlate_transpose(x, kernel, size) if kernel.numel() > 1 else x

    def capture(self, x: Tensor, noise: Tensor) -> Tensor:
        """Noise and compression of shrunk images `B C H W`, in 8-bit levels where there is compression.

        Gray noise as large as rounding's is the least: no file is finer, and a network that learns to undo a blur from
        exact LR patches writes what is not exact in a file into its result, many times over.

        Args:
            x: [0, 1].
            noise: standard normal, of the same shape.
        """
        own = self._noise
        x = x + (noise if own.coloured else noise[:, :1]) * own.deviation(x.detach())
        if (compression := self.degradation.jpeg) is not None:
            x = jpeg.compress(x, compression.luma, compression.chroma, halved=compression.halved)
        return x

    def _kernel(self, ratio: Scale) -> Tensor:
        """The blur in pixels of an image larger by `ratio` (y, x), `k l`, both odd, sum 1."""
        if ratio not in self._kernels:
            blur = self.degradation.blur
            assert not isinstance(blur, KernelBlur)
            self._kernels[ratio] = torch.ones(1, 1, dtype=torch.float64) if blur is None else blur.kernel(ratio)
        return self._kernels[ratio]

    def _input_error(self) -> float:
        """Standard deviation of what an LR image is off this degradation of its scene, [0, 1] units: noise,
        compression, and a level for its rounding and for a blur that is never known exactly."""
        variance = _LEVEL**2
        if (noise := self.degradation.noise) is not None:
            variance += noise.sigma**2
        if (compression := self.degradation.jpeg) is not None:
            # Steps of the low frequencies, where an image has something to round.
            low = [compression.luma[8 * row + column] for row in range(4) for column in range(4)]
            variance += sum((step * _LEVEL) ** 2 / 12 for step in low) / len(low) / 4
        return math.sqrt(variance)
