"""`synth.degradation`: what is estimated once and of whom, what is kept of it, and what it changes."""

import shutil
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipelines import prepare
from tests.estimates import NARROW, WIDE, estimate_of, named
from tests.pipelines.test_synth import run, words, write_preset
from tests.processes import ranks
from zssr_gan.data.cameras import group_images, read_degradations
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.run_case import LEARNT_FROM
from zssr_gan.data.split import read_split
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.degradation.estimate import Estimate, encode_estimate
from zssr_gan.degradation.estimator import Evidence
from zssr_gan.degradation.estimator import estimate_degradation as really_estimate
from zssr_gan.degradation.model import Degradation, KernelBlur, Noise
from zssr_gan.settings.run import load_run
from zssr_gan.zeroshot.shared import read_shared

RUN = Path("runs/mine")
STORE = RUN / "synthetic"
KEPT = RUN / "degradation.json"
CONFIG = """
data:
  sources: [{kind: survface, root: faces}]
  size: null
  train: 0.75
  roles: {zssr: 8, generator: null, table1: 2, unseen: null}
synth: {preset: tiny.yaml, init: scratch, degradation: estimate, shard: 4}
"""
ESTIMATED = "--set", "synth.init=shared"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sixteen prepared images of SurvFace's names, most of them of two cameras."""
    desk = tmp_path_factory.mktemp("made")
    photo = data.astronaut()[40:200, 150:310]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        for number in range(16):
            top, left = 36 * (number // 4), 36 * (number % 4)
            crop = Image.fromarray(photo[top : top + 24, left : left + 24]).resize((12, 12), Image.Resampling.BICUBIC)
            camera = 9 if number in (3, 7) else 1 + number % 2
            path = Path(f"faces/training_set/{number}/{number}_cam{camera}_1.jpg")
            path.parent.mkdir(parents=True)
            crop.save(path, quality=90)
        write_preset(3)
        Path("mine.yaml").write_text(CONFIG)
        assert prepare.main(["--config", "mine.yaml"]) == 0
    return desk


@pytest.fixture(autouse=True)
def estimated(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Evidence]]:
    """What the estimator is asked; it says that the first camera blurs more. Three images are enough for a camera."""
    asked: list[Sequence[Evidence]] = []

    def estimate(evidence: Sequence[Evidence], _: object, *, seed: int, on_estimate: Callable[..., None]) -> Estimate:
        asked.append(evidence)
        on_estimate("blur", 1, 2)
        return estimate_of(WIDE if "cam1" in evidence[0].image.name else NARROW, named(evidence), seed)

    monkeypatch.setattr("zssr_gan.zeroshot.case.estimate_degradation", estimate)
    monkeypatch.setattr("zssr_gan.data.run_case.group_images", partial(group_images, smallest=3))
    return asked


def taught(config: Path) -> dict[str, set[str]]:
    """Ids of the training part's images by group."""
    teachers = Prepared(read_split(RUN / "split.json"), load_run(config).data, LEARNT_FROM)
    groups, _ = group_images(teachers, 3)
    return {group: {teachers.member(number).id for number in its} for group, its in groups.items()}


def bytes_of(folder: Path, without: Collection[str] = ()) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.glob("*") if path.is_file() and path.name not in without]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


