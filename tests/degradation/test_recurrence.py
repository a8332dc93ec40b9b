"""Recurrence across scales: the blur that was there fits best, and the search finds it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.zeroshot.native import QUICK, pieces
from zssr_gan.degradation.estimator import cut_tiles
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.degradation.noise import LUMA_NOISE
from zssr_gan.degradation.recurrence import Fit, Recurrence, fit_blur, fit_noise

TILTED = GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=30)
OTHER_WAY = GaussianBlur(sigma_major=1.1, sigma_minor=0.5, angle_degrees=-30)
NONE = GaussianBlur(sigma_major=0, sigma_minor=0)


def recurrence(degradation: Degradation, seed: int = 0, **changes: object) -> Recurrence:
    settings = replace(QUICK, **changes)
    return Recurrence(cut_tiles(pieces(degradation), settings), degradation.jpeg, settings, seed)


@pytest.fixture(scope="module")
def tilted() -> Recurrence:
    return recurrence(Degradation(blur=TILTED, noise=Noise(sigma=2 / 255)))


NOISE = 2 / 255 * LUMA_NOISE


class TestCutTiles:
    def test_large_images_are_cut_on_blocks(self) -> None:
        image = torch.rand(1, 70, 133)
        tiles = cut_tiles([image], replace(QUICK, tile=44, fewest=3))  # of whole blocks: 40
        assert [tuple(group.shape) for group in tiles.groups] == [(3, 40, 40), (3, 28, 40)]
        for n in range(3):
            assert torch.equal(tiles.groups[0][n], image[0, :40, 40 * n : 40 * n + 40])
            assert torch.equal(tiles.groups[1][n], image[0, 40:68, 40 * n : 40 * n + 40])

    def test_colours_give_luma(self) -> None:
        image = torch.stack([torch.full((16, 16), value) for value in (1.0, 0.5, 0.0)])
        tiles = cut_tiles([image], QUICK)
        assert float(tiles.groups[0].mean()) == pytest.approx(0.299 + 0.587 / 2)

    def test_small_ones_are_left_out(self) -> None:
        assert len(cut_tiles([torch.rand(3, 15, 40), torch.rand(1, 40, 13)], QUICK)) == 0
        assert len(cut_tiles([torch.rand(3, 16, 19)], QUICK)) == 1

    def test_no_more_than_asked_for_of_one_size(self) -> None:
        assert 25 <= len(cut_tiles([torch.rand(1, 32, 32) for _ in range(130)], QUICK)) <= QUICK.tiles


class TestMisfit:
    @pytest.mark.parametrize(
        "degradation",
        [
            Degradation(blur=TILTED),
            Degradation(blur=TILTED, noise=Noise(sigma=3 / 255)),
            Degradation(blur=TILTED, noise=Noise(sigma=1 / 255), jpeg=Jpeg.of_quality(90)),
        ],
        ids=["clean", "noisy", "JPEG"],
    )
    def test_is_least_at_the_blur_that_was_there(self, degradation: Degradation) -> None:
        noise = 0.0 if degradation.noise is None else degradation.noise.sigma * LUMA_NOISE
        looked_at = recurrence(degradation)
        at = looked_at.misfit(TILTED, noise)
        for other in (
            NONE,
            OTHER_WAY,
            GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30),
            GaussianBlur(sigma_major=1.5, sigma_minor=0.5, angle_degrees=30),
            GaussianBlur(sigma_major=1.1, sigma_minor=0.9, angle_degrees=30),
            GaussianBlur(sigma_major=1.1, sigma_minor=0.1, angle_degrees=30),
        ):
            assert at < looked_at.misfit(other, noise)


def assert_like(found: GaussianBlur, true: GaussianBlur, within: float) -> None:
    """Roots of the covariances are apart by less than `within` pixels of the LR image: widths and tilt at once."""
    a, b = (root(blur.covariance()) for blur in (found, true))
    assert (a - b).abs().max() < within, f"{found} for {true}"


def root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


class TestSearch:
    def test_finds_a_round_blur(self) -> None:
        blur = GaussianBlur(sigma_major=0.7, sigma_minor=0.7)
        found = fit_blur(recurrence(Degradation(blur=blur, noise=Noise(sigma=2 / 255))), NOISE)
        assert_like(found.blur, blur, 0.15)
        assert found.noise == NOISE

    def test_finds_the_noise_beside_it(self, tilted: Recurrence) -> None:
        tried: list[None] = []
        found = fit_blur(tilted, None, on_step=lambda: tried.append(None))
        assert_like(found.blur, TILTED, 0.15)
        assert found.noise * 255 == pytest.approx(2 * LUMA_NOISE, abs=0.5)
        assert found.noise <= tilted.most_noise
        assert 20 < len(tried) <= 3 * QUICK.trials

    def test_from_a_start_it_ends_no_higher_in_fewer_trials(self, tilted: Recurrence) -> None:
        tried: list[None] = []
        found = fit_blur(tilted, NOISE, start=Fit(TILTED, NOISE, 0.0), on_step=lambda: tried.append(None))
        assert found.misfit <= tilted.misfit(TILTED, NOISE)
        assert_like(found.blur, TILTED, 0.15)
        assert 5 < len(tried) <= QUICK.trials // 3

    def test_noise_under_compression_is_in_the_quietest_windows(self) -> None:
        """More noise is found where there was more."""
        cameras = (Degradation(blur=TILTED, noise=Noise(sigma=n / 255), jpeg=Jpeg.of_quality(90)) for n in (0, 5))
        none, much = (fit_noise(recurrence(camera), TILTED) * 255 for camera in cameras)
        assert much == pytest.approx(5 * LUMA_NOISE, abs=1.2)
        assert none < 1.5
