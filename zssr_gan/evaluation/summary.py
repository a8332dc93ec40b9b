"""What a column of figures says together: mean, standard deviation, and how sure the mean is.

The interval is the bootstrap's, bias-corrected and accelerated (BCa; Efron 1987), over images: no distribution is
assumed, and the same figures and seed give the same bytes. Of few images it is too narrow, as any bootstrap is: of
normal values it holds the true mean in 84 % of the cases of 5 images, 91 % of 10, and 94 % of 30, not 95 %.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zssr_gan.evaluation.metrics.metric import Figure

CONFIDENCE = 0.95

RESAMPLES = 10_000

_FEW = 30

_DRAWN_AT_ONCE = 1 << 22  # indices, 32 MiB

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Summary:
    """A column's foot. A part that cannot be had says why, as a cell does."""

    images: int
    """In the column, with a value or without."""
    count: int
    """With one."""
    mean: Figure
    deviation: Figure
    """Of the sample (n - 1)."""
    low: Figure
    """Of the mean's 95 % interval."""
    high: Figure


def summarise(figures: Sequence[Figure], *, seed: int = 0) -> Summary:
    """Mean, deviation and interval over images; those without a value are left out, and the mean says how many.

    Raises:
        ValueError: no figures, or figures of more than one definition.
    """
    return _summary(_name_of(figures), figures, seed)


def paired(figures: Sequence[Figure], baseline: Sequence[Figure], *, seed: int = 0) -> Summary:
    """The same of the differences `figures` - `baseline`, image by image, of images that have both.

    Since both see the same images, this is far surer than the difference of two means with an interval each.

    Raises:
        ValueError: other numbers of figures, none, or more than one definition.
    """
    if len(figures) != len(baseline):
        raise ValueError(f"pairs are needed, not {len(figures)} figures and {len(baseline)} of the baseline")
    name = f"difference in {_name_of([*figures, *baseline])}"
    return _summary(name, [_difference(name, *pair) for pair in zip(figures, baseline, strict=True)], seed)


def interval(values: Values, *, seed: int = 0) -> tuple[float, float]:
    """BCa's 95 % interval of the mean of at least two values; the mean itself twice where they are all equal."""
    if len(values) < 2:
        raise ValueError("one value has no interval")
    mean = float(values.mean())
    apart = values - mean
    if np.ptp(values) == 0:
        return mean, mean
    means = _resampled_means(values, np.random.default_rng(seed))
    normal = NormalDist()
    # Half of what is equal counts as below; never none or all, since the normal's quantile of those is endless.
    below = ((means < mean).mean() + (means <= mean).mean()) / 2
    bias = normal.inv_cdf(min(max(float(below), 1 / len(means)), 1 - 1 / len(means)))
    # The jackknife's means are off the mean in proportion to the value that each leaves out.
    acceleration = float((apart**3).sum() / (6 * (apart**2).sum() ** 1.5))
    tails = []
    for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        place = bias + normal.inv_cdf(tail)
        tails.append(normal.cdf(bias + place / (1 - acceleration * place)))
    low, high = np.quantile(means, tails)
    return float(low), float(high)


def _resampled_means(values: Values, draws: np.random.Generator) -> Values:
    means, size = np.empty(RESAMPLES), len(values)
    rows = max(1, _DRAWN_AT_ONCE // size)
    for first in range(0, RESAMPLES, rows):
        part = means[first : first + rows]
        part[:] = values[draws.integers(size, size=(len(part), size))].mean(1)
    return means


def _summary(name: str, figures: Sequence[Figure], seed: int) -> Summary:
    found = [figure.value for figure in figures if figure.value is not None]
    said = _said(figures)
    total = len(figures)

    def none(why: str) -> Figure:
        return Figure(name, None, why)

    if not found:
        nothing = none(said)
        return Summary(total, 0, nothing, nothing, nothing, nothing)
    values = np.array(found, dtype=np.float64)
    mean = Figure(name, math.fsum(found) / len(found), said)
    if len(found) == 1:
        alone = none("one image has no spread")
        return Summary(total, 1, mean, alone, alone, alone)
    low, high = interval(values, seed=seed)
    few = f"too narrow, as a bootstrap of {len(found)} images is" if len(found) < _FEW else ""
    deviation = Figure(name, float(values.std(ddof=1)))
    return Summary(total, len(found), mean, deviation, Figure(name, low, few), Figure(name, high, few))


def _said(figures: Sequence[Figure]) -> str:
    """Why some have no value, and what is said beside others, each once with its number."""
    parts = []
    for lacking in (True, False):
        counted = Counter(figure.why for figure in figures if figure.why and (figure.value is None) == lacking)
        told = "without a value" if lacking else "with a remark"
        parts += [f"{number} of {len(figures)} {told}: {why}" for why, number in counted.most_common()]
    return "; ".join(parts)


def _difference(name: str, figure: Figure, baseline: Figure) -> Figure:
    if figure.value is None or baseline.value is None:
        own = f"the baseline has none: {baseline.why}" if figure.value is not None else figure.why
        return Figure(name, None, own)
    # A remark holds for the difference too: of two figures it is told once.
    return Figure(
        name, figure.value - baseline.value, "; ".join(dict.fromkeys(filter(None, (figure.why, baseline.why))))
    )


def _name_of(figures: Sequence[Figure]) -> str:
    names = list(dict.fromkeys(figure.name for figure in figures))
    if len(names) != 1:
        told = " and ".join(repr(name) for name in names[:2]) or "none"
        raise ValueError(f"a column has figures of one definition, not of {told}")
    return names[0]