class TestEstimate:
    @pytest.mark.usefixtures("drawn")
    @pytest.mark.parametrize("init", ["scratch", "shared"])
    def test_each_camera_for_itself_from_the_training_part(
        self, config: Path, init: str, estimated: list[Sequence[Evidence]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Images are made by their cameras, also those of the test part, which nothing was estimated from."""
        assert run(config, "--set", f"synth.init={init}") == 0
        said = capsys.readouterr().err
        kept = read_degradations(KEPT)
        assert [one.group for one in kept.groups] == ["survface", "survface/cam1", "survface/cam2"]
        assert "survface: cam9 (" in said
        assert "fewer than 3 images each, so they join the rest of survface" in said
        groups = taught(config)
        assert {one.group: {image.name for image in one.estimate.images} for one in kept.groups} == groups
        assert all(one.jpeg is not None and one.jpeg.quality == 90 for evidence in estimated for one in evidence)
        for one in kept.groups:
            assert f"degradation of {one.group}: {one.estimate.summary}, from {len(one.estimate.images)} images" in said
        with Image.open(RUN / "degradation.png") as picture:
            assert min(picture.size) > 300
            assert np.asarray(picture.convert("L")).std() > 10
        with SyntheticSet(STORE) as images:
            assert len(images) == 10
            assert {*images.roles} == {"zssr", "table1"}
            for number, name in enumerate(images.ids):
                figures = images.figures(number)
                group = next((f"survface/{one}" for one in ("cam1", "cam2") if f"_{one}_" in name), "survface")
                which = WIDE if group.endswith("cam1") else NARROW
                assert figures["degradation"] == {"group": group, "sha256": which.sha256}
                alone = init == "scratch" and groups[group] == {name}
                assert figures["label"] == ("internal" if alone else "case")
            settings = images.settings.settings
        assert (settings["degradation"], settings["degradations"]) == ("estimate", kept.hashes)
        if init == "shared":
            start = read_shared(STORE / "shared.safetensors")
            assert set(start.facts.cameras) == {WIDE, NARROW}
            assert {image.name for image in start.facts.images} == set().union(*groups.values())

    def test_again_it_is_read_back_and_lost_it_is_estimated_again(
        self, config: Path, estimated: list[Sequence[Evidence]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, *ESTIMATED) == 0
        drawn = {"contact-sheet.png", "gains.png"}
        before, kept, asked = bytes_of(RUN), bytes_of(STORE, drawn), len(estimated)
        capsys.readouterr()
        assert run(config, *ESTIMATED) == 0
        assert "as kept in" in capsys.readouterr().err
        assert len(estimated) == asked
        assert (bytes_of(RUN), bytes_of(STORE, drawn)) == (before, kept)
        KEPT.unlink()
        assert run(config, *ESTIMATED) == 0
        assert KEPT.read_bytes() == before[KEPT.name][0]
        assert "10 of 10 images are there already" in capsys.readouterr().err
        assert len(estimated) == 2 * asked

    def test_of_other_images_it_is_estimated_again(self, config: Path, estimated: list[Sequence[Evidence]]) -> None:
        assert run(config) == 0
        asked = len(estimated)
        first = read_degradations(KEPT)
        shutil.rmtree(STORE)
        change = ["--set", "data.size=16", "--set", "seed=1"]
        assert prepare.main(["--config", str(config), *change, "--overwrite"]) == 0
        assert run(config, *change) == 0
        found = read_degradations(KEPT)
        assert (found.seed, found.size) == (1, 16)
        assert found != first
        assert len(estimated) == 2 * asked
        resized = [one for evidence in estimated[asked:] for one in evidence]
        assert all(one.jpeg is None for one in resized), "resized pixels are no file's"

    @pytest.mark.parametrize(
        ("way", "what"),
        [
            *(("estimate", what) for what in ("estimate", "cut", "picture")),
            *((way, "estimate") for way in ("known.json", "runs/mine/degradation.json")),
        ],
    )
    def test_a_users_own_file_there_is_never_replaced(
        self, config: Path, estimated: list[Sequence[Evidence]], way: str, what: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content = encode_estimate(estimate_of(WIDE, []))
        Path("known.json").write_bytes(content)
        lies = KEPT.with_suffix(".png") if what == "picture" else KEPT
        lies.write_bytes(b"a user's" if what == "picture" else content[:100] if what == "cut" else content)
        before = lies.read_bytes()
        capsys.readouterr()
        assert run(config, "--set", f"synth.degradation={way}") == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{lies}" in said
        assert "move it away" in said
        assert lies.read_bytes() == before
        assert not estimated

    def test_another_estimate_is_refused_and_not_kept(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The store's images were made with the one that was lost."""
        assert run(config) == 0
        KEPT.unlink()
        monkeypatch.setattr(
            "zssr_gan.zeroshot.case.estimate_degradation",
            lambda evidence, _, *, seed, on_estimate: estimate_of(NARROW, named(evidence), seed),  # noqa: ARG005
        )
        capsys.readouterr()
        assert run(config) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f'degradations.survface/cam1 = "{WIDE.sha256}", and "{NARROW.sha256}" is asked for now' in said
        assert not KEPT.exists()

    def test_an_unreadable_teacher_is_left_out_and_said(
        self, config: Path, estimated: list[Sequence[Evidence]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        split = read_split(RUN / "split.json")
        gone = next(member for member in split.entries if member.role == "generator")
        (Path("faces") / gone.path).unlink()
        assert run(config, *ESTIMATED) == 1
        said = capsys.readouterr().err
        assert said.count(f"failed: {gone.id}: was not learnt from") == 1
        assert read_degradations(KEPT).left_out == (gone.id,)
        assert gone.id not in {image.name for image in read_shared(STORE / "shared.safetensors").facts.images}
        asked = len(estimated)
        assert run(config, *ESTIMATED) == 0
        assert len(estimated) == asked

    def test_by_the_estimator_itself(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """So few and small images say nothing of a blur: bicubic is assumed, and said."""
        monkeypatch.setattr("zssr_gan.zeroshot.case.estimate_degradation", really_estimate)
        assert run(config, *ESTIMATED) == 0
        assert all(one.estimate.fallback for one in read_degradations(KEPT).groups)
        assert all(one.estimate.jpeg_qualities.keys() == {"90"} for one in read_degradations(KEPT).groups)


class TestGiven:
    @pytest.mark.parametrize(
        ("changes", "group", "which"),
        [
            (["synth.degradation=known.json"], "known", WIDE),
            (["synth.degradation=bicubic", "synth.noise=0.04"], "all images", Degradation(noise=Noise(sigma=0.04))),
        ],
    )
    def test_one_for_all(self, config: Path, changes: list[str], group: str, which: Degradation) -> None:
        Path("known.json").write_bytes(encode_estimate(estimate_of(WIDE, [])))
        assert run(config, *(word for change in changes for word in ("--set", change))) == 0
        kept = read_degradations(KEPT)
        assert [(one.group, one.estimate.degradation) for one in kept.groups] == [(group, which)]
        with SyntheticSet(STORE) as images:
            for number in range(len(images)):
                assert images.figures(number)["degradation"] == {"group": group, "sha256": which.sha256}
                assert images.figures(number)["label"] == "internal", "it was known, not learnt"

    def test_a_kernel_of_another_scale_is_refused(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kernel = KernelBlur(values=((0.25, 0.25), (0.25, 0.25)), scale=(3, 3))
        Path("known.json").write_bytes(encode_estimate(estimate_of(Degradation(blur=kernel), [])))
        capsys.readouterr()
        assert run(config, "--set", "synth.degradation=known.json") == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "known.json: its kernel holds for a scale of 3 x 3 alone (y, x), and synth.scale is 2." in said
        assert not KEPT.exists()


class TestOthers:
    def test_bicubic_estimates_nothing_and_its_store_takes_no_other(
        self, config: Path, estimated: list[Sequence[Evidence]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is refused before the work."""
        assert run(config, "--set", "synth.degradation=bicubic") == 0
        assert not KEPT.exists()
        with SyntheticSet(STORE) as images:
            assert {images.figures(number)["label"] for number in range(len(images))} == {"internal"}
            assert "degradation" not in images.settings.settings, "so that earlier stores are resumed"
        capsys.readouterr()
        assert run(config) == 2
        assert 'degradation = "bicubic", and "estimate" is asked for now' in capsys.readouterr().err
        assert not estimated

    def test_a_kept_start_is_used_for_what_it_was_learnt_for(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, *ESTIMATED) == 0
        shutil.copy(STORE / "shared.safetensors", "kept.safetensors")
        again = ["--set", "synth.init=shared", "--set", "synth.init_from=kept.safetensors", "--set", "run_dir=other"]
        assert prepare.main(["--config", str(config), "--set", "run_dir=other"]) == 0
        capsys.readouterr()
        assert run(config, *again, "--set", "synth.degradation=bicubic") == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert "kept.safetensors: was learnt for the degradation degradation " in said
        assert "and synth.degradation gives bicubic" in said
        assert run(config, *again) == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("init", ["scratch", "shared"])
    def test_all_processes_take_the_same(self, config: Path, init: str) -> None:
        asked = words(config, "--set", "synth.shard=1", "--set", f"synth.init={init}")
        done = [one.finish() for one in ranks("pipelines.synth", 2, *asked)]
        assert {code for code, _, _ in done} == {0}, done
        (group,) = read_degradations(KEPT).groups
        with SyntheticSet(STORE) as images:
            assert len(images) == 10
            for number in range(len(images)):
                wanted = {"group": "survface", "sha256": group.estimate.degradation_sha256}
                assert images.figures(number)["degradation"] == wanted
