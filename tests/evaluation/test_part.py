"""A part of an evaluation as a file: all of it comes back, and what is damaged is no part."""

import pytest

from zssr_gan.evaluation.metrics.full_reference import psnr
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.part import Illustration, Part, Scene, View, decode_part, encode_part
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Row, Table

COLUMN = psnr().definition
CELLS = {
    "bicubic": Cell(Figure(COLUMN.name, 30.123456789), Figure(COLUMN.name, 29.0), Figure(COLUMN.name, 31.0), 4, 3),
    "unpaired": Cell(COLUMN.none("no truth of this image is known")),
}
PART = Part(
    "truth",
    "Truth known",
    ("What holds for all.",),
    (Table("Faces", ("method",), (COLUMN,), tuple(Row((name,), {COLUMN.name: cell}) for name, cell in CELLS.items())),),
    (Illustration("a curve", b"\x89PNG\xff\x00"),),
    (Scene("a face", (View("bicubic", "internal", b"\x00"), View("truth", None, b"\x01")), (Illustration("", b""),)),),
)


def test_a_part_comes_back_whole() -> None:
    data = encode_part(PART)
    assert decode_part(data) == PART
    assert encode_part(PART) == data


@pytest.mark.parametrize("data", [encode_part(PART)[:-9], b"", b"{}", encode_part(PART).replace(b"AA==", b"A==")])
def test_what_is_damaged_is_no_part(data: bytes) -> None:
    assert decode_part(data) is None
