"""A record explains a result; verifying finds whatever was changed since, and makes the image again."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from tests.inference import files
from zssr_gan.cli.main import main
from zssr_gan.degradation.model import KernelBlur
from zssr_gan.devices import RunOptions
from zssr_gan.files import canonical_sha256, relative_path, sha256_file
from zssr_gan.inference.batch import run_plan
from zssr_gan.inference.options import make_request
from zssr_gan.inference.outputs import plan_run
from zssr_gan.inference.record import RecordError, encode_record, read_record, versions
from zssr_gan.inference.verify import Verification, verify_record
from zssr_gan.provenance import LABELS, STATEMENT
from zssr_gan.settings.base import write_yaml


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, face: Tensor) -> Path:
    """A case folder as the command leaves it: `input/a.png`, `out/a_x2.*`."""
    folder = tmp_path_factory.mktemp("case")
    (folder / "input").mkdir()
    Image.fromarray(np.round(face[0].numpy() * 255).astype(np.uint8)).save(folder / "input" / "a.png")
    (folder / "tiny.yaml").write_text(write_yaml(files.TINY), encoding="utf-8")
    np.save(folder / "kernel.npy", np.outer([1, 3, 1], [1, 3, 1]))
    request = make_request(
        2,
        str(folder / "tiny.yaml"),
        init="scratch",
        kernel=folder / "kernel.npy",
        options=RunOptions(device="cpu", threads=1),
    )
    (outcome,) = run_plan(plan_run([folder / "input"], output=folder / "out", evidence=True), request)
    assert outcome.status == "done", outcome.message
    return folder


@pytest.fixture
def case(made: Path, tmp_path: Path) -> Path:
    """The same, moved to another place."""
    shutil.copytree(made, tmp_path / "moved")
    return tmp_path / "moved"


def failed(found: Verification) -> list[str]:
    return [check.name for check in found.checks if not check.ok]


def edit(case: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    return files.edit(case / "out" / "a_x2.json", change)


def test_a_moved_case_verifies_and_is_made_again(case: Path) -> None:
    stages = []
    found = verify_record(
        case / "out" / "a_x2.json", rerun=True, on_progress=lambda progress: stages.append(progress.stage)
    )
    assert found.ok, found
    assert [check.name for check in found.checks] == [
        *("input", "output", "evidence", "original", "label", "settings", "degradation", "rerun")
    ]
    assert stages
    (case / "input" / "a.png").rename(case / "out" / "a.png")  # copied beside the record it is found too
    assert verify_record(case / "out" / "a_x2.json", rerun=True).ok


def test_a_record_reads_back_as_it_was_written(case: Path) -> None:
    path = case / "out" / "a_x2.json"
    assert encode_record(read_record(path)) == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "check"),
    [("input/a.png", "input"), ("out/a_x2.png", "output"), ("out/a_x2_evidence.png", "evidence")],
)
def test_a_changed_or_missing_file_is_found(case: Path, name: str, check: str) -> None:
    path = case / name
    path.write_bytes(path.read_bytes() + b"x")
    assert failed(verify_record(case / "out" / "a_x2.json")) == [check]
    path.unlink()
    assert failed(verify_record(case / "out" / "a_x2.json")) == [check]


def change(keys: str, value: object) -> Callable[[dict[str, Any]], None]:
    def changed(content: dict[str, Any]) -> None:
        *groups, last = keys.split(".")
        for group in groups:
            content = content[group]
        content[last] = value

    return changed


@pytest.mark.parametrize(
    ("keys", "value", "checks"),
    [
        ("request.settings.network.width", 8, ["settings"]),
        ("request.degradation.values.blur.values", [[1.0]], ["degradation"]),
        ("input.sha256_after", "0" * 64, ["original"]),
        ("label", "case", ["label"]),
    ],
)
def test_a_changed_record_is_found(case: Path, keys: str, value: object, checks: list[str]) -> None:
    assert failed(verify_record(edit(case, change(keys, value)))) == checks


def test_a_rerun_says_why_it_was_not_made(case: Path) -> None:
    (case / "input" / "a.png").write_bytes((case / "out" / "a_x2.png").read_bytes())
    found = verify_record(case / "out" / "a_x2.json", rerun=True)
    assert failed(found) == ["input", "rerun"]
    assert "not made: the input" in found.checks[-1].text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG", "not JSON"),
        (b"[]", "not a record"),
        (b'{"a": 1}', "not a record"),
        (b'{"schema_version": 99}', "version 99"),
        (b'{"schema_version": 2}', "broken record: tool"),
        (b'{"schema_version": 1}', "broken record"),
    ],
)
def test_a_broken_record_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=said):
        verify_record(path)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        ("request.degradation.values.blur.values", [[1.0, 2.0], [3.0]], "request.degradation.values"),
        ("request.files.kernel.path", "../a\0.npy", "request.files.kernel.path: .*NUL"),
        ("input.path", "../input/a\0.png", "input.path: .*NUL"),
        ("input.name", "a\0.png", "input.name: .*name alone"),
        ("output.name", "../input/a.png", "output.name: .*name alone"),
        ("evidence.name", "..", "evidence.name: .*name alone"),
    ],
)
def test_odd_values_make_a_broken_record(case: Path, keys: str, value: object, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        read_record(edit(case, change(keys, value)))


def test_the_image_named_instead_of_its_record_is_said(case: Path) -> None:
    with pytest.raises(RecordError, match=r"a_x2\.json"):
        read_record(case / "out" / "a_x2.png")
    with pytest.raises(RecordError, match="no such file"):
        read_record(case / "none.json")


def test_it_says_what_the_pixels_were_learnt_from(case: Path) -> None:
    record = read_record(case / "out" / "a_x2.json")
    assert (record.label, record.label_means, record.statement) == ("internal", LABELS["internal"], STATEMENT)
    assert "--seed 0" in record.command_line
    assert "--threads 1" in record.command_line
    with Image.open(case / "out" / "a_x2.png") as image:
        text = image.info
    assert text["zssr-gan:label"].startswith("internal")
    assert text["zssr-gan:input-sha256"] == record.input.sha256
    assert text["zssr-gan:settings-sha256"] == record.request.settings_sha256
    assert {option: file.path for option, file in record.request.files.items()} == {
        "kernel": "../kernel.npy",
        "preset": "../tiny.yaml",
    }
    assert record.request.files["preset"].sha256 == sha256_file(case / "tiny.yaml")
    blur = record.request.degradation.values.blur
    assert isinstance(blur, KernelBlur)
    assert blur.scale == (2, 2)
    assert np.allclose(blur.values, np.outer([1, 3, 1], [1, 3, 1]) / 25, atol=1e-15)


def test_hashes_and_paths_do_not_depend_on_order_or_links(tmp_path: Path) -> None:
    assert canonical_sha256({"a": 1, "b": [1.5, None]}) == canonical_sha256({"b": [1.5, None], "a": 1})
    assert canonical_sha256({"a": 1}) != canonical_sha256({"a": 2})
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    assert relative_path(tmp_path / "a.png", tmp_path / "link") == "../../a.png"


def test_a_rerun_says_what_is_taken_on_trust(case: Path) -> None:
    def later(content: dict[str, Any]) -> None:
        content["enhancement"]["versions"]["torch"] = "0"
        content["enhancement"]["device_name"] = "abacus"
        content["enhancement"]["seconds"] = 7
        content["times"]["seconds"] = 7

    found = verify_record(edit(case, later), rerun=True)
    assert found.ok, found
    assert "taken on trust: times, versions, the device's name" in found.checks[-1].text


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        ("command_line", "rm -r x", ""),
        ("request.seed", 1, "pixels differ"),
        ("request.preset", "quality", "the record names the preset quality"),
        ("request.precision", "bf16x", "no precision is called"),
        ("request.threads", 7, "command_line"),
        ("request.threads", 10**12, "1000000000000 threads are too many"),
        ("request.files.kernel.path", "../other.npy", "command_line"),
        ("input.name", "b.png", ""),
        ("input.width", 7, ""),
        ("input.size_bytes", 7, ""),
        ("output.width", 7, ""),
        ("output.bits", 16, ""),
        ("enhancement.choice.why", "because", ""),
        ("enhancement.steps", [], ""),
        ("enhancement.notices", ["all is well"], ""),
        ("evidence.size_bytes", 7, ""),
    ],
)
def test_a_rerun_holds_the_whole_record_against_itself(case: Path, keys: str, value: object, said: str) -> None:
    found = verify_record(edit(case, change(keys, value)), rerun=True)
    assert failed(found) == ["rerun"], found
    assert (said or keys) in found.checks[-1].text


@pytest.mark.parametrize("key", ["label_means", "statement"])
def test_what_the_record_says_of_the_result_is_what_the_result_says_itself(case: Path, key: str) -> None:
    found = verify_record(edit(case, change(key, "This is an original.")))
    assert failed(found) == ["label"], found


def test_a_rerun_makes_the_evidence_map_again(case: Path) -> None:
    """Another map whose hash the record was given: only making it again shows it."""
    path = case / "out" / "a_x2_evidence.png"
    path.write_bytes((case / "out" / "a_x2.png").read_bytes())
    found = verify_record(edit(case, change("evidence.sha256", sha256_file(path))), rerun=True)
    assert failed(found) == ["rerun"]
    assert "evidence.sha256" in found.checks[-1].text


@pytest.fixture
def schema_1(case: Path) -> Path:
    """The record as schema 1 had it, as far as its hashes go."""

    def older(content: dict[str, Any]) -> None:
        request, values = content.pop("request"), [[0.5, 0.5]]
        content |= {
            "schema_version": 1,
            "settings": request["settings"],
            "settings_sha256": request["settings_sha256"],
            "kernel": {"name": "kernel.npy", "values": values, "values_sha256": canonical_sha256(values)},
            "model": None,
            "case": None,
        }

    return edit(case, older)


def test_a_record_of_schema_1_may_not_call_less_what_a_generator_made(schema_1: Path) -> None:
    content = json.loads(schema_1.read_bytes())
    content["model"] = {"path": "../kernel.npy", "sha256": "0" * 64}
    schema_1.write_text(json.dumps(content), "utf-8")
    labels = [check for check in verify_record(schema_1).checks if check.name == "label"]
    assert [check.ok for check in labels] == [False]
    assert "generative" in labels[0].text


def test_records_of_schema_1_verify_their_hashes_and_are_not_made_again(schema_1: Path, case: Path) -> None:
    found = verify_record(schema_1)
    assert found.ok, found
    assert [check.name for check in found.checks] == [
        *("input", "output", "evidence", "original", "label", "settings", "kernel")
    ]
    again = verify_record(schema_1, rerun=True)
    assert failed(again) == ["rerun"]
    assert "a rerun needs the zssr-gan that wrote it" in again.checks[-1].text
    assert [main(["verify", str(schema_1), *more]) for more in ([], ["--rerun"])] == [0, 1]
    edit(case, lambda content: content["kernel"].update(values=[[1.0]]))
    edit(case, lambda content: content["settings"].update(networks=9))
    (case / "kernel.npy").unlink()
    (case / "out" / "a_x2.png").unlink()
    assert failed(verify_record(schema_1)) == ["output", "settings", "kernel"]


def test_triton_is_named_where_its_distribution_has_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other builds a module `triton` comes by another distribution."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "triton":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "triton" not in versions.__wrapped__()  # beside the cache
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.6" if name == "triton" else real(name))
    assert versions.__wrapped__()["triton"] == "3.6"
