"""Generators that others trained, made into files of ours: ESRGAN's, from .pth or .safetensors.

Nothing in such a file says what it was trained on, so the card says that this is not known. What is in a .pth is read
as weights alone, and never run.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.files import atomic_write, sha256_bytes
from zssr_gan.imaging.degradation import Degradation
from zssr_gan.networks.esrgan_names import esrgan_of, renamed
from zssr_gan.training.card import CameraCard, Card, OriginCard, encode_generator, options_of

_WRAPPERS = ("params_ema", "params", "state_dict")
"""Names under which sets of weights lie in a .pth, the best first: Real-ESRGAN keeps a running mean beside them."""


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
    if data[:2] != b"PK" and data[:1] != b"\x80":  # a zip and a pickle, as torch has written them
        try:
            return load(data)
        except SafetensorError as error:
            raise WeightsError(f"is neither safetensors nor a file of torch ({error})") from error
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            "holds more than weights, such as a whole network, and what else it holds is not run here: have its maker "
            "save the state_dict alone"
        ) from error
    except (RuntimeError, EOFError, BadZipFile, KeyError, ValueError) as error:
        raise WeightsError(f"cannot be read by torch ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"holds no weights by name, but a {type(content).__name__}")
    return content


def _unwrapped(content: Mapping[str, Any]) -> tuple[str | None, dict[str, Tensor]]:
    """The weights, and under which name they lay, if under one."""
    wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), dict)), None)
    found = content if wrapper is None else content[wrapper]
    # DataParallel puts `module.` before each name.
    weights = {str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)}
    if not weights:
        raise WeightsError("holds no weights")
    return wrapper, weights
