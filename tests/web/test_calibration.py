import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from zssr_gan.web.calibration import Point, expected, measure_next, measured


def slow(_argv: Sequence[str]) -> int:
    time.sleep(20)
    return 0


def test_methods_are_measured_one_at_a_time_until_all_are(tmp_path: Path) -> None:
    given: list[list[str]] = []

    def main(argv: Sequence[str]) -> int:  # in a child
        assert Path(argv[1]).is_file()
        time.sleep(0.1)
        return 0

    while measure_next(tmp_path, main, {}, lambda: False):
        given.append([one.method for one in measured(tmp_path)])
    assert given[-1] == ["fast x2", "fast x2", "quality x2", "fast x4", "fast x3"]
    assert [len(one) for one in given] == [1, 2, 3, 4, 5]
    assert all(0.1 <= one.seconds < 2 for one in measured(tmp_path))


def test_work_that_comes_ends_the_measurement(tmp_path: Path) -> None:
    began = time.monotonic()
    assert not measure_next(tmp_path, slow, {}, lambda: time.monotonic() > began + 0.2)
    assert time.monotonic() - began < 2
    assert measured(tmp_path) == []
    assert not measure_next(tmp_path, lambda _: 1, {}, lambda: False)
    assert measured(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{}", "[7]", '{"0.1.0": [[1]]}'])
def test_a_broken_file_is_measured_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "measured.json").write_text(content)
    assert measured(tmp_path) == []


def test_times_come_from_the_most_alike_measurements() -> None:
    points = [Point("fast", 1, 1000, 8), Point("fast", 1, 3000, 12), Point("fast", 100, 100_000, 200)]
    points += [Point("fast", 1, 1000, 80), Point("quality", 1, 1000, 50)]
    assert expected(points, "fast", 1, 1000) == 8  # the newest
    assert expected(points, "fast", 1, 2000) == 10
    assert expected(points, "fast", 1, 500) == 8
    assert expected(points, "fast", 1, 6000) == 24
    assert expected(points, "fast", 2, 4000) == 20
    assert expected(points, "fast", 50, 50_000) == 100
    assert expected(points, "quality", 1, 1000) == 50
    assert expected(points, "paper", 1, 1000) is None
    assert expected(points, "fast", 0, 0) is None
