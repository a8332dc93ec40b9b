"""FID: its distance against an independent square root, its name, and what weakens or prevents it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch import Tensor

from tests.networks.weights import inception_weights
from zssr_gan.evaluation.metrics.features import FID, Seen, moments_of
from zssr_gan.files import sha256_file
from zssr_gan.networks.inception import Inception


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return inception_weights(torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def fid(file: Path) -> FID:
    return FID(file)


def images(number: int, seed: int, side: int = 16) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.rand(3, side, side, generator=draws) for _ in range(number)]


def test_the_distance_is_that_of_the_definition(fid: FID) -> None:
    """By scipy's square root of a general matrix, on vectors that are enough for a covariance of full rank."""
    draws = torch.Generator().manual_seed(3)
    mixing = torch.randn(6, 6, generator=draws)
    one, other = torch.randn(50, 6, generator=draws) @ mixing, torch.randn(50, 6, generator=draws) + 1
    found = fid.figures(*(Seen(50, {"pool3": moments_of(vectors)}) for vectors in (one, other)))["pool3"]
    a, b = np.cov(one.double().numpy().T), np.cov(other.double().numpy().T)
    root = sqrtm(a @ b)
    expected = (
        np.square((one.double().mean(0) - other.double().mean(0)).numpy()).sum() + np.trace(a + b - 2 * root).real
    )
    assert found.number() == pytest.approx(expected, rel=1e-6)
    assert found.why == ""


def test_a_vector_is_of_an_image(fid: FID, weights: dict[str, Tensor]) -> None:
    """Images of several shapes, in their order, on 8-bit levels."""
    given = [*images(2, 0), *images(1, 1, side=20), *images(1, 2)]
    seen = fid.look(given)
    network = Inception(weights)
    vectors = torch.cat([network((image * 255).round()[None] / 255)["pool3"] for image in given])
    assert (seen.images, seen.moments["pool3"].count) == (4, 4)
    assert torch.allclose(seen.moments["pool3"].mean, vectors.double().mean(0), atol=1e-4)
    assert torch.allclose(seen.moments["pool3"].covariance, torch.cov(vectors.double().T), atol=1e-4)


def test_few_images_and_sets_of_two_sizes_are_said(fid: FID) -> None:
    """Of 6 features, in place of 2048, whose roots take seconds."""
    draws = torch.Generator().manual_seed(3)
    sets = [Seen(number, {"pool3": moments_of(torch.rand(number, 6, generator=draws))}) for number in (5, 8)]
    assert fid.figures(*sets)["pool3"].why == (
        "sets of different sizes (5 and 8 images); a covariance without full rank (5 images, 6 features)"
    )


def test_its_name_is_unlike_the_distance_on_places(fid: FID, file: Path) -> None:
    (definition,) = fid.definitions.values()
    assert definition.name == f"FID, Inception pool3 (2048), weights inception.safetensors {sha256_file(file)[:8]}"
    assert fid.figures(fid.look([]), fid.look([]))["pool3"].name == definition.name


def test_without_weights_every_cell_says_so(tmp_path: Path) -> None:
    nothing = FID(None)
    seen = nothing.look(images(2, 0))
    assert nothing.figures(seen, seen)["pool3"].why == "none given: evaluate.inception names a file"
    assert nothing.definitions["pool3"].name == "FID, Inception pool3 (2048), weights none given"
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name, why in (("other", "no weights of FID's Inception: Conv2d_1a_3x3"), ("gone", "no such file of weights")):
        fid = FID(tmp_path / f"{name}.safetensors")
        seen = fid.look(images(2, 0))
        assert why in fid.figures(seen, seen)["pool3"].why


def test_sets_without_a_figure(fid: FID) -> None:
    good = fid.look(images(2, 0))
    for given, why in (
        ([], "there are no images to look at"),
        ([torch.full((3, 8, 8), float("nan"))], "one image holds NaN or infinity"),
        (images(1, 0), "a set with one image has no covariance"),
    ):
        assert fid.figures(good, fid.look(given))["pool3"].why == why
