"""Frechet distance between two sets of feature vectors, each taken for a normal distribution.

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017 on Inception's features,
as FID; Shaham et al. 2019 on the features at each place of one image, as SIFID). The figure hangs on the features and
on how many vectors there are: only those of the same kind and of sets of the same size can be compared.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from zssr_gan.networks.alexnet import AlexNet
from zssr_gan.networks.vgg import VGG


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
    (m1, s1), (m2, s2) = (_moments(vectors.double()) for vectors in (one, other))
    root = _root(s1)
    # Of the product's square root only the trace is needed, and S1 S2 has the eigenvalues of this symmetric matrix.
    both = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * both)


def _moments(vectors: Tensor) -> tuple[Tensor, Tensor]:
    return vectors.mean(0), torch.cov(vectors.T).reshape(vectors.shape[1], vectors.shape[1])


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric matrix; rounding's negative eigenvalues count as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
