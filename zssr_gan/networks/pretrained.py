"""Weights of networks that others trained: by name, fetched on the user's order alone; from a file; or random.

A published file lies in a cache folder (`cache_folder`), and is used only while its SHA-256 is the published one.
`torch.hub` is not used: it reports no progress to a caller, and waits forever for a server that falls silent.
"""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import platformdirs
import torch
from safetensors.torch import load
from torch import Tensor

from zssr_gan.errors import WeightsError
from zssr_gan.files import atomic_write, is_leftover, sha256_file
from zssr_gan.networks.vgg import VGG, Network, VGGOptions, orthogonal_weights
from zssr_gan.progress import OnCount

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
        """Its place in the cache, whether it is there or not."""
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
        """What must stand wherever results are shown; None where there is nothing to warn of."""
        if self.kind != "random":
            return None
        return (
            f"{self.network} has RANDOM weights ({self.source}), not those learnt on ImageNet: its features are of no "
            "objects, and figures made with it are not comparable to the papers'"
        )


def cache_folder() -> Path:
    """The folder of fetched weights: $ZSSR_GAN_WEIGHTS, or `zssr-gan/weights` in the platform's cache folder."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("zssr-gan", appauthor=False, opinion=False) / "weights"


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


def fetch(found: Published, on_progress: OnCount | None = None) -> bool:
    """Download published weights into the cache, unless they are there and right; a damaged file is replaced.

    Size and SHA-256 are checked before the file gets its name: whatever fails, what was there before is there still.

    Args:
        found: see `PUBLISHED`.
        on_progress: called with bytes done and bytes in all.

    Returns:
        Whether anything was downloaded.

    Raises:
        WeightsError: the download fails, or brings another file than was published.
        OutputError: the disk refuses.
    """
    path = found.path
    if path.is_file() and damage(found) is None:
        return False
    for leftover in path.parent.glob(".*"):  # of killed downloads: they are large, and nothing else removes them
        try:
            if is_leftover(leftover) and time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_S:
                leftover.unlink()
        except OSError:  # gone by now, or another's: neither stands in the way of this download
            continue
    atomic_write(path, _download(found, on_progress), overwrite=True)
    return True


def _download(found: Published, on_progress: OnCount | None) -> Iterator[bytes]:
    """The pieces of the file. Raises WeightsError at their end where it is not the published one."""
    digest, done = hashlib.sha256(), 0
    request = urllib.request.Request(found.url, headers={"User-Agent": "zssr-gan"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            while done <= found.size_bytes and (piece := response.read(_PIECE_BYTES)):
                done += len(piece)
                digest.update(piece)
                yield piece
                if on_progress is not None:
                    on_progress(min(done, found.size_bytes), found.size_bytes)
    except (OSError, http.client.HTTPException) as error:
        inner = error.reason if isinstance(error, urllib.error.URLError) else error
        why = (inner.strerror if isinstance(inner, OSError) else None) or str(inner) or type(inner).__name__
        if isinstance(error, urllib.error.HTTPError):
            why = f"HTTP {error.code}"
        raise WeightsError(
            f"{found.url}: cannot be downloaded ({why}); try again, or fetch the file on another machine and put it at "
            f"{found.path}."
        ) from error
    if done != found.size_bytes:
        amount = "more than the" if done > found.size_bytes else f"{done} of the"
        raise WeightsError(
            f"{found.url}: the download brought {amount} {found.size_bytes} bytes, and was not kept; try again."
        )
    if digest.hexdigest() != found.sha256:
        raise WeightsError(
            f"{found.url}: the file has SHA-256 {digest.hexdigest()}, not the published {found.sha256}, and was not "
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
    network, name = options.network, options.network.upper()
    if weights == "random":
        tensors, sha256 = _random_weights(network, seed)
        return VGG(options, tensors), Origin(name, "random", sha256, f"seed {seed}")
    if weights != "imagenet":
        path = Path(weights)
        tensors = read_tensors(path)
        try:
            return VGG(options, tensors), Origin(name, "file", sha256_file(path), path.name)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
    if network not in PUBLISHED:
        raise WeightsError(
            f"{name}'s ImageNet weights are not among those that `zssr-gan weights` fetches: set weights to a file of "
            f"them, such as torchvision's {network}, or to random."
        )
    found = published(network)
    if not found.path.exists():
        raise WeightsError(
            f"{name}'s ImageNet weights are not on this machine ({found.path}): run "
            f"`zssr-gan weights fetch {found.name}`, or set weights to a file of them or to random."
        )
    if (wrong := damage(found)) is not None:
        raise WeightsError(f"{found.path}: is damaged ({wrong}); run `zssr-gan weights fetch {found.name}` again.")
    return VGG(options, read_tensors(found.path)), Origin(name, "imagenet", found.sha256, found.url)


@lru_cache(maxsize=1)
def _random_weights(network: Network, seed: int) -> tuple[dict[str, Tensor], str]:
    """Weights and their SHA-256; cached, since they take a second and several metrics look through the same network."""
    tensors = orthogonal_weights(torch.Generator().manual_seed(seed), network)
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return tensors, digest.hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .pth, .pt or .safetensors file. Nothing in it is run.

    Raises WeightsError where it is missing, is of another kind, or holds anything but named tensors.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; weights are imagenet, random, or a file.")
    if kind not in (".pth", ".pt", ".safetensors"):
        raise WeightsError(f"{path}: weights are read from .pth, .pt and .safetensors alone.")
    try:
        if kind == ".safetensors":
            return tensors_of(path.read_bytes())
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
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
    """Another library's error in one line, short enough for a sentence of ours."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
