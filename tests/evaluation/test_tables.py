"""Tables: what stands in a cell, what stands below, and that nothing of a name or a reason breaks its file."""

import csv
import io
import re
from statistics import stdev
from typing import Any

import pytest

from zssr_gan.evaluation.latex import to_latex
from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Method, Row, Table, differences, summarised, to_csv, to_markdown

PSNR = Definition("PSNR-Y, border 0", "how close", "dB", higher_is_better=True)
SET = Definition("Frechet, 100 % of a_b", "how far", "", higher_is_better=False)


def method(name: str, *values: float | None, whole: float = 2.0) -> Method:
    figures = [Figure(PSNR.name, value, "" if value is not None else "too small | 8_8") for value in values]
    return Method((name,), {PSNR.name: figures, SET.name: [Figure(SET.name, whole)]}, sets=frozenset({SET.name}))


@pytest.fixture
def methods() -> list[Method]:
    return [method("bicubic_2", 30.0, 31.0, 32.0), method("ours", 31.0, 32.0, 33.5), method("none", None, None, None)]


@pytest.fixture
def table(methods: list[Method]) -> Table:
    return summarised("Truth & more", ("method",), (PSNR, SET), methods, ("All of it is a test",))


def read(data: bytes) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_a_cell_is_a_mean_with_its_interval(table: Table) -> None:
    assert re.fullmatch(r"31 ± 1 \[30.*, 3[12].*\]", table.rows[0].cells[PSNR.name].text)
    assert "bootstrap of 3 images" in table.rows[0].cells[PSNR.name].remark
    assert table.rows[0].cells[SET.name].text == "2"
    lines = to_markdown(table).splitlines()
    assert lines[2] == "| method | PSNR-Y, dB (a) | Frechet (b) |"
    assert lines[4].startswith(r"| bicubic\_2 | 31 ± 1 \[30")


def test_a_cell_without_a_value_says_why(table: Table) -> None:
    cell = table.rows[2].cells[PSNR.name]
    assert cell.text == "none"
    assert cell.remark == "3 of 3 without a value: too small | 8_8"
    assert r"- (2) 3 of 3 without a value: too small \| 8\_8" in to_markdown(table)
    assert "| none | none (2) | 2 |" in to_markdown(table)
    (row,) = [row for row in read(to_csv([table])) if row["row"] == "method: none" and row["definition"] == PSNR.name]
    assert (row["mean"], row["images"], row["with a value"]) == ("", "3", "0")
    assert row["said"] == cell.remark


def test_every_definition_stands_below_with_its_direction(table: Table) -> None:
    text = to_markdown(table)
    assert "- (a) PSNR-Y, border 0: how close, in dB; higher is better." in text
    assert r"- (b) Frechet, 100 % of a\_b: how far; lower is better." in text
    assert "All of it is a test." in text


def test_latex_is_escaped(table: Table) -> None:
    text = to_latex(table)
    assert r"\caption{Truth \& more}" in text
    assert r"bicubic\_2 & 31 \ensuremath{\pm} 1 {[}30" in text
    assert r"100 \% of a\_b" in text
    assert r"too small \textbar{} 8\_8" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert not re.search(r"(?<!\\)[%#$_]", text)


def test_a_column_of_remarks_alone_has_no_best() -> None:
    """Such as one of random weights."""

    def best(*remarks: str) -> set[int]:
        figures = [Figure(PSNR.name, float(n), remark) for n, remark in enumerate(remarks)]
        cells = [Cell(one, Figure(PSNR.name, -1.0), Figure(PSNR.name, 9.0)) for one in figures]
        rows = tuple(Row((str(n),), {PSNR.name: cell}) for n, cell in enumerate(cells))
        return Table("Means", ("method",), (PSNR,), rows).best(PSNR)

    assert best("RANDOM weights", "RANDOM weights") == set()
    assert best("", "1 of 4 images identical") == {1}


def test_differences_are_paired(methods: list[Method]) -> None:
    made = differences("Gains", ("method",), (PSNR, SET), methods, methods[0])
    assert [row.texts for row in made.rows] == [("ours",), ("none",)]
    (column,) = made.columns  # a figure of a set has none
    cell = made.rows[0].cells[column.name]
    assert cell.mean.number() == pytest.approx(3.5 / 3)
    assert cell.low is not None
    assert cell.low.number() >= 1
    assert made.rows[1].cells[column.name].text == "none"
    assert "difference to bicubic\\_2" in to_markdown(made)


def test_csv_has_all_digits(table: Table) -> None:
    rows = read(to_csv([table, table]))
    assert len(rows) == 12
    assert float(rows[2]["mean"]) == (31 + 32 + 33.5) / 3
    assert float(rows[2]["deviation"]) == pytest.approx(stdev([31, 32, 33.5]), rel=1e-12)
    assert (rows[1]["deviation"], rows[1]["low"]) == ("", "")


def test_how_a_cell_is_read_is_said_where_one_has_a_deviation(table: Table) -> None:
    said = "mean ± standard deviation over images"
    assert said in to_markdown(table)
    alone = Table("t", ("method",), (SET,), (Row(("a",), {SET.name: Cell(Figure(SET.name, 1.0))}),))
    assert said not in to_markdown(alone)


@pytest.mark.parametrize(
    ("columns", "cells", "texts", "words"),
    [
        ((PSNR, PSNR), {PSNR.name: Cell(Figure(PSNR.name, 1.0))}, ("a",), "a definition has two columns"),
        ((PSNR, SET), {PSNR.name: Cell(Figure(PSNR.name, 1.0))}, ("a",), "a has no cell under 'Frechet"),
        ((PSNR,), {PSNR.name: Cell(Figure(SET.name, 1.0))}, ("a",), "'Frechet.*' stands under 'PSNR"),
        ((PSNR,), {PSNR.name: Cell(Figure(PSNR.name, 1.0))}, ("a", "b"), "2 texts under 1 heads"),
    ],
)
def test_what_is_no_table(
    columns: tuple[Definition, ...], cells: dict[str, Cell], texts: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Table("t", ("method",), columns, (Row(texts, cells),))
