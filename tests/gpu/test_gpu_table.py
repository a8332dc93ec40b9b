"""The table of a GPU machine runs whole, on small sizes."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_table
from tests.gpu.conftest import STANDIN

PARTS = ["machine", "right", "repeats", "waits", "fleets", "stage1", "set"]


def test_every_part_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gpu_table", "--tiny", "--only", ",".join(PARTS)])
    gpu_table.main()
    rows = {row["what"]: row for row in json.loads((tmp_path / "gpu_table.json").read_text("utf-8"))}
    assert "failed" not in rows
    assert rows["uniform draws are the CPU's bits"]["value"] is True
    assert all(row["value"] is True for row in rows.values() if row["part"] == "repeats")
    waits = [row["value"] for row in rows.values() if row["part"] == "waits"]
    assert waits == ([0.0] * 2 if STANDIN is None else [None] * 2)  # which the stand-in counts in other tests
    assert {row["part"] for row in rows.values()} == set(PARTS)


def test_an_unknown_part_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_table", "--tiny", "--only", "right,typo"])
    with pytest.raises(SystemExit):
        gpu_table.main()
    assert "there is no part typo; there are machine, right" in capsys.readouterr().err
