"""The table of a training by epochs, out of metrics.jsonl: mean losses of both networks, validation, rate."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

HEADS = {
    "epoch": "epoch",
    "step": "step",
    "phase": "phase",
    "generator": "G loss",
    "discriminator": "D loss",
    "real": "D loss, real",
    "fake": "D loss, fake",
    "validation_loss": "validation loss",
    "validation_db": "validation PSNR, dB",
    "rate": "rate",
}
"""Columns by name: losses are means over the epoch, all weighted terms together; the rate is the generator's in the
epoch's last step."""


def epoch_rows(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row an epoch, by the names in `HEADS`; None where there is no value. `lines`: those of metrics.jsonl."""
    rows = []
    for line in lines:
        if (epoch := line.get("epoch")) is None:
            continue
        theirs, checked = epoch.get("discriminator") or {}, epoch.get("validation") or {}
        rows.append(
            {
                "epoch": epoch["number"],
                "step": line["step"],
                "phase": line["phase"],
                "generator": (epoch.get("generator") or {}).get("loss"),
                "discriminator": theirs.get("loss"),
                "real": theirs.get("real"),
                "fake": theirs.get("fake"),
                "validation_loss": checked.get("loss"),
                "validation_db": checked.get("truth_db", checked.get("synthetic_db")),
                "rate": epoch["rate"],
            }
        )
    return rows


def epochs_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """In full digits; what has no value is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(HEADS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def epochs_markdown(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """With four digits; columns that have no value anywhere are left out."""
    names = [name for name in HEADS if any(row[name] is not None for row in rows)]
    cells = [[HEADS[name] for name in names], ["---"] * len(names)]
    cells += [[_short(row[name]) for name in names] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells).encode()


def _short(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
