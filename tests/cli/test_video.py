"""`zssr-gan video` as a user meets it."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.video import clips
from zssr_gan.cli.main import app


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["video", *map(str, arguments)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [clips.picture(n) for n in (0, 1, 1, 2, 2, 2, 3)]
    return clips.write(tmp_path_factory.mktemp("clips") / "clip.mkv", "ffv1", pictures=pictures)


def test_info(clip: Path, tmp_path: Path) -> None:
    done = call("info", clip, "--frames", tmp_path / "frames.csv")
    assert done.exit_code == 0, done.output
    lines = {line[:22].strip(): line[22:] for line in done.stdout.splitlines()}
    assert lines["counted frames"] == "7"
    assert lines["PTS"] == "0 to 240"
    assert lines["sample aspect ratio"] == "not known"
    assert lines["repeated frames"] == "3: frames 2, 4 to 5 (frozen)"
    assert lines["corrupt frames"] == "none"
    with (tmp_path / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["pts"] for row in rows] == ["0", "40", "80", "120", "160", "200", "240"]
    assert [row["same_as"] for row in rows] == ["", "", "1", "", "3", "3", ""]
    again = call("info", clip, "--frames", tmp_path / "frames.csv")
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_info_as_json(clip: Path) -> None:
    found = json.loads(call("info", clip, "--json").stdout)
    assert found["time_base"] == "1/1000"
    assert found["counted"]["frames"] == 7
    assert found["counted"]["repeated"] == [[2, 2], [4, 5]]


def test_frames(clip: Path, tmp_path: Path) -> None:
    done = call("frames", clip, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'out'}: 7 stills and frames.csv\n"
    assert "frames that repeat the one before: 3: frames 2, 4 to 5 (frozen)" in " ".join(done.stderr.split())
    assert call("info", tmp_path / "out").exit_code == 0
    assert call("frames", clip, "-o", tmp_path / "out").exit_code == 1
    assert call("frames", clip, "-o", tmp_path / "out", "--overwrite", "--pixels", "luma").exit_code == 0


@pytest.mark.parametrize("aspect", ["640", "0x480", "ax480", "-1x2", "99999x480"])
def test_a_size_that_is_none(clip: Path, aspect: str, tmp_path: Path) -> None:
    done = call("frames", clip, "-o", tmp_path / "out", "--aspect", aspect)
    assert (done.exit_code, "such as 640x480" in done.stderr) == (2, True)


def test_track(clip: Path, tmp_path: Path) -> None:
    words = ["track", clip, "--region", "20,10,24,24", "--frame", "1", "-o", tmp_path / "t.json"]
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{tmp_path / 't.json'}: 4 frames, 0 to 6, standard error 0.")
    assert "3 frames between are not to be used" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"t.json", "t.png"}
    assert call(*words).exit_code == 1
    for change, text in (
        (["--region", "20,10,24"], "is not four whole numbers"),
        (["--region", "50,10,24,24"], "reaches beyond the picture"),
        (["--frame", "7"], "its frames are 0 to 6"),
        (["--corners", "0,0,9,9,9,0,0,9"], "convex quadrilateral"),
        (["-o", tmp_path / "t.csv"], "a track is a .json file"),
    ):
        wrong = call(*words, "--overwrite", *change)
        assert (wrong.exit_code, text in " ".join(wrong.stderr.split())) == (2, True), wrong.stderr


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    for arguments in (
        ["info"],
        ["frames", "-o", tmp_path / "out"],
        ["track", "--region", "0,0,20,20", "--frame", "0", "-o", tmp_path / "t.json"],
    ):
        done = call(*arguments, tmp_path / "a.mp4")
        assert done.exit_code == 1
        assert done.stderr.startswith(f"error: {tmp_path / 'a.mp4'}: ")
        assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]
