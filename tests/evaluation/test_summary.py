"""Means and intervals against closed forms, and what is said where there is none."""

import math

import numpy as np
import pytest
from scipy import stats

from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.summary import interval, paired, summarise


def figures(*values: float, name: str = "PSNR") -> list[Figure]:
    return [Figure(name, float(value)) for value in values]


def test_mean_and_deviation() -> None:
    summary = summarise(figures(2, 4, 4, 4, 5, 5, 7, 9))
    assert summary.mean == Figure("PSNR", 5.0)
    assert summary.deviation is not None
    assert summary.deviation.number() == pytest.approx(math.sqrt(32 / 7))
    assert (summary.images, summary.count) == (8, 8)
    low, high = summary.interval or (0, 0)
    assert 3.4 < low < 5 < high < 6.8


def test_of_many_normal_values_the_interval_is_students() -> None:
    values = np.random.default_rng(1).normal(30, 2, size=10_000)
    low, high = interval(values)
    half = stats.t.ppf(0.975, 9_999) * values.std(ddof=1) / 100
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_the_same_values_and_seed_give_the_same_bytes() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert interval(values) == interval(values.copy())
    assert interval(values) != interval(values, seed=1)
    assert interval(values, seed=1) == pytest.approx(interval(values), abs=0.05)


@pytest.mark.parametrize("last", [3.25, math.nextafter(3.25, 4)])
def test_equal_values_have_no_width(last: float) -> None:
    summary = summarise(figures(*[3.25] * 39, last))
    assert (summary.low.value, summary.high.value) == pytest.approx((3.25, 3.25))
    assert summary.deviation.number() == pytest.approx(0, abs=1e-12)


def test_two_values_have_a_spread_and_one_has_none() -> None:
    summary = summarise(figures(1, 3))
    assert 1 <= summary.low.number() < 2 < summary.high.number() <= 3
    assert summary.low.why == summary.high.why == "too narrow, as a bootstrap of 2 images is"
    summary = summarise(figures(7))
    assert summary.mean == Figure("PSNR", 7.0)
    for part in (summary.deviation, summary.low, summary.high):
        assert part == Figure("PSNR", None, "one image has no spread")
    with pytest.raises(ValueError, match="one value has no interval"):
        interval(np.ones(1))


def test_images_without_a_value_are_left_out_and_counted() -> None:
    small = Figure("PSNR", None, "too small")
    summary = summarise([*figures(1, 2, 3), small, small, Figure("PSNR", 6.0, "identical")])
    assert (summary.images, summary.count) == (6, 4)
    assert summary.mean == Figure("PSNR", 3.0, "2 of 6 without a value: too small; 1 of 6 with a remark: identical")
    summary = summarise([Figure("PSNR", None, "unpaired")] * 3)
    assert summary.count == 0
    for part in (summary.mean, summary.deviation, summary.low, summary.high):
        assert part == Figure("PSNR", None, "3 of 3 without a value: unpaired")


def test_two_definitions_never_share_a_column() -> None:
    mixed = [*figures(1), *figures(2, name="SSIM")]
    for call in (lambda: summarise(mixed), lambda: paired(figures(1), figures(2, name="SSIM"))):
        with pytest.raises(ValueError, match="one definition, not of 'PSNR' and 'SSIM'"):
            call()
    with pytest.raises(ValueError, match="not of none"):
        summarise([])


def test_differences_are_taken_image_by_image() -> None:
    draws = np.random.default_rng(0)
    base = draws.normal(30, 5, size=100)
    better = base + draws.normal(0.5, 0.2, size=100)
    summary = paired(figures(*better), figures(*base))
    assert summary.mean.name == "difference in PSNR"
    assert summary.mean.number() == pytest.approx((better - base).mean())
    assert summary.deviation.number() == pytest.approx((better - base).std(ddof=1))
    assert (summary.low.value, summary.high.value) == pytest.approx(interval(better - base))
    # Each mean alone is uncertain by half a decibel and more; the difference is sure.
    assert summary.low.number() > 0.4
    assert summarise(figures(*better)).low.number() < summarise(figures(*base)).high.number()


def test_pairs_that_lack_one_are_left_out() -> None:
    lacking = Figure("PSNR", None, "it failed")
    summary = paired([*figures(3, 4), lacking, *figures(9)], [*figures(1, 2, 3), lacking])
    assert summary.mean == Figure(
        "difference in PSNR",
        2.0,
        "1 of 4 without a value: it failed; 1 of 4 without a value: the baseline has none: it failed",
    )


def test_a_remark_of_both_is_told_once() -> None:
    same = [Figure("PSNR", 5.0, "random weights"), Figure("PSNR", 7.0, "random weights")]
    assert paired(same, same).mean == Figure("difference in PSNR", 0.0, "2 of 2 with a remark: random weights")
    with pytest.raises(ValueError, match="not 2 figures and 1 of the baseline"):
        paired(figures(1, 2), figures(1))
