"""The stage as a person runs it, on built-in faces: what it writes and says, and that nothing is computed twice."""

import contextlib
import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipelines import evaluate, prepare
from tests.generators import written_generator
from tests.stores import write_bicubic
from zssr_gan.data.prepared import open_sources
from zssr_gan.data.store import Store
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import NumericalError
from zssr_gan.evaluation import ground_truth, methods, published, report
from zssr_gan.evaluation.charts import charts_of
from zssr_gan.evaluation.part import decode_part
from zssr_gan.evaluation.runner import PARTS
from zssr_gan.files import locked, without_checksum
from zssr_gan.settings.data import DataSettings, SourceSettings
from zssr_gan.training import train

RUN = Path("runs/mine")
REPORT = RUN / "report"
CONFIG = """
data:
  sources: [{kind: lfw, count: 24}]
  size: null
  roles: {zssr: 8, generator: 4, table1: 3, unseen: null}
synth: {preset: tiny.yaml, init: scratch}
train:
  images: zssr
  generator: {options: {width: 4, blocks: 1}}
  discriminator: {options: {width: 4, blocks: 2, head: adaptive, hidden: 4}}
  losses: {mediator: 0.0, pixel: 1.0, reference: synthetic}
  batch: 2
  patch: null
  epochs: 1
  validation: {images: 2}
evaluate:
  features: {network: vgg16, weights: features.safetensors, layers: [conv1_1]}
  truth: {kind: lfw, side: 24, count: 4, preset: tiny.yaml, alone: tiny.yaml, train: false, blind: 2, tracks: 1}
  sets: [{kind: lfw, count: 2, name: Set5, preset: tiny.yaml}]
  native: [{kind: lfw, count: 3, preset: tiny.yaml}]
"""
TRAINED = ("--set", "evaluate.truth.train=true")
"""The unpaired training on the truths' LR images too."""
WHOLE = (*TRAINED, "--set", "evaluate.features.weights=random")
TINY = """
network: {depth: 2, width: 8}
schedule: {kind: cosine, iterations: 4}
"""
PICTURES = [*(f"figure-{n}" for n in range(4, 8)), "table1-samples", "table2-samples", "losses", "histograms"]
PSNR = "PSNR-Y, border 0, 0..255"
OUTDATED = "was made with other settings"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as the stages before leave it, with bicubic images for synthetic ones and drawn weights for learnt ones."""
    desk = tmp_path_factory.mktemp("made")
    with contextlib.chdir(desk):
        Path("mine.yaml").write_text(CONFIG)
        Path("tiny.yaml").write_text(TINY)
        weights = {"features.0.weight": torch.randn(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
        save_file(weights, "features.safetensors")
        assert prepare.main(["--config", "mine.yaml"]) == 0
        write_bicubic(RUN, Path("mine.yaml"))
        written_generator(RUN / "train")
        written_generator(RUN / "train" / "content", seed=1)
        line = '{"step": 1, "who": "generator", "phase": "pretrain", "loss": 1.0}\n'
        (RUN / "train" / "metrics.jsonl").write_text(line)
    return desk


@pytest.fixture(scope="module")
def evaluated(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same run with all parts, charts of one of them (they take seconds), and what was said."""
    desk, said = tmp_path_factory.mktemp("evaluated"), io.StringIO()
    shutil.copytree(made, desk, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.chdir(desk)
        patch.setitem(published.IMAGES_OF, "Set5", 2)
        patch.setattr(
            report, "charts_of", lambda key, table: charts_of(key, table) if key.startswith("part-1-") else []
        )
        assert run(desk / "mine.yaml", *WHOLE) == 0
    return desk, " ".join(said.getvalue().split())


@pytest.fixture
def done(evaluated: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a copy of the evaluated run in the working folder."""
    shutil.copytree(evaluated[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(published.IMAGES_OF, "Set5", 2)
    return tmp_path / "mine.yaml"


def run(config: Path, *arguments: str) -> int:
    return evaluate.main(["--config", str(config), "--device", "cpu", "--threads", "1", *arguments])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def cells(name: str) -> list[dict[str, Any]]:
    with (REPORT / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pixels_of(part: str) -> dict[tuple[str, str], str]:
    """Means that depend on pixels, and so not on the time."""
    return {(row["row"], row["definition"]): row["mean"] for row in cells(part) if row["unit"] != "s"}


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in REPORT.iterdir() if path.is_file() and path.name != ".lock"}


def page() -> str:
    return (REPORT / "index.html").read_text("utf-8")


def refuse(*_: object, **__: object) -> None:
    raise NumericalError("this was computed before")


def test_all_parts_and_nothing_twice(done: Path, evaluated: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    tables = ("table1", "table2", "truth", "blind", "tracks", "sets", "native", "time")
    expected = {f"{name}.{kind}" for name in tables for kind in ("csv", "md", "tex")}
    before = contents()
    page_before = before.pop("index.html")
    assert page_before.count(b"<svg") >= 2
    assert set(before) == {*expected, *(f"{name}.png" for name in PICTURES)}
    assert OUTDATED not in page()
    for name in PICTURES:
        with Image.open(REPORT / f"{name}.png") as picture:
            assert min(picture.size) > 150
    assert "were trained on by a generator that is compared, and are left out as truths" in evaluated[1]
    parts = {path.stem: decode_part(path.read_bytes()) for path in (REPORT / "parts").iterdir()}
    assert set(parts) == set(PARTS)
    assert None not in parts.values()
    # Again: the same bytes, and no method is asked to do anything.
    for name in ("generate", "run_jobs", "learn_case", "_lanczos"):
        monkeypatch.setattr(methods, name, refuse)
    monkeypatch.setattr(ground_truth, "learn_case", refuse)
    monkeypatch.setattr(train, "train_generator", refuse)
    assert run(done, *WHOLE) == 0
    assert {name: content for name, content in contents().items() if name != "index.html"} == before


@pytest.mark.usefixtures("done")
class TestTables:
    def test_table_1_has_the_papers_values_under_their_own_names(self) -> None:
        rows = cells("table1")
        samples = [row for row in rows if "samples" in row["table"]]
        printed = [float(row["mean"]) for row in samples if row["definition"] == published.SSIM.name]
        assert printed == [ssim for ssim, _ in published.TABLE_1[:3]]
        whole = {(row["row"], row["definition"]): row for row in rows if "all 3 images" in row["table"]}
        # The synthetic images of this test are bicubic's own.
        assert float(whole["method: bicubic, label: internal", PSNR]["mean"]) == 100
        theirs = whole["method: the seed paper, its eight images, label: generative", published.PSNR.name]
        assert float(theirs["mean"]) == pytest.approx(np.mean([psnr for _, psnr in published.TABLE_1]))
        assert float(theirs["low"]) < float(theirs["mean"]) < float(theirs["high"])
        assert all(row["remark"] for row in whole.values() if not row["mean"])

    @pytest.mark.parametrize(("part", "images"), [("table2", "4"), ("native", "3")])
    def test_images_without_a_truth_say_so(self, part: str, images: str) -> None:
        rows = cells(part)
        assert {row["remark"][-len("(unpaired)") :] for row in rows if "PSNR-Y" in row["definition"]} == {"(unpaired)"}
        assert all(row["mean"] for row in rows if row["definition"].startswith(("sharpness", "residual")))
        assert {row["images"] for row in rows} == {images}
        found = decode_part((REPORT / "parts" / f"{part}.json").read_bytes())
        assert found is not None
        assert [view.caption for view in found.scenes[0].views][:2] == ["LR, its pixels enlarged", "bicubic"]
        assert found.scenes[0].maps[0].png.startswith(b"\x89PNG")

    def test_truths_hold_every_method(self) -> None:
        rows = cells("truth")
        names = list(dict.fromkeys(row["row"] for row in rows))
        assert [name.rpartition(" ")[2] for name in names] == [*["internal"] * 5, "case", *["generative"] * 6]
        psnr = {row["row"]: float(row["mean"]) for row in rows if row["definition"] == PSNR}
        nearest, bicubic, lanczos, projected, *_ = psnr.values()
        assert nearest < bicubic < lanczos < projected < 40
        (vif,) = {row["remark"] for row in rows if row["definition"].startswith("VIF")}
        assert "needs 41 pixels a side" in vif
        assert all("RANDOM" in row["remark"] for row in rows if row["definition"].startswith(("Frechet", "perceptual")))
        differences = [row for row in rows if row["definition"].startswith("difference in PSNR-Y")]
        assert len(differences) == len(names) - 1
        assert float(differences[0]["mean"]) == pytest.approx(nearest - bicubic)

    def test_blind_groups_are_told_apart_from_what_was_estimated(self) -> None:
        text = (REPORT / "blind.md").read_text()
        assert "Blind: 2 groups of 4 images of 24 px a side" in text
        cameras = text[text.index("### Cameras") :]
        assert cameras.count("HR pixels at") == cameras.count("bicubic is assumed") == 2
        assert "JPEG 90" in cameras
        psnr = {row["row"]: row for row in cells("blind") if row["definition"] == PSNR}
        assert {row["images"] for row in psnr.values()} == {"8"}
        row = "method: ZSSR, learnt on all LR images, bicubic assumed, learnt from: these LR images, label: case"
        assert row in psnr

    def test_fused_tracks_stand_beside_one_frame(self) -> None:
        rows = [row for row in cells("tracks") if row["definition"].startswith("PSNR-Y")]
        means = {
            row["row"]: float(row["mean"]) for row in rows if row["table"].startswith("Tracks: 1 images in 9 frames")
        }
        (bicubic, alone, known, estimated), names = means.values(), " ".join(means)
        assert known > alone > bicubic
        assert estimated > bicubic
        for label in ("one frame restored, camera known, label: internal", "camera estimated, label: fused"):
            assert label in names
        assert "fusing was said to pay for 1 of 1" in page()

    @pytest.mark.parametrize("count", [1, 2])
    def test_too_few_truths_to_train_on_are_said_and_the_other_methods_are_measured(
        self, count: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        few = ("--set", f"evaluate.truth.count={count}", "--set", "evaluate.truth.alone=null", "--only", "truth")
        assert run(Path("mine.yaml"), *TRAINED, *few) == 0
        assert "Traceback" not in said(capsys)
        rows = [row for row in cells("truth") if row["definition"] == PSNR]
        why = {row["remark"] for row in rows if "on these LR images" in row["row"]}
        assert why == {
            "evaluate.truth: a generator needs 3 images or more to learn from (2 to validate with), and there "
            f"are {count}: give more (evaluate.truth.count), or set evaluate.truth.train to false"
        }
        assert any(row["mean"] for row in rows if "ZSSR" in row["row"])

    def test_sets_stand_beside_what_was_published(self) -> None:
        rows = [row for row in cells("sets") if row["table"] == "Set5: 2 images, x2"]
        printed = {row["row"]: row["mean"] for row in rows if row["definition"] == "PSNR, as printed" and row["mean"]}
        assert printed["method: ZSSR, as printed by Shocher et al. 2018, label: internal"] == "37.37"
        ours = [row for row in rows if row["definition"] == "PSNR-Y, border 2, 0..255"]
        assert sum(bool(row["mean"]) for row in ours) == 4
        assert {row["remark"] for row in ours if not row["mean"]} == {"the paper's results are not at hand"}


def test_a_set_of_another_number_of_images_has_nothing_published_beside(config: Path) -> None:
    assert run(config, "--only", "sets", "--set", "evaluate.sets.0.count=1") == 0
    assert not any("as printed" in row["row"] for row in cells("sets"))


def test_generators_that_are_not_there(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run has trained none, which has no row; one that cannot be trained now says why in its cells."""
    shutil.rmtree(RUN / "train")
    (RUN / "split.json").unlink()
    weights = ("--set", "train.losses.mediator=1", "--set", "train.mediator.weights=nowhere.safetensors")
    assert run(config, "--only", "truth", *TRAINED, *weights) == 0
    assert "has trained no generator" in capsys.readouterr().err
    rows = [row for row in cells("truth") if "generative" in row["row"]]
    assert all("SRGAN on these LR images" in row["row"] for row in rows)
    assert {row["mean"] for row in rows} == {""}
    assert all("nowhere.safetensors" in row["remark"] for row in rows)


def test_runs_beside_this_one_stand_in_the_table_of_their_scale(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lfw = open_sources(DataSettings(sources=(SourceSettings(kind="lfw"),)))[0]
    seen = {path: lfw.read(path).sha256 for path in list(lfw.listing().entries)[:90]}
    written_generator(RUN.parent / "theirs" / "train", seed=3, listed={"inputs": seen})
    written_generator(RUN.parent / "large" / "train", scale=4)
    written_generator(RUN.parent / "same" / "train", scale=1)
    (RUN.parent / "broken" / "train").mkdir(parents=True)
    (RUN.parent / "broken" / "train" / "generator.safetensors").write_bytes(b"none")
    path = written_generator(RUN.parent / "fourth" / "train" / "content", seed=3)
    some = ("--set", "evaluate.truth.alone=null", "--only", "truth")
    assert run(config, *some, "--set", f"evaluate.truth.models=['{path}']") == 0
    names = [row["row"] for row in cells("truth")]
    assert not any("theirs" in name for name in names)  # nobody asked for what lies beside
    assert any("method: fourth before the discriminator (srgan, " in name for name in names)
    beside = ("--set", "evaluate.truth.models=beside")
    assert run(config, *some, "--set", "evaluate.truth.count=20", *beside) == 0
    rows = [row for row in cells("truth") if row["definition"].startswith("PSNR-Y")]
    found = {row["row"].removeprefix("method: ").partition(" (")[0].partition(",")[0]: row for row in rows}
    assert "large" not in found
    assert found["theirs"]["mean"]
    assert found["same"]["mean"]
    assert "cannot be read as safetensors" in found["broken"]["remark"]
    # Of the hundred faces, the ninety that it was trained on are no truths here, nor is the run's training part.
    assert 0 < int(found["theirs"]["images"]) <= 10
    capsys.readouterr()
    reasons = {"large": "enlarges by 4, and the table is of x2", "nobody": "is neither a file nor a run"}
    for name, why in reasons.items():
        assert run(config, "--only", "truth", "--set", f"evaluate.truth.models=[{name}]") == 2
        assert f"{name} {why}" in said(capsys)


def test_the_report_says_which_parts_are_of_other_settings(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part does not depend on makes nothing outdated; another generator does."""
    outdated = f"The part &#39;Table I: the generator against the zero-shot way&#39; {OUTDATED}"
    assert run(config, "--only", "table1") == 0
    assert run(config, "--only", "table2", "--set", "evaluate.truth.side=26") == 0
    assert outdated not in page()
    before = contents()["table2.csv"]
    assert run(config, "--only", "table2", "--set", "evaluate.most=1") == 0
    assert page().count(OUTDATED) == page().count(outdated) == 1
    assert contents()["table2.csv"] != before
    written_generator(RUN / "train", seed=5)
    assert run(config, "--only", "table2") == 0
    assert page().count(OUTDATED) == page().count(outdated) == 1
    monkeypatch.setattr(methods, "learn_case", refuse)
    assert run(config, "--only", "truth") == 1


def test_stopped_it_goes_on(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(methods, "learn_case", stop)
        assert run(config, "--only", "truth") == 130
    assert "run the same command again to resume" in capsys.readouterr().err
    assert not (REPORT / "truth.md").exists()
    monkeypatch.setattr(methods, "_lanczos", refuse)
    assert run(config, "--only", "truth") == 0


def test_images_without_a_synthetic_one_are_left_out(config: Path) -> None:
    with SyntheticSet(RUN / "synthetic") as store:
        others = [store[n] for n in range(len(store)) if n != store.roles.index("table1")]
    shutil.rmtree(RUN / "synthetic")
    with Store(RUN / "synthetic", {}) as again:
        again.write(others)
    assert run(config, "--only", "table1") == 0
    assert any("2 of 3 images, drawn by the seed, of the role table1" in row["table"] for row in cells("table1"))


def test_what_is_damaged_is_made_again(config: Path) -> None:
    """Results, figures, and the training on the truths' LR images."""
    some = ("--only", "truth", *TRAINED, "--set", "evaluate.truth.alone=null")
    assert run(config, *some) == 0
    before = pixels_of("truth")
    (folder,) = (REPORT / "cache").glob("training-*")
    results = [path for path in (REPORT / "cache").iterdir() if path.is_file()]
    for paths, damage in (
        ([folder / "generator.safetensors", *results], lambda data: data[:-40] + bytes(40)),  # the first can be read
        ([folder / "times.json"], lambda data: data.replace(b'"last": ', b'"last": 1')),
    ):
        for path in paths:
            path.write_bytes(damage(path.read_bytes()))
        assert run(config, *some) == 0
        assert pixels_of("truth") == before
        without_checksum((folder / "times.json").read_bytes())


def test_a_damaged_part_is_missing_and_the_rest_is_shown(config: Path) -> None:
    assert run(config, "--only", "table1") == 0
    path = REPORT / "parts" / "table1.json"
    path.unlink()
    path.mkdir()
    assert run(config, "--only", "table2,sets", "--set", "evaluate.sets=[{root: nowhere, preset: tiny.yaml}]") == 2
    assert "--only table1" in page()
    assert "Table II" in page()  # a part that fails costs no other


def test_a_run_without_truths_leaves_them_out_unless_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what was made under other settings goes."""
    none = ("--set", "evaluate.truth=null")
    assert run(config, *none, "--only", "truth") == 2
    assert "evaluate.truth: is not set" in capsys.readouterr().err
    earlier = [REPORT / "truth.csv", REPORT / "parts" / "truth.json"]
    for path in earlier:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert run(config, *none, "--set", "evaluate.sets=[]", "--set", "evaluate.native=[]") == 0
    assert "truth: evaluate.truth is not set" in capsys.readouterr().err
    assert not any(path.exists() for path in earlier)


def test_truths_that_are_too_small_are_left_out_and_long_ones_cut(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("mixed")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, (rows, columns) in {"small": (12, 40), "wide": (30, 50), "high": (50, 30)}.items():
        Image.fromarray(rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    wanted = "evaluate.truth={root: mixed, side: 24, preset: tiny.yaml, train: false}"
    (folder / "wide again.png").write_bytes((folder / "wide.png").read_bytes())
    assert run(config, "--only", "truth", "--set", wanted) == 0
    text = said(capsys)
    assert "1 images are smaller than 24 pixels a side and are left out" in text
    assert "1 files are copies of others, byte by byte, and are left out" in text
    assert {row["images"] for row in cells("truth") if row["definition"].startswith("PSNR")} == {"2"}
    for path in folder.glob("[wh]*.png"):
        path.unlink()
    assert run(config, "--only", "truth", "--set", wanted) == 2
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    assert run(config, "--only", "sets", "--set", "evaluate.sets=[{root: mixed, preset: tiny.yaml}]") == 2
    assert "has no image of 16 pixels a side" in said(capsys)


@pytest.mark.parametrize(
    ("only", "changed", "words"),
    [
        (
            "table3",
            "seed=0",
            "there is no part 'table3': use table1, table2, truth, blind, tracks, sets, native, figures.",
        ),
        ("truth", "evaluate.truth.side=25", "evaluate.truth.side: is 25, which the scale 2 does not divide."),
        ("truth", "evaluate.truth={side: 24}", "evaluate.truth: root is missing: name the folder."),
        ("truth", "evaluate.truth={root: nowhere}", "nowhere"),
        ("table1", "run_dir=elsewhere", "elsewhere/split.json: is not there; `make prepare`"),
        ("truth", "evaluate.features.layers=[conv9]", "evaluate.features.layers: VGG16 has no such layer (conv9)"),
        ("blind", "evaluate.truth.blind=0", "evaluate.truth.blind: is 0"),
    ],
)
def test_mistakes(config: Path, capsys: pytest.CaptureFixture[str], only: str, changed: str, words: str) -> None:
    assert run(config, "--only", only, "--set", changed) == 2
    assert words in said(capsys)


def test_a_missing_generator_names_its_stage(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (RUN / "train" / "generator.safetensors").unlink()
    assert run(config, "--only", "table1") == 2
    assert "`make train` with the same CONFIG" in said(capsys)


def test_two_at_once_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    REPORT.mkdir()
    with locked(REPORT / ".lock"):
        assert run(config) == 2
    assert "another run is evaluating there" in said(capsys)
