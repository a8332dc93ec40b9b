"""`zssr-gan weights` as a user meets it; the file that is fetched is a local one."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from zssr_gan.cli.main import app
from zssr_gan.networks.pretrained import PUBLISHED, Published
from zssr_gan.signals import Terminated

CONTENT = bytes(range(256)) * 20


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["weights", *arguments])


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    monkeypatch.setenv("ZSSR_GAN_WEIGHTS", str(tmp_path / "cache"))
    origin = tmp_path / "vgg19-test.pth"
    origin.write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    found = Published("vgg19", "VGG19 of a test", origin.as_uri(), sha256, len(CONTENT))
    monkeypatch.setitem(PUBLISHED, "vgg19", found)
    return found


def test_fetch_then_list_and_check(found: Published) -> None:
    assert call("list").stdout == f"vgg19  VGG19 of a test, 0 MB\n  not here; from {found.url}\n"
    assert call("check").stdout == "no weights have been fetched on this machine\n"
    done = call("fetch", "vgg19")
    assert (done.exit_code, done.stdout) == (0, f"vgg19: fetched and checked, {found.path}\n")
    assert found.path.read_bytes() == CONTENT
    assert call("fetch", "vgg19").stdout == f"vgg19: already there, {found.path}\n"
    assert call("list").stdout == f"vgg19  VGG19 of a test, 0 MB\n  {found.path}\n"
    done = call("check")
    assert (done.exit_code, done.stdout) == (0, f"{found.path}: as published\n")
    (row,) = json.loads(call("list", "--json").stdout)["weights"]
    assert (row["name"], row["sha256"], row["here"], row["path"]) == ("vgg19", found.sha256, True, str(found.path))
    assert json.loads(call("check", "--json").stdout) == {"ok": True, "weights": {"vgg19": None}}
    found.path.write_bytes(b"x")
    wrong = {"ok": False, "weights": {"vgg19": f"it has 1 bytes, not {len(CONTENT)}"}}
    done = call("check", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, wrong)


def test_damage_is_named_and_mended(found: Published) -> None:
    call("fetch", "vgg19")
    found.path.write_bytes(CONTENT[::-1])
    done = call("check", "vgg19")
    assert done.exit_code == 1
    assert done.stdout.startswith(f"{found.path}: damaged, its SHA-256 is ")
    assert "run `zssr-gan weights fetch vgg19` again" in done.stdout
    assert call("fetch", "vgg19").exit_code == 0
    assert call("check", "vgg19").exit_code == 0


@pytest.mark.parametrize("command", ["fetch", "check"])
def test_an_unknown_name(command: str, found: Published) -> None:
    done = call("check", "vgg19")
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: {found.path}: is not there; run `zssr-gan weights fetch vgg19`.\n",
    )
    done = call(command, "vgg91")
    assert done.exit_code == 2
    assert done.stderr == "error: no published weights are called 'vgg91'; there are: vgg19.\n"
    assert not found.path.parent.exists()


def test_a_wrong_file_is_not_kept(found: Published, tmp_path: Path) -> None:
    (tmp_path / "vgg19-test.pth").write_bytes(CONTENT[::-1])
    done = call("fetch", "vgg19")
    assert done.exit_code == 1
    assert "was not kept" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(found.path.parent.iterdir()) == []


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_stopped_fetch(
    found: Published, monkeypatch: pytest.MonkeyPatch, stop: type[KeyboardInterrupt], code: int
) -> None:
    monkeypatch.setattr("zssr_gan.progress.Bar.update", lambda *_: (_ for _ in ()).throw(stop()))
    done = call("fetch", "vgg19")
    assert done.exit_code == code
    assert "Stopped" in done.stderr
    assert list(found.path.parent.iterdir()) == []
