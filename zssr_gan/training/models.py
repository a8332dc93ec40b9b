"""The networks of a training, by the names in its settings; a wrong option is said in one sentence."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.networks.generators import GeneratorNetwork
from zssr_gan.networks.srgan import Discriminator, DiscriminatorOptions, Generator, GeneratorOptions
from zssr_gan.networks.vgg import VGGOptions
from zssr_gan.stages import MediatorSettings, NetworkSettings

GENERATORS: Mapping[str, tuple[type, Callable[..., GeneratorNetwork]]] = {"srgan": (GeneratorOptions, Generator)}
"""By name, the options' dataclass and the network; all else that is asked of one stands in `GeneratorNetwork`."""
DISCRIMINATORS: Mapping[str, tuple[type, Callable[..., Discriminator]]] = {
    "srgan": (DiscriminatorOptions, Discriminator)
}


def generator_of(settings: NetworkSettings, given: Mapping[str, Any], draws: torch.Generator) -> GeneratorNetwork:
    """The generator that settings name.

    Args:
        settings: name and options.
        given: options that the data decide (scale, channels).
        draws: of the first weights.

    Raises:
        SettingsError: an unknown name or option, a value out of range, or one at odds with the data.
    """
    options, network = _chosen("train.generator", settings, GENERATORS, given)
    made: GeneratorNetwork = network(options, draws)
    return made


def discriminator_of(settings: NetworkSettings, given: Mapping[str, Any], draws: torch.Generator) -> Discriminator:
    """The discriminator that settings name; see `generator_of`."""
    options, network = _chosen("train.discriminator", settings, DISCRIMINATORS, given)
    made: Discriminator = network(options, draws)
    return made


def discriminator_for(
    settings: NetworkSettings, channels: int, sides: tuple[int, int], draws: torch.Generator
) -> Discriminator:
    """The discriminator that settings name, for images of such channels, rows and columns; see `discriminator_of`."""
    rows, columns = sides
    given = {"channels": channels, **({"size": rows} if rows == columns else {})}
    made = discriminator_of(settings, given, draws)
    try:
        made.facts.check(torch.empty(1, channels, rows, columns))
    except ImageError as error:
        raise SettingsError(f"train.discriminator.options.head: {error}") from error
    return made


def mediator_options(settings: MediatorSettings, group: str = "train.mediator") -> VGGOptions:
    """Which features of the mediator are wanted; SettingsError, naming the `group`, where it has no such layer."""
    try:
        return VGGOptions(settings.network, settings.layers, settings.activated)
    except ValueError as error:
        raise SettingsError(f"{group}.layers: {error}.") from error


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def _chosen(key: str, settings: NetworkSettings, known: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Any, Any]:
    if settings.name not in known:
        raise SettingsError(f"{key}.name: must be {' or '.join(known)}, not {settings.name!r}.")
    kind, network = known[settings.name]
    names = {field.name: field for field in fields(kind)}
    for name, value in settings.options.items():
        if name not in names:
            raise SettingsError(f"{key}.options.{name}: there is no such option; there are: {', '.join(names)}.")
        default = names[name].default
        # True is an int in Python, and 2 a fine float.
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            raise SettingsError(f"{key}.options.{name}: must be of the kind of {default!r}, not {value!r}.")
        if name in given and value != given[name]:
            raise SettingsError(f"{key}.options.{name}: is {value}, and the data ask for {given[name]}: leave it out.")
    try:
        return kind(**{**given, **settings.options}), network
    except ValueError as error:
        raise SettingsError(f"{key}.options: {error}.") from error
