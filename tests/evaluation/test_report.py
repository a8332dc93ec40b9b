"""The report: all that it holds is in one file, nothing of a name becomes a tag, and what is not there is said."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from tests.reports import FAR, HOSTILE, PSNR, VIF, WHY, methods, tables, views, whole_report
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.part import Part, Scene
from zssr_gan.evaluation.report import LIMITS, Report, drawn, leading, render, shown_scene, shown_table
from zssr_gan.evaluation.tables import Cell, Method, Row, Table, summarised
from zssr_gan.provenance import LABELS

LOADING = {"src", "srcset", "data", "poster", "background", "action", "formaction", "xlink:href"}
Attributes = dict[str, str | None]


class Read(HTMLParser):
    """A page's tags and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, Attributes]] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> Iterator[Attributes]:
        return (attributes for name, attributes in self.tags if name == tag)


@pytest.fixture(scope="module")
def page() -> bytes:
    return render(whole_report())


@pytest.fixture(scope="module")
def read(page: bytes) -> Read:
    return Read(page)


def test_the_same_report_gives_the_same_bytes(page: bytes) -> None:
    assert render(whole_report()) == page


def test_it_holds_all_that_it_was_given(read: Read) -> None:
    report = whole_report()
    for text in (
        *("Read this first.", "Four faces, 4 methods", "Differences to bicubic", "All of it was made up."),
        *("face 3", "where the methods disagree", "0.90 along", "0" * 64, "seed: 0", *report.warnings),
        *(*LABELS.values(), *LIMITS),
    ):
        assert text in read.text, text
    assert "not an identification" in read.text
    assert "Compare every result with the original file" in read.text


