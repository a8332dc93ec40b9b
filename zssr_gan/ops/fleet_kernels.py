"""Triton kernels of a fleet's 3x3 convolutions as implicit matrix products: patches are never laid out in memory.

Each program makes a block of one network's result. Activations are `N P C`: networks, pixels of all samples, channels.
Of one convolution's weights, `9 I O`: taps row by row, input and output channels. Products are summed in float32.
Padded channel counts are powers of two of at least 16, as the matrix units want them.

How a convolution becomes a product without copies: Zhou et al. 2021, "Characterizing and demystifying the implicit
convolution algorithm on commercial matrix-multiplication accelerators". Adam: Kingma and Ba 2015, algorithm 1.
"""

import triton
import triton.language as tl


@triton.jit
def neighbours(p, tap, PIXELS: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Pixels that a tap of the kernel looks at from pixels `p`, and which of them lie within the sample."""
    down, right = tap // 3 - 1, tap % 3 - 1
    row, column = (p // W) % H + down, p % W + right
    return p + down * W + right, (p < PIXELS) & (row >= 0) & (row < H) & (column >= 0) & (column < W)


@triton.jit
def convolve(
    x,
    w,
    bias,
    mask,
    residual,
    out,
    members_stride,
    PIXELS: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    PADDED_IN: tl.constexpr,
    PADDED_OUT: tl.constexpr,
    BLOCK: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    RELU: tl.constexpr,
    BIAS: tl.constexpr,
    MASK: tl.constexpr,
    RESIDUAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A convolution with zero padding: `out = mask > 0 ? relu(x * w + bias) + residual : 0`, what is asked of it.

    TRANSPOSED: its transpose, which takes gradients of outputs (I channels) to those of inputs (O channels): taps are
    turned half round, and `w` lies as `9 O I`.
    """
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i, o = tl.arange(0, PADDED_IN), tl.arange(0, PADDED_OUT)
    x += n * PIXELS * IN
    w += n * members_stride
    total = tl.zeros((BLOCK, PADDED_OUT), tl.float32)
    for tap in range(9):
        q, inside = neighbours(p, tap, PIXELS, H, W)
        a = tl.load(x + q[:, None] * IN + i[None, :], inside[:, None] & (i < IN)[None, :], other=0)
        if TRANSPOSED:
            at = ((8 - tap) * OUT + o)[:, None] * IN + i[None, :]
            b = tl.trans(tl.load(w + at, (o < OUT)[:, None] & (i < IN)[None, :], other=0))
        else:
            at = (tap * IN + i)[:, None] * OUT + o[None, :]
            b = tl.load(w + at, (i < IN)[:, None] & (o < OUT)[None, :], other=0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    there = (p < PIXELS)[:, None] & (o < OUT)[None, :]
    at = n * PIXELS * OUT + p[:, None] * OUT + o[None, :]
    if BIAS:
        total += tl.load(bias + n * members_stride + o, o < OUT, other=0).to(tl.float32)[None, :]
    if RELU:
        total = tl.maximum(total, 0)
    if MASK:
        total = tl.where(tl.load(mask + at, there, other=0) > 0, total, 0)
    if RESIDUAL:
        total += tl.load(residual + at, there, other=0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), there)


@triton.jit
def finish(
    gradient,
    at,
    there,
    n,
    out,
    weights,
    reduced,
    mean,
    square,
    rates,
    epsilons,
    ADAM: tl.constexpr,
    BETA_1: tl.constexpr,
    BETA_2: tl.constexpr,
):
    """Store gradients, or move the weights at offsets `at` by them: Adam with corrections for bias in its rates."""
    if ADAM:
        m = tl.load(mean + at, there, other=0)
        m += (gradient - m) * (1 - BETA_1)
        v = tl.load(square + at, there, other=0) * BETA_2 + gradient * gradient * (1 - BETA_2)
        step = m / (tl.sqrt(v) + tl.load(epsilons + n)) * tl.load(rates + n)
        new = tl.load(weights + at, there, other=0) - step
        tl.store(mean + at, m, there)
        tl.store(square + at, v, there)
        tl.store(weights + at, new, there)
        tl.store(reduced + at, new.to(reduced.dtype.element_ty), there)
    else:
        tl.store(out + at, gradient, there)


@triton.jit
def differentiate(
    x,
    g,
    out,
    weights,
    reduced,
    mean,
    square,
    rates,
    epsilons,
    members_stride,
    start,
    bias_start,
    PIXELS: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    PADDED_IN: tl.constexpr,
    PADDED_OUT: tl.constexpr,
    BLOCK: tl.constexpr,
    BIAS: tl.constexpr,
    ADAM: tl.constexpr,
    BETA_1: tl.constexpr,
    BETA_2: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of one tap's weights, and what `finish` makes of it; the program of the first tap does the bias too.

    `x`: inputs of the convolution. `g`: gradients of its outputs. The other tensors are `N` values, or `N` rows of all
    parameters of a network, `members_stride` apart; `start` and `bias_start` are this convolution's places in a row.
    """
    n, tap = tl.program_id(1).to(tl.int64), tl.program_id(0)
    i, o = tl.arange(0, PADDED_IN), tl.arange(0, PADDED_OUT)
    x += n * PIXELS * IN
    g += n * PIXELS * OUT
    total, on_bias = tl.zeros((PADDED_IN, PADDED_OUT), tl.float32), tl.zeros((PADDED_OUT,), tl.float32)
    for first in range(0, PIXELS, BLOCK):
        p = first + tl.arange(0, BLOCK)
        q, inside = neighbours(p, tap, PIXELS, H, W)
        a = tl.load(x + q[:, None] * IN + i[None, :], inside[:, None] & (i < IN)[None, :], other=0)
        b = tl.load(g + p[:, None] * OUT + o[None, :], (p < PIXELS)[:, None] & (o < OUT)[None, :], other=0)
        total = tl.dot(tl.trans(a), b, total, input_precision=PRECISION)
        if BIAS:
            on_bias += tl.sum(b.to(tl.float32), 0)
    row = n * members_stride
    at = row + start + (tap * IN + i)[:, None] * OUT + o[None, :]
    there = (i < IN)[:, None] & (o < OUT)[None, :]
    finish(total, at, there, n, out, weights, reduced, mean, square, rates, epsilons, ADAM, BETA_1, BETA_2)
    if BIAS:
        last = (o < OUT) & (tap == 0)
        at = row + bias_start + o
        finish(on_bias, at, last, n, out, weights, reduced, mean, square, rates, epsilons, ADAM, BETA_1, BETA_2)
