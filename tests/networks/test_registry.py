"""The networks by the names in the settings: every shipped config has them, mistakes are one sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from zssr_gan.errors import SettingsError
from zssr_gan.networks.registry import discriminator_of, generator_of, mediator_options
from zssr_gan.settings.run import load_run
from zssr_gan.settings.train import MediatorSettings, NetworkSettings

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
GIVEN = {"scale": 2, "channels": 1}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_shipped_config_has_its_networks(file: Path) -> None:
    train = load_run(file).train
    generator = generator_of(train.generator, {"scale": 2, "channels": 3}, torch.Generator())
    assert generator.facts.scale == (2, 2)
    side = train.patch or 25
    discriminator = discriminator_of(train.discriminator, 3, (2 * side, 2 * side), torch.Generator())
    assert discriminator(torch.zeros(2, 3, 2 * side, 2 * side)).shape[:2] == (2, 1)
    mediator_options(train.mediator)


def test_paper_has_the_papers_numbers() -> None:
    train = load_run(next(file for file in CONFIGS if file.stem == "paper")).train
    assert (train.batch, train.patch, train.epochs, train.alternation.unit) == (50, 32, 2000, "epochs")
    assert train.optimiser.lr == 2e-4
    # 1 : 1e-3, where the features are divided by 12.75.
    assert train.losses.mediator * 12.75**2 == pytest.approx(1000 * train.losses.adversarial, rel=1e-3)
    assert train.generator.options["blocks"] == 16


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("srgn", {}, "train.generator.name: must be autoencoder or dcgan or esrgan or srcnn or srgan, not 'srgn'."),
        ("srgan", {"blokcs": 3}, "train.generator.options.blokcs: there is no such option; there are: scale, channels"),
        ("srgan", {"blocks": "3"}, "train.generator.options.blocks: must be of the kind of 16, not '3'."),
        ("srgan", {"norm": 1}, "train.generator.options.norm: must be of the kind of True, not 1."),
        ("srgan", {"channels": 3}, "train.generator.options.channels: is 3, and the data ask for 1: leave it out."),
        ("srgan", {"upsampling": "fine"}, "train.generator.options: upsampling is nearest or pixel_shuffle, not fine."),
    ],
)
def test_mistakes(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        generator_of(NetworkSettings(name=name, options=options), GIVEN, torch.Generator())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_that_vgg19_has_not() -> None:
    with pytest.raises(SettingsError, match=r"^train\.mediator\.layers: VGG19 has no such layer \(conv9_1\)"):
        mediator_options(MediatorSettings(layers=("conv9_1",)))