def test_nothing_is_loaded(read: Read) -> None:
    """Neither from a network nor from the disk: pictures are in the page, and it has no other tag that loads."""
    assert not {"iframe", "object", "embed", "audio", "video", "source", "base"} & {tag for tag, _ in read.tags}
    for tag, attributes in read.tags:
        for name in LOADING & set(attributes):
            assert (tag, name) == ("img", "src")
            assert (attributes[name] or "").startswith("data:image/png;base64,")
    assert {attributes["href"] for attributes in read.of("link")} == {"data:,"}
    links = [attributes["href"] or "" for attributes in read.of("a")]
    assert all(link.startswith(("#", "./")) for link in links)
    style = "".join(read.texts)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = (one["content"] for one in read.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_picture_has_its_size_and_a_text(read: Read) -> None:
    pictures = [one for one in read.of("img") if "src" in one]
    assert len(pictures) == 4 * (len(views()) + 1) + 2
    for one in pictures:
        content = base64.b64decode((one["src"] or "").partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (int(one["width"] or 0), int(one["height"] or 0))
        assert one["alt"]


def test_no_name_becomes_a_tag(page: bytes, read: Read) -> None:
    assert len(list(read.of("script"))) == 1
    assert not any("onload" in attributes for _, attributes in read.tags)
    assert b"<script>alert" not in page
    assert read.text.count(" ".join(HOSTILE.split())) >= 4  # as text, as it was written, and nothing is computed of it


def test_all_ids_are_of_one_element_and_all_links_lead_to_one(read: Read) -> None:
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for attributes in read.of("a"):
        link = attributes["href"] or ""
        assert not link.startswith("#") or link[1:] in ids


def test_tables_lie_beside_it(read: Read) -> None:
    files = [attributes["href"] for attributes in read.of("a") if (attributes["href"] or "").startswith("./")]
    assert files == ["./truth.csv", "./truth.md", "./truth.tex"]
    other = Read(render(replace(whole_report(), files=frozenset(("truth.csv",)))))
    assert [one["href"] for one in other.of("a") if (one["href"] or "").startswith("./")] == ["./truth.csv"]


def test_a_part_that_is_missing_is_said_with_the_command(read: Read) -> None:
    assert 'make eval ARGS="--only figures" , with the CONFIG and SET of this run, makes it.' in read.text


def test_a_cell_without_a_value_says_why(read: Read) -> None:
    none = [one for one in read.of("td") if "none" in (one.get("class") or "").split()]
    assert len(none) == 4 + 3
    assert all(WHY in (one["title"] or "") for one in none)
    assert f"4 of 4 without a value: {WHY}" in read.text


def test_the_best_of_a_column_is_marked_where_it_has_a_direction() -> None:
    table = shown_table("t", tables("bicubic", "ZSSR, case", "SRGAN")[0])
    best = [tuple(cell.best for cell in cells) for _, cells in table.rows]
    assert best == [(False,) * 4, (False,) * 4, (True, True, False, False)]
    assert table.rows[0][1][0].value == "25.38"
    assert table.rows[0][1][0].spread.startswith("± 0.3227 [25")


def test_a_column_of_nothing_but_cautioned_values_has_no_best() -> None:
    def cell(value: float, why: str) -> Cell:
        return Cell(Figure(PSNR.name, value, why), Figure(PSNR.name, value - 1), Figure(PSNR.name, value + 1))

    def best(*whys: str) -> list[bool]:
        rows = tuple(Row((why,), {PSNR.name: cell(n, why)}) for n, why in enumerate(whys))
        return [cells[0].best for _, cells in shown_table("t", Table("Means", ("method",), (PSNR,), rows)).rows]

    assert best("RANDOM weights", "RANDOM weights") == [False, False]
    assert best("", "1 of 4 images identical") == [False, True]


def test_no_image_is_the_best_of_others() -> None:
    """A table that shows images one by one compares no methods."""
    rows = tuple(Row((name,), {PSNR.name: Cell(Figure(PSNR.name, value))}) for name, value in (("a", 1.0), ("b", 2.0)))
    table = Table("Samples", ("image",), (PSNR,), rows)
    assert not shown_table("t", table).compares
    assert drawn(table) == ()


def test_the_summary_is_computed(read: Read) -> None:
    assert "Held against 4 known truths" in read.text
    found = leading([Part("truth", "", tables=tables("bicubic", "ZSSR, case"))])
    assert found is not None
    assert (found.method, found.label, found.baseline) == ("ZSSR, case", "case", "bicubic")
    assert found.figure.startswith("26.38 dB [26")
    assert found.difference.startswith("1 dB [1")
    assert found.sure
    same = [Method(("bicubic", "internal"), one.figures) for one in methods("bicubic") * 2]
    assert leading([Part("truth", "", tables=(summarised("", ("method", "label"), (VIF,), same),))]) is None
    assert leading([Part("table1", "", tables=tables("bicubic", "SRGAN"))]) is None


def test_a_report_without_anything_says_so() -> None:
    text = Read(render(Report("Empty", "mine", "", ()))).text
    assert "names no best one" in text
    assert "Bicubic is assumed" in text
    assert LIMITS[1] in text


def test_left_is_bicubic_and_right_the_last_result() -> None:
    scene = shown_scene("s", Scene("", views()))
    assert scene.views[scene.left].name == "bicubic"
    assert scene.views[scene.right].name == HOSTILE  # and not the truth, which comes after it
    plain = shown_scene("s", Scene("", (views()[0],)))
    assert (plain.left, plain.right) == (0, 0)


def test_charts_are_to_scale() -> None:
    psnr, far, *_ = charts = drawn(tables("bicubic", "ZSSR, case", "SRGAN")[0])
    assert [chart.title for chart in charts] == [PSNR.name, FAR.name, "sharpness"]  # no method has a VIF
    assert psnr.told == "dB, higher is better"
    first, second, third = (dot.x or 0.0 for dot in psnr.dots)
    assert second - first == pytest.approx(third - second, abs=0.02)
    ticks = [(x, float(text)) for x, text in psnr.ticks]
    one = (ticks[1][0] - ticks[0][0]) / (ticks[1][1] - ticks[0][1])
    assert second - first == pytest.approx(one, rel=0.01)
    for chart in charts:
        for dot in chart.dots:
            assert dot.ends is not None
            assert dot.x is not None
            assert chart.left < dot.ends[0] <= dot.x <= dot.ends[1] < chart.right
    assert far.told == "lower is better"


def test_what_is_no_picture_is_refused() -> None:
    broken = Part("p", "", scenes=(Scene("", (replace(views()[0], png=b"no"),)),))
    with pytest.raises(OSError, match="cannot identify image"):
        render(Report("", "", "", (broken,)))
