"""Charts of a table of means as SVG: for each column a row a method, a dot for the mean and a line for its interval.

Dots on a common scale are read best (Cleveland 1984). Colours are the page's CSS variables, so that a chart follows
light and dark, and prints; texts stay texts. The same table gives the same bytes.
"""

import io
import re
import textwrap
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from zssr_gan.evaluation.metrics.metric import Definition
from zssr_gan.evaluation.tables import Table
from zssr_gan.provenance import Label

WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 390, 200, 16, 8, 24
"""Of a chart and its margins, CSS pixels."""

_LETTERS, _LINE, _TALL_LINE = 30, 22, 28
"""Letters of a name in a line, of which two fit, and heights of a row with one line and with two."""

_INK, _SOFT, _FAINT, _RULE, _NONE, _PAPER = (f"#00000{n}" for n in range(1, 7))

_LOOKS: dict[Label, tuple[str, str]] = {
    "fused": ("#000014", "^"),
    "internal": ("#000011", "o"),
    "case": ("#000012", "s"),
    "generative": ("#000013", "D"),
}
"""Colours and markers of the labels."""

_VARIABLES = {
    **{_INK: "ink", _SOFT: "soft", _FAINT: "faint", _RULE: "rule", _NONE: "none", _PAPER: "paper"},
    **{colour: label for label, (colour, _) in _LOOKS.items()},
}
"""Colours that stand for variables of the page's style."""

_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],
    "text.parse_math": False,
}
"""Texts stay texts, and a $ in a method's name is no formula."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one column."""

    column: Definition
    svg: str


def charts_of(key: str, table: Table) -> list[Chart]:
    """A chart for each column in which two methods have a value; none for tables that are not of means.

    Args:
        key: start of the ids within the charts, so that they are unique in a page.
        table: the means.
    """
    found = []
    for place, column in enumerate(table.columns if table.has_means else ()):
        if sum(row.cells[place].mean is not None for row in table.rows) > 1:
            own = f"{key}-{place + 1}-"
            with mpl.rc_context({**_STYLE, "svg.hashsalt": own}):
                found.append(Chart(column, _for_page(own, _svg(table, place))))
    return found


def _svg(table: Table, place: int) -> str:
    names = [textwrap.wrap(row.texts[0], _LETTERS, max_lines=2, placeholder=" …") for row in table.rows]
    cells = [row.cells[place] for row in table.rows]
    height = _TOP + (_TALL_LINE if any(len(name) > 1 for name in names) else _LINE) * len(names) + _BOTTOM
    values = [x for cell in cells if cell.mean is not None for x in (cell.mean, *(cell.interval or ()))]
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.06
    # 72 dots an inch: a point is a CSS pixel of the view box.
    drawing = Drawing(figsize=(WIDTH / 72, height / 72), dpi=72)
    inside = (_LEFT / WIDTH, _BOTTOM / height, 1 - (_LEFT + _RIGHT) / WIDTH, 1 - (_TOP + _BOTTOM) / height)
    axes = drawing.add_axes(inside, frameon=False)
    axes.set(xlim=(low - margin, high + margin), ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda x, _: f"{0.0 if abs(x) < 1e-12 * (high - low) else x:.6g}")
    axes.set_yticks(range(len(names)), ["\n".join(name) for name in names])
    axes.tick_params(bottom=False, left=False, labelsize=11, pad=6, labelcolor=_INK)
    axes.tick_params("x", labelcolor=_SOFT)
    axes.grid(axis="x", color=_FAINT, linewidth=1)
    axes.grid(axis="y", color=_RULE, linewidth=1, dashes=(1, 4))
    if low - margin < 0 < high + margin:
        axes.axvline(0, color=_SOFT, linewidth=1.5, zorder=2)
    for y, (row, cell) in enumerate(zip(table.rows, cells, strict=True)):
        colour, marker = (_NONE, "o") if row.label is None else _LOOKS[row.label]
        if cell.mean is None:
            style: dict[str, Any] = {"va": "center", "fontsize": 11, "color": _SOFT, "fontstyle": "italic"}
            axes.text(0.02, y, "no value", transform=axes.get_yaxis_transform(), **style)
            continue
        if cell.interval is not None:
            axes.plot(cell.interval, (y, y), color=colour, linewidth=3, alpha=0.55, solid_capstyle="round", zorder=3)
        (dot,) = axes.plot(cell.mean, y, marker, color=colour, zorder=4)
        dot.set(markersize=10, markeredgecolor=_PAPER, markeredgewidth=1.5)
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _for_page(key: str, svg: str) -> str:
    """SVG without its prolog, with ids of its own and the page's colours."""
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'((?:\bid="|href="#|url\(#))', rf"\g<1>{key}", text)
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    return text
