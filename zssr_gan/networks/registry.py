"""The networks of a training, by the names in its settings; a wrong option is said in one sentence.

The names are found, not listed: each file in `zssr_gan/networks/` declares its own.
"""

import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import nn

import zssr_gan.networks
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.networks.base import DiscriminatorNetwork, GeneratorNetwork
from zssr_gan.networks.vgg import VGGOptions
from zssr_gan.settings.train import MediatorSettings, NetworkSettings

_Kind = TypeVar("_Kind", GeneratorNetwork, DiscriminatorNetwork)


def declared(base: type[_Kind]) -> dict[str, type[_Kind]]:
    """The kinds of networks that extend `base`, by their names, out of all files in `zssr_gan/networks/`."""
    files = sorted(one.name for one in pkgutil.iter_modules(zssr_gan.networks.__path__))
    modules = [import_module(f"{zssr_gan.networks.__name__}.{name}") for name in files]
    found = {kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)}
    kinds = {kind for kind in found if issubclass(kind, base) and kind is not base}
    by_name = {kind.kind: kind for kind in kinds}
    assert len(by_name) == len(kinds), "each has a name of its own"
    return dict(sorted(by_name.items()))


GENERATORS: Mapping[str, type[GeneratorNetwork]] = declared(GeneratorNetwork)
"""By name; what is asked of one stands in `GeneratorNetwork`."""

DISCRIMINATORS: Mapping[str, type[DiscriminatorNetwork]] = declared(DiscriminatorNetwork)


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
    settings: NetworkSettings, given: Mapping[str, Any], draws: torch.Generator
) -> DiscriminatorNetwork:
    """The discriminator that settings name; see `generator_of`."""
    return _made("train.discriminator", settings, DISCRIMINATORS, given, draws)


def discriminator_for(
    settings: NetworkSettings, channels: int, sides: tuple[int, int], draws: torch.Generator
) -> DiscriminatorNetwork:
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
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            raise SettingsError(f"{key}.options.{name}: must be of the kind of {default!r}, not {value!r}.")
        if name in given and value != given[name]:
            raise SettingsError(f"{key}.options.{name}: is {value}, and the data ask for {given[name]}: leave it out.")
    try:
        options = kind.options_kind(**{**given, **settings.options})
    except ValueError as error:
        raise SettingsError(f"{key}.options: {error}.") from error
    return kind(options, draws)
