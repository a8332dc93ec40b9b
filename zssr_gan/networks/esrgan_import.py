"""ESRGAN's weights under the names that others give them, as ours: the files of the community's generators.

Three families of names are in use for the same network (Wang et al. 2018):

conv_first, body.N.rdb1.conv1, conv_body, conv_up1, conv_hr, conv_last           BasicSR, Real-ESRGAN; ours
conv_first, RRDB_trunk.N.RDB1.conv1, trunk_conv, upconv1, HRconv, conv_last      ESRGAN's code
model.0, model.1.sub.N.RDB1.conv1.0, model.1.sub.<blocks>, model.3, ...          ESRGAN's code, older
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.networks.esrgan import ESRGAN, ESRGANOptions

_PARAMETER: Final = r"\.(weight|bias)$"

_DENSE: Final = re.compile(r"^body\.(\d+)\.rdb[123]\.conv[1-5]" + _PARAMETER)

_OLD: Final = re.compile(r"^model\.(\d+)" + _PARAMETER)

_READ: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def renamed(weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Weights by our names.

    Args:
        weights: by the names of one of the families.

    Returns:
        The family's name, and the weights; a name that belongs to no family stays as it is.

    Raises:
        WeightsError: they are those of another network.
    """
    for family, (mark, rename) in _FAMILIES.items():
        if mark in weights:
            return family, rename(weights)
    some = ", ".join(list(weights)[:3])
    raise WeightsError(f"these are no weights of an ESRGAN generator (RRDB), whose names are others than {some} ...")


def options_of(weights: Mapping[str, Tensor]) -> ESRGANOptions:
    """The generator's options, from the shapes of its weights by our names.

    The number of channels is that of the output; what the input has more of them came by unshuffling.

    Raises:
        WeightsError: no generator of ours has such weights.
    """
    first, last = (_shape(weights, name) for name in ("conv_first.weight", "conv_last.weight"))
    growth = _shape(weights, "body.0.rdb1.conv1.weight")[0]
    blocks = {int(match[1]) for match in map(_DENSE.match, weights) if match}
    if blocks != set(range(len(blocks))):
        raise WeightsError("some of its blocks are missing: they are not numbered through")
    doublings = sum(re.fullmatch(r"conv_up\d+\.weight", name) is not None for name in weights)
    channels, unshuffle = last[0], math.isqrt(max(1, first[1] // max(1, last[0])))
    scale = 2**doublings // unshuffle
    if first[1] != channels * unshuffle**2 or scale * unshuffle != 2**doublings:
        raise WeightsError(
            f"its first convolution takes {first[1]} channels, its last gives {channels}, and it doubles the size "
            f"{doublings} times: no generator of this kind is known here"
        )
    try:
        return ESRGANOptions(scale, channels, first[0], growth, len(blocks), unshuffle)
    except ValueError as error:
        raise WeightsError(f"of this size no generator is known here: {error}") from error


def esrgan_of(weights: Mapping[str, Tensor]) -> ESRGAN:
    """The generator that weights by our names are those of, in float32.

    Raises:
        WeightsError: one is missing, is too much, has another shape, is no plain tensor, or is not finite.
    """
    for name, weight in weights.items():
        _refuse_unusual(name, weight)  # first, since some kinds cannot even be asked for their shape
    with torch.device("meta"):  # nothing is drawn, as all is replaced
        network = ESRGAN(options_of(weights))
    wanted = network.state_dict()
    for name in [*wanted, *weights]:
        if name not in weights:
            raise WeightsError(f"the weight {name} is missing")
        if name not in wanted:
            raise WeightsError(f"the weight {name} belongs to no generator of this kind")
        if weights[name].shape != wanted[name].shape:
            shapes = ["x".join(map(str, one.shape)) for one in (weights[name], wanted[name])]
            raise WeightsError(f"the weight {name} is {shapes[0]}, not {shapes[1]}")
    network.load_state_dict({name: _as_float32(name, weight) for name, weight in weights.items()}, assign=True)
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


def _as_float32(name: str, weight: Tensor) -> Tensor:
    """A copy, as weights may share memory, which no file of ours can. Raises WeightsError where it is not finite."""
    single = weight.to(torch.float32, copy=True)
    if not single.isfinite().all():  # asked of the copy: a double may be too large for it
        raise WeightsError(f"the weight {name} is NaN or infinite in float32")
    return single


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in weights or weights[name].dim() != 4:
        raise WeightsError(f"the weight {name} is missing, or is not that of a convolution")
    return tuple(weights[name].shape)


def _as_they_are(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(weights)


def _from_trunk(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of ESRGAN's code."""
    changes = (("RRDB_trunk.", "body."), (".RDB", ".rdb"), ("trunk_conv.", "conv_body."), ("HRconv.", "conv_hr."))

    def ours(name: str) -> str:
        for theirs, mine in changes:
            name = name.replace(theirs, mine)
        return re.sub(r"^upconv(\d+)\.", r"conv_up\1.", name)

    return {ours(name): weight for name, weight in weights.items()}


def _from_sequence(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the older code: a numbered list, in which activations and enlargements count too."""
    last_block = max(
        (int(m[1]) for m in (re.match(r"^model\.1\.sub\.(\d+)\.", name) for name in weights) if m), default=0
    )
    places = sorted({int(match[1]) for match in map(_OLD.match, weights) if match})
    names = {f"model.1.sub.{last_block}": "conv_body"}
    # The first, the doublings', and the last two.
    ours = ["conv_first", *(f"conv_up{n + 1}" for n in range(max(0, len(places) - 3))), "conv_hr", "conv_last"]
    names |= {f"model.{place}": mine for place, mine in zip(places, ours, strict=False)}

    def own(name: str) -> str:
        head, _, parameter = name.rpartition(".")
        dense = re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB([123])\.conv([1-5])\.0", head)
        mine = f"body.{dense[1]}.rdb{dense[2]}.conv{dense[3]}" if dense else names.get(head, head)
        return f"{mine}.{parameter}"

    return {own(name): weight for name, weight in weights.items()}


_FAMILIES: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]]] = {
    "BasicSR": ("body.0.rdb1.conv1.weight", _as_they_are),
    "ESRGAN": ("RRDB_trunk.0.RDB1.conv1.weight", _from_trunk),
    "ESRGAN, older": ("model.1.sub.0.RDB1.conv1.0.weight", _from_sequence),
}
"""Of each, a name that no other has, and how its names become ours."""
