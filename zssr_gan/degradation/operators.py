"""How a smaller image is made from a larger one, and back-projection through it.

Shapes: B images, C channels, H W rows and columns.
"""

import math
from functools import lru_cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.blur_kernels import centred_kernel, kernel_symmetries
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import LARGEST_DENSE, Size, axis_matrix, reduced_size, resize, resize_transpose

_LARGEST_INVERTED = 48 * 48
"""LR pixels of an image up to which a damped back-projection's matrix is made, in half a second at the most."""

_LARGEST_TURNED = 1024
"""Pixels of an LR image's side up to which a damped back-projection by bicubic is solved in its eigenvectors."""

Kind = tuple[torch.dtype, torch.device, int]
"""Of a matrix that is made once: with the threads, so that a result does not depend on who made it before."""


class Downscale(Protocol):
    """How a smaller image comes out of a larger one: the assumption that a zero-shot method learns from."""

    name: str
    multiple: int
    """Sides of the input should be multiples of this, else rows or columns at the end are not seen whole."""
    symmetries: tuple[int, ...]
    """The flips and turns that it commutes with: an image turned by another was not degraded like this."""
    reach: int
    """Pixels of the larger image that it looks at beyond what bicubic does."""
    single_step: bool
    """Whether it holds for one scale alone, which is then taken in one step."""
    bicubic: bool
    """Whether the linear map is antialiased bicubic alone."""
    damping: float | None
    """How little the smaller image is to be trusted, see `back_project`; None for the undamped, classical way."""

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Shrink `B C H W` to `size` (rows, columns)."""

    def transpose(self, y: Tensor, size: Size) -> Tensor:
        """The transpose of the linear map from `size`: `B C h w` to `B C H W`, `size` being (H, W)."""

    def capture(self, x: Tensor, noise: Tensor) -> Tensor:
        """What a camera makes of the shrunk image `B C H W`: noise, by standard normal `noise`, and compression."""

    @property
    def captures(self) -> bool:
        """Whether `capture` does anything."""

    def __hash__(self) -> int:
        """Matrices are made once for each downscale."""


class _Clean:
    """Of images that come out of a downscale as they are."""

    captures = False
    bicubic = False
    damping: float | None = None

    def capture(self, x: Tensor, noise: Tensor) -> Tensor:  # noqa: ARG002 - what others need
        """The image itself."""
        return x


class BicubicDownscale(_Clean):
    """Antialiased bicubic, for any size."""

    name = "bicubic"
    bicubic = True
    multiple = 1
    symmetries = dihedral.ALL
    reach = 0
    single_step = False

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Shrink `B C H W` to `size`."""
        return resize(x, size)

    def transpose(self, y: Tensor, size: Size) -> Tensor:
        """See `Downscale`."""
        return resize_transpose(y, size)


class KernelDownscale(_Clean):
    """Correlate with a blur kernel, then keep every `scale`-th pixel (KernelGAN's convention, kernel in HR pixels).

    The kernel's centre of mass is first moved to the centre of the block of pixels that one LR pixel covers, so
    that a kernel which is off centre blurs but does not move the image (Shocher et al.'s `kernel_shift`).
    Pixels beyond the border repeat the border.

    Args:
        kernel: `k k`, any sum but zero; it is normalised.
        scale: whole factors (y, x), 1 to 8.
    """

    def __init__(self, kernel: Tensor, scale: tuple[int, int]) -> None:
        self.kernel = centred_kernel(kernel, scale)
        self.scale = scale
        self.name = "kernel"
        self.multiple = math.lcm(*scale)
        self.symmetries = kernel_symmetries(kernel)
        self.reach = max(self.kernel.shape) // 2
        self.single_step = True

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Blur and subsample `B C H W` to `size`, which must be the input's size divided by the scale, rounded up."""
        if size != reduced_size((x.shape[-2], x.shape[-1]), self.scale):
            raise ValueError(f"a kernel for scale {self.scale} cannot shrink {tuple(x.shape[-2:])} to {size}")
        return correlate(x, self.kernel, self.scale)

    def transpose(self, y: Tensor, size: Size) -> Tensor:
        """See `Downscale`."""
        return correlate_transpose(y, self.kernel, size, self.scale)


