"""How a smaller image is made from a larger one, and back-projection through it.

Shapes: B images, C channels, H W rows and columns.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from zssr_gan.degradation.blur_kernels import centred_kernel, kernel_symmetries
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.resize import Size, reduced_size, resize


class Downscale(Protocol):
    """How a smaller image comes out of a larger one: the assumption that a zero-shot method learns from."""

    name: str
    multiple: int
    """Sides of the input should be multiples of this, else rows or columns at the end are not seen whole."""
    symmetries: tuple[int, ...]
    """The flips and turns that it commutes with: an image turned by another was not degraded like this."""
    reach: int
    """Pixels of the larger image that it looks at beyond what bicubic does."""
    whole: bool
    """Whether it is known for the whole scale only, which is then taken in one step."""
    damping: float | None
    """How little the smaller image is to be trusted, see `back_project`; None for the undamped, classical way."""

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Shrink `B C H W` to `size` (rows, columns)."""

    def capture(self, x: Tensor, noise: Tensor) -> Tensor:
        """What a camera makes of the shrunk image `B C H W`: noise, by standard normal `noise`, and compression."""

    @property
    def captures(self) -> bool:
        """Whether `capture` does anything."""


class _Clean:
    """Of images that come out of a downscale as they are."""

    captures = False
    damping: float | None = None

    def capture(self, x: Tensor, noise: Tensor) -> Tensor:  # noqa: ARG002 - what others need
        """The image itself."""
        return x


class BicubicDownscale(_Clean):
    """Antialiased bicubic, for any size."""

    name = "bicubic"
    multiple = 1
    symmetries = dihedral.ALL
    reach = 0
    whole = False

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Shrink `B C H W` to `size`."""
        return resize(x, size)


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
        self.whole = True

    def __call__(self, x: Tensor, size: Size) -> Tensor:
        """Blur and subsample `B C H W` to `size`, which must be the input's size divided by the scale, rounded up."""
        if size != reduced_size((x.shape[-2], x.shape[-1]), self.scale):
            raise ValueError(f"a kernel for scale {self.scale} cannot shrink {tuple(x.shape[-2:])} to {size}")
        rows, columns = self.kernel.shape
        weight = self.kernel.to(x)[None, None].expand(x.shape[1], 1, -1, -1)
        # An odd kernel's centre is its middle pixel; centred_kernel made both sides odd.
        padded = F.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2), mode="replicate")
        return F.conv2d(padded, weight, stride=self.scale, groups=x.shape[1])


class EnlargedDownscale(_Clean):
    """Another downscale by a whole factor, and enlarged again by bicubic to the size that the image had.

    What a network sees that sharpens an image of its own size (Dong et al. 2014, SRCNN).
    """

    name = "shrunk and enlarged"
    whole = True

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


def back_project(sr: Tensor, lr: Tensor, downscale: Downscale, iterations: int) -> Tensor:
    """Push a result towards agreeing with the input, in place.

    Classically (Irani and Peleg 1991), each iteration shrinks the result, and adds the enlarged difference to the
    input. That diverges where the blur is wide, and writes the input's noise into the result. A damped downscale D
    gives the most probable result instead, for independent errors of `sr` and `lr`: the z that minimises
    |D z - lr|^2 + damping |z - sr|^2, which is sr + D'(D D' + damping)^-1 (lr - D sr), by conjugate gradients.

    Args:
        sr: `B C sH sW`, changed in place.
        lr: `B C H W`.
        downscale: maps `sr`'s size to `lr`'s.
        iterations: 0 leaves `sr` as it is.
    """
    lr_size, sr_size = (lr.shape[-2], lr.shape[-1]), (sr.shape[-2], sr.shape[-1])
    if downscale.damping is not None:
        return sr.add_(_most_probable(sr, lr, downscale, downscale.damping, iterations)) if iterations else sr
    for _ in range(iterations):
        sr += resize(lr - downscale(sr, lr_size), sr_size)
    return sr


def adjoint(downscale: Downscale, size: Size, lr_size: Size, like: Tensor) -> Callable[[Tensor], Tensor]:
    """The transpose of a downscale from `size` to `lr_size`: from `B C h w` to `B C H W`; B, C, kind as in `like`.

    A downscale is linear, so its gradient at any image is its transpose.
    """
    with torch.enable_grad():
        at = like.new_zeros(*like.shape[:2], *size).requires_grad_()
        shrunk = downscale(at, lr_size)

    def transpose(x: Tensor) -> Tensor:
        (back,) = torch.autograd.grad(shrunk, at, x, retain_graph=True)
        return back

    return transpose


def _most_probable(sr: Tensor, lr: Tensor, downscale: Downscale, damping: float, iterations: int) -> Tensor:
    """D'(D D' + damping)^-1 (lr - D sr), each image by itself (Hestenes and Stiefel 1952)."""
    lr_size = (lr.shape[-2], lr.shape[-1])
    transpose = adjoint(downscale, (sr.shape[-2], sr.shape[-1]), lr_size, sr)

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3), keepdim=True)

    residual = lr - downscale(sr, lr_size)
    step, solution = residual, torch.zeros_like(lr)
    power = inner(residual, residual)
    for _ in range(iterations):
        image = downscale(transpose(step), lr_size) + damping * step
        length = power / inner(step, image).clamp(min=1e-20)
        solution, residual = solution + length * step, residual - length * image
        power, before = inner(residual, residual), power
        step = residual + power / before.clamp(min=1e-20) * step
    return transpose(solution)
