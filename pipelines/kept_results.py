"""Results that are kept by a hash of all that they hang on, so that nothing is computed twice."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zssr_gan.evaluation.metric import Figure
from zssr_gan.files import atomic_write, canonical_sha256
from zssr_gan.interrupts import uninterrupted
from zssr_gan.zeroshot.seeds import content_hash

Figures = dict[str, list[Figure]]
"""By definition, image by image."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a method made of images, on 8-bit levels, and how long it took of each on the mean."""

    images: tuple[Tensor, ...]
    seconds: float

    @property
    def sha256(self) -> str:
        """Of all pixels."""
        return hash_of(self.images)


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of results; one that is damaged is made again.

    Args:
        folder: where they lie; it may be deleted at any time.
    """

    folder: Path

    def made(self, name: str, facts: Mapping[str, JsonValue], make: Callable[[], Made]) -> Made:
        """Images of a method: those that are kept with the same facts, or made now."""
        path = self._path(name, facts, "safetensors")
        try:
            tensors = load(path.read_bytes())
            seconds = float(tensors.pop("seconds"))
            return Made(tuple(tensors[str(n)].float().div(255) for n in range(len(tensors))), seconds)
        except (OSError, SafetensorError, KeyError):
            made = make()
        levels = {str(n): image.mul(255).round().to(torch.uint8).contiguous() for n, image in enumerate(made.images)}
        self._write(path, save({**levels, "seconds": torch.tensor(made.seconds, dtype=torch.float64)}))
        return made

    def figures(self, name: str, facts: Mapping[str, JsonValue], make: Callable[[], Figures]) -> Figures:
        """Figures of a method, the same way."""
        path = self._path(name, facts, "json")
        try:
            read = json.loads(path.read_bytes())
            return {key: [Figure(key, value, why) for value, why in cells] for key, cells in read.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            figures = make()
        plain = {key: [[one.value, one.why] for one in cells] for key, cells in figures.items()}
        self._write(path, (json.dumps(plain, allow_nan=False) + "\n").encode())
        return figures

    def _path(self, name: str, facts: Mapping[str, JsonValue], extension: str) -> Path:
        versions = {"zssr-gan": metadata.version("zssr-gan"), "torch": torch.__version__}
        return self.folder / f"{name}-{canonical_sha256({**facts, 'versions': versions})[:16]}.{extension}"

    def _write(self, path: Path, data: bytes) -> None:
        with uninterrupted():
            atomic_write(path, data, overwrite=True)


def hash_of(images: Sequence[Tensor]) -> str:
    """SHA-256 of the pixels of images, in their order."""
    return canonical_sha256([content_hash(image) for image in images])
