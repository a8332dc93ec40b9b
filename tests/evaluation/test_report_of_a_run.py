"""The report of a run: what is known of it stands there, parts come in their order, and what is missing is said."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import prepare
from tests.generators import written_generator
from tests.reports import tables
from zssr_gan.data.cameras import CaseDegradations, GroupEstimate, encode_degradations
from zssr_gan.data.store import Store
from zssr_gan.degradation.estimate import Estimate
from zssr_gan.evaluation.part import Part, encode_part
from zssr_gan.evaluation.report import write_report
from zssr_gan.evaluation.run import Run
from zssr_gan.files import sha256_file
from zssr_gan.settings.run import load_run

RUN = Path("runs/mine")
PARTS = RUN / "report" / "parts"
CONFIG = """
description: "faces that nobody knows"
data:
  sources: [{kind: lfw, count: 24}]
  size: null
  roles: {zssr: 8, generator: 4, table1: 3, unseen: null}
evaluate:
  features: {network: vgg16, weights: random, layers: [conv1_1]}
"""
MEDIATOR = {"network": "vgg19", "kind": "random", "sha256": "0" * 64, "source": "seed 0", "warning": "vgg19 is RANDOM."}
TRUTH = Part("truth", "Truth known", tables=tables("bicubic", "SRGAN"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    config = Path("mine.yaml")
    config.write_text(CONFIG)
    assert prepare.main(["--config", "mine.yaml"]) == 0
    with Store(RUN / "synthetic", {}):
        pass
    facts = {
        "mediator": MEDIATOR,
        "settings": {"losses": {"pixel": 1.0}},
        "split_sha256": sha256_file(RUN / "split.json"),
    }
    written_generator(RUN / "train", facts)
    PARTS.mkdir(parents=True)
    (PARTS / "truth.json").write_bytes(encode_part(TRUTH))
    (PARTS / "table1.json").write_bytes(encode_part(replace(TRUTH, name="table1", title="Table I")))
    return Run(load_run(config), config)


def test_it_holds_what_is_known_of_the_run(run: Run) -> None:
    path = write_report(run, ["truth", "table1"])
    assert path == RUN / "report" / "index.html"
    text = path.read_text("utf-8")
    for said in (
        *("faces that nobody knows", "Truth known", "Table I", "Bicubic is assumed"),
        *(
            sha256_file(RUN / "split.json"),
            sha256_file(RUN / "train" / "generator.safetensors"),
            "settings of the synthetic images",
        ),
        *("vgg19 is RANDOM.", "vgg16 with random weights", "role zssr", "count: 24", "torch", "pixel 1.0"),
    ):
        assert said in text, said
    assert text.index("<h2>Truth known") < text.index("<h2>Table I")
    before = path.read_bytes()
    assert write_report(run, ["truth", "table1"]).read_bytes() == before


def test_a_generator_of_another_split_is_warned_of_and_a_part_that_cannot_be_read_is_said(run: Run) -> None:
    warning = "trained with another split.json"
    assert warning not in write_report(run, ["truth"]).read_text("utf-8")
    (RUN / "split.json").write_bytes((RUN / "split.json").read_bytes() + b"\n")
    for damage in (b"{}", encode_part(TRUTH)[:-9]):
        (PARTS / "truth.json").write_bytes(damage)
        text = write_report(run, ["truth", "table1"]).read_text("utf-8")
        for said in (warning, 'make eval ARGS="--only truth"', "names no best one", "Table I"):
            assert said in text


def test_the_estimate_of_a_camera_is_shown(run: Run, make_estimate: Callable[..., Estimate]) -> None:
    groups = (GroupEstimate(group="lfw", estimate=make_estimate("0" * 64)),)
    (RUN / "degradation.json").write_bytes(encode_degradations(CaseDegradations(seed=0, size=None, groups=groups)))
    text = write_report(run, ["truth"]).read_text("utf-8")
    assert "0.90 +/- 0.02 along" in text
    assert "moved by its standard error" in text
    assert 'alt="kernel and noise of lfw"' in text
    assert "Bicubic is assumed" not in text


def test_what_stages_before_did_not_leave_is_left_out(run: Run) -> None:
    """As where a training had pairs, or truths are all that there is to see."""
    shutil.rmtree(RUN / "synthetic")
    text = write_report(run, ["truth"]).read_text("utf-8")
    assert "settings of the synthetic images" not in text
    assert "Model card" in text
    shutil.rmtree(RUN / "train")
    (RUN / "split.json").unlink()
    text = write_report(run, ["truth"]).read_text("utf-8")
    assert "Model card" not in text
    assert "Compared with 4 known truths" in text
