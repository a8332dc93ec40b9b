"""Tables as a report's page shows them: which cell is the best of its column, which has none, and what leads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zssr_gan.evaluation.metric import Definition
from zssr_gan.evaluation.parts import Part
from zssr_gan.evaluation.tables import BETTER, Cell, Marked, Row, Table, difference_in, lay_out, remarks_of
from zssr_gan.record import LABELS

_TRUTH = "truth"
"""Name of the part that holds methods against truths."""


@dataclass(frozen=True, slots=True)
class ShownCell:
    """A cell: its value and its spread apart, and the mark of its note."""

    value: str
    spread: str
    """Standard deviation and interval; empty where there are none."""
    mark: str
    said: str
    """What its note says: why there is no value, or what must be said beside it."""
    none: bool
    best: bool


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table; `key` is an id of the page, that its notes' ids begin with."""

    key: str
    title: str
    heads: tuple[str, ...]
    columns: tuple[Marked, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[ShownCell, ...]], ...]
    """Texts and cells."""
    remarks: tuple[str, ...]
    definitions: tuple[Marked, ...]
    reasons: tuple[Marked, ...]
    compares: bool
    """Whether a best of a column is marked."""


@dataclass(frozen=True, slots=True)
class Leading:
    """The best of the methods that were held against truths, by the table's first column."""

    method: str
    label: str
    figure: str
    """With its interval and unit."""
    definition: str
    direction: str
    images: int
    said: str
    """What must be said beside the figure."""
    baseline: str = ""
    """The method that it is compared with; empty where the part has no such differences."""
    difference: str = ""
    sure: bool = False
    """Whether the interval of the difference leaves 0 out."""


def label_in(text: str) -> bool:
    """Whether a text of a row is one of the labels of `zssr_gan.record`."""
    return text in LABELS


def of_means(table: Table) -> bool:
    """Whether rows are methods: means over images, with intervals; not single images, among which none is best."""
    return any(cell.ends is not None for row in table.rows for cell in row.cells.values())


def shown_table(key: str, table: Table) -> ShownTable:
    """A table for the page."""
    laid_out = lay_out(table)
    texts, columns = len(table.heads), len(table.columns)
    compares = of_means(table)
    best = {column.name: _best(table, column) if compares else set[int]() for column in table.columns}
    rows = []
    for number, (row, said) in enumerate(zip(table.rows, laid_out.rows, strict=True)):
        cells = tuple(
            _cell(row.cells[column.name], marked, best=number in best[column.name])
            for column, marked in zip(table.columns, said[texts:], strict=True)
        )
        rows.append((row.texts, cells))
    return ShownTable(
        key,
        table.title,
        table.heads,
        laid_out.heads[texts:],
        tuple(rows),
        remarks_of(table),
        laid_out.notes[:columns],
        laid_out.notes[columns:],
        compares and any(best.values()),
    )


def leading(parts: Sequence[Part]) -> Leading | None:
    """What leads the first table of the part with truths; None where there is no such table, or nothing leads."""
    tables = next((part.tables for part in parts if part.name == _TRUTH), ())
    if not tables or not tables[0].columns or not of_means(tables[0]):
        return None
    column, rows = tables[0].columns[0], tables[0].rows
    first = min(_best(tables[0], column), default=None)
    if first is None:
        return None
    cell = rows[first].cells[column.name]
    found = Leading(
        method=rows[first].texts[0],
        label=next(filter(label_in, rows[first].texts), ""),
        figure=_with_unit(cell, column),
        definition=column.name,
        direction=BETTER[column.higher_is_better],
        images=cell.count,
        said=cell.said,
    )
    return _against(found, rows[first], tables[1:], column)


def _against(found: Leading, row: Row, tables: Sequence[Table], column: Definition) -> Leading:
    """With the paired difference, where one of the tables has it."""
    name = difference_in(column.name)
    for table in tables:
        own = next((one for one in table.columns if one.name == name), None)
        its = next((one for one in table.rows if one.texts == row.texts), None)
        if own is None or its is None or its.cells[name].ends is None:
            continue
        low, high = its.cells[name].ends or (0.0, 0.0)
        baseline = own.meaning.rpartition(" to ")[2]
        return replace(found, baseline=baseline, difference=_with_unit(its.cells[name], own), sure=low > 0 or high < 0)
    return found


def _with_unit(cell: Cell, column: Definition) -> str:
    value, _, spread = cell.text.partition(" ")
    _, bracket, interval = spread.rpartition("[")
    unit = f" {column.unit}" if column.unit else ""
    return f"{value}{unit} {bracket}{interval}" if bracket else f"{value}{unit}"


def _best(table: Table, column: Definition) -> set[int]:
    """Rows with the best value of a column; nothing where no direction is defined, or there is nothing to choose.

    Nor where no value stands without a word of caution, such as those that look through random weights.
    """
    cells = [row.cells[column.name].mean for row in table.rows]
    values = [cell.value for cell in cells if cell.value is not None]
    sure = any(cell.value is not None and not cell.why for cell in cells)
    if column.higher_is_better is None or len(values) < 2 or not sure:
        return set()
    wanted = (max if column.higher_is_better else min)(values)
    return {number for number, cell in enumerate(cells) if cell.value == wanted}


def _cell(cell: Cell, marked: Marked, *, best: bool) -> ShownCell:
    value, _, spread = marked.text.partition(" ")
    return ShownCell(value, spread, marked.mark, cell.said, none=cell.mean.value is None, best=best)
