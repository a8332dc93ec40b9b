"""Train a generator on nothing but LR images and what stage 1 made of them: `make synth` and `make train` for tables.

The truths of these images are known to the tables alone.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from zssr_gan.degradation.model import degradation_of
from zssr_gan.devices import Machine
from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.cache import Cache, Results, hash_of
from zssr_gan.evaluation.ground_truth import Truths
from zssr_gan.files import atomic_write, sha256_file, verify, with_checksum
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.progress import Bar
from zssr_gan.seeds import content_hash
from zssr_gan.settings.train import TrainSettings
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.loop import Callbacks
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.training.sampling import Images
from zssr_gan.training.train import CONTENT, GENERATOR, load_mediator, train_generator

_TIMES = "times.json"

_WITH_SYNTHETIC_HR = 0.7
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


def train_on_case(
    settings: TrainSettings, truths: Truths, stage_1: Results, cache: Cache, *, seed: int, machine: Machine, bar: Bar
) -> Phases:
    """Return the generators from the cache, or train now, from the newest checkpoint where there is one.

    Args:
        settings: the group `train`; patch and validation are fitted to the size and number of the images.
        truths: their LR images are learnt from.
        stage_1: the synthetic HR images of these.
        cache: holds the trained generators by a hash of all that they depend on.
        seed: the run's.
        machine: what it runs on.
        bar: shows progress.

    Raises:
        WeightsError: the mediator's weights are not at hand.
        SettingsError: the settings do not fit these images.
    """
    changes: dict[str, object] = {}
    if settings.patch is not None and settings.patch >= min(truths.inputs.images[0].shape[-2:]):
        changes["patch"] = None
    most = max(2, int(_LARGEST_SHARE_HELD_OUT * len(truths.ids)))
    if settings.validation.images > most:
        changes["validation"] = settings.validation.model_copy(update={"images": most})
    settings = settings.model_copy(update=changes)
    mediator = load_mediator(settings, seed, machine)
    facts: dict[str, JsonValue] = {
        "lr": hash_of(truths.inputs.images),
        "synthetic": stage_1.sha256,
        "degradation": degradation_of(truths.downscale),
        "train": settings.model_dump(mode="json"),
        "mediator": None if mediator is None else mediator.origin.sha256,
        "seed": seed,
        "precision": machine.precision,
        "device": str(machine.device),
        "threads": machine.threads,
    }
    folder = cache.path("training", facts, "")
    try:
        return _read_phases(folder)
    except (OSError, ValueError, WeightsError):  # not there, not whole, or damaged
        if (folder / _TIMES).exists():
            shutil.rmtree(folder)

    data = _training_data(settings, truths, stage_1)
    began, times, first_steps = time.perf_counter(), dict[str, float | None](content=None, last=None), list[int]()

    def note_best(_generator: object, _step: int, phase: str, _figures: object) -> None:
        if phase == "pretrain":
            times["content"] = time.perf_counter() - began

    def progress(done: int, total: int, losses: Mapping[str, float]) -> None:
        bar.update("SRGAN on these LR images", done, total, f"loss {losses['loss']:.3g}")

    train_generator(
        settings,
        data,
        mediator,
        seed=seed,
        machine=machine,
        folder=folder,
        images={purpose: _hashes(images) for purpose, images in data.by_purpose.items()},
        facts={},  # the folder's name depends on all of them, so a checkpoint there is of this training
        callbacks=Callbacks(progress=progress, notice=bar.note, best=note_best, begun=first_steps.append),
    )
    times["last"] = time.perf_counter() - began
    if any(first_steps):  # another process made the steps before, in a time that is not known
        times = {"content": None, "last": None}
    result = {**times, "generators": _generator_hashes(folder)}
    atomic_write(folder / _TIMES, with_checksum(json.dumps(result).encode()), overwrite=True)
    return _read_phases(folder)


def _training_data(settings: TrainSettings, truths: Truths, stage_1: Results) -> TrainingData:
    """All LR images but those that validation takes; the truths' order is that of the seed already."""
    lr, hr = ([to_levels(x) for x in some] for some in (truths.inputs.images, stage_1.images))

    def images(first: int, end: int, *, with_hr: bool = True) -> Images:
        srs = tuple(hr[first:end]) if with_hr else None
        return Images(truths.ids[first:end], tuple(lr[first:end]), srs, (0,) * (end - first))

    held_out = settings.validation.images
    first = held_out + round(_WITH_SYNTHETIC_HR * (len(lr) - held_out))
    all_have_hr = settings.images == "zssr"
    reals = images(held_out, len(lr) if all_have_hr else first)
    return TrainingData(
        inputs=reals if all_have_hr else images(first, len(lr), with_hr=False),
        reals=reals,
        held_out=images(0, held_out),
        downscales=(truths.downscale,),
        channels=len(lr[0]),
        scale=hr[0].shape[-1] // lr[0].shape[-1],
        left_out=(),
    )


def _hashes(images: object) -> dict[str, str]:
    """Of each LR image: it has no file."""
    assert isinstance(images, Images)  # a case's are in memory
    return {one: content_hash(from_levels(lr)) for one, lr in zip(images.ids, images.lr, strict=True)}


def _generator_hashes(folder: Path) -> list[str | None]:
    generators = (folder / CONTENT / GENERATOR, folder / GENERATOR)
    return [sha256_file(one) if one.exists() else None for one in generators]


def _read_phases(folder: Path) -> Phases:
    """What a training left; an error where it is not whole, or a byte of a generator was changed."""
    times = json.loads(verify((folder / _TIMES).read_bytes()))
    if times["generators"] != _generator_hashes(folder):
        raise ValueError(f"{folder}: is damaged")
    content = folder / CONTENT / GENERATOR
    return Phases(
        load_generator(content) if content.exists() else None,
        load_generator(folder / GENERATOR),
        times["content"] if content.exists() else None,
        times["last"],
    )
