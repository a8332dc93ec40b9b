"""The systems of the literature: that each config trains, and how they are trained and compared in one command."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from pipelines import prepare, train, zoo
from zssr_gan.settings.run import load_run
from zssr_gan.training.model_card import load_generator

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TINY = {
    "srgan_patches": ("train.generator.options.width=4", "train.generator.options.blocks=1", "train.patch=8"),
    "srcnn": ("train.generator.options.width=2", "train.patch=8"),
}


class Calls:
    """Stands for the stages, which have tests of their own: what was asked of them, and what some answer."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, str]]] = []
        self.fails: set[tuple[str, str]] = set()
        self.stops: set[tuple[str, str]] = set()

    def __call__(self, stage: str, words: Sequence[str]) -> bool:
        config = Path(words[words.index("--config") + 1])
        options = dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "--set")
        load_run(config, [f"{key}={value}" for key, value in options.items()], small="--small" in words)
        self.made.append((f"{stage} {config.stem}", options))
        if (stage, config.stem) in self.stops:
            raise KeyboardInterrupt
        return (stage, config.stem) not in self.fails

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.made]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    monkeypatch.setattr(zoo, "run", made)
    monkeypatch.setattr(zoo, "CONFIGS", CONFIGS)
    return made


class TestConfigs:
    @pytest.mark.parametrize("name", zoo.SYSTEMS)
    def test_small_needs_nothing(self, name: str) -> None:
        settings = load_run(CONFIGS / f"{name}.yaml", small=True)
        assert [source.kind for source in settings.data.sources] == ["photographs"]
        assert not settings.train.losses.need_features  # no weights to fetch
        assert settings.train.pretrain  # its content phase is what is held against bicubic

    @pytest.mark.parametrize("name", zoo.SYSTEMS)
    def test_small_is_the_same_system(self, name: str) -> None:
        whole, small = (load_run(CONFIGS / f"{name}.yaml", small=how).train for how in (False, True))
        assert (whole.generator.name, whole.discriminator.name) == (small.generator.name, small.discriminator.name)
        assert (whole.losses.gan, whole.losses.adversarial) == (small.losses.gan, small.losses.adversarial)
        assert bool(whole.epochs) == bool(small.epochs)
        assert whole.pairs is not None
        assert small.pairs is not None
        assert (whole.pairs.scale, whole.pairs.patches.corner) == (small.pairs.scale, small.pairs.patches.corner)

    def test_numbers_of_the_reports(self) -> None:
        of = {name: load_run(CONFIGS / f"{name}.yaml").train for name in zoo.SYSTEMS}
        assert (of["srgan_x4"].optimiser.lr, of["srgan_x4"].batch, of["srgan_x4"].epochs) == (2e-4, 1, 20)
        assert (of["srgan_celeba"].epochs, of["srgan_celeba"].every.log) == (20, 50)
        assert (of["dcgan"].losses.pixel, of["dcgan"].losses.adversarial) == (0.9, 0.1)
        patches = of["srgan_patches"]
        assert (patches.patch, patches.batch, patches.epochs) == (24, 1, 10)
        assert patches.pairs is not None
        assert (patches.pairs.patches.per_image, patches.pairs.patches.corner) == (10, "inner")
        srcnn = of["srcnn"]
        assert (srcnn.optimiser.lr, srcnn.batch, srcnn.pretrain) == (1e-6, 128, 99)
        assert srcnn.optimiser.plateau.patience == 3
        assert srcnn.stop is not None
        assert srcnn.validation.best == "training_loss"

    def test_small_patches_have_more_than_one_place(self) -> None:
        small = load_run(CONFIGS / "srgan_patches.yaml", small=True).train
        assert small.pairs is not None
        assert small.patch is not None
        assert small.pairs.patches.corner == "inner"
        side = 128 // small.pairs.reduction
        assert side // 4 + small.patch < side - 4

    @pytest.mark.parametrize("name", TINY)
    def test_it_trains(self, name: str, tmp_path: Path) -> None:
        changes = [f"run_dir={tmp_path}", "data.roles.generator=10", "train.pairs.patches.per_image=1", *TINY[name]]
        epochs = 1 if load_run(CONFIGS / f"{name}.yaml", small=True).train.epochs else 0
        changes += ["train.pretrain=1", f"train.epochs={epochs}", "train.batch=2", "train.validation.images=2"]
        words = ["--config", str(CONFIGS / f"{name}.yaml"), "--small", *(w for c in changes for w in ("--set", c))]
        assert prepare.main(words) == 0
        assert train.main([*words, "--device", "cpu", "--threads", "1"]) == 0
        card = load_generator(tmp_path / "train" / "generator.safetensors").card
        assert (card.name, card.truths) == (load_run(CONFIGS / f"{name}.yaml").train.generator.name, True)
        assert (tmp_path / "train" / "epochs.md").exists()


