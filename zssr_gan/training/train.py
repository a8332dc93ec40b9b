"""Train a generator and write it with its card: what `make train` and the truth tables call."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from zssr_gan.devices import Machine
from zssr_gan.distributed import DataParallel
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.pretrained import Origin, vgg
from zssr_gan.networks.registry import mediator_options
from zssr_gan.networks.vgg import VGG
from zssr_gan.provenance import VERSION
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import SILENT, Callbacks
from zssr_gan.training.loop import Loop
from zssr_gan.training.model_card import (
    CameraCard,
    Card,
    ImageHashes,
    ImageList,
    MediatorCard,
    options_of,
    write_generator,
)

CONTENT = "content"
"""Folder of the generator as it was before the adversarial phase."""


@dataclass(frozen=True)
class Mediator:
    """The network whose features losses compare, on the device, and where its weights are from."""

    network: VGG
    origin: Origin


def load_mediator(settings: TrainSettings, seed: int, machine: Machine) -> Mediator | None:
    """Return the mediator, or None where no loss needs it. Raises WeightsError where its weights are not there."""
    if not settings.losses.need_features:
        return None
    network, origin = vgg(mediator_options(settings.mediator), settings.mediator.weights, seed=seed)
    return Mediator(network.to(machine.device), origin)


def train_generator(
    settings: TrainSettings,
    data: TrainingData,
    mediator: Mediator | None,
    *,
    seed: int,
    machine: Machine,
    folder: Path,
    images: ImageHashes,
    facts: Mapping[str, JsonValue],
    callbacks: Callbacks = SILENT,
    group: DataParallel | None = None,
    on_start: Callable[[Loop], None] = lambda _loop: None,
) -> Loop:
    """Train from the newest checkpoint, or from the start, write each generator that is the best so far, and return the
    loop at its end.

    `folder` gets generator.safetensors and card.json, content/ with the same of the phase before the discriminator,
    metrics.jsonl and checkpoints/. `facts`: what a run must have in common with a checkpoint to go on from it; the card
    has `split` and `store` of them, the SHA-256 of split.json and of the store's settings. `callbacks.best` is called
    after the generator was written. `on_start` gets the loop before its first step. Raises: see `Loop.run`.
    """

    def write_best(generator: GeneratorNetwork, step: int, phase: str, figures: Mapping[str, float]) -> None:
        cameras = {one.sha256: CameraCard.of(one) for one in (data.degradations[n] for n in data.inputs.cameras)}
        origin = None if mediator is None else mediator.origin
        values: dict[str, Any] = {
            "name": settings.generator.name,
            "options": dict(options_of(generator)),
            "images": {purpose: ImageList.of(hashes) for purpose, hashes in images.items()},
            "cameras": tuple(cameras[sha256] for sha256 in sorted(cameras)),
            "truths": data.paired,
            "split_sha256": facts.get("split", ""),
            "store_sha256": facts.get("store", ""),
            "mediator": None if origin is None else MediatorCard(**asdict(origin), warning=origin.warning),
            "settings": settings.model_dump(mode="json", exclude={"mediator"} if origin is None else None),
            **{"seed": seed, "step": step, "steps": loop.schedule.total, "phase": phase},
            **{"mean_weights": settings.ema > 0, "metrics": dict(figures)},
            **{"precision": machine.precision, "device": str(machine.device)},
            "versions": {"zssr-gan": VERSION, "torch": torch.__version__},
        }
        card = Card.model_validate(values)
        write_generator(folder, generator, card, images)
        if phase == "pretrain" and settings.epochs:  # the adversarial phase replaces it: kept to compare the two
            write_generator(folder / CONTENT, generator, card, images)
        callbacks.best(generator, step, phase, figures)

    loop = Loop(
        settings,
        data,
        None if mediator is None else mediator.network,
        seed=seed,
        machine=machine,
        folder=folder,
        facts=facts,
        callbacks=replace(callbacks, best=write_best),
        group=group,
    )
    on_start(loop)
    loop.run()
    return loop
