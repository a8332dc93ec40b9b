"""The images of one run as a case: its camera and its network, learnt once, kept, found again, and told in records."""

import io
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from tests.inference import files
from zssr_gan.cli.main import main
from zssr_gan.degradation.estimate import Estimate, encode_estimate
from zssr_gan.degradation.model import Degradation, GaussianBlur, KernelBlur
from zssr_gan.devices import RunOptions
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.inference import case
from zssr_gan.inference.batch import run_plan
from zssr_gan.inference.case import CaseFiles, decide_init, learn_from_files
from zssr_gan.inference.options import degradation_option, make_request
from zssr_gan.inference.outputs import RunPlan, plan_run
from zssr_gan.inference.record import Record, read_record
from zssr_gan.inference.request import Request
from zssr_gan.inference.result import Result
from zssr_gan.inference.verify import verify_record
from zssr_gan.provenance import LABELS, label_of, strongest
from zssr_gan.settings.base import write_yaml
from zssr_gan.zeroshot.shared import SharedModel, make_shared, write_shared

Make = Callable[..., Estimate]

TINY = {
    "network": {"depth": 2, "width": 4, "grid": "lr", "initial": "lecun"},
    "pairs": {"crop": 16, "batch": 2},
    "schedule": {"kind": "cosine", "iterations": 3},
    "refinement": {"back_projections": 2},
}
BLUR = Degradation(blur=GaussianBlur(sigma_major=1, sigma_minor=1))


@pytest.fixture(scope="module")
def pixels() -> list[np.ndarray]:
    """Twelve gray faces of 20 px, blurred more in the height than in the width."""
    blurred = (gaussian_filter(face, (1.6, 0.4)) for face in data.lfw_subset()[:12])
    return [np.round(face[2:22, 2:22] * 255).astype(np.uint8) for face in blurred]


@pytest.fixture
def folder(tmp_path: Path, pixels: list[np.ndarray]) -> Path:
    """in/ with two pictures, b.png in colours, and a file that is none; tiny.yaml beside it."""
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels[0]).save(tmp_path / "in" / "a.png")
    Image.fromarray(np.stack([pixels[1], pixels[1].T, pixels[1]], -1)).save(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "c.png").write_bytes(b"not an image")
    (tmp_path / "tiny.yaml").write_text(write_yaml(TINY), encoding="utf-8")
    return tmp_path


def asked(folder: Path, **changes: Any) -> Request:
    preset = None if "init_from" in changes else str(folder / "tiny.yaml")
    if isinstance(changes.get("degradation"), str):
        changes["degradation"] = degradation_option(changes["degradation"])
    return make_request(2, preset, **{"options": RunOptions(device="cpu", threads=1), **changes})


def plan(folder: Path, *names: str, **changes: Any) -> RunPlan:
    sources = [folder / "in" / name for name in names] or [folder / "in"]
    return plan_run(sources, output=folder / "out", **changes)


def run(plan: RunPlan, request: Request) -> dict[str, Result]:
    request, _ = decide_init(CaseFiles([task.source for task in (*plan.skipped, *plan.todo)]), request)
    return {result.task.source.name: result for result in run_plan(plan, request)}


def estimated(folder: Path, plan_of_all: RunPlan | None = None, **changes: Any) -> tuple[Request, str]:
    request = asked(folder, degradation="estimate", **changes)
    return learn(plan_of_all or plan(folder), request)


def learnt(folder: Path, **changes: Any) -> tuple[Request, str]:
    request = replace(asked(folder, init="shared", **changes), to_estimate=None)
    return learn(plan(folder, overwrite=True), request)


def learn(plan: RunPlan, request: Request) -> tuple[Request, str]:
    said: list[str] = []
    request = learn_from_files(plan, request, lambda *_: None, lambda _: None, said.append)
    return request, "\n".join(said)


def network(request: Request) -> tuple[SharedModel, Path]:
    assert request.shared is not None
    return request.shared, Path(request.files["init-from"].path)


