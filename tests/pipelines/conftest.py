"""What the tests of the stages share: the folder that one stands in, and less of what takes time."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from zssr_gan.evaluation import report, summary
from zssr_gan.training import run, validation


@pytest.fixture(autouse=True, scope="module")
def _less_work() -> Iterator[None]:
    """2 batches for a generator's statistics in place of 32, 100 resamples in place of 10,000, and no drawn curves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "_NORM_BATCHES", 2)
        patch.setattr(summary, "RESAMPLES", 100)
        patch.setattr(run, "curves_png", lambda *_: b"")
        patch.setattr(report, "charts_of", lambda *_: [])
        yield


@pytest.fixture
def config(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of the test module's folder `made`, in a copy of it that is the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.yaml"
