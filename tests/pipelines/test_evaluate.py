"""The stage as a person runs it, on built-in faces: what it writes and says, and that nothing is computed twice."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import evaluate, prepare
from tests.generators import written_generator
from zssr_gan.data.prepared import Prepared, open_sources
from zssr_gan.data.shard import StoredImage
from zssr_gan.data.split import read_split
from zssr_gan.data.store import Store
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.errors import NumericalError
from zssr_gan.evaluation import case_training, ground_truth, methods, published
from zssr_gan.evaluation.part import decode_part
from zssr_gan.evaluation.runner import PARTS
from zssr_gan.files import locked
from zssr_gan.imaging.resize import resize
from zssr_gan.settings.data import DataSettings, SourceSettings
from zssr_gan.settings.run import load_run

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
  losses: {mediator: 0.0, pixel: 1.0, guide: synthetic}
  batch: 2
  patch: null
  epochs: 1
  validation: {images: 2}
evaluate:
  samples: 2
  timed: 1
  features: {network: vgg16, weights: random, layers: [conv1_1]}
  truth: {kind: lfw, side: 24, count: 4, preset: tiny.yaml, train: false, blind: 2, group: 3}
  sets: [{kind: lfw, count: 2, name: Set5, preset: tiny.yaml}]
  native: [{kind: lfw, count: 3}]
  native_preset: tiny.yaml
"""
WHOLE = ("--set", "evaluate.truth.train=true")
"""The unpaired training on the truths' LR images too, which takes a second."""
TINY = """
network: {depth: 2, width: 8}
schedule: {kind: cosine, iterations: 4}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as the stages before leave it, with bicubic images for synthetic ones and drawn weights for learnt ones."""
    desk = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        Path("mine.yaml").write_text(CONFIG)
        Path("tiny.yaml").write_text(TINY)
        assert prepare.main(["--config", "mine.yaml"]) == 0
        images = Prepared(read_split(RUN / "split.json"), load_run(Path("mine.yaml")).data, ("zssr", "table1"))
        stored = []
        for number, name in enumerate(images.ids):
            lr = images.image(number)
            planes = [
                x.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy() for x in (lr, resize(lr, (50, 50)))
            ]
            stored.append(StoredImage(name, *planes, {"label": "internal", "role": images.member(number).role}))
        with Store(RUN / "synthetic", {}) as store:
            store.write(stored)
        written_generator(RUN / "train")
        written_generator(RUN / "train" / "content", seed=1)
        (RUN / "train" / "metrics.jsonl").write_text(
            '{"step": 1, "who": "generator", "phase": "pretrain", "loss": 1.0}\n'
        )
    return desk


