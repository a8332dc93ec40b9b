"""A generator's file: what comes back is what was written, and other files are refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.estimates import NARROW, WIDE
from zssr_gan import load_generator
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.imaging.degradation import Degradation
from zssr_gan.networks.srgan import Generator, GeneratorOptions
from zssr_gan.training.card import CameraCard, Card, MediatorCard, options_of, write_generator


def written(folder: Path, **changes: Any) -> tuple[Path, Generator]:
    network = Generator(GeneratorOptions(channels=1, width=4, blocks=1), torch.Generator().manual_seed(0)).eval()
    facts = {
        **{"name": "srgan", "options": dict(options_of(network)), "images": {}, "split_sha256": "", "store_sha256": ""},
        **{
            "cameras": [CameraCard.of(Degradation())],
            "mediator": None,
            "settings": {},
            "seed": 0,
            "step": 5,
            "steps": 9,
            "phase": "pretrain",
            "metrics": {},
        },
        **{"mean_weights": True, "precision": "fp32", "device": "cpu", "versions": {}},
    }
    return write_generator(folder, network, Card.model_validate(facts | changes)), network


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path, network = written(tmp_path)
    loaded = load_generator(path)
    x = torch.rand(2, 1, 7, 9)
    assert torch.equal(loaded(x), network(x).clamp(0, 1))
    assert loaded.facts.scale == (2, 2)
    assert loaded.card.label == "generative"
    assert not loaded.card.warnings
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_random_weights_of_the_mediator_stay_a_warning(tmp_path: Path) -> None:
    mediator = MediatorCard(network="VGG19", kind="random", sha256="", source="seed 0", warning="RANDOM")
    assert load_generator(written(tmp_path, mediator=mediator)[0]).card.warnings == ["RANDOM"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    path, _ = written(tmp_path / "wide")
    wide, _ = written(tmp_path / "narrow", options={"channels": 1, "width": 8, "blocks": 1})
    for file, words in (
        (tmp_path / "none.safetensors", "cannot be read"),
        (tmp_path / "text.safetensors", "cannot be read"),
        (tmp_path / "other.safetensors", "it has no card"),
        (wide, "do not fit its card"),
    ):
        with pytest.raises(WeightsError, match=words) as caught:
            load_generator(file)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert load_generator(path)


def with_card(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A generator's file whose card was changed by another hand."""
    with safe_open(path, "pt") as file:
        ((key, text),) = file.metadata().items()
    card = json.loads(text)
    change(card)
    save_file(load_file(path), path, {key: json.dumps(card)})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.update(schema_version=1), "another version of zssr-gan"),
        (lambda card: card["cameras"][0]["values"].update(noise={"sigma": 0.1}), "changed after it was hashed"),
        (lambda card: card.update(cameras=[]), "its card cannot be read"),
    ],
)
def test_a_card_that_is_not_ours(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        load_generator(with_card(written(tmp_path)[0], change))


def test_the_camera_that_it_was_trained_for(tmp_path: Path) -> None:
    assert load_generator(written(tmp_path)[0]).degradation is None
    wide, narrow = CameraCard.of(WIDE), CameraCard.of(NARROW)
    assert load_generator(written(tmp_path, cameras=[wide])[0]).degradation == WIDE
    with pytest.raises(SettingsError, match="2 cameras: say which"):
        _ = load_generator(written(tmp_path, cameras=[wide, narrow])[0]).degradation
