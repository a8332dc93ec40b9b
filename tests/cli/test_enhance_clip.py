"""`zssr-gan enhance` of a video, as it is typed."""

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.video import clips
from zssr_gan.cli.main import app
from zssr_gan.video.io import open_video

PRESET = """
network: {grid: lr, depth: 2, width: 8, bias: true, residual: false, initial: lecun}
schedule: {kind: cosine, lr: 0.002, iterations: 10}
shared:
  pairs: {crop: 16, batch: 2}
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(PRESET)
    clips.write(Path("a.mp4"), options={**clips.X264, "flags": "+ildct"}, field="tff")
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["enhance", *words])
    return done.exit_code, " ".join(done.output.split())


def test_fields_are_frames_of_their_own(desk: Path) -> None:
    code, text = run("a.mp4", "--preset", "tiny.yaml", "--degradation", "bicubic", "--json")
    assert code == 0
    record = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert [frame["field"] for frame in record["frames"]] == ["top", "bottom"] * 6
    assert "parted into 12 fields" in " ".join(record["notices"])
    with open_video(desk / "a_x2.nut") as video:
        frames = list(video.frames)
    assert {frame.planes[0].shape for frame in frames} == {(48, 128)}
    assert [frame.pts * frame.time_base * 25600 for frame in frames] == [512 * n for n in range(12)]
    assert run("a.mp4", "--preset", "tiny.yaml", "--skip-existing")[0] == 0
    code, text = run("a.mp4", "--preset", "tiny.yaml")
    assert (code, "exists already" in text) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["a.mp4", "-o", "out.png"], 2, "a video is written as .nut"),
        (["a.mp4", "-o", "out.mp4"], 2, "a video is written as .nut"),
        (["a.mp4", "a.mp4", "-o", "out.nut"], 2, "a video is enhanced alone"),
        (["a.mp4", "--evidence", "--suffix", "_big"], 2, "--evidence, --suffix: for images alone"),
        (["a.mp4", "--init", "scratch", "-o", "out.nut"], 2, "leave --init scratch out"),
        (["a.mp4", "--region", "50,0,20,20", "-o", "out.nut"], 2, "reaches beyond the picture"),
        (["a.mp4", "--pixel-format", "rgb24", "-o", "out.nut"], 2, "--pixel-format rgb24"),
        (["tiny.yaml", "-o", "out.nut"], 1, "no video of a kind"),
        (["none.mp4", "-o", "out.nut"], 1, "no such file"),
        (["a.mp4", "--track", "tiny.yaml", "-o", "out.nut"], 1, "tiny.yaml"),
    ],
)
def test_one_sentence_each(desk: Path, words: list[str], code: int, sentence: str) -> None:
    before = {path.name for path in desk.iterdir()}
    found, text = run(*words, "--preset", "tiny.yaml", "--degradation", "bicubic")
    assert (found, sentence in text) == (code, True), text
    assert {path.name for path in desk.iterdir()} == before


@pytest.mark.usefixtures("desk")
def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    code, text = run("a.mp4", "-o", "out.nut")
    assert (code, "pip install 'zssr-gan[video]'" in text) == (1, True)
