"""Frechet distance between two sets of feature vectors, each taken for a normal distribution.

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017 on Inception's features,
as FID; Shaham et al. 2019 on the features at each place of one image, as SIFID). The figure hangs on the features and
on how many vectors there are: only those of the same kind and of sets of the same size can be compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from zssr_gan.networks.alexnet import AlexNet
from zssr_gan.networks.vgg import VGG


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What is kept of a set of vectors: how many, their mean `D` and their covariance `D D`, float64, on the CPU."""

    count: int
    mean: Tensor
    covariance: Tensor


def moments_of(vectors: Tensor) -> Moments:
    """Of vectors `N D`; of one alone the covariance is NaN."""
    vectors = vectors.double()
    length = vectors.shape[1]
    return Moments(len(vectors), vectors.mean(0), torch.cov(vectors.T).reshape(length, length))


def place_moments(network: VGG | AlexNet, images: Iterable[Tensor]) -> dict[str, Moments]:
    """Those of `place_features`, image after image: the features of a whole set need not lie in memory at once.

    Args:
        network: whose layers; images are taken to its device.
        images: `C H W` each, [0, 1], of any sizes, at least one.
    """
    found: dict[str, Moments] = {}
    with torch.no_grad():
        for image in images:
            for layer, values in network(image[None].to(network.mean.device)).items():
                vectors = values[0].flatten(1).T.double().cpu()
                mean = vectors.mean(0)
                spread = (vectors - mean).T @ (vectors - mean)  # one vector has none, and torch.cov says NaN
                new = Moments(len(vectors), mean, spread)
                found[layer] = _merged(found[layer], new) if layer in found else new
    return {
        layer: Moments(sums.count, sums.mean, sums.covariance / max(sums.count - 1, 1)) for layer, sums in found.items()
    }


def place_features(network: VGG | AlexNet, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Of each layer the features at every place of every image, `N C`, float64.

    So many vectors that a case's few hundred images have a covariance; they tell of textures and edges within a
    layer's receptive field, not of how a face is put together.

    Args:
        network: whose layers.
        images: `C H W` each, [0, 1], of any sizes.
    """
    found: dict[str, list[Tensor]] = {layer: [] for layer in network.layers}
    with torch.no_grad():
        for image in images:
            for layer, values in network(image[None]).items():
                found[layer].append(values[0].flatten(1).T.double())
    return {layer: torch.cat(values) for layer, values in found.items()}


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """d^2 between vectors `N D` and `M D`, in the features' own units; 0 for one and the same set.

    Raises:
        ValueError: fewer than two vectors, or vectors of different lengths.
    """
    if min(len(one), len(other)) < 2 or one.shape[1:] != other.shape[1:]:
        raise ValueError(f"two sets of at least two vectors of one length are needed: {one.shape}, {other.shape}")
    return distance_of_moments(moments_of(one), moments_of(other))


def distance_of_moments(one: Moments, other: Moments) -> float:
    """d^2 between two sets of at least two vectors each, of one length."""
    root = _root(one.covariance)
    # Of the product's square root only the trace is needed, and S1 S2 has the eigenvalues of this symmetric matrix.
    both = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    apart = (one.mean - other.mean).square().sum()
    return float(apart + one.covariance.trace() + other.covariance.trace() - 2 * both)


def _merged(one: Moments, other: Moments) -> Moments:
    """Of two sets together, where `covariance` is still the sum over the vectors (Chan et al. 1979)."""
    count = one.count + other.count
    apart = other.mean - one.mean
    spread = one.covariance + other.covariance + torch.outer(apart, apart) * (one.count * other.count / count)
    return Moments(count, one.mean + apart * (other.count / count), spread)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric matrix; rounding's negative eigenvalues count as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
