"""The stages of a run on a GPU: each goes on after SIGKILL, and the tables come out."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import evaluate, prepare, synth, train
from tests.gpu.conftest import STANDIN
from zssr_gan.data.store import check
from zssr_gan.data.synthetic_set import SyntheticSet

ROOT = Path(__file__).parents[2]
STAGES = {"synth": synth, "train": train, "evaluate": evaluate}
SHARDS = Path("runs/mine/synthetic")
TRAINED = Path("runs/mine/train")
PRESET = """
network: {depth: 2, width: 4, initial: lecun}
pairs: {crop: 8, batch: 1}
schedule: {kind: cosine, lr: 0.003, iterations: 20}
refinement: {back_projections: 2}
shared: {schedule: {kind: cosine, lr: 0.003, iterations: 8}}
"""
CONFIG = """
data:
  sources: [{kind: lfw, count: 16}]
  size: null
  roles: {zssr: 8, generator: 2, table1: 4, unseen: null}
synth: {preset: tiny.yaml, init: scratch, shard: 2}
train:
  images: zssr
  generator: {options: {width: 4, blocks: 1, residual: true}}
  discriminator: {options: {width: 4, blocks: 2, head: adaptive, hidden: 4}}
  losses: {mediator: 0.0, pixel: 1.0, consistency: 1.0, reference: synthetic}
  batch: 2
  patch: 16
  pretrain: 2
  epochs: 1
  validation: {images: 2}
  every: {log: 1, validation: 100, checkpoint: 2, samples: 100}
evaluate: {most: 4, features: {network: vgg16, weights: random, layers: [conv1_2]}}
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared run."""
    desk = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        Path("tiny.yaml").write_text(PRESET)
        Path("mine.yaml").write_text(CONFIG)
        assert prepare.main(["--config", "mine.yaml"]) == 0
    return desk


@pytest.fixture
def desk(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of it, which is the working folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def words(stage: str) -> list[str]:
    return ["--config", "mine.yaml", "--device", "cuda", "--threads", "1", *(["--fleet", "2"] * (stage == "synth"))]


def run(stage: str, *more: str) -> None:
    assert STAGES[stage].main([*words(stage), *more]) == 0


def kill_when(reached: Callable[[], bool], stage: str) -> None:
    """Start a stage in a process of its own, and kill it as soon as it has come so far."""
    first = "import tests.gpu.standin; " if STANDIN is not None else ""
    code = f"{first}import sys; from pipelines import {stage}; sys.exit({stage}.main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words(stage)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ends = time.monotonic() + 60
    while not reached() and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9, "it has ended by itself"


@pytest.mark.usefixtures("desk")
def test_synth_resumes_after_a_kill() -> None:
    kill_when(lambda: any(SHARDS.glob("shard-*.json")), "synth")
    before = {path.name: path.read_bytes() for path in SHARDS.glob("shard-*.json")}
    assert 0 < len(before) < 6
    run("synth")
    assert check(SHARDS) == []
    with SyntheticSet(SHARDS) as made:
        assert len(set(made.ids)) == 12
        assert {str(made.figures(number)["device"])[:4] for number in range(12)} == {"cuda"}
    assert {path.name: path.read_bytes() for path in SHARDS.glob("shard-*.json") if path.name in before} == before


@pytest.mark.usefixtures("desk")
def test_train_resumes_after_a_kill_and_is_evaluated() -> None:
    run("synth", "--set", "synth.init=shared")
    kill_when(lambda: any((TRAINED / "checkpoints").glob("*.pt")), "train")
    run("train")
    steps = [json.loads(line)["step"] for line in (TRAINED / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert sorted(steps) == steps
    assert steps[-1] == 12
    run("evaluate", "--only", "table1")
    assert list(Path("runs/mine/report").glob("table1*"))
