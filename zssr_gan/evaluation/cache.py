"""Results on the disk under a hash of all that they depend on, so that nothing is computed twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zssr_gan.files import atomic_write, canonical_sha256, with_checksum, without_checksum
from zssr_gan.imaging.colour import to_levels
from zssr_gan.seeds import content_hash
from zssr_gan.signals import uninterrupted

_PACKAGES = ("zssr-gan", "numpy", "scipy", "pillow", "scikit-image", "torchmetrics", "lpips")
"""Packages that results and figures depend on, beside torch."""

T = TypeVar("T")

Key = Mapping[str, object]
"""All that a result depends on, beside versions of packages."""


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """A method's images on 8-bit levels, and the mean seconds an image."""

    images: tuple[Tensor, ...]
    seconds: float
    disagreements: tuple[Tensor, ...] = ()
    """`sH sW` each: how far the method's views disagree, in levels of 255; empty where it has a single view."""


def joined(parts: Sequence[Results]) -> Results:
    """Results of several groups of images, one after the other."""
    seconds = sum(one.seconds * len(one.images) for one in parts)
    images = tuple(image for one in parts for image in one.images)
    return Results(images, seconds / len(images), tuple(one for part in parts for one in part.disagreements))


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of results; a damaged one is computed again, and the folder may be deleted at any time."""

    folder: Path

    def results(self, name: str, key: Key, compute: Callable[[], Results]) -> Results:
        """A method's results, cached or computed now."""
        return self._get(self.path(f"{name}-", key, ".safetensors"), _decode, _encode, compute)

    def value(self, name: str, key: Key, kind: type[T], compute: Callable[[], T]) -> T:
        """A value of a type that pydantic knows, cached or computed now."""
        adapter = TypeAdapter(kind)
        return self._get(self.path(f"{name}-", key, ".json"), adapter.validate_json, adapter.dump_json, compute)

    def path(self, prefix: str, key: Key, suffix: str = "") -> Path:
        """Path of what depends on `key`."""
        versions = {"torch": torch.__version__, **{package: version_of(package) for package in _PACKAGES}}
        return self.folder / f"{prefix}{canonical_sha256({**key, 'versions': versions})[:16]}{suffix}"

    @staticmethod
    def _get(path: Path, decode: Callable[[bytes], T], encode: Callable[[T], bytes], compute: Callable[[], T]) -> T:
        try:
            return decode(without_checksum(path.read_bytes()))
        except (OSError, ValueError, SafetensorError, KeyError):  # not there, or damaged
            value = compute()
        with uninterrupted():
            atomic_write(path, with_checksum(encode(value)), overwrite=True)
        return value


@cache
def version_of(package: str) -> str:
    """The installed version of a package, or `not installed`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def hash_of(images: Sequence[Tensor]) -> str:
    """SHA-256 of the pixels of images, in their order."""
    return canonical_sha256([content_hash(image) for image in images])


def _encode(results: Results) -> bytes:
    levels = {str(n): to_levels(image).contiguous() for n, image in enumerate(results.images)}
    maps = {f"disagreement {n}": one.half().contiguous() for n, one in enumerate(results.disagreements)}
    return save({**levels, **maps, "seconds": torch.tensor(results.seconds, dtype=torch.float64)})


def _decode(data: bytes) -> Results:
    tensors = load(data)
    seconds = float(tensors.pop("seconds"))
    count = sum(name.startswith("disagreement") for name in tensors)
    maps = tuple(tensors.pop(f"disagreement {n}").float() for n in range(count))
    return Results(tuple(tensors[str(n)].float().div(255) for n in range(len(tensors))), seconds, maps)
