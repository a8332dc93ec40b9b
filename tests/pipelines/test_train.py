"""The stage as a person runs it, on built-in faces: what it writes and says, and what signals and mistakes do."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines import prepare, train
from tests.estimates import WIDE, estimate_of
from tests.processes import Running, ranks, torchrun
from tests.stores import write_bicubic
from zssr_gan.data.cameras import CaseDegradations, GroupEstimate, encode_degradations
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import read_split
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.files import locked
from zssr_gan.training.loop import Loop
from zssr_gan.training.model_card import load_generator

TRAIN = Path("runs/mine/train")
CONFIG = """
data:
  sources: [{kind: lfw, count: 30}]
  size: null
  roles: {zssr: 12, generator: 6, table1: 2, unseen: null}
train:
  generator: {options: {width: 4, blocks: 1, residual: true}}
  discriminator: {options: {width: 4, blocks: 2, head: adaptive, hidden: 4}}
  losses: {mediator: 0.0, pixel: 1.0, consistency: 1.0}
  batch: 3
  patch: 16
  pretrain: 2
  epochs: 2
  validation: {images: 3}
  every: {log: 1, validation: 4, checkpoint: 4, samples: 6}
"""
STEPS = 2 * 2 + 2 * 2 * 2  # two epochs of two steps, and two epochs in turns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared run, and as its synthetic HR images the bicubic ones: what is learnt does not matter."""
    desk = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        Path("mine.yaml").write_text(CONFIG)
        assert prepare.main(["--config", "mine.yaml"]) == 0
        write_bicubic(TRAIN.parent, Path("mine.yaml"))
    return desk


def words(config: Path, *arguments: str) -> tuple[str, ...]:
    return ("--config", str(config), "--device", "cpu", "--threads", "1", *arguments)


def run(config: Path, *arguments: str) -> int:
    return train.main(words(config, *arguments))


def written() -> list[bytes]:
    return [(TRAIN / name).read_bytes() for name in ("metrics.jsonl", "generator.safetensors", "card.json")]


def checkpoints() -> list[Path]:
    return sorted(TRAIN.glob("checkpoints/step-*.pt"))


