"""The second stage on nothing but LR images: a generator learnt from them and from what the zero-shot way made of them.

What `make synth` and `make train` do for a run, for images whose truths are known to the tables alone.
"""

import json
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path

import torch
from pydantic import JsonValue

from zssr_gan.degradation.model import degradation_of
from zssr_gan.devices import Machine
from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.cache import Cache, Results, hash_of
from zssr_gan.evaluation.ground_truth import Truths
from zssr_gan.files import atomic_write, sha256_file, verify, with_checksum
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.pretrained import Origin, vgg
from zssr_gan.networks.registry import mediator_options
from zssr_gan.networks.vgg import VGG
from zssr_gan.progress import Bar
from zssr_gan.seeds import content_hash
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.dataset import Material
from zssr_gan.training.loop import Loop, Watchers
from zssr_gan.training.model_card import (
    CameraCard,
    Card,
    ImageList,
    MediatorCard,
    TrainedGenerator,
    load_generator,
    options_of,
    write_generator,
)
from zssr_gan.training.sampling import Cuttable, Images
from zssr_gan.training.validation import Figures

_TIMES, _GENERATOR = "times.json", "generator.safetensors"

_TAUGHT = 0.7
"""Share of the images that keep their synthetic HR where the generator learns from others, as in the seed paper."""

_LARGEST_SHARE_HELD_OUT = 0.1


@dataclass(frozen=True, slots=True)
class Phases:
    """Generators at the end of each phase, and how long it took to get there."""

    content: TrainedGenerator | None
    """None: there was one phase alone."""
    last: TrainedGenerator
    content_seconds: float | None
    """None: not known, as the training was stopped on the way."""
    seconds: float | None


