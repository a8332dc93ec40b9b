"""What is expected of an image before anything is seen of it: small differences between neighbours and like patches.

Shapes: H W rows and columns, N = H W pixels, row by row.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, sparse

from zssr_gan.imaging.resize import Size
from zssr_gan.video.camera import Array

# Weight of each stencil, by (y, x) of its pixels: first differences (Rudin et al. 1992; diagonals as Farsiu et al.
# 2004), and second ones, which a slope does not pay for (Lysaker et al. 2003).
_FIRST, _SECOND = 0.7, 0.25
_STENCILS: tuple[tuple[float, dict[tuple[int, int], int]], ...] = (
    (_FIRST, {(0, 0): -1, (0, 1): 1}),
    (_FIRST, {(0, 0): -1, (1, 0): 1}),
    (_FIRST / 2, {(0, 0): -1, (1, 1): 1}),
    (_FIRST / 2, {(0, 1): -1, (1, 0): 1}),
    (_SECOND, {(0, 0): 1, (0, 1): -2, (0, 2): 1}),
    (_SECOND, {(0, 0): 1, (1, 0): -2, (2, 0): 1}),
    (_SECOND / 2, {(0, 0): 1, (1, 1): -2, (2, 2): 1}),
    (_SECOND / 2, {(0, 2): 1, (1, 1): -2, (2, 0): 1}),
)

_REACH = 5  # pixels that like patches are searched in, each way
_LIKE = 10  # patches that a pixel is compared with
_PATCH = 1.5  # standard deviation of a patch's window, pixels
_UNLIKE = 6 / 255  # root mean square difference at which a patch counts little
_UNIQUE = 1e-3  # weight of a pixel by which it need not be like any


@lru_cache(maxsize=8)
def differences(size: Size) -> tuple[sparse.csr_matrix, sparse.csr_matrix, Array]:
    """The matrix of first and second differences of an image `(M, N)`, its values squared, and the weights, `M`."""
    places = np.arange(size[0] * size[1], dtype=np.int32).reshape(size)
    parts, weights = [], []
    for weight, stencil in _STENCILS:
        tall, wide = (size[axis] - max(place[axis] for place in stencil) for axis in (0, 1))
        pixels = np.stack([places[y : y + tall, x : x + wide].ravel() for y, x in stencil], 1)
        count, taps = pixels.shape
        values = np.tile(np.array(list(stencil.values()), np.float32), count)
        rows = sparse.csr_matrix((values, pixels.ravel(), np.arange(0, count * taps + 1, taps)), (count, places.size))
        parts.append(rows)
        weights.append(np.full(count, weight, np.float32))
    matrix = sparse.vstack(parts, "csr")
    return matrix, matrix.multiply(matrix).tocsr(), np.concatenate(weights)


def unlikeness(image: Array) -> sparse.csr_matrix:
    """`(N, N)`: each pixel of `H W` minus the mean of those with the likest patches around it (Buades et al. 2005)."""
    places = np.arange(image.size, dtype=np.int32).reshape(image.shape)
    around, others = (sliding_window_view(np.pad(x, _REACH, mode="reflect"), x.shape) for x in (image, places))
    apart = [ndimage.gaussian_filter((image - row) ** 2, (0, _PATCH, _PATCH), mode="nearest") for row in around]
    itself = (2 * _REACH + 1) * _REACH + _REACH
    distance, other = (np.delete(np.reshape(x, (-1, image.size)).T, itself, 1) for x in (np.stack(apart), others))
    likest = np.argpartition(distance, _LIKE, axis=1)[:, :_LIKE]
    weight = np.exp(-np.take_along_axis(distance, likest, 1) / (2 * _UNLIKE**2))
    total = weight.sum(1, keepdims=True) + _UNIQUE
    pointers = np.arange(0, image.size * _LIKE + 1, _LIKE)
    values, columns = (weight / total).astype(np.float32), np.take_along_axis(other, likest, 1)
    means = sparse.csr_matrix((values.ravel(), columns.ravel(), pointers), shape=(image.size, image.size))
    return sparse.csr_matrix(sparse.diags(1 - _UNIQUE / total[:, 0], dtype=np.float32) - means)
