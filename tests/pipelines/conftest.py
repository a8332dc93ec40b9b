"""The folder that a test of a stage stands in."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def config(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of the test module's folder `made`, in a copy of it that is the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.yaml"
