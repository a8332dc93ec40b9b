import html
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import zssr_gan.web
from zssr_gan.cli.main import main
from zssr_gan.degradation.model import DefocusBlur, Degradation, GaussianBlur, Jpeg, KernelBlur, MotionBlur, Noise
from zssr_gan.provenance import LABELS
from zssr_gan.settings.base import write_yaml
from zssr_gan.video.blind import square_pixels
from zssr_gan.web import log
from zssr_gan.web.case_folder import Case, CaseError, create_case, edit_case
from zssr_gan.web.opened import open_folder
from zssr_gan.web.report import make_report
from zssr_gan.web.results import (
    _assumed,
    _camera,
    _verdict,
    estimates,
    find,
    handed_over,
    latest_package,
    results,
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


def test_what_lies_behind_a_link_is_no_estimate(case: Case, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "camera.json").write_text(json.dumps({"images": [], "why": "secret", "fallback": False}))
    shutil.copytree(tmp_path / "a", case.folder / "results" / "7_camera")
    (case.folder / "results" / "8_camera").symlink_to(tmp_path / "a")
    (case.folder / "results" / "7_camera" / "link.json").symlink_to(tmp_path / "a" / "camera.json")
    assert [one["id"] for one in estimates(case)] == ["7"]


def test_what_cannot_be_read_is_left_out(case: Case) -> None:
    (case.folder / "results" / "5_degradation").mkdir()
    (case.folder / "results" / "5_degradation" / "estimate.json").write_text("[" * 100_000)
    assert (results(case), estimates(case), latest_package(case)) == ([], [], None)


def fusion(fuse: bool, *, alone: float = 0.0) -> dict[str, Any]:
    frames = [{"index": n, "rejected": "moved" if n == 3 else None} for n in range(4)]
    verdict = {"fuse": fuse, "reason": "why"}
    video = {"left_out": [{"index": 9}]}
    return {"frames": frames, "video": video, "verdict": verdict, "reference_alone": alone}


def test_a_fusion_says_what_it_was_made_of() -> None:
    without = "Frames left out: 9, 3. The record says why."
    assert _verdict(fusion(True)) == {"made": "3 frames fused (why)", "notices": [without]}
    share = "In 15% of the region the other frames show something else: the reference counts alone."
    assert _verdict(fusion(True, alone=0.15))["notices"] == [without, share]
    assert _verdict(fusion(False)) == {
        "made": "one frame, restored alone: fusing the others with it does not pay",
        "notices": [without],
    }
    video = {"left_out": [{"index": 9}], "track_edited": True}
    (edited, _) = _verdict({**fusion(True), "video": video})["notices"]
    assert edited == "The track was edited after it was written, and is used as it was edited."
    video["track"] = {"frames": [{"index": 2, "edited": True}, {"index": 3}]}
    (by_hand, _) = _verdict({**fusion(True), "video": video})["notices"]
    assert by_hand == f"{edited} Corners set by hand: frames 2."


BY_HAND = "a person set these values; nothing was read from images"


@pytest.mark.parametrize(
    ("camera", "assumed"),
    [
        (Degradation(), BY_HAND),
        (Degradation(jpeg=Jpeg.of_quality(71)), f"JPEG compression of quality 71; {BY_HAND}"),
        (
            Degradation(
                blur=GaussianBlur(sigma_major=1.2, sigma_minor=1),
                noise=Noise(sigma=4 / 255),
                jpeg=Jpeg.of_quality(60),
            ),
            f"blur of 1.20 x 1.00 LR pixels at 0 degrees, noise 4.0/255, JPEG compression of quality 60; {BY_HAND}",
        ),
        (Degradation(blur=KernelBlur(values=((1,),), scale=(2, 2))), f"a blur kernel; {BY_HAND}"),
        (Degradation(blur=square_pixels(2)), f"square pixels, with no other blur; {BY_HAND}"),
        *(
            (Degradation(blur=blur), f"{blur.summary}; {BY_HAND}")
            for blur in (
                GaussianBlur(sigma_major=2, sigma_minor=1, angle_degrees=30),
                MotionBlur(length=3.5, angle_degrees=10),
                DefocusBlur(radius=2.25),
            )
        ),
    ],
)
def test_what_was_assumed_names_blur_noise_and_compression(camera: Degradation, assumed: str) -> None:
    facts = {"values": camera.model_dump(mode="json"), "why": BY_HAND}
    assert _assumed({"request": {"degradation": facts}}) == assumed
    assert _assumed({"fusion_version": 1, "compression": None, "degradation": facts}) == assumed


def test_two_results_of_one_picture_are_told_apart_by_their_cameras() -> None:
    blurred = Degradation(
        blur=GaussianBlur(sigma_major=1.24, sigma_minor=1), noise=Noise(sigma=4 / 255), jpeg=Jpeg.of_quality(60)
    )
    cameras = {
        Degradation(): "no camera assumed",
        blurred: "blur 1.2 px, noise 4, JPEG 60",
        Degradation(blur=MotionBlur(length=3.5, angle_degrees=10)): "blur 3.5 px",
        Degradation(blur=DefocusBlur(radius=2.25)): "blur 2.2 px",
        Degradation(blur=KernelBlur(values=((1,),), scale=(2, 2))): "blur",
    }
    assert [_camera({"values": one.model_dump(mode="json")}) for one in cameras] == [*cameras.values()]


def test_the_compression_of_a_fusion_is_that_of_its_frames() -> None:
    facts = {"values": Degradation(jpeg=Jpeg.of_quality(30)).model_dump(mode="json"), "why": "a"}
    assert _assumed({"fusion_version": 1, "compression": "crf 30", "degradation": facts}) == "crf 30; a"


@pytest.mark.parametrize("fuse", [True, False])
def test_page_report_and_record_say_the_same_of_a_label(case: Case, fuse: bool) -> None:
    """Of a video and of a fusion, whose sentences are not those of a picture alone."""
    place = case.folder / "results" / "1_fuse"
    place.mkdir()
    shutil.copyfile(case.folder / "originals" / "My-face.png", place / "a.png")
    frames = [{"sha256": case.originals()[0].sha256, "index": n, "rejected": None, "box": None} for n in range(2)]
    content = {**fusion(fuse), "frames": frames, "video": None, "fusion_version": 1, "output": {"name": "a.png"}}
    camera = {"values": None, "why": "a"}
    more = {"label": "fused", "label_means": LABELS["fused"], "reference": 0, "scale": 2, "mean": None}
    (place / "a.json").write_text(json.dumps({**content, **more, "compression": None, "degradation": camera}))
    place = case.folder / "results" / "2_video"
    place.mkdir()
    (place / "b.nut").write_bytes(b"")
    means = "Every pixel was computed from frames of this video alone."
    request = {"degradation": camera, "scale": [2, 2], "region": None, "preset": "fast"}
    video = {"clip_version": 1, "label": "internal", "label_means": means, "request": request, "lossy": None}
    facts = {"output": {"name": "b.nut", "width": 8, "height": 8}, "input": {"sha256": "0"}, "notices": []}
    facts["frames"] = [{"index": 0, "field": None, "box": [0, 0, 4, 4]}]
    (place / "b.json").write_text(json.dumps({**video, **facts}))
    fused, clip = results(case)
    assert (clip["tag"], clip["means"]) == ("internal", means)
    alone = "This is one frame, not several fused: why. "
    assert fused["means"] == ("" if fuse else alone) + LABELS["fused"]
    assert fused["tag"] == ("fused" if fuse else "fused: one frame alone")
    page = html.unescape(make_report(case).decode())
    assert all(f"{one['tag']}. {one['means']}" in page for one in (fused, clip))
    script = (Path(zssr_gan.web.__file__).parent / "static" / "look.js").read_text("utf-8")
    assert "one.means" in script
    assert "meaning(" not in script


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
