"""`enhance` on a GPU: the same bytes twice, whatever makes the pixels, and the CPU's picture."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import zssr_gan
from tests.generators import written_generator
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.settings.base import write_yaml

Image = NDArray[np.uint8]


@pytest.fixture
def preset(tmp_path: Path) -> str:
    """A small network that learns for 30 iterations."""
    groups = {
        "network": {"depth": 3, "width": 8, "initial": "lecun"},
        "pairs": {"crop": 12, "batch": 2, "affine": 0.5},
        "schedule": {"kind": "cosine", "lr": 0.005, "iterations": 30},
    }
    (tmp_path / "small.yaml").write_text(write_yaml(groups), "utf-8")
    return str(tmp_path / "small.yaml")


@pytest.fixture
def picture() -> Image:
    rows, columns = np.mgrid[:14, :18]
    planes = [127 + 100 * np.sin(rows / a + columns / b) for a, b in ((2, 3), (4, 2), (3, 5))]
    return np.stack(planes, -1).round().astype(np.uint8)


def enhanced(picture: Image, device: str, **options: object) -> Image:
    made: Image = zssr_gan.enhance(picture, seed=0, device=device, precision="fp32", threads=1, **options)
    return made


@pytest.mark.parametrize("assumed", ["bicubic", "degradation"])
@pytest.mark.parametrize("colours", [True, False], ids=["RGB", "gray"])
def test_the_same_bytes_twice(colours: bool, assumed: str, preset: str, picture: Image) -> None:
    blurred = Degradation(
        blur=GaussianBlur(sigma_major=0.8, sigma_minor=0.5, angle_degrees=30), noise=Noise(sigma=0.01)
    )
    degradation = "bicubic" if assumed == "bicubic" else blurred
    given = picture if colours else picture[..., 0].copy()
    first, again, here = (
        enhanced(given, device, preset=preset, degradation=degradation) for device in ("cuda", "cuda", "cpu")
    )
    assert np.array_equal(first, again)
    assert first.std() > 10
    assert np.abs(first.astype(int) - here.astype(int)).max() <= 2


def test_a_generator(picture: Image, tmp_path: Path) -> None:
    model = written_generator(tmp_path)
    first, again, here = (enhanced(picture, device, model=model) for device in ("cuda", "cuda", "cpu"))
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - here.astype(int)).max() <= 1
