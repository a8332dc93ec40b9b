"""Generators that others trained, as files of ours: ESRGAN's, from .pth or .safetensors.

Three families of names are in use for the weights of this network (Wang et al. 2018):

conv_first, body.N.rdb1.conv1, conv_body, conv_up1, conv_hr, conv_last           BasicSR, Real-ESRGAN; ours
conv_first, RRDB_trunk.N.RDB1.conv1, trunk_conv, upconv1, HRconv, conv_last      ESRGAN's code
model.0, model.1.sub.N.RDB1.conv1.0, model.1.sub.<blocks>, model.3, ...          ESRGAN's code, older

Nothing in such a file says what it was trained on, so the card says that this is not known. A .pth is read as weights
alone, and nothing in it is run.
"""

import io
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor

from zssr_gan.degradation.model import Degradation
from zssr_gan.errors import WeightsError
from zssr_gan.files import atomic_write, sha256_bytes
from zssr_gan.networks.base import mismatch
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions
from zssr_gan.networks.pretrained import one_line, tensors_of
from zssr_gan.training.model_card import CameraCard, Card, OriginCard, encode_generator, options_of

_WRAPPERS: Final[tuple[str, ...]] = ("params_ema", "params", "state_dict")
"""Names under which sets of weights lie in a .pth, the best first: Real-ESRGAN has a running mean beside them."""

_MEND: Final = "have its maker save the state_dict alone"

_FORBIDDEN: Final = re.compile(r"nsupported (?:global: )?GLOBAL (\S{1,100})")
"""How torch names what a pickle wants to call and is not weights."""

_READ: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_FAMILIES: Final[Mapping[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    "body.0.rdb1.conv1.weight": ("BasicSR", ()),
    "RRDB_trunk.0.RDB1.conv1.weight": (
        "ESRGAN",
        (
            *((r"^RRDB_trunk\.", "body."), (r"\.RDB", ".rdb"), (r"^trunk_conv\.", "conv_body.")),
            *((r"^HRconv\.", "conv_hr."), (r"^upconv(\d+)\.", r"conv_up\1.")),
        ),
    ),
    "model.1.sub.0.RDB1.conv1.0.weight": (
        "ESRGAN, older",
        ((r"^model\.1\.sub\.(\d+)\.RDB([123])\.conv([1-5])\.0\.", r"body.\1.rdb\2.conv\3."),),
    ),
}
"""By a name that only one family has: the family, and patterns of its names with what they become."""


def import_generator(source: Path, output: Path) -> Card:
    """Write a generator's file of weights that others trained, and return its card.

    Args:
        source: .pth, read with `weights_only=True`, or .safetensors, of an ESRGAN generator.
        output: the file to be written, with a card; never overwritten.

    Raises:
        WeightsError: the source cannot be read, or is no such generator.
        OutputError: the output exists, or the disk refuses.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise WeightsError(f"{source}: cannot be read ({error.strerror}).") from error
    try:
        wrapper, weights = _unwrap(_load(data))
        family, weights = rename(weights)
        generator = load_esrgan(weights)
    except WeightsError as error:
        raise WeightsError(f"{source}: {str(error).removesuffix('.')}.") from error
    card = Card(
        name=generator.kind,
        options=dict(options_of(generator)),
        images={},
        cameras=(CameraCard.of(Degradation()),),
        origin=OriginCard(file=source.name, sha256=sha256_bytes(data), naming=family, wrapper=wrapper),
    )
    atomic_write(output, encode_generator(generator, card, {}))
    return card


def _load(data: bytes) -> Mapping[str, Any]:
    """The content of a file, by name."""
    if data[:2] != b"PK" and data[:1] != b"\x80":  # neither a zip nor a pickle, as torch has written them
        try:
            return tensors_of(data)
        except WeightsError as error:
            raise WeightsError(f"is no file of torch, and {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd pickle is loaded, or refused in a sentence
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # torch's own words advise to run what is in the file
        why = "is damaged or no file of weights"
        if (wanted := _FORBIDDEN.search(str(error))) is not None:
            why = f"holds more than weights ({wanted[1]}), such as a whole network, and what else it holds is not run"
            why = f"{why} here: {_MEND}"
        raise WeightsError(why) from error
    except Exception as error:  # foreign bytes: a torn or damaged pickle may raise anything while it is read
        raise WeightsError(f"is damaged or no file of weights ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"holds no weights by name, but a {type(content).__name__}")
    return content


def _unwrap(content: Mapping[str, Any]) -> tuple[str | None, dict[str, Tensor]]:
    """The weights, and the name under which they lay, if under one."""
    sets = {str(name): _tensors(value) for name, value in content.items() if isinstance(value, dict)}
    sets = {name: tensors for name, tensors in sets.items() if tensors}
    for wrapper in _WRAPPERS:
        if wrapper in sets:
            return wrapper, sets[wrapper]
    if bare := _tensors(content):
        return None, bare
    if len(sets) == 1:
        return next(iter(sets.items()))
    found = ", ".join(sets or map(str, content)) or "nothing"
    held = "several sets of weights, none" if sets else "no weights, neither bare nor"
    raise WeightsError(f"holds {held} under {', '.join(_WRAPPERS)}, but {found[:120]}: {_MEND}")


def _tensors(found: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Those that lie there by name; DataParallel puts `module.` before each."""
    return {str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)}


