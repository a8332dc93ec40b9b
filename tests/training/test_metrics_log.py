"""metrics.jsonl under other hands: what is no line of ours ends what is read of it."""

from pathlib import Path

import pytest

from zssr_gan.errors import OutputError
from zssr_gan.training.logs import MetricsLog


@pytest.mark.parametrize(
    "strange",
    [
        '{"step": "x"}',
        '{"step": null}',
        "[1]",
        '{"step": 2, "loss": NaN}',
        '{"step": 2, "loss": 1e999}',
        '{"step": 2, "loss": "low"}',
        '{"step": 2, "validation": 3}',
        '{"st',
        "\x00",
    ],
)
def test_cutting_back_keeps_what_stands_before_a_strange_line(tmp_path: Path, strange: str) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(1, {"loss": 0.5})
    with log.path.open("a") as file:
        file.write(strange + "\n")
    log.append(2, {"loss": 0.25})
    log.cut_back(2)
    assert log.path.read_text() == '{"step": 1, "loss": 0.5}\n'


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot be read"):
        MetricsLog(tmp_path / "metrics.jsonl").cut_back(0)
