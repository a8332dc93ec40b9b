"""What the camera of a run does: estimated or given, kept, recorded, labelled truly, and held by verify."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from zssr_gan.cli.main import main
from zssr_gan.degradation.estimate import Estimate, encode_estimate
from zssr_gan.degradation.model import Degradation, GaussianBlur, KernelBlur
from zssr_gan.devices import RunOptions
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.inference import case
from zssr_gan.inference.batch import Outcome, run_plan
from zssr_gan.inference.case import with_degradation, with_shared_start
from zssr_gan.inference.outputs import Plan, plan_run
from zssr_gan.inference.record import CaseFacts, Record, TeacherImage, label_of, read_record
from zssr_gan.inference.request import Request, make_request
from zssr_gan.inference.verify import Verification, verify_record
from zssr_gan.provenance import LABELS, strongest
from zssr_gan.zeroshot.shared import SharedStart, make_shared, write_shared

Make = Callable[..., Estimate]

TINY = {
    "network": {"depth": 2, "width": 4, "grid": "lr", "initial": "lecun"},
    "pairs": {"crop": 16, "batch": 2},
    "schedule": {"kind": "cosine", "iterations": 3},
    "refinement": {"back_projections": 2},
}


@pytest.fixture(scope="module")
def pixels() -> list[np.ndarray]:
    """Twelve gray faces of 20 px, blurred more in the height than in the width."""
    blurred = (gaussian_filter(face, (1.6, 0.4)) for face in data.lfw_subset()[:12])
    return [np.round(face[2:22, 2:22] * 255).astype(np.uint8) for face in blurred]


@pytest.fixture
def folder(tmp_path: Path, pixels: list[np.ndarray]) -> Path:
    """in/ with two pictures and a file that is none, tiny.yaml beside it."""
    (tmp_path / "in").mkdir()
    for name, face in zip("ab", pixels, strict=False):
        Image.fromarray(face).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "c.png").write_bytes(b"not an image")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return tmp_path


def many(folder: Path, pixels: list[np.ndarray]) -> None:
    """The other ten pictures too: enough for an estimate."""
    for number, face in enumerate(pixels[2:]):
        Image.fromarray(face).save(folder / "in" / f"more{number}.png")


def asked(folder: Path, **changes: Any) -> Request:
    preset = None if "init_from" in changes else str(folder / "tiny.yaml")
    return make_request("2", preset, **{"options": RunOptions(device="cpu", threads=1), **changes})


def plan(folder: Path, *names: str, **changes: Any) -> Plan:
    sources = [folder / "in" / name for name in names] or [folder / "in"]
    return plan_run(sources, output=folder / "out", **changes)


def run(plan: Plan, request: Request) -> dict[str, Outcome]:
    return {outcome.job.source.name: outcome for outcome in run_plan(plan, request)}


def kept(folder: Path, estimate: Estimate, name: str = "case.json") -> str:
    (folder / name).write_bytes(encode_estimate(estimate))
    return str(folder / name)


def hashes(folder: Path, *names: str) -> list[str]:
    return [sha256_file(folder / "in" / name) for name in names]


def record(folder: Path, name: str = "a") -> Record:
    return read_record(folder / "out" / f"{name}_x2.json")


def verified(folder: Path, **options: bool) -> Verification:
    return verify_record(folder / "out" / "a_x2.json", **options)


def failed(found: Verification) -> list[str]:
    return [check.name for check in found.checks if not check.ok]


def test_bicubic_is_as_without_the_option(folder: Path) -> None:
    results = []
    for changes in ({}, {"degradation": "bicubic"}):
        run(plan(folder, "a.png", overwrite=True), asked(folder, overwrite=True, **changes))
        assert record(folder).degradation is None
        results.append((folder / "out" / "a_x2.png").read_bytes())
    assert results[0] == results[1]


class TestEstimated:
    def test_from_all_images_kept_and_found_again(
        self, folder: Path, pixels: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many(folder, pixels)
        request, said = with_degradation(plan(folder), asked(folder, degradation="estimate"), lambda *_: None)
        assert request.degradation is not None
        assert request.degradation.path is not None
        assert request.degradation.estimate is not None
        assert not request.degradation.estimate.fallback
        assert "12 images" in said[0]
        assert request.degradation.path.name.startswith("degradation-")
        assert request.degradation.path.with_suffix(".png").exists()
        assert {outcome.status for outcome in run(plan(folder), request).values()} == {"done", "failed"}
        made = record(folder)
        assert made.label == "case"
        assert made.label_means == LABELS["case"]
        assert made.degradation is not None
        assert made.degradation.values == request.degradation.degradation
        assert made.degradation.images is not None
        assert set(hashes(folder, "a.png", "b.png")) < {image.sha256 for image in made.degradation.images}
        assert verified(folder, rerun=True).ok
        with monkeypatch.context() as patch:
            patch.setattr(case, "estimate_degradation", lambda *_, **__: pytest.fail("estimated again"))
            # One image is done already, and has its part all the same.
            (folder / "out" / "b_x2.png").unlink()
            (folder / "out" / "b_x2.json").unlink()
            again, said = with_degradation(
                plan(folder, skip_existing=True), asked(folder, degradation="estimate"), lambda *_: None
            )
        assert "used again" in said[0]
        assert again.degradation == request.degradation
        messages = [outcome.message for outcome in run_plan(plan(folder, skip_existing=True), again)]
        assert messages.count("exists already") == 11

    def test_another_seed_is_another_file(self, folder: Path) -> None:
        paths = set()
        for seed in (0, 1):
            request, _ = with_degradation(
                plan(folder), asked(folder, degradation="estimate", seed=seed), lambda *_: None
            )
            assert request.degradation is not None
            paths.add(request.degradation.path)
        assert len(paths) == 2

    def test_too_few_images_are_bicubic(self, folder: Path) -> None:
        run(plan(folder, "a.png"), asked(folder))
        plain = (folder / "out" / "a_x2.png").read_bytes()
        estimating = asked(folder, degradation="estimate", overwrite=True)
        request, _ = with_degradation(plan(folder, overwrite=True), estimating, lambda *_: None)
        run(plan(folder, "a.png", overwrite=True), request)
        made = record(folder)
        assert made.degradation is not None
        assert made.degradation.fallback
        assert "bicubic is assumed" in made.degradation.why
        assert made.label == "internal"  # none of the other images' pixels had a part in it
        assert (folder / "out" / "a_x2.png").read_bytes() == plain
        assert verified(folder, rerun=True).ok

    def test_a_picture_that_a_kill_left_is_written_anew(self, folder: Path) -> None:
        request = asked(folder, degradation="estimate")
        first, _ = with_degradation(plan(folder), request, lambda *_: None)
        assert first.degradation is not None
        assert first.degradation.path is not None
        first.degradation.path.unlink()
        again, _ = with_degradation(plan(folder), request, lambda *_: None)
        assert again.degradation == first.degradation

    def test_nothing_to_estimate_from(self, folder: Path) -> None:
        with pytest.raises(ImageError, match="none of the images can be read"):
            with_degradation(plan(folder, "c.png"), asked(folder, degradation="estimate"), lambda *_: None)


class TestGiven:
    def test_the_record_repeats_it(self, folder: Path, make_estimate: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        path = kept(folder, make_estimate(*hashes(folder, "a.png", "b.png")))
        run(plan(folder), asked(folder, degradation=path))
        made = record(folder)
        assert (made.label, made.arguments.degradation) == ("case", "case.json")
        assert made.degradation is not None
        assert (made.degradation.path, made.degradation.sha256) == ("../case.json", sha256_file(Path(path)))
        assert verified(folder, rerun=True).ok
        monkeypatch.chdir(folder / "in")
        assert "--degradation ../case.json" in made.command_line
        assert main(shlex.split(made.command_line)[1:]) == 0
        assert Path("a_x2_again.png").read_bytes() == (folder / "out" / "a_x2.png").read_bytes()

    def test_a_rerun_needs_no_second_file(self, folder: Path, make_estimate: Make) -> None:
        path = kept(folder, make_estimate(*hashes(folder, "a.png", "b.png")))
        run(plan(folder), asked(folder, degradation=path))
        Path(path).unlink()
        found = verified(folder, rerun=True)
        assert found.ok, found
        assert any("case.json itself is not there" in check.text for check in found.checks)

    @pytest.mark.parametrize(
        ("names", "label"),
        [(("a.png",), "internal"), (("b.png",), "case"), (("a.png", "b.png"), "case"), ((), "internal")],
    )
    def test_the_label_is_true(self, folder: Path, make_estimate: Make, names: tuple[str, ...], label: str) -> None:
        path = kept(folder, make_estimate(*hashes(folder, *names)))
        outcome = run(plan(folder, "a.png"), asked(folder, degradation=path))["a.png"]
        assert record(folder).label == label
        assert any("not among the images" in notice for notice in outcome.notices) == (names == ("b.png",))
        assert verified(folder, rerun=True).ok

    def test_what_was_changed_is_found(self, folder: Path, make_estimate: Make) -> None:
        path = kept(folder, make_estimate(*hashes(folder, "a.png", "b.png")))
        run(plan(folder), asked(folder, degradation=path))
        untouched = (folder / "out" / "a_x2.json").read_text("utf-8")

        def edited(**changes: Any) -> list[str]:
            whole = json.loads(untouched)
            whole["degradation"].update(changes)
            (folder / "out" / "a_x2.json").write_text(json.dumps(whole), "utf-8")
            return failed(verified(folder))

        own = json.loads(untouched)["degradation"]["images"][0]
        assert edited(values={"blur": None, "noise": None, "jpeg": None}) == ["degradation"]
        assert edited(images=[own], image_count=1) == ["degradation"]
        assert edited(fallback=True) == ["degradation"]
        assert edited() == []
        Path(path).write_bytes(encode_estimate(make_estimate(*hashes(folder, "a.png"))))
        assert edited() == ["degradation"]

    def test_a_lowered_label_is_found(self, folder: Path, make_estimate: Make) -> None:
        run(plan(folder), asked(folder, degradation=kept(folder, make_estimate(*hashes(folder, "a.png", "b.png")))))
        path = folder / "out" / "a_x2.json"
        whole = json.loads(path.read_text("utf-8")) | {"label": "internal", "label_means": LABELS["internal"]}
        path.write_text(json.dumps(whole), "utf-8")
        assert failed(verified(folder)) == ["label"]

    def test_another_one_is_seen_when_results_exist(self, folder: Path, make_estimate: Make) -> None:
        request = asked(folder, degradation=kept(folder, make_estimate(*hashes(folder, "a.png"))))
        run(plan(folder, "a.png"), request)
        again = plan(folder, "a.png", skip_existing=True)
        assert run(again, request)["a.png"].message == "exists already"
        assert run(again, asked(folder))["a.png"].message.endswith("made with another degradation")

    def test_an_estimate_is_asked_for_where_results_are_bicubic(self, folder: Path) -> None:
        run(plan(folder, "a.png"), asked(folder))
        again = plan(folder, "a.png", skip_existing=True)
        estimating = asked(folder, degradation="estimate")
        assert run(again, estimating)["a.png"].message.endswith("made with another degradation")

    def test_verify_takes_an_estimate_among_the_records(
        self, folder: Path, make_estimate: Make, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = kept(folder, make_estimate(*hashes(folder, "a.png")))
        run(plan(folder, "a.png"), asked(folder, degradation=path))
        both = ["verify", str(folder / "out" / "a_x2.json"), path]
        assert main(both) == 0
        assert "an estimate of 1 image, whole: blur of 0.90 x 0.40" in capsys.readouterr().out
        content = Path(path).read_text("utf-8")
        Path(path).write_text(content.replace('"seed": 0', '"fallback": true'), "utf-8")
        assert main(["verify", path]) == 1
        assert "NO" in capsys.readouterr().out

    def test_records_written_before_can_be_read(self, folder: Path) -> None:
        run(plan(folder, "a.png"), asked(folder))
        path = folder / "out" / "a_x2.json"
        whole = json.loads(path.read_text("utf-8"))
        del whole["degradation"], whole["arguments"]["degradation"]
        path.write_text(json.dumps(whole), "utf-8")
        assert verified(folder, rerun=True).ok

    @pytest.mark.parametrize("group", [None, "small"])
    def test_a_presets_own_noise_is_refused(self, folder: Path, make_estimate: Make, group: str | None) -> None:
        noisy = {"pairs": {"crop": 16, "batch": 2, "noise": 0.1}}
        below = {"small": noisy} if group else noisy
        (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, **below}), encoding="utf-8")
        for way in ("estimate", kept(folder, make_estimate())):
            with pytest.raises(SettingsError, match="noise of its own"):
                asked(folder, degradation=way)
        assert asked(folder, degradation="bicubic").settings.has_noise

    def test_a_kernel_holds_for_its_scale(self, folder: Path, make_estimate: Make) -> None:
        values = tuple(map(tuple, np.full((4, 4), 1 / 16).tolist()))
        of_kernel = make_estimate(degradation=Degradation(blur=KernelBlur(values=values, scale=(2, 2))))
        path = kept(folder, of_kernel)
        assert run(plan(folder, "a.png"), asked(folder, degradation=path))["a.png"].status == "done"
        with pytest.raises(SettingsError, match="belongs to the scale 2 x 2"):
            make_request("3", str(folder / "tiny.yaml"), degradation=path)


class TestWithASharedStart:
    @pytest.fixture
    def learnt(self, folder: Path, make_estimate: Make) -> Request:
        found = make_estimate(*sorted(hashes(folder, "a.png", "b.png")))
        names = {
            sha256: name for name, sha256 in zip(("a.png", "b.png"), hashes(folder, "a.png", "b.png"), strict=True)
        }
        images = tuple(image.model_copy(update={"name": names[image.sha256]}) for image in found.images)
        path = kept(folder, found.model_copy(update={"images": images}))
        request, _ = with_shared_start(plan(folder), asked(folder, init="shared", degradation=path), lambda *_: None)
        return request

    def start(self, request: Request) -> tuple[SharedStart, Path]:
        assert request.shared is not None
        return request.shared.start, request.shared.path

    def test_images_are_listed_once(self, folder: Path, learnt: Request) -> None:
        run(plan(folder), learnt)
        made = record(folder)
        assert made.label == "case"
        assert made.degradation is not None
        assert (made.degradation.images, made.degradation.image_count) == (None, 2)
        assert verified(folder, rerun=True).ok

    def test_it_brings_its_degradation_along(self, folder: Path, learnt: Request) -> None:
        run(plan(folder), learnt)
        before = (folder / "out" / "a_x2.png").read_bytes()
        request = asked(folder, init_from=self.start(learnt)[1], overwrite=True)
        run(plan(folder, overwrite=True), request)
        assert (folder / "out" / "a_x2.png").read_bytes() == before
        made = record(folder)
        assert made.degradation is not None
        assert made.degradation.path is None
        assert "--degradation" not in made.command_line
        assert verified(folder, rerun=True).ok

    def test_the_same_one_may_be_named_another_may_not(
        self, folder: Path, learnt: Request, make_estimate: Make
    ) -> None:
        start, path = self.start(learnt)
        assert asked(folder, init_from=path, degradation=str(folder / "case.json")).degradation == learnt.degradation
        blur = Degradation(blur=GaussianBlur(sigma_major=1, sigma_minor=1))
        other = kept(folder, make_estimate(degradation=blur), "other.json")
        (camera,) = start.facts.cameras
        with pytest.raises(SettingsError, match=f"{camera.sha256[:12]}.*{blur.sha256[:12]}"):
            asked(folder, init_from=path, degradation=other)
        for way in ("bicubic", "estimate"):
            with pytest.raises(SettingsError, match=camera.sha256[:12]):
                asked(folder, init_from=path, degradation=way)
        with pytest.raises(SettingsError, match="leave --kernel out"):
            asked(folder, init_from=path, kernel=folder / "k.npy")

    def test_of_several_cameras_one_must_be_named(self, folder: Path, learnt: Request, make_estimate: Make) -> None:
        start, _ = self.start(learnt)
        second = Degradation(blur=GaussianBlur(sigma_major=1, sigma_minor=1))
        several = f"bicubic, {start.facts.degradation}, degradation {second.sha256}"
        facts = start.facts.model_copy(update={"cameras": (*start.facts.cameras, second), "degradation": several})
        path = folder / "several.safetensors"
        write_shared(make_shared(start.weights_P, facts), path)
        with pytest.raises(SettingsError, match="say which by --degradation FILE"):
            asked(folder, init_from=path)
        taken = asked(folder, init_from=path, degradation=kept(folder, make_estimate(degradation=second), "two.json"))
        assert taken.degradation is not None
        assert taken.degradation.degradation == second
        assert asked(folder, init_from=path, degradation="bicubic").degradation is None
        third = make_estimate(degradation=Degradation(blur=GaussianBlur(sigma_major=2, sigma_minor=1)))
        with pytest.raises(SettingsError, match="asks for"):
            asked(folder, init_from=path, degradation=kept(folder, third, "three.json"))

    def test_one_learnt_for_bicubic_takes_none(self, folder: Path, make_estimate: Make) -> None:
        request, _ = with_shared_start(plan(folder), asked(folder, init="shared"), lambda *_: None)
        path = self.start(request)[1]
        with pytest.raises(SettingsError, match="was learnt for bicubic, and --degradation asks for"):
            asked(folder, init_from=path, degradation=kept(folder, make_estimate()))
        with pytest.raises(SettingsError, match="was learnt for bicubic: leave --degradation estimate out"):
            asked(folder, init_from=path, degradation="estimate")
        assert asked(folder, init_from=path, degradation="bicubic").degradation is None
        # What fell back to bicubic is bicubic.
        fallback = kept(folder, make_estimate(degradation=Degradation(), fallback=True), "fallback.json")
        assert asked(folder, init_from=path, degradation=fallback).degradation is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--degradation", "estimate", "--noise", "0.01"], "leave --noise out"),
        (["--degradation", "case.json", "--noise", "0.01"], "leave --noise out"),
        (["--degradation", "estimate", "--kernel", "k.npy"], "leave one out"),
        (["--degradation", "none.json"], "none.json: the degradation cannot be read"),
        (["--degradation", "tiny.yaml"], "is no degradation"),
    ],
)
def test_contradictions_exit_2(
    folder: Path,
    make_estimate: Make,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept(folder, make_estimate())
    monkeypatch.chdir(folder)
    assert main(["enhance", "in/a.png", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(Path("in").glob("a_*"))


def test_the_command_estimates_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["enhance", str(folder / "in"), "-o", str(folder / "out"), "--preset", str(folder / "tiny.yaml")]
    assert main([*words, "--threads", "1", "--init", "shared", "--degradation", "estimate", "--json"]) == 1  # c.png
    out, err = capsys.readouterr()
    assert "estimated from 2 images" in err
    assert "bicubic is assumed: 2 parts" in " ".join(err.split())
    first = json.loads(out.splitlines()[0])
    assert first["degradation_sha256"] == Degradation().sha256
    assert sorted(path.name.partition("-")[0] for path in (folder / "out").glob("*-*")) == [
        "degradation",
        "degradation",
        "shared",
    ]
    # The picture is ours, and no image of the next run.
    assert main(["enhance", str(folder / "out"), "-o", str(folder / "more")]) == 2


def test_ctrl_c_while_estimating(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(case, "estimate_degradation", interrupt)
    assert main(["enhance", str(folder / "in"), "-o", str(folder / "out"), "--degradation", "estimate"]) == 130
    assert not (folder / "out").exists()


def test_no_later_step_lowers_a_label(make_estimate: Make, folder: Path) -> None:
    facts = asked(folder, degradation=kept(folder, make_estimate("1" * 64))).degradation
    assert facts is not None
    told = facts.facts(folder, None)
    case = CaseFacts(path="x", sha256="0", images=(TeacherImage(name="a", sha256="1" * 64),))
    assert strongest("internal", "case") == strongest("case", "internal") == "case"
    assert strongest("generative", "case") == "generative"
    assert label_of("1" * 64, None, told) == "internal"
    assert label_of("2" * 64, None, told) == "case"
    assert label_of("1" * 64, case, told) == "case"
    assert label_of("1" * 64, None, told.model_copy(update={"images": ()})) == "case"
    assert label_of("1" * 64, None, replace(facts, degradation=Degradation()).facts(folder, None)) == "internal"
