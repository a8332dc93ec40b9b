"""The per-image CNN of ZSSR (Shocher, Cohen, Irani: "Zero-Shot" Super-Resolution using Deep Internal Learning, 2018).

A plain chain of 3x3 convolutions with ReLU between them, on the interpolated image, whose output is added to its
input. Beyond the paper, the chain may work on the LR image's own pixels and enlarge at its end (Shi et al. 2016,
ESPCN), and have residual pairs (Lim et al. 2017, EDSR). Here N such networks ('members'), each with weights of its own,
live in one tensor and run side by side.

Shapes: N members, B samples of each, C channels, H W rows and columns, P parameters of one member.
"""

import math
from collections.abc import Callable
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zssr_gan.networks.base import Facts
from zssr_gan.ops.chain import MOST_CHANNELS, Chain, Layer, kernels_usable
from zssr_gan.settings.zeroshot import ZSSRSettings

KERNEL = 3


class Grouped:
    """Convolutions whose networks lie side by side in the channels of one grouped convolution: fastest on a CPU.

    Between `enter` and `leave` activations are `B N*C H W`, channels last; ReLU and sums do not mind the layout.
    """

    def __init__(self, networks: int) -> None:
        self.networks = networks

    def enter(self, x_NBCHW: Tensor) -> Tensor:
        """Into the layout."""
        y = x_NBCHW.transpose(0, 1).flatten(1, 2)
        return y.contiguous(memory_format=torch.channels_last)

    def convolve(self, y: Tensor, weight_NOIkk: Tensor, bias_NO: Tensor | None) -> Tensor:
        """One convolution of each network, zero padding, same size."""
        bias = None if bias_NO is None else bias_NO.reshape(-1)
        # Laid in memory as the convolution wants them: else it copies them, forward and backward.
        n, o, i, *_ = weight_NOIkk.shape
        weight = weight_NOIkk.permute(0, 1, 3, 4, 2).reshape(n * o, KERNEL, KERNEL, i).permute(0, 3, 1, 2)
        return F.conv2d(y, weight, bias, padding=KERNEL // 2, groups=self.networks)

    def leave(self, y: Tensor) -> Tensor:
        """Out of the layout: `N B O H W`."""
        out: Tensor = y.unflatten(1, (self.networks, -1)).transpose(0, 1)
        return out


class Batched:
    """The same sums as a batch of matrix products of unfolded patches: GPUs run these at full rate, and not grouped
    convolutions. Activations are `N B H W C`; methods as of `Grouped`."""

    def enter(self, x_NBCHW: Tensor) -> Tensor:
        """Into the layout."""
        return x_NBCHW.permute(0, 1, 3, 4, 2).contiguous()

    def convolve(self, y: Tensor, weight_NOIkk: Tensor, bias_NO: Tensor | None) -> Tensor:
        """One convolution of each network, zero padding, same size."""
        n, o, i, *_ = weight_NOIkk.shape
        # Rows in the order in which patches are unfolded: row and column of the kernel, then channel.
        matrix_NKO = weight_NOIkk.permute(0, 3, 4, 2, 1).reshape(n, KERNEL * KERNEL * i, o)
        out: Tensor = _Product.apply(y.to(matrix_NKO.dtype), matrix_NKO)  # type: ignore[no-untyped-call]  # torch's own
        return out if bias_NO is None else out + bias_NO[:, None, None, None]

    def leave(self, y: Tensor) -> Tensor:
        """Out of the layout: `N B O H W`."""
        return y.permute(0, 1, 4, 2, 3)


class _Product(torch.autograd.Function):
    """Patches times weights. The patches, nine times the image, are unfolded again in the backward pass: memory."""

    @staticmethod
    def forward(ctx: Any, x_NBHWC: Tensor, matrix_NKO: Tensor) -> Tensor:
        ctx.save_for_backward(x_NBHWC, matrix_NKO)
        out: Tensor = (_patches(x_NBHWC) @ matrix_NKO).unflatten(1, x_NBHWC.shape[1:4])
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient_NBHWO,) = gradients
        x_NBHWC, matrix_NKO = ctx.saved_tensors
        n, _, o = matrix_NKO.shape
        to_x = to_matrix = None
        if ctx.needs_input_grad[1]:
            to_matrix = _patches(x_NBHWC).mT @ gradient_NBHWO.reshape(n, -1, o)
        if ctx.needs_input_grad[0]:
            # The transpose of a convolution is one with the kernel turned half round, and in and out exchanged.
            turned = matrix_NKO.unflatten(1, (KERNEL, KERNEL, -1)).flip(1, 2).transpose(-1, -2).flatten(1, 3)
            to_x = (_patches(gradient_NBHWO) @ turned).unflatten(1, x_NBHWC.shape[1:4])
        return to_x, to_matrix


