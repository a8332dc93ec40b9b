"""Tables of figures: a row a method or an image, a column a definition, and below it all that a reader must know.

A cell is a mean with its deviation and interval, one figure, or the reason why there is none; never blank. The same
figures give the same bytes of CSV (all digits, a line a cell), Markdown and LaTeX (four digits, definitions and reasons
as notes).
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.summary import Summary, paired, summarise

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line's end it would be taken for an argument
    "]": "{]}",
    "±": r"\ensuremath{\pm}",
}

_PARTS = ("mean", "deviation", "low", "high")
"""Of a cell, as the columns of a CSV file have them."""

_READ = "Cells of more than one image: mean ± standard deviation over images [95 % interval of the mean]"

BETTER = {True: "higher is better", False: "lower is better", None: "neither higher nor lower is better"}
"""A definition's direction in words."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A mean over images, or one figure."""

    mean: Figure
    low: Figure | None = None
    """Of the mean's 95 % interval; None: the cell is one figure, or of a whole set."""
    high: Figure | None = None
    images: int = 1
    """That it is of."""
    count: int = 1
    """Of these, how many have a value."""
    deviation: Figure | None = None
    """Standard deviation over images (n - 1); None: the cell is one figure, or of a whole set."""

    @classmethod
    def of(cls, summary: Summary) -> "Cell":
        """A column's foot as a cell."""
        return cls(summary.mean, summary.low, summary.high, summary.images, summary.count, summary.deviation)

    @property
    def said(self) -> str:
        """Why there is no value, or what must be said beside it; the interval's remark too."""
        own = self.low.why if self.low is not None and self.mean.value is not None else ""
        own = f"the interval: {own}" if own else ""
        return "; ".join(filter(None, (self.mean.why, own)))

    @property
    def text(self) -> str:
        """The value, its deviation and its interval with four digits, or `none`."""
        if self.mean.value is None:
            return "none"
        text = f"{self.mean.value:.4g}"
        if self.deviation is not None and self.deviation.value is not None:
            text += f" ± {self.deviation.value:.4g}"
        if self.ends is None:
            return text
        return f"{text} [{self.ends[0]:.4g}, {self.ends[1]:.4g}]"

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of the interval, where there is one."""
        if self.low is None or self.high is None or self.low.value is None or self.high.value is None:
            return None
        return self.low.value, self.high.value


@dataclass(frozen=True, slots=True)
class Row:
    """What it is of (a text for each of the table's heads), and a cell for each column, by its definition's name."""

    texts: tuple[str, ...]
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under heads (texts) and columns (definitions).

    Raises:
        ValueError: a column twice, a row that has no cell for one, or a cell of another definition.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[Definition, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    """What holds for the whole table, a sentence each."""

    def __post_init__(self) -> None:
        """Hold every cell to its column."""
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


@dataclass(frozen=True, slots=True)
class Method:
    """A row before its means are taken: figures of the same images in the same order for every method."""

    texts: tuple[str, ...]
    figures: Mapping[str, Sequence[Figure]]
    """By definition, image by image; or one figure alone where `sets` has its name."""
    sets: frozenset[str] = frozenset()
    """Definitions whose figure is of the whole set: it stands as it is, and has no paired difference."""


def summarised(
    title: str,
    heads: tuple[str, ...],
    columns: Sequence[Definition],
    methods: Sequence[Method],
    remarks: tuple[str, ...] = (),
) -> Table:
    """The table of the methods' means."""

    def cell(method: Method, name: str) -> Cell:
        if name in method.sets:
            return Cell(method.figures[name][0])
        return Cell.of(summarise(method.figures[name]))

    rows = tuple(Row(one.texts, {column.name: cell(one, column.name) for column in columns}) for one in methods)
    return Table(title, heads, tuple(columns), rows, remarks)


def differences(
    title: str, heads: tuple[str, ...], columns: Sequence[Definition], methods: Sequence[Method], baseline: Method
) -> Table:
    """The table of paired differences, method - baseline, of the columns that are image by image."""
    own = [column for column in columns if column.name not in baseline.sets]
    heading = [
        replace(column, name=difference_in(column.name), meaning=f"the same images' difference to {baseline.texts[0]}")
        for column in own
    ]
    rows = tuple(
        Row(
            one.texts,
            {
                difference_in(column.name): Cell.of(paired(one.figures[column.name], baseline.figures[column.name]))
                for column in own
            },
        )
        for one in methods
        if one is not baseline
    )
    return Table(title, heads, tuple(heading), rows, ("An interval that holds 0 is no sure difference",))


def to_csv(tables: Sequence[Table]) -> bytes:
    """All tables, a line a cell, in full digits; what has no value has its reason in the last column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "row", "definition", "unit", "images", "with a value", *_PARTS, "said"])
    for table in tables:
        for row in table.rows:
            of = ", ".join(f"{head}: {said}" for head, said in zip(table.heads, row.texts, strict=True))
            for column in table.columns:
                cell = row.cells[column.name]
                parts = [_digits(getattr(cell, part)) for part in _PARTS]
                writer.writerow([table.title, of, column.name, column.unit, cell.images, cell.count, *parts, cell.said])
    return text.getvalue().encode()


def to_markdown(table: Table) -> str:
    """A table with its notes: definitions by letters, reasons and remarks by numbers."""

    def marked(said: Marked) -> str:
        return _markdown(said.text) + (f" ({said.mark})" if said.mark else "")

    laid_out = lay_out(table)
    lines = [f"### {_markdown(table.title)}", ""]
    lines += [_piped(map(marked, laid_out.heads)), _piped(["---"] * len(laid_out.heads))]
    lines += [_piped(map(marked, row)) for row in laid_out.rows]
    lines += ["", *(f"{_markdown(remark)}.\n" for remark in remarks_of(table))]
    lines += [f"- ({note.mark}) {_markdown(note.text)}" for note in laid_out.notes]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """The same as a `table` with a `tabular`, which needs no package; its notes stand below in small type."""

    def marked(said: Marked) -> str:
        return _latex(said.text) + (f"\\textsuperscript{{{said.mark}}}" if said.mark else "")

    laid_out = lay_out(table)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * len(table.columns)}}}", r"\hline"]
    lines += [" & ".join(map(marked, laid_out.heads)) + r" \\", r"\hline"]
    lines += [" & ".join(map(marked, row)) + r" \\" for row in laid_out.rows]
    lines += [r"\hline", r"\end{tabular}", "", r"\footnotesize"]
    lines += [f"{_latex(remark)}.\n" for remark in remarks_of(table)]
    lines += [f"\\textsuperscript{{{note.mark}}} {_latex(note.text)}\n" for note in laid_out.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


class Marked(NamedTuple):
    """A text of a table, not escaped, and the mark of the note that belongs to it; a note, and its own mark."""

    text: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """What stands where in a table, for whoever writes it in a language of its own."""

    heads: tuple[Marked, ...]
    rows: tuple[tuple[Marked, ...], ...]
    """Of each the texts, then a cell for each of the table's columns."""
    notes: tuple[Marked, ...]
    """Definitions by letters, in the order of the columns, then reasons by numbers."""


def lay_out(table: Table) -> LaidOut:
    """A table as texts with marks, and its notes."""
    letters = [_letters(number) for number in range(len(table.columns))]
    heads = [*map(Marked, table.heads), *map(Marked, map(_short, table.columns), letters)]
    numbers: dict[str, int] = {}
    rows = []
    for row in table.rows:
        cells = [*map(Marked, row.texts)]
        for column in table.columns:
            cell = row.cells[column.name]
            mark = str(numbers.setdefault(cell.said, len(numbers) + 1)) if cell.said else ""
            cells.append(Marked(cell.text, mark))
        rows.append(tuple(cells))
    notes = [*map(Marked, map(_defined, table.columns), letters)]
    notes += [Marked(reason, str(number)) for reason, number in numbers.items()]
    return LaidOut(tuple(heads), tuple(rows), tuple(notes))


def remarks_of(table: Table) -> tuple[str, ...]:
    """What holds for the whole table, and how its cells are read."""
    spread = any(cell.deviation is not None for row in table.rows for cell in row.cells.values())
    return (*table.remarks, _READ) if spread else table.remarks


def _letters(number: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    before = _letters(number // 26 - 1) if number >= 26 else ""
    return before + chr(ord("a") + number % 26)


def _short(column: Definition) -> str:
    name = column.name.partition(",")[0]
    return f"{name}, {column.unit}" if column.unit else name


def _defined(column: Definition) -> str:
    unit = f", in {column.unit}" if column.unit else ""
    return f"{column.name}: {column.meaning}{unit}; {BETTER[column.higher_is_better]}."


def difference_in(name: str) -> str:
    """What a definition's paired difference is called, by `statistics.paired` too."""
    return f"difference in {name}"


def _digits(figure: Figure | None) -> str:
    return "" if figure is None or figure.value is None else repr(figure.value)


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]#~])", r"\\\1", text.replace("\n", " "))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text.replace("\n", " "))
