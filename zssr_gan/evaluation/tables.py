"""Tables of figures: a row a method or an image, a column a definition, and notes with all that a reader must know.

A cell is a mean with its deviation and interval, one figure, or the reason why there is none; never blank. The same
figures give the same bytes of CSV (all digits, a line a cell) and Markdown (four digits, definitions and reasons as
notes); LaTeX needs no package; HTML is in `page/page.html`.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.summary import Cell, difference_name, paired, summarise
from zssr_gan.provenance import Label

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither higher nor lower is better"}
"""A definition's direction in words."""

_SPREAD = "Cells of more than one image: mean ± standard deviation over images [95 % interval of the mean]"


@dataclass(frozen=True, slots=True)
class Row:
    """Texts, one for each of the table's heads, and a cell for each column, by its definition's name."""

    texts: tuple[str, ...]
    cells: Mapping[str, Cell]
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
        ValueError: a column twice, a row without a cell for one, or a cell of another definition.
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
        if len(set(names)) < len(names):
            raise ValueError(f"{self.title}: a definition has two columns")
        for row in self.rows:
            if len(row.texts) != len(self.heads):
                raise ValueError(f"{self.title}: {len(row.texts)} texts under {len(self.heads)} heads")
            for name in names:
                if name not in row.cells:
                    raise ValueError(f"{self.title}: {row.texts[0]} has no cell under {name!r}")
                if row.cells[name].mean.name != name:
                    raise ValueError(f"{self.title}: {row.cells[name].mean.name!r} stands under {name!r}")

    @property
    def all_heads(self) -> tuple[str, ...]:
        """With that of the labels, where rows have one."""
        return (*self.heads, "label") if any(row.label for row in self.rows) else self.heads

    @property
    def has_means(self) -> bool:
        """Whether rows are methods (means with intervals), and not single images, among which none is best."""
        return any(cell.interval is not None for row in self.rows for cell in row.cells.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the whole table, and how its cells are read."""
        spread = any(cell.deviation is not None for row in self.rows for cell in row.cells.values())
        return (*self.remarks, _SPREAD) if spread else self.remarks

    @property
    def letters(self) -> dict[str, str]:
        """Marks of the columns, by their definitions' names: a, b, ... z, aa, ab, ..."""
        return {column.name: _letters(number) for number, column in enumerate(self.columns)}

    @property
    def numbers(self) -> dict[str, str]:
        """Marks of the cells' remarks: 1, 2, ..."""
        remarks = (row.cells[column.name].remark for row in self.rows for column in self.columns)
        return {remark: str(number) for number, remark in enumerate(dict.fromkeys(filter(None, remarks)), 1)}

    def best(self, column: Definition) -> set[int]:
        """Numbers of the rows with the best mean of a column.

        None where rows are no methods, where no direction is defined, where there is nothing to choose, or where no
        value stands without a remark, such as those of random weights.
        """
        cells = [row.cells[column.name].mean for row in self.rows]
        values = [cell.value for cell in cells if cell.value is not None]
        certain = any(cell.value is not None and not cell.why for cell in cells)
        if not self.has_means or column.higher_is_better is None or len(values) < 2 or not certain:
            return set()
        best = (max if column.higher_is_better else min)(values)
        return {number for number, cell in enumerate(cells) if cell.value == best}


@dataclass(frozen=True, slots=True)
class Method:
    """A row before its means are taken: figures of the same images in the same order for every method."""

    texts: tuple[str, ...]
    figures: Mapping[str, Sequence[Figure]]
    """By definition, image by image; or one figure alone where `sets` has its name."""
    label: Label | None = None
    sets: frozenset[str] = field(default=frozenset())
    """Definitions whose figure is of the whole set: it stands as it is, and has no paired difference."""


def summarised(
    title: str,
    heads: tuple[str, ...],
    columns: Sequence[Definition],
    methods: Sequence[Method],
    remarks: tuple[str, ...] = (),
) -> Table:
    """The table of the methods' means."""
    rows = []
    for one in methods:
        cells = {
            name: Cell(one.figures[name][0]) if name in one.sets else summarise(one.figures[name])
            for name in (column.name for column in columns)
        }
        rows.append(Row(one.texts, cells, one.label))
    return Table(title, heads, tuple(columns), tuple(rows), remarks)


def differences(
    title: str, heads: tuple[str, ...], columns: Sequence[Definition], methods: Sequence[Method], baseline: Method
) -> Table:
    """The table of paired differences, method - baseline, of the columns that are image by image."""
    name = baseline.texts[0]
    own = [column for column in columns if column.name not in baseline.sets]
    rows = []
    for one in methods:
        if one is not baseline:
            cells = [paired(one.figures[column.name], baseline.figures[column.name]) for column in own]
            rows.append(Row(one.texts, {cell.mean.name: cell for cell in cells}, one.label))
    heading = [
        replace(column, name=difference_name(column.name), meaning=f"the same images' difference to {name}")
        for column in own
    ]
    remarks = ("An interval that holds 0 is no sure difference",)
    return Table(title, heads, tuple(heading), tuple(rows), remarks, baseline=name)


def short_name(column: Definition) -> str:
    """A column's head: the name's first part, and the unit."""
    name = column.name.partition(",")[0]
    return f"{name}, {column.unit}" if column.unit else name


def definition_text(column: Definition) -> str:
    """A column's note."""
    unit = f", in {column.unit}" if column.unit else ""
    return f"{column.name}: {column.meaning}{unit}; {DIRECTIONS[column.higher_is_better]}."


def to_csv(tables: Sequence[Table]) -> bytes:
    """All tables, a line a cell, in full digits; a cell without a value has its reason in the last column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("mean", "deviation", "low", "high")
    writer.writerow(["table", "row", "definition", "unit", "images", "with a value", *parts, "said"])
    for table in tables:
        for row in table.rows:
            name = ", ".join(f"{head}: {text}" for head, text in zip(table.all_heads, row.all_texts, strict=True))
            for column in table.columns:
                cell = row.cells[column.name]
                figures = (cell.mean, cell.deviation, cell.low, cell.high)
                digits = ["" if one is None or one.value is None else repr(one.value) for one in figures]
                about = (table.title, name, column.name, column.unit, cell.images, cell.count)
                writer.writerow([*about, *digits, cell.remark])
    return text.getvalue().encode()


def lay_out(
    table: Table, escape: Callable[[str], str], mark: Callable[[str], str]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads, rows and notes of a table in a language with this `escape` and this way to `mark` a note."""
    letters, numbers = table.letters, table.numbers
    heads = [*map(escape, table.all_heads), *(escape(short_name(x)) + mark(letters[x.name]) for x in table.columns)]
    rows = []
    for row in table.rows:
        cells = [row.cells[column.name] for column in table.columns]
        marks = [mark(numbers[cell.remark]) if cell.remark else "" for cell in cells]
        texts = [escape(cell.text) + note for cell, note in zip(cells, marks, strict=True)]
        rows.append([*map(escape, row.all_texts), *texts])
    notes = [f"{mark(letters[x.name])} {escape(definition_text(x))}" for x in table.columns]
    return heads, rows, [*notes, *(f"{mark(number)} {escape(remark)}" for remark, number in numbers.items())]


def to_markdown(table: Table) -> str:
    """A table with its notes: definitions by letters, remarks on cells by numbers."""
    heads, rows, notes = lay_out(table, _escape_markdown, lambda note: f" ({note})")
    lines = [f"### {_escape_markdown(table.title)}", ""]
    lines += [f"| {' | '.join(texts)} |" for texts in (heads, ["---"] * len(heads), *rows)]
    lines += ["", *(f"{_escape_markdown(note)}.\n" for note in table.notes), *(f"-{note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]#~])", r"\\\1", text.replace("\n", " "))


def _letters(number: int) -> str:
    before = _letters(number // 26 - 1) if number >= 26 else ""
    return before + chr(ord("a") + number % 26)
