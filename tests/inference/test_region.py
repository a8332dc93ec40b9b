"""A part of a picture: its pixels are those of the whole result, in files, records and sheets."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

from tests.generators import written_generator
from tests.inference.files import TINY
from zssr_gan.cli.main import app
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.devices import RunOptions
from zssr_gan.errors import SettingsError
from zssr_gan.imaging.io import read_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.inference.arrays import enhance
from zssr_gan.inference.enhance import Enhanced, enhance_picture
from zssr_gan.inference.options import make_request
from zssr_gan.inference.outputs import ImageTask
from zssr_gan.inference.record import read_record
from zssr_gan.inference.region import checked_region, cut, parse_region
from zssr_gan.inference.sheet import Sheet
from zssr_gan.inference.verify import verify_record
from zssr_gan.settings.base import write_yaml


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, astronaut: Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: rgba.png of 24 x 20 (width x height), and quick settings in tiny.yaml."""
    rgb = np.round(astronaut[:, 8:28, 20:44].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(np.dstack([rgb, rgb[..., 1]])).save(tmp_path / "rgba.png")
    Image.fromarray(rgb).save(tmp_path / "turned.jpg", quality=80, exif=_orientation(6))
    (tmp_path / "tiny.yaml").write_text(write_yaml(TINY), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def call(*arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["enhance", "--preset", "tiny.yaml", "--device", "cpu", "--threads", "1", *arguments]
    )


@pytest.mark.parametrize(("scale", "edges"), [(1.5, (5, 20, 3, 17)), ((3, 2), (6, 26, 6, 33)), (2, (6, 26, 4, 22))])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, None), (np.uint8, 4), (np.uint16, 2), (np.float32, 3)])
def test_pixels_are_those_of_the_whole(
    scale: Any, edges: tuple[int, int, int, int], dtype: type, channels: int | None
) -> None:
    """The region 3,2,10,9 of 24 x 20; at 1.5, 4.5 is rounded up to 5, 19.5 to 20, 16.5 to 17."""
    image = np.asarray(Image.open("rgba.png"))
    image = image[:, :, 0] if channels is None else image[:, :, [0, 3] if channels == 2 else slice(channels)]
    most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    given, options = (image / 255 * most).astype(dtype), {"device": "cpu", "threads": 1}
    whole = enhance(given, scale, "tiny.yaml", **options)
    left, right, top, bottom = edges
    part = enhance(given, scale, "tiny.yaml", region=(3, 2, 10, 9), **options)
    assert part.dtype == dtype
    assert np.array_equal(part, whole[top:bottom, left:right])
    assert np.array_equal(enhance(given, scale, "tiny.yaml", region=(0, 0, 24, 20), **options), whole)


@pytest.mark.parametrize("size", [(7, 11), (8, 5)])
@pytest.mark.parametrize("scale", [1.0, 1.1, 1.5, 2.0, 2.5, 7.3])
def test_neighbours_fit_together(size: tuple[int, int], scale: float) -> None:
    rows, columns = size
    large = torch.arange(int(rows * scale + 0.5) * int(columns * scale + 0.5)).reshape(int(rows * scale + 0.5), -1)
    bands = [torch.cat([cut(large, (x, y, 1, 1), size) for x in range(columns)], 1) for y in range(rows)]
    assert torch.equal(torch.cat(bands), large)


def made(picture: Picture, **options: Any) -> Enhanced:
    way = {} if "model" in options else {"preset": "tiny.yaml", "init": "scratch"}
    request = make_request(2, options=RunOptions("cpu", "fp32"), **way, **options)
    return enhance_picture(picture, request)


@pytest.mark.parametrize("way", ["compressed and noisy", "generator"])
def test_maps_and_figures_are_those_of_the_region(desk: Path, astronaut: Tensor, way: str) -> None:
    """A degradation with JPEG's grid, whose phase is that of the whole picture, and a trained generator."""
    if way == "generator":
        options: dict[str, Any] = {"model": written_generator(desk)}
    else:
        blur = GaussianBlur(sigma_major=1.0, sigma_minor=0.6)
        options = {"degradation": Degradation(blur=blur, noise=Noise(sigma=0.02), jpeg=Jpeg.of_quality(60))}
    picture = Picture(astronaut[:, :20, :24].contiguous(), None, 16, Metadata())
    whole, part = made(picture, **options), made(picture, region=(5, 3, 8, 6), **options)
    assert torch.equal(part.picture.pixels, whole.picture.pixels[:, 6:18, 10:26])
    assert torch.equal(part.disagreement, whole.disagreement[6:18, 10:26])
    assert torch.equal(part.added_variation, whole.added_variation[6:18, 10:26])
    assert torch.equal(part.residual, whole.residual[3:9, 5:13])
    assert torch.equal(part.bicubic, whole.bicubic[:, 6:18, 10:26])
    assert torch.equal(part.shown, picture.pixels[:, 3:9, 5:13])
    assert part.work.evidence.residual_largest == pytest.approx(float(part.residual.max()), abs=1e-3)
    assert part.work.residual_db != whole.work.residual_db