@pytest.mark.usefixtures("drawn")
def test_what_it_writes(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From images of the training part alone."""
    seen, original = list[str](), Prepared.image
    monkeypatch.setattr(Prepared, "image", lambda self, i: (seen.append(self.member(i).role), original(self, i))[1])
    assert run(config) == 0
    assert set(seen) == {"zssr", "generator"}
    out, said = capsys.readouterr()
    told = [Path(line) for line in out.splitlines()]
    assert [path.name for path in told] == [
        *("losses.png", "epochs.md", f"step-{STEPS:08}.png", "generator.safetensors")
    ]
    for path in (told[0], told[2]):
        with Image.open(path) as picture:
            assert min(picture.size) > 300
    assert "6 LR images, 9 synthetic HR images, 3 held out" in said
    lines = [json.loads(line) for line in (TRAIN / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == set(range(1, STEPS + 1))
    assert {path.name for path in TRAIN.iterdir()} == {
        *("generator.safetensors", "card.json", "metrics.jsonl", "samples", "losses.png", "checkpoints", ".lock"),
        *("content", "epochs.csv", "epochs.md"),
    }
    before = load_generator(TRAIN / "content" / "generator.safetensors").card
    loaded = load_generator(TRAIN / "generator.safetensors")
    card = loaded.card
    assert (before.phase, card.phase) == ("pretrain", "adversarial")
    assert loaded(torch.rand(1, 1, 9, 11)).shape == (1, 1, 18, 22)
    assert (card.label, card.seed, card.steps, card.mediator) == ("generative", 0, STEPS, None)
    assert "mediator" not in card.settings
    of = {member.id: member for member in read_split(Path("runs/mine/split.json")).entries}
    assert {name: len(files) for name, files in loaded.images.items()} == {"inputs": 6, "reals": 9, "held_out": 3}
    for name, files in loaded.images.items():
        assert {of[own].role for own in files} == {"generator" if name == "inputs" else "zssr"}
        assert all(of[own].sha256 == sha256 for own, sha256 in files.items())
        assert len(files) == card.images[name].count
    assert json.loads((TRAIN / "card.json").read_text()) == card.model_dump(mode="json")


def test_warnings(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights are said loudly, and batches that are larger than the set."""
    changes = ("train.losses.mediator=0.1", "train.mediator={weights: random, layers: [conv1_2]}", "train.batch=7")
    assert run(config, *(word for change in (*changes, "train.epochs=0") for word in ("--set", change))) == 0
    said = capsys.readouterr().err
    assert said.count("VGG19 has RANDOM weights") == 2
    assert said.count("train.batch is 7, and there are 6 images to draw from") == 1
    assert "RANDOM" in load_generator(TRAIN / "generator.safetensors").card.warnings[0]


LONG = ("--set", "train.epochs=12", "--set", "train.every.samples=1000", "--set", "train.generator.options.norm=false")
"""Without batch normalisation, for whose statistics a process reads more than a test does."""


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What the training writes that nothing stops."""
    desk = tmp_path_factory.mktemp("whole")
    shutil.copytree(made, desk, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        assert run(desk / "mine.yaml", *LONG) == 0
        return written()


CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}


class TestStops:
    @pytest.mark.parametrize(
        "signals", [(signal.SIGKILL, signal.SIGINT), pytest.param((signal.SIGTERM,), marks=pytest.mark.slow)]
    )
    def test_it_goes_on_to_the_same_end(
        self, whole: list[bytes], config: Path, signals: tuple[signal.Signals, ...]
    ) -> None:
        for number in signals:
            before = checkpoints()
            process = Running("pipelines.train", *words(config, *LONG))
            process.until(lambda before=before: checkpoints() != before)
            os.kill(process.pid, number)
            code, _, said = process.finish()
            assert code == CODES[number], said
            if code > 0:
                newest = checkpoints()[-1]
                step = int(newest.stem.removeprefix("step-"))
                assert f"Stopped: {newest} is of step {step:,}; run the same command again to resume." in said
            assert not list(TRAIN.glob("losses.png"))
        assert run(config, *LONG) == 0
        assert written() == whole

    def test_before_anything_is_kept(
        self, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(_self: Prepared, _number: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Prepared, "image", stop)
        assert run(config) == 130
        assert (
            "Stopped before the first checkpoint; run the same command again to begin anew." in capsys.readouterr().err
        )


class TestOtherEpochs:
    def test_more_are_a_longer_training(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(config) == 0
        whole = _newest_generator()
        shutil.rmtree(TRAIN)
        assert run(config, "--set", "train.epochs=1") == 0
        assert run(config) == 0
        assert all(torch.equal(one, other) for one, other in zip(_newest_generator(), whole, strict=True))
        (TRAIN / "samples" / f"step-{STEPS:08}.png").unlink()
        capsys.readouterr()
        assert run(config) == 0
        assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == [
            "losses.png",
            "epochs.md",
            "generator.safetensors",
        ]

    def test_fewer_than_were_done_are_refused(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(config) == 0
        before = (TRAIN / "metrics.jsonl").read_bytes()
        assert run(config, "--set", "train.epochs=1") == 2
        said = capsys.readouterr()
        assert "train.epochs: 1 end after 8 steps" in said.err
        assert f"is after {STEPS}: take no fewer epochs than before" in said.err
        assert (TRAIN / "metrics.jsonl").read_bytes() == before

    def test_a_falling_rate_has_one_end(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        cosine = ("--set", "train.optimiser.schedule=cosine")
        assert run(config, *cosine) == 0
        assert run(config, *cosine, "--set", "train.epochs=4") == 2
        said = capsys.readouterr().err
        assert "begun with train.epochs = 2, and 4 is asked for now: take the old value to go on, or another" in said


def test_a_run_with_other_data_does_not_go_on(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither with another camera, nor with other synthetic images, nor with another split; the card has the camera."""
    found = CaseDegradations(seed=0, size=None, groups=(GroupEstimate(group="lfw", estimate=estimate_of(WIDE, [])),))
    known = Path("runs/mine/degradation.json")
    known.write_bytes(encode_degradations(found))
    assert run(config, "--set", "train.epochs=0") == 0
    cameras = load_generator(TRAIN / "generator.safetensors").card.cameras
    assert [(one.values, one.sha256) for one in cameras] == [(WIDE, WIDE.sha256)]

    def begun_with(what: str) -> bool:
        assert run(config) == 2
        return f"its training was begun with {what} = " in capsys.readouterr().err

    known.rename("aside.json")
    assert begun_with("cameras.inputs")
    Path("aside.json").rename(known)
    read = SyntheticSet.pixels
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SyntheticSet, "pixels", lambda self, n: (read(self, n)[0], read(self, n)[1] ^ 1))
        assert begun_with("pixels.reals")
    path = Path("runs/mine/split.json")
    path.write_text(path.read_text().replace('"notices": []', '"notices": ["made by hand"]'))
    assert begun_with("split")


