import json
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from PIL import Image

from zssr_gan.cli.main import app, main
from zssr_gan.degradation.model import Jpeg
from zssr_gan.inference.case import CaseFiles, decide_init
from zssr_gan.inference.options import make_request
from zssr_gan.inference.outputs import plan_run
from zssr_gan.video.tracking import SMALLEST_SIDE
from zssr_gan.web import log
from zssr_gan.web.case_folder import Case, CaseError, create_case
from zssr_gan.web.commands import plan_json, queue_job, why_refused
from zssr_gan.web.methods import METHODS, PRESETS, Fusion
from zssr_gan.web.plans import FOLLOWED_SIDE, Body, CommandError, plan
from zssr_gan.web.queue import Queue
from zssr_gan.web.results import estimates


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Two images, a video with a track, an estimate, and a file of another kind."""
    made = create_case(tmp_path, "A", "ann")
    for number, name in enumerate(("a.png", "b c.jpg", "clip.mkv", "notes.txt")):
        (tmp_path / "upload").write_bytes(bytes([number]))
        made.add_original(tmp_path / "upload", name, "ann")
    frames = [{"index": n, "corners": [[0, 0], [9, 0], [9, 9], [0, 9]], "status": "tracked"} for n in range(3)]
    track = {"track_version": 1, "sha256": made.originals()[2].sha256, "region": [0, 0, 9, 9], "reference": 1}
    content = json.dumps({**track, "ended": ["a", "b"], "frames": frames})
    (made.folder / "tracks" / "4_clip.json").write_text(content)
    (made.folder / "results" / "3_degradation").mkdir()
    estimate = {"degradation_sha256": "0", "why": "so", "fallback": False, "images": [1, 2]}
    (made.folder / "results" / "3_degradation" / "estimate.json").write_text(json.dumps(estimate))
    return made


def parse(argv: list[str]) -> dict[str, Any]:
    """The arguments as the command itself reads them; raises an error of usage."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, argv = command.commands[argv[0]], argv[1:]
    values: dict[str, Any] = command.make_context("zssr-gan", argv).params
    return values


def body_of(kind: str, originals: list[str], options: dict[str, Any]) -> Body:
    return Body.model_validate({"kind": kind, "originals": originals, "options": options})


IMAGE, IMAGES, VIDEO = ["1"], ["1", "2"], ["3"]
BODIES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("degradation", IMAGES, {}),
    ("enhance", IMAGES, {"method": "quality", "scale": 4, "degradation": "3"}),
    ("enhance", IMAGE, {"degradation": "bicubic", "region": [1, 2, 30, 40]}),
    ("track", VIDEO, {"frame": 7, "region": [1, 2, 30, 40]}),
    ("track", VIDEO, {"frame": 7, "corners": [[1, 2.5], [19, 2], [19, 18], [1, 18]]}),
    ("fuse", VIDEO, {"track": "4_clip", "frames": 5, "method": "fuse-own"}),
    ("fuse", IMAGES, {"reference": "2"}),
    ("video", VIDEO, {"track": "4_clip"}),
    ("compare", IMAGE, {"methods": ["bicubic", "fast"]}),
]


@pytest.mark.parametrize(("kind", "originals", "options"), BODIES)
def test_a_plan_is_a_command_that_the_program_takes(
    case: Case, kind: str, originals: list[str], options: dict[str, Any]
) -> None:
    made = plan(case, body_of(kind, originals, options), {})
    values = parse(made.argv(12))
    assert "12_" in str(values["output"])
    inputs = values.get("inputs") or [values.get("image") or values.get("file")]
    assert all((case.folder / path).is_file() for path in inputs)
    assert made.title
    assert why_refused(case, made.argv(12)) is None
    assert made.sentence.endswith(".")


