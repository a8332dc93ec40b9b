"""The convolutions of N per-image networks with their update, by Triton's kernels (`fleet_kernels`).

In one iteration a network's activations are written once and read three times, and its weights are moved where their
gradients are made: no patches, no masks, no gradients of weights go through memory.

Shapes: N networks, B samples, H W rows and columns, I O channels in and out, P parameters of a network.
"""

import contextlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 3

MOST_CHANNELS = 64  # of which a program's blocks take 72 KiB of shared memory; of 128, 192 KiB

BLOCK = 128  # pixels of a program, with 4 warps: of 256 the accumulators no longer fit the registers

GRADIENT_BLOCK = 64  # pixels that a program of the weights' gradient adds at a time


_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # of a whole chain, as a share of the norm


@lru_cache
def kernels_usable(device: torch.device) -> bool:
    """Whether the kernels run on a device and agree with plain torch there; tried once, which takes seconds.

    On CUDA torch brings Triton along. Kernels that a driver or a compiler has broken would spoil results unseen.
    """
    if device.type != "cuda" or torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return False
    try:
        return kernels_match_torch(device, torch.bfloat16)
    except Exception:  # of many kinds: no compiler for its launcher, a GPU that Triton does not know, no memory
        return False


@dataclass(frozen=True, slots=True)
class Layer:
    """A 3x3 convolution: channels, and where its weights and biases (None: it has none) begin among a network's P."""

    inputs: int
    outputs: int
    start: int
    bias: int | None

    @property
    def stop(self) -> int:
        """Where its weights end."""
        return self.start + 9 * self.inputs * self.outputs


@dataclass(frozen=True, eq=False)
class Adam:
    """What moves a fleet's weights while their gradients are made.

    `weights_NP`, `mean_NP`, `square_NP`: float32, packed (`Chain.pack`). `reduced_NP`: the weights in the products'
    precision. `rates_N`, `epsilons_N`: float32, with Adam's corrections for bias in them; a rate of 0 moves nothing.
    """

    weights_NP: Tensor
    reduced_NP: Tensor
    mean_NP: Tensor
    square_NP: Tensor
    rates_N: Tensor
    epsilons_N: Tensor
    betas: tuple[float, float]


@dataclass(frozen=True)
class Chain:
    """Convolutions one after another with ReLU between them, or in residual pairs between the first and the last.

    `residual`: each pair is convolution, ReLU, convolution, added to its input; the first and the last have no ReLU.
    """

    layers: tuple[Layer, ...]
    residual: bool

    def relu(self, layer: int) -> bool:
        """Whether ReLU follows a layer."""
        return layer < len(self.layers) - 1 and (not self.residual or layer % 2 == 1)

    def adds(self, layer: int) -> bool:
        """Whether the input of the layer before is added to a layer's output."""
        return self.residual and 0 < layer < len(self.layers) - 1 and layer % 2 == 0

    def pack(self, weights_NP: Tensor) -> Tensor:
        """Weights `O I k k` of each convolution as the kernels read them, `k k I O`; a copy, differentiable."""
        return self._reorder(
            weights_NP, lambda w, one: w.unflatten(1, (one.outputs, one.inputs, 9)).permute(0, 3, 2, 1)
        )

    def unpack(self, packed_NP: Tensor) -> Tensor:
        """The inverse of `pack`."""
        return self._reorder(packed_NP, lambda w, one: w.unflatten(1, (9, one.inputs, one.outputs)).permute(0, 3, 2, 1))

    def _reorder(self, values_NP: Tensor, turn: Callable[[Tensor, Layer], Tensor]) -> Tensor:
        layers = sorted(self.layers, key=lambda one: one.start)
        parts = [turn(values_NP[:, one.start : one.stop], one).flatten(1) for one in layers]
        return torch.cat([*parts, values_NP[:, layers[-1].stop :]], 1)

    def __call__(self, x_NBHWI: Tensor, packed_NP: Tensor, adam: Adam | None = None) -> Tensor:
        """Outputs `N B H W O`, in the precision of `x_NBHWI`.

        `packed_NP` gets gradients; with `adam`, whose `weights_NP` it is then, its backward pass moves the weights in
        place instead.
        """
        out: Tensor = _Apply.apply(x_NBHWI.contiguous(), packed_NP, self, adam)  # type: ignore[no-untyped-call]
        return out

    def bytes_of_an_iteration(self, pixels: int, size: int = 2) -> int:
        """Bytes that one network's forward pass, backward pass and Adam read and write, each tensor once a kernel.

        With A = pixels * channels * size of an activation and w the weights of a layer: forward reads A_in + w size and
        writes A_out (an addition reads A_out more). The input's gradient reads A_out + w size, and A_in for ReLU's mask
        or an addition, and writes A_in; the first layer has none. Weights read A_in + A_out and six values of 4 bytes,
        and write the reduced weight: w (24 + size). `size`: bytes of a value.
        """
        total = 0
        for number, one in enumerate(self.layers):
            into, out = (pixels * channels * size for channels in (one.inputs, one.outputs))
            weights, bias = one.stop - one.start, 0 if one.bias is None else one.outputs
            total += into + weights * size + bias * size + (1 + self.adds(number)) * out
            if number:
                also = self.relu(number - 1) or self.adds(number + 1)
                total += out + weights * size + (1 + also) * into
            total += into + out + (weights + bias) * (24 + size)
        return total

    @cached_property
    def kernels(self) -> Any:
        """Triton's, imported when they are needed."""
        from zssr_gan.ops import fleet_kernels

        return fleet_kernels


