"""Statistics of a table's column: mean, standard deviation, and a 95 % confidence interval of the mean.

The interval is the bias-corrected and accelerated bootstrap (BCa; Efron 1987) over images, by scipy: it assumes no
distribution, and the same figures and seed give the same bytes. For few images it is too narrow, as any bootstrap is:
with normal values it holds the true mean in 84 % of cases for 5 images, 91 % for 10 and 94 % for 30, instead of 95 %.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from zssr_gan.evaluation.metrics.metric import Figure

CONFIDENCE, RESAMPLES = 0.95, 10_000

_FEW = 30

_BATCH = 1 << 22  # indices drawn at once, 32 MiB

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: statistics over images, or one figure. A part without a value says why."""

    mean: Figure
    low: Figure | None = None
    """Lower end of the mean's 95 % interval; None: the cell is one figure, or of a whole set."""
    high: Figure | None = None
    images: int = 1
    count: int = 1
    """Images with a value."""
    deviation: Figure | None = None
    """Standard deviation over images (n - 1); None: the cell is one figure, or of a whole set."""

    @property
    def remark(self) -> str:
        """Why there is no value, or a remark on the value and its interval."""
        interval = self.low.why if self.low is not None and self.mean.value is not None else ""
        return "; ".join(filter(None, (self.mean.why, interval and f"the interval: {interval}")))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % interval, where there is one."""
        if self.low is None or self.high is None or self.low.value is None or self.high.value is None:
            return None
        return self.low.value, self.high.value

    @property
    def value_text(self) -> str:
        """The value with four digits, or `none`."""
        return "none" if self.mean.value is None else f"{self.mean.value:.4g}"

    @property
    def interval_text(self) -> str:
        """The interval with four digits; empty where there is none."""
        return "" if self.interval is None else "[{:.4g}, {:.4g}]".format(*self.interval)

    @property
    def spread_text(self) -> str:
        """Deviation and interval with four digits; empty where there are none."""
        deviation = None if self.mean.value is None or self.deviation is None else self.deviation.value
        return " ".join(filter(None, ("" if deviation is None else f"± {deviation:.4g}", self.interval_text)))

    @property
    def text(self) -> str:
        """Value and spread."""
        return f"{self.value_text} {self.spread_text}".rstrip()


def summarise(figures: Sequence[Figure]) -> Cell:
    """Mean, deviation and interval over images; images without a value are left out and counted in the mean's remark.

    Raises:
        ValueError: no figures, or figures of more than one definition.
    """
    names = list(dict.fromkeys(figure.name for figure in figures))
    if len(names) != 1:
        found = " and ".join(repr(name) for name in names[:2]) or "none"
        raise ValueError(f"a column has figures of one definition, not of {found}")
    (name,) = names
    values = np.array([figure.value for figure in figures if figure.value is not None], dtype=np.float64)
    total, count = len(figures), len(values)
    if count == 0:
        nothing = Figure(name, None, _remarks(figures))
        return Cell(nothing, nothing, nothing, total, 0, nothing)
    mean = Figure(name, math.fsum(values) / count, _remarks(figures))
    if count == 1:
        single = Figure(name, None, "one image has no spread")
        return Cell(mean, single, single, total, 1, single)
    low, high = interval(values)
    few = f"too narrow, as a bootstrap of {count} images is" if count < _FEW else ""
    deviation = Figure(name, float(values.std(ddof=1)))
    return Cell(mean, Figure(name, low, few), Figure(name, high, few), total, count, deviation)


def paired(figures: Sequence[Figure], baseline: Sequence[Figure]) -> Cell:
    """Statistics of the differences `figures` - `baseline`, image by image, over images that have both.

    Both see the same images, so this is far more certain than the difference of two means.

    Raises:
        ValueError: sequences of different lengths, none, or more than one definition.
    """
    if len(figures) != len(baseline):
        raise ValueError(f"pairs are needed, not {len(figures)} figures and {len(baseline)} of the baseline")
    summarise([Figure(one.name, 0.0) for one in (*figures, *baseline)])  # they have one definition
    return summarise([_difference(*pair) for pair in zip(figures, baseline, strict=True)])


def interval(values: Values, *, seed: int = 0) -> tuple[float, float]:
    """BCa 95 % interval of the mean of at least two values; the mean twice where all are equal."""
    if len(values) < 2:
        raise ValueError("one value has no interval")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():  # no more than rounding apart
        return float(values.mean()), float(values.mean())
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // len(values)),
        confidence_level=CONFIDENCE,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def difference_name(name: str) -> str:
    """Name of a definition's paired difference."""
    return f"difference in {name}"


def _difference(figure: Figure, baseline: Figure) -> Figure:
    name = difference_name(figure.name)
    if figure.value is None:
        return Figure(name, None, figure.why)
    if baseline.value is None:
        return Figure(name, None, f"the baseline has none: {baseline.why}")
    # A remark on both holds for the difference too, and is made once.
    remarks = dict.fromkeys(filter(None, (figure.why, baseline.why)))
    return Figure(name, figure.value - baseline.value, "; ".join(remarks))


def _remarks(figures: Sequence[Figure]) -> str:
    """Why some have no value, and remarks on the others, each once with its number."""
    parts = []
    for missing, kind in ((True, "without a value"), (False, "with a remark")):
        counted = Counter(figure.why for figure in figures if figure.why and (figure.value is None) == missing)
        parts += [f"{number} of {len(figures)} {kind}: {why}" for why, number in counted.most_common()]
    return "; ".join(parts)
