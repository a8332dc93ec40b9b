"""Many files: what is written, what a failure costs, and what is known of it afterwards."""

import errno
import gc
import json
import os
import re
import traceback
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.inference.files import TINY, timeless
from zssr_gan.devices import RunOptions, machine
from zssr_gan.errors import NumericalError
from zssr_gan.files import sha256_file
from zssr_gan.imaging.io import read_provenance
from zssr_gan.imaging.picture import Picture
from zssr_gan.inference import batch
from zssr_gan.inference.batch import run_plan
from zssr_gan.inference.enhance import Enhanced
from zssr_gan.inference.options import make_request
from zssr_gan.inference.outputs import ImageTask, RunPlan, collect_sources, plan_run
from zssr_gan.inference.record import read_record
from zssr_gan.inference.request import Request
from zssr_gan.inference.result import Result
from zssr_gan.inference.sheet import Sheet
from zssr_gan.inference.verify import verify_record
from zssr_gan.progress import Progress
from zssr_gan.provenance import LABELS, STATEMENT, VERSION
from zssr_gan.settings.base import write_yaml
from zssr_gan.settings.zeroshot import RefinementSettings


@pytest.fixture
def case(tmp_path: Path, face: Tensor) -> Path:
    """A folder with two pictures and, between them, a file that is none."""
    pixels = np.round(face[0].numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[:20]).save(tmp_path / "c.tif")
    (tmp_path / "b.png").write_bytes(b"not an image")
    return tmp_path


@pytest.fixture
def request_tiny(tmp_path: Path) -> Request:
    path = tmp_path / "tiny.yaml"
    path.write_text(write_yaml(TINY), encoding="utf-8")
    return make_request(2, str(path), init="scratch", options=RunOptions(device="cpu", threads=1))


def run(plan: RunPlan, request: Request) -> dict[str, Result]:
    return {outcome.task.source.name: outcome for outcome in run_plan(plan, request)}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def raising(error: BaseException) -> Callable[..., object]:
    def enhance_pictures(*_: object, **__: object) -> object:
        raise error

    return enhance_pictures


def test_a_bad_file_is_named_and_the_rest_goes_on(case: Path, request_tiny: Request) -> None:
    before = {path.name: sha256_file(path) for path in case.iterdir()}
    found = run(plan_run([case], output=case / "out", evidence=True), request_tiny)
    assert {name: outcome.status for name, outcome in found.items()} == {
        "a.png": "done",
        "b.png": "failed",
        "c.tif": "done",
    }
    assert str(case / "b.png") in found["b.png"].message
    assert names(case / "out") == {f"{stem}_x2{end}" for stem in "ac" for end in (".json", "_evidence.png")} | {
        "a_x2.png",
        "c_x2.tif",
    }
    assert {name: sha256_file(case / name) for name in before} == before
    record = read_record(case / "out" / "a_x2.json")
    assert record.input.path == "../a.png"
    assert (record.label, record.output.width, record.output.height, record.output.channels) == ("internal", 50, 50, 1)
    _, notices = collect_sources([case / "out", case], recursive=False)
    assert notices[0] == "left out 4 results of earlier runs found in the folders"


def test_broken_links_fail_by_name_and_the_rest_goes_on(case: Path, request_tiny: Request) -> None:
    (case / "b.png").unlink()
    (case / "link.png").symlink_to("gone.png")
    (case / "self.jpg").symlink_to("self.jpg")
    found = run(plan_run([case], output=case / "out"), request_tiny)
    assert {name: one.status for name, one in found.items()} == {
        "a.png": "done", "c.tif": "done", "link.png": "failed", "self.jpg": "failed",
    }  # fmt: skip
    assert found["link.png"].message == f"{case / 'link.png'}: is a broken link (to gone.png)"
    assert "self.jpg: is a loop of links (to self.jpg)" in found["self.jpg"].message


def test_two_runs_give_the_same_bytes_and_the_same_record(case: Path, request_tiny: Request) -> None:
    for folder in ("one", "two"):
        run(plan_run([case / "a.png"], output=case / folder, evidence=True), request_tiny)
    for name in ("a_x2.png", "a_x2_evidence.png"):
        assert (case / "one" / name).read_bytes() == (case / "two" / name).read_bytes()
    one, two = (json.loads((case / folder / "a_x2.json").read_text("utf-8")) for folder in ("one", "two"))
    assert timeless(one) == timeless(two)


