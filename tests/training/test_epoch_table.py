"""The table by epochs: what metrics.jsonl holds of each, and no column that nothing stands in."""

import csv
import io

from zssr_gan.training.logs import epoch_rows, epochs_csv, epochs_markdown

LINES = [
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
    rows = list(csv.DictReader(io.StringIO(epochs_csv(epoch_rows(LINES)).decode())))
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
    text = epochs_markdown(epoch_rows(LINES)).decode().splitlines()
    assert text[0].startswith(
        "| epoch | step | phase | G loss | D loss | D loss, real | D loss, fake | validation loss"
    )
    assert text[2] == "| 1 | 3 | pretrain | 0.1235 | none | none | none | none | none | 0.001 |"
    first = epochs_markdown(epoch_rows(LINES[:2])).decode().splitlines()
    assert first[0] == "| epoch | step | phase | G loss | rate |"
