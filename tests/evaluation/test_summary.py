"""Means and intervals against closed forms, and what is said where there is none."""

import math

import numpy as np
import pytest
from scipy import stats

from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.summary import interval, paired, summarise

LACKING = Figure("PSNR", None, "it failed")


def figures(*values: float, name: str = "PSNR") -> list[Figure]:
    return [Figure(name, float(value)) for value in values]


def test_mean_deviation_and_interval() -> None:
    cell = summarise(figures(2, 4, 4, 4, 5, 5, 7, 9))
    assert (cell.mean, cell.images, cell.count) == (5.0, 8, 8)
    assert cell.deviation == pytest.approx(math.sqrt(32 / 7))
    low, high = cell.interval or (0, 0)
    assert 3.4 < low < 5 < high < 6.8
    assert cell.remark == "the interval: too narrow, as a bootstrap of 8 images is"
    # Of many normal values the interval is Student's.
    values = np.random.default_rng(1).normal(30, 2, size=10_000)
    half = stats.t.ppf(0.975, 9_999) * values.std(ddof=1) / 100
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)
    assert interval(values[:50]) == interval(values[:50].copy())


@pytest.mark.parametrize("last", [3.25, math.nextafter(3.25, 4)])
def test_equal_values_have_no_width(last: float) -> None:
    cell = summarise(figures(*[3.25] * 39, last))
    assert cell.interval == pytest.approx((3.25, 3.25))
    assert cell.deviation == pytest.approx(0, abs=1e-12)


def test_one_value_has_no_spread_and_none_says_why() -> None:
    cell = summarise(figures(7))
    assert (cell.mean, cell.deviation, cell.interval) == (7.0, None, None)
    assert cell.remark == "the interval: one image has no spread"
    cell = summarise([*figures(1, 2, 3), LACKING, LACKING, Figure("PSNR", 6.0, "identical")])
    assert (cell.mean, cell.images, cell.count) == (3.0, 6, 4)
    assert cell.remark.startswith("2 of 6 without a value: it failed; 1 of 6 with a remark: identical; the interval: ")
    cell = summarise([LACKING] * 3)
    assert (cell.mean, cell.deviation, cell.interval, cell.count) == (None, None, None, 0)
    assert cell.remark == "3 of 3 without a value: it failed"


def test_two_definitions_never_share_a_column() -> None:
    mixed = [*figures(1), *figures(2, name="SSIM")]
    for call in (lambda: summarise(mixed), lambda: paired(figures(1), figures(2, name="SSIM"))):
        with pytest.raises(ValueError, match="one definition, not of 'PSNR' and 'SSIM'"):
            call()
    with pytest.raises(ValueError, match="not 2 figures and 1 of the baseline"):
        paired(figures(1, 2), figures(1))


def test_differences_are_taken_image_by_image() -> None:
    draws = np.random.default_rng(0)
    base = draws.normal(30, 5, size=100)
    better = base + draws.normal(0.5, 0.2, size=100)
    cell = paired(figures(*better), figures(*base))
    assert (cell.name, cell.mean) == ("difference in PSNR", pytest.approx((better - base).mean()))
    assert cell.interval == pytest.approx(interval(better - base))
    # Each mean alone is uncertain by half a decibel and more; the difference is sure.
    assert cell.interval[0] > 0.4
    means = [summarise(figures(*values)).interval or (0, 0) for values in (better, base)]
    assert means[0][0] < means[1][1]


def test_pairs_that_lack_one_are_left_out_and_a_remark_of_both_is_made_once() -> None:
    cell = paired([*figures(3, 4), LACKING, *figures(9)], [*figures(1, 2, 3), LACKING])
    assert cell.mean == 2
    lacking = "1 of 4 without a value: it failed; 1 of 4 without a value: the baseline has none: it failed"
    assert cell.remark.startswith(lacking)
    same = [Figure("PSNR", 5.0, "random weights"), Figure("PSNR", 7.0, "random weights")]
    assert paired(same, same).remark.startswith("2 of 2 with a remark: random weights; the interval")
