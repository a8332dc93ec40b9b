"""A record explains a result; verifying finds whatever was changed since, and makes the image again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import Tensor

from zssr_gan.devices import RunOptions
from zssr_gan.files import canonical_sha256, relative_path, sha256_file
from zssr_gan.inference.batch import run_plan
from zssr_gan.inference.outputs import plan_run
from zssr_gan.inference.record import CaseFacts, RecordError, read_record
from zssr_gan.inference.request import make_request
from zssr_gan.inference.verify import Verification, _at_odds, verify_record
from zssr_gan.provenance import LABELS, STATEMENT, provenance_text
from zssr_gan.settings.zeroshot import load_preset

TINY = {
    "network": {"depth": 2, "width": 4},
    "schedule": {"kind": "cosine", "iterations": 3},
    "refinement": {"back_projections": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, face: Tensor) -> Path:
    """A case folder as the command leaves it: `input/a.png`, `out/a_x2.*`."""
    folder = tmp_path_factory.mktemp("case")
    (folder / "input").mkdir()
    Image.fromarray(np.round(face[0].numpy() * 255).astype(np.uint8)).save(folder / "input" / "a.png")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    np.save(folder / "kernel.npy", np.outer([1, 3, 1], [1, 3, 1]))
    request = make_request(
        "2", str(folder / "tiny.yaml"), kernel=folder / "kernel.npy", options=RunOptions(device="cpu", threads=1)
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


def edit(case: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = case / "out" / "a_x2.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_moved_case_verifies_and_is_made_again(case: Path) -> None:
    stages = []
    found = verify_record(
        case / "out" / "a_x2.json", rerun=True, on_progress=lambda progress: stages.append(progress.stage)
    )
    assert found.ok, found
    assert [check.name for check in found.checks] == [
        *("input", "original", "output", "label", "evidence", "settings", "kernel", "rerun")
    ]
    assert stages


def test_an_input_copied_beside_the_record_is_found(case: Path) -> None:
    (case / "input" / "a.png").rename(case / "out" / "a.png")
    assert verify_record(case / "out" / "a_x2.json").ok


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


def test_changed_settings_and_kernels_are_found(case: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["settings"]["network"]["width"] = 8
        content["kernel"]["values"][0][0] += 1e-9

    assert failed(verify_record(edit(case, change))) == ["settings", "kernel"]


def test_an_input_that_changed_during_the_work_is_found(case: Path) -> None:
    assert failed(verify_record(edit(case, lambda content: content["input"].update(sha256_after="0" * 64)))) == [
        "original"
    ]


def test_a_rerun_finds_another_seed(case: Path) -> None:
    found = verify_record(edit(case, lambda content: content["arguments"].update(seed=1)), rerun=True)
    assert failed(found) == ["rerun"]


def test_a_rerun_says_why_it_was_not_made(case: Path) -> None:
    (case / "input" / "a.png").write_bytes(b"other")
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
        (b'{"schema_version": 1}', "broken record: tool"),
    ],
)
def test_a_broken_record_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=said):
        read_record(path)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("kernel", "values"), [[1.0, 2.0], [3.0]], "kernel: .*rows of one length"),
        (("kernel", "values"), [], "kernel: .*rows of one length"),
        (("kernel", "values"), [[], []], "kernel: .*rows of one length"),
        (("kernel", "name"), "a/b.npy", "kernel.name: .*name alone"),
        (("input", "path"), "../input/a\0.png", "input.path: .*NUL"),
        (("input", "name"), "a\0.png", "input.name: .*name alone"),
        (("output", "name"), "../input/a.png", "output.name: .*name alone"),
        (("evidence", "name"), "..", "evidence.name: .*name alone"),
    ],
    ids=str,
)
def test_odd_values_make_a_broken_record(case: Path, keys: tuple[str, str], value: object, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        read_record(edit(case, lambda content: content[keys[0]].update({keys[1]: value})))


def test_a_rerun_with_threads_beyond_any_machine_is_not_made(case: Path) -> None:
    found = verify_record(edit(case, lambda content: content["enhancement"].update(threads=10**12)), rerun=True)
    assert failed(found) == ["rerun"]
    assert "not made: 1000000000000 threads are too many" in found.checks[-1].text


def test_the_image_named_instead_of_its_record_is_said(case: Path) -> None:
    with pytest.raises(RecordError, match=r"a_x2\.json"):
        read_record(case / "out" / "a_x2.png")
    with pytest.raises(RecordError, match="cannot be read"):
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
    assert text["zssr-gan:settings-sha256"] == record.settings_sha256


def test_a_hash_does_not_hang_on_the_order_of_keys() -> None:
    assert canonical_sha256({"a": 1, "b": [1.5, None]}) == canonical_sha256({"b": [1.5, None], "a": 1})
    assert canonical_sha256({"a": 1}) != canonical_sha256({"a": 2})


def test_provenance_holds_what_it_is_given() -> None:
    text = provenance_text(kind="result", version="9", label="case", facts={"seed": "7"})
    assert text["Software"] == "zssr-gan 9"
    assert text["zssr-gan:seed"] == "7"


def test_paths_are_relative_through_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    assert relative_path(tmp_path / "a.png", tmp_path / "link") == "../../a.png"


def test_a_rerun_finds_an_account_that_was_changed(case: Path) -> None:
    path = case / "out" / "a_x2.json"
    record = json.loads(path.read_text("utf-8"))
    record["enhancement"]["choice"]["why"] = "because"
    record["enhancement"]["steps"] = []
    path.write_text(json.dumps(record), "utf-8")
    assert verify_record(path).ok
    again = verify_record(path, rerun=True).checks[-1]
    assert not again.ok
    assert "enhancement.choice, enhancement.steps otherwise" in again.text


def test_a_label_that_the_output_does_not_bear_is_found(case: Path) -> None:
    path = case / "out" / "a_x2.json"
    record = json.loads(path.read_text("utf-8"))
    record["label"] = "case"
    path.write_text(json.dumps(record), "utf-8")
    assert [check.name for check in verify_record(path).checks if not check.ok] == ["label"]


def test_a_rerun_says_what_is_taken_on_trust(case: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["enhancement"]["versions"]["torch"] = "0"
        content["enhancement"]["device_name"] = "abacus"
        content["enhancement"]["seconds"] = 7
        content["times"]["seconds"] = 7

    found = verify_record(edit(case, change), rerun=True)
    assert found.ok, found
    assert "taken on trust: times, versions, the device's name" in found.checks[-1].text


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("command_line", "rm -r x"),
        ("command_line", "zssr-gan 'enhance"),
        ("label_means", "No pixel was touched."),
        ("statement", "This is an original."),
        ("arguments.preset", "quality"),
        ("arguments.noise", 0.01),
        ("arguments.kernel", "other.npy"),
        ("arguments.precision", "bf16x"),
        ("arguments.threads", 7),
        ("input.name", "b.png"),
        ("input.width", 7),
        ("input.size_bytes", 7),
        ("output.width", 7),
        ("output.bits", 16),
        ("enhancement.sharpness", "high"),
        ("enhancement.notices", ["all is well"]),
        ("evidence.size_bytes", 7),
    ],
    ids=str,
)
def test_a_rerun_holds_the_whole_record_against_itself(case: Path, keys: str, value: object) -> None:
    def change(content: dict[str, Any]) -> None:
        *groups, last = keys.split(".")
        for group in groups:
            content = content[group]
        content[last] = value

    found = verify_record(edit(case, change), rerun=True)
    assert failed(found) == ["rerun"], found
    assert keys in found.checks[-1].text


@pytest.mark.parametrize("option", ["preset", "kernel"])
def test_a_rerun_finds_another_file_in_the_command_line(case: Path, option: str) -> None:
    def change(content: dict[str, Any]) -> None:
        words = content["command_line"].split(" ")
        words[words.index(f"--{option}") + 1] = "../other"
        content["command_line"] = " ".join(words)

    assert "command_line" in verify_record(edit(case, change), rerun=True).checks[-1].text


def test_a_rerun_makes_the_evidence_map_again(case: Path) -> None:
    """Another map whose hash the record was given: only making it again shows it."""
    path = case / "out" / "a_x2_evidence.png"
    path.write_bytes((case / "out" / "a_x2.png").read_bytes())
    found = verify_record(
        edit(case, lambda content: content["evidence"].update(sha256=sha256_file(path), size_bytes=1)), rerun=True
    )
    assert failed(found) == ["rerun"]
    assert "evidence.size_bytes, evidence.sha256" in found.checks[-1].text


@pytest.mark.parametrize(("noise", "learnt"), [(None, False), (0.1, False), (0.1, True)])
def test_a_presets_name_is_held_against_the_settings(case: Path, noise: float | None, learnt: bool) -> None:
    record = read_record(case / "out" / "a_x2.json")
    preset = load_preset("quality") if noise is None else load_preset("quality").with_noise(noise)
    settings = (preset.for_case() if learnt else preset.for_size(25 * 25)).model_dump(mode="json")
    changes: dict[str, Any] = {
        "arguments": record.arguments.model_copy(update={"preset": "quality", "noise": noise}),
        "case": CaseFacts(path="x", sha256="0", images=()) if learnt else None,
        "settings": json.loads(json.dumps(settings)),
    }
    assert _at_odds(record.model_copy(update=changes)) == []
    changes["arguments"] = record.arguments.model_copy(update={"preset": "fast", "noise": 0.2})
    assert _at_odds(record.model_copy(update=changes)) == ["noise", "preset"]
