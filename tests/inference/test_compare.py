"""One image by several systems: which are meant, what stands on the sheet and in its record, and what goes wrong."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.estimates import NARROW, WIDE, estimate_of
from tests.generators import written_generator
from tests.inference.files import edit
from zssr_gan.cli.main import main
from zssr_gan.degradation.estimate import encode_estimate
from zssr_gan.degradation.operators import BicubicDownscale
from zssr_gan.devices import RunOptions
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.imaging.io import read_provenance
from zssr_gan.imaging.resize import resize
from zssr_gan.inference import compare as comparing
from zssr_gan.inference.arrays import enhance
from zssr_gan.inference.compare import named_systems
from zssr_gan.settings.base import write_yaml
from zssr_gan.training.model_card import CameraCard, ImageList

OPTIONS = RunOptions(device="cpu", threads=1)


@pytest.fixture
def desk(tmp_path: Path, astronaut: Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a face, two runs (x2 and x4) and settings that take a second."""
    pixels = astronaut[:, 24:40, 20:40].permute(1, 2, 0).numpy()
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(tmp_path / "face.png")
    written_generator(tmp_path / "runs" / "demo" / "train")
    written_generator(tmp_path / "runs" / "four" / "train", scale=4)
    tiny = {"network": {"depth": 2, "width": 8}, "schedule": {"kind": "cosine", "iterations": 20}}
    (tmp_path / "tiny.yaml").write_text(write_yaml(tiny), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*words: str) -> int:
    return main(["compare", "face.png", "--device", "cpu", "--threads", "1", "-o", "sheet.png", *words])


def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("sheet.json").read_bytes())
    return found


