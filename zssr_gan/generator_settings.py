"""Settings of the generative way: what is done with a trained generator's output. They know no torch.

There is nothing to train, so this is what zero-shot presets call `refinement`, and no more.
"""

from zssr_gan.config import PRESETS, OutputSettings, StrictSettings, parse_as, read_preset
from zssr_gan.errors import SettingsError

GENERATOR_PRESETS = ("generator", "raw")
"""The first is the default."""


class GeneratorSettings(StrictSettings):
    """Every constant of the generative way."""

    description: str = ""
    """One line for a person who chooses."""
    refinement: OutputSettings = OutputSettings()


def parse_generator_settings(data: object, name: str) -> GeneratorSettings:
    """Check settings that came from YAML or JSON; see `parse_as`."""
    return parse_as(GeneratorSettings, data, name)


def load_generator_preset(name: str) -> GeneratorSettings:
    """Settings by the name of a preset (`GENERATOR_PRESETS`), or from a YAML file of the same form.

    Raises:
        SettingsError: neither, or a preset of the zero-shot way.
    """
    if name in PRESETS:
        raise SettingsError(
            f"the preset {name} says how a network is trained on the image, and a generator is trained already: choose "
            f"{' or '.join(GENERATOR_PRESETS)}, or a .yaml file with the group refinement"
        )
    data = read_preset(name, GENERATOR_PRESETS)
    return parse_generator_settings(data, name if name in GENERATOR_PRESETS else f"{name} (for a generator)")
