"""Tables of figures: a row a method or an image, a column a definition, and notes with all that a reader must know.

A cell is a mean with its deviation and interval, one figure, or the reason why there is none; never blank. The same
figures give the same bytes. CSV has all digits, a line a cell; Markdown, LaTeX and HTML are templates in `page/`.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.summary import Cell, difference_name, paired, single, summarise
from zssr_gan.provenance import Label

if TYPE_CHECKING:
    from jinja2 import Environment

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither higher nor lower is better"}
"""A definition's direction in words."""

_SPREAD = "Cells of more than one image: mean ± standard deviation over images [95 % interval of the mean]"

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "±": r"\ensuremath{\pm}"},
    **{"[": "{[}", "]": "{]}"},  # after a line's end they would be taken for an argument
}


@dataclass(frozen=True, slots=True)
class Row:
    """Texts, one for each of the table's heads, and a cell for each column."""

    texts: tuple[str, ...]
    cells: tuple[Cell, ...]
    label: Label | None = None
    """What the row's pixels were learnt from; None where a row is no result."""

    @property
    def all_texts(self) -> tuple[str, ...]:
        """With the label, where there is one."""
        return self.texts if self.label is None else (*self.texts, self.label)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under heads (texts) and columns (definitions).

    Raises:
        ValueError: a row's cells are of other definitions than the columns.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[Definition, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    """On the whole table, a sentence each without its full stop."""
    baseline: str = ""
    """Name of the method that cells are differences to; empty: they are no differences."""

    def __post_init__(self) -> None:
        """Check every cell against its column."""
        names = [column.name for column in self.columns]
        for row in self.rows:
            if (found := [cell.name for cell in row.cells]) != names:
                raise ValueError(f"{self.title}, {row.texts[0]}: cells of {found} stand under {names}")

    @property
    def all_heads(self) -> tuple[str, ...]:
        """With that of the labels, where rows have one."""
        return (*self.heads, "label") if any(row.label for row in self.rows) else self.heads

    @property
    def has_means(self) -> bool:
        """Whether rows are methods (means with intervals), and not single images, among which none is best."""
        return any(cell.interval for row in self.rows for cell in row.cells)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the whole table, and how its cells are read."""
        return (*self.remarks, _SPREAD) if self.has_means else self.remarks

    @property
    def letters(self) -> list[str]:
        """Marks of the columns: a, b, ... z, aa, ab, ..."""
        twice = (f"{one}{other}" for one in ascii_lowercase for other in ascii_lowercase)
        return [letter for letter, _ in zip((*ascii_lowercase, *twice), self.columns, strict=False)]

    @property
    def numbers(self) -> dict[str, str]:
        """Marks of the cells' remarks: 1, 2, ..."""
        remarks = dict.fromkeys(cell.remark for row in self.rows for cell in row.cells if cell.remark)
        return {remark: str(number) for number, remark in enumerate(remarks, 1)}

    def best(self, place: int) -> set[int]:
        """Numbers of the rows with the best mean of a column.

        None where rows are no methods, where no direction is defined, where there is nothing to choose, or where every
        value has a remark, such as those of random weights.
        """
        cells, higher = [row.cells[place] for row in self.rows], self.columns[place].higher_is_better
        values = [cell.mean for cell in cells if cell.mean is not None]
        certain = any(cell.mean is not None and cell.certain for cell in cells)
        if not self.has_means or higher is None or len(values) < 2 or not certain:
            return set()
        best = max(values) if higher else min(values)
        return {number for number, cell in enumerate(cells) if cell.mean == best}


@dataclass(frozen=True, slots=True)
class Measured:
    """A row before its means are taken."""

    texts: tuple[str, ...]
    figures: Mapping[str, Any]
    """By definition: `Sequence[Figure]`, of the same images for every row, or one `Figure` that stands as it is."""
    label: Label | None = None
    lacking: str = ""
    """Why columns that it has no figures for are empty."""

    def cell(self, column: Definition) -> Cell:
        """Of a column."""
        found = self.figures.get(column.name)
        if found is None:
            return single(column.none(self.lacking))
        return single(found) if isinstance(found, Figure) else summarise(found)


def compared(
    title: str,
    columns: Sequence[Definition],
    rows: Sequence[Measured],
    *,
    gains: str,
    heads: tuple[str, ...] = ("method",),
    baseline: str = "",
    remarks: tuple[str, ...] = (),
) -> tuple[Table, Table]:
    """The table of means, and that of the paired differences to `baseline` (the first row), titled `gains`.

    Differences are of columns and rows that are image by image.
    """
    base, name = next((one.figures, one.texts[0]) for one in rows if baseline in ("", one.texts[0]))
    means = tuple(Row(one.texts, tuple(map(one.cell, columns)), one.label) for one in rows)
    own = [(column, found) for column in columns if isinstance(found := base.get(column.name), Sequence)]
    differences = [
        Row(one.texts, tuple(paired(one.figures[column.name], found) for column, found in own), one.label)
        for one in rows
        if one.figures is not base and isinstance(one.figures.get(own[0][0].name), Sequence)
    ]
    heading = tuple(
        replace(column, name=difference_name(column.name), meaning=f"the same images' difference to {name}")
        for column, _ in own
    )
    note = ("An interval that holds 0 is no sure difference",)
    return (
        Table(title, heads, tuple(columns), means, remarks),
        Table(gains, heads, heading, tuple(differences), note, name),
    )


def short_name(column: Definition) -> str:
    """A column's head: the name's first part, and the unit."""
    name = column.name.partition(",")[0]
    return f"{name}, {column.unit}" if column.unit else name


def definition_text(column: Definition) -> str:
    """A column's note."""
    unit = f", in {column.unit}" if column.unit else ""
    return f"{column.name}: {column.meaning}{unit}; {DIRECTIONS[column.higher_is_better]}."


def to_csv(tables: Sequence[Table]) -> str:
    """All tables, a line a cell, in full digits; a cell without a value has its reason in the last column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("mean", "deviation", "low", "high")
    writer.writerow(["table", "row", "definition", "unit", "images", "with a value", *parts, "remark"])
    for table in tables:
        for row in table.rows:
            name = ", ".join(f"{head}: {text}" for head, text in zip(table.all_heads, row.all_texts, strict=True))
            for column, cell in zip(table.columns, row.cells, strict=True):
                values = (cell.mean, cell.deviation, *(cell.interval or (None, None)))
                digits = ["" if value is None else repr(value) for value in values]
                writer.writerow(
                    [table.title, name, column.name, column.unit, cell.images, cell.count, *digits, cell.remark]
                )
    return text.getvalue()


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables with their notes: definitions by letters, remarks on cells by numbers."""
    return templates().get_template("table.md").render(tables=tables)


def to_latex(tables: Sequence[Table]) -> str:
    """The same as `table` with a `tabular`, which needs no package; notes stand below in small type."""
    return templates().get_template("table.tex").render(tables=tables)


@cache
def templates() -> "Environment":
    """The templates of `page/`: text in `*.html` is escaped, and `markdown` and `latex` are filters that escape it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape  # an extra

    environment = Environment(
        loader=PackageLoader("zssr_gan.evaluation", "page"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = lambda text: re.sub(r"([\\`*_<>|\[\]#~])", r"\\\1", text.replace("\n", " "))
    environment.filters["latex"] = lambda text: "".join(_LATEX.get(sign, sign) for sign in text.replace("\n", " "))
    environment.globals.update(short_name=short_name, definition_text=definition_text, directions=DIRECTIONS)
    return environment
