"""The command as a user meets it: exit codes, what goes to which output, and what is left on the disk."""

import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

from tests.processes import Running
from zssr_gan.cli import enhance as enhance_command
from zssr_gan.cli.main import app, main
from zssr_gan.devices import MOST_THREADS
from zssr_gan.inference import batch, verify
from zssr_gan.settings.base import write_yaml
from zssr_gan.settings.zeroshot import PRESETS, load_preset

pytestmark = pytest.mark.usefixtures("desk")

COMMAND = str(Path(sysconfig.get_path("scripts"), "zssr-gan"))
TINY = {
    "network": {"depth": 2, "width": 4},
    "schedule": {"kind": "cosine", "iterations": 3},
    "refinement": {"back_projections": 1},
}


@pytest.fixture
def desk(tmp_path: Path, face: Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a user: two pictures, one broken file, and quick settings in tiny.yaml."""
    pixels = np.round(face[0].numpy() * 255).astype(np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"not an image")
    (tmp_path / "tiny.yaml").write_text(write_yaml(TINY), encoding="utf-8")
    slow = TINY | {"schedule": {"kind": "cosine", "iterations": 1_000_000}}
    (tmp_path / "slow.yaml").write_text(write_yaml(slow), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def enhance(*arguments: str) -> Result:
    return call("enhance", "--preset", "tiny.yaml", "--device", "cpu", "--threads", "1", *arguments)


def names() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"a.png", "b.png", "bad.png", "tiny.yaml", "slow.yaml"}


def test_the_entry_point_enhances(desk: Path) -> None:
    command = [COMMAND, "enhance", "a.png", "--preset", "tiny.yaml", "--threads", "1"]
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a_x2.png: ")
    assert "internal" in done.stdout
    assert names() == {"a_x2.png", "a_x2.json"}


@pytest.mark.parametrize(("number", "code", "times"), [(signal.SIGINT, 130, 30), (signal.SIGTERM, 143, 1)])
def test_a_stopped_run_leaves_no_partial_file(number: signal.Signals, code: int, times: int) -> None:
    arguments = ["enhance", "a.png", "b.png", "--preset", "slow.yaml", "--init", "scratch", "--threads", "1"]
    process = Running("zssr_gan.cli.main", *arguments)
    process.until(lambda: process.said().startswith("1/2 a.png\n"))
    time.sleep(0.5)
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        time.sleep(0.02)
    status, _, stderr = process.finish()
    assert status == code, stderr
    assert "--skip-existing" in stderr
    assert "Traceback" not in stderr
    assert not names()


_KILLED_BEFORE_THE_RECORD = """
import os, signal, sys
from zssr_gan import files
from zssr_gan.cli.main import main
name_it = files._rename
def until_the_record(temporary, path, **how):
    name_it(temporary, path, **how) if path.suffix != ".json" else os.kill(os.getpid(), signal.SIGKILL)
files._rename = until_the_record
main(sys.argv[1:])
"""


def test_a_result_whose_record_a_kill_prevented_is_made_anew(desk: Path) -> None:
    arguments = ["--preset", "tiny.yaml", "--device", "cpu", "--threads", "1", "--evidence"]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_BEFORE_THE_RECORD, "enhance", "a.png", *arguments], cwd=desk, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    for path in Path().glob(".zssr-gan-*.tmp"):  # what a kill leaves is hidden
        path.unlink()
    assert names() == {"a_x2.png", "a_x2_evidence.png"}
    before = {name: Path(name).read_bytes() for name in names()}
    again = enhance("a.png", "b.png", "--evidence", "--skip-existing")
    assert again.exit_code == 0, again.output
    assert "exists already" not in again.output
    assert {name: Path(name).read_bytes() for name in before} == before
    assert names() == {f"{stem}_x2{end}" for stem in "ab" for end in (".png", ".json", "_evidence.png")}
    assert call("verify", "a_x2.json").exit_code == 0


def test_what_goes_where() -> None:
    """A line a result on standard output, or JSON alone; failures last on standard error; quiet: failures only."""
    done = enhance("a.png", "bad.png", "b.png", "-o", "out")
    assert done.exit_code == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["out/a_x2.png", "out/b_x2.png"]
    assert "bad.png" in done.stderr.splitlines()[-1]
    assert "2 done, 1 failed" in done.stderr
    done = enhance("a.png", "bad.png", "--json", "--compare", "sheet.png")
    assert done.exit_code == 1
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["input"], first["status"], first["output"]) == ("a.png", "done", "a_x2.png")
    assert (second["input"], second["status"]) == ("bad.png", "failed")
    assert "sheet.png" in names()
    done = enhance("b.png", "-q")
    assert (done.exit_code, done.output) == (0, "")
    assert "bad.png" in enhance("bad.png", "-q").stderr


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (["-o", "new/big.tif", "-s", "1x2"], {"new/big.tif", "new/big.json"}),
        (["--no-record", "--evidence", "--suffix", "_big", "--ext", "tif"], {"a_big.tif", "a_big_evidence.png"}),
        (["--noise", "0.0125", "--seed", "7"], {"a_x2.png", "a_x2.json"}),
    ],
)
def test_options(options: list[str], written: set[str]) -> None:
    before = set(Path().rglob("*.*"))
    assert enhance("a.png", *options).exit_code == 0
    assert {str(path) for path in set(Path().rglob("*.*")) - before} == written
    if "new/big.tif" in written:
        with Image.open("new/big.tif") as image:
            assert image.size == (25, 50)
    if "--seed" in options:
        record = Path("a_x2.json").read_text("utf-8")
        assert '"seed": 7' in record
        assert "0.0125" in record


def test_existing_results_are_kept_skipped_or_replaced() -> None:
    Path("a_x2.png").write_bytes(b"mine")
    refused = enhance("a.png")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert Path("a_x2.png").read_bytes() == b"mine"
    assert enhance("a.png", "--skip-existing").exit_code == 2  # there is no record: it is not complete
    assert enhance("a.png", "--overwrite").exit_code == 0
    made = Path("a_x2.png").read_bytes()
    again = enhance("a.png", "b.png", "--skip-existing")
    assert again.exit_code == 0
    assert "a_x2.png: exists already" in again.stdout
    assert "b_x2.png: " in again.stdout
    assert Path("a_x2.png").read_bytes() == made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png"], "missing.png"),
        (["a.png", "-s", "9"], "between 1 and 8"),
        (["a.png", "-s", "two"], "two"),
        (["a.png", "--kernel", "k.mat"], "k.mat"),
        (["a.png", "--kernel", "a.png"], "a.png"),
        (["a.png", "--noise", "0,04"], "write 0.04"),
        (["a.png", "--noise", "4%"], "write 0.04"),
        (["a.png", "--max-megapixels", "1,5"], "write 1.5"),
        (["a.png", "--seed", "-1"], "seed"),
        (["a.png", "--ext", "jpg"], "ext"),
        (["a.png", "-o", "big.jpg"], "without loss"),
        (["a.png", "b.png", "-o", "big.png"], "folder"),
        (["a.png", "-o", "a.png", "--overwrite"], "is an input"),
        (["a.png", "--suffix", "", "--overwrite"], "is an input"),
        (["a.png", "--compare", "sheet.jpg"], "sheet.jpg"),
        (["a.png", "--max-megapixels", "0"], "megapixels"),
        (["a.png", "--threads", str(MOST_THREADS + 1)], "1024"),
        (["a.png", "-q", "-v"], "-q"),
    ],
)
def test_usage_errors_exit_2_and_write_nothing(arguments: list[str], words: str) -> None:
    done = call("enhance", *arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert not names()


def test_a_mistake_of_ours_asks_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise IndexError("tile 3")

    monkeypatch.setattr(batch, "enhance_pictures", broken)
    short = enhance("a.png")
    assert short.exit_code == 1
    assert "IndexError: tile 3" in short.stderr
    assert "report" in short.stderr
    assert "Traceback" not in short.stderr
    assert "Traceback" in enhance("a.png", "-v").stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["enhance", "many", "-o", "out", "--preset", "tiny.yaml", "--device", "cpu"], 1),
        (["degradation", "estimate", "many", "-o", "case.json"], 1),
        (["fuse", "many", "-o", "fused.png"], 1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_file_too_large_to_be_an_image_is_named_and_not_read(
    desk: Path, command: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk / "many").mkdir()
    for name in ("a.png", "b.png"):
        (desk / name).rename(desk / "many" / name)
    with (desk / "many" / "huge.png").open("wb") as file:
        file.truncate(10**11)
    read = Path.read_bytes

    def without_huge(path: Path) -> bytes:
        if path.name == "huge.png":
            raise MemoryError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", without_huge)
    result = call(*command)
    assert result.exit_code == code
    assert "huge.png: is too large a file (100000 MB) for an image of at most 100 megapixels" in result.output
    assert (desk / "out" / "a_x2.png").exists() == (command[0] == "enhance")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=type)
def test_a_want_of_memory_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(enhance_command, "_run", fill)
    result = enhance("a.png", "-o", "out")
    assert (result.exit_code, result.stderr) == (1, "error: this needs more memory than the machine gives\n")


def test_verify() -> None:
    enhance("a.png", "--degradation", "bicubic")
    done = call("verify", "a_x2.json", "--rerun")
    assert done.exit_code == 0, done.output
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [name, "ok"] for name in ("input", "output", "original", "label", "settings", "degradation", "rerun")
    ]
    Path("a_x2.png").write_bytes(b"other")
    changed = call("verify", "a_x2.json")
    assert changed.exit_code == 1
    assert "output      NO" in changed.stdout
    Path("a_x2.json").write_text("{", encoding="utf-8")
    assert call("verify", "a_x2.json").exit_code == 2
    assert call("verify", "none.json").exit_code == 2


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TypeError("what\n is this"), "it leads to an error (TypeError: what is this)"),
        (MemoryError(), "this needs more memory than the machine gives"),
    ],
)
def test_a_record_that_leads_to_an_error_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    enhance("a.png", "b.png")

    def fail(path: Path, **_: object) -> verify.Verification:
        if path.name == "a_x2.json":
            raise error
        return check(path)

    check = verify.verify_record
    monkeypatch.setattr(verify, "verify_record", fail)
    done = call("verify", "a_x2.json", "b_x2.json")
    assert done.exit_code == 2
    assert done.stderr == f"error: a_x2.json: cannot be checked, since {why}\n"
    assert "b_x2.json:" in done.stdout


@pytest.mark.parametrize("output", [None, "out", "in/big.tif"])
def test_the_recorded_command_works_when_typed(desk: Path, output: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the input's folder, with the result beside it or elsewhere: the same bytes under a name of their own."""
    Path("in", "deep").mkdir(parents=True)
    Path("a.png").rename("in/-a b.png")
    np.save("in/deep/k.npy", np.outer([1, 2, 1], [1, 2, 1]))
    options = ["--kernel", "in/deep/k.npy", "--noise", "0.01", "--seed", "3", "-s", "3x2", "--max-megapixels", "0.5"]
    where = [] if output is None else ["-o", output]
    assert enhance("in/-a b.png", *options, *where).exit_code == 0
    (written,) = Path().rglob("*.json")
    record = json.loads(written.read_text("utf-8"))
    assert str(desk) not in record["command_line"]
    result = written.resolve().with_name(record["output"]["name"])
    monkeypatch.chdir("in")
    command, *words = shlex.split(record["command_line"])
    assert command == "zssr-gan"
    done = call(*words)
    assert done.exit_code == 0, done.output
    (again,) = [path for path in Path().glob("*_again*") if path.suffix != ".json"]
    assert again.read_bytes() == result.read_bytes()
    assert (again.stem, again.suffix) == (f"{result.stem}_again", result.suffix)
    repeated = json.loads(again.with_suffix(".json").read_text("utf-8"))
    assert repeated["request"]["max_megapixels"] == 0.5
    assert repeated["request"]["settings_sha256"] == record["request"]["settings_sha256"]


def test_info_names_what_a_bug_report_needs() -> None:
    done = call("info")
    assert done.exit_code == 0
    for word in ("zssr-gan", "python", "torch", "numpy", "pillow", "device cpu", "threads", "bf16", "caches"):
        assert any(line.startswith(word) for line in done.stdout.splitlines()), word


def test_help_teaches() -> None:
    shown = call("enhance", "--help").stdout
    words = (
        "zssr-gan enhance photo.jpg",
        "quality",
        "fast",
        "original",
        "paper",
        "raw",
        "generative",
        "2x3",
        "--region",
    )
    assert all(word in shown for word in (*words, "--model", "--region", "Exit codes"))
    assert call().exit_code == 2  # nothing asked: the help, as usual


@pytest.mark.parametrize("name", PRESETS)
def test_help_says_of_a_preset_what_the_preset_says_of_itself(name: str) -> None:
    assert f"| {name} | {load_preset(name).description} |" in (enhance_command.enhance.__doc__ or "")


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "zssr-gan"
    assert main(["enhance", "missing.png"]) == 2
    assert "missing.png" in capsys.readouterr().err


@pytest.mark.parametrize(("encoding", "way"), [("cp1252", []), ("ascii", ["--json"]), ("latin-1", ["-q"])])
def test_no_name_ends_a_batch_whatever_the_encoding(
    desk: Path, encoding: str, way: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").rename("日本.png")
    Path("bad.png").rename("ж.png")
    try:
        Path("b.png").rename("b\udcff.png")
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    options = ["--preset", "tiny.yaml", "--device", "cpu", "--threads", "1", "-o", "out", *way]
    assert main(["enhance", str(desk), *options]) == 1
    monkeypatch.undo()
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
    assert {path.name for path in (desk / "out").glob("*.png")} == {
        "日本_x2.png",
        "b\udcff_x2.png",
    }
    assert "failed: " in err
    assert "\\u0436.png" in err
    assert "Traceback" not in err
    assert ("\\u65e5" in out) == ("-q" not in way)
    if "--json" in way:
        assert {Path(json.loads(line)["input"]).name for line in out.splitlines()} == {
            "日本.png", "ж.png", "b\udcff.png",
        }  # fmt: skip


def test_torch_is_imported_by_commands_alone() -> None:
    code = "import sys, zssr_gan.cli.main; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_that_wait_leave_the_cores_to_other_programs() -> None:
    """The setting counts where it is made before torch is imported."""
    code = (
        "import os, sys; from zssr_gan.cli.main import main; main(['--version']); "
        "print(os.getenv('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    own = [
        subprocess.run([sys.executable, "-c", code], env=env | more, capture_output=True, text=True).stdout.split()[-2:]
        for more in ({}, {"GOMP_SPINCOUNT": "7"})
    ]
    assert own == [["10000", "False"], ["7", "False"]]
