"""`zssr-gan model card` as a user meets it."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from tests.estimates import WIDE
from tests.generators import written_generator
from zssr_gan.cli.main import app
from zssr_gan.degradation.model import Degradation
from zssr_gan.training.model_card import CameraCard, MediatorCard


def card(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["model", "card", *map(str, arguments)])


def test_what_it_shows(tmp_path: Path) -> None:
    mediator = MediatorCard(
        network="VGG19", kind="random", sha256="", source="seed 0", warning="VGG19 has RANDOM weights"
    )
    some, others = ({f"set/{n}.png": f"{n:064}" for n in range(*ends)} for ends in ((0, 6000), (6000, 6003)))
    path = written_generator(
        tmp_path,
        {
            "mediator": mediator,
            "metrics": {"synthetic_db": 34.56},
            "cameras": [CameraCard.of(Degradation()), CameraCard.of(WIDE)],
        },
        listed={"inputs": some, "reals": some, "held_out": others},
    )
    done = card(path)
    assert done.exit_code == 0
    for words in ("generative", "synthetic_db 34.6", "step 5 of 9", "WARNING     VGG19 has RANDOM"):
        assert words in done.stdout
    for row in (
        "inputs      6,000 LR images that the generator learnt from",
        "reals       6,000 synthetic HR images that the discriminator was shown (of the same images as inputs)",
        "held out    3 images for validation, not trained on",
        f"cameras     bicubic, degradation {WIDE.sha256[:12]}",
    ):
        assert row in done.stdout.splitlines()
    assert json.loads(card(path, "--json").stdout)["label"] == "generative"


def test_the_images(tmp_path: Path) -> None:
    listed = {"inputs": {"set/a b.png": "1" * 64}, "held_out": {"set/c.png": "2" * 64}}
    done = card(written_generator(tmp_path, listed=listed), "--images")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"{'1' * 64}  inputs    set/a b.png", f"{'2' * 64}  held_out  set/c.png"]


def test_another_file(tmp_path: Path) -> None:
    done = card(tmp_path / "none.safetensors")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
