"""The notice at the end of a training: what a command is given, and that whatever it does harms no training."""

import json
import math
import sys
from pathlib import Path

import pytest

from zssr_gan.cli.notify import Notice, notify, parse_command
from zssr_gan.errors import SettingsError

NOTICE = Notice(
    "stopped_early", "runs/mine", 1200, 75.04, {"truth_db": 31.25, "loss": 0.0125, "warnings": [], "accuracy": None}
)


def script(folder: Path, text: str) -> list[str]:
    path = folder / "command.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def received(folder: Path, notice: Notice) -> tuple[str, dict[str, str], list[str]]:
    """Standard input, variables and arguments of a command that is run for a notice."""
    out = folder / "out.json"
    command = script(
        folder,
        "import json, os, sys\n"
        "own = {k: v for k, v in os.environ.items() if k.startswith('ZSSR_GAN_')}\n"
        f"json.dump([sys.stdin.read(), own, sys.argv[1:]], open({str(out)!r}, 'w'))\n",
    )
    notify([*command, "a b", "$HOME;exit"], notice, pytest.fail)
    text, variables, words = json.loads(out.read_text())
    return text, variables, words


def test_figures_come_as_json_and_as_variables(tmp_path: Path) -> None:
    text, variables, words = received(tmp_path, NOTICE)
    own = {"status": "stopped_early", "run": "runs/mine", "step": 1200, "seconds": 75.0, "error": None}
    assert json.loads(text) == own | {"validation_truth_db": 31.25, "validation_loss": 0.0125}
    assert (variables["ZSSR_GAN_STATUS"], variables["ZSSR_GAN_VALIDATION_LOSS"]) == ("stopped_early", "0.0125")
    assert "ZSSR_GAN_ERROR" not in variables
    assert words == ["a b", "$HOME;exit"]  # no shell reads them


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    diverged = Notice("failed", "runs/mine", 3, 1.0, {"loss": math.nan, "truth_db": -math.inf}, "diverged")
    text, variables, _ = received(tmp_path, diverged)
    figures = json.loads(text, parse_constant=pytest.fail)
    assert (figures["validation_loss"], figures["validation_truth_db"]) == (None, None)
    assert "ZSSR_GAN_VALIDATION_LOSS" not in variables


def test_the_line() -> None:
    assert NOTICE.line == "stopped early: validation loss 0.0125, 31.25 dB, 1,200 steps, 1:15"
    assert Notice("done", "runs/mine", None, 3.0, {}).line == "done: 0:03"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; print('no mail', file=sys.stderr); sys.exit(3)", "ended with 3 (no mail)"),
        (
            r"import sys; sys.stderr.buffer.write(b'kein Gr\xfc\xdfen\n'); sys.exit(3)",
            "ended with 3 (kein Gr\N{REPLACEMENT CHARACTER}",
        ),
        ("import time; time.sleep(60)", "took more than 0.5 seconds and was ended"),
    ],
)
def test_what_goes_wrong_is_a_warning(tmp_path: Path, text: str, words: str) -> None:
    warnings: list[str] = []
    notify(script(tmp_path, text), NOTICE, warnings.append, seconds=0.5 if "sleep" in text else 60)
    assert len(warnings) == 1
    assert words in warnings[0]


def test_a_command_that_went_away(tmp_path: Path) -> None:
    warnings: list[str] = []
    notify([str(tmp_path / "gone")], NOTICE, warnings.append)
    assert "cannot be started (No such file or directory)" in warnings[0]


def test_one_that_cannot_be_run_is_known_before() -> None:
    assert parse_command("true 'a b'") == ["true", "a b"]
    for text, words in (("'half", "cannot be read as a command"), ("", "is empty"), ("no-such-thing x", "no command")):
        with pytest.raises(SettingsError, match=words):
            parse_command(text)
