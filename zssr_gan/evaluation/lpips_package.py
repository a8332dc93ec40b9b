"""LPIPS by its authors' package `lpips`, where the environment has it: it needs torchvision, so it is no dependency.

The package brings the learnt weights w_l of each layer and lets torchvision bring those of the network, which would be
downloaded: here it is asked only where they lie in torch.hub's cache already.
"""

import importlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.lpips import Net
from zssr_gan.files import sha256_file

_PACKAGE = "lpips"
_NETS = {"alexnet": ("alex", "alexnet-owt-7be5be79.pth"), "vgg16": ("vgg", "vgg16-397923af.pth")}
"""As the package calls them, and torchvision's files: the ending is how their SHA-256 begins."""


def from_package(net: Net) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """LPIPS (version 0.1) of `B C H W` and `B C H W`, [0, 1]: B values; and the package's version.

    Nothing is downloaded.

    Raises:
        WeightsError: the package is not there or cannot be used, or the network's weights are not on this machine.
    """
    lacking = "no file of weights of LPIPS was given, and"
    try:
        package: Any = importlib.import_module(_PACKAGE)
        version = metadata.version(_PACKAGE)
    except ImportError as error:  # of torchvision too, without which the package cannot be imported
        missing = "lpips" if error.name in (None, _PACKAGE) else f"{error.name}, which lpips needs,"
        raise WeightsError(f"{lacking} the package {missing} is missing.") from error
    name, file = _NETS[net]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise WeightsError(f"{lacking} the package lpips would have to download its network's: {path} is not there.")
    if not sha256_file(path).startswith(path.stem.rpartition("-")[2]):
        raise WeightsError(f"{path}: is damaged: its SHA-256 is not the one that its name tells of.")
    try:
        network = package.LPIPS(net=name, version="0.1", verbose=False).eval().cpu()
    except Exception as error:  # a foreign package may raise anything
        told = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"the package lpips {version} cannot be used ({told}).") from error

    @torch.no_grad()
    def distance(one: Tensor, other: Tensor) -> Tensor:
        values: Tensor = network(*(2 * image.expand(-1, 3, -1, -1) - 1 for image in (one, other)))
        return values.flatten()

    return distance, version
