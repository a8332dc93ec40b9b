import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from zssr_gan.web.calibration import Point, expected, measure_next, measured


def endless(_argv: Sequence[str]) -> int:
    while True:
        time.sleep(1)


def test_methods_are_measured_one_at_a_time_until_all_are(tmp_path: Path) -> None:
    given: list[list[str]] = []

    def main(argv: Sequence[str]) -> int:  # in a child
        assert all(Path(name).is_file() for name in argv[1 : argv.index("-o")])
        time.sleep(0.1)
        return 0

    while measure_next(tmp_path, main, {}, lambda: False):
        given.append([one.method for one in measured(tmp_path)])
    assert given[-1] == [
        *("fast x2", "fast x2", "none x2", "fast x2", "quality x2", "fast x4", "fast x3", "own x2", "fast x2"),
        *("none x2", "fast x2"),
    ]
    assert [len(one) for one in given] == [*range(1, 12)]
    assert all(one.seconds >= 0.1 for one in measured(tmp_path))


def test_work_that_comes_ends_the_measurement(tmp_path: Path) -> None:
    began = time.monotonic()
    assert not measure_next(tmp_path, endless, {}, lambda: time.monotonic() > began + 0.2)
    assert measured(tmp_path) == []
    assert not measure_next(tmp_path, lambda _: 1, {}, lambda: False)
    assert measured(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{}", "[7]", '{"0.1.0": [[1]]}'])
def test_a_broken_file_is_measured_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "measured.json").write_text(content)
    assert measured(tmp_path) == []


def test_times_come_from_the_most_alike_measurements() -> None:
    points = [
        Point("enhance", "fast", 1, 10_000, 8),
        Point("enhance", "fast", 1, 30_000, 12),
        Point("enhance", "fast", 100, 1_000_000, 200),
    ]
    points += [Point("enhance", "fast", 1, 10_000, 80), Point("enhance", "quality", 1, 10_000, 50)]
    assert expected(points, "enhance", "fast", 1, 10_000) == 8  # the newest
    assert expected(points, "enhance", "fast", 1, 20_000) == 10
    assert expected(points, "enhance", "fast", 1, 5000) == 8
    assert expected(points, "enhance", "fast", 1, 60_000) == 24
    assert expected(points, "enhance", "fast", 2, 40_000) == 20
    assert expected(points, "enhance", "fast", 50, 500_000) == 100
    assert expected(points, "enhance", "quality", 1, 10_000) == 50
    assert expected(points, "enhance", "paper", 1, 10_000) is None
    assert expected(points, "enhance", "fast", 0, 0) is None


def test_one_network_for_all_counts_once() -> None:
    points = [Point("enhance", "fast x2", 1, 1024, 10), Point("enhance", "fast x2", 8, 8 * 1024, 40)]
    points += [Point("video", "fast x2", 8, 8 * 2304, 30), Point("fuse", "none x2", 5, 5 * 1024, 20)]
    assert expected(points, "enhance", "fast x2", 2, 2048) == 20
    assert expected(points, "enhance", "fast x2", 8, 8 * 900) == 40
    assert expected(points, "enhance", "fast x2", 24, 24 * 1024) == 120  # and not 24 networks' 240
    assert expected(points, "enhance", "fast x2", 24, 24 * 128**2) == 24 * 160  # too large to be learnt from together
    assert expected(points, "video", "fast x2", 4, 4 * 2304) == pytest.approx(30)
    assert expected(points, "fuse", "none x2", 10, 10 * 1024) == pytest.approx(40)
    assert expected(points, "fuse", "own x2", 10, 10 * 1024) is None


def test_what_all_frames_need_once_counts_once() -> None:
    points = [Point("fuse", "none x2", 20, 20_000, 20), Point("fuse", "none x2", 5, 5000, 10)]
    points += [Point("fuse", "none x2", 20, 20_000, 99), Point("fuse", "none x3", 5, 5000, 70)]
    assert expected(points, "fuse", "none x2", 20, 20_000) == pytest.approx(20)  # the newest
    assert expected(points, "fuse", "none x2", 11, 11_000) == pytest.approx(14)
    assert expected(points, "fuse", "none x2", 2, 2000) == pytest.approx(10)
    assert expected(points, "fuse", "none x2", 80, 80_000) == pytest.approx(60)  # and not 80, four times the 20
    assert expected(points, "fuse", "none x2", 11, 44_000) == pytest.approx(56)  # four times as many pixels a frame
    assert expected(points, "fuse", "none x3", 10, 10_000) == pytest.approx(140)  # one number of frames tells no more
    points.append(Point("fuse", "none x2", 10, 40_000, 100))
    assert expected(points, "fuse", "none x2", 10, 40_000) == pytest.approx(100)  # of frames of this size
    assert expected(points, "fuse", "none x2", 20, 80_000) == pytest.approx(100 * 20 / (10 + 10 / 3))
    assert expected(points, "video", "fast x2", 10, 10_000) is None
    assert expected(points, "fuse", "none x2", 0, 0) is None
