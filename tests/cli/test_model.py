"""`zssr-gan model card` as a user meets it."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.estimates import WIDE
from tests.generators import written_generator
from zssr_gan.cli.main import app
from zssr_gan.degradation.model import Degradation
from zssr_gan.training.model_card import CameraCard, MediatorCard


def test_what_it_shows(tmp_path: Path) -> None:
    mediator = MediatorCard(
        network="VGG19", kind="random", sha256="", source="seed 0", warning="VGG19 has RANDOM weights"
    )
    listed = {"inputs": {f"set/{n}.png": f"{n:064}" for n in range(6000)}}
    path = written_generator(tmp_path, {"mediator": mediator, "metrics": {"synthetic_db": 34.56}}, listed=listed)
    done = CliRunner().invoke(app, ["model", "card", str(path)])
    assert done.exit_code == 0
    for words in (
        "generative",
        "6,000 LR images that the generator",
        "synthetic_db 34.6",
        "step 5 of 9",
        "WARNING     VGG19 has RANDOM",
    ):
        assert words in done.stdout
    done = CliRunner().invoke(app, ["model", "card", str(path), "--json"])
    assert json.loads(done.stdout)["label"] == "generative"


def test_each_list_has_its_row(tmp_path: Path) -> None:
    some, others = ({f"set/{n}.png": f"{n:064}" for n in range(*ends)} for ends in ((0, 5), (5, 8)))
    listed = {"inputs": some, "reals": some, "held_out": others}
    cameras = [CameraCard.of(Degradation()), CameraCard.of(WIDE)]
    path = written_generator(tmp_path, {"cameras": cameras}, listed=listed)
    rows = CliRunner().invoke(app, ["model", "card", str(path)]).stdout.splitlines()
    assert "inputs      5 LR images that the generator learnt from" in rows
    shown = "reals       5 synthetic HR images that the discriminator was shown (of the same images as inputs)"
    assert shown in rows
    assert "held out    3 images for validation, not trained on" in rows
    assert f"cameras     bicubic, degradation {WIDE.sha256[:12]}" in rows


def test_the_images(tmp_path: Path) -> None:
    path = written_generator(
        tmp_path, listed={"inputs": {"set/a b.png": "1" * 64}, "held_out": {"set/c.png": "2" * 64}}
    )
    done = CliRunner().invoke(app, ["model", "card", str(path), "--images"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"{'1' * 64}  inputs    set/a b.png", f"{'2' * 64}  held_out  set/c.png"]


def test_another_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["model", "card", str(tmp_path / "none.safetensors")])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