@pytest.mark.usefixtures("desk")
def test_systems_by_their_names() -> None:
    file = "runs/four/train/generator.safetensors"
    found = named_systems(["demo, bicubic", f"tiny.yaml,{file},fast"], options=OPTIONS)
    assert [one.name for one in found] == ["demo", "bicubic", "tiny.yaml", file, "fast"]
    assert [one.kind for one in found] == ["generator", "plain", "zero-shot", "generator", "zero-shot"]
    # Those that have no scale of their own take the largest.
    assert [one.request.scale[0] for one in found] == [2, 4, 4, 4, 4]
    (alone,) = named_systems(["bicubic"], options=OPTIONS)
    assert alone.request.scale == (2, 2)
    mixed = named_systems(["demo", "bicubic"], scale=(1.5, 3), options=OPTIONS)
    assert [one.request.scale for one in mixed] == [(2, 2), (1.5, 3)]


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["nobody"], "--models nobody: is none of those that are known .*bicubic, .*quality, fast, demo, four"),
        (["demo,fast", "demo"], "--models names demo twice"),
        (["demo,./runs/demo/train/../train/generator.safetensors"], r"generator\.safetensors twice, as demo too"),
        (["tiny.yaml,./tiny.yaml"], r"--models names \./tiny\.yaml twice, as tiny\.yaml too"),
        ([" , "], "--models names nothing"),
    ],
)
def test_names_that_tell_of_no_system(names: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        named_systems(names, options=OPTIONS)


def test_the_camera_is_told_to_all_systems(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [CameraCard.of(WIDE), CameraCard.of(NARROW)]
    two = str(written_generator(desk / "two", {"cameras": both}))
    (desk / "wide.json").write_bytes(encode_estimate(estimate_of(WIDE, [])))
    assert compare("--models", two) == 2
    assert "say which by --degradation FILE" in " ".join(capsys.readouterr().err.split())
    assert compare("--models", f"{two},back-projected", "--degradation", "wide.json") == 0
    told = {one["name"]: one["pixels_sha256"] for one in record()["systems"]}
    assert compare("--models", "back-projected", "--overwrite") == 0
    assert record()["systems"][0]["pixels_sha256"] != told["back-projected"]
    assert compare("--models", "bicubic", "--degradation", "estimate", "--overwrite") == 2
    assert "one image tells too little of its camera" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("desk")
def test_a_file_that_is_no_generator() -> None:
    torch.save({"x": torch.zeros(1)}, "others.pth")
    with pytest.raises(WeightsError, match=r"others\.pth: .*`zssr-gan model import` makes a generator"):
        named_systems(["others.pth"], options=OPTIONS)
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        named_systems(["gone.safetensors"], options=OPTIONS)


@pytest.mark.usefixtures("desk")
def test_the_record_tells_of_every_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("--models", "bicubic,back-projected,tiny.yaml", "--models", "demo") == 0
    told = record()
    assert told["label"] == "generative"
    assert told["input"]["sha256"] == hashlib.sha256(Path("face.png").read_bytes()).hexdigest()
    assert told["sheet"]["sha256"] == hashlib.sha256(Path("sheet.png").read_bytes()).hexdigest()
    systems = {one["name"]: one for one in told["systems"]}
    assert list(systems) == ["bicubic", "back-projected", "tiny.yaml", "demo"]
    assert [one["label"] for one in systems.values()] == ["internal", "internal", "internal", "generative"]
    generator = Path("runs/demo/train/generator.safetensors")
    assert systems["demo"]["request"]["files"]["model"]["sha256"] == hashlib.sha256(generator.read_bytes()).hexdigest()
    assert systems["demo"]["request"]["files"]["model"]["path"] == generator.as_posix()
    assert systems["tiny.yaml"]["request"]["settings"]["schedule"]["iterations"] == 20
    assert systems["tiny.yaml"]["enhancement"]["choice"]["why"]
    assert read_provenance(Path("sheet.png"))["zssr-gan:label"].startswith("generative: ")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == list(systems)
    assert lines[4] == "sheet.png, and its record sheet.json"


@pytest.mark.usefixtures("desk")
def test_the_record_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    """Its files, its label and what each system was; it is not made again."""
    assert compare("--models", "bicubic,back-projected,tiny.yaml,demo") == 0

    def checks(*options: str) -> dict[str, str]:
        capsys.readouterr()
        assert main(["verify", "sheet.json", *options]) in (0, 1)
        return {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}

    whole = dict.fromkeys(("input", "sheet", "original", "model", "label", "systems"), "ok")
    assert checks() == whole
    assert checks("--rerun") == {**whole, "rerun": "NO"}
    files = {name: Path(name).read_bytes() for name in ("face.png", "sheet.png")}
    for name, check in (("face.png", "input"), ("sheet.png", "sheet")):
        Path(name).write_bytes(files[name] + b"more")
        assert checks() == {**whole, check: "NO"}
        Path(name).write_bytes(files[name])

    def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, str]:
        before = Path("sheet.json").read_bytes()
        edit(Path("sheet.json"), change)
        try:
            return checks()
        finally:
            Path("sheet.json").write_bytes(before)

    assert changed(lambda told: told.update(label="internal")) == {**whole, "label": "NO"}
    assert changed(lambda told: told.update(label_means="anything")) == {**whole, "label": "NO"}
    settings = changed(lambda told: told["systems"][2]["request"]["settings"].update(networks=2))
    assert settings == {**whole, "systems": "NO"}
    edit(Path("sheet.json"), lambda told: told.pop("sheet"))
    assert main(["verify", "sheet.json"]) == 2
    edit(Path("sheet.json"), lambda told: told.update(comparison_version=3))
    assert main(["verify", "sheet.json"]) == 2
    assert "a record of comparison 3; this program reads version 2" in capsys.readouterr().err


@pytest.mark.usefixtures("desk")
def test_pixels_are_those_of_the_systems() -> None:
    """By the record's hashes: a generator's as `enhance` has them, back-projection's nearer to the input."""
    with Image.open("face.png") as picture:
        image = np.asarray(picture).astype(np.float32) / 255
    shown = {}

    def keep(one: comparing.Shown | comparing.Failed) -> None:
        assert isinstance(one, comparing.Shown)
        shown[one.system.name] = one

    systems = named_systems(["bicubic,back-projected,demo"], options=OPTIONS)
    comparing.compare(Path("face.png"), systems, Path("sheet.png"), on_done=keep)
    levels = np.round(image * 255).astype(np.uint8)
    made = enhance(levels, model="runs/demo/train/generator.safetensors", device="cpu", threads=1)
    assert np.array_equal(np.round(shown["demo"].pixels.permute(1, 2, 0).numpy() * 255).astype(np.uint8), made)
    lr = torch.from_numpy(image).permute(2, 0, 1)
    plain = resize(lr, (32, 40)).clamp(0, 1)
    assert (shown["bicubic"].pixels - plain).abs().max() <= 0.5001 / 255
    misses = [
        (BicubicDownscale()(shown[name].pixels[None], (16, 20))[0] - lr).abs().mean().item()
        for name in ("back-projected", "bicubic")
    ]
    assert misses[0] < 0.5 * misses[1]


@pytest.mark.usefixtures("desk")
def test_what_stands_on_the_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[list[tuple[str, Tensor]]]] = []
    real = comparing.contact_sheet

    def seen(rows: Any, **how: Any) -> Tensor:
        drawn.append(rows)
        return real(rows, **how)

    monkeypatch.setattr(comparing, "contact_sheet", seen)
    assert compare("--models", "back-projected,demo,four", "--evidence") == 0
    ((upper, lower),) = drawn
    captions = [caption.splitlines() for caption, _ in upper]
    assert [lines[0] for lines in captions] == ["face.png", "bicubic", "back-projected", "demo", "four"]
    assert captions[3][1].startswith("generative, x2, ")
    assert captions[4][1].startswith("generative, x4, ")
    assert captions[2][1].startswith("internal, x4, ")
    assert [tuple(image.shape[1:]) for _, image in upper] == [(16, 20), (64, 80), (64, 80), (32, 40), (64, 80)]
    assert [caption.partition(",")[0] for caption, _ in lower[2:]] == [
        "one view alone: nothing to disagree with",
        *["disagreement of the views"] * 2,
    ]
    # One scale of colours, or the maps could not be compared.
    assert lower[3][0] == lower[4][0]
    assert compare("--models", "bicubic", "--overwrite") == 0
    assert [caption.splitlines()[0] for caption, _ in drawn[1][0]] == ["face.png", "bicubic"]


