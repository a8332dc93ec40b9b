"""What a person sees: facts of a step in words, names that cannot confuse a terminal, lines of 40 columns."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from zssr_gan import progress
from zssr_gan.progress import Display, Progress, duration, printable


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
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_few_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Display(2) as shown:
        shown.start(0, "a.png")
        for iteration in range(1, 14):
            clock[0] += 1
            shown.update(Progress("training", iteration, 20, 0.01234, 1e-3))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "1/2 a.png",
        "  training 5/20, loss 0.0123, lr 1e-03, 0:15 left",
        "  training 10/20, loss 0.0123, lr 1e-03, 0:10 left",
    ]


def test_a_restart_begins_to_count_anew(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as shown:
        shown.start(0, "a.png")
        for iteration in [*range(1, 101), *range(1, 11)]:
            clock[0] += 1
            shown.update(Progress("training", iteration, 100, 0.1, 1e-3))
    clock[0] += 5
    shown.update(Progress("training", 15, 100, 0.1, 1e-3))
    # Since the restart 14 iterations took 14 s; 85 remain.
    assert capsys.readouterr().err.splitlines()[-1].endswith("1:25 left")


def test_stages_that_do_not_train_have_no_loss(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as shown:
        shown.start(0, "a.png")
        clock[0] += 9
        shown.update(Progress("ensemble", 3, 8, float("nan"), 0.0))
    assert capsys.readouterr().err == "  ensemble 3/8\n"


def test_quiet_says_nothing_of_its_own(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Display(2, quiet=True) as shown:
        shown.start(0, "a.png")
        clock[0] += 9
        shown.update(Progress("training", 3, 8, 0.1, 1e-3))
    assert capsys.readouterr().err == ""


def test_the_live_bar_is_readable_at_40_columns(clock: list[float]) -> None:
    shown = Display(12)
    shown.start(10, "a/very/long/folder/with/an/image/of/a/long/name.png")
    for iteration in (1, 12000):
        clock[0] += 3600
        shown.update(Progress("step 1/2, sub-step 2/3: training", iteration, 30000, 0.01234, 1e-3))
    narrow = shown.console = Console(width=40, file=io.StringIO(), force_terminal=True, color_system=None)
    narrow.print(shown._render())
    output = narrow.file
    assert isinstance(output, io.StringIO)
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    for fact in (
        "image 11 of 12",
        "step 1/2, sub-step 2/3: training",
        "12000/30000",
        "loss 0.0123",
        "lr 1e-03",
        "left",
    ):
        assert any(fact in line for line in lines), fact
