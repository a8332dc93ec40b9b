"""The networks that a training's settings can name; a wrong name or option is refused in one sentence."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, TypeVar

import torch
from torch import nn

from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.networks.autoencoder import Autoencoder
from zssr_gan.networks.base import DiscriminatorNetwork, GeneratorNetwork
from zssr_gan.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from zssr_gan.networks.esrgan import ESRGAN
from zssr_gan.networks.srcnn import SRCNN
from zssr_gan.networks.srgan import SRGANDiscriminator, SRGANGenerator
from zssr_gan.networks.vgg import VGGOptions
from zssr_gan.settings.train import MediatorSettings, NetworkSettings

GENERATORS: Final[dict[str, type[GeneratorNetwork]]] = {
    network.kind: network for network in (Autoencoder, DCGANGenerator, ESRGAN, SRCNN, SRGANGenerator)
}
"""By the name in settings and cards. A new system is a file in this folder and a name here."""

DISCRIMINATORS: Final[dict[str, type[DiscriminatorNetwork]]] = {
    network.kind: network for network in (DCGANDiscriminator, SRGANDiscriminator)
}

_Kind = TypeVar("_Kind", GeneratorNetwork, DiscriminatorNetwork)


def generator_of(settings: NetworkSettings, given: Mapping[str, Any], draws: torch.Generator) -> GeneratorNetwork:
    """The generator that settings name.

    Args:
        settings: name and options.
        given: options that the data decide (scale, channels).
        draws: of the first weights.

    Raises:
        SettingsError: an unknown name or option, a value out of range, or one at odds with the data.
    """
    return _made("train.generator", settings, GENERATORS, given, draws)


def discriminator_of(
    settings: NetworkSettings, channels: int, sides: tuple[int, int], draws: torch.Generator
) -> DiscriminatorNetwork:
    """The discriminator that settings name, for images of such channels, rows and columns; see `generator_of`."""
    rows, columns = sides
    given = {"channels": channels, **({"size": rows} if rows == columns else {})}
    network = _made("train.discriminator", settings, DISCRIMINATORS, given, draws)
    try:
        network.facts.check(torch.empty(1, channels, rows, columns))
    except ImageError as error:
        raise SettingsError(f"train.discriminator.options.head: {error}") from error
    return network


def mediator_options(settings: MediatorSettings, group: str = "train.mediator") -> VGGOptions:
    """Which features of the mediator are wanted; SettingsError, naming the `group`, where it has no such layer."""
    try:
        return VGGOptions(settings.network, settings.layers, settings.activated)
    except ValueError as error:
        raise SettingsError(f"{group}.layers: {error}.") from error


def parameters(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def _made(
    key: str,
    settings: NetworkSettings,
    known: Mapping[str, type[_Kind]],
    given: Mapping[str, Any],
    draws: torch.Generator,
) -> _Kind:
    if settings.name not in known:
        raise SettingsError(f"{key}.name: must be {' or '.join(known)}, not {settings.name!r}.")
    kind = known[settings.name]
    names = {field.name: field for field in fields(kind.options_kind)}
    for name, value in settings.options.items():
        if name not in names:
            raise SettingsError(f"{key}.options.{name}: there is no such option; there are: {', '.join(names)}.")
        default = names[name].default
        # True is an int in Python, and 2 a fine float.
        if type(value) is not type(default) and not (type(default) is float and type(value) is int):
            raise SettingsError(f"{key}.options.{name}: must be of the kind of {default!r}, not {value!r}.")
        if name in given and value != given[name]:
            raise SettingsError(f"{key}.options.{name}: is {value}, and the data ask for {given[name]}: leave it out.")
    try:
        options = kind.options_kind(**{**given, **settings.options})
    except ValueError as error:
        raise SettingsError(f"{key}.options: {error}.") from error
    return kind(options, draws)  # type: ignore[arg-type, call-arg]  # a subclass has an `__init__` of its own