class _Apply(torch.autograd.Function):
    """See `Chain.__call__`."""

    @staticmethod
    def forward(ctx: Any, x_NBHWI: Tensor, packed_NP: Tensor, chain: Chain, adam: Adam | None) -> Tensor:
        reduced_NP = packed_NP.to(x_NBHWI.dtype) if adam is None else adam.reduced_NP
        inputs = [x_NBHWI]
        for number in range(len(chain.layers)):
            residual = inputs[number - 1] if chain.adds(number) else None
            inputs.append(_convolve(chain, number, inputs[-1], reduced_NP, residual=residual))
        ctx.chain, ctx.adam, ctx.size = chain, adam, packed_NP.shape
        ctx.save_for_backward(reduced_NP, *inputs[:-1])
        return inputs[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        chain, adam = ctx.chain, ctx.adam
        reduced_NP, *inputs = ctx.saved_tensors
        gradient, added = gradients[0].contiguous(), None
        out_NP = None if adam is not None else gradient.new_empty(ctx.size, dtype=torch.float32)
        for number in reversed(range(len(chain.layers))):
            x, g = inputs[number], gradient
            if number or ctx.needs_input_grad[0]:
                mask = x if number and chain.relu(number - 1) else None
                gradient = _convolve(chain, number, g, reduced_NP, transposed=True, mask=mask, residual=added)
            added = g if chain.adds(number) else None
            # After the last use of the layer's weights, which it may move.
            _differentiate(chain, chain.layers[number], x, g, out_NP, adam)
        return gradient if ctx.needs_input_grad[0] else None, out_NP, None, None


def _convolve(
    chain: Chain,
    number: int,
    x_NBHWI: Tensor,
    reduced_NP: Tensor,
    *,
    transposed: bool = False,
    mask: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """One layer forward, or from gradients of its outputs to those of its inputs."""
    layer = chain.layers[number]
    n, b, h, w, i = x_NBHWI.shape
    o = layer.inputs if transposed else layer.outputs
    out = x_NBHWI.new_empty(n, b, h, w, o)
    with_bias = layer.bias is not None and not transposed
    bias = reduced_NP[:, layer.bias :] if with_bias else reduced_NP
    grid = (-(-b * h * w // BLOCK), n)
    with _on_device_of(x_NBHWI):
        chain.kernels.convolve[grid](
            x_NBHWI, reduced_NP[:, layer.start :], bias, mask, residual, out, reduced_NP.stride(0),
            PIXELS=b * h * w, H=h, W=w, IN=i, OUT=o, PADDED_IN=padded(i), PADDED_OUT=padded(o),
            BLOCK=BLOCK, TRANSPOSED=transposed, RELU=not transposed and chain.relu(number), BIAS=with_bias,
            MASK=mask is not None, RESIDUAL=residual is not None, PRECISION=precision(x_NBHWI),
            num_warps=4, num_stages=3,
        )  # fmt: skip
    return out


def _differentiate(chain: Chain, layer: Layer, x: Tensor, g: Tensor, out_NP: Tensor | None, adam: Adam | None) -> None:
    """A layer's gradient into its part of `out_NP`, or into Adam."""
    n, b, h, w, i = x.shape
    o = layer.outputs
    state: Sequence[Tensor | None] = (None,) * 6
    if adam is not None:
        state = (adam.weights_NP, adam.reduced_NP, adam.mean_NP, adam.square_NP, adam.rates_N, adam.epsilons_N)
    rows = adam.weights_NP if out_NP is None and adam is not None else out_NP
    assert rows is not None
    beta_1, beta_2 = (0.0, 0.0) if adam is None else adam.betas
    with _on_device_of(x):
        chain.kernels.differentiate[(9, n)](
            x, g, out_NP, *state, rows.stride(0), layer.start, layer.bias or 0,
            PIXELS=b * h * w, H=h, W=w, IN=i, OUT=o, PADDED_IN=padded(i), PADDED_OUT=padded(o), BLOCK=GRADIENT_BLOCK,
            BIAS=layer.bias is not None, ADAM=adam is not None, BETA_1=beta_1, BETA_2=beta_2,
            PRECISION=precision(x), num_warps=4, num_stages=3,
        )  # fmt: skip


def _on_device_of(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Make the device of `x` the current one: Triton launches there, whatever device its tensors are on."""
    return torch.cuda.device_of(x) if x.is_cuda else contextlib.nullcontext()


def padded(channels: int) -> int:
    """Channels of a block: a power of two, and no fewer than a matrix unit takes."""
    return max(16, 1 << (channels - 1).bit_length())


def precision(x: Tensor) -> Literal["ieee", "tf32"]:
    """Of products; float32 is float32, where Triton's default would be TF32."""
    return "ieee" if x.dtype == torch.float32 else "tf32"


def convolve_in_torch(chain: Chain, x_NBHWI: Tensor, packed_NP: Tensor) -> Tensor:
    """What a chain computes, network by network, by torch's convolutions in the precision of `packed_NP`."""
    outs = []
    for x_BHWI, packed_P in zip(x_NBHWI.to(packed_NP.dtype), packed_NP, strict=True):
        inputs = [x_BHWI.permute(0, 3, 1, 2)]
        for number, one in enumerate(chain.layers):
            kernel = packed_P[one.start : one.stop].view(KERNEL, KERNEL, one.inputs, one.outputs).permute(3, 2, 0, 1)
            kernel = kernel.contiguous()
            bias = None if one.bias is None else packed_P[one.bias : one.bias + one.outputs]
            y = F.conv2d(inputs[-1], kernel, bias, padding=1)
            y = y.relu() if chain.relu(number) else y
            inputs.append(y + inputs[-2] if chain.adds(number) else y)
        outs.append(inputs[-1].permute(0, 2, 3, 1))
    return torch.stack(outs)


def kernels_match_torch(
    device: torch.device, dtype: torch.dtype, width: int = 64, size: tuple[int, int] = (9, 17)
) -> bool:
    """Whether outputs, gradients and an update by the kernels are plain torch's, within what `dtype` allows."""
    sizes = [9 * 3 * width, *[9 * width * width] * 2, 9 * width * 3]
    channels, bias = [3, width, width, width, 3], sum(sizes)
    starts = [(sum(sizes[:n]), bias + sum(channels[1 : n + 1])) for n in range(len(sizes))]
    layers = [Layer(i, o, *at) for (i, o), at in zip(pairwise(channels), starts, strict=True)]
    chain, draws = Chain(tuple(layers), residual=True), torch.Generator().manual_seed(0)
    packed = (torch.randn(2, bias + sum(channels[1:]), generator=draws) / math.sqrt(9 * width)).to(device)
    x, down = (torch.randn(2, 1, *size, 3, generator=draws).to(device) for _ in range(2))
    moved, plain = packed.to(dtype).float().requires_grad_(), packed.to(dtype).double().requires_grad_()
    out, exact = chain(x.to(dtype), moved), convolve_in_torch(chain, x.to(dtype).double(), plain)
    found = [out, *torch.autograd.grad((out.float() * down).sum(), moved)]
    wanted = [exact, *torch.autograd.grad((exact * down).sum(), plain)]
    with torch.no_grad():  # one step of Adam, whose moments are zero
        rates, none = torch.full((2,), 1e-2, device=device), torch.full((2,), 1e-3, device=device)
        mean, square = torch.zeros_like(packed), torch.zeros_like(packed)
    adam = Adam(moved.detach(), moved.detach().to(dtype), mean, square, rates, none, (0.5, 0.5))
    expected = moved.detach() - 1e-2 * found[1] / 2 / ((found[1].square() / 2).sqrt() + 1e-3)
    (chain(x.to(dtype), moved, adam).float() * down).sum().backward()
    found += [mean * 2, moved, adam.reduced_NP]
    wanted += [found[1], expected, expected]
    errors: list[float] = [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, wanted, strict=True)]
    return max(errors) < _TOLERANCE[dtype]