@dataclass
class CaseTraining:
    """A training on images of one case.

    Args:
        settings: the group `train`.
        seed: the run's.
        used: what it runs on.
        bar: progress.
    """

    settings: TrainSettings
    seed: int
    used: Machine
    bar: Bar
    _begun: int = field(default=0, init=False)

    def run(self, truths: Truths, stage_1: Results, cache: Cache) -> Phases:
        """The generators; those that are kept, or trained now, from the newest checkpoint where there is one.

        Raises:
            WeightsError: the mediator's weights are not at hand.
            SettingsError: the settings do not fit these images.
        """
        settings = self._fitted(truths)
        mediator, origin = self._mediator(settings)
        material = self._material(settings, truths, stage_1)
        facts: dict[str, JsonValue] = {
            "lr": hash_of(truths.inputs.images),
            "synthetic": stage_1.sha256,
            "degradation": degradation_of(truths.downscale),
            "train": settings.model_dump(mode="json"),
            "mediator": None if origin is None else origin.sha256,
            "seed": self.seed,
            "precision": self.used.precision,
            "device": str(self.used.device),
            "threads": self.used.threads,
        }
        folder = cache.path("training", facts, "")
        try:
            return _phases(folder)
        except (OSError, ValueError, WeightsError):  # not there, not whole, or damaged
            if (folder / _TIMES).exists():
                shutil.rmtree(folder)
        times = self._trained(folder, settings, material, mediator, origin)
        told = json.dumps({**times, "generators": _hashes_in(folder)})
        atomic_write(folder / _TIMES, with_checksum(told.encode()), overwrite=True)
        return _phases(folder)

    def _fitted(self, truths: Truths) -> TrainSettings:
        """The settings, for images of this size and number."""
        settings, side = self.settings, min(truths.inputs.images[0].shape[-2:])
        changes: dict[str, object] = {}
        if settings.patch is not None and settings.patch >= side:
            changes["patch"] = None
        most = max(2, int(_LARGEST_SHARE_HELD_OUT * len(truths.ids)))
        if settings.validation.images > most:
            changes["validation"] = settings.validation.model_copy(update={"images": most})
        return settings.model_copy(update=changes)

    def _mediator(self, settings: TrainSettings) -> tuple[VGG | None, Origin | None]:
        if not settings.losses.need_features:
            return None, None
        network, origin = vgg(mediator_options(settings.mediator), settings.mediator.weights, seed=self.seed)
        return network.to(self.used.device), origin

    @staticmethod
    def _material(settings: TrainSettings, truths: Truths, stage_1: Results) -> Material:
        """All LR images but those that validation takes; the truths' order is that of the seed already."""
        lr, hr = ([to_levels(x) for x in some] for some in (truths.inputs.images, stage_1.images))

        def images(first: int, end: int, *, hr_too: bool = True) -> Images:
            srs = tuple(hr[first:end]) if hr_too else None
            return Images(truths.ids[first:end], tuple(lr[first:end]), srs, (0,) * (end - first))

        held_out = settings.validation.images
        first = held_out + round(_TAUGHT * (len(lr) - held_out))
        taught = settings.images == "zssr"
        reals = images(held_out, len(lr) if taught else first)
        return Material(
            inputs=reals if taught else images(first, len(lr), hr_too=False),
            reals=reals,
            held_out=images(0, held_out),
            downscales=(truths.downscale,),
            channels=len(lr[0]),
            scale=hr[0].shape[-1] // lr[0].shape[-1],
            left_out=(),
        )

    def _trained(
        self, folder: Path, settings: TrainSettings, material: Material, mediator: VGG | None, origin: Origin | None
    ) -> dict[str, float | None]:
        """Train, keeping each phase's generator in the folder; how long it took to each one's end, seconds."""
        times: dict[str, float | None] = {"content": None, "last": None}
        began = time.perf_counter()

        def keep(generator: GeneratorNetwork, step: int, phase: str, figures: Figures) -> None:
            card, listed = self._card(settings, material, origin, generator, step, phase, figures)
            write_generator(folder, generator, card, listed)
            if phase == "pretrain" and settings.epochs:
                write_generator(folder / "content", generator, card, listed)
                times["content"] = time.perf_counter() - began

        watchers = Watchers(
            progress=lambda done, total, losses: self.bar.update(
                "SRGAN on these LR images", done, total, f"loss {losses['loss']:.3g}"
            ),
            notice=self.bar.note,
            best=keep,
        )
        loop = Loop(
            settings,
            material,
            mediator,
            seed=self.seed,
            machine=self.used,
            folder=folder,
            facts={},  # the folder's name hangs on them all
            watchers=replace(watchers, begun=self._begin),
        )
        loop.run()
        if self._begun:  # the steps before were another process's, whose time nobody has
            return {"content": None, "last": None}
        return {**times, "last": time.perf_counter() - began}

    def _begin(self, step: int) -> None:
        self._begun = step

    def _card(
        self,
        settings: TrainSettings,
        material: Material,
        origin: Origin | None,
        generator: GeneratorNetwork,
        step: int,
        phase: str,
        figures: Figures,
    ) -> tuple[Card, dict[str, dict[str, str]]]:
        listed = {name: _hashes(images) for name, images in material.by_purpose.items()}
        card = Card(
            name=settings.generator.name,
            options=dict(options_of(generator)),
            images={name: ImageList.of(files) for name, files in listed.items()},
            cameras=tuple(CameraCard.of(one) for one in material.degradations),
            split_sha256="",
            store_sha256="",
            mediator=None if origin is None else MediatorCard(**asdict(origin), warning=origin.warning),
            settings=settings.model_dump(mode="json"),
            seed=self.seed,
            step=step,
            steps=step,
            phase=phase,
            mean_weights=settings.ema > 0,
            metrics=asdict(figures),
            precision=self.used.precision,
            device=str(self.used.device),
            versions={"zssr-gan": metadata.version("zssr-gan"), "torch": torch.__version__},
        )
        return card, listed


def _hashes(images: Cuttable) -> dict[str, str]:
    """Of each LR image: it has no file."""
    assert isinstance(images, Images)  # a case's are in memory
    return {one: content_hash(from_levels(lr)) for one, lr in zip(images.ids, images.lr, strict=True)}


def _hashes_in(folder: Path) -> list[str | None]:
    """Of the generators that lie there: one changed byte in them would be other figures."""
    generators = (folder / "content" / _GENERATOR, folder / _GENERATOR)
    return [sha256_file(one) if one.exists() else None for one in generators]


def _phases(folder: Path) -> Phases:
    """What a training left; an error where it is not whole."""
    times = json.loads(verify((folder / _TIMES).read_bytes()))
    if times["generators"] != _hashes_in(folder):
        raise ValueError(f"{folder}: is damaged")
    before = folder / "content" / _GENERATOR
    return Phases(
        load_generator(before) if before.exists() else None,
        load_generator(folder / _GENERATOR),
        times["content"],
        times["last"],
    )
