"""A training on HR images, as a person runs it: prepare and train, no synthetic images; signals, cards, mistakes."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from skimage import data

from pipelines import prepare, train
from zssr_gan.data.prepared import Prepared
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.training.loop import Loop
from zssr_gan.training.model_card import load_generator

TRAIN = Path("runs/mine/train")
CONFIG = """
data:
  sources: [{kind: folder, root: hr}]
  size: null
  roles: {zssr: 0, generator: null, table1: 0, unseen: null}
train:
  pairs: {scale: 2, degradation: {blur: [0.0, 1.0], noise: 0.01}, augment: {rotate: 5.0}, patches: {per_image: 2}}
  generator: {options: {width: 4, blocks: 1, residual: true, norm: false}}
  discriminator: {options: {width: 4, blocks: 2, head: adaptive, hidden: 4}}
  losses: {mediator: 0.0, pixel: 1.0, consistency: 1.0}
  batch: 4
  patch: 8
  pretrain: 2
  epochs: 1
  validation: {images: 2}
  every: {log: 1, validation: 4, checkpoint: 4, samples: 6}
"""
TRAINED = 6  # of 12 images 8 are for training, and 2 of these are held out
STEPS = 2 * 3 + 2 * 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pieces of scikit-image's astronaut, of several sizes, in folders as sets have them; and other files."""
    desk = tmp_path_factory.mktemp("made")
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    for n in range(12):
        piece = photograph[:, 20 * n : 21 * n + 40, 30 * n : 32 * n + 40].clone()
        file = desk / "hr" / f"0000{n // 5}" / f"{n:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_picture(Picture(piece, None, 8, Metadata()), "png", {}))
    (desk / "hr/.DS_Store").write_bytes(b"junk")
    (desk / "hr/LICENSE.txt").write_text("of the set")
    (desk / "mine.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        assert prepare.main(["--config", "mine.yaml"]) == 0
    return desk


def run(config: Path, *changes: str, notify: str | None = None) -> int:
    arguments = [word for change in changes for word in ("--set", change)]
    arguments += [] if notify is None else ["--notify", notify]
    return train.main(["--config", str(config), "--device", "cpu", "--threads", "1", *arguments])


def test_prepare_and_train_are_all(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that is stopped goes on to the same end, with whatever memory."""
    assert prepare.main(["--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "folder: 1 file whose name is no image's is left out, such as LICENSE.txt" in said
    assert "folder: 1 hidden file or folder is left out, such as .DS_Store" in said
    assert run(config) == 0
    done = capsys.readouterr()
    assert f"{TRAINED} HR images, of which LR images are made, 2 held out" in done.err
    assert [Path(line).name for line in done.out.splitlines()] == [
        *("losses.png", "epochs.md", f"step-{STEPS:08}.png", "generator.safetensors")
    ]
    assert not Path("runs/mine/synthetic").exists()
    whole = (TRAIN / "metrics.jsonl").read_text()
    checks = [line["validation"] for line in map(json.loads, whole.splitlines()) if "validation" in line]
    assert all(check["truth_db"] > 10 and "synthetic_db" not in check for check in checks)
    generator = load_generator(TRAIN / "generator.safetensors")
    card = generator.card
    assert (card.label, card.truths, card.store_sha256) == ("generative", True, None)
    assert {name: images.count for name, images in card.images.items()} == {"inputs": TRAINED, "held_out": 2}
    entries = {one["id"]: one["sha256"] for one in json.loads(Path("runs/mine/split.json").read_text())["entries"]}
    assert all(entries[name] == sha256 for files in generator.images.values() for name, sha256 in files.items())
    assert len(card.cameras) == 64
    assert {camera.values.noise.sigma for camera in card.cameras if camera.values.noise} == {0.01}
    assert "truth_db" in card.metrics

    shutil.rmtree(TRAIN)
    learn, steps = Loop._learn, iter(range(100))

    def stop_at_5(self: Loop, *given: object) -> dict[str, torch.Tensor]:
        if next(steps) == 5:
            raise KeyboardInterrupt
        return learn(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_learn", stop_at_5)
        assert run(config) == 130
    assert run(config, "train.pairs.memory=16") == 0
    assert (TRAIN / "metrics.jsonl").read_text() == whole
    for a, b in zip(generator.parameters(), load_generator(TRAIN / "generator.safetensors").parameters(), strict=True):
        assert torch.equal(a, b)


def test_images_that_are_too_small_and_luma_alone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "train.patch=21", "train.pairs.channels=1", "train.epochs=0") == 0
    assert "images are smaller than train.patch and are left out" in capsys.readouterr().err
    assert load_generator(TRAIN / "generator.safetensors").facts.channels == (1,)


def test_an_image_that_has_changed(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = Prepared.levels, list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(Prepared, "levels", lambda self, i: (seen.append(self.member(i).path), read(self, i))[1])
        assert run(config, "train.epochs=0") == 0
    changed = Path("hr") / seen[-1]
    changed.write_bytes(changed.read_bytes() + b" ")
    shutil.rmtree(TRAIN)
    assert run(config) == 1
    assert f"folder/{seen[-1]}: has changed since it was prepared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.losses.reference=synthetic", "train: losses.reference: synthetic is of synthetic HR images"),
        ("train.images=zssr", "train: images: zssr is of synthetic HR images"),
        ("train.reals={synthetic: 1.0}", "train: reals.synthetic is of synthetic HR images"),
        ("train.validation.best=synthetic", "train: validation.best: synthetic is of synthetic HR images"),
        ("train.losses.recurrence=1.0", "train: losses.recurrence is for want of HR images"),
        ("train.reals={lr: 1.0}", "train: reals.lr is for want of HR images"),
        ("train.pairs=null", "train: losses.reference: truth needs HR images"),
        ("train.pairs.scale=5", "train.pairs.scale: must be 1, 2, 3, 4 or 8"),
        ("train.pairs.scale=1", "train.pairs: scale 1 needs shrink"),
        ("train.pairs.shrink=2", "train.pairs: shrink is for scale 1 alone"),
        ("train.pairs.degradation.blur=9.0", "train.pairs.degradation: blur is a number from 0 to 8"),
        ("train.pairs.degradation.noise=[0.2, 0.1]", "train.pairs.degradation: noise is a number from 0 to 0.5"),
        ("train.pairs.degradation.jpeg=7.5", "train.pairs.degradation: jpeg is a quality in whole numbers"),
        ("train.pairs.degradation.blur=wide", "train.pairs.degradation.blur: must be a number or two of them"),
        ("train.patch=null", "train.patch: is null, and the images are of several sizes"),
        ("train.patch=60", "train: there are 0 HR images of the training part"),
        ("train.validation.images=8", "train: there are 8 HR images of the training part"),
        ("train.generator.options.scale=4", "train.generator.options.scale: is 4, and the data ask for 2"),
    ],
)
def test_mistakes_are_one_sentence(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str, words: str
) -> None:
    monkeypatch.chdir(made)  # nothing is written there
    reference = ["train.losses.reference=truth"] if change == "train.pairs=null" else []
    assert run(made / "mine.yaml", *reference, change) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(TRAIN.glob("*.safetensors"))


def test_notify_hears_of_each_end(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tell.py").write_text("import sys; open('told', 'a').write(sys.stdin.read())\n")
    still = ("train.optimiser.lr=1e-30", "train.pretrain=9", "train.stop={patience: 1}")
    for changes, code in (((), 0), (still, 0), (("train.optimiser.lr=1.0e+30",), 1)):
        assert run(config, "train.epochs=0", *changes, notify=f"{sys.executable} tell.py") == code
        shutil.rmtree(TRAIN)
    done, stopped, failed = map(json.loads, Path("told").read_text().splitlines())
    assert (done["status"], done["step"], done["run"]) == ("done", 6, "runs/mine")
    said = capsys.readouterr().err
    assert f"done: validation loss {done['validation_loss']:.4g}, " in said
    assert "stopped early: validation loss" in said
    assert (stopped["status"], failed["status"]) == ("stopped_early", "failed")
    assert "NaN or infinite" in failed["error"]


def test_notify_changes_no_exit_code(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, notify="no-such-command") == 2
    assert "--notify: there is no command 'no-such-command'" in capsys.readouterr().err
    assert not (TRAIN / "metrics.jsonl").exists()
    assert run(config, "train.epochs=0", notify="false") == 0
    assert "WARNING: --notify: false ended with 1." in capsys.readouterr().err
