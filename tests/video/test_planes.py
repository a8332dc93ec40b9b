"""Planes of a frame and of its enlargement: as stored, in place, with U and V where they lie."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zssr_gan.video.frames import Frame
from zssr_gan.video.planes import Layout, result_part, result_planes, seen_part, stored, white


def ramp(rows: int, columns: int, down: float, across: float, start: float = 20) -> np.ndarray:
    return (start + down * np.arange(rows)[:, None] + across * np.arange(columns)).round().astype(np.uint8)


def test_luma_is_taken_as_stored() -> None:
    codes = np.array([[0, 16, 128, 235, 255]], np.uint8)
    for levels in ("limited", "full"):
        frame = Frame((codes,), 0, pixel_format="gray", colour_range=levels, codec="h264")
        assert np.array_equal(stored(frame)[0].numpy() * 255, codes)
        same = result_planes(stored(frame), frame, (0, 0, 5, 1), Layout.of("gray"))
        assert np.array_equal(same[0], codes)
        ten = result_planes(stored(frame), frame, (0, 0, 5, 1), Layout.of("gray10le"))
        assert ten[0].max() == white(10, levels)


@pytest.mark.parametrize("box", [(0, 0, 40, 30), (24, 14, 16, 16), (3, 5, 10, 9)])
def test_a_part_is_cut_where_it_was(box: tuple[int, int, int, int]) -> None:
    x = torch.arange(30 * 40.0).reshape(1, 30, 40)
    seen, place = seen_part(x, box)
    part = result_part(seen, place, (box[3], box[2]), (1.0, 1.0))
    left, top, width, height = box
    assert torch.equal(part, x[:, top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("pixel_format", "codec", "place"),
    [("yuv420p", "h264", (0.5, 0)), ("yuv420p", "mjpeg", (0.5, 0.5)), ("yuv411p", "", (0, 0))],
)
def test_chroma_lies_where_it_lay(pixel_format: str, codec: str, place: tuple[float, float]) -> None:
    """A plane of U that rises evenly over the picture rises evenly, and by the same, in the result."""
    layout = Layout.of(pixel_format)
    (down, across), rows, columns = layout.chroma, 32, 48
    at = [
        n * side + p * (side - 1)
        for n, side, p in ((np.arange(rows // down), down, place[0]), (np.arange(columns // across), across, place[1]))
    ]
    chroma = (30 + 2 * at[0][:, None] + 3 * at[1][None]).astype(np.float64)
    frame = Frame(
        (ramp(rows, columns, 1, 1), chroma.round().astype(np.uint8), chroma.round().astype(np.uint8)),
        0,
        pixel_format=pixel_format,
        codec=codec,
    )
    _, u, _ = result_planes(torch.zeros(1, 64, 96), frame, (0, 0, columns, rows), layout)
    luma = [
        (n * side + p * (side - 1) + 0.5) / 2 - 0.5
        for n, side, p in ((np.arange(u.shape[0]), down, 0.5 if down > 1 else 0), (np.arange(u.shape[1]), across, 0))
    ]
    expected = 30 + 2 * luma[0][:, None] + 3 * luma[1][None]
    inside = (slice(4, -4), slice(4, -4))
    assert np.abs(u[inside] - expected[inside]).max() <= 1.5


def test_gray_in_a_format_with_colours_is_neutral() -> None:
    frame = Frame((ramp(8, 8, 1, 1),), 0)
    planes = result_planes(torch.zeros(1, 16, 16), frame, (0, 0, 8, 8), Layout.of("yuv420p10le"))
    assert [plane.shape for plane in planes] == [(16, 16), (8, 8), (8, 8)]
    assert (planes[1] == 512).all()


def test_rgb_keeps_its_order() -> None:
    planes = tuple(np.full((8, 8), value, np.uint8) for value in (10, 20, 30))  # G, B, R
    frame = Frame(planes, 0, pixel_format="gbrp")
    assert stored(frame)[:, 0, 0].mul(255).round().tolist() == [30, 10, 20]
    same = result_planes(stored(frame), replace(frame), (0, 0, 8, 8), Layout.of("gbrp"))
    assert all(np.array_equal(a, b) for a, b in zip(same, planes, strict=True))


@pytest.mark.parametrize("name", ["bgr0", "yuva420p", "nv12", "nothing"])
def test_packed_formats_have_no_layout(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Layout.of(name)
