"""The Frechet distance against closed forms, and what it says of blurred pictures."""

import math

import pytest
import torch
from torch import Tensor

from zssr_gan.evaluation.metrics.features import distance_of_moments, frechet_distance, place_features, place_moments
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.vgg import VGG, VGGOptions, orthogonal_weights


def normal(count: int, *deviations: float, seed: int = 0) -> Tensor:
    """Vectors whose sample has exactly these deviations, no correlation and the mean 0."""
    drawn = torch.randn(count, len(deviations), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn -= drawn.mean(0)
    whitened = torch.linalg.qr(drawn).Q * math.sqrt(count - 1)
    return whitened * torch.tensor(deviations, dtype=torch.float64)


def test_closed_forms() -> None:
    one = normal(50, 1.0, 2.0, 3.0)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    moved = one + torch.tensor([3.0, 0.0, -4.0])
    assert frechet_distance(one, moved) == pytest.approx(25)
    # Where covariances commute: the squared differences of the deviations.
    wider = normal(80, 2.0, 2.0, 1.0, seed=1)
    assert frechet_distance(one, wider) == pytest.approx(1 + 0 + 4)
    assert frechet_distance(wider, one) == pytest.approx(5)


def test_turned_axes_change_nothing() -> None:
    one, other = normal(60, 1.0, 2.0), normal(60, 3.0, 0.5, seed=2) @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]]).double()
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    assert frechet_distance(one @ turn, other @ turn) == pytest.approx(frechet_distance(one, other))
    # By hand: tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), where a 2x2 root's trace is sqrt(tr + 2 sqrt(det)).
    product = torch.cov(one.T) @ torch.cov(other.T)
    root = math.sqrt(product.trace() + 2 * math.sqrt(torch.linalg.det(product)))
    assert frechet_distance(one, other) == pytest.approx(5 + 9.25 - 2 * root)


def test_fewer_vectors_than_features() -> None:
    """A covariance without full rank has a square root too."""
    few = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, few + 1) == pytest.approx(9, abs=1e-6)


@pytest.mark.parametrize(("one", "other"), [((1, 3), (5, 3)), ((5, 3), (5, 4))])
def test_refused(one: tuple[int, int], other: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="two sets of at least two vectors"):
        frechet_distance(torch.zeros(one), torch.zeros(other))


def test_the_more_blurred_the_further(astronaut: Tensor) -> None:
    network = VGG(VGGOptions(layers=("conv1_2", "conv2_1")), orthogonal_weights(torch.Generator().manual_seed(0)))
    pictures = [astronaut[:, :32, :32], astronaut[:, -32:, -24:], astronaut[:, :24, -32:]]
    sharp = place_features(network, pictures)
    assert sharp["conv1_2"].shape == (32 * 32 + 32 * 24 + 24 * 32, 64)
    assert sharp["conv2_1"].shape == (16 * 16 + 16 * 12 + 12 * 16, 128)
    blurred = [
        place_features(network, [resize(resize(x, (n, n)), (x.shape[-2], x.shape[-1])) for x in pictures])
        for n in (20, 12, 6)
    ]
    for layer, vectors in sharp.items():
        distances = [frechet_distance(vectors, one[layer]) for one in blurred]
        assert 0 < distances[0] < distances[1] < distances[2]


def test_moments_of_image_after_image_are_those_of_all(astronaut: Tensor) -> None:
    network = VGG(VGGOptions(layers=("conv1_2", "conv2_1")), orthogonal_weights(torch.Generator().manual_seed(0)))
    pictures = [astronaut[:, :32, :32], astronaut[:, -32:, -24:], astronaut[:, :2, :2]]  # the last has one place
    features, moments = place_features(network, pictures), place_moments(network, pictures)
    for layer, vectors in features.items():
        found = moments[layer]
        assert found.count == len(vectors)
        torch.testing.assert_close(found.mean, vectors.mean(0))
        torch.testing.assert_close(found.covariance, torch.cov(vectors.T))
        other = vectors.flip(1)
        expected = frechet_distance(vectors, other)
        turned = type(found)(found.count, found.mean.flip(0), found.covariance.flip(0, 1))
        assert distance_of_moments(found, turned) == pytest.approx(expected, rel=1e-6)
