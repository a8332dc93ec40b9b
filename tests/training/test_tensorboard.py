"""Events for TensorBoard: what a line holds, and a run that goes on after a kill. Needs the extra `tensorboard`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zssr_gan.imaging.io import encode_png
from zssr_gan.imaging.picture import Metadata
from zssr_gan.training.tensorboard import Board

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder: Path) -> Any:
    return events.EventAccumulator(str(folder)).Reload()


def test_numbers_alone_are_shown(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.begin(0)
        board.line(3, {"phase": "adversarial", "who": "discriminator", "loss": 0.5, "accuracy": 0.75})
        board.line(4, {"phase": "adversarial", "validation": {"residual_db": 40, "accuracy": None, "warnings": ["x"]}})
    found = read(tmp_path)
    tags = {"discriminator/loss", "discriminator/accuracy", "validation/residual_db"}
    assert set(found.Tags()["scalars"]) == tags
    assert [(event.step, event.value) for event in found.Scalars("discriminator/accuracy")] == [(3, 0.75)]


def test_what_a_kill_left_is_void(tmp_path: Path) -> None:
    """Lines up to step 5, the checkpoint at 3: steps 4 and 5 come again, and nothing of before 4 is lost."""
    killed = Board(tmp_path)
    killed.begin(0)
    for step in range(1, 6):
        killed.line(step, {"who": "generator", "loss": float(step)})
    again = Board(tmp_path)  # the first one is never closed
    with again:
        again.begin(3)
        for step in range(4, 8):
            again.line(step, {"who": "generator", "loss": float(10 * step)})
    shown = [(event.step, event.value) for event in read(tmp_path).Scalars("generator/loss")]
    assert shown == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60), (7, 70)]


def test_a_sheet_is_shown_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Board(tmp_path) as board:
        board.begin(0)
        board.sheet(2, encode_png(pixels, Metadata(), {}))
    (shown,) = read(tmp_path).Images("samples")
    assert (shown.step, shown.width, shown.height) == (2, 7, 5)
    with Image.open(io.BytesIO(shown.encoded_image_string)) as picture:
        assert np.array_equal(np.asarray(picture), pixels)
