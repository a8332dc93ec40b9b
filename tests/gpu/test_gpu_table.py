"""The table of a GPU machine runs whole, on small sizes."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_table


def test_every_part_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gpu_table", "--tiny", "--only", "machine,right,repeats,waits,fleets,stage1"])
    gpu_table.main()
    rows = {row["what"]: row for row in json.loads((tmp_path / "gpu_table.json").read_text("utf-8"))}
    assert "failed" not in rows
    assert rows["uniform draws are the CPU's bits"]["value"] is True
    assert all(row["value"] is True for row in rows.values() if row["part"] == "repeats")
    assert all(row["value"] == 0 for row in rows.values() if row["part"] == "waits")
    assert {row["part"] for row in rows.values()} == {"machine", "right", "repeats", "waits", "fleets", "stage1"}
