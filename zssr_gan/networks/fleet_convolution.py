"""The 3x3 convolutions of N networks side by side, each with weights of its own, in two ways that give the same sums.

`Grouped`: the members lie side by side in the channels of one grouped convolution; fastest on a CPU. `Batched`: patches
are unfolded, and each member's are multiplied with its weights in one batch of matrix products; GPUs run these at
full rate, where their grouped convolutions are slow.

Shapes: N members, B samples, C channels in, O out, H W rows and columns.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 3


class FleetConvolution(Protocol):
    """Where activations stay in a layout of their own between `enter` and `leave`; ReLU and sums do not mind it."""

    def enter(self, x_NBCHW: Tensor) -> Tensor:
        """Into the layout."""

    def convolve(self, y: Tensor, weight_NOIkk: Tensor, bias_NO: Tensor | None) -> Tensor:
        """One convolution of each member, zero padding, same size."""

    def leave(self, y: Tensor) -> Tensor:
        """Out of it: `N B O H W`."""


class Grouped:
    """`B N*C H W`, channels last."""

    def __init__(self, members: int) -> None:
        self.members = members

    def enter(self, x_NBCHW: Tensor) -> Tensor:
        """See `FleetConvolution`."""
        n, b, c, h, w = x_NBCHW.shape
        y = x_NBCHW.transpose(0, 1).reshape(b, n * c, h, w)
        return y.contiguous(memory_format=torch.channels_last)

    def convolve(self, y: Tensor, weight_NOIkk: Tensor, bias_NO: Tensor | None) -> Tensor:
        """See `FleetConvolution`."""
        bias = None if bias_NO is None else bias_NO.reshape(-1)
        # Laid in memory as the convolution wants them: else it does so itself, each way anew.
        n, o, i, *_ = weight_NOIkk.shape
        weight = weight_NOIkk.permute(0, 1, 3, 4, 2).reshape(n * o, KERNEL, KERNEL, i).permute(0, 3, 1, 2)
        return F.conv2d(y, weight, bias, padding=KERNEL // 2, groups=self.members)

    def leave(self, y: Tensor) -> Tensor:
        """See `FleetConvolution`."""
        out: Tensor = y.unflatten(1, (self.members, -1)).transpose(0, 1)
        return out


class Batched:
    """`N B H W C`."""

    def enter(self, x_NBCHW: Tensor) -> Tensor:
        """See `FleetConvolution`."""
        return x_NBCHW.permute(0, 1, 3, 4, 2).contiguous()

    def convolve(self, y: Tensor, weight_NOIkk: Tensor, bias_NO: Tensor | None) -> Tensor:
        """See `FleetConvolution`."""
        n, o, i, *_ = weight_NOIkk.shape
        # Rows in the order in which patches are unfolded: row and column of the kernel, then channel.
        matrix_NKO = weight_NOIkk.permute(0, 3, 4, 2, 1).reshape(n, KERNEL * KERNEL * i, o)
        out: Tensor = _Product.apply(y.to(matrix_NKO.dtype), matrix_NKO)  # type: ignore[no-untyped-call]  # torch's own
        return out if bias_NO is None else out + bias_NO[:, None, None, None]

    def leave(self, y: Tensor) -> Tensor:
        """See `FleetConvolution`."""
        return y.permute(0, 1, 4, 2, 3)


class _Product(torch.autograd.Function):
    """Patches times weights. The patches, nine times the image, are unfolded again in the backward pass, not kept."""

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