def rename(weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The family of weights, and the weights by our names; a name that belongs to no family stays as it is.

    Raises:
        WeightsError: they are those of another network.
    """
    family, changes = next((_FAMILIES[mark] for mark in _FAMILIES if mark in weights), (None, ()))
    if family is None:
        some = ", ".join(list(weights)[:3])
        raise WeightsError(
            f"these are no weights of an ESRGAN generator (RRDB), whose names are others than {some} ..."
        )
    renamed = {}
    for name, weight in weights.items():
        for pattern, own in (*changes, *_numbered(weights)):
            name = re.sub(pattern, own, name)
        renamed[name] = weight
    return family, renamed


def _numbers(pattern: str, weights: Mapping[str, Tensor]) -> set[int]:
    """The numbers that a pattern finds in names."""
    return {int(match[1]) for name in weights if (match := re.match(pattern, name))}


def _numbered(weights: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Changes of the older family's numbers, which count activations and enlargements too; none for other families."""
    blocks = max(_numbers(r"model\.1\.sub\.(\d+)\.", weights), default=0)
    places = sorted(_numbers(r"model\.(\d+)\.(?:weight|bias)$", weights))
    # The first, the doublings', and the last two.
    ours = ["conv_first", *(f"conv_up{n + 1}" for n in range(max(0, len(places) - 3))), "conv_hr", "conv_last"]
    own = [(rf"^model\.{place}\.(?=weight$|bias$)", f"{name}.") for place, name in zip(places, ours, strict=False)]
    return [(rf"^model\.1\.sub\.{blocks}\.(?=weight$|bias$)", "conv_body."), *own]


def options_from(weights: Mapping[str, Tensor]) -> ESRGANOptions:
    """The generator's options, from the shapes of its weights by our names.

    The number of channels is that of the output; the input has more of them where pixels are unshuffled.

    Raises:
        WeightsError: no generator of ours has such weights.
    """
    names = ("conv_first.weight", "conv_last.weight", "body.0.rdb1.conv1.weight")
    for name in names:
        if name not in weights or weights[name].dim() != 4:
            raise WeightsError(f"the weight {name} is missing, or is not that of a convolution")
    (width, inputs, *_), (channels, *_), (growth, *_) = (weights[name].shape for name in names)
    blocks = _numbers(r"body\.(\d+)\.rdb", weights)
    if blocks != set(range(len(blocks))):
        raise WeightsError("some of its blocks are missing: they are not numbered through")
    doublings = len(_numbers(r"conv_up(\d+)\.weight$", weights))
    unshuffle = math.isqrt(max(1, inputs // max(1, channels)))
    scale = 2**doublings // unshuffle
    if inputs != channels * unshuffle**2 or scale * unshuffle != 2**doublings:
        raise WeightsError(
            f"its first convolution takes {inputs} channels, its last gives {channels}, and it doubles the size "
            f"{doublings} times: no generator of this kind is known here"
        )
    try:
        return ESRGANOptions(scale, channels, width, growth, len(blocks), unshuffle)
    except ValueError as error:
        raise WeightsError(f"of this size no generator is known here: {error}") from error


def load_esrgan(weights: Mapping[str, Tensor]) -> ESRGAN:
    """The generator with these weights, by our names, in float32.

    Raises:
        WeightsError: one is missing, is too much, has another shape, is no plain tensor, or is not finite.
    """
    for name, weight in weights.items():  # first, since some kinds cannot even be asked for their shape
        dense = weight.layout == torch.strided and not weight.is_nested and weight.device.type == "cpu"
        if not dense or weight.dtype not in _READ:
            kind = str(weight.dtype).removeprefix("torch.") + ("" if dense else ", and not dense on the CPU")
            read = "float16, bfloat16, float32 and float64"
            raise WeightsError(f"the weight {name} is of type {kind}, and read are dense ones of {read}")
    with torch.device("meta"):  # nothing is drawn, as all is replaced
        network = ESRGAN(options_from(weights))
    if (wrong := mismatch(network, weights)) is not None:
        raise WeightsError(f"the weight {wrong}")
    if surplus := [name for name in weights if name not in network.state_dict()]:
        raise WeightsError(f"the weight {surplus[0]} belongs to no generator of this kind")
    # Copies, as weights may share memory, which no file of ours can.
    copies = {name: weight.to(torch.float32, copy=True) for name, weight in weights.items()}
    for name, weight in copies.items():  # asked of the copy: a double may be too large for it
        if not weight.isfinite().all():
            raise WeightsError(f"the weight {name} is NaN or infinite in float32")
    network.load_state_dict(copies, assign=True)
    return network.requires_grad_(False).eval()
