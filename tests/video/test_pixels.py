"""Luma and RGB of stored planes, against the standards' own numbers and libav's conversion."""

from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from tests.video import clips
from zssr_gan.errors import VideoError
from zssr_gan.video.frames import Frame, fields, planes_sha256
from zssr_gan.video.pixels import luma, picture_of_frame, rgb


def yuv(y: int, u: int, v: int, **facts: object) -> Frame:
    planes = (np.full((4, 6), y, np.uint8), np.full((2, 3), u, np.uint8), np.full((2, 3), v, np.uint8))
    return Frame(planes=planes, index=0, **{"pixel_format": "yuv420p", **facts})


@pytest.mark.parametrize(
    ("stored", "facts", "expected"),
    [
        ((16, 128, 128), {}, (0, 0, 0)),
        ((235, 128, 128), {}, (1, 1, 1)),
        ((255, 128, 128), {"colour_range": "full"}, (1, 1, 1)),
        ((81, 90, 240), {}, (1, 0, 0)),  # red of BT.601's colour bars
        ((145, 54, 34), {}, (0, 1, 0)),
        ((63, 102, 240), {"matrix": "bt709"}, (1, 0, 0)),
        ((32, 240, 118), {"matrix": "bt709"}, (0, 0, 1)),
        ((76, 85, 255), {"pixel_format": "yuvj420p"}, (1, 0, 0)),  # JFIF
    ],
)
def test_colours_of_the_standards(stored: tuple[int, int, int], facts: dict, expected: tuple[float, ...]) -> None:
    found = rgb(yuv(*stored, **facts))
    assert torch.allclose(found, torch.tensor(expected).float()[:, None, None].expand(3, 4, 6), atol=0.006)


def test_luma_is_not_clamped() -> None:
    assert luma(yuv(255, 0, 255)).unique().item() == pytest.approx(239 / 219)
    assert luma(yuv(1, 0, 255)).unique().item() == pytest.approx(-15 / 219)


def test_ten_bits() -> None:
    planes = (np.full((2, 2), 940, np.uint16), np.full((1, 1), 512, np.uint16), np.full((1, 1), 512, np.uint16))
    found = rgb(Frame(planes=planes, index=0, pixel_format="yuv420p10le", bits=10))
    assert torch.allclose(found, torch.ones(3, 2, 2), atol=1e-6)


def test_the_matrix_that_is_not_stated_goes_by_the_rows() -> None:
    small, large = np.full((2, 2), 90, np.uint8), np.full((720, 2), 90, np.uint8)
    assert Frame(planes=(small,), index=0, pixel_format="yuv420p").assumed_matrix == "smpte170m"
    assert Frame(planes=(large,), index=0, pixel_format="yuv420p").assumed_matrix == "bt709"
    with pytest.raises(VideoError, match="ycgco"):
        rgb(yuv(90, 90, 90, matrix="ycgco"))


def test_smooth_colours_agree_with_libav() -> None:
    rows, columns = np.mgrid[0:48, 0:64]
    picture = np.stack([60 + columns * 2, 60 + rows * 2, 200 - columns - rows], 2).astype(np.uint8)
    stored = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv444p")
    planes = tuple(np.frombuffer(plane, np.uint8).reshape(48, -1)[:, :64] for plane in stored.planes)
    found = rgb(Frame(planes=planes, index=0, pixel_format="yuv444p")).permute(1, 2, 0).numpy() * 255
    assert np.abs(found - picture).max() < 2.5  # two roundings of YUV at 8 bits


@pytest.mark.parametrize(("codec", "offset"), [("h264", 0.0), ("mjpeg", 0.5)])
def test_chroma_lies_where_the_standard_says(codec: str, offset: float) -> None:
    """A ramp of chroma comes back as a ramp, on the place of its samples: on the left luma sample, or between two."""
    columns = np.arange(8) * 2 + offset
    u = np.broadcast_to((128 + 4 * columns).astype(np.uint8), (4, 8)).copy()
    planes = (np.full((8, 16), 128, np.uint8), u, np.full((4, 8), 128, np.uint8))
    frame = Frame(planes=planes, index=0, pixel_format="yuvj420p", codec=codec)
    blue = (rgb(frame)[2, 4] - luma(frame)[0, 4]) / (2 * (1 - 0.114)) * 255
    assert torch.allclose(blue[1:14], 4 * torch.arange(1, 14).float(), atol=0.6)


def test_chroma_of_fields_lies_lower_in_the_bottom_field() -> None:
    """A vertical ramp that is woven: both fields agree with the ramp at their own rows (H.264, figure 6-3)."""
    top_rows, bottom_rows = 4 * np.arange(4) + 0.5, 4 * np.arange(4) + 2 + 0.5
    u = np.empty((8, 2))
    u[0::2], u[1::2] = top_rows[:, None], bottom_rows[:, None]
    planes = (np.full((16, 4), 128, np.uint8), (128 + 4 * u).astype(np.uint8), np.full((8, 2), 128, np.uint8))
    frame = Frame(planes=planes, index=0, pixel_format="yuvj420p", interlaced=True, top_field_first=True)
    for one in fields(frame):
        blue = (rgb(one)[2, :, 0] - luma(one)[0, :, 0]) / (2 * (1 - 0.114)) * 255
        rows = 2 * torch.arange(8) + (1 if one.field == "bottom" else 0)
        assert torch.allclose(blue[1:6], 4 * rows[1:6].float(), atol=0.6)


def test_odd_sizes() -> None:
    planes = (np.full((5, 7), 90, np.uint8), np.full((3, 4), 100, np.uint8), np.full((3, 4), 140, np.uint8))
    frame = Frame(planes=planes, index=0, pixel_format="yuv420p", interlaced=True)
    assert rgb(frame).shape == (3, 5, 7)
    assert [tuple(rgb(one).shape) for one in fields(frame)] == [(3, 3, 7), (3, 2, 7)]


def test_a_frame_without_colours() -> None:
    assert yuv(90, 128, 128).is_gray
    assert not yuv(90, 128, 129).is_gray
    gray = replace(yuv(90, 128, 128), planes=(np.full((4, 6), 90, np.uint8),), pixel_format="gray")
    assert torch.equal(rgb(gray), luma(gray).expand(3, -1, -1))
    picture = clips.picture(0, gray=True)
    assert Frame(planes=tuple(picture.transpose(2, 0, 1)), index=0, pixel_format="gbrp").is_gray


def test_the_hash_ignores_how_rows_lie_in_memory() -> None:
    wide = np.arange(80, dtype=np.uint16).reshape(8, 10)
    assert planes_sha256((wide[:, :5],)) == planes_sha256((wide[:, :5].copy(),))
    assert planes_sha256((wide.astype(">u2"),)) == planes_sha256((wide,))


def test_a_frame_as_a_picture() -> None:
    frame = yuv(255, 0, 255)
    picture = picture_of_frame(frame, (1, 2, 3, 2))
    assert torch.equal(picture.pixels, rgb(frame)[:, 2:4, 1:4].clamp(0, 1))
    assert picture.bits == 8
    gray = Frame((np.full((4, 6), 600, np.uint16),), 0, bits=10, pixel_format="gray10le")
    assert picture_of_frame(gray).pixels.shape == (1, 4, 6)
    assert picture_of_frame(gray).bits == 16
