"""Tables and parts: cells, notes and differences; no name breaks a file, and stored parts come back."""

import csv
import io
import re
from statistics import stdev
from typing import Any

import pytest

from tests.reports import tables, views
from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.part import Illustration, Part, Scene, decode_part, encode_part
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Measured, Row, Table, compared, to_csv, to_latex, to_markdown

PSNR = Definition("PSNR-Y, border 0", "how close", "dB", higher_is_better=True)
SET = Definition("Frechet, 100 % of a_b", "how far", "", higher_is_better=False)


def measured(name: str, *values: float | None) -> Measured:
    figures = [Figure(PSNR.name, value, "" if value is not None else "too small | 8_8") for value in values]
    return Measured((name,), {PSNR.name: figures, SET.name: Figure(SET.name, 2.0)})


@pytest.fixture(scope="module")
def both() -> tuple[Table, Table]:
    rows = [
        *(measured("bicubic_2", 30.0, 31.0, 32.0), measured("ours", 31.0, 32.0, 33.5), measured("none", *[None] * 3)),
        Measured(("theirs",), {SET.name: Figure(SET.name, 1.0)}, lacking="not printed"),
    ]
    remarks = ("All of it is a test",)
    return compared("Truth & more", (PSNR, SET), rows, gains="Gains", remarks=remarks)


def read(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_markdown(both: tuple[Table, Table]) -> None:
    lines = to_markdown(both[:1]).splitlines()
    assert lines[:4] == ["### Truth & more", "", "| method | PSNR-Y, dB (a) | Frechet (b) |", "| --- | --- | --- |"]
    assert re.fullmatch(r"\| bicubic\\_2 \| 31 ± 1 \\\[30.*, 3[12].*\\\] \(1\) \| 2 \|", lines[4])
    assert lines[6:8] == ["| none | none (2) | 2 |", "| theirs | none (3) | 1 |"]
    for note in (
        *("All of it is a test.", "- (a) PSNR-Y, border 0: how close, in dB; higher is better."),
        r"- (b) Frechet, 100 % of a\_b: how far; lower is better.",
        *("- (1) the interval: too narrow, as a bootstrap of 3 images is", "- (3) not printed"),
        r"- (2) 3 of 3 without a value: too small \| 8\_8",
    ):
        assert note in lines
    said = "mean ± standard deviation over images"
    assert said in to_markdown(both)
    assert said not in to_markdown([Table("t", ("method",), (SET,), (Row(("a",), (Cell(SET.name, 1.0),)),))])


def test_latex_is_escaped(both: tuple[Table, Table]) -> None:
    text = to_latex(both)
    assert r"\caption{Truth \& more}" in text
    assert r"bicubic\_2 & 31 \ensuremath{\pm} 1 {[}30" in text
    assert r"100 \% of a\_b" in text
    assert r"too small \textbar{} 8\_8" in text
    assert text.count(r"\begin") == text.count(r"\end") == 4
    assert not re.search(r"(?<!\\)[%#$_]", text)


def test_csv_has_all_digits_and_reasons(both: tuple[Table, Table]) -> None:
    rows = read(to_csv(both))
    assert len(rows) == 4 * 2 + 2
    assert float(rows[2]["mean"]) == (31 + 32 + 33.5) / 3
    assert float(rows[2]["deviation"]) == pytest.approx(stdev([31, 32, 33.5]), rel=1e-12)
    assert (rows[1]["deviation"], rows[1]["low"]) == ("", "")
    assert [rows[4][name] for name in ("mean", "images", "with a value")] == ["", "3", "0"]
    assert rows[4]["remark"] == "3 of 3 without a value: too small | 8_8"
    assert [rows[6][name] for name in ("row", "with a value", "remark")] == ["method: theirs", "0", "not printed"]


def test_differences_are_paired(both: tuple[Table, Table]) -> None:
    """Of rows and columns that are image by image."""
    gains = both[1]
    assert [row.texts for row in gains.rows] == [("ours",), ("none",)]
    assert [column.name for column in gains.columns] == ["difference in PSNR-Y, border 0"]
    assert gains.rows[0].cells[0].mean == pytest.approx(3.5 / 3)
    assert gains.rows[1].cells[0].text == "none"
    assert r"difference to bicubic\_2" in to_markdown([gains])


def test_a_column_of_remarks_alone_has_no_best() -> None:
    """Such as one of random weights."""

    def best(*certain: bool) -> set[int]:
        cells = [Cell(PSNR.name, float(n), interval=(-1, 9), certain=one) for n, one in enumerate(certain)]
        return Table("t", ("method",), (PSNR,), tuple(Row(("a",), (cell,)) for cell in cells)).best(0)

    assert best(False, False) == set()
    assert best(True, False) == {1}


def test_two_definitions_share_no_column() -> None:
    with pytest.raises(ValueError, match=r"Frechet.* stand under"):
        Table("t", ("method",), (PSNR,), (Row(("a",), (Cell(SET.name, 1.0),)),))


class TestParts:
    PART = Part(
        *("truth", "Truth known", ("What holds for all.",), tables("bicubic", "SRGAN")),
        (Illustration("a curve", b"\x89PNG\xff\x00"),),
        (Scene("a face", views(), (Illustration("", b""),)),),
    )

    def test_one_comes_back_whole(self) -> None:
        data = encode_part(self.PART)
        assert decode_part(data) == self.PART
        assert encode_part(self.PART) == data

    def test_what_is_damaged_is_none(self) -> None:
        data = encode_part(self.PART)
        for damaged in (data[:-9], b"", b"{}", data.replace(b"iVBOR", b"iVBOX", 1)):
            assert decode_part(damaged) is None