@pytest.mark.parametrize(
    ("kind", "originals", "options", "message"),
    [
        ("enhance", [], {}, "choose it first"),
        ("enhance", ["3"], {}, "clip.mkv: is no image"),
        ("enhance", ["4"], {}, "notes.txt: is no image"),
        ("enhance", ["9"], {}, "no original 9"),
        ("enhance", IMAGE, {"scale": 9}, "scale"),
        ("enhance", IMAGE, {"--model": "x"}, "--model"),
        ("enhance", IMAGE, {"degradation": "../../x"}, "no estimate"),
        ("enhance", IMAGES, {"region": [1, 2, 3, 4]}, "takes one image"),
        ("track", VIDEO, {"frame": 1}, "mark a rectangle"),
        ("track", VIDEO, {"frame": 1, "corners": [[0, 0], [1, 0], [1, "nan"], [0, 1]]}, "corners"),
        ("track", VIDEO, {"frame": -1, "region": [0, 0, 9, 9]}, "frame"),
        (
            "track",
            VIDEO,
            {"frame": 1, "region": [0, 0, 11, 12]},
            "11 x 12 pixels is too small to follow: mark 12 a side",
        ),
        ("track", VIDEO, {"frame": 1, "corners": [[0, 0], [30, 0], [30, 5], [0, 5]]}, "30 x 5 pixels is too small"),
        ("fuse", VIDEO, {"track": "../x"}, "no track"),
        ("fuse", IMAGE, {}, "at least two"),
        ("fuse", IMAGES, {"reference": "3"}, "not among"),
        ("compare", IMAGE, {"methods": ["/etc/x.yaml"]}, "no method"),
        ("package", [], {"x": 1}, "x"),
        ("camera", [], {"blur": 9}, "blur"),
        ("camera", [], {"jpeg": 0}, "jpeg"),
    ],
)
def test_what_is_not_possible_is_one_sentence(
    case: Case, kind: str, originals: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((CommandError, CaseError), match=message) as raised:
        plan(case, body_of(kind, originals, options), {})
    assert "\n" not in str(raised.value)


def test_the_label_is_the_one_that_the_run_will_give(case: Case, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / "upload").write_bytes(bytes([10 + number]))
        case.add_original(tmp_path / "upload", f"face{number}.png", "ann")
    faces = [one.id for one in case.originals() if one.name.startswith("face")]

    def label(originals: list[str], side: int, **options: Any) -> str | None:
        sizes = dict.fromkeys(originals, (side, side, 1))
        return plan(case, Body(kind="enhance", originals=originals, options=options), sizes).label

    assert label(faces[:1], 32) == "internal"
    assert label(faces, 32, degradation="bicubic") == "case"
    assert label(faces, 128, degradation="bicubic") == "internal"
    assert label(faces, 128) == "case"  # the camera is estimated from all
    assert label(faces[:1], 32, degradation="3") == "case"


def test_a_camera_set_by_hand_is_assumed_as_typed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(case, Body(kind="camera", options={"blur": 0.8, "noise": 3, "jpeg": 70}), {})
    monkeypatch.chdir(case.folder)
    assert main(made.argv(9)) == 0
    (shown,) = (one for one in estimates(case) if one["id"] == "9")
    assert shown["by_hand"]
    assert shown["why"].startswith("a person set these values")
    enhanced = plan(case, Body(kind="enhance", originals=IMAGE, options={"degradation": "9"}), {})
    assert enhanced.label == "internal"  # nothing was read from pictures
    request = make_request(preset="fast", degradation=Path("results/9_camera/camera.json"))
    assert request.estimate is not None
    degradation = request.estimate.degradation
    assert degradation.noise is not None
    assert degradation.noise.sigma == pytest.approx(3 / 255)
    assert degradation.jpeg == Jpeg.of_quality(70)


@pytest.mark.parametrize("size", [(64, 64), (100, 30), (30, 100), (65, 64), (500, 7), (8, 512), (8, 513)])
def test_pictures_are_learnt_together_as_the_run_does(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    for number in range(8):
        Image.new("L", size, number).save(tmp_path / "upload.png")
        case.add_original(tmp_path / "upload.png", f"face{number}.png", "ann")
    faces = [one.id for one in case.originals() if one.name.startswith("face")]
    body = Body(kind="enhance", originals=faces, options={"degradation": "bicubic"})
    made = plan(case, body, dict.fromkeys(faces, (*size, 1)))
    monkeypatch.chdir(case.folder)
    run = plan_run([Path(one.path) for one in case.originals() if one.id in faces], output=Path("out/"))
    decided, _ = decide_init(
        CaseFiles([task.source for task in run.todo]), make_request(preset="fast", degradation="bicubic")
    )
    assert (made.label == "case") == decided.to_learn


def test_seconds_are_those_of_this_machine(case: Case, tmp_path: Path) -> None:
    queue, body = Queue(tmp_path / "q.sqlite"), Body(kind="enhance", originals=IMAGE)
    sizes = {"1": (32, 32, 1), "2": (64, 64, 1)}
    found = plan_json(case, queue, body, sizes)
    assert (found["seconds"], found["untimed"]) == (None, "time not measured yet on this machine")
    video = plan_json(case, queue, Body(kind="video", originals=VIDEO), {"3": (32, 32, 0)})
    assert (video["seconds"], video["untimed"]) == (None, "time not known until the files are read")
    job = queue_job(case, queue, body, "ann", sizes)
    assert job.id == 4  # above the results that the case has
    assert [entry["act"] for entry in log.read_log(case.folder)][-1] == "job queued"
    queue.claim("cpu")
    queue.finish(job.id, "done", None, ended="2100-01-01T00:00:00+00:00")
    took = queue.job(job.id).seconds
    assert took is not None
    found = plan_json(case, queue, Body(kind="enhance", originals=IMAGES), sizes)
    assert (found["label"], found["tag"], found["untimed"]) == ("case", "case or internal", None)
    assert found["seconds"] == pytest.approx(5 * took, rel=1e-6)  # by the pixels, beyond the largest
    assert found["command"].startswith("zssr-gan enhance originals/a.png originals/b-c.jpg -o results/5_enhance/ ")
    for options in ({"method": "quality"}, {"scale": 4}):
        assert plan_json(case, queue, Body(kind="enhance", originals=IMAGE, options=options), sizes)["seconds"] is None


@pytest.mark.parametrize(
    ("kind", "originals", "options", "title"),
    [
        ("degradation", IMAGE, {}, "Estimate the camera from a.png"),
        (
            "camera",
            [],
            {"blur": 0.8, "jpeg": 70},
            "Set the camera by hand: blur 0.8 px, noise 0 of 255, JPEG quality 70",
        ),
        ("enhance", IMAGES, {"scale": 3, "method": "quality"}, "Enhance a.png and 1 more picture \u00d73 (Thorough)"),
        ("enhance", IMAGE, {"region": [0, 0, 9, 9]}, "Enhance a region of a.png \u00d72 (Fast)"),
        ("track", VIDEO, {"frame": 0, "region": [0, 0, 12, 12]}, "Follow a region through clip.mkv"),
        ("fuse", VIDEO, {"track": "4_clip"}, "Fuse 3 frames of Track 1 of clip.mkv \u00d72 (Fuse)"),
        ("fuse", VIDEO, {"track": "4_clip", "frames": 2}, "Fuse 2 frames of Track 1 of clip.mkv \u00d72 (Fuse)"),
        ("fuse", IMAGES, {"method": "fuse-own"}, "Fuse a.png and 1 more picture as one burst \u00d72 (Fuse and learn)"),
        ("video", VIDEO, {"track": "4_clip"}, "Enhance Track 1 of clip.mkv, frame by frame, \u00d72 (Fast)"),
        ("compare", IMAGE, {"methods": ["bicubic", "fast"]}, "Compare bicubic, Fast on a.png"),
    ],
)
def test_a_title_says_what_is_made_of_what_and_how(
    case: Case, kind: str, originals: list[str], options: dict[str, Any], title: str
) -> None:
    assert plan(case, body_of(kind, originals, options), {}).title == title


def test_methods_are_those_that_plans_take(case: Case) -> None:
    assert [method.id for method in METHODS] == [*PRESETS, *get_args(Fusion)]
    for method in METHODS:
        kind, originals = ("fuse", VIDEO) if "track" in method.kinds else ("enhance", IMAGE)
        options = {"method": method.id} | ({"track": "4_clip"} if kind == "fuse" else {})
        body = body_of(kind, originals, options)
        assert plan(case, body, {}).label == method.label


@pytest.mark.parametrize("region", [[0, 0, 33, 12], [0, 30, 12, 13], [0, 0, 0, 12], [4, 4, 12, 0]])
@pytest.mark.parametrize(("kind", "originals", "options"), [("enhance", IMAGE, {}), ("track", VIDEO, {"frame": 0})])
def test_a_region_outside_is_refused(
    case: Case, kind: str, originals: list[str], options: dict[str, Any], region: list[int]
) -> None:
    body = body_of(kind, originals, options | {"region": region})
    with pytest.raises(CommandError, match="does not lie inside the picture of 32 x 32 pixels; mark it again"):
        plan(case, body, {originals[0]: (32, 32, 1)})
    whole = body_of(kind, originals, options | {"region": [0, 0, 32, 32]})
    assert "0,0,32,32" in plan(case, whole, {originals[0]: (32, 32, 1)}).argv(1)


@pytest.mark.parametrize("corners", [[[-1, 0], [19, 0], [19, 19], [0, 19]], [[0, 0], [33, 0], [20, 20], [0, 20]]])
def test_corners_outside_are_refused(case: Case, corners: list[list[float]]) -> None:
    with pytest.raises(CommandError, match="does not lie inside the picture of 32 x 32 pixels; mark it again"):
        plan(case, body_of("track", VIDEO, {"frame": 0, "corners": corners}), {"3": (32, 32, 1)})


def test_the_track_of_another_video_is_refused(case: Case, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"other")
    other = case.add_original(tmp_path / "upload", "other.mkv", "ann").id
    for kind in ("fuse", "video"):
        with pytest.raises(CommandError, match=r"Track 1 of clip\.mkv: is a track of another video than other\.mkv"):
            plan(case, body_of(kind, [other], {"track": "4_clip"}), {})


def test_the_smallest_region_is_the_trackers() -> None:
    assert FOLLOWED_SIDE == SMALLEST_SIDE
