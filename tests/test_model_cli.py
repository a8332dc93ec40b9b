"""`zssr-gan model card` as a user meets it."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.training.test_card import written
from zssr_gan.cli import app
from zssr_gan.training.card import ImageList, MediatorCard


def test_what_it_shows(tmp_path: Path) -> None:
    mediator = MediatorCard(
        network="VGG19", kind="random", sha256="", source="seed 0", warning="VGG19 has RANDOM weights"
    )
    images = {"inputs": ImageList(count=6000, sha256="0" * 64)}
    path, _ = written(tmp_path, mediator=mediator, images=images, metrics={"synthetic_db": 34.56})
    done = CliRunner().invoke(app, ["model", "card", str(path)])
    assert done.exit_code == 0
    for words in ("generative", "6,000 inputs", "synthetic_db 34.6", "step 5 of 9", "WARNING     VGG19 has RANDOM"):
        assert words in done.stdout
    done = CliRunner().invoke(app, ["model", "card", str(path), "--json"])
    assert json.loads(done.stdout)["label"] == "generative"


def test_another_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["model", "card", str(tmp_path / "none.safetensors")])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
