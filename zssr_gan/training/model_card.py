"""A trained generator as a file: safetensors, and in it the card that says what it is and what it was trained on."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator
from safetensors.torch import save
from torch import Tensor, nn

from zssr_gan.degradation.model import Degradation
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.files import canonical_sha256, sha256_bytes, why_unreadable, write_together
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.pretrained import one_line, tensors_of
from zssr_gan.networks.registry import generator_of
from zssr_gan.provenance import FileModel
from zssr_gan.settings.train import NetworkSettings

GENERATOR = "generator.safetensors"

_KEY = "zssr-gan:generator"

_WAY_OUT = "`zssr-gan model import` makes a generator of others' weights"

ImageHashes = Mapping[str, Mapping[str, str]]
"""Images by purpose: of each id the SHA-256 of its file (of the pixels for lfw), as split.json has it."""


class ImageList(FileModel):
    """Images that a generator was trained on or measured with."""

    count: int
    sha256: str
    """Of their ids with the SHA-256 of each, as JSON; the list itself lies beside the card in the generator's file."""

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Self:
        """Of ids with the SHA-256 of each."""
        return cls(count=len(files), sha256=canonical_sha256(dict(files)))


class CameraCard(FileModel):
    """What a camera is taken to have done to the scene."""

    values: Degradation
    sha256: str
    """Of the values as canonical JSON."""

    @model_validator(mode="after")
    def _is_hashed(self) -> Self:
        if self.values.sha256 != self.sha256:
            raise ValueError("a camera's degradation was changed after it was hashed")
        return self

    @property
    def name(self) -> str:
        """In a word or two."""
        return "bicubic" if self.values == Degradation() else f"degradation {self.sha256[:12]}"

    @classmethod
    def of(cls, degradation: Degradation) -> Self:
        """With its hash."""
        return cls(values=degradation, sha256=degradation.sha256)


class MediatorCard(FileModel):
    """Where the mediator's weights are from."""

    network: str
    kind: str
    sha256: str
    source: str
    warning: str | None


class OriginCard(FileModel):
    """Where the weights of a generator are from that was not trained here. What such files do not say is not known: the
    images, the degradation, the losses, and what their maker allows."""

    file: str
    """Its name."""
    sha256: str
    naming: str
    """The family of its weights' names (`zssr_gan.training.importing`)."""
    wrapper: str | None
    """Under which name the weights lay in it, such as `params_ema`; None: under none."""

    @property
    def warning(self) -> str:
        """In a sentence."""
        return (
            f"the generator comes from {self.file} ({self.sha256[:12]}), and what it was trained on is not known: it "
            "may be this very image, and other degradations than bicubic"
        )


class Card(FileModel):
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
    """Each of those that took the generator's images, once; what is made by it is compared with the input by it."""
    truths: bool = False
    """Whether its inputs were made of HR images, with which its outputs were compared: what it adds, it learnt there.
    `cameras` then say how they were made, and `settings["pairs"]` the rest."""
    origin: OriginCard | None = None
    """Where it is from if it was not trained here; then all that follows is not known, and its camera is assumed."""
    split_sha256: str | None = None
    store_sha256: str | None = None
    """Of the settings that the synthetic images were made with; None where there were none."""
    mediator: MediatorCard | None = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The group `train`, as it was used; `mediator` only where a loss needs it."""
    seed: int | None = None
    step: int | None = None
    steps: int | None = None
    """Of the whole training."""
    phase: str | None = None
    mean_weights: bool | None = None
    """Whether the weights are the running mean."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """The validation at that step."""
    precision: str | None = None
    device: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        names = list(type(self).model_fields)
        missing = sorted(set(names[names.index("origin") + 1 :]) - self.model_fields_set)
        if self.origin is None and missing:
            raise ValueError(f"{missing[0]} is missing")
        return self

    @model_serializer(mode="wrap")
    def _without_news(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Cards without what later versions added stay as they were: records hold them whole, and compare."""
        values: dict[str, Any] = handler(self)
        added = {"origin": None, "truths": False}
        return {name: value for name, value in values.items() if name not in added or value != added[name]}

    @property
    def training(self) -> str:
        """How it was trained, in a line."""
        if self.origin is not None:
            return f"not known: from {self.origin.file} (SHA-256 {self.origin.sha256})"
        return f"step {self.step:,} of {self.steps:,} ({self.phase}), seed {self.seed}, {self.precision}"

    @property
    def warnings(self) -> list[str]:
        """What must be said wherever its results are shown."""
        return [one.warning for one in (self.mediator, self.origin) if one is not None and one.warning]


class _FileText(FileModel):
    """The text in a generator's file."""

    card: Card
    images: dict[str, dict[str, str]]

    @model_validator(mode="after")
    def _is_listed(self) -> Self:
        if self.card.images != {name: ImageList.of(files) for name, files in self.images.items()}:
            raise ValueError("its list of images is not the one that was hashed")
        return self


