"""Weights of networks that others trained: by name, fetched on the user's order alone; from a file; or random.

A published file is kept in a cache folder (`cache_folder`), and is used only while its SHA-256 is the published one.
"""

import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load, load_file
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.files import atomic_write, is_leftover, sha256_file
from zssr_gan.networks.vgg import VGG, VGGOptions, orthogonal_weights

FOLDER_VARIABLE = "ZSSR_GAN_WEIGHTS"

_PIECE_BYTES = 1 << 20

_TIMEOUT_S = 30.0

_LEFTOVER_AGE_S = 24 * 3600.0  # a download that is younger may still be going on, in another process

_LONGEST_REASON = 120  # characters


@dataclass(frozen=True, slots=True)
class Published:
    """A file of weights that somebody publishes."""

    name: str
    """What `zssr-gan weights fetch` calls it."""
    what: str
    """For a person."""
    url: str
    sha256: str
    size_bytes: int

    @property
    def path(self) -> Path:
        """Where it is kept here, whether it is there or not."""
        return cache_folder() / self.url.rsplit("/", 1)[-1]

    def as_json(self) -> dict[str, object]:
        """For scripts: all of it, and whether the file is there."""
        return {**asdict(self), "path": str(self.path), "here": self.path.is_file()}


PUBLISHED = {
    "vgg19": Published(
        name="vgg19",
        what="VGG19 learnt on ImageNet, by torchvision (IMAGENET1K_V1)",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        # torchvision states its first 8 digits, in the file's name; the whole stands in projects that pin the file.
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        size_bytes=574_673_361,
    )
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a network's weights are from: for logs, checkpoints and reports."""

    network: str
    kind: Literal["imagenet", "file", "random"]
    sha256: str
    """Of the file; of random weights, of their bytes one after the other."""
    source: str
    """The published address, the file's name, or the seed."""

    @property
    def warning(self) -> str | None:
        """What must be said aloud wherever results are shown; None where there is nothing to warn of."""
        if self.kind != "random":
            return None
        return (
            f"{self.network} has RANDOM weights ({self.source}), not those learnt on ImageNet: its features are of no "
            "objects, and figures made with it are not comparable to the papers'"
        )


def cache_folder() -> Path:
    """Where fetched weights are kept: $ZSSR_GAN_WEIGHTS, or `zssr-gan/weights` in the platform's cache folder."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "zssr-gan" / "weights"


def published(name: str) -> Published:
    """The published weights of a name; WeightsError where there are none."""
    if name not in PUBLISHED:
        raise WeightsError(f"no published weights are called {name!r}; there are: {', '.join(PUBLISHED)}.")
    return PUBLISHED[name]


def damage(found: Published) -> str | None:
    """What is wrong with a file in the cache, by its size and its hash; None where it is as published.

    Raises WeightsError where it is not there, or cannot be read.
    """
    try:
        size = found.path.stat().st_size
        sha256 = sha256_file(found.path)
    except FileNotFoundError:
        raise WeightsError(f"{found.path}: is not there; run `zssr-gan weights fetch {found.name}`.") from None
    except OSError as error:
        raise WeightsError(f"{found.path}: cannot be read ({error.strerror}).") from error
    if size != found.size_bytes:
        return f"it has {size} bytes, not {found.size_bytes}"
    return None if sha256 == found.sha256 else f"its SHA-256 is {sha256}, not {found.sha256}"


def fetch(found: Published, on_progress: Callable[[int, int], None] | None = None) -> bool:
    """Download published weights into the cache, unless they are there and right; a damaged file is replaced.

    Size and SHA-256 are checked before the file gets its name: whatever fails, what was there before is there still.

    Args:
        found: see `PUBLISHED`.
        on_progress: is told bytes done and bytes in all.

    Returns:
        Whether anything was downloaded.

    Raises:
        WeightsError: the download fails, or brings another file than was published.
        OutputError: the disk refuses.
    """
    path = found.path
    if path.is_file() and damage(found) is None:
        return False
    _remove_leftovers(path.parent)
    atomic_write(path, _checked(found, on_progress), overwrite=True)
    return True


def _checked(found: Published, on_progress: Callable[[int, int], None] | None) -> Iterator[bytes]:
    """The pieces of the download. Raises WeightsError at its end where it is not the published file."""
    told, done = hashlib.sha256(), 0
    for piece in _download(found):
        done += len(piece)
        if done > found.size_bytes:
            break
        told.update(piece)
        yield piece
        if on_progress is not None:
            on_progress(done, found.size_bytes)
    if done != found.size_bytes:
        amount = "more than the" if done > found.size_bytes else f"{done} of the"
        raise WeightsError(
            f"{found.url}: the download brought {amount} {found.size_bytes} bytes, and was not kept; try again."
        )
    if told.hexdigest() != found.sha256:
        raise WeightsError(
            f"{found.url}: the file has SHA-256 {told.hexdigest()}, not the published {found.sha256}, and was not "
            "kept; try again, or from another network."
        )


def vgg(options: VGGOptions, weights: str, *, seed: int = 0) -> tuple[VGG, Origin]:
    """VGG19 or VGG16 with weights by name, on the CPU. No network is touched.

    Args:
        options: which features, and of which of the two.
        weights: `imagenet` (must have been fetched), `random` (seeded, orthogonal), or a file: .pth or .safetensors,
            with torchvision's names.
        seed: of random weights.

    Raises:
        WeightsError: the weights are missing, damaged, or not this network's.
    """
    name = options.network.upper()
    if weights == "random":
        tensors = orthogonal_weights(torch.Generator().manual_seed(seed), options.network)
        return VGG(options, tensors), Origin(name, "random", _sha256_of(tensors), f"seed {seed}")
    if weights == "imagenet":
        if options.network not in PUBLISHED:
            raise WeightsError(
                f"{name}'s ImageNet weights are not among those that `zssr-gan weights` fetches: set weights to a file "
                f"of them, such as torchvision's {options.network}, or to random."
            )
        found = published(options.network)
        if not found.path.exists():
            raise WeightsError(
                f"{name}'s ImageNet weights are not on this machine ({found.path}): run "
                f"`zssr-gan weights fetch {found.name}`, or set weights to a file of them or to random."
            )
        if (wrong := damage(found)) is not None:
            raise WeightsError(f"{found.path}: is damaged ({wrong}); run `zssr-gan weights fetch {found.name}` again.")
        return VGG(options, read_tensors(found.path)), Origin(name, "imagenet", found.sha256, found.url)
    path = Path(weights)
    tensors = read_tensors(path)
    try:
        network = VGG(options, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    return network, Origin(name, "file", sha256_file(path), path.name)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .pth, .pt or .safetensors file. Nothing in it is run.

    Raises WeightsError where it is missing, is of another kind, or holds anything but named tensors.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        **dict.fromkeys((".pth", ".pt"), lambda file: torch.load(file, map_location="cpu", weights_only=True)),
        ".safetensors": load_file,
    }
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; weights are imagenet, random, or a file.")
    if path.suffix.lower() not in readers:
        raise WeightsError(f"{path}: weights are read from .pth, .pt and .safetensors alone.")
    try:
        tensors = readers[path.suffix.lower()](path)
    except Exception as error:  # a foreign file may raise anything while it is read
        raise WeightsError(
            f"{path}: cannot be read as plain tensors, and nothing else is read ({one_line(error)})."
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path}: holds something else than named tensors; give the weights (state_dict) alone.")
    return {str(name): tensor for name, tensor in tensors.items()}


def tensors_of(data: bytes) -> dict[str, Tensor]:
    """The named tensors in the bytes of a .safetensors file.

    Raises WeightsError where it is none, without the file's name, which the caller knows.
    """
    try:
        return load(data)
    except KeyError as error:  # safetensors' names of types, such as F4, of which it gives torch only some
        raise WeightsError(f"cannot be read as safetensors (it holds tensors of type {error.args[0]})") from error
    except Exception as error:  # a foreign file may raise anything while it is read
        raise WeightsError(f"cannot be read as safetensors ({one_line(error)})") from error


def one_line(error: Exception) -> str:
    """What another library's error says, short enough for a sentence of ours."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__


def _download(found: Published) -> Iterator[bytes]:
    request = urllib.request.Request(found.url, headers={"User-Agent": "zssr-gan"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            while piece := response.read(_PIECE_BYTES):
                yield piece
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{found.url}: cannot be downloaded ({_reason(error)}); try again, or fetch the file on "
            f"another machine and put it at {found.path}."
        ) from error


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    told = inner.strerror if isinstance(inner, OSError) else None
    return (
        f"HTTP {error.code}"
        if isinstance(error, urllib.error.HTTPError)
        else told or str(inner) or type(inner).__name__
    )


def _remove_leftovers(folder: Path) -> None:
    """What downloads left that were killed in their middle: they are large, and nothing else removes them."""
    for path in folder.glob(".*") if folder.is_dir() else ():
        try:
            if is_leftover(path) and time.time() - path.stat().st_mtime > _LEFTOVER_AGE_S:
                path.unlink()
        except OSError:  # gone by now, or another's: neither stands in the way of this download
            continue


def _sha256_of(tensors: dict[str, Tensor]) -> str:
    told = hashlib.sha256()
    for tensor in tensors.values():
        told.update(tensor.contiguous().numpy().tobytes())
    return told.hexdigest()
