"""`zssr-gan store` as a user meets it: what goes where, exit codes, and the files that are written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.stores import stored
from zssr_gan.cli.main import app
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.store import Store
from zssr_gan.imaging.io import read_provenance
from zssr_gan.provenance import is_ours
from zssr_gan.signals import Terminated

IDS = ["lfw/a.png", "lfw/s/a.png", "lfw/s/b.jpg", "lfw/t/c.png", "lfw/t/c.jpg"]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["store", *map(str, arguments)])


def image(number: int) -> StoredImage:
    return stored(
        number,
        IDS[number],
        size=(4, 5),
        channels=1 if number == 2 else 3,
        label="case" if number == 4 else "internal",
        role="table1" if number > 2 else "zssr",
        residual_db=50.0 if number else float("inf"),
        choice={"share": 1.0},
        seed=5,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "synthetic"
    with Store(folder, {"seed": 0}) as store:
        store.write([image(4), image(0)])
        store.write([image(number) for number in (1, 2, 3)])
    return folder


def test_info_counts(folder: Path) -> None:
    done = call("info", folder)
    assert done.exit_code == 0
    lines = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in done.stdout.splitlines()}
    assert lines["images"].startswith("5 in 2 shards, 0.0 MB")
    assert lines["label"] == "internal 4, case 1"
    assert lines["role"] == "zssr 3, table1 2"
    assert lines["choice"] == "network 5"
    assert lines["size"] == "5x4 to 10x8, gray: 1"  # the last of two
    assert lines["iterations"] == "mean 2, median 2"
    assert lines["residual_db"] == "mean 50, median 50 (4 images)"
    assert "seed" not in lines
    assert len(lines["settings"]) == 64
    found = json.loads(call("info", folder, "--json").stdout)
    assert found["sizes"] == {"5x4 to 10x8, RGB": 4, "5x4 to 10x8, gray": 1}
    assert found["figures"]["iterations"] == {"images": 5, "mean": 2.0, "median": 2.0}
    assert found["size_bytes"] == sum(path.stat().st_size for path in folder.glob("s*"))


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    with Store(tmp_path, {}):
        pass
    assert call("info", tmp_path).stdout.startswith("images    0 in 0 shards")
    assert call("check", tmp_path).exit_code == 0
    done = call("export", tmp_path)
    assert done.exit_code == 2
    assert "the store is empty" in done.stderr


@pytest.mark.parametrize("command", ["info", "check", "export"])
def test_what_is_no_store(command: str, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        done = call(command, folder)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_check_names_what_is_damaged(folder: Path) -> None:
    done = call("check", folder)
    assert (done.exit_code, done.stdout) == (0, "all 2 shards are as they were written\n")
    path = folder / "shard-0000.h5"
    path.write_bytes(path.read_bytes()[:-1])
    done = call("check", folder)
    assert done.exit_code == 1
    assert "shard-0000: its HDF5 file cannot be read" in done.stdout
    assert "\n  lfw/t/c.jpg\n  lfw/a.png\n" in done.stdout
    assert "makes just their images anew" in done.stdout
    found = call("check", folder, "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["damages"][0]["ids"] == ["lfw/t/c.jpg", "lfw/a.png"]
    assert json.loads(found.stdout)["ok"] is False
    done = call("export", folder)
    assert done.exit_code == 2
    assert "shard-0000.h5: is damaged; `zssr-gan store check`" in done.stderr


def test_export_names_images_by_their_sources(folder: Path, tmp_path: Path) -> None:
    done = call("export", folder, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'out'}: 5 images, and contact-sheet.png of the first ones\n"
    names = ["a.png", "b.png", "contact-sheet.png", "s__a.png", "t__c_jpg.png", "t__c_png.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for number, name in enumerate(["a", "s__a", "b", "t__c_png", "t__c_jpg"]):
        path = tmp_path / "out" / f"{name}.png"
        written = np.asarray(Image.open(path))
        assert np.array_equal(written.reshape(image(number).sr.shape), image(number).sr)
        text = read_provenance(path)
        assert text["zssr-gan:id"] == IDS[number]
        assert text["zssr-gan:label"].startswith("case: " if number == 4 else "internal: ")
        assert json.loads(text["zssr-gan:figures"])["iterations"] == number
        assert is_ours(path)
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 3 * 160


def test_export_of_one_role_keeps_the_names(folder: Path) -> None:
    assert call("export", folder, "--role", "table1").exit_code == 0
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == ["contact-sheet.png", "t__c_jpg.png", "t__c_png.png"]
    done = call("export", folder, "--role", "unseen")
    assert done.exit_code == 2
    assert "no image has the role unseen; roles there: table1, zssr" in done.stderr


def test_export_overwrites_only_when_asked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"theirs")
    done = call("export", folder, "-o", tmp_path)
    assert done.exit_code == 1
    assert "b.png exists already" in done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["b.png"]
    assert (tmp_path / "b.png").read_bytes() == b"theirs"
    assert call("export", folder, "-o", tmp_path, "--overwrite").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert call("export", folder, "-o", tmp_path, "--overwrite").exit_code == 0
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == before


def test_an_image_called_as_the_sheet(tmp_path: Path) -> None:
    with Store(tmp_path, {}) as store:
        store.write([stored(0, "x/Contact-Sheet.png")])
    assert call("export", tmp_path).exit_code == 0
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"Contact-Sheet.png", "_contact-sheet.png"}


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_stopped_export_leaves_whole_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stop: type[KeyboardInterrupt], code: int
) -> None:
    monkeypatch.setattr("zssr_gan.data.export._row", lambda *_: (_ for _ in ()).throw(stop()))
    done = call("export", folder)
    assert done.exit_code == code
    assert "Stopped" in done.stderr
    assert len(list((folder / "images").iterdir())) == 1
