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
from tests.generators import LISTED, written_generator
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.networks.srgan import SRGANGenerator, SRGANGeneratorOptions
from zssr_gan.training.model_card import CameraCard, MediatorCard, load_generator


def written(folder: Path, **changes: Any) -> Path:
    return written_generator(folder, changes, channels=1)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path = written_generator(tmp_path, channels=1)
    network = SRGANGenerator(
        SRGANGeneratorOptions(channels=1, width=4, blocks=1, residual=True), torch.Generator().manual_seed(0)
    ).eval()
    loaded = load_generator(path)
    x = torch.rand(2, 1, 7, 9)
    assert torch.equal(loaded(x), network(x).clamp(0, 1))
    assert loaded.facts.scale == (2, 2)
    assert loaded.card.label == "generative"
    assert not loaded.card.warnings
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_random_weights_of_the_mediator_stay_a_warning(tmp_path: Path) -> None:
    mediator = MediatorCard(network="VGG19", kind="random", sha256="", source="seed 0", warning="RANDOM")
    assert load_generator(written(tmp_path, mediator=mediator)).card.warnings == ["RANDOM"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    # A type that safetensors knows, and its loader for torch does not.
    header = b'{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    (tmp_path / "f4.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"0")
    (tmp_path / "null.safetensors").write_bytes((21).to_bytes(8, "little") + b'{"__metadata__":null}')
    torch.save({"x": torch.zeros(1)}, tmp_path / "others.pth")
    path = written(tmp_path / "wide")
    wide = written(tmp_path / "narrow", options={"channels": 1, "width": 8, "blocks": 1})
    for file, words in (
        (tmp_path / "none.safetensors", "no such file"),
        (tmp_path / "text.safetensors", "cannot be read"),
        (
            tmp_path / "other.safetensors",
            "it has no card; `zssr-gan model import` makes a generator of others' weights",
        ),
        (tmp_path / "null.safetensors", "it has no card"),
        (tmp_path / "f4.safetensors", "cannot be read as safetensors .it holds tensors of type F4"),
        (tmp_path / "others.pth", "cannot be read as safetensors .*; `zssr-gan model import` makes"),
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
    kept = json.loads(text)
    change(kept)
    save_file(load_file(path), path, {key: json.dumps(kept)})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kept: kept["card"].update(schema_version=3), "another version of zssr-gan"),
        (lambda kept: kept.update({**kept.pop("card"), "schema_version": 1}), "another version of zssr-gan"),
        (lambda kept: kept["card"]["cameras"][0]["values"].update(noise={"sigma": 0.1}), "changed after it was hashed"),
        (lambda kept: kept["card"].update(cameras=[]), "its card cannot be read"),
        (lambda kept: kept["card"].pop("seed"), "its card cannot be read .*seed is missing"),
        (lambda kept: kept["images"]["inputs"].popitem(), "its list of images is not the one that was hashed"),
        (lambda kept: kept["images"].update(reals={}), "its list of images is not the one that was hashed"),
    ],
)
def test_a_card_that_is_not_ours(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        load_generator(with_card(written(tmp_path), change))


def test_the_camera_that_it_was_trained_for(tmp_path: Path) -> None:
    assert load_generator(written(tmp_path)).degradation is None
    wide, narrow = CameraCard.of(WIDE), CameraCard.of(NARROW)
    assert load_generator(written(tmp_path, cameras=[wide])).degradation == WIDE
    with pytest.raises(SettingsError, match="2 cameras: say which"):
        _ = load_generator(written(tmp_path, cameras=[wide, narrow])).degradation


def test_the_file_alone_tells_its_images(tmp_path: Path) -> None:
    listed = {**LISTED, "reals": {"set/3.png": f"{3:064}"}, "held_out": {}}
    loaded = load_generator(written_generator(tmp_path, listed=listed))
    assert loaded.images == listed
    assert {name: images.count for name, images in loaded.card.images.items()} == {
        "inputs": 7,
        "reals": 1,
        "held_out": 0,
    }
    assert [loaded.purposes_of(f"{n:064}") for n in (2, 3, 7)] == [("inputs",), ("inputs", "reals"), ()]


def test_the_same_generator_has_the_same_bytes(tmp_path: Path) -> None:
    one, other = (written_generator(tmp_path / name) for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_a_card_is_written_as_earlier_versions_wrote_it(tmp_path: Path) -> None:
    """Records hold cards whole, and compare them: what a generator trained here has no need of is not in its card."""
    card = load_generator(written_generator(tmp_path)).card
    assert "origin" not in card.model_dump(mode="json")
    assert "origin" not in json.loads((tmp_path / "card.json").read_text())
