"""What a person sees: facts of a step in words, names that cannot confuse a terminal, lines of 40 columns."""

import io
import json
import math
import subprocess
import sys

import pytest
from rich.console import Console

from zssr_gan import progress
from zssr_gan.progress import Bar, Progress, duration, escape_unencodable_output, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b ä.png", "a b ä.png"), ("a\x1b[2J\n.png", "a\\x1b[2J\\n.png"), ("a\udcff.png", "a\\udcff.png")],
)
def test_names_are_safe_to_print(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode("utf-8")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3600, "1:00:00")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_few_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(2) as bar:
        bar.start(0, "a.png")
        for iteration in range(1, 14):
            clock[0] += 1
            bar.step(Progress("training", iteration, 20, 0.01234, 1e-3))
    assert capsys.readouterr().err.splitlines() == [
        "1/2 a.png",
        "training: 5/20, loss 0.0123, lr 1e-03, 0:15 left",
        "training: 10/20, loss 0.0123, lr 1e-03, 0:10 left",
    ]


def test_a_restart_begins_to_count_anew(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        for iteration in [*range(1, 101), *range(1, 11)]:
            clock[0] += 1
            bar.update("training", iteration, 100)
        clock[0] += 5
        bar.update("training", 15, 100)
    # Since the restart 14 iterations took 14 s; 85 remain.
    assert capsys.readouterr().err.splitlines()[-1] == "training: 15/100, 1:25 left"


def test_a_resumed_run_goes_by_its_own_pace(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        bar.update("training", 9_000, 10_000)
        clock[0] += 60
        bar.update("training", 9_100, 10_000, "loss 1", images=3)
    # 100 steps took a minute, so the 900 that are left take nine, and not a fraction of a second.
    assert capsys.readouterr().err == "training: 9,100/10,000, loss 1, 5 images/s, 9:00 left\n"


def test_stages_that_do_not_train_have_no_loss(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        clock[0] += 9
        bar.step(Progress("ensemble", 3, 8, math.nan, 0.0))
    assert capsys.readouterr().err == "ensemble: 3/8\n"


def test_quiet_reports_nothing_of_its_own(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(2, quiet=True) as bar:
        bar.start(0, "a.png")
        clock[0] += 9
        bar.update("training", 3, 8)
        bar.info("information")
        bar.note("failed: x")
    assert capsys.readouterr().err == "failed: x\n"


def test_the_live_bar_is_readable_at_40_columns(clock: list[float]) -> None:
    bar = Bar(12)
    bar.start(10, "a/very/long/folder/with/an/image/of/a/long/name.png")
    for iteration in (1, 12000):
        clock[0] += 3600
        bar.step(Progress("learning from the picture, step 2 of 4", iteration, 30000, 0.01234, 1e-3))
    output = io.StringIO()
    bar.console = Console(width=40, file=output, force_terminal=True, color_system=None)
    bar.console.print(bar._render())
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    stage = "learning from the picture, step 2 of 4"
    for fact in ("image 11 of 12", stage, "12,000/30,000", "loss 0.0123", "lr 1e-03", "left"):
        assert any(fact in line for line in lines), fact


def test_a_narrow_encoding_is_no_error() -> None:
    code = "from zssr_gan.progress import Bar\nbar = Bar()\nbar.result('ä 中')\nbar.note('ö 中')"
    environment = {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.decode("cp1252") == "ä \\u4e2d\n"
    assert done.stderr.decode("cp1252").startswith("ö ")


@pytest.mark.parametrize(("encoding", "euro"), [("cp1252", "€"), ("latin-1", "\\u20ac"), ("ascii", "\\u20ac")])
def test_what_an_encoding_lacks_is_written_as_an_escape(
    encoding: str, euro: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict"))
    escape_unencodable_output()
    for stream in (sys.stdout, sys.stderr):
        print("日 €\udcff", file=stream, flush=True)
        assert isinstance(stream, io.TextIOWrapper)
        assert stream.buffer.getvalue().decode(encoding) == f"\\u65e5 {euro}\\udcff\n"  # type: ignore[attr-defined]


def test_the_live_bar_fits_in_a_narrow_encoding() -> None:
    raw = io.BytesIO()
    bar = Bar(quiet=True)
    bar.console = Console(
        file=io.TextIOWrapper(raw, encoding="ascii"), width=40, force_terminal=True, color_system=None
    )
    bar.start(0, "日本" * 30)
    bar.console.print(bar._render())
    bar.console.file.flush()
    assert max(map(len, raw.getvalue().decode("ascii").splitlines())) <= 40


def test_programs_read_a_json_object_a_line(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSSR_GAN_PROGRESS", "json")
    with Bar(2) as bar:
        for place, name in enumerate(("a.png", "b\n.png")):
            bar.start(place, name)
            for iteration in range(1, 101):
                clock[0] += 0.02
                bar.step(Progress("training", iteration, 100, 0.01234, 1e-3))
        bar.note("a note", "red")
        bar.result("b_x2.png: done")
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in err.splitlines()]
    assert out == "b_x2.png: done\n"
    assert lines[0] == {
        **{"image": 1, "images": 2, "name": "a.png", "stage": "", "done": 0, "total": None, "detail": ""},
        "left_s": None,
    }
    assert lines[-1] == {"note": "a note", "style": "red"}
    of_b = [line for line in lines if line.get("image") == 2 and line["stage"]]
    assert (of_b[-1]["done"], of_b[-1]["total"], of_b[-1]["name"]) == (100, 100, "b\\n.png")
    assert 9 <= len(of_b) <= 12  # 2 s, five a second
    assert of_b[-1]["left_s"] == pytest.approx(0, abs=0.1)  # as long as a.png took
    assert of_b[len(of_b) // 2]["left_s"] == pytest.approx(1, abs=0.3)


def test_work_before_the_first_image_is_not_taken_for_an_images(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSSR_GAN_PROGRESS", "json")
    with Bar(24) as bar:
        bar.start(0, "24 images")
        clock[0] += 180
        bar.update("learning on the case", 100, 100)
        for place in range(3):
            bar.start(place, f"{place}.png")
            clock[0] += 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[-1]["image"] == 3
    assert lines[-1]["left_s"] == pytest.approx(22)
