"""A trained generator as a file: safetensors, and in it the card that says what it is and what it was trained on."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from zssr_gan.errors import SettingsError, WeightsError, ZssrGanError
from zssr_gan.files import sha256_bytes, write_together
from zssr_gan.imaging.degradation import Degradation
from zssr_gan.networks.srgan import Generator
from zssr_gan.stages import NetworkSettings
from zssr_gan.training.models import generator_of

_KEY = "zssr-gan:generator"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageList(_Model):
    """Images that a generator was trained on or measured with."""

    count: int
    sha256: str
    """Of the list of their ids, as JSON."""


class CameraCard(_Model):
    """What a camera is taken to have done to the scene."""

    values: Degradation
    sha256: str
    """Of the values as canonical JSON."""

    @model_validator(mode="after")
    def _is_hashed(self) -> Self:
        if self.values.sha256 != self.sha256:
            raise ValueError("a camera's degradation was changed after it was hashed")
        return self

    @classmethod
    def of(cls, degradation: Degradation) -> Self:
        """With its hash."""
        return cls(values=degradation, sha256=degradation.sha256)


class MediatorCard(_Model):
    """Where the mediator's weights are from."""

    network: str
    kind: str
    sha256: str
    source: str
    warning: str | None


class Card(_Model):
    """What a generator is, and how it came about."""

    schema_version: Literal[2] = 2
    label: Literal["generative"] = "generative"
    """What its outputs were learnt from: other images."""
    name: str
    options: dict[str, JsonValue]
    """All options of the network."""
    images: dict[str, ImageList]
    """`inputs`: the generator's; `reals`: the discriminator's; `held_out`: validation's."""
    cameras: tuple[CameraCard, ...] = Field(min_length=1)
    """Each of those that took the generator's images, once; what is made by it is held against the input by it."""
    split_sha256: str
    store_sha256: str
    """Of the settings that the synthetic images were made with."""
    mediator: MediatorCard | None
    settings: dict[str, JsonValue]
    """The group `train`, as it was used."""
    seed: int
    step: int
    steps: int
    """Of the whole training."""
    phase: str
    mean_weights: bool
    """Whether the weights are the running mean."""
    metrics: dict[str, JsonValue]
    """The validation at that step."""
    precision: str
    device: str
    versions: dict[str, str]

    @property
    def warnings(self) -> list[str]:
        """What must be said wherever its results are shown."""
        return [self.mediator.warning] if self.mediator is not None and self.mediator.warning else []


def write_generator(folder: Path, generator: Generator, card: Card) -> Path:
    """Write generator.safetensors and card.json, replacing earlier ones; the path of the first."""
    text = card.model_dump_json(indent=1)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    path = folder / "generator.safetensors"
    contents = {path: save(tensors, {_KEY: text}), folder / "card.json": (text + "\n").encode()}
    write_together(contents, replaceable=list(contents))
    return path


def _read(path: Path) -> tuple[bytes, dict[str, Tensor], Card]:
    """A generator's file, its weights and its card. Raises WeightsError where it is none."""
    try:
        data = path.read_bytes()
        weights = load(data)
    except OSError as error:
        raise WeightsError(f"{path}: the generator cannot be read ({error.strerror}).") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: cannot be read as safetensors ({error}).") from error
    # safetensors' loader of bytes leaves the text out; the header is a length and JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(_KEY)
    if text is None:
        raise WeightsError(f"{path}: holds no generator of zssr-gan: it has no card.")
    try:
        return data, weights, Card.model_validate_json(text)
    except ValidationError as error:
        if any(one["loc"] == ("schema_version",) for one in error.errors()):
            raise WeightsError(
                f"{path}: was written by another version of zssr-gan, with another card: train again, or use "
                "that version."
            ) from error
        why = error.errors(include_url=False)[0]["msg"]
        raise WeightsError(f"{path}: its card cannot be read by this version of zssr-gan ({why}).") from error


def read_generator(path: Path) -> tuple[Generator, Card]:
    """A trained generator on the CPU, ready for use (`eval`), and its card.

    Raises WeightsError where the file is missing, damaged, or not a generator's.
    """
    loaded = load_generator(path)
    return loaded.network, loaded.card


def load_generator(path: Path | str) -> "TrainedGenerator":
    """A trained generator on the CPU, ready for use, with its card; WeightsError where the file is not one."""
    path = Path(path)
    data, weights, card = _read(path)
    try:
        generator = generator_of(NetworkSettings(name=card.name, options=card.options), {}, torch.Generator())
        generator.load_state_dict(weights)
    except (ZssrGanError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: its weights do not fit its card ({' '.join(str(error).split())[:120]})."
        ) from error
    return TrainedGenerator(generator.requires_grad_(False), card, sha256_bytes(data)).eval()


class TrainedGenerator(nn.Module):
    """A generator for use: images `B C H W` in [0, 1] of any size to `B C sH sW`, clipped to [0, 1].

    `card` says what it is, `sha256` is that of its file's bytes, `facts` what a caller must know.
    """

    def __init__(self, network: Generator, card: Card, sha256: str) -> None:
        super().__init__()
        self.network, self.card, self.sha256, self.facts = network, card, sha256, network.facts

    @property
    def degradation(self) -> Degradation | None:
        """What outputs are held against the input by where nothing else is asked for; None is bicubic.

        Raises SettingsError where it was trained for several cameras: which one took an image is not known.
        """
        if len(self.card.cameras) > 1:
            raise SettingsError(
                f"the generator was trained for {len(self.card.cameras)} cameras: say which took the image, by its "
                "degradation"
            )
        own = self.card.cameras[0].values
        return None if own == Degradation() else own

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Enlarge; ImageError where images have other channels."""
        enlarged: Tensor = self.network(x_BCHW)
        return enlarged.clamp(0, 1)


def options_of(generator: Generator) -> Mapping[str, JsonValue]:
    """All options of a generator."""
    return asdict(generator.options)
