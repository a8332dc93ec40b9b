"""The camera of a burst is that of the degradation, at any place, and its losses are those of what they describe."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.images import noise as pixels
from tests.video.bursts import SIDE, burst, motion
from zssr_gan.degradation.model import Degradation, DegradedDownscale, GaussianBlur, Jpeg, KernelBlur
from zssr_gan.errors import SettingsError
from zssr_gan.video.camera import BORDER, block_loss, camera_matrix, pixel_loss, point_spread, scene_size
from zssr_gan.video.registration import Motion

BLUR = Degradation(blur=GaussianBlur(sigma_major=0.6, sigma_minor=0.4, angle_degrees=30))
UNEVEN = tuple(tuple(float(1 + row + 2 * column) for column in range(5)) for row in range(3))
KERNEL = Degradation(blur=KernelBlur(values=UNEVEN, scale=(2, 2)))


@pytest.mark.parametrize("degradation", [Degradation(), BLUR, KERNEL])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_frame_in_the_reference_place_is_what_the_degradation_makes(degradation: Degradation, scale: int) -> None:
    if degradation is KERNEL and scale != 2:
        with pytest.raises(SettingsError, match="holds for scale"):
            point_spread(degradation, scale)
        return
    scene = torch.nn.functional.avg_pool2d(pixels(1, 1, *(side + 2 for side in scene_size((14, 12), scale))), 3, 1)
    made = camera_matrix(degradation, scale, Motion.none(1), (14, 12)) @ scene.numpy().ravel()
    size = (14 + 2 * BORDER, 12 + 2 * BORDER)
    expected = DegradedDownscale(degradation)(scene, size)[0, 0, BORDER:-BORDER, BORDER:-BORDER]
    assert np.abs(made.reshape(14, 12) - expected.numpy()).max() < 1.5 / 255


def test_a_moved_frame_is_what_the_moved_scene_gives() -> None:
    known = motion(4, affine=True)
    frames, truth = burst(known, BLUR)
    scene = torch.nn.functional.pad(truth[None], (2 * BORDER,) * 4, mode="replicate").numpy().ravel()
    made = (camera_matrix(BLUR, 2, known, (SIDE, SIDE)) @ scene).reshape(4, SIDE, SIDE)
    assert np.sqrt(np.mean((made - frames[:, 0].numpy())[:, 3:-3, 3:-3] ** 2)) < 0.7 / 255


@pytest.mark.parametrize("affine", [False, True])
def test_weights_are_single_precision_and_the_small_ones_are_left_out(affine: bool) -> None:
    """A product with them takes half the time that it takes in double precision, or with all of the square around."""
    matrix = camera_matrix(BLUR, 2, motion(4, affine=affine), (SIDE, SIDE))
    assert matrix.dtype == np.float32
    assert np.abs(matrix.data).min() > 1e-3 * matrix.data.max()
    assert np.allclose(matrix.sum(1)[matrix.getnnz(1) > 0], 1, atol=1e-5)


def test_what_lies_beyond_the_scene_has_no_weights() -> None:
    still = Motion.none(1)
    far = Motion(still.shift + 8, still.linear, still.gain, still.bias)
    sums = np.asarray(camera_matrix(BLUR, 2, far, (16, 16)).sum(1)).reshape(16, 16)
    assert np.allclose(sums[:10, :10], 1, atol=1e-5)
    assert not sums[12:].any()
    assert not sums[:, 12:].any()


def test_an_interval_is_as_likely_as_the_normal_distribution_has_it() -> None:
    """Of one coefficient: the mean of a block is 8 times its lowest."""
    step, variance = 24.0, (3 / 255) ** 2
    loss = block_loss(variance, (int(step),) * 64)
    deviation = math.sqrt(variance + 1 / (12 * 255**2) + 1 / 255**2)

    def likelihood(coefficient: float) -> float:
        half = step / 255 / 2
        share = norm.cdf((half - coefficient) / deviation) - norm.cdf((-half - coefficient) / deviation)
        return -math.log(share)

    for coefficient in (0.0, 0.02, 0.05, 0.08):
        slope, curvature = loss(np.full((1, 8, 8), coefficient / 8, np.float32))
        tiny = 1e-5
        expected = (likelihood(coefficient + tiny) - likelihood(coefficient - tiny)) / (2 * tiny)
        assert float(slope.sum() / 8) == pytest.approx(expected, rel=2e-3, abs=0.5)
        assert (curvature(np.ones((1, 8, 8), np.float32)) > 0).all()
    assert float(loss(np.full((1, 8, 8), 9.0, np.float32))[0].sum()) < math.inf


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (13, 21)])
def test_curvature_is_symmetric_and_positive(halved: bool, size: tuple[int, int]) -> None:
    loss = block_loss(1e-4, Jpeg.of_quality(75).chroma, halved=halved)
    a, b, at = (pixels(2, *size, seed=seed).numpy() - 0.5 for seed in (1, 2, 3))
    _, curvature = loss(0.1 * at)
    assert float((a * curvature(b)).sum()) == pytest.approx(float((b * curvature(a)).sum()), rel=1e-3)
    assert float((a * curvature(a)).sum()) > 0


def test_independent_errors_have_their_variance_and_that_of_rounding() -> None:
    slope, curvature = pixel_loss(np.full((1, 2, 2), 4 / 255**2, np.float32))(np.full((1, 2, 2), 0.1, np.float32))
    weight = 255**2 / (4 + 1 / 12)
    assert np.allclose(slope, 0.1 * weight, rtol=1e-5)
    assert np.allclose(curvature(np.ones((1, 2, 2), np.float32)), weight, rtol=1e-5)
