"""`zssr-gan degradation` as a user meets it: files, exit codes, and what is shown of an estimate."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data
from typer.testing import CliRunner, Result

from zssr_gan import progress
from zssr_gan.cli import degradation
from zssr_gan.cli.main import app
from zssr_gan.degradation import estimator
from zssr_gan.degradation import estimator as estimating
from zssr_gan.degradation.estimate import Estimate, encode_estimate, read_estimate
from zssr_gan.degradation.model import Degradation
from zssr_gan.degradation.plot import picture_path
from zssr_gan.files import sha256_file
from zssr_gan.inference.case import CaseFiles
from zssr_gan.provenance import is_ours
from zssr_gan.zeroshot import case as learning

pytestmark = pytest.mark.usefixtures("quick_estimates")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["degradation", *map(str, arguments)])


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces blurred more in the height than in the width, one in a subfolder, and a file that is no image."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "deep").mkdir()
    for number, face in enumerate(data.lfw_subset()[:16]):
        small = np.round(gaussian_filter(face, (1.4, 0.5))[:24, :24] * 255).astype(np.uint8)
        Image.fromarray(small).save(folder / ("deep" if number == 15 else "") / f"{number:02}.png")
    (folder / "bad.png").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def case(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    path = tmp_path_factory.mktemp("case") / "case.json"
    return path, call("estimate", faces, "-o", path)


def test_an_estimate_and_its_picture_are_written(faces: Path, case: tuple[Path, Result]) -> None:
    path, done = case
    assert done.exit_code == 1  # bad.png
    assert f"failed: {faces / 'bad.png'}" in done.stderr
    found = read_estimate(path)
    assert {image.name: image.sha256 for image in found.images} == {
        f"{number:02}.png": sha256_file(faces / f"{number:02}.png") for number in range(15)
    }
    assert found.blur_estimated is not None
    assert 45 < found.blur_estimated.angle_degrees < 135  # wider in the height
    assert found.why in done.stdout
    with Image.open(picture_path(path)) as picture:
        assert picture.size[0] > 500
    assert is_ours(picture_path(path))  # a later run does not enhance it
    assert sorted(one.name for one in path.parent.iterdir()) == ["case.json", "case.png"]


def test_the_same_images_give_the_same_bytes(
    faces: Path, case: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order; with progress and the time left."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    images = sorted(faces.glob("[0-9]*.png"), reverse=True)
    done = call("estimate", *images, "-o", tmp_path / "again.json")
    assert done.exit_code == 0, done.output
    assert "reading: 14/15" in done.stderr
    assert f"{degradation.STAGES['blur']}: 20/" in done.stderr
    assert (tmp_path / "again.json").read_bytes() == case[0].read_bytes()
    assert (tmp_path / "again.png").read_bytes() == picture_path(case[0]).read_bytes()


def test_a_name_that_is_not_utf8_is_escaped(faces: Path, tmp_path: Path) -> None:
    try:
        shutil.copy(faces / "00.png", tmp_path / "q\udcfe.png")
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    (tmp_path / "gone.png").symlink_to("nowhere")
    done = call("estimate", tmp_path, "-o", tmp_path / "case.json")
    assert done.exit_code == 1, done.output
    assert "gone.png: is a broken link (to nowhere)" in done.stderr
    assert [image.name for image in read_estimate(tmp_path / "case.json").images] == ["q\\udcfe.png"]


def test_too_few_images_are_bicubic(faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.json"
    done = call("estimate", faces / "00.png", "-o", path)
    assert done.exit_code == 0
    assert read_estimate(path).fallback
    assert (done.stdout + done.stderr).count("bicubic is assumed: 1 part") == 1
    assert "BICUBIC IS ASSUMED" in done.stdout
    done = call("estimate", faces / "deep", faces / "bad.png", "-o", path, "--json", "--overwrite")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["output"], found["images"], found["fallback"]) == (str(path), 1, True)
    assert "bad.png" in found["failures"][0]
    assert "bicubic is assumed: 1 part" in done.stderr
    shown = json.loads(call("show", path, "--json").stdout)
    assert shown["degradation"] == found["degradation"]
    assert shown["summary"].startswith("bicubic")


def test_subfolders_when_asked(faces: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(estimating, "cut_tiles", lambda *_: estimating.Tiles(()))
    assert call("estimate", faces, "-r", "-o", tmp_path / "all.json").exit_code == 1
    assert len(read_estimate(tmp_path / "all.json").images) == 16


def test_show(make_estimate: Callable[..., Estimate], tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_bytes(encode_estimate(make_estimate("0" * 64)))
    done = call("show", path)
    assert done.exit_code == 0
    for word in ("0.90 +/- 0.02", "30 degrees", "9.0 times", "noise"):
        assert word in done.stdout
    picture = tmp_path / "camera.png"
    assert call("show", path, "-o", picture).exit_code == 0
    drawn = picture.read_bytes()
    assert call("show", path, "-o", picture).exit_code == 2
    assert call("show", path, "-o", picture, "--overwrite").exit_code == 0
    assert picture.read_bytes() == drawn
    assert call("show", path, "-o", tmp_path / "camera.jpg").exit_code == 2
    path.write_text(path.read_text("utf-8").replace("0.01", "0.02"), "utf-8")
    assert call("show", path, "-o", tmp_path / "changed.png").exit_code == 2
    assert not (tmp_path / "changed.png").exists()
    assert call("show", tmp_path / "none.json").exit_code == 2


def test_nothing_is_written_over(faces: Path, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes((faces / "00.png").read_bytes())
    before = image.read_bytes()
    refused = call("estimate", image, "-o", tmp_path / "a.json", "--overwrite")  # a.png would be its picture
    assert refused.exit_code == 2
    assert "is an input" in refused.stderr
    assert call("estimate", image, "-o", tmp_path / "b.txt").exit_code == 2
    assert call("estimate", image, "-o", tmp_path / "b.json").exit_code == 0
    assert call("estimate", image, "-o", tmp_path / "b.json").exit_code == 2
    assert call("estimate", image, "-o", tmp_path / "b.json", "--overwrite").exit_code == 0
    assert image.read_bytes() == before
    unread = call("estimate", faces / "bad.png", "-o", tmp_path / "c.json")
    assert unread.exit_code == 2
    assert "none of the images" in unread.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.json", "b.png"]


def test_ctrl_c_leaves_nothing(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "estimate_degradation", interrupt)
    assert call("estimate", faces / "00.png", "-o", tmp_path / "b.json").exit_code == 130
    assert not list(tmp_path.iterdir())


def test_the_files_compression_is_read(tmp_path: Path) -> None:
    Image.fromarray(data.astronaut()[:40, :40]).save(tmp_path / "a.jpg", quality=75)
    (one,) = CaseFiles([tmp_path / "a.jpg"]).images(network=False)
    assert one.jpeg is not None
    assert one.jpeg.quality == 75


def test_large_images_are_cut_at_the_blocks_of_their_compression(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(estimator, "_MOST_SIDE", 64)
    monkeypatch.setattr(estimator, "_LEAST_SIDE", 64)
    ramp = np.arange(90, dtype=np.uint8)[None].repeat(90, 0)
    content = io.BytesIO()
    Image.fromarray(ramp).save(content, "png")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    (one,) = CaseFiles([tmp_path / "a.png"]).images(network=False)
    assert one.blocks.shape == (1, 64, 64)
    assert round(float(one.blocks[0, 0, 0]) * 255) == 8


def test_a_camera_is_set_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    done = call("set", "--blur", 0.8, "--noise", 3, "--jpeg", 70, "-o", path)
    assert done.exit_code == 0, done.output
    found = read_estimate(path)
    assert found.given
    assert found.summary == "blur of 0.80 x 0.80 LR pixels at 0 degrees, noise 3.0/255, JPEG quality 70"
    with Image.open(picture_path(path)) as picture:
        assert picture.size[0] > 500
    assert call("set", "-o", path).exit_code == 2
    nothing = call("set", "--overwrite", "-o", path)
    assert nothing.exit_code == 2
    assert nothing.stderr.count("\n") == 1
    assert "give --blur, --noise or --jpeg" in nothing.stderr
    assert call("set", "--overwrite", "--blur", 0, "-o", path).exit_code == 0
    assert read_estimate(path).degradation == Degradation()
    assert call("set", "--noise", 128, "-o", tmp_path / "b.json").exit_code == 2
