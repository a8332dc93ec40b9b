"""The wheel holds zssr_gan alone, and what it installs works outside the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).parents[1]
PRESETS = ("paper", "original", "quality", "fast", "generator", "raw")


def run(*command: str | Path, folder: Path) -> str:
    # Neither the checkout nor this environment may reach the fresh one by a variable.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def picture(tmp_path: Path, face: Tensor) -> Path:
    path = tmp_path / "face.png"
    Image.fromarray(np.round(face[0, 4:20, 4:20].numpy() * 255).astype(np.uint8)).save(path)
    return path


def enhances(environment: Path, picture: Path) -> None:
    """The installed command enhances a picture, from a folder of its own, with the installed package."""
    folder = picture.parent
    home = run(environment / "bin" / "python", "-c", "import zssr_gan; print(zssr_gan.__file__)", folder=folder)
    assert Path(home.strip()).is_relative_to(environment)
    run(environment / "bin" / "zssr-gan", "enhance", picture, "--preset", "fast", "--evidence", folder=folder)
    with Image.open(folder / "face_x2.png") as result:
        assert result.size == (32, 32)
    assert isinstance(json.loads((folder / "face_x2.json").read_text(encoding="utf-8")), dict)


def test_it_holds_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"zssr_gan"}
    assert "zssr_gan/py.typed" in names
    assert {f"zssr_gan/settings/presets/{preset}.yaml" for preset in PRESETS} <= set(names)
    assert {
        f"zssr_gan/evaluation/page/{name}" for name in ("page.html", "page.css", "page.js", "table.md", "table.tex")
    } <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    files = [*(ROOT / "zssr_gan").rglob("*.py"), *(ROOT / "zssr_gan" / "web" / "static").rglob("*.*")]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= set(names)


@pytest.mark.slow
def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path, picture: Path) -> None:
    """A new environment with the wheel, which borrows the dependencies (not our package) of this one."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=tmp_path)
    run(
        *(sys.executable, "-m", "pip", "--python", environment, "install", "--no-deps", "--no-index", wheel),
        folder=tmp_path,
    )
    (packages,) = environment.glob("lib/python*/site-packages")
    # Folders named in a .pth join the path without their own .pth files, so the editable install stays behind.
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n", encoding="utf-8")
    enhances(environment, picture)


@pytest.mark.slow
def test_it_installs_from_nothing_with_the_pinned_versions(wheel: Path, tmp_path: Path, picture: Path) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, folder=tmp_path)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, folder=tmp_path)
    run(python, "-m", "pip", "check", folder=tmp_path)
    pins = set((ROOT / "constraints.txt").read_text(encoding="utf-8").lower().split())
    for package in json.loads(run(python, "-m", "pip", "list", "--format=json", folder=tmp_path)):
        name, version = package["name"].lower(), package["version"].split("+")[0]
        # A CUDA build of torch brings its own libraries, which it pins itself.
        known = f"{name}=={version}" in pins or name in {"pip", "setuptools", "zssr-gan", "triton"}
        assert known or name.startswith(("nvidia-", "cuda-")), f"{name} {version} is not pinned"
    enhances(environment, picture)
