"""The stage as a person runs it: what it writes, what it refuses, and what it says."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import prepare
from tests.data.trees import make_tree
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import read_split
from zssr_gan.settings.run import load_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config beside its images; runs land in the same folder."""
    monkeypatch.chdir(tmp_path)
    make_tree(tmp_path / "faces", [f"{index}.png" for index in range(10)])
    path = tmp_path / "mine.yaml"
    roles = "{zssr: 3, generator: 2, table1: 1, unseen: null}"
    path.write_text(f"data: {{sources: [{{kind: folder, root: faces}}], size: 16, roles: {roles}}}")
    return path


def run(config: Path, *arguments: str) -> int:
    return prepare.main(["--config", str(config), *arguments])


def test_it_writes_what_the_next_stage_reads(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "faces" / "bad.png").write_bytes(b"nonsense")
    for copy in range(7):
        shutil.copy("faces/3.png", f"faces/copy{copy}.png")
    assert run(config) == 0
    out = capsys.readouterr().out
    assert "folder: 18 found, 10 usable, 0 identities, 7 duplicates, 1 skipped" in out
    assert "skipped: folder/bad.png: is not an image of a kind that is read" in out
    assert "duplicate: folder/copy0.png: is folder/3.png\n" in out
    assert "duplicate: ... and 2 more, in split.json\n" in out
    assert out.splitlines()[-1] == "runs/mine/split.json"
    resolved = load_run(Path("runs/mine/config.yaml"))
    images = Prepared(read_split(Path("runs/mine/split.json")), resolved.data)
    assert images.image(0).shape == (3, 16, 16)
    assert sorted(path.name for path in Path("runs/mine").iterdir()) == ["config.yaml", "split.json"]


def test_again_is_fine_and_another_split_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = Path("runs/mine/split.json")
    assert run(config) == 0
    before = split.read_bytes()
    assert run(config) == 0
    for change, words in (("data.train=0.5", "data.train differs"), ("seed=1", "seed differs")):
        assert run(config, "--set", change) == 2
        assert words in capsys.readouterr().err
    (config.parent / "faces" / "0.png").unlink()
    assert run(config) == 2
    assert "what the images' folders hold differs" in capsys.readouterr().err
    assert split.read_bytes() == before
    assert run(config, "--overwrite") == 0
    assert split.read_bytes() != before


def test_a_name_that_the_terminal_lacks_is_escaped(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config.rename("日本.yaml")
    shutil.copy("faces/3.png", "faces/ж.png")
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        assert run(config) == 0
        out.flush()
    lines = out.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert "duplicate: folder/\\u0436.png" in lines
    assert lines.splitlines()[-1] == "runs/\\u65e5\\u672c/split.json"


def test_moved_images_are_the_same_split(config: Path) -> None:
    assert run(config) == 0
    Path("faces").rename("elsewhere")
    assert run(config, "--set", "data.sources.0.root=elsewhere") == 0
    assert load_run(Path("runs/mine/config.yaml")).data.sources[0].root == "elsewhere"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "data.sise=3"], "data.sise: there is no such setting"),
        (["--set", "data.sources.0.root=none"], "none: cannot be opened as a folder of images"),
        (["--set", "data.roles.zssr=300"], "asks for 300 zssr and 2 generator and its training part has 7 images"),
        (["--set", "data.sources.0.kind=tinyface"], "holds none of the folders"),
    ],
)
def test_mistakes_are_one_sentence(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(config, *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_disk_that_refuses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("a file where the folder belongs")
    assert run(config) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zssr_gan.data.prepared.make_split", interrupted)
    assert run(config) == 130
    assert "the same command starts anew" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_the_shipped_demo_as_make_runs_it(tmp_path: Path) -> None:
    """Without a terminal, plain lines, the file's path last; and in a process with another hash seed the same bytes."""
    arguments = ["--config", str(ROOT / "configs/demo.yaml"), "--set", f"run_dir={tmp_path / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "pipelines.prepare", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lfw: 100 found, 100 usable" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "run" / "split.json")
    assert done.stderr == ""
    there = (tmp_path / "run" / "split.json").read_bytes()
    assert prepare.main([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "run" / "split.json").read_bytes() == there
