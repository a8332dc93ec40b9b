"""The stage as a person runs it: what it makes, what it says, and what a kill, damage or a second writer may cost."""

import contextlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipelines import prepare, synth
from tests.processes import Running, ranks, torchrun
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import read_split
from zssr_gan.data.store import check
from zssr_gan.data.synthesis import Synthesiser
from zssr_gan.data.synthetic_set import SyntheticSet
from zssr_gan.files import locked
from zssr_gan.settings.run import load_run
from zssr_gan.zeroshot.shared import read_shared

STORE = Path("runs/mine/synthetic")
SPLIT = Path("runs/mine/split.json")

PRESET = """
network: {depth: 2, width: WIDTH, initial: lecun}
pairs: {crop: 8, batch: 1}
schedule: {kind: cosine, lr: 0.003, iterations: ITERATIONS}
refinement: {back_projections: 2}
shared: {schedule: {kind: cosine, lr: 0.003, iterations: 8}}
"""
CONFIG = """
data:
  sources: [{kind: folder, root: faces}]
  size: null
  train: 0.75
  roles: {zssr: 6, generator: 3, table1: 2, unseen: null}
synth: {preset: tiny.yaml, init: scratch, shard: 3}
"""
MADE = 8  # 6 zssr and 2 table1


def write_preset(iterations: int, width: int = 4) -> None:
    Path("tiny.yaml").write_text(PRESET.replace("ITERATIONS", str(iterations)).replace("WIDTH", str(width)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve prepared images of two sizes, one of them gray."""
    desk = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        Path("faces").mkdir()
        photo = data.astronaut()[40:200, 150:310]
        for number in range(12):
            top, left = 40 * (number // 4), 36 * (number % 4)
            rows, columns = ((24, 24), (20, 28))[number % 2]
            crop = Image.fromarray(photo[top : top + rows, left : left + columns])
            crop = crop.resize((columns // 2, rows // 2), Image.Resampling.BICUBIC)
            (crop.convert("L") if number == 5 else crop).save(f"faces/{number:02}.png")
        write_preset(3)
        Path("mine.yaml").write_text(CONFIG)
        assert prepare.main(["--config", "mine.yaml"]) == 0
    return desk


@pytest.fixture(scope="module")
def synthesised(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its synthetic HR images."""
    desk = tmp_path_factory.mktemp("synthesised")
    shutil.copytree(made, desk, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        assert run(desk / "mine.yaml") == 0
    return desk


@pytest.fixture
def finished(synthesised: Path, config: Path) -> Path:
    """The config of a copy of the run with its images."""
    shutil.copytree(synthesised, config.parent, dirs_exist_ok=True)
    return config


def run(config: Path, *arguments: str) -> int:
    """In this process."""
    return synth.main(words(config, *arguments))


def words(config: Path, *arguments: str) -> tuple[str, ...]:
    return ("--config", str(config), "--device", "cpu", "--threads", "1", *arguments)


def wanted(config: Path) -> list[str]:
    return list(Prepared(read_split(SPLIT), load_run(config).data, ("zssr", "table1")).ids)


def assert_whole(config: Path, label: str = "internal") -> None:
    """All ids once, nothing damaged, nothing left over."""
    assert check(STORE) == []
    with SyntheticSet(STORE) as images:
        assert list(images.ids) == wanted(config)
        assert len(images) == MADE
        for number, name in enumerate(images.ids):
            lr, sr = images.pixels(number)
            with Image.open(Path("faces") / name.partition("/")[2]) as source:
                assert np.array_equal(np.asarray(source).reshape(lr.shape), lr)
            assert sr.shape == (2 * lr.shape[0], 2 * lr.shape[1], lr.shape[2])
            assert images.figures(number)["label"] == label
    kept = {path.stem for path in STORE.glob("shard-*.json")}
    assert {path.stem for path in STORE.glob("shard-*.h5")} == kept
    assert not list(STORE.glob("*.tmp"))


def shards() -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in STORE.glob("shard-*")}


class TestOneProcess:
    def test_progress_counts_iterations(
        self, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All images of a fleet end late, so they say nothing of the time that is left."""
        monkeypatch.setenv("ZSSR_GAN_PROGRESS", "json")
        monkeypatch.setattr("zssr_gan.progress._SECONDS_BETWEEN_JSON", 0.0)
        monkeypatch.setattr("zssr_gan.zeroshot.scheduler._TICK", 1)
        assert run(config, "--fleet", "4") == 0
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
        lines = [line for line in lines if line.get("stage") == "synthetic HR, iterations"]
        done = [line["done"] for line in lines]
        assert done == sorted(done)
        assert done[-1] == lines[-1]["total"] == 3 * MADE
        assert lines[-1]["detail"].startswith(f"{MADE}/{MADE} images")
        before_the_first = [line["done"] for line in lines if line["detail"].startswith("0/")]
        assert max(before_the_first) > 0

    @pytest.mark.usefixtures("drawn")
    def test_a_network_of_its_own_for_each(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(config) == 0
        assert_whole(config)
        said = capsys.readouterr()
        assert said.out.splitlines()[-3:] == [str(STORE / "contact-sheet.png"), str(STORE / "gains.png"), str(STORE)]
        for picture in said.out.splitlines()[-3:-1]:
            with Image.open(picture) as image:
                assert min(image.size) > 100
                assert np.asarray(image.convert("L")).std() > 1
        assert "networks side by side" in said.err
        with SyntheticSet(STORE) as images:
            roles = [images.figures(number)["role"] for number in range(MADE)]
            assert (roles.count("zssr"), roles.count("table1")) == (6, 2)
            assert all(images.figures(number)["iterations"] == 3 for number in range(MADE))

    def test_again_makes_nothing_anew(self, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = shards()
        assert len(before) == 6  # 3 + 3 + 2 images, each shard with its sidecar
        assert run(finished) == 0
        assert shards() == before
        assert "8 of 8 images are there already" in capsys.readouterr().err

    def test_a_shared_model_is_learnt_on_the_training_part_alone_and_brings_its_settings(self, config: Path) -> None:
        shared = ["--set", "synth.init=shared"]
        assert run(config, *shared) == 0
        assert_whole(config, "case")
        kept = STORE / "shared.safetensors"
        facts = read_shared(kept).facts
        taught = {member.id for member in read_split(SPLIT).entries if member.role in ("zssr", "generator")}
        assert {image.name for image in facts.images} == taught
        assert len(taught) == 9
        before = shards(), kept.stat().st_mtime_ns
        assert run(config, *shared) == 0
        assert (shards(), kept.stat().st_mtime_ns) == before

        write_preset(3, width=5)  # whatever the preset's network is now
        again = [*shared, "--set", f"synth.init_from={kept}", "--set", "run_dir=other"]
        assert prepare.main(["--config", str(config), *again]) == 0
        assert run(config, *again) == 0
        with SyntheticSet(STORE) as first, SyntheticSet(Path("other/synthetic")) as second:
            assert first.ids == second.ids
            for number in range(MADE):
                assert np.array_equal(first.pixels(number)[1], second.pixels(number)[1])
        assert Path("other/synthetic/shared.safetensors").read_bytes() == kept.read_bytes()  # the run is whole

    def test_a_damaged_shard_is_made_again_and_said(self, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = shards()
        victim = STORE / "shard-0001.h5"
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 4
        victim.write_bytes(content)
        assert [damage.shard for damage in check(STORE)] == ["shard-0001"]
        assert run(finished) == 0
        assert "shard-0001: was damaged" in capsys.readouterr().err
        assert_whole(finished)
        after = shards()
        kept = [name for name in before if not name.startswith("shard-0001")]
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("synth.noise=0.1", 'degradation = "bicubic", and "noise" is asked for'),
            ("seed=1", "seed: is 1, and split.json was made with 0"),
        ],
    )
    def test_other_settings_are_refused_by_name(
        self, finished: Path, change: str, words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = shards()
        assert run(finished, "--set", change) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert words in said.err
        assert shards() == before

    @pytest.mark.usefixtures("drawn")
    @pytest.mark.parametrize("init", ["scratch", "shared"])
    def test_an_image_that_cannot_be_made_fails_alone_and_is_said_last(
        self, config: Path, init: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One too small, and one that has changed since."""
        Image.new("RGB", (5, 6)).save("faces/tiny.png")
        roles = "data.roles={zssr: null, generator: 0, table1: null, unseen: 0}"
        small = ["--set", "data.smallest=1", "--set", roles, "--set", "run_dir=small", "--set", f"synth.init={init}"]
        assert run(config, *small) == 2  # not prepared
        assert prepare.main(["--config", str(config), *small]) == 0
        Path("faces/03.png").write_bytes(b"nonsense")
        capsys.readouterr()
        assert run(config, *small) == 1
        failures = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
        assert any("folder/tiny.png: is 5x6 pixels" in line for line in failures)
        assert any("folder/03.png" in line for line in failures)
        with SyntheticSet(Path("small/synthetic")) as images:
            assert set(images.ids) == {f"folder/{number:02}.png" for number in range(12) if number != 3}
        assert Path("small/synthetic/contact-sheet.png").exists()

    def test_what_is_not_there_in_the_end_is_said(
        self, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Synthesiser.run
        monkeypatch.setattr(Synthesiser, "run", lambda *given, **more: list(real(*given, **more))[:-1])
        assert run(config) == 1
        assert "failed: 1 images are not there" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--fleet", "0"], "at least one network"),
            (["--set", "synth.init=both"], "synth.init"),
            (["--set", "run_dir=unprepared"], "make prepare"),
        ],
    )
    def test_mistakes(self, config: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert run(config, *arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert words in said
        assert not STORE.exists()

    def test_a_second_writer_is_refused_at_once(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with locked(STORE / ".stage-lock"):
            assert run(config) == 2
        assert "another run is writing there" in capsys.readouterr().err

    def test_ctrl_c(self, config: Path) -> None:
        write_preset(250)
        process = Running("pipelines.synth", *words(config, "--fleet", "2"))
        process.until(lambda: list(STORE.glob("shard-*.json")))
        os.kill(process.pid, signal.SIGINT)
        code, _, said = process.finish()
        assert code == 130
        assert "run the same command again to resume" in said
        before = shards()
        assert 0 < len(before) < 6
        assert run(config) == 0
        assert_whole(config)
        assert {name: shards()[name] for name in before} == before

    @pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
    def test_killed_at_random_moments(self, config: Path, kills: int) -> None:
        write_preset(150)
        draw = random.Random(kills)
        kept: dict[str, tuple[bytes, int]] = {}
        for _ in range(kills):
            process = Running("pipelines.synth", *words(config, "--fleet", "2"))
            process.until(lambda: (STORE / "settings.json").exists())
            time.sleep(draw.uniform(0, 1.5))
            with contextlib.suppress(ProcessLookupError):  # it may have ended: then the next one finds all done
                os.kill(process.pid, signal.SIGKILL)
            process.finish()
            now = {path.stem for path in STORE.glob("shard-*.json")}
            assert {name.partition(".")[0] for name in kept} <= now, "nothing written before is lost"
            kept = {name: one for name, one in shards().items() if name.partition(".")[0] in now}
        assert run(config) == 0
        assert_whole(config)
        assert {name: shards()[name] for name in kept} == kept


class TestManyProcesses:
    @pytest.mark.parametrize(
        ("processes", "init"),
        [
            (2, "scratch"),
            pytest.param(2, "shared", marks=pytest.mark.slow),
            pytest.param(4, "scratch", marks=pytest.mark.slow),
        ],
    )
    def test_all_ids_once(self, config: Path, processes: int, init: str) -> None:
        asked = words(config, "--set", "synth.shard=1", "--set", f"synth.init={init}")
        done = [one.finish() for one in ranks("pipelines.synth", processes, *asked)]
        assert {code for code, _, _ in done} == {0}, done
        assert_whole(config, "case" if init == "shared" else "internal")
        assert done[0][1].splitlines()[-1] == str(STORE)
        assert not any(out for _, out, _ in done[1:])

    @pytest.mark.slow
    def test_as_good_as_one_process(self, config: Path) -> None:
        """Same ids, seeds and settings hash; pixels up to what a fleet's mates change."""
        torchrun("pipelines.synth", 2, *words(config, "--set", "synth.shard=1")).finish()
        assert prepare.main(["--config", str(config), "--set", "run_dir=other"]) == 0
        assert run(config, "--set", "run_dir=other") == 0
        with SyntheticSet(STORE) as many, SyntheticSet(Path("other/synthetic")) as one:
            assert many.ids == one.ids
            assert many.settings == one.settings
            for number in range(MADE):
                assert many.figures(number)["seeds"] == one.figures(number)["seeds"]
                (_, a), (_, b) = many.pixels(number), one.pixels(number)
                assert np.square(a.astype(float) - b).mean() < 255**2 * 10**-4.5

    @pytest.mark.slow
    @pytest.mark.parametrize("victim", [0, 1])
    def test_a_worker_that_dies(self, config: Path, victim: int) -> None:
        write_preset(400)
        asked = words(config, "--set", "synth.shard=1", "--fleet", "1")
        process = torchrun("pipelines.synth", 2, *asked, restarts=1)
        process.until(lambda: list(STORE.glob("shard-*.json")))
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(workers) == 2
        before = {path.stem for path in STORE.glob("shard-*.json")}
        kept = {name: one for name, one in shards().items() if name.partition(".")[0] in before}
        os.kill(int(workers[victim]), signal.SIGKILL)
        code, _, said = process.finish()
        assert code == 0, said
        assert_whole(config)
        assert {name: shards()[name] for name in kept} == kept

    @pytest.mark.slow
    def test_a_mistake_ends_all(self, config: Path) -> None:
        """The others do not wait for a rank 0 that has refused."""
        SPLIT.unlink()
        code, _, said = torchrun("pipelines.synth", 2, *words(config)).finish(60)
        assert code
        assert "make prepare" in said
