import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from zssr_gan.cli.main import main
from zssr_gan.settings.base import write_yaml
from zssr_gan.web import log
from zssr_gan.web.case_folder import Case, CaseError, create_case, edit_case, open_folder
from zssr_gan.web.results import (
    _assumed,
    _verdict,
    edit_track,
    estimates,
    find,
    handed_over,
    latest_package,
    results,
    tracks,
)

TINY = {"network": {"depth": 2, "width": 4}, "schedule": {"kind": "cosine", "iterations": 2}}


@pytest.fixture
def case(tmp_path: Path, face: Tensor) -> Case:
    made = create_case(tmp_path / "cases", "A", "ann")
    Image.fromarray(np.round(face[0].numpy() * 255).astype(np.uint8)).save(tmp_path / "upload.png")
    made.add_original(tmp_path / "upload.png", "My face.png", "ann")
    (made.folder / "tiny.yaml").write_text(write_yaml(TINY), encoding="utf-8")
    return made


def test_a_result_is_shown_by_its_record(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(case.folder)
    argv = ["enhance", "originals/My-face.png", "-o", "results/3_enhance/", "--preset", "tiny.yaml", "--evidence"]
    log.append_once(case.folder, "ann", "job queued", 3, 1, kind="enhance", argv=argv)
    assert main([*argv, "--threads", "1", "-q"]) == 0
    (case.folder / "results" / "3_enhance" / "broken.json").write_text('{"schema_version": 2, "output": 7}')
    (one,) = results(case)
    assert (one["name"], one["job"], one["label"], one["scale"]) == ("My-face_x2.png", 3, "internal", "2")
    assert (one["originals"], one["evidence"], one["bicubic"]) == (["1"], True, True)
    assert one["command"] == "zssr-gan " + " ".join(argv)
    assert one["assumed"]
    assert (one["method"], one["made"]) == ("tiny.yaml", "")
    assert {name: path.name for name, path in one["_paths"].items()} == {
        **{"result": "My-face_x2.png", "record": "My-face_x2.json", "evidence": "My-face_x2_evidence.png"},
        "input": "My-face.png",
    }
    assert find(results(case), one["id"], "result") == one
    with pytest.raises(CaseError, match="has no result x"):
        find([one], "x", "result")
    opened = open_folder(tmp_path / "other", case.folder / "results" / "3_enhance", "ann")
    (same,) = results(opened)
    assert (same["job"], same["label"], same["originals"]) == (None, "internal", [])


def write_track(case: Case, **changes: Any) -> None:
    frames = [
        {"index": n, "corners": [[0, 0], [9, 0], [9, 9], [0, 9]], "error_px": 0.1, "status": "tracked"}
        for n in range(3)
    ]
    frames[2]["status"] = "looks otherwise"
    content = {"sha256": case.originals()[0].sha256, "region": [0, 0, 9, 9], "reference": 1, "ended": ["a", "b"]}
    (case.folder / "tracks" / "4_clip.json").write_text(json.dumps({**content, "frames": frames, **changes}))


def test_an_edited_track_is_a_new_file_that_is_logged(case: Case) -> None:
    write_track(case)
    shutil.copyfile(case.folder / "originals" / "My-face.png", case.folder / "again")
    case.add_original(case.folder / "again", "again.png", "ann")  # the same bytes: what was made before is of the first
    (one,) = tracks(case)
    assert (one["id"], one["original"], one["tracked"], one["lost"]) == ("4_clip", "1", 2, 1)
    corners = [[1, 1], [9, 0], [9, 9.5], [0, 9]]
    edited = edit_track(case, "4_clip", [{"index": 0, "corners": corners}, {"index": 1, "status": "left out"}], "bob")
    again = edit_track(case, edited["id"], [{"index": 2, "status": "tracked"}], "bob")
    assert [found["id"] for found in tracks(case)] == ["4_clip", "4_clip-edited-1", "4_clip-edited-2"]
    content = json.loads(again["_paths"]["record"].read_text())
    assert content["frames"][0]["corners"] == corners
    assert content["frames"][0]["error_px"] is None  # it was of the place before
    assert content["frames"][1]["error_px"] == 0.1
    assert [frame["status"] for frame in content["frames"]] == ["tracked", "left out", "tracked"]
    assert json.loads((case.folder / "tracks" / "4_clip.json").read_text())["frames"][0]["corners"][0] == [0, 0]
    assert [entry["act"] for entry in log.read_log(case.folder)][-2:] == ["track edited"] * 2


@pytest.mark.parametrize(
    "edit",
    [{"index": 9}, {"index": 0, "corners": [[0, 0]] * 3}, {"index": 0, "corners": [[0, math.nan]] * 4}, {"corners": 7}],
)
def test_an_edit_that_makes_no_sense_is_refused(case: Case, edit: dict[str, Any]) -> None:
    write_track(case)
    with pytest.raises(CaseError, match=r"no frame|not four pairs"):
        edit_track(case, "4_clip", [edit], "bob")
    assert len(tracks(case)) == 1


def test_what_cannot_be_read_is_left_out(case: Case) -> None:
    write_track(case, frames=7)
    (case.folder / "results" / "5_degradation").mkdir()
    (case.folder / "results" / "5_degradation" / "estimate.json").write_text("[" * 100_000)
    assert (results(case), tracks(case), estimates(case), latest_package(case)) == ([], [], [], None)


def fusion(fuse: bool, *, alone: float = 0.0) -> dict[str, Any]:
    frames = [{"index": n, "rejected": "moved" if n == 3 else None} for n in range(4)]
    verdict = {"fuse": fuse, "reason": "why"}
    video = {"left_out": [{"index": 9}]}
    return {"frames": frames, "video": video, "verdict": verdict, "reference_alone": alone}


def test_a_fusion_says_what_it_was_made_of() -> None:
    without = "Without a part: frames 9, 3; the record says why."
    assert _verdict(fusion(True)) == {"made": "3 frames fused (why)", "notices": [without]}
    share = "In 15% of the region the other frames show something else: the reference counts alone."
    assert _verdict(fusion(True, alone=0.15))["notices"] == [without, share]
    assert _verdict(fusion(False)) == {
        "made": "one frame, restored alone: fusing the others with it does not pay",
        "notices": ["This is one frame, not several fused: why.", without],
    }


@pytest.mark.parametrize(
    ("content", "assumed"),
    [
        ({"request": {"degradation": {"values": {"jpeg": None}, "why": "bicubic is assumed"}}}, "bicubic is assumed"),
        (
            {"request": {"degradation": {"values": {"jpeg": {"quality": 71}}, "why": "bicubic is assumed"}}},
            "bicubic is assumed; undone: JPEG compression of quality 71",
        ),
        (
            {
                "fusion_version": 1,
                "compression": "crf 30",
                "degradation": {"values": {"jpeg": {"quality": 30}}, "why": "a"},
            },
            "a; undone: crf 30",
        ),
    ],
)
def test_what_was_assumed_names_the_compression(content: dict[str, Any], assumed: str) -> None:
    assert _assumed(content) == assumed


def test_what_came_after_report_and_package_is_named(case: Case) -> None:
    def job(number: int, kind: str, act: str, **facts: Any) -> None:
        log.append_once(case.folder, "ann", act, number, 1, kind=kind, title=f"{kind} it", **facts)

    assert handed_over(case) == {"report": None, "package": None}
    job(1, "fuse", "job queued")
    job(1, "fuse", "job started")
    job(2, "package", "job queued")
    job(2, "package", "job started")
    log.append(case.folder, "zssr-gan", "report made", of_entries=len(log.read_log(case.folder)), files={})
    job(2, "package", "job ended", state="done", files={"report/2_package.zip": "0"})
    made = handed_over(case)
    assert all(one is not None and one["since"] == ["job 1 (fuse it), which runs"] for one in made.values())
    job(1, "fuse", "job ended", state="done", files={"results/1_fuse/a.png": "0"})
    edit_case(case, "ann", "B", "", "")
    since = ["job 1 (fuse it)", "an edit of the title, number or operator of the case"]
    assert all(one is not None and one["since"] == since for one in handed_over(case).values())
    job(3, "report", "job queued")
    job(3, "report", "job started")
    job(3, "report", "job ended", state="done", files={"report/index.html": "0"})
    job(4, "package", "job queued")
    job(4, "package", "job ended", state="failed", files={})
    assert [one and one["since"] for one in handed_over(case).values()] == [[], since]