def test_small_images_at_once_give_the_same_bytes(case: Path, request_tiny: Request) -> None:
    """And the same records, order and errors, but for the times; a rerun takes the recorded thread."""
    for number in range(3):
        with Image.open(case / "a.png") as image:
            image.rotate(90 * number + 90).save(case / f"a{number}.png")
    shown: dict[str, list[str]] = {}
    for name, threads, at_once in (("one", 1, 1), ("several", None, 3)):
        request = replace(request_tiny, options=RunOptions("cpu", threads=threads))
        plan, begun = plan_run([case], output=case / name, evidence=True), list[int]()
        with machine(RunOptions("cpu", threads=at_once)):
            results = [*run_plan(plan, request, on_start=lambda place, _, begun=begun: begun.append(place))]
            assert torch.get_num_threads() == at_once
        assert begun == [0, 1, 2, 3, 4, 5]
        shown[name] = [f"{result.task.source.name} {result.status} {result.message}" for result in results]
    assert shown["one"] == shown["several"]
    for path in (case / "one").iterdir():
        again = case / "several" / path.name
        if path.suffix == ".json":
            assert timeless(json.loads(path.read_text("utf-8"))) == timeless(json.loads(again.read_text("utf-8")))
        else:
            assert path.read_bytes() == again.read_bytes()
    assert verify_record(case / "several" / "a_x2.json", rerun=True).ok


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("shape"), r"zssr-gan made a mistake \(RuntimeError: shape\); please report"),
        (NumericalError("the network gave NaN"), r"a\.png: the network gave NaN"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    ],
)
def test_an_error_in_the_work_is_one_sentence(
    case: Path, request_tiny: Request, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(batch, "enhance_pictures", raising(error))
    outcome = run(plan_run([case / "a.png"], output=case / "out"), request_tiny)["a.png"]
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert re.search(said, outcome.message)
    assert not (case / "out").exists()


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_an_image_is_let_go_before_the_next_begins(
    case: Path, request_tiny: Request, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    held: list[weakref.ref[object]] = []
    decode, work = batch.decode_picture, batch.enhance_pictures

    def watched(*arguments: Any, **options: Any) -> Picture:
        picture = decode(*arguments, **options)
        held.append(weakref.ref(picture.pixels))
        return picture

    def enhance_pictures(*arguments: Any, **options: Any) -> list[Enhanced]:
        (enhanced,) = work(*arguments, **options)
        held.append(weakref.ref(enhanced.residual))
        if fails:
            raise RuntimeError("late")
        return [enhanced]

    monkeypatch.setattr(batch, "decode_picture", watched)
    monkeypatch.setattr(batch, "enhance_pictures", enhance_pictures)
    begun = []

    def on_start(place: int, _: ImageTask) -> None:
        begun.append(place)
        gc.collect()
        assert len(held) == 2 * place
        assert all(one() is None for one in held)

    plan = plan_run([case / "a.png", case / "c.tif"], output=case / "out")
    outcomes = [*run_plan(plan, request_tiny, on_start=on_start)]
    assert begun == [0, 1]
    assert {outcome.status for outcome in outcomes} == {"failed" if fails else "done"}
    if fails:
        assert "enhance_pictures" in "".join(traceback.format_exception(outcomes[0].error))


def test_an_interrupt_leaves_no_file(case: Path, request_tiny: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "enhance_pictures", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(plan_run([case / "a.png"], output=case / "out"), request_tiny)
    assert not (case / "out").exists()


def refuse_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up with the bytes of the last of the files."""
    fsync, count = os.fsync, 0

    def refuse(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


def test_no_result_stays_without_its_record(case: Path, request_tiny: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_records(monkeypatch)
    outcome = run(plan_run([case / "a.png"], output=case / "out", evidence=True), request_tiny)["a.png"]
    assert outcome.status == "failed"
    assert "a_x2.json: cannot be written, because the disk is full" in outcome.message
    assert not names(case / "out")


def change_input(case: Path) -> Callable[[Progress], None]:
    return lambda _: (case / "a.png").write_bytes(b"other") and None


def test_an_input_that_changes_meanwhile_fails(case: Path, request_tiny: Request) -> None:
    plan = plan_run([case / "a.png"], output=case / "out")
    (outcome,) = run_plan(plan, request_tiny, on_progress=change_input(case))
    assert outcome.status == "failed"
    assert "changed while" in outcome.message
    assert not (case / "out").exists()


@pytest.mark.parametrize("trouble", ["input", "disk"])
def test_a_failed_run_leaves_what_it_would_have_replaced(
    case: Path, request_tiny: Request, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    asked = replace(request_tiny, overwrite=True, seed=1)
    plan = plan_run([case / "a.png"], output=case / "out", evidence=True, overwrite=True)
    run(plan, request_tiny)
    before = {path.name: path.read_bytes() for path in (case / "out").iterdir()}
    assert len(before) == 3
    if trouble == "disk":
        refuse_records(monkeypatch)
    (outcome,) = run_plan(plan, asked, on_progress=change_input(case) if trouble == "input" else None)
    assert outcome.status == "failed"
    assert {path.name: path.read_bytes() for path in (case / "out").iterdir()} == before
    monkeypatch.undo()
    if trouble == "disk":
        assert run(plan, asked)["a.png"].status == "done"
        assert all((case / "out" / name).read_bytes() != content for name, content in before.items())
        assert names(case / "out") == set(before)


def test_what_appears_meanwhile_is_not_written_over(case: Path, request_tiny: Request) -> None:
    plan = plan_run([case / "a.png"])
    (case / "a_x2.png").write_bytes(b"someone else's")
    assert run(plan, request_tiny)["a.png"].status == "failed"
    assert (case / "a_x2.png").read_bytes() == b"someone else's"


def test_skipping_says_what_was_made_otherwise(case: Path, request_tiny: Request) -> None:
    run(plan_run([case / "a.png"]), request_tiny)
    again = plan_run([case / "a.png"], skip_existing=True)
    assert run(again, request_tiny)["a.png"].message == "exists already"
    other = run(again, replace(request_tiny, seed=1, scale=(2.0, 3.0)))["a.png"]
    assert other.status == "skipped"
    assert other.message.endswith("made with another scale, another seed")
    other_settings = request_tiny.settings.model_copy(update={"refinement": RefinementSettings(ensemble=False)})
    other = run(again, replace(request_tiny, settings=other_settings))["a.png"]
    assert other.message.endswith("made with other settings")
    (case / "a_x2.json").write_text("{}", encoding="utf-8")
    assert "cannot be checked" in run(again, request_tiny)["a.png"].message
    (case / "a_x2.json").write_text('{"schema_version": 1}', encoding="utf-8")
    older = run(plan_run([case / "a.png"], skip_existing=True), request_tiny)["a.png"]
    assert older.status == "skipped"
    assert "cannot be checked" in older.message
    assert "a record of schema 1" in older.message


def test_an_outcome_is_one_json_object(case: Path, request_tiny: Request) -> None:
    found = run(plan_run([case], output=case / "out"), request_tiny)
    done, failed = (json.loads(json.dumps(found[name].as_json(), allow_nan=False)) for name in ("a.png", "b.png"))
    assert done["output"] == str(case / "out" / "a_x2.png")
    assert done["label"] == "internal"
    assert done["sha256"] == sha256_file(case / "out" / "a_x2.png")
    assert failed["status"] == "failed"
    assert "output" not in failed


def test_the_sheet_shows_every_image(case: Path, request_tiny: Request) -> None:
    sheet = Sheet(case / "sheet.png")
    for _ in run_plan(plan_run([case], output=case / "out"), request_tiny, on_result=sheet.add):
        pass
    assert len(sheet) == 2
    assert sheet.write(overwrite=False)
    with Image.open(case / "sheet.png") as image:
        assert image.mode == "RGB"
    text = read_provenance(case / "sheet.png")
    assert text["zssr-gan:label"] == f"internal: {LABELS['internal']}"
    assert (text["zssr-gan:statement"], text["Software"]) == (STATEMENT, f"zssr-gan {VERSION}")
    assert text["zssr-gan:input-sha256"].split() == [sha256_file(case / name) for name in ("a.png", "c.tif")]
    assert not Sheet(case / "none.png").write(overwrite=False)
