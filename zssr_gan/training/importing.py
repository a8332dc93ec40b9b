"""Generators that others trained, made into files of ours: ESRGAN's, from .pth or .safetensors.

Nothing in such a file says what it was trained on, so the card says that this is not known. What is in a .pth is read
as weights alone, and never run.
"""

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation
from zssr_gan.errors import WeightsError
from zssr_gan.files import atomic_write, sha256_bytes
from zssr_gan.networks.esrgan_import import esrgan_of, renamed
from zssr_gan.networks.pretrained import one_line, tensors_of
from zssr_gan.training.model_card import CameraCard, Card, OriginCard, encode_generator, options_of

_WRAPPERS = ("params_ema", "params", "state_dict")
"""Names under which sets of weights lie in a .pth, the best first: Real-ESRGAN keeps a running mean beside them."""

_MEND = "have its maker save the state_dict alone"

_FORBIDDEN = re.compile(r"nsupported (?:global: )?GLOBAL (\S{1,100})")
"""How torch names what a pickle wants to call and is not weights."""


def import_generator(source: Path, output: Path) -> Card:
    """Write a generator's file of weights that others trained.

    Args:
        source: .pth, read with `weights_only=True`, or .safetensors, of an ESRGAN generator.
        output: the file to be written, with a card; never overwritten.

    Returns:
        The card.

    Raises:
        WeightsError: the source cannot be read, or is no such generator.
        OutputError: the output exists, or the disk refuses.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise WeightsError(f"{source}: cannot be read ({error.strerror}).") from error
    try:
        wrapper, weights = _unwrapped(_loaded(data))
        naming, weights = renamed(weights)
        generator = esrgan_of(weights)
    except WeightsError as error:
        raise WeightsError(f"{source}: {str(error).removesuffix('.')}.") from error
    card = Card(
        name=generator.kind,
        options=dict(options_of(generator)),
        images={},
        cameras=(CameraCard.of(Degradation()),),
        origin=OriginCard(file=source.name, sha256=sha256_bytes(data), naming=naming, wrapper=wrapper),
    )
    atomic_write(output, encode_generator(generator, card, {}))
    return card


def _loaded(data: bytes) -> Mapping[str, Any]:
    """What lies in a file's bytes, by name."""
    if data[:2] == b"PK" or data[:1] == b"\x80":  # a zip and a pickle, as torch has written them
        return _loaded_by_torch(data)
    try:
        return tensors_of(data)
    except WeightsError as error:
        raise WeightsError(f"is no file of torch, and {error}") from error


def _loaded_by_torch(data: bytes) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd pickle is loaded, or refused in a sentence: no more is to be said
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes: a torn or damaged pickle may raise anything while it is read
        raise WeightsError(_refusal(error)) from error
    if not isinstance(content, dict):
        raise WeightsError(f"holds no weights by name, but a {type(content).__name__}")
    return content


def _refusal(error: Exception) -> str:
    """Why torch did not load a file."""
    if not isinstance(error, UnpicklingError):
        return f"is damaged or no file of weights ({one_line(error)})"
    wanted = _FORBIDDEN.search(str(error))
    if wanted is None:  # torch's own words then advise to run what is in the file
        return "is damaged or no file of weights"
    return (
        f"holds more than weights ({wanted[1]}), such as a whole network, and what else it holds is not run here: "
        f"{_MEND}"
    )


def _unwrapped(content: Mapping[str, Any]) -> tuple[str | None, dict[str, Tensor]]:
    """The weights, and under which name they lay, if under one."""
    sets = {str(name): _tensors(value) for name, value in content.items() if isinstance(value, dict)}
    sets = {name: tensors for name, tensors in sets.items() if tensors}
    wrapper = next((name for name in _WRAPPERS if name in sets), None)
    if wrapper is None and (bare := _tensors(content)):
        return None, bare
    if wrapper is None and len(sets) == 1:
        wrapper = next(iter(sets))
    if wrapper is None:
        found = ", ".join(sets or map(str, content)) or "nothing"
        held = "several sets of weights, none" if sets else "no weights, neither bare nor"
        raise WeightsError(f"holds {held} under {', '.join(_WRAPPERS)}, but {found[:120]}: {_MEND}")
    return wrapper, sets[wrapper]


def _tensors(found: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Those that lie there by name; DataParallel puts `module.` before each."""
    return {str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)}
