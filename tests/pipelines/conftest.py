"""What the tests of the stages share: the folder that one stands in, and less of what takes time."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines import synth
from zssr_gan.data import cameras
from zssr_gan.evaluation import report, summary
from zssr_gan.imaging.sheets import encode_sheet
from zssr_gan.training import run, validation

_BLANK = encode_sheet(torch.ones(3, 8, 8), "degradation")
_DRAWINGS = {
    **{(run, "curves_png"): _BLANK, (cameras, "_picture"): _BLANK},
    **{(report, "charts_of"): [], (synth, "draw_pictures"): []},
}
_REAL = {(module, name): getattr(module, name) for module, name in _DRAWINGS}


@pytest.fixture(autouse=True, scope="module")
def _less_work() -> Iterator[None]:
    """2 batches for a generator's statistics in place of 32, 100 resamples in place of 10,000, and no drawings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "_NORM_BATCHES", 2)
        patch.setattr(summary, "RESAMPLES", 100)
        for (module, name), nothing in _DRAWINGS.items():
            patch.setattr(module, name, lambda *_, nothing=nothing: nothing)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage draws what it draws for a user."""
    for (module, name), real in _REAL.items():
        monkeypatch.setattr(module, name, real)


@pytest.fixture
def config(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of the test module's folder `made`, in a copy of it that is the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.yaml"
