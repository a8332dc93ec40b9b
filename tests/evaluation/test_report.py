"""The report: all that it holds is in one file, nothing of a name becomes a tag, and what is not there is said."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.reports import FAR, HOSTILE, PSNR, SHARP, VIF, WHY, rows, tables, views, whole_report
from zssr_gan.evaluation.charts import charts_of
from zssr_gan.evaluation.part import Part, Scene
from zssr_gan.evaluation.report import Report, leader, render, sides
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Row, Table, compared
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


def test_it_holds_all_that_it_was_given(page: bytes, read: Read) -> None:
    report = whole_report()
    assert render(report) == page
    for text in (
        *("Read this first.", "Four faces, 4 methods", "Differences to bicubic", "All of it was made up."),
        *("face 3", "where the methods disagree", "0.90 along", "0" * 64, "seed: 0", *report.warnings),
        *LABELS.values(),
    ):
        assert text in read.text, text
    assert "not an identification" in read.text
    assert "Compare every result with the original file" in read.text


def test_nothing_is_loaded(read: Read) -> None:
    """Neither from a network nor from the disk: pictures are in the page, and it has no other tag that loads."""
    assert not {"iframe", "object", "embed", "audio", "video", "source", "base"} & {tag for tag, _ in read.tags}
    for tag, attributes in read.tags:
        for name in LOADING & set(attributes):
            inside = (attributes[name] or "").startswith("#")  # a drawing's own mark
            assert (tag, name) == (("use", "xlink:href") if inside else ("img", "src"))
            assert inside or (attributes[name] or "").startswith("data:image/png;base64,")
    pictures = [one for one in read.of("img") if "src" in one]
    assert len(pictures) == 4 * (len(views()) + 1) + 2
    for one in pictures:
        content = base64.b64decode((one["src"] or "").partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (int(one["width"] or 0), int(one["height"] or 0))
        assert one["alt"]
    assert {attributes["href"] for attributes in read.of("link")} == {"data:,"}
    links = [attributes["href"] or "" for attributes in read.of("a")]
    assert all(link.startswith(("#", "./")) for link in links)
    style = "".join(read.texts)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = (one["content"] for one in read.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_no_name_becomes_a_tag_and_ids_are_of_one_element(page: bytes, read: Read) -> None:
    assert len(list(read.of("script"))) == 1
    assert not any("onload" in attributes for _, attributes in read.tags)
    assert b"<script>alert" not in page
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] or "" for attributes in read.of("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert read.text.count(" ".join(HOSTILE.split())) >= 4  # as text, as it was written, and nothing is computed of it


def test_files_and_missing_parts_are_said(read: Read) -> None:
    files = [attributes["href"] for attributes in read.of("a") if (attributes["href"] or "").startswith("./")]
    assert files == ["./truth.csv", "./truth.md", "./truth.tex"]
    assert 'make eval ARGS="--only figures" , with the CONFIG and SET of this run, makes it.' in read.text


def test_a_cell_without_a_value_says_why(read: Read) -> None:
    none = [one for one in read.of("td") if "none" in (one.get("class") or "").split()]
    assert len(none) == 4 + 3
    assert all(WHY in (one["title"] or "") for one in none)
    assert f"4 of 4 without a value: {WHY}" in read.text


def test_the_best_of_a_column_is_marked_where_it_has_a_direction(read: Read) -> None:
    cells = [(one.get("class") or "").split() for one in read.of("td")]
    best = [number for number, one in enumerate(one for one in cells if "number" in one) if "best" in one]
    assert best == [3 * 4, 3 * 4 + 1, 4 * 4 + 2 * 4, 4 * 4 + 2 * 4 + 1]  # PSNR and distance of each table's last row
    assert "Where intervals overlap, another may be as good." in read.text


def test_the_summary_is_computed(read: Read) -> None:
    assert "Compared with 4 known truths" in read.text
    found = leader(Part("truth", "", tables=tables("bicubic", "ZSSR, case")))
    assert found is not None
    assert (found.row.texts, found.row.label, found.baseline) == (("ZSSR, case",), "case", "bicubic")
    assert found.row.cells[0].mean == pytest.approx(26.375)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(1)
    assert leader(Part("truth", "", tables=compared("", (VIF,), rows("bicubic", "SRGAN"), gains="-"))) is None
    assert leader(None) is None


def test_a_report_without_anything_says_so() -> None:
    text = Read(render(Report("Empty", "mine", "", {}))).text
    assert "names no best one" in text
    assert "Bicubic is assumed" in text
    assert "A result is an investigative lead, not an identification" in text
    broken = Part("p", "", scenes=(Scene("", (replace(views()[0], png=b"no"),)),))
    with pytest.raises(OSError, match="cannot identify image"):
        render(Report("", "", "", {"p": broken}))


def test_left_is_bicubic_and_right_the_last_result() -> None:
    shown = views()
    left, right = sides(Scene("", shown))
    assert shown[left].caption == "bicubic"
    assert shown[right].caption == HOSTILE  # and not the truth, which comes after it
    assert sides(Scene("", shown[:1])) == (0, 0)


def test_charts_are_to_scale_and_the_same_bytes() -> None:
    table = tables("bicubic", "ZSSR, case", "SRGAN")[0]
    charts = charts_of("t", table)
    assert [chart.column for chart in charts] == [PSNR, FAR, SHARP]  # no method has a VIF
    assert charts == charts_of("t", table)
    root = ElementTree.fromstring(charts[0].svg)
    dots = [float(one.get("x") or 0) for one in root.iter("{http://www.w3.org/2000/svg}use") if one.get("x")]
    texts = "".join(root.itertext())
    assert "ZSSR, case" in texts
    first, second, third = (x for x in dots if x > 0)
    assert second - first == pytest.approx(third - second, abs=0.01)
    assert "var(--case)" in charts[0].svg
    assert "#0000" not in charts[0].svg
    single = Table("Samples", ("image",), (PSNR,), tuple(Row((x,), (Cell(PSNR.name, 1.0),)) for x in "ab"))
    assert charts_of("t", single) == []  # single images are no methods


def test_every_label_has_a_look_of_its_own() -> None:
    page = resources.files("zssr_gan.evaluation") / "page"
    style, text = ((page / name).read_text("utf-8") for name in ("page.css", "page.html"))
    table = tables("bicubic", "SRGAN")[0]
    for label in LABELS:
        table = replace(table, rows=tuple(replace(row, label=label) for row in table.rows))
        svg = charts_of("t", table)[0].svg
        assert f"var(--{label})" in svg
        assert "var(--none)" not in svg
        assert style.count(f"--{label}: #") == style.count("--none: #")
        assert f".{label} {{ color: var(--{label}); }}" in style
        assert f'<span class="sign {label}">' in text