def _patches(x_NBHWC: Tensor) -> Tensor:
    """`N B*H*W 9*C`: of each pixel the 3x3 pixels around it, zeros beyond the border."""
    n, b, h, w, c = x_NBHWC.shape
    padded = F.pad(x_NBHWC, (0, 0, 1, 1, 1, 1))
    stride = padded.stride()
    around = padded.as_strided((n, b, h, w, KERNEL, KERNEL, c), (*stride[:4], *stride[2:]))
    return around.reshape(n, b * h * w, KERNEL * KERNEL * c)


class ZSSR(nn.Module):
    """N per-image CNNs as one module: `N B C H W` in, `N B C fy*H fx*W` out.

    `facts` declares what it takes and gives; `factor` (fy, fx) is (1, 1) on the interpolated grid.

    Args:
        options: what the networks are made of.
        channels: 1 (gray) or 3 (RGB).
        factor: whole factors (y, x) by which the network itself enlarges; 1 on the interpolated grid.
        weights: `N P`, or one CPU generator a member, whose draws are that member's initialisation, so that it does
            not depend on who shares the fleet.
    """

    product: Literal["auto", "grouped", "batched", "triton"] = "auto"
    """`auto` is, for several members on CUDA, Triton's kernels (`ops`) in bfloat16 where they work, else batched;
    else grouped. Sums are the same up to their last bits."""

    convolutions: Callable[[Tensor], Tensor] | None = None
    """What takes the place of all convolutions, from `N B H W C` to `N B H W O`; None: `product` says."""

    def __init__(
        self,
        options: ZSSRSettings,
        channels: int,
        factor: tuple[int, int],
        weights: Tensor | list[torch.Generator],
    ) -> None:
        super().__init__()
        self.options = options
        self.factor = factor
        self.facts = Facts("per-image network", factor, (channels,), smallest=1, receptive_field=2 * self.radius + 1)
        widths = [channels] + [options.width] * (options.depth - 1) + [channels * factor[0] * factor[1]]
        self._shapes = list(zip(widths[1:], widths[:-1], strict=True))  # (out, in) of each convolution
        if isinstance(weights, list):
            weights = torch.stack([self._first_weights(generator) for generator in weights])
        self.weights_NP = nn.Parameter(weights)

    @property
    def members(self) -> int:
        """N."""
        return len(self.weights_NP)

    grid = 1
    """It may be cut anywhere (`Facts.grid`)."""

    @property
    def radius(self) -> int:
        """Input pixels that an output pixel looks at beyond its own, on each side."""
        return max(self.options.depth * (KERNEL // 2), 2)  # 2: the reach of the bicubic enlargement

    @property
    def multiply_adds_per_pixel(self) -> int:
        """Multiply-adds of one member's forward pass, for each pixel of its input."""
        return sum(o * i * KERNEL**2 for o, i in self._shapes)

    @property
    def parameters_of_a_member(self) -> int:
        """P, as the options have it."""
        return self.multiply_adds_per_pixel + (sum(o for o, _ in self._shapes) if self.options.bias else 0)

    @property
    def inner_matrices(self) -> tuple[int, int, int]:
        """How many convolutions lie between the first and the last, and the rows (out) and columns (in x 9) of their
        weights as matrices. A member's P parameters begin with them, in order."""
        return len(self._shapes) - 2, self.options.width, self.options.width * KERNEL**2

    def _first_weights(self, generator: torch.Generator) -> Tensor:
        inner: list[Tensor] = []
        ends: list[Tensor] = []
        biases: list[Tensor] = []
        last = len(self._shapes) - 1
        for layer, (o, i) in enumerate(self._shapes):
            fan_in = i * KERNEL**2
            deviation = math.sqrt((0.1 if self.options.initial == "original" else 1) / fan_in)
            if self.options.initial == "lecun" and layer == last:
                deviation *= 0.1
            elif self.options.residual and layer and layer % 2 == 0:
                deviation *= 0.3  # each pair starts near nothing, so that many of them do not add up
            (inner if 0 < layer < last else ends).append(torch.randn(o * fan_in, generator=generator) * deviation)
            biases.append(torch.zeros(o if self.options.bias else 0))
        return torch.cat([*inner, *ends, *biases])

    def _layers(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weights `N O I k k` and biases `N O` of each convolution, as views of the one tensor."""
        count, rows, columns = self.inner_matrices
        first, last = (o * i * KERNEL**2 for o, i in (self._shapes[0], self._shapes[-1]))
        biases = [o if self.options.bias else 0 for o, _ in self._shapes]
        # split, not slices: its backward is one concatenation, where each slice's is a tensor of all zeros.
        # In the products' precision at once: what is copied on the way to each convolution is then half as much.
        device = self.weights_NP.device.type
        reduced = torch.is_autocast_enabled(device)
        weights_NP = self.weights_NP.to(torch.get_autocast_dtype(device)) if reduced else self.weights_NP
        parts = torch.split(weights_NP, [rows * columns] * count + [first, last, *biases], dim=1)
        weights = [parts[count], *parts[:count], parts[count + 1]]
        return [
            (weight.unflatten(1, (o, i, KERNEL, KERNEL)), bias if self.options.bias else None)
            for (o, i), weight, bias in zip(self._shapes, weights, parts[count + 2 :], strict=True)
        ]

    @cached_property
    def chain(self) -> Chain:
        """The convolutions as Triton's kernels take them."""
        sizes, last = [o * i * KERNEL**2 for o, i in self._shapes], len(self._shapes) - 1
        order = [*range(1, last), 0, last]  # in which a member's weights lie
        starts = dict(zip(order, accumulate((sizes[n] for n in order), initial=0), strict=False))
        biases = accumulate((o for o, _ in self._shapes), initial=sum(sizes))
        placed = zip(self._shapes, sorted(starts), biases, strict=False)
        layers = tuple(Layer(i, o, starts[n], bias if self.options.bias else None) for (o, i), n, bias in placed)
        return Chain(layers, self.options.residual)

    def takes_kernels(self, precision: torch.dtype) -> bool:
        """Whether its products are Triton's: in float32 matrix units would round to TF32, without them cuBLAS is
        faster, and the blocks of wide networks do not fit a GPU's shared memory."""
        widest = max(max(one.inputs, one.outputs) for one in self.chain.layers)
        fits = precision == torch.bfloat16 and widest <= MOST_CHANNELS
        wanted = self.product == "auto" and fits and kernels_usable(self.weights_NP.device)
        return self.product == "triton" or wanted

    def _body(self, x_NBCHW: Tensor) -> Tensor:
        """The convolutions, `N B C H W` to `N B O H W`."""
        device = self.weights_NP.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        layout = Batched()
        if self.convolutions is not None:
            return layout.leave(self.convolutions(layout.enter(x_NBCHW)))
        if self.product == "triton" or (self.members > 1 and self.takes_kernels(dtype)):
            return layout.leave(self.chain(layout.enter(x_NBCHW).to(dtype), self.chain.pack(self.weights_NP)))
        batched = self.product == "batched" or (self.product == "auto" and self.members > 1 and self.weights_NP.is_cuda)
        convolution = layout if batched else Grouped(self.members)
        return convolution.leave(self._convolve(convolution.enter(x_NBCHW), convolution))

    def _convolve(self, y: Tensor, convolution: Grouped | Batched) -> Tensor:
        first, *inner, last = self._layers()
        y = convolution.convolve(y, *first)
        if not self.options.residual:
            for layer in (*inner, last):
                y = convolution.convolve(F.relu(y), *layer)
            return y
        for one, two in zip(inner[::2], inner[1::2], strict=True):
            y = y + convolution.convolve(F.relu(convolution.convolve(y, *one)), *two)
        return convolution.convolve(y, *last)

    def base(self, x_NBCHW: Tensor) -> Tensor:
        """What the convolutions' output is added to: the input, enlarged by `factor` where that is not 1."""
        size = (x_NBCHW.shape[-2] * self.factor[0], x_NBCHW.shape[-1] * self.factor[1])
        if self.factor == (1, 1):
            return x_NBCHW
        large = F.interpolate(x_NBCHW.flatten(0, 1), size=size, mode="bicubic", antialias=True)
        return large.reshape(*x_NBCHW.shape[:-2], *size)

    def forward(self, x_NBCHW: Tensor) -> Tensor:
        """Improve interpolated images, or enlarge LR images.

        Args:
            x_NBCHW: N members' batches, [0, 1].

        Returns:
            `N B C fy*H fx*W` float32, not clipped.
        """
        self.facts.check(x_NBCHW)
        n, b, c, h, w = x_NBCHW.shape
        fy, fx = self.factor
        centre = self.options.initial != "original"
        y = self._body(x_NBCHW * 2 - 1 if centre else x_NBCHW)
        # Each pixel's channels are its block of fy x fx larger pixels (pixel shuffle, for any two factors).
        blocks: Tensor = y.float().unflatten(2, (c, fy, fx))
        y = blocks.permute(0, 1, 2, 5, 3, 6, 4).reshape(n, b, c, h * fy, w * fx)
        return self.base(x_NBCHW) + y * (0.5 if centre else 1.0)
