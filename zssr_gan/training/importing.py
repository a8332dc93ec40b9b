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
    except Exception as error:  # foreign bytes: a torn or damaged pickle may raise anything while it is read
        raise WeightsError(_refusal(error)) from error
    if not isinstance(content, dict):
        raise WeightsError(f"holds no weights by name, but a {type(content).__name__}")
    return content


def _refusal(error: Exception) -> str:
    """Why torch did not load a file."""
    if not isinstance(error, UnpicklingError):
        return f"is damaged or no file of weights ({one_line(error)})"
    if (wanted := _FORBIDDEN.search(str(error))) is None:  # torch's own words advise to run what is in the file
        return "is damaged or no file of weights"
    return (
        f"holds more than weights ({wanted[1]}), such as a whole network, and what else it holds is not run here: "
        f"{_MEND}"
    )


def _unwrap(content: Mapping[str, Any]) -> tuple[str | None, dict[str, Tensor]]:
    """The weights, and the name under which they lay, if under one."""
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


def rename(weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Name weights as we do.

    Args:
        weights: by the names of one of the families.

    Returns:
        The family's name, and the weights; a name that belongs to no family stays as it is.

    Raises:
        WeightsError: they are those of another network.
    """
    for mark, (family, changes) in _FAMILIES.items():
        if mark not in weights:
            continue
        changes, renamed = (*changes, *_numbered(weights)), {}
        for name, weight in weights.items():
            for pattern, own in changes:
                name = re.sub(pattern, own, name)
            renamed[name] = weight
        return family, renamed
    some = ", ".join(list(weights)[:3])
    raise WeightsError(f"these are no weights of an ESRGAN generator (RRDB), whose names are others than {some} ...")


def _numbered(weights: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Changes of the older family's numbers, which count activations and enlargements too; none for other families."""
    blocks = max(
        (int(match[1]) for name in weights if (match := re.match(r"^model\.1\.sub\.(\d+)\.", name))), default=0
    )
    places = sorted(
        {int(match[1]) for name in weights if (match := re.fullmatch(r"model\.(\d+)\.(?:weight|bias)", name))}
    )
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
    blocks = {int(match[1]) for name in weights if (match := re.match(r"^body\.(\d+)\.rdb", name))}
    if blocks != set(range(len(blocks))):
        raise WeightsError("some of its blocks are missing: they are not numbered through")
    doublings = sum(re.fullmatch(r"conv_up\d+\.weight", name) is not None for name in weights)
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
    for name, weight in weights.items():
        _refuse_unusual(name, weight)  # first, since some kinds cannot even be asked for their shape
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


def _refuse_unusual(name: str, weight: Tensor) -> None:
    """Sparse, quantised, nested, without values (meta), of integers, complex numbers or 8 bits: of such no generator
    of these families is made, and torch can do with most of them next to nothing."""
    dense = weight.layout == torch.strided and not weight.is_nested and weight.device.type == "cpu"
    if dense and weight.dtype in _READ:
        return
    kind = str(weight.dtype).removeprefix("torch.")
    form = "" if dense else ", and not dense on the CPU"
    raise WeightsError(
        f"the weight {name} is of type {kind}{form}, and read are dense ones of float16, bfloat16, float32 and float64"
    )