def test_gray_pictures_in_colours_stay_gray(folder: Path, pixels: list[np.ndarray]) -> None:
    """Through a shared model for colours, and through one that was learnt on such pictures alone."""
    for path, channels in ((folder / "in" / "b.png", 3), (folder / "in" / "b.png", 1)):
        if channels == 1:
            Image.fromarray(np.dstack([pixels[1]] * 3)).save(path)
        Image.fromarray(np.dstack([pixels[0]] * 3)).save(folder / "in" / "a.png")
        request, _ = learnt(folder, overwrite=True)
        assert network(request)[0].facts.channels == channels
        assert run(plan(folder, "a.png", overwrite=True), request)["a.png"].status == "done"
        made = np.asarray(Image.open(folder / "out" / "a_x2.png"))
        assert made.shape == (40, 40, 3)
        assert (np.ptp(made, axis=2) == 0).all()


def keep(folder: Path, estimate: Estimate, name: str = "case.json") -> str:
    (folder / name).write_bytes(encode_estimate(estimate))
    return str(folder / name)


def hashes(folder: Path, *names: str) -> list[str]:
    return [sha256_file(folder / "in" / name) for name in names]


def record(folder: Path) -> Record:
    return read_record(folder / "out" / "a_x2.json")


def failed(folder: Path, *, rerun: bool = False) -> list[str]:
    return [*files.failed(folder / "out" / "a_x2.json", rerun=rerun)]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    files.edit(folder / "out" / "a_x2.json", change)


class TestSharedNetwork:
    def test_every_record_lists_what_was_learnt_from(self, folder: Path) -> None:
        request, said = learnt(folder)
        shared, path = network(request)
        assert str(path) in said
        assert "2 images" in said
        results = run(plan(folder), request)
        assert {name: result.status for name, result in results.items()} == {
            **{"a.png": "done", "b.png": "done"},
            "c.png": "failed",
        }
        made = record(folder)
        assert made.label == "case"
        assert made.request.case is not None
        assert [image.sha256 for image in made.request.case] == sorted(hashes(folder, "a.png", "b.png"))
        assert not failed(folder, rerun=True)
        assert not results["a.png"].notices
        with Image.open(folder / "out/a_x2.png") as image:
            assert image.mode == "L"
        edit(folder, lambda content: content["request"]["case"].pop())
        assert failed(folder) == ["case"]
        path.unlink()
        assert failed(folder, rerun=True) == ["case", "rerun"]
        assert shared.sha256 == made.request.files["init-from"].sha256

    def test_the_same_case_is_learnt_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first, _ = learnt(folder)
        run(plan(folder, "a.png"), first)
        with monkeypatch.context() as patch:
            patch.setattr(case, "learn_case", lambda *_, **__: pytest.fail("learnt again"))
            second, said = learnt(folder)
        assert network(second)[1] == network(first)[1]
        assert network(second)[0].sha256 == network(first)[0].sha256 == sha256_file(network(first)[1])
        assert "used again" in said
        other, _ = learnt(folder, seed=1)
        assert network(other)[1] != network(first)[1]
        again = run(plan(folder, "a.png", skip_existing=True), other)["a.png"]
        assert "another seed, another shared model" in again.message

    def test_a_kept_one_brings_its_settings_and_takes_no_others(self, folder: Path) -> None:
        request, _ = learnt(folder)
        run(plan(folder, "a.png"), request)
        before = record(folder).output.sha256
        _, path = network(request)
        taken = asked(folder, init_from=path, overwrite=True)
        assert taken.settings == request.settings
        run(plan(folder, "a.png", overwrite=True), taken)
        assert record(folder).output.sha256 == before
        for option, value in (("preset", "fast"), ("noise", 0.01)):
            with pytest.raises(SettingsError, match=f"leave --{option} out"):
                make_request(2, **{option: value}, init_from=path)  # type: ignore[arg-type]
        Image.new("L", (12, 12)).save(folder / "in" / "d.png")
        strange = run(plan(folder, "d.png"), taken)["d.png"]
        assert any("not among the images" in notice for notice in strange.notices)

    def test_nothing_to_learn_from(self, folder: Path) -> None:
        for name in "ab":
            (folder / "in" / f"{name}.png").unlink()
        with pytest.raises(ImageError, match="none of the images can be learnt from"):
            learnt(folder)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01."])
    def test_a_file_that_is_none(self, folder: Path, content: bytes) -> None:
        (folder / "foreign.safetensors").write_bytes(content)
        with pytest.raises(SettingsError, match="is not a shared"):
            asked(folder, init_from=folder / "foreign.safetensors")


