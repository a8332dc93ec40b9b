"""The images of one run as a case: learnt on together, kept, found again, and told in every record."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import Tensor

from zssr_gan.cli.main import main
from zssr_gan.devices import RunOptions
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.inference import case
from zssr_gan.inference.batch import Outcome, run_plan
from zssr_gan.inference.case import with_shared_start
from zssr_gan.inference.outputs import Plan, plan_run
from zssr_gan.inference.record import read_record
from zssr_gan.inference.request import Request, make_request
from zssr_gan.inference.verify import verify_record

TINY = {
    "network": {"depth": 2, "width": 4, "grid": "lr", "initial": "lecun"},
    "pairs": {"crop": 16, "batch": 2},
    "schedule": {"kind": "cosine", "iterations": 5},
    "refinement": {"back_projections": 1},
}


@pytest.fixture
def folder(tmp_path: Path, face: Tensor) -> Path:
    """in/ with three pictures, one of another size, one in colours; and one file that is none."""
    pixels = np.round(face[0].numpy() * 255).astype(np.uint8)
    images = tmp_path / "in"
    images.mkdir()
    Image.fromarray(pixels).save(images / "a.png")
    Image.fromarray(pixels[:20]).save(images / "b.png")
    Image.fromarray(np.stack([pixels, pixels.T, pixels[::-1]], -1)).save(images / "c.png")
    (images / "d.png").write_bytes(b"not an image")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return tmp_path


def asked(folder: Path, **changes: Any) -> Request:
    options = RunOptions(device="cpu", threads=1)
    preset = None if "init_from" in changes else str(folder / "tiny.yaml")
    return make_request("2", preset, **{"init": "shared", "options": options, **changes})


def plan(folder: Path) -> Plan:
    return plan_run([folder / "in"], scale=(2.0, 2.0), output=folder / "out")


def learn(folder: Path, **changes: object) -> tuple[Request, list[str]]:
    return with_shared_start(plan(folder), asked(folder, **changes), lambda *_: None)


def run(folder: Path, request: Request) -> dict[str, Outcome]:
    return {outcome.job.source.name: outcome for outcome in run_plan(plan(folder), request)}


def test_every_record_lists_what_was_learnt_from(folder: Path) -> None:
    request, said = learn(folder)
    assert request.shared is not None
    assert str(request.shared.path) in said[0]
    assert "3 images" in said[0]
    outcomes = run(folder, request)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "a.png": "done",
        "b.png": "done",
        "c.png": "done",
        "d.png": "failed",
    }
    for name in "abc":
        path = folder / "out" / f"{name}_x2.json"
        record = read_record(path)
        assert record.label == "case"
        assert record.case is not None
        assert {image.name: image.sha256 for image in record.case.images} == {
            f"{other}.png": sha256_file(folder / "in" / f"{other}.png") for other in "abc"
        }
        assert verify_record(path, rerun=True).ok
    with Image.open(folder / "out/a_x2.png") as image:
        assert image.mode == "L"


def test_verify_misses_the_shared_start(folder: Path) -> None:
    request, _ = learn(folder)
    run(folder, request)
    assert request.shared is not None
    request.shared.path.unlink()
    found = verify_record(folder / "out/a_x2.json", rerun=True)
    assert {check.name for check in found.checks if not check.ok} == {"case", "rerun"}


def test_verify_finds_another_list_of_images(folder: Path) -> None:
    request, _ = learn(folder)
    run(folder, request)
    path = folder / "out/a_x2.json"
    record = json.loads(path.read_text("utf-8"))
    record["case"]["images"].pop()
    path.write_text(json.dumps(record), "utf-8")
    (case,) = [check for check in verify_record(path).checks if not check.ok]
    assert (case.name, "others than are listed" in case.text) == ("case", True)


def test_the_same_case_is_learnt_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = learn(folder)
    with monkeypatch.context() as patch:
        patch.setattr(case, "learn_shared", lambda *_, **__: pytest.fail("learnt again"))
        second, said = learn(folder)
    assert first.shared is not None
    assert second.shared is not None
    assert second.shared.path == first.shared.path
    assert second.shared.start.sha256 == first.shared.start.sha256 == sha256_file(first.shared.path)
    assert "used again" in said[0]
    other, _ = learn(folder, seed=1)
    assert other.shared is not None
    assert other.shared.path != first.shared.path


def test_a_kept_start_brings_its_settings(folder: Path) -> None:
    request, _ = learn(folder)
    assert request.shared is not None
    taken = make_request("2", init_from=request.shared.path, options=request.options)
    assert taken.init == "shared"
    assert taken.settings == request.settings
    results = []
    for each in (request, replace(taken, overwrite=True)):
        again = plan_run([folder / "in"], scale=(2.0, 2.0), output=folder / "out", overwrite=each.overwrite)
        assert [outcome.status for outcome in run_plan(again, each)].count("done") == 3
        results.append(sha256_file(folder / "out/a_x2.png"))
    assert results[0] == results[1]


def test_another_shared_start_is_seen_when_results_exist(folder: Path) -> None:
    first, _ = learn(folder)
    other, _ = learn(folder, seed=1)
    run(folder, first)
    again = plan_run([folder / "in"], scale=(2.0, 2.0), output=folder / "out", skip_existing=True)
    messages = {outcome.job.source.name: outcome.message for outcome in run_plan(again, other)}
    assert "another seed, another shared start" in messages["a.png"]


def test_an_image_from_elsewhere_is_said(folder: Path) -> None:
    request, _ = learn(folder)
    assert not run(folder, request)["a.png"].notices
    Image.new("L", (12, 12)).save(folder / "in" / "a.png")  # another image than was learnt on
    again = plan_run([folder / "in" / "a.png"], scale=(2.0, 2.0), output=folder / "other")
    (strange,) = run_plan(again, request)
    assert any("not among the images" in notice for notice in strange.notices)


def test_nothing_to_learn_from(folder: Path) -> None:
    for name in "abc":
        (folder / "in" / f"{name}.png").unlink()
    with pytest.raises(ImageError, match="none of the images can be learnt from"):
        learn(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_a_file_that_is_no_shared_start(folder: Path, content: bytes) -> None:
    path = folder / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="is not a shared start"):
        asked(folder, init_from=path)


@pytest.mark.parametrize(("option", "value"), [("preset", "fast"), ("noise", 0.01)])
def test_a_kept_start_takes_no_other_settings(folder: Path, option: str, value: object) -> None:
    request, _ = learn(folder)
    assert request.shared is not None
    with pytest.raises(SettingsError, match=f"leave --{option} out"):
        make_request("2", **{option: value}, init_from=request.shared.path)  # type: ignore[arg-type]


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["enhance", str(folder / "in"), "-o", str(folder / "out"), "--preset", str(folder / "tiny.yaml")]
    code = main([*words, "--init", "shared", "--threads", "1", "--json"])
    out, err = capsys.readouterr()
    assert code == 1  # d.png
    objects = [json.loads(line) for line in out.splitlines()]
    assert [one.get("label") for one in objects] == ["case", "case", "case", None]
    assert "learnt on 3 images" in err


def test_ctrl_c_while_learning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(case, "learn_shared", interrupt)
    words = ["enhance", str(folder / "in"), "-o", str(folder / "out"), "--preset", str(folder / "tiny.yaml")]
    assert main([*words, "--init", "shared"]) == 130
    assert not list((folder / "out").glob("*")) if (folder / "out").exists() else True