def write_generator(folder: Path, generator: GeneratorNetwork, card: Card, images: ImageHashes) -> Path:
    """Write generator.safetensors, with card and list of images, and card.json, replacing earlier ones; the path of the
    first. `images`: those that the card counts, so that a file by itself says on which images it was trained."""
    path = folder / GENERATOR
    text = card.model_dump_json(indent=1) + "\n"
    contents = {path: encode_generator(generator, card, images), folder / "card.json": text.encode()}
    write_together(contents, replaceable=list(contents))
    return path


def encode_generator(generator: GeneratorNetwork, card: Card, images: ImageHashes) -> bytes:
    """A generator's file; see `write_generator`."""
    # One text: of several, safetensors' order would change from run to run.
    text = _FileText(card=card, images={name: dict(files) for name, files in images.items()}).model_dump_json()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    return save(tensors, {_KEY: text})


def load_generator(path: Path | str) -> "TrainedGenerator":
    """A trained generator on the CPU, ready for use, with its card; WeightsError where the file is not one."""
    path = Path(path)
    try:
        data = path.read_bytes()
        weights = tensors_of(data)
    except OSError as error:
        raise WeightsError(f"{path}: {why_unreadable(path, error)}.") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; {_WAY_OUT}.") from error
    # safetensors' loader of bytes leaves the text out; the header is a length and JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = (header.get("__metadata__") or {}).get(_KEY)  # null is allowed there
    if text is None:
        raise WeightsError(f"{path}: holds no generator of zssr-gan: it has no card; {_WAY_OUT}.")
    try:
        found = _FileText.model_validate_json(text)
    except ValidationError as error:
        # Cards of version 1 stood in the file alone.
        if any("schema_version" in one["loc"] for one in error.errors()):
            why = "was written by another version of zssr-gan, with another card: train again, or use that version"
        else:
            why = f"its card cannot be read by this version of zssr-gan ({error.errors(include_url=False)[0]['msg']})"
        raise WeightsError(f"{path}: {why}.") from error
    card = found.card
    try:
        generator = generator_of(NetworkSettings(name=card.name, options=card.options), {}, torch.Generator())
        generator.load_state_dict(weights)
    except (SettingsError, RuntimeError) as error:
        raise WeightsError(f"{path}: its weights do not fit its card ({one_line(error)}).") from error
    return TrainedGenerator(generator.requires_grad_(False), card, sha256_bytes(data), found.images).eval()


class TrainedGenerator(nn.Module):
    """A generator with what is known of it; makes `B C sH sW` of `B C H W`, both in [0, 1].

    `card` says what it is, `sha256` is that of its file's bytes, `images` lists what it was trained on and measured
    with, `facts` are what a caller must know.
    """

    def __init__(self, network: GeneratorNetwork, card: Card, sha256: str, images: ImageHashes) -> None:
        super().__init__()
        self.network, self.card, self.sha256, self.images, self.facts = network, card, sha256, images, network.facts

    def purposes_of(self, sha256: str) -> tuple[str, ...]:
        """What an image was for in the training, by its file's SHA-256: "inputs", "reals", "held_out"; or nothing."""
        return tuple(name for name, files in self.images.items() if sha256 in files.values())

    @property
    def degradation(self) -> Degradation | None:
        """What outputs are compared with the input by where nothing else is asked for; None is bicubic.

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


def options_of(generator: GeneratorNetwork) -> Mapping[str, JsonValue]:
    """All options of a generator."""
    return asdict(generator.options)


_PURPOSES = {
    "inputs": ("inputs", "LR images that the generator learnt from"),
    "reals": ("reals", "synthetic HR images that the discriminator was shown"),
    "held_out": ("held out", "images for validation, not trained on"),
}

_TRUTHS = ("truths", "HR images that it learnt from, with LR images made of them")


def summary(generator: TrainedGenerator) -> list[tuple[str, str]]:
    """Names and values of a card for the command and the report; its warnings are not among them."""
    card = generator.card
    images, seen = dict[str, str](), dict[str, str]()
    for purpose, listed in card.images.items():
        name, what = _TRUTHS if card.truths and purpose == "inputs" else _PURPOSES[purpose]
        same = f" (of the same images as {seen[listed.sha256]})" if listed.sha256 in seen else ""
        images[name] = f"{listed.count:,} {what}{same}"
        seen.setdefault(listed.sha256, name)
    figures = [f"{name} {value:.3g}" for name, value in card.metrics.items() if isinstance(value, float)]
    return [
        ("label", f"{card.label}: its detail can come from other images"),
        ("network", f"{card.name}, " + ", ".join(f"{name} {value}" for name, value in card.options.items())),
        *(images if card.origin is None else {"inputs": "not known"}).items(),
        ("cameras", ", ".join(camera.name for camera in card.cameras) + (" (assumed)" if card.origin else "")),
        ("training", card.training),
        ("figures", ", ".join(figures)),
        ("sha256", generator.sha256),
    ]