@pytest.mark.usefixtures("quick_estimates")
class TestEstimated:
    def test_from_all_images_kept_and_found_again(
        self, folder: Path, pixels: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number, face in enumerate(pixels[2:]):
            Image.fromarray(face).save(folder / "in" / f"more{number}.png")
        Image.fromarray(pixels[1]).save(folder / "in" / "b.png")
        request, said = estimated(folder)
        path = Path(request.files["degradation"].path)
        assert not request.degradation.fallback
        assert "12 images" in said
        assert path.name.startswith("degradation-")
        assert path.with_suffix(".png").exists()
        assert {result.status for result in run(plan(folder), request).values()} == {"done", "failed"}
        made = record(folder)
        assert (made.label, made.label_means) == ("case", LABELS["case"])
        assert made.request.degradation == request.degradation_of(*hashes(folder, "a.png"))
        assert set(hashes(folder, "a.png", "b.png")) < {image.sha256 for image in made.request.degradation.images}
        assert not failed(folder, rerun=True)
        with monkeypatch.context() as patch:
            patch.setattr(case, "learn_case", lambda *_, **__: pytest.fail("estimated again"))
            # One image is done already, and has its part all the same.
            for end in ("png", "json"):
                (folder / "out" / f"b_x2.{end}").unlink()
            again, said = estimated(folder, plan(folder, skip_existing=True))
        assert "used again" in said
        assert again.degradation == request.degradation
        messages = [result.message for result in run_plan(plan(folder, skip_existing=True), again)]
        assert messages.count("exists already") == 11

    def test_each_seed_has_its_file_and_what_a_kill_left_is_made_anew(self, folder: Path) -> None:
        (first, _), (other, _) = (estimated(folder, seed=seed) for seed in (0, 1))
        path = Path(first.files["degradation"].path)
        assert path != Path(other.files["degradation"].path)
        path.unlink()  # its picture stays
        assert estimated(folder)[0].degradation == first.degradation

    def test_each_image_has_the_compression_of_its_photograph(self, folder: Path) -> None:
        """Crops of two photographs, off the grid: in the pairs of the shared model, and in each record."""
        photograph = Image.fromarray(data.astronaut()[:400, 60:460])
        for quality in (60, 85):
            file = io.BytesIO()
            photograph.save(file, "JPEG", quality=quality)
            for n in range(3):
                corner = (101 + 34 * n, 42, 133 + 34 * n, 74)
                Image.open(file).crop(corner).save(folder / "in" / f"crop-{quality}-{n}.png")
        names = [f"crop-{quality}-{n}.png" for quality in (60, 85) for n in range(3)]
        request, _ = estimated(folder, plan(folder, *names), init="shared")
        request, _ = learn(plan(folder, *names), request)
        for name, done in run(plan(folder, *names), request).items():
            assert done.record is not None
            jpeg = done.record.request.degradation.values.jpeg
            assert jpeg is not None
            assert jpeg.quality == pytest.approx(int(name.split("-")[1]), abs=1)
        assert [*files.failed(folder / "out" / "crop-60-1_x2.json", rerun=True)] == []

    def test_too_few_images_are_bicubic(self, folder: Path) -> None:
        run(plan(folder, "a.png"), asked(folder))
        plain = record(folder).output.sha256
        request, _ = estimated(folder, plan(folder, overwrite=True), overwrite=True)
        run(plan(folder, "a.png", overwrite=True), request)
        made = record(folder)
        assert made.request.degradation.fallback
        assert "bicubic is assumed" in made.request.degradation.why
        assert made.label == "internal"  # none of the other images' pixels had a part in it
        assert made.output.sha256 == plain
        assert not failed(folder, rerun=True)
        with pytest.raises(ImageError, match="none of the images can be read"):
            estimated(folder, plan(folder, "c.png"))


class TestGiven:
    def test_the_record_repeats_it(self, folder: Path, make_estimate: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        path = keep(folder, make_estimate(*hashes(folder, "a.png", "b.png")))
        run(plan(folder), asked(folder, degradation=path))
        made = record(folder)
        assert made.label == "case"
        file = made.request.files["degradation"]
        assert (file.path, file.sha256) == ("../case.json", sha256_file(Path(path)))
        assert not failed(folder, rerun=True)
        with monkeypatch.context() as patch:
            patch.chdir(folder / "in")
            assert "--degradation ../case.json" in made.command_line
            assert main(shlex.split(made.command_line)[1:]) == 0
            assert sha256_file(Path("a_x2_again.png")) == made.output.sha256
        Path(path).unlink()
        found = verify_record(folder / "out" / "a_x2.json", rerun=True)  # needs no second file
        assert found.ok, found
        assert any("case.json itself is not there" in check.text for check in found.checks)

    @pytest.mark.parametrize(
        ("names", "label"),
        [(("a.png",), "internal"), (("b.png",), "case"), (("a.png", "b.png"), "case"), ((), "internal")],
    )
    def test_the_label_is_true(self, folder: Path, make_estimate: Make, names: tuple[str, ...], label: str) -> None:
        path = keep(folder, make_estimate(*hashes(folder, *names)))
        result = run(plan(folder, "a.png"), asked(folder, degradation=path))["a.png"]
        assert record(folder).label == label
        assert any("not among the images" in notice for notice in result.notices) == (names == ("b.png",))
        assert not failed(folder, rerun=True)

    def test_what_was_changed_is_found(self, folder: Path, make_estimate: Make) -> None:
        path = keep(folder, make_estimate(*hashes(folder, "a.png", "b.png")))
        run(plan(folder), asked(folder, degradation=path))
        untouched = (folder / "out" / "a_x2.json").read_text("utf-8")

        def edited(**changes: Any) -> list[str]:
            (folder / "out" / "a_x2.json").write_text(untouched, "utf-8")
            edit(folder, lambda content: content["request"]["degradation"].update(changes))
            return failed(folder)

        own = json.loads(untouched)["request"]["degradation"]["images"][:1]
        assert edited(values={"blur": None, "noise": None, "jpeg": None}) == ["degradation", "estimate"]
        assert edited(images=own) == ["estimate"]
        assert edited(fallback=True) == ["estimate"]
        assert edited() == []
        Path(path).write_bytes(encode_estimate(make_estimate(*hashes(folder, "a.png"))))
        assert edited() == ["estimate"]
        edit(folder, lambda content: content.update(label="internal", label_means=LABELS["internal"]))
        assert failed(folder) == ["label", "estimate"]

    def test_another_one_is_seen_when_results_exist(self, folder: Path, make_estimate: Make) -> None:
        request = asked(folder, degradation=keep(folder, make_estimate(*hashes(folder, "a.png"))))
        run(plan(folder, "a.png"), request)
        again = plan(folder, "a.png", skip_existing=True)
        assert run(again, request)["a.png"].message == "exists already"
        assert run(again, asked(folder, degradation="estimate"))["a.png"].message == "exists already"
        assert run(again, asked(folder))["a.png"].message.endswith("made with another degradation")
        run(plan(folder, "a.png", overwrite=True), asked(folder, overwrite=True))
        message = run(again, asked(folder, degradation="estimate"))["a.png"].message
        assert message.endswith("made with another degradation")

    def test_verify_takes_an_estimate_among_the_records(
        self, folder: Path, make_estimate: Make, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = keep(folder, make_estimate(*hashes(folder, "a.png")))
        run(plan(folder, "a.png"), asked(folder, degradation=path))
        assert main(["verify", str(folder / "out" / "a_x2.json"), path]) == 0
        assert "an estimate of 1 image, whole: blur of 0.90 x 0.40" in capsys.readouterr().out
        Path(path).write_text(Path(path).read_text("utf-8").replace('"seed": 0', '"fallback": true'), "utf-8")
        assert main(["verify", path]) == 1
        assert "NO" in capsys.readouterr().out

    def test_a_kernel_holds_for_its_scale(self, folder: Path, make_estimate: Make) -> None:
        values = tuple(map(tuple, np.full((4, 4), 1 / 16).tolist()))
        path = keep(folder, make_estimate(degradation=Degradation(blur=KernelBlur(values=values, scale=(2, 2)))))
        assert run(plan(folder, "a.png"), asked(folder, degradation=path))["a.png"].status == "done"
        with pytest.raises(SettingsError, match="belongs to the scale 2 x 2"):
            make_request(3, str(folder / "tiny.yaml"), degradation=Path(path))


class TestNetworkWithDegradation:
    @pytest.fixture
    def request_of_both(self, folder: Path, make_estimate: Make) -> Request:
        path = keep(folder, make_estimate(*sorted(hashes(folder, "a.png", "b.png"))))
        return learnt(folder, degradation=path)[0]

    def test_it_brings_its_degradation_along(self, folder: Path, request_of_both: Request) -> None:
        run(plan(folder, "a.png"), request_of_both)
        before = record(folder)
        assert before.label == "case"
        assert not failed(folder, rerun=True)
        request = asked(folder, init_from=network(request_of_both)[1], overwrite=True)
        run(plan(folder, "a.png", overwrite=True), request)
        made = record(folder)
        assert made.output.sha256 == before.output.sha256
        assert made.request.degradation.source == "shared"
        assert "--degradation" not in made.command_line
        assert not failed(folder, rerun=True)

    def test_the_same_one_may_be_named_another_may_not(
        self, folder: Path, request_of_both: Request, make_estimate: Make
    ) -> None:
        shared, path = network(request_of_both)
        taken = asked(folder, init_from=path, degradation=str(folder / "case.json"))
        assert taken.degradation == request_of_both.degradation
        (camera,) = shared.facts.cameras
        with pytest.raises(SettingsError, match=f"{camera.sha256[:12]}.*{BLUR.sha256[:12]}"):
            asked(folder, init_from=path, degradation=keep(folder, make_estimate(degradation=BLUR), "other.json"))
        for changes in ({"degradation": "bicubic"}, {"degradation": "estimate"}, {"kernel": np.ones((3, 3))}):
            with pytest.raises(SettingsError, match=camera.sha256[:12]):
                asked(folder, init_from=path, **changes)

    def test_of_several_cameras_one_must_be_named(
        self, folder: Path, request_of_both: Request, make_estimate: Make
    ) -> None:
        shared, _ = network(request_of_both)
        several = ("bicubic", *shared.facts.learnt_for, f"degradation {BLUR.sha256}")
        facts = shared.facts.model_copy(update={"cameras": (*shared.facts.cameras, BLUR), "learnt_for": several})
        path = folder / "several.safetensors"
        write_shared(make_shared(shared.weights_P, facts), path)
        with pytest.raises(SettingsError, match="say which by --degradation FILE"):
            asked(folder, init_from=path)
        taken = asked(folder, init_from=path, degradation=keep(folder, make_estimate(degradation=BLUR), "two.json"))
        assert taken.degradation.values == BLUR
        assert asked(folder, init_from=path, degradation="bicubic").degradation.values == Degradation()
        third = make_estimate(degradation=Degradation(blur=GaussianBlur(sigma_major=2, sigma_minor=1)))
        with pytest.raises(SettingsError, match="asks for"):
            asked(folder, init_from=path, degradation=keep(folder, third, "three.json"))

    def test_one_learnt_for_bicubic_takes_none(self, folder: Path, make_estimate: Make) -> None:
        path = network(learnt(folder)[0])[1]
        with pytest.raises(SettingsError, match="was learnt for bicubic, and --degradation asks for"):
            asked(folder, init_from=path, degradation=keep(folder, make_estimate()))
        with pytest.raises(SettingsError, match="was learnt for bicubic: leave --degradation estimate out"):
            asked(folder, init_from=path, degradation="estimate")
        # What fell back to bicubic is bicubic.
        fallback = keep(folder, make_estimate(degradation=Degradation(), fallback=True), "fallback.json")
        assert asked(folder, init_from=path, degradation=fallback).degradation.fallback


class TestTheCommand:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--degradation", "estimate", "--noise", "0.01"], "leave --noise out"),
            (["--degradation", "estimate", "--kernel", "k.npy"], "leave one out"),
            (["--degradation", "tiny.yaml"], "is no degradation"),
        ],
    )
    def test_contradictions_exit_2(
        self,
        folder: Path,
        make_estimate: Make,
        arguments: list[str],
        said: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        keep(folder, make_estimate())
        monkeypatch.chdir(folder)
        assert main(["enhance", "in/a.png", *arguments]) == 2
        assert said in capsys.readouterr().err
        assert not list(Path("in").glob("a_*"))

    def test_it_estimates_and_learns_and_says_so(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["enhance", str(folder / "in"), "-o", str(folder / "out"), "--preset", str(folder / "tiny.yaml")]
        assert main([*words, "--threads", "1", "--init", "shared", "--degradation", "estimate", "--json"]) == 1  # c.png
        out, err = capsys.readouterr()
        assert "estimated from 2 images" in err
        assert "learnt on 2 images" in err
        assert "bicubic is assumed: 2 parts" in " ".join(err.split())
        objects = [json.loads(line) for line in out.splitlines()]
        assert objects[0]["degradation_sha256"] == Degradation().sha256
        assert [one.get("label") for one in objects] == ["case", "case", None]
        assert sorted(path.name.partition("-")[0] for path in (folder / "out").glob("*-*")) == [
            "degradation",
            "degradation",
            "shared",
        ]
        # The picture is ours, and no image of the next run.
        assert main(["enhance", str(folder / "out"), "-o", str(folder / "more")]) == 2

    @pytest.mark.parametrize("option", [["--degradation", "estimate"], ["--init", "shared"]])
    def test_ctrl_c_while_learning(self, folder: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(case, "learn_case", interrupt)
        words = ["enhance", str(folder / "in"), "-o", str(folder / "out"), "--preset", str(folder / "tiny.yaml")]
        assert main([*words, *option]) == 130
        assert not (folder / "out").exists()


def test_no_later_step_lowers_a_label() -> None:
    assert strongest("internal", "case") == strongest("case", "internal") == "case"
    assert strongest("generative", "case") == "generative"
    assert label_of("1") == label_of("1", ["1"]) == "internal"
    assert label_of("1", ["1", "2"]) == label_of("1", ["1"], shared=True) == "case"
    assert label_of("1", ["2"], shared=True, generator=True) == "generative"


def test_a_faint_picture_in_a_shared_model_is_named(folder: Path, pixels: list[np.ndarray]) -> None:
    Image.fromarray(pixels[0].astype(np.uint16) * 8).save(folder / "in" / "a.png")
    Image.fromarray(pixels[1].astype(np.uint16) * 257).save(folder / "in" / "b.png")
    results = run(plan(folder, "a.png", "b.png"), asked(folder, init="shared", degradation="bicubic"))
    named = {name: any("faint" in one for one in result.notices) for name, result in results.items()}
    assert named == {"a.png": True, "b.png": False}