@pytest.mark.usefixtures("desk")
def test_a_system_that_fails_is_named_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (6, 6), "gray").save("face.png")  # too small to learn on
    assert compare("--models", "tiny.yaml,demo") == 1
    said = capsys.readouterr()
    assert "failed: tiny.yaml: face.png: the image is 6x6 pixels" in said.err.replace("\n", " ")
    assert "demo: generative, x2" in said.out
    failed, made = record()["systems"]
    assert "6x6 pixels" in failed["failed"]
    assert made["label"] == "generative"
    assert compare("--models", "tiny.yaml", "-o", "other.png") == 1
    assert not Path("other.png").exists()
    assert not Path("other.json").exists()


@pytest.mark.usefixtures("desk")
def test_what_a_generators_card_warns_of_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """That it knows this very image from its training, too."""
    digest = hashlib.sha256(Path("face.png").read_bytes()).hexdigest()
    known = {"inputs": {"face.png": digest}}
    images = {name: ImageList.of(files) for name, files in known.items()}
    written_generator(Path("runs/known/train"), {"images": images}, listed=known)
    assert compare("--models", "demo,known") == 0
    sentence = "the generator was trained on this very image (inputs)"
    assert f"known: {sentence}" in capsys.readouterr().err.replace("\n", " ")
    demo, known_one = record()["systems"]
    assert known_one["notices"] == [sentence]
    assert demo["notices"] == []


@pytest.mark.usefixtures("desk")
def test_nothing_is_overwritten_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, said in (
        (["-o", "sheet.jpg"], 1, "-o sheet.jpg: the sheet is a .png or .tif file"),
        (["-o", "face.png"], 1, "face.png is an input"),
        (["-o", "face.png/sheet.png"], 1, "face.png is not a folder"),
        (["-s", "9"], 2, "9"),
    ):
        assert compare("--models", "bicubic", *words) == code
        assert said in capsys.readouterr().err
    Path("sheet.json").write_text("mine", encoding="utf-8")
    assert compare("--models", "bicubic") == 1
    assert "sheet.json exists already" in capsys.readouterr().err
    assert not Path("sheet.png").exists()
    assert compare("--models", "bicubic", "--overwrite") == 0
    assert record()["label"] == "internal"
    assert main(["compare", ".", "--models", "bicubic", "-o", "other.png"]) == 2
    assert "one image is compared at a time" in capsys.readouterr().err.replace("\n", " ")