class TestFlow:
    def test_all_in_order_then_the_tables(self, calls: Calls) -> None:
        assert zoo.main([]) == 0
        trained = [f"{stage} {name}" for name in zoo.SYSTEMS for stage in ("prepare", "train")]
        assert calls.names == [*trained, "evaluate zoo_x2", "evaluate zoo_x4"]
        folders = [Path(options["run_dir"].strip("'")) for _, options in calls.made]
        assert {folder.parent for folder in folders} == {Path("runs/zoo")}  # so that the tables find them beside

    def test_own_images_are_trained_on_and_are_truths(self, calls: Calls, tmp_path: Path) -> None:
        faces = tmp_path / "my: 'faces'"
        faces.mkdir()
        for n in range(3):
            Image.new("RGB", (128, 128), (n, n, n)).save(faces / f"{n}.png")
        assert zoo.main(["--only", "srcnn", "--data", str(faces)]) == 0
        for name, options in calls.made:
            changes = [f"{key}={value}" for key, value in options.items()]
            settings = load_run(CONFIGS / f"{name.split()[1]}.yaml", changes, small="zoo" not in name)
            (source,) = settings.data.sources
            assert (source.root, source.count) == (str(faces), 3)  # no more than there are
            assert settings.folder(Path()).parent == Path("runs") / f"zoo-{faces.name}"
            truth = settings.evaluate.truth
            assert truth is None or (truth.kind, truth.root) == ("folder", str(faces))

    def test_what_fails_is_named_and_the_rest_goes_on(self, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
        calls.fails = {("prepare", "dcgan"), ("train", "srcnn")}
        assert zoo.main(["--only", "dcgan,srcnn,autoencoder"]) == 1
        assert calls.names == [
            "prepare dcgan",
            *("prepare autoencoder", "train autoencoder"),
            *("prepare srcnn", "train srcnn"),
            *("evaluate zoo_x2", "evaluate zoo_x4"),
        ]
        assert "error: failed: dcgan, srcnn; what they said stands above." in capsys.readouterr().err

    def test_a_stop_ends_it(self, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
        calls.stops = {("train", "dcgan")}
        assert zoo.main(["--only", "dcgan,srcnn"]) == 130
        assert calls.names == ["prepare dcgan", "train dcgan"]
        assert "run the same command again to resume" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--only", "srgan"], "--only srgan: there is no system 'srgan': use srgan_x4, "),
            (["--data", "nowhere"], "--data nowhere: is no folder."),
            (["--only", ","], "--only: names no system: use some of srgan_x4, "),
            (["--set", "train.epoch=1"], "train.epoch: there is no such setting"),
        ],
    )
    def test_mistakes_come_before_any_training(
        self, calls: Calls, capsys: pytest.CaptureFixture[str], words: list[str], said: str
    ) -> None:
        assert zoo.main(words) == 2
        assert said in capsys.readouterr().err
        assert not calls.made


def test_a_stage_that_fails_by_itself(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert not zoo.run("prepare", ["--config", "none.yaml"])
    said = capfd.readouterr().err
    assert "$ python -m pipelines.prepare --config none.yaml" in said
    assert "error: none.yaml: no such file" in said


@pytest.mark.slow
def test_the_whole_zoo_and_again(tmp_path: Path) -> None:
    """Each system for an epoch of content and its adversarial ones, both tables; the second time nothing is trained."""
    command = [sys.executable, "-m", "pipelines.zoo", "--out", str(tmp_path), "--set", "train.pretrain=1"]
    command += ["--device", "cpu", "--threads", "1"]
    logs = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert {str(tmp_path / table / "report/index.html") for table in ("x2", "x4")} <= set(done.stdout.splitlines())
        logs.append([(tmp_path / name / "train" / "metrics.jsonl").read_bytes() for name in zoo.SYSTEMS])
    assert logs[0] == logs[1]
    for name in zoo.SYSTEMS:
        assert load_generator(tmp_path / name / "train" / "generator.safetensors").card.truths
    x4 = (tmp_path / "x4" / "report" / "truth.csv").read_text("utf-8")
    assert all(name in x4 for name in ("srgan_x4 (srgan", "esrgan_x4 (esrgan", "dcgan (dcgan", "autoencoder (auto"))
    assert "srcnn (srcnn" in (tmp_path / "x2" / "report" / "truth.csv").read_text("utf-8")
