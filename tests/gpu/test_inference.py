"""`enhance` on a GPU: the same bytes twice, whatever makes the pixels, and the CPU's picture."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

import zssr_gan
from tests.generators import written_generator
from tests.video import clips
from zssr_gan.cli.main import main
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.inference.verify import verify_record
from zssr_gan.settings.base import write_yaml
from zssr_gan.zeroshot import apply
from zssr_gan.zeroshot.fleet import Fleet, Member

Image = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def small_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in computes copies and black images on the CPU."""
    monkeypatch.setattr(apply, "_MOST_TOGETHER", 4)
    monkeypatch.setattr("zssr_gan.inference.enhance._MOST_NETWORKS", 4)


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


@pytest.mark.parametrize("init", ["scratch", "shared"])
def test_a_folder_is_learnt_from_together(
    init: str, preset: str, picture: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of one size share fleets and passes, and each has the bytes that it has alone, as its record says."""
    (tmp_path / "faces").mkdir()
    for n, shown in enumerate((picture, picture[::-1], picture[:, ::-1], picture[:12])):
        PIL.Image.fromarray(shown).save(tmp_path / "faces" / f"{n}.png")
    sizes, networks, real = list[int](), list[int](), Fleet.of.__func__  # type: ignore[attr-defined]

    def of(kind: type[Fleet], members: list[Member]) -> Fleet:
        sizes.append(len({member.request for member in members}))
        networks.append(len(members))
        return real(kind, members)  # type: ignore[no-any-return]

    monkeypatch.setattr(Fleet, "of", classmethod(of))
    words = ["--preset", preset, "--init", init, "--device", "cuda", "--precision", "fp32", "--degradation", "bicubic"]
    out = tmp_path / "out"
    assert main(["enhance", str(tmp_path / "faces"), "-o", str(out), *words]) == 0
    assert sizes == ([3, 1] if init == "scratch" else [])
    assert len(set(networks)) <= 1  # fleets of one size give an image the same bits, whoever shares them
    assert len(list(out.glob("*.png"))) == 4
    again = verify_record(out / "1_x2.json", rerun=True).checks[-1]
    assert again.ok, again.text


def test_a_video_gives_the_same_frames_twice(preset: str, tmp_path: Path) -> None:
    clips.write(tmp_path / "a.mp4")
    hashes = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.nut"
        words = ["-o", str(out), "--preset", preset, "--degradation", "bicubic", "--device", "cuda"]
        assert main(["enhance", str(tmp_path / "a.mp4"), *words, "--precision", "fp32"]) == 0
        hashes.append([frame["sha256"] for frame in json.loads(out.with_suffix(".json").read_text())["frames"]])
    assert len(hashes[0]) == 6
    assert hashes[0] == hashes[1]
