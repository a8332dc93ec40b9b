"""Frechet distances against closed forms and an independent square root, on places and on images (FID)."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch import Tensor

from tests.networks.weights import cached_inception_weights, vgg_weights
from zssr_gan.evaluation.metrics.frechet import Features, SetMetric, fid, frechet, frechet_distance, moments
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.files import sha256_file
from zssr_gan.imaging.resize import resize
from zssr_gan.networks.inception import Inception
from zssr_gan.networks.vgg import VGG, VGGOptions

SHALLOW = VGGOptions(layers=("conv1_2", "conv2_1"))
NAN = torch.full((3, 8, 8), math.nan)


@pytest.fixture(scope="module", autouse=True)
def _no_weights_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZSSR_GAN_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


@pytest.fixture(scope="module")
def places() -> SetMetric:
    """With random weights, which take a second to draw."""
    return frechet(SHALLOW, "random")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(cached_inception_weights(), path)
    return path


@pytest.fixture(scope="module")
def inception(file: Path) -> SetMetric:
    return fid(file)


def distance(one: Tensor, other: Tensor) -> float:
    return frechet_distance(*(moments([{"x": vectors}])["x"] for vectors in (one, other)))


def normal(count: int, *deviations: float, seed: int = 0) -> Tensor:
    """Vectors whose sample has exactly these deviations, no correlation and the mean 0."""
    drawn = torch.randn(count, len(deviations), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn -= drawn.mean(0)
    whitened = torch.linalg.qr(drawn).Q * math.sqrt(count - 1)
    return whitened * torch.tensor(deviations, dtype=torch.float64)


def between(metric: SetMetric, one: Features, other: Features) -> dict[str, Figure]:
    """By layer."""
    return dict(zip(metric.definitions, metric.figures(one, other), strict=True))


def images(number: int, seed: int, side: int = 16) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.rand(3, side, side, generator=draws) for _ in range(number)]


def test_closed_forms() -> None:
    one = normal(50, 1.0, 2.0, 3.0)
    assert distance(one, one) == pytest.approx(0, abs=1e-9)
    assert distance(one, one + torch.tensor([3.0, 0.0, -4.0])) == pytest.approx(25)
    # Where covariances commute: the squared differences of the deviations.
    wider = normal(80, 2.0, 2.0, 1.0, seed=1)
    assert distance(one, wider) == pytest.approx(1 + 0 + 4)
    assert distance(wider, one) == pytest.approx(5)
    draws = torch.Generator().manual_seed(3)
    some = torch.randn(50, 6, generator=draws).double() @ torch.randn(6, 6, generator=draws).double()
    a, b = np.cov(some.numpy().T), np.cov(some.numpy()[:, ::-1].T)
    means = (some.mean(0) - some.mean(0).flip(0)).numpy()
    expected = np.square(means).sum() + np.trace(a + b - 2 * sqrtm(a @ b)).real
    assert distance(some, some.flip(1)) == pytest.approx(expected, rel=1e-6)
    # A covariance without full rank has a square root too.
    few = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    assert distance(few, few + 1) == pytest.approx(9, abs=1e-6)


def test_moments_of_batches_are_those_of_all() -> None:
    vectors = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = moments({"x": part} for part in (vectors[:40], vectors[40:41], vectors[41:]))["x"]
    assert found.count == 60
    torch.testing.assert_close(found.mean, vectors.mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(vectors.T))


def test_the_more_blurred_the_further(places: SetMetric, astronaut: Tensor) -> None:
    pictures = [astronaut[:, :32, :32], astronaut[:, -32:, -24:], astronaut[:, :24, -32:]]
    sharp = places.look(pictures)
    assert (sharp.images, sharp.moments["conv1_2"].count) == (3, 32 * 32 + 32 * 24 + 24 * 32)
    network = VGG(SHALLOW, vgg_weights())
    expected = torch.cat([network(x[None])["conv2_1"][0].flatten(1).T for x in pictures]).double().mean(0)
    assert torch.allclose(sharp.moments["conv2_1"].mean, expected, atol=1e-5)
    distances = []
    for side in (20, 12, 6):
        blurred = [resize(resize(x, (side, side)), (x.shape[-2], x.shape[-1])) for x in pictures]
        distances.append(between(places, places.look(blurred), sharp))
    for layer in SHALLOW.layers:
        values = [one[layer].number() for one in distances]
        assert 0 < values[0] < values[1] < values[2]
    figure = distances[0]["conv2_1"]
    assert figure.name == "Frechet distance, conv2_1 of VGG19 at every place, weights RANDOM (seed 0)"
    assert "RANDOM weights" in figure.why


def test_a_vector_of_fid_is_of_an_image(inception: SetMetric, file: Path) -> None:
    """Images of several shapes, on 8-bit levels."""
    given = [*images(2, 0), *images(1, 1, side=20), *images(1, 2)]
    seen = inception.look(given)
    network = Inception(cached_inception_weights())
    vectors = torch.cat([network((image * 255).round()[None] / 255)["pool3"] for image in given]).double()
    assert (seen.images, seen.moments["pool3"].count) == (4, 4)
    assert torch.allclose(seen.moments["pool3"].mean, vectors.mean(0), atol=1e-4)
    assert torch.allclose(seen.moments["pool3"].covariance, torch.cov(vectors.T), atol=1e-4)
    (definition,) = inception.definitions.values()
    assert definition.name == f"FID, Inception pool3 (2048), weights inception.safetensors {sha256_file(file)[:8]}"


def test_what_weakens_a_distance_is_said(places: SetMetric, inception: SetMetric, astronaut: Tensor) -> None:
    many, few = places.look([astronaut, astronaut.flip(2)]), places.look([astronaut[:, :8, :8]])
    why = between(places, many, few)["conv1_2"].why
    assert "sets of different sizes (2 and 1 images)" in why
    assert "a covariance without full rank (64 places, 64 features)" in why
    # Of 6 features, in place of 2048, whose roots take seconds.
    draws = torch.Generator().manual_seed(3)
    sets = [Features(n, moments([{"pool3": torch.rand(n, 6, generator=draws)}])) for n in (5, 8)]
    assert between(inception, *sets)["pool3"].why == (
        "sets of different sizes (5 and 8 images); a covariance without full rank (5 images, 6 features)"
    )


def test_sets_without_a_distance(places: SetMetric, inception: SetMetric, astronaut: Tensor) -> None:
    small = astronaut[:, :2, :2]
    for metric, layer, given, why in (
        (places, "conv1_2", [], "there are no images to look at"),
        (places, "conv1_2", [astronaut, astronaut[:, :1]], "needs 2 pixels a side, and one image is 64x1"),
        (places, "conv1_2", [NAN], "one image holds NaN or infinity"),
        (places, "conv2_1", [small], "a set with one place has no covariance"),
        (inception, "pool3", [], "there are no images to look at"),
        (inception, "pool3", images(1, 0), "a set with one image has no covariance"),
    ):
        assert between(metric, metric.look([astronaut]), metric.look(given))[layer].why == why


def test_without_weights_every_figure_says_so(tmp_path: Path, astronaut: Tensor) -> None:
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for metric, why in (
        (frechet(SHALLOW, "imagenet"), "run `zssr-gan weights fetch vgg19`"),
        (fid(None), "none given: evaluate.inception names a file"),
        (fid(tmp_path / "other.safetensors"), "no weights of FID's Inception: Conv2d_1a_3x3"),
        (fid(tmp_path / "gone.safetensors"), "no such file of weights"),
    ):
        seen = metric.look([astronaut] * 2)
        for layer, figure in between(metric, seen, seen).items():
            assert figure.value is None
            assert why in figure.why
            assert figure.name == metric.definitions[layer].name
