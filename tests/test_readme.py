"""Every command and Python block of the README and of docs/ is run; `make` targets are checked to exist.

Of commands that serve, ask, or take what a test does not have, the words are read and nothing is run (`ONLY_READ`).
"""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor
from typer.core import TyperGroup
from typer.testing import CliRunner

from tests.generators import written_generator
from tests.video import clips
from zssr_gan.cli.main import app
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.store import Store
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions
from zssr_gan.settings.base import write_yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(page for page in PAGES if page != "docs/many-gpus.md"),
]  # that one is for clusters
FIGURES = sorted(f"benchmarks/{page.name}" for page in (ROOT / "benchmarks").glob("*.md"))


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    lines = "".join(blocks(document, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = list(dict.fromkeys(command for document in DOCUMENTS for command in commands(document)))
MAKE = [command for command in COMMANDS if re.match(r"(\w+=\S+ )*make\b", command)]
ONLY_READ = (
    "zssr-gan web ",  # serves until it is stopped
    "zssr-gan web-user add ",  # asks for a password
    "zssr-gan case package cases/",  # a case of the page: tests/web/test_package.py
    "zssr-gan verify car-park.zip ",
    "zssr-gan fuse tracks/",  # about a minute each: tests/video/test_fuse.py
)
READ = [command for command in COMMANDS if command.startswith(ONLY_READ)]
OURS = [command for command in COMMANDS if command.startswith("zssr-gan ") and command not in READ]
OTHERS = (
    *(". .venv/bin/activate", ".ci/run"),  # made by `make setup`, and what runs these tests
    *("pip download ", "python3 -m pip install ", "export 'PYTHONPATH="),  # need a network, or a machine without one
    *("python3 -m pytest tests/gpu ", "python3 benchmarks/gpu_table.py "),  # need a GPU
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, astronaut: Tensor, face: Tensor) -> Path:
    """A folder with the pictures that the README speaks of: small ones, so that each command takes seconds."""
    folder = tmp_path_factory.mktemp("desk")
    photo = astronaut[:, 24:40, 24:40].permute(1, 2, 0).numpy()
    Image.fromarray(np.round(photo * 255).astype(np.uint8)).save(folder / "photo.jpg", quality=95)
    (folder / "faces").mkdir()
    tiny = {"network": {"depth": 2, "width": 8}, "schedule": {"kind": "cosine", "iterations": 20}}
    (folder / "tiny.yaml").write_text(write_yaml(tiny), encoding="utf-8")
    small = np.round(face[0, 4:20, 4:20].numpy() * 255).astype(np.uint8)
    Image.fromarray(small).save(folder / "faces" / "one.png")
    clips.write(folder / "clip.mkv", "ffv1", pictures=[clips.picture(n, width=24, height=24) for n in range(4)])
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    written_generator(folder / "runs" / "demo" / "train")
    for system in ("srgan_x4", "esrgan_x4"):
        written_generator(folder / "runs" / "zoo" / system / "train", scale=4)
    tiny_rrdb = ESRGAN(ESRGANOptions(width=4, growth=2, blocks=1), torch.Generator().manual_seed(0))
    torch.save({"params_ema": tiny_rrdb.state_dict()}, folder / "RealESRGAN_x4plus.pth")
    with Store(folder / "runs" / "paper" / "synthetic", {}) as store:
        store.write([StoredImage("faces/one.png", small[..., None], large[..., None], {"label": "internal"})])
    return folder


def test_it_opens_with_the_two_commands() -> None:
    assert commands("README.md")[:2] == ["make demo", "make test"]


def test_every_command_is_of_a_kind_that_is_tested_here() -> None:
    assert not [one for one in COMMANDS if one not in {*MAKE, *OURS, *READ} and not one.startswith(OTHERS)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_of_a_language_that_is_tested_here(document: str) -> None:
    """A command in a block without `bash` would never be run."""
    text = (ROOT / document).read_text(encoding="utf-8")
    fences = re.findall(r"^ *(?:```+|~~~+)(.*)$", text, flags=re.MULTILINE)
    assert set(fences[::2]) <= {"bash", "python", "ini"}
    assert not any(fences[1::2]), "a block is not closed"


@pytest.mark.parametrize("command", READ)
def test_commands_that_are_not_run_have_options_that_exist(command: str) -> None:
    words = shlex.split(command)[1:]
    found = typer.main.get_command(app)
    while isinstance(group := found, TyperGroup):
        found = group.commands[words.pop(0)]
    found.make_context(command, words).close()


def test_the_wheels_to_take_along_are_those_that_the_package_needs() -> None:
    (download,) = (shlex.split(command) for command in COMMANDS if command.startswith("pip download "))
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {re.split(r"[^\w.-]", one)[0] for one in needed} - {"torch"} <= set(download)


def test_the_ci_script_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_targets_and_their_configs_exist() -> None:
    """Those of the commands, and those that the text names."""
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    words = {word for command in MAKE for word in shlex.split(command)} - {"make"}
    targets = {word for word in words if "=" not in word} | set(re.findall(r"`make ([a-z-]+)", text))
    command = ["make", "--dry-run", *sorted(targets), "DATA=folder"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for word in words:
        name, _, value = word.partition("=")
        if name == "CONFIG":
            assert (ROOT / value).is_file(), value
        elif "=" in word:
            assert name.startswith("PIP_") or f"$({name})" in (ROOT / "Makefile").read_text(), name


# In the order of the README, in one folder: later commands use what earlier ones made. In this process, to load torch
# once; the installed command itself is run in tests/cli/test_main.py and tests/test_wheel.py.
@pytest.mark.parametrize("command", OURS)
def test_commands_run(command: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)[1:]
    # A preset takes seconds; tests/test_wheel.py goes through `fast`.
    words = [re.sub(r"\bfast\b", "tiny.yaml", word) for word in words]
    if "--region" in words:  # the picture has 16 pixels a side
        words[words.index("--region") + 1] = "2,2,12,12"
    monkeypatch.chdir(desk)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{command}\n{done.output}"


def test_the_files_that_the_text_names_are_there(desk: Path) -> None:
    for name in ("photo_x2.png", "photo_x2.json", "photo_x2_evidence.png", "sheet.png", "enhanced/one_x2.png"):
        assert (desk / name).is_file(), name


@pytest.mark.parametrize("block", [block for document in DOCUMENTS for block in blocks(document, "python")])
def test_python_blocks_run(block: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = desk / "photo_python.png"
    photo.unlink(missing_ok=True)
    monkeypatch.chdir(desk)
    exec(compile(block.replace('"fast"', '"tiny.yaml"'), "block", "exec"), {"__name__": "__main__"})
    if "enhance" not in block:
        return
    with Image.open(photo) as result:
        assert result.size == (32, 32)


@pytest.mark.parametrize("document", [*DOCUMENTS, "docs/many-gpus.md", "data/README.md", *FIGURES])
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / document).read_text(encoding="utf-8"))
    missing = [link for link in links if not ((ROOT / document).parent / link).exists()]
    assert not missing


def test_the_readme_is_short_and_shows_a_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text) < 6000
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert 0 < sum((ROOT / picture).stat().st_size for picture in pictures) < 300_000
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)", text))
    assert linked == set(PAGES), "every page of docs/ is found from the README"
