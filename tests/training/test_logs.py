"""The log of a training: its lines, its table by epochs, and its curves."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from zssr_gan.errors import OutputError
from zssr_gan.training.logs import MetricsLog, curves_png, epoch_rows, epochs_csv, epochs_markdown

LINES: list[dict[str, Any]] = [
    {"step": 1, "phase": "pretrain", "who": "generator", "pixel": 0.5, "loss": 0.5, "gradient": 1.0},
    {"step": 2, "phase": "adversarial", "who": "discriminator", "loss": 1.4, "accuracy": 0.0, "gradient": 1.0},
    {
        **{"step": 3, "phase": "adversarial", "who": "generator"},
        **{"pixel": 0.0, "adversarial": 0.7, "loss": 0.0007, "gradient": 1.0},
    },
    {"step": 3, "phase": "adversarial", "validation": {"synthetic_db": 0.0, "bicubic_db": 30.0, "residual_db": 40.0}},
]


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Points of each curve by its label, by the label of its panel."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    finish = Axes.set_ylabel

    def labelled(axes: Axes, label: str, **style: Any) -> Any:
        found[label] = {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}  # type: ignore[arg-type]
        return finish(axes, label, **style)

    monkeypatch.setattr(Axes, "set_ylabel", labelled)
    assert curves_png(LINES, "a title").startswith(b"\x89PNG")
    return found


def test_zeros_are_drawn(panels: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    assert panels["generator: losses, unweighted"]["pixel"] == [(1, 0.5), (3, 0.0)]
    assert panels["discriminator: accuracy"] == {"classified rightly": [(2, 0.0)]}
    assert panels["validation: PSNR, dB"]["to the synthetic HR"] == [(3, 0.0)]


def test_the_sum_is_told_from_the_losses(panels: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    generator = panels["generator: losses, unweighted"]
    assert generator.keys() == {"pixel", "adversarial", "weighted sum"}
    assert generator["weighted sum"] == [(1, 0.5), (3, 0.0007)]
    assert panels["discriminator: loss"] == {"loss": [(2, 1.4)]}


def test_a_training_that_logged_nothing() -> None:
    assert curves_png([], "a title").startswith(b"\x89PNG")


EPOCHS = [
    {"step": 3, "phase": "pretrain", "who": "generator", "loss": 9.0},
    {
        "step": 3,
        "phase": "pretrain",
        "epoch": {"number": 1, "rate": 0.001, "generator": {"loss": 0.123456, "pixel": 0.1}, "validation": None},
    },
    {
        "step": 9,
        "phase": "adversarial",
        "epoch": {
            **{"number": 2, "rate": 0.0005, "generator": {"loss": 0.1}},
            "discriminator": {"loss": 1.3, "real": 0.6, "fake": 0.7, "accuracy": 0.5},
            "validation": {"truth_db": 30.5, "loss": 0.02},
        },
    },
]


def test_a_row_an_epoch() -> None:
    rows = list(csv.DictReader(io.StringIO(epochs_csv(epoch_rows(EPOCHS)).decode())))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0]["generator"] == "0.123456"
    assert (rows[0]["discriminator"], rows[0]["validation_db"]) == ("", "")
    assert (rows[1]["real"], rows[1]["fake"], rows[1]["validation_db"], rows[1]["rate"]) == (
        "0.6",
        "0.7",
        "30.5",
        "0.0005",
    )


def test_markdown_has_the_columns_that_are_filled() -> None:
    text = epochs_markdown(epoch_rows(EPOCHS)).decode().splitlines()
    assert text[0].startswith(
        "| epoch | step | phase | G loss | D loss | D loss, real | D loss, fake | validation loss"
    )
    assert text[2] == "| 1 | 3 | pretrain | 0.1235 | none | none | none | none | none | 0.001 |"
    first = epochs_markdown(epoch_rows(EPOCHS[:2])).decode().splitlines()
    assert first[0] == "| epoch | step | phase | G loss | rate |"


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