class TestTensorBoard:
    BOARD = ("--set", "train.tensorboard=true")

    def test_it_shows_what_metrics_hold(self, config: Path) -> None:
        events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        assert run(config, "--set", "train.epochs=0") == 0
        first = (TRAIN / "metrics.jsonl").read_text().count('"loss"')
        assert run(config, *self.BOARD) == 0  # more epochs, and now with a board: both may change
        found = events.EventAccumulator(str(TRAIN / "tensorboard")).Reload()
        lines = [json.loads(line) for line in (TRAIN / "metrics.jsonl").read_text().splitlines()]
        wanted = [(line["step"], line["loss"]) for line in lines if "loss" in line and line["who"] == "generator"]
        shown = [(event.step, event.value) for event in found.Scalars("generator/loss")]
        assert [step for step, _ in shown] == [step for step, _ in wanted[first:]]
        assert [value for _, value in shown] == pytest.approx([value for _, value in wanted[first:]])
        assert found.Scalars("validation/residual_db")
        assert [event.step for event in found.Images("samples")] == [6, STEPS]

    def test_a_package_that_is_missing(
        self, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        assert run(config, *self.BOARD) == 2
        assert "pip install 'zssr-gan[tensorboard]'" in capsys.readouterr().err
        assert not list(TRAIN.glob("metrics.jsonl"))
        assert run(config) == 0


class TestManyProcesses:
    # Batch normalisation would see half the batch; the batch must be dealt evenly.
    EVEN = ("--set", "train.batch=4", "--set", "train.generator.options.norm=false", "--set")
    EVEN += ("train.discriminator.options.norm=none",)

    def test_two_write_as_one(self, config: Path) -> None:
        done = [one.finish() for one in ranks("pipelines.train", 2, *words(config, *self.EVEN))]
        assert [code for code, _, _ in done] == [0, 0], done
        assert sum(out.count("generator.safetensors") for _, out, _ in done) == 1
        assert sum(said.count("LR images, ") for _, _, said in done) == 1
        two = load_generator(TRAIN / "generator.safetensors")
        shutil.rmtree(TRAIN)
        assert run(config, *self.EVEN) == 0
        one = load_generator(TRAIN / "generator.safetensors")
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4)

    @pytest.mark.slow
    def test_sigterm_stops_all_after_the_same_step(self, config: Path) -> None:
        long = [*self.EVEN, "--set", "train.epochs=300", "--set", "train.every.samples=10000"]
        process = torchrun("pipelines.train", 2, *words(config, *long))
        process.until(checkpoints)
        os.kill(process.pid, signal.SIGTERM)
        code, _, said = process.finish()
        assert code == 1  # torchrun's own, whatever its processes end with
        assert said.count("Stopped: ") == said.count("run the same command again to resume") == 1
        steps = [json.loads(line)["step"] for line in (TRAIN / "metrics.jsonl").read_text().splitlines()]
        newest = checkpoints()[-1]
        assert newest.name == f"step-{steps[-1]:08}.pt"
        assert steps[-1] < 600

    @pytest.mark.slow
    def test_nan_is_said_once(self, config: Path) -> None:
        diverging = (*self.EVEN, "--set", "train.optimiser.lr=1.0e+30")
        code, _, said = torchrun("pipelines.train", 2, *words(config, *diverging)).finish()
        assert code == 1
        assert said.count("NaN or infinite") == 1


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("train.losses.reference=synthetic", "losses.reference: synthetic needs images that have one"),
            ("train.reals={synthetic: 0.0}", "train.reals: all are 0, so the discriminator sees nothing real"),
            ("train.losses.adversarial=0.0", "losses.adversarial: is 0, so set epochs to 0 too"),
            ("train.generator.options.depth=3", "train.generator.options.depth: there is no such option"),
            ("train.patch=30", "train: there are 0 images with a synthetic HR (18 are smaller than train.patch)"),
            (
                "train.validation.images=12",
                "there are 12 images with a synthetic HR, of which train.validation.images sets",
            ),
            ("train.losses.mediator=1.0", "zssr-gan weights fetch vgg19"),
            ("synth.scale=4.0", "synthetic HR has 50x50"),
            ("synth.scale=1.5", "a generator enlarges by whole numbers"),
            ("train.batch=0", "train.batch"),
            ("train.optimiser.lr=1.0e+38", "train.optimiser.lr"),
        ],
    )
    def test_one_sentence_and_code_2(
        self, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, change: str, words: str
    ) -> None:
        monkeypatch.chdir(made)  # nothing is written there
        monkeypatch.setenv("ZSSR_GAN_WEIGHTS", str(made / "none"))
        assert run(made / "mine.yaml", "--set", change) == 2
        assert words in capsys.readouterr().err.strip().splitlines()[-1]
        assert not list(TRAIN.glob("*.safetensors"))

    def test_stages_that_are_missing(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.rmtree("runs/mine/synthetic")
        assert run(config) == 2
        assert "`make synth` with the same CONFIG, SET and SMALL makes it" in capsys.readouterr().err
        Path("runs/mine/split.json").unlink()
        assert run(config) == 2
        assert "`make prepare` with the same CONFIG, SET and SMALL makes it" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            RuntimeError("shapes do not fit"),
        ],
    )
    def test_too_little_memory(
        self, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """And a mistake of ours, which is not hidden."""

        def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr(Loop, "_learn", fails)
        if "shapes" in str(error):
            with pytest.raises(RuntimeError, match="shapes do not fit"):
                run(config)
            return
        assert run(config) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "does not fit into memory: lower train.batch, train.patch, or" in said

    def test_a_second_run(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """And a folder in the log's place."""
        with locked(TRAIN / ".lock"):
            assert run(config) == 2
        assert "another run is training there" in capsys.readouterr().err
        (TRAIN / "metrics.jsonl").mkdir(parents=True)
        assert run(config) == 1
        assert "metrics.jsonl: cannot be read (Is a directory)" in capsys.readouterr().err

    @pytest.mark.parametrize("every", ["checkpoint", "validation", "log"])
    def test_nan(self, config: Path, capsys: pytest.CaptureFixture[str], every: str) -> None:
        """Its first step leaves finite weights of 1e30: no checkpoint of them counts as good."""
        diverges = ("--set", "train.optimiser.lr=1.0e+30", "--set", f"train.every.{every}=1")
        for _ in range(2):  # the same command once more: it begins anew, and not with what led to it
            assert run(config, *diverges) == 1
            said = capsys.readouterr().err
            assert "NaN or infinite; there is no good checkpoint" in said
            assert not list(TRAIN.glob("checkpoints/*.pt"))
        assert ("step-00000001.pt led to it" in said) == (every == "checkpoint")
        assert run(config) == 0
        assert all(tensor.isfinite().all() for tensor in _newest_generator())


def _newest_generator() -> list[torch.Tensor]:
    return list(torch.load(checkpoints()[-1], weights_only=True)["generator"].values())
