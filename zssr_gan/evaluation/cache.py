"""Results that are kept by a hash of all that they hang on, so that nothing is computed twice."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, JsonValue
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.files import atomic_write, canonical_sha256, verify, with_checksum
from zssr_gan.seeds import content_hash
from zssr_gan.signals import uninterrupted

_PACKAGES = ("zssr-gan", "numpy", "scipy", "pillow", "scikit-image", "torchmetrics", "lpips")
"""What computes results and figures, beside torch."""

M = TypeVar("M", bound=BaseModel)

Figures = dict[str, list[Figure]]
"""By definition, image by image."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a method made of images, on 8-bit levels, and how long it took of each on the mean."""

    images: tuple[Tensor, ...]
    seconds: float
    disagreements: tuple[Tensor, ...] = ()
    """`sH sW` each: how far the method's views disagree, in levels of 255; empty where it has one view alone."""

    @property
    def sha256(self) -> str:
        """Of all pixels."""
        return hash_of(self.images)


def joined(parts: Sequence[Made]) -> Made:
    """What was made of several groups of images, one after the other."""
    count = sum(len(one.images) for one in parts)
    return Made(
        tuple(image for one in parts for image in one.images),
        sum(one.seconds * len(one.images) for one in parts) / count,
        tuple(one for part in parts for one in part.disagreements),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of results; one that is damaged is made again.

    Args:
        folder: where they lie; it may be deleted at any time.
    """

    folder: Path

    def made(self, name: str, facts: Mapping[str, JsonValue], make: Callable[[], Made]) -> Made:
        """Images of a method: those that are kept with the same facts, or made now."""
        path = self.path(name, facts, "safetensors")
        try:
            return _decoded(verify(path.read_bytes()))
        except (OSError, ValueError, SafetensorError, KeyError):
            made = make()
        self._write(path, _encoded(made))
        return made

    def figures(self, name: str, facts: Mapping[str, JsonValue], make: Callable[[], Figures]) -> Figures:
        """Figures of a method, the same way."""
        path = self.path(name, facts, "json")
        try:
            read = json.loads(verify(path.read_bytes()))
            return {key: [Figure(key, value, why) for value, why in cells] for key, cells in read.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            figures = make()
        plain = {key: [[one.value, one.why] for one in cells] for key, cells in figures.items()}
        self._write(path, (json.dumps(plain, allow_nan=False) + "\n").encode())
        return figures

    def model(self, name: str, facts: Mapping[str, JsonValue], kind: type[M], make: Callable[[], M]) -> M:
        """A pydantic model, the same way."""
        path = self.path(name, facts, "json")
        try:
            return kind.model_validate_json(verify(path.read_bytes()))
        except (OSError, ValueError):
            found = make()
        self._write(path, (found.model_dump_json() + "\n").encode())
        return found

    def path(self, name: str, facts: Mapping[str, JsonValue], extension: str) -> Path:
        """Where what hangs on these facts lies; without an extension, a folder."""
        versions = {"torch": torch.__version__, **{name: _version(name) for name in _PACKAGES}}
        stem = f"{name}-{canonical_sha256({**facts, 'versions': versions})[:16]}"
        return self.folder / (f"{stem}.{extension}" if extension else stem)

    def _write(self, path: Path, data: bytes) -> None:
        with uninterrupted():
            atomic_write(path, with_checksum(data), overwrite=True)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def hash_of(images: Sequence[Tensor]) -> str:
    """SHA-256 of the pixels of images, in their order."""
    return canonical_sha256([content_hash(image) for image in images])


def _encoded(made: Made) -> bytes:
    levels = {str(n): image.mul(255).round().to(torch.uint8).contiguous() for n, image in enumerate(made.images)}
    maps = {f"disagreement {n}": one.half().contiguous() for n, one in enumerate(made.disagreements)}
    return save({**levels, **maps, "seconds": torch.tensor(made.seconds, dtype=torch.float64)})


def _decoded(data: bytes) -> Made:
    tensors = load(data)
    seconds = float(tensors.pop("seconds"))
    maps = [name for name in tensors if name.startswith("disagreement")]
    disagreements = tuple(tensors.pop(f"disagreement {n}").float() for n in range(len(maps)))
    return Made(tuple(tensors[str(n)].float().div(255) for n in range(len(tensors))), seconds, disagreements)
