"""Charts of a table of means: for each column a row a method, a dot for the mean and a line for its interval.

Only places are computed here, in the units of an SVG's view box; the page draws them, so that a chart prints, follows
the colours of the page, and needs no script (Cleveland 1984: dots on a common scale are read best).
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from zssr_gan.evaluation.metric import Definition
from zssr_gan.evaluation.report_tables import label_in, of_means
from zssr_gan.evaluation.tables import BETTER, Cell, Table

WIDTH = 390
_NAMES, _RIGHT, _TOP, _ROW, _AXIS = 200, 16, 8, 22, 28
_LONGEST, _LINES, _TALLER = 30, 2, 28
"""Signs of a name that fit in a line before the dots, lines that fit, and a row's height where a name needs two; the
whole name stands in the table and in the dot's title."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A method's mean; places from left and top."""

    lines: tuple[str, ...]
    """Its name."""
    whole: str
    """The name, not shortened, and the figure."""
    label: str
    """Of `record.LABELS`, or empty: decides form and colour."""
    y: float
    x: float | None
    """None: no value."""
    ends: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A column of a table."""

    title: str
    told: str
    """Unit and direction."""
    height: int
    left: int
    """Where the scale begins."""
    right: int
    axis: int
    """Height of the scale's line."""
    ticks: tuple[tuple[float, str], ...]
    zero: float | None
    """Place of 0, where it lies inside and the figures are on both sides of it or differences."""
    dots: tuple[Dot, ...]
    width: int = WIDTH


def drawn(table: Table) -> tuple[Chart, ...]:
    """A chart for each column in which two methods have a value; nothing for tables that are not of means."""
    if not of_means(table):
        return ()
    charts = (_chart(table, column) for column in table.columns)
    return tuple(chart for chart in charts if sum(dot.x is not None for dot in chart.dots) > 1)


def _chart(table: Table, column: Definition) -> Chart:
    cells = [row.cells[column.name] for row in table.rows]
    values = [value for cell in cells for value in _values(cell)] or [0.0]
    ticks, low, high = _scale(values)
    left, right = _NAMES, WIDTH - _RIGHT

    def place(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 2)

    names = [tuple(textwrap.wrap(row.texts[0], _LONGEST, max_lines=_LINES, placeholder=" …")) for row in table.rows]
    tall = _TALLER if any(len(lines) > 1 for lines in names) else _ROW
    dots = []
    for number, (row, cell) in enumerate(zip(table.rows, cells, strict=True)):
        dots.append(
            Dot(
                names[number],
                f"{row.texts[0]}: {cell.text}{f' ({cell.said})' if cell.mean.value is None else ''}",
                next(filter(label_in, row.texts), ""),
                _TOP + (number + 0.5) * tall,
                None if cell.mean.value is None else place(cell.mean.value),
                None if cell.ends is None else (place(cell.ends[0]), place(cell.ends[1])),
            )
        )
    axis = _TOP + len(dots) * tall
    return Chart(
        column.name,
        ", ".join(filter(None, (column.unit, BETTER[column.higher_is_better]))),
        axis + _AXIS,
        left,
        right,
        axis,
        tuple((place(tick), f"{tick:.6g}") for tick in ticks),
        place(0.0) if low < 0 < high else None,
        tuple(dots),
    )


def _values(cell: Cell) -> Sequence[float]:
    return [] if cell.mean.value is None else [cell.mean.value, *(cell.ends or ())]


def _scale(values: Sequence[float]) -> tuple[list[float], float, float]:
    """Round figures for the scale, and where it begins and ends: nowhere near a value's dot."""
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.06
    low, high = low - margin, high + margin
    ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high)]
    return [0.0 if abs(tick) < 1e-12 * (high - low) else tick for tick in ticks if low <= tick <= high], low, high