class EnlargedDownscale(_Clean):
    """Another downscale by a whole factor, and enlarged again by bicubic to the size that the image had.

    What a network sees that sharpens an image of its own size (Dong et al. 2014, SRCNN).
    """

    name = "shrunk and enlarged"
    single_step = True

    def __init__(self, downscale: Downscale, factor: int) -> None:
        self.downscale, self.factor = downscale, factor
        self.multiple = math.lcm(factor, downscale.multiple)
        self.symmetries = downscale.symmetries
        # The other's is given for x2. Bicubic is not what is compared with here: at one size it looks at nothing.
        self.reach = math.ceil(downscale.reach * factor / 2) + 4 * factor

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Shrink `B C H W` by the factor, and enlarge it to `size`, which is its own."""
        small = reduced_size((x.shape[-2], x.shape[-1]), (self.factor, self.factor))
        return resize(self.downscale(x, small), size)

    def transpose(self, y: Tensor, size: Size) -> Tensor:
        """See `Downscale`."""
        return self.downscale.transpose(resize_transpose(y, reduced_size(size, (self.factor, self.factor))), size)


class _Shrink(torch.autograd.Function):
    """A downscale, whose gradient is its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, downscale: Downscale, size: Size) -> Tensor:
        ctx.downscale, ctx.size = downscale, (x.shape[-2], x.shape[-1])
        return downscale(x, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.downscale.transpose(gradients[0], ctx.size), None, None


def shrink(x: Tensor, downscale: Downscale, size: Size) -> Tensor:
    """Shrink `B C H W` to `size`; its gradient is the same on every run.

    Autograd's own of an interpolation and of a padding add in any order on CUDA.
    """
    out: Tensor = _Shrink.apply(x, downscale, size)  # type: ignore[no-untyped-call]
    return out


@lru_cache(maxsize=64)
def _as(kernel: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The kernel there, copied once: to copy it makes the host wait for a GPU."""
    return kernel.to(device, dtype)


def correlate(x: Tensor, kernel: Tensor, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """Correlate `B C H W` with a kernel `k l`, both odd, at every `stride`-th pixel; the border is repeated."""
    rows, columns = (side // 2 for side in kernel.shape)
    weight = _as(kernel, x.dtype, x.device)[None, None].expand(x.shape[1], 1, -1, -1)
    padded = F.pad(x, (columns, columns, rows, rows), mode="replicate")
    return F.conv2d(padded, weight, stride=stride, groups=x.shape[1])


def correlate_transpose(y: Tensor, kernel: Tensor, size: Size, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """The transpose of `correlate` from `size`: `B C h w` to `B C H W`, `size` being (H, W)."""
    weight = _as(kernel, y.dtype, y.device)[None, None].expand(y.shape[1], 1, -1, -1)
    x = F.conv_transpose2d(y, weight, stride=stride, groups=y.shape[1])
    for dim, side, length in ((-2, size[0], kernel.shape[0]), (-1, size[1], kernel.shape[1])):
        # Rows and columns at the end that no step of the stride looked at.
        unseen = side + length - 1 - x.shape[dim]
        x = F.pad(x, (0, 0, 0, unseen) if dim == -2 else (0, unseen))
        if edge := length // 2:
            before, x, after = x.split((edge, side, edge), dim)
            x = x.contiguous()
            x.select(dim, 0).add_(before.sum(dim))
            x.select(dim, -1).add_(after.sum(dim))
    return x


def back_project(sr: Tensor, lr: Tensor, downscale: Downscale, iterations: int) -> Tensor:
    """Push a result towards agreeing with the input, in place.

    Classically (Irani and Peleg 1991), each iteration shrinks the result, and adds the enlarged difference to the
    input. That diverges where the blur is wide, and writes the input's noise into the result. A damped downscale D
    gives the most probable result instead, for independent errors of `sr` and `lr`: the z that minimises
    |D z - lr|^2 + damping |z - sr|^2, which is sr + D'(D D' + damping)^-1 (lr - D sr).

    An image's bits do not depend on the others of its batch.

    Args:
        sr: `B C sH sW`, changed in place.
        lr: `B C H W`.
        downscale: maps `sr`'s size to `lr`'s.
        iterations: 0 leaves `sr` as it is. Damped, of the conjugate gradients of a large image; a small one is solved.
    """
    lr_size, sr_size = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
    if not iterations:
        return sr
    if downscale.damping is not None:
        solution = _solve(lr - downscale(sr, lr_size), sr_size, downscale, downscale.damping, iterations)
        return sr.add_(downscale.transpose(solution, sr_size))
    if downscale.bicubic and max(lr_size) <= LARGEST_DENSE:
        return sr.add_(_bicubic_correction(sr, lr, iterations))
    for _ in range(iterations):
        sr += resize(lr - downscale(sr, lr_size), sr_size)
    return sr


def _bicubic_correction(sr: Tensor, lr: Tensor, iterations: int) -> Tensor:
    """The sum of classical back-projections by bicubic, iterated at the size of `lr`.

    With U that enlarges and D that shrinks, the residual of an iteration is (1 - D U) times the one before; each of
    them is a matrix for the rows and one for the columns.
    """
    (rows, columns), (sr_rows, sr_columns), kind = lr.shape[-2:], sr.shape[-2:], (sr.dtype, sr.device)
    shrink_y, shrink_x = axis_matrix(sr_rows, rows, *kind), axis_matrix(sr_columns, columns, *kind).T
    enlarge_y, enlarge_x = axis_matrix(rows, sr_rows, *kind), axis_matrix(columns, sr_columns, *kind).T
    again_y, again_x = shrink_y @ enlarge_y, enlarge_x @ shrink_x
    residual = lr - shrink_y @ sr @ shrink_x
    total = residual
    for _ in range(iterations - 1):
        residual = residual - again_y @ residual @ again_x
        total = total + residual
    return enlarge_y @ total @ enlarge_x


def _solve(residual: Tensor, size: Size, downscale: Downscale, damping: float, iterations: int) -> Tensor:
    """(D D' + damping)^-1 times the residual `B C h w`, D being the downscale from `size`; each image by itself."""
    lr_size = (residual.shape[-2], residual.shape[-1])
    kind = (residual.dtype, residual.device, torch.get_num_threads())
    if downscale.bicubic and max(lr_size) <= _LARGEST_TURNED:
        # D D' is one matrix for the rows and one for the columns (Lynch, Rice and Thomas 1964).
        (values_y, vectors_y), (values_x, vectors_x) = (
            _axis_eigenvectors(*sides, kind) for sides in zip(size, lr_size, strict=True)
        )
        turned = vectors_y.T @ residual @ vectors_x / (values_y[:, None] * values_x + damping)
        return vectors_y @ turned @ vectors_x.T
    if math.prod(lr_size) > _LARGEST_INVERTED:
        return _conjugate_gradients(residual, size, downscale, damping, iterations)
    inverse = _inverse(downscale, size, lr_size, damping, kind)
    # A product for each image: one of all would have other last bits in other batches.
    return torch.bmm(residual.flatten(2), inverse.expand(len(residual), -1, -1)).reshape(residual.shape)


@lru_cache(maxsize=16)
@torch.no_grad()
def _axis_eigenvectors(side: int, to: int, kind: Kind) -> tuple[Tensor, Tensor]:
    """Eigenvalues `to` and eigenvectors `to to` of A A', A being bicubic's matrix from `side` to `to` pixels."""
    dtype, device, _ = kind
    # Not `axis_matrix`, which would keep a large one in memory.
    matrix = resize(torch.eye(side, dtype=torch.float64)[None], (to, side))[0]
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return values.to(device, dtype), vectors.to(device, dtype)


@lru_cache(maxsize=8)
@torch.no_grad()
def _inverse(downscale: Downscale, size: Size, lr_size: Size, damping: float, kind: Kind) -> Tensor:
    """(D D' + damping)^-1 of one channel as a matrix over the pixels of an LR image, `hw hw`."""
    gram = _gram(downscale, size, lr_size, kind)
    return torch.cholesky_inverse(torch.linalg.cholesky(gram + damping * torch.eye(len(gram)).to(gram)))


@lru_cache(maxsize=4)
@torch.no_grad()
def _gram(downscale: Downscale, size: Size, lr_size: Size, kind: Kind) -> Tensor:
    """D D' of one channel, `hw hw`."""
    dtype, device, _ = kind
    pixels = math.prod(lr_size)
    units = torch.eye(pixels, dtype=dtype, device=device).reshape(1, pixels, *lr_size)
    # As channels: depthwise convolutions are fast, and groups of them take little memory.
    parts = (downscale(downscale.transpose(part, size), lr_size) for part in units.split(256, 1))
    return torch.cat([part.flatten(2)[0] for part in parts])


def _conjugate_gradients(residual: Tensor, size: Size, downscale: Downscale, damping: float, iterations: int) -> Tensor:
    """(D D' + damping)^-1 times the residual, each image by itself (Hestenes and Stiefel 1952)."""
    lr_size = (residual.shape[-2], residual.shape[-1])

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3), keepdim=True)

    step, solution = residual, torch.zeros_like(residual)
    power = inner(residual, residual)
    for _ in range(iterations):
        image = downscale(downscale.transpose(step, size), lr_size) + damping * step
        length = power / inner(step, image).clamp(min=1e-20)
        solution, residual = solution + length * step, residual - length * image
        power, before = inner(residual, residual), power
        step = residual + power / before.clamp(min=1e-20) * step
    return solution