def test_files_and_record() -> None:
    whole = call("rgba.png")
    assert whole.exit_code == 0, whole.output
    done = call("rgba.png", "--region", "3,2,10,9", "--evidence", "--compare", "sheet.png")
    assert done.exit_code == 0, done.output
    pixels = np.asarray(Image.open("rgba_x2_3_2_10_9.png"))
    assert np.array_equal(pixels, np.asarray(Image.open("rgba_x2.png"))[4:22, 6:26])
    record = json.loads(Path("rgba_x2_3_2_10_9.json").read_text("utf-8"))
    assert record["request"]["region"] == [3, 2, 10, 9]
    assert (record["input"]["width"], record["input"]["height"]) == (24, 20)
    assert (record["output"]["width"], record["output"]["height"], record["output"]["channels"]) == (20, 18, 4)
    assert verify_record(Path("rgba_x2_3_2_10_9.json"), rerun=True).ok
    command, enhance_word, *words = shlex.split(record["command_line"])
    assert (command, enhance_word) == ("zssr-gan", "enhance")
    assert CliRunner().invoke(app, ["enhance", *words]).exit_code == 0
    again = Path("rgba_x2_3_2_10_9_again.png")
    assert again.read_bytes() == Path("rgba_x2_3_2_10_9.png").read_bytes()
    (row,) = _sheet_of("rgba.png", (3, 2, 10, 9), Path("rgba_x2_3_2_10_9.json"))
    assert [tuple(image.shape[-2:]) for _, image in row] == [(9, 10), (18, 20), (18, 20), (18, 20)]
    assert row[0][0] == "rgba.png, region 3,2,10,9"
    assert np.asarray(Image.open("rgba_x2_3_2_10_9_evidence.png")).shape[0] > 448
    assert np.asarray(Image.open("sheet.png")).ndim == 3
    # Another region has other names; the same name with another region is said.
    assert call("rgba.png", "--region", "3,2,10,10").exit_code == 0
    skipped = call("rgba.png", "--region", "3,2,10,10", "-o", "rgba_x2_3_2_10_9.png", "--skip-existing")
    assert "another region" in skipped.stdout


def _sheet_of(name: str, region: tuple[int, int, int, int], record: Path) -> list[list[tuple[str, Tensor]]]:
    """The rows that `--compare` shows."""
    request = make_request(2, "tiny.yaml", init="scratch", region=region, options=RunOptions("cpu", "fp32", threads=1))
    sheet, picture = Sheet(Path("unused.png")), read_picture(Path(name))
    task = ImageTask(Path(name), Path("result.png"), None, None)
    sheet.add(task, enhance_picture(picture, request), read_record(record))
    return sheet._rows


def test_records_without_a_region_load_and_a_changed_one_is_found() -> None:
    assert call("rgba.png").exit_code == 0
    path = Path("rgba_x2.json")
    record = json.loads(path.read_text("utf-8"))
    del record["request"]["region"]
    path.write_text(json.dumps(record), "utf-8")
    assert verify_record(path, rerun=True).ok
    for region in ([0, 0, 10, 10], [0, 0, 0, 5], [9, 9, 90, 90]):
        record["request"]["region"] = region
        path.write_text(json.dumps(record), "utf-8")
        assert not verify_record(path, rerun=True).ok


def test_the_picture_is_upright() -> None:
    """A JPEG of 24 x 20 that is shown turned: 20 x 24."""
    assert call("turned.jpg").exit_code == 0
    assert call("turned.jpg", "--region", "11,12,9,12", "--scale", "2").exit_code == 0
    whole, part = np.asarray(Image.open("turned_x2.png")), np.asarray(Image.open("turned_x2_11_12_9_12.png"))
    assert np.array_equal(part, whole[24:48, 22:40])
    assert call("turned.jpg", "--region", "11,12,10,12", "--overwrite").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["rgba.png", "--region", "0,0,0,5"], "0,0,0,5 is empty", 2),
        (["rgba.png", "--region", "-1,0,5,5"], "-1,0,5,5 begins outside", 2),
        (["rgba.png", "--region", "0,0,5,-5"], "is empty", 2),
        (["rgba.png", "--region", "0,0,5"], "four whole numbers", 2),
        (["rgba.png", "--region", "0,0,5,5.5"], "four whole numbers", 2),
        (["rgba.png", "--region", "left,0,5,5"], "four whole numbers", 2),
        (["rgba.png", "--region", ""], "four whole numbers", 2),
        (["rgba.png", "turned.jpg", "--region", "0,0,5,5"], "there are 2 inputs", 2),
        ([".", "--region", "0,0,5,5"], "is a folder", 2),
        (["rgba.png", "--region", "20,0,5,5"], "reaches beyond the picture, which has 24x20 pixels", 2),
        (["rgba.png", "--region", "0,0,24,21"], "reaches beyond", 2),
        (["rgba.png", "--region", f"{10**40},0,1,1"], "reaches beyond", 2),
    ],
)
def test_refusals_are_a_sentence_and_write_nothing(desk: Path, arguments: list[str], words: str, code: int) -> None:
    before = set(desk.iterdir())
    done = call(*arguments)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert set(desk.iterdir()) == before


@pytest.mark.parametrize("region", [(0, 0, 5), (0, 0, 5, 5.5), 7, "abcd", (0, 0, 0, 5), (0, -1, 5, 5)])
def test_refusals_from_python(region: Any) -> None:
    with pytest.raises(SettingsError, match="region"):
        enhance(np.zeros((9, 9), np.uint8), preset="tiny.yaml", region=region)
    with pytest.raises(SettingsError, match="9x9"):
        enhance(np.zeros((9, 9), np.uint8), preset="tiny.yaml", region=(1, 1, 9, 8))


def test_what_is_typed_is_read() -> None:
    with pytest.raises(SettingsError, match="write it without blanks"):
        parse_region("0,")  # as a shell cuts 0, 0, 4, 4
    assert parse_region(" 1, 2,30,40") == checked_region(np.array([1, 2, 30, 40])) == (1, 2, 30, 40)