@pytest.fixture
def config(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.yaml"


def run(config: Path, *arguments: str) -> int:
    return evaluate.main(["--config", str(config), "--device", "cpu", "--threads", "1", *arguments])


def pixels_of(part: str) -> dict[tuple[str, str], str]:
    """Means that hang on pixels, and so not on the time."""
    return {(row["row"], row["definition"]): row["mean"] for row in cells(part) if row["unit"] != "s"}


def cells(name: str) -> list[dict[str, Any]]:
    with (REPORT / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in REPORT.iterdir() if path.is_file() and path.name != ".lock"}


def refuse(*_: object, **__: object) -> None:
    raise NumericalError("this was computed before")


def test_all_parts(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(config, *WHOLE) == 0
    said = capsys.readouterr().err
    pictures = [*(f"figure-{n}" for n in range(4, 8)), "table1-samples", "table2-samples", "losses", "histograms"]
    tables = ("table1", "table2", "truth", "blind", "sets", "native", "time")
    expected = {f"{name}.png" for name in pictures} | {
        f"{name}.{kind}" for name in tables for kind in ("csv", "md", "tex")
    }
    assert set(contents()) == {*expected, "index.html"}
    page = (REPORT / "index.html").read_text("utf-8")
    assert "blind: cameras" in page.lower()
    assert "was made with other settings" not in page
    for name in pictures:
        with Image.open(REPORT / f"{name}.png") as picture:
            assert min(picture.size) > 150
    assert "were trained on by a generator that is compared, and are left out as truths" in said
    parts = {path.stem: decode_part(path.read_bytes()) for path in (REPORT / "parts").iterdir()}
    assert set(parts) == set(PARTS)
    assert None not in parts.values()
    # Again: the same bytes, and no method is asked to do anything.
    before = contents()
    for name in ("generate", "run_fleet", "learn_case", "_lanczos"):
        monkeypatch.setattr(methods, name, refuse)
    monkeypatch.setattr(ground_truth, "learn_case", refuse)
    monkeypatch.setattr(case_training, "Loop", refuse)
    assert run(config, *WHOLE) == 0
    assert contents() == before


def test_table_1_has_the_papers_values_under_their_own_names(config: Path) -> None:
    assert run(config, "--only", "table1") == 0
    rows = cells("table1")
    samples = [row for row in rows if "samples" in row["table"]]
    printed = [float(row["mean"]) for row in samples if row["definition"] == published.SSIM.name]
    assert printed == [ssim for ssim, _ in published.TABLE_1[:2]]
    whole = {(row["row"], row["definition"]): row for row in rows if "all 3 images" in row["table"]}
    # The synthetic images of this test are bicubic's own.
    assert float(whole["method: bicubic, label: internal", "PSNR-Y, border 0, 0..255"]["mean"]) == 100
    theirs = whole["method: the seed paper, its eight images, label: generative", published.PSNR.name]
    assert float(theirs["mean"]) == pytest.approx(np.mean([psnr for _, psnr in published.TABLE_1]))
    assert float(theirs["low"]) < float(theirs["mean"]) < float(theirs["high"])
    none = [row for row in whole.values() if not row["mean"]]
    assert none
    assert all(row["said"] for row in none)
    assert not (REPORT / "truth.csv").exists()


def test_table_2_has_no_truth_and_says_so(config: Path) -> None:
    assert run(config, "--only", "table2") == 0
    rows = cells("table2")
    assert {row["said"][-len("(unpaired)") :] for row in rows if "PSNR-Y" in row["definition"]} == {"(unpaired)"}
    assert all(row["mean"] for row in rows if row["definition"].startswith("sharpness"))


def test_truths_hold_every_method(config: Path) -> None:
    assert run(config, "--only", "truth", *WHOLE) == 0
    rows = cells("truth")
    methods = list(dict.fromkeys(row["row"] for row in rows))
    assert [name.rpartition(" ")[2] for name in methods] == [*["internal"] * 5, "case", *["generative"] * 6]
    psnr = {row["row"]: float(row["mean"]) for row in rows if row["definition"] == "PSNR-Y, border 0, 0..255"}
    nearest, bicubic, lanczos, projected, *_ = psnr.values()
    assert nearest < bicubic < lanczos < projected < 40
    (vif,) = {row["said"] for row in rows if row["definition"].startswith("VIF")}
    assert "needs 41 pixels a side" in vif
    assert all("RANDOM" in row["said"] for row in rows if row["definition"].startswith(("Frechet", "perceptual")))
    differences = [row for row in rows if row["definition"].startswith("difference in PSNR-Y")]
    assert len(differences) == len(methods) - 1
    assert float(differences[0]["mean"]) == pytest.approx(nearest - bicubic)


def test_a_generator_that_cannot_be_trained_says_why_in_its_cells(config: Path) -> None:
    weights = ("--set", "train.losses.mediator=1", "--set", "train.mediator.weights=nowhere.safetensors")
    assert run(config, "--only", "truth", *WHOLE, *weights) == 0
    own = [row for row in cells("truth") if "SRGAN on these LR images" in row["row"]]
    assert own
    assert not any(row["mean"] for row in own)
    assert all("nowhere.safetensors" in row["said"] for row in own if "difference" not in row["definition"])


def test_a_run_that_trained_nothing_has_a_truth_table(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(RUN / "train")
    (RUN / "split.json").unlink()
    assert run(config, "--only", "truth") == 0
    assert "has trained no generator" in capsys.readouterr().err
    assert not any("generative" in row["row"] for row in cells("truth"))


class TestOthers:
    def test_runs_beside_this_one_stand_in_the_table_of_their_scale(self, config: Path) -> None:
        lfw = open_sources(DataSettings(sources=(SourceSettings(kind="lfw"),)))[0]
        seen = {path: lfw.read(path).sha256 for path in (entry.path for entry in lfw.listing().entries[:90])}
        written_generator(RUN.parent / "theirs" / "train", seed=3, listed={"inputs": seen})
        written_generator(RUN.parent / "large" / "train", scale=4)
        written_generator(RUN.parent / "same" / "train", scale=1)
        (RUN.parent / "broken" / "train").mkdir(parents=True)
        (RUN.parent / "broken" / "train" / "generator.safetensors").write_bytes(b"none")
        assert run(config, "--only", "truth", "--set", "evaluate.truth.count=20") == 0
        assert not any("theirs" in row["row"] for row in cells("truth"))  # nobody asked for what lies beside
        beside = ("--set", "evaluate.truth.models=beside")
        assert run(config, "--only", "truth", "--set", "evaluate.truth.count=20", *beside) == 0
        rows = [row for row in cells("truth") if row["definition"].startswith("PSNR-Y")]
        told = {row["row"].removeprefix("method: ").partition(" (")[0].partition(",")[0]: row for row in rows}
        assert {"theirs", "same", "broken"} <= set(told)
        assert "large" not in told
        assert told["theirs"]["mean"]
        assert told["same"]["mean"]
        assert "cannot be read as safetensors" in told["broken"]["said"]
        # Of the hundred faces, the ninety that it was trained on are no truths here, nor is the run's training part.
        assert 0 < int(told["theirs"]["images"]) <= 10

    def test_a_phase_before_the_discriminator_has_its_runs_name(self, config: Path) -> None:
        path = written_generator(RUN.parent / "theirs" / "train" / "content", seed=3)
        assert run(config, "--only", "truth", "--set", f"evaluate.truth.models=['{path}']") == 0
        assert any("method: theirs before the discriminator (srgan, " in row["row"] for row in cells("truth"))

    def test_one_of_another_scale_is_refused_by_name(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        written_generator(RUN.parent / "large" / "train", scale=4)
        assert run(config, "--only", "truth", "--set", "evaluate.truth.models=[large]") == 2
        assert "large enlarges by 4, and the table is of x2" in " ".join(capsys.readouterr().err.split())
        assert run(config, "--only", "truth", "--set", "evaluate.truth.models=[nobody]") == 2
        assert "nobody is neither a file nor a run" in " ".join(capsys.readouterr().err.split())


def test_blind_groups_are_told_apart_from_what_was_estimated(config: Path) -> None:
    assert run(config, "--only", "blind") == 0
    text = (REPORT / "blind.md").read_text()
    assert "Blind: 2 groups of 3 images of 24 px a side" in text
    cameras = text[text.index("### Cameras") :]
    assert cameras.count("HR pixels at") == 2
    assert "JPEG 90" in cameras
    assert cameras.count("bicubic is assumed") == 2
    psnr = {row["row"]: row for row in cells("blind") if row["definition"] == "PSNR-Y, border 0, 0..255"}
    assert {row["images"] for row in psnr.values()} == {"6"}
    assert "method: ZSSR, learnt on all LR images, bicubic assumed, learnt from: these LR images, label: case" in psnr


def test_a_set_of_another_number_of_images_has_nothing_published_beside(config: Path) -> None:
    assert run(config, "--only", "sets", "--set", "evaluate.sets.0.count=1") == 0
    assert not any("as printed" in row["row"] for row in cells("sets"))


def test_sets_stand_beside_what_was_published(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.IMAGES_OF, "Set5", 2)
    assert run(config, "--only", "sets") == 0
    rows = [row for row in cells("sets") if row["table"] == "Set5: 2 images, x2"]
    printed = {row["row"]: row["mean"] for row in rows if row["definition"] == "PSNR, as printed" and row["mean"]}
    assert printed["method: ZSSR, as printed by Shocher et al. 2018, label: internal"] == "37.37"
    ours = [row for row in rows if row["definition"] == "PSNR-Y, border 2, 0..255"]
    assert sum(bool(row["mean"]) for row in ours) == 4
    assert {row["said"] for row in ours if not row["mean"]} == {"the paper's results are not at hand"}


def test_native_images_have_no_truth(config: Path) -> None:
    assert run(config, "--only", "native") == 0
    rows = cells("native")
    assert {row["mean"] for row in rows if "PSNR-Y" in row["definition"]} == {""}
    assert all(row["mean"] for row in rows if row["definition"].startswith("residual"))
    assert {row["images"] for row in rows} == {"3"}
    part = decode_part((REPORT / "parts" / "native.json").read_bytes())
    assert part is not None
    assert [view.name for view in part.scenes[0].views][:2] == ["LR, its pixels enlarged", "bicubic"]
    assert part.scenes[0].maps[0].png.startswith(b"\x89PNG")


def test_other_settings_are_computed_anew(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(config, "--only", "truth") == 0
    before = contents()
    assert run(config, "--only", "truth", "--set", "evaluate.truth.count=3") == 0
    assert contents()["truth.csv"] != before["truth.csv"]
    monkeypatch.setattr(methods, "learn_case", refuse)
    assert run(config, "--only", "truth", "--set", "evaluate.truth.count=2") == 1


def test_the_report_says_which_parts_are_of_other_settings(config: Path) -> None:
    assert run(config, "--only", "table1") == 0
    assert run(config, "--only", "table2", "--set", "evaluate.samples=1") == 0
    page = (REPORT / "index.html").read_text("utf-8")
    assert "The part &#39;Table I: the generator against the zero-shot way&#39; was made with other settings" in page
    assert page.count("was made with other settings") == 1
    # What a part does not hang on makes nothing stale; another generator does.
    assert run(config, "--only", "table1,table2") == 0
    assert run(config, "--only", "table2", "--set", "evaluate.timed=2") == 0
    assert "was made with other settings" not in (REPORT / "index.html").read_text("utf-8")
    written_generator(RUN / "train", seed=5)
    assert run(config, "--only", "table2") == 0
    assert (REPORT / "index.html").read_text("utf-8").count("was made with other settings") == 1


def test_stopped_it_goes_on(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(methods, "learn_case", stop)
        assert run(config, "--only", "truth") == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not (REPORT / "truth.md").exists()
    monkeypatch.setattr(methods, "_lanczos", refuse)
    assert run(config, "--only", "truth") == 0


def test_images_without_a_synthetic_one_are_left_out(config: Path) -> None:
    with SyntheticSet(RUN / "synthetic") as store:
        kept = [store[n] for n in range(len(store)) if n != store.roles.index("table1")]
    shutil.rmtree(RUN / "synthetic")
    with Store(RUN / "synthetic", {}) as again:
        again.write(kept)
    assert run(config, "--only", "table1") == 0
    assert any("2 of 3 images, drawn by the seed, of the role table1" in row["table"] for row in cells("table1"))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:-9] + bytes(9), lambda _: b"{}"])
def test_a_damaged_result_is_made_again(config: Path, damage: Callable[[bytes], bytes]) -> None:
    assert run(config, "--only", "table1") == 0
    before = contents()
    for path in (REPORT / "cache").iterdir():
        path.write_bytes(damage(path.read_bytes()))
    assert run(config, "--only", "table1") == 0
    assert contents() == before


def test_a_damaged_training_is_made_again(config: Path) -> None:
    assert run(config, "--only", "truth", *WHOLE) == 0
    before = pixels_of("truth")
    (folder,) = (REPORT / "cache").glob("training-*")
    weights, times = folder / "generator.safetensors", folder / "times.json"
    whole = weights.read_bytes()
    for path, damaged in (
        (weights, b"abc"),
        (weights, whole[:-40] + bytes(40)),  # can be read
        (times, b'{"content": "x", "last": []}'),
        (times, times.read_bytes().replace(b'"last": ', b'"last": 1')),
    ):
        path.write_bytes(damaged)
        assert run(config, "--only", "truth", *WHOLE) == 0
        assert pixels_of("truth") == before


def test_a_damaged_part_is_missing_and_the_rest_is_shown(config: Path) -> None:
    assert run(config, "--only", "table1") == 0
    path = REPORT / "parts" / "table1.json"
    path.write_bytes(path.read_bytes().replace(b"iVBOR", b"iVBOX", 1))  # of a picture
    assert run(config, "--only", "table2") == 0
    assert "--only table1" in (REPORT / "index.html").read_text("utf-8")
    path.unlink()
    path.mkdir()
    assert run(config, "--only", "table2") == 0


def test_what_the_settings_no_longer_ask_for_goes(config: Path) -> None:
    assert run(config, "--only", "truth") == 0
    assert (REPORT / "truth.csv").exists()
    assert run(config, "--set", "evaluate.truth=null") == 0
    assert not (REPORT / "truth.csv").exists()
    assert not (REPORT / "parts" / "truth.json").exists()


def test_truths_that_are_too_small_are_left_out_and_long_ones_cut(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("mixed")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, (rows, columns) in {"small": (12, 40), "wide": (30, 50), "high": (50, 30)}.items():
        Image.fromarray(rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    wanted = "evaluate.truth={root: mixed, side: 24, preset: tiny.yaml, train: false, alone: false}"
    (folder / "wide again.png").write_bytes((folder / "wide.png").read_bytes())
    assert run(config, "--only", "truth", "--set", wanted) == 0
    said = capsys.readouterr().err
    assert "1 images are smaller than 24 pixels a side and are left out" in said
    assert "1 files are copies of others, byte by byte, and are left out" in " ".join(said.split())
    assert {row["images"] for row in cells("truth") if row["definition"].startswith("PSNR")} == {"2"}
    for path in folder.glob("[wh]*.png"):
        path.unlink()
    assert run(config, "--only", "truth", "--set", wanted) == 2
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    assert run(config, "--only", "sets", "--set", "evaluate.sets=[{root: mixed, preset: tiny.yaml}]") == 2
    assert "has no image of 16 pixels a side" in " ".join(capsys.readouterr().err.split())


def test_one_part_that_fails_costs_no_other_and_not_the_report(config: Path) -> None:
    assert run(config, "--only", "table2,sets", "--set", "evaluate.sets=[{root: nowhere, preset: tiny.yaml}]") == 2
    assert "Table II" in (REPORT / "index.html").read_text("utf-8")


def test_a_run_without_truths_leaves_them_out_unless_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--set", "evaluate.truth=null", "--only", "truth") == 2
    assert "evaluate.truth: is not set" in capsys.readouterr().err
    assert run(config, "--set", "evaluate.truth=null") == 0
    assert "truth: evaluate.truth is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--only", "table3"),
            "--only table3: there is no part 'table3': use table1, table2, truth, blind, sets, native, figures.",
        ),
        (("--set", "evaluate.truth.side=25"), "evaluate.truth.side: is 25, which the scale 2 does not divide."),
        (("--set", "evaluate.truth={side: 24}"), "evaluate.truth: root is missing: name the folder."),
        (("--set", "evaluate.truth={root: nowhere}"), "nowhere"),
        (("--set", "run_dir=elsewhere"), "elsewhere/split.json: is not there; `make prepare`"),
        (("--set", "evaluate.features.layers=[conv9]"), "evaluate.features.layers: VGG16 has no such layer (conv9)"),
    ],
)
def test_mistakes(config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    assert run(config, *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_missing_generator_names_its_stage(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (RUN / "train" / "generator.safetensors").unlink()
    assert run(config) == 2
    assert "`make train` with the same CONFIG" in " ".join(capsys.readouterr().err.split())


def test_two_at_once_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    REPORT.mkdir()
    with locked(REPORT / ".lock"):
        assert run(config) == 2
    assert "another run is evaluating there" in capsys.readouterr().err
