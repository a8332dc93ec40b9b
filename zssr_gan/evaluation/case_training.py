"""Train a generator on nothing but LR images and what stage 1 made of them: `make synth` and `make train` for tables.

The truths of these images are known to the tables alone.
"""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from zssr_gan.degradation.model import degradation_of
from zssr_gan.errors import WeightsError
from zssr_gan.evaluation.cache import Results, hash_of
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.run import Images
from zssr_gan.files import atomic_write, sha256_file, verify, with_checksum
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.seeds import content_hash
from zssr_gan.training import sampling
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.loop import Callbacks
from zssr_gan.training.model_card import TrainedGenerator, load_generator
from zssr_gan.training.train import CONTENT, GENERATOR, load_mediator, train_generator

_TIMES = "times.json"

_WITH_SYNTHETIC_HR = 0.7
"""Share of the images that keep their synthetic HR where the generator learns from others, as in the seed paper."""

_LARGEST_SHARE_HELD_OUT = 0.1


@dataclass(frozen=True, slots=True)
class Phases:
    """Generators at the end of each phase, and the seconds to get there (None: not known, as the training resumed)."""

    content: TrainedGenerator | None
    """None: there was one phase alone."""
    last: TrainedGenerator
    content_seconds: float | None
    seconds: float | None


def train_on_case(work: Evaluator, images: Images, stage_1: Results) -> Phases:
    """Return the generators from the cache, or train now, from the newest checkpoint where there is one.

    Args:
        work: its run's group `train` is taken; patch and validation are fitted to the size and number of the images.
        images: are learnt from, in their order, which is that of the seed.
        stage_1: the synthetic HR images of these.

    Raises:
        WeightsError: the mediator's weights are not at hand.
        SettingsError: the settings do not fit these images.
    """
    settings, seed, machine = work.run.settings.train, work.run.settings.seed, work.machine
    changes: dict[str, object] = {}
    if settings.patch is not None and settings.patch >= min(images.lr[0].shape[-2:]):
        changes["patch"] = None
    held_out = min(settings.validation.images, max(2, int(_LARGEST_SHARE_HELD_OUT * len(images))))
    changes["validation"] = settings.validation.model_copy(update={"images": held_out})
    settings = settings.model_copy(update=changes)
    mediator = load_mediator(settings, seed, machine)
    facts: dict[str, JsonValue] = {
        "lr": hash_of(images.lr),
        "synthetic": hash_of(stage_1.images),
        "degradation": degradation_of(images.downscales[0]),
        "train": settings.model_dump(mode="json"),
        "mediator": None if mediator is None else mediator.origin.sha256,
        "seed": seed,
        "precision": machine.precision,
        "device": str(machine.device),
        "threads": machine.threads,
    }
    folder = work.cache.path("training-", facts)
    try:
        return _read_phases(folder)
    except (OSError, ValueError, WeightsError):  # not there, not whole, or damaged
        if (folder / _TIMES).exists():
            shutil.rmtree(folder)

    data = _training_data(images, stage_1, held_out, all_have_hr=settings.images == "zssr")
    began, times, first_steps = time.perf_counter(), dict[str, float | None](content=None), list[int]()

    def note_best(_generator: object, _step: int, phase: str, _figures: object) -> None:
        if phase == "pretrain":
            times["content"] = time.perf_counter() - began

    train_generator(
        settings,
        data,
        mediator,
        seed=seed,
        machine=machine,
        folder=folder,
        images={purpose: _hashes(own) for purpose, own in data.by_purpose.items()},
        facts={},  # the folder's name depends on all of them, so a checkpoint there is of this training
        callbacks=Callbacks(
            progress=lambda done, total, losses: work.bar.update(
                "SRGAN on these LR images", done, total, f"loss {losses['loss']:.3g}"
            ),
            notice=work.bar.note,
            best=note_best,
            begun=first_steps.append,
        ),
    )
    times["last"] = time.perf_counter() - began
    if any(first_steps):  # another process made the steps before, in a time that is not known
        times = {"content": None, "last": None}
    result = {**times, "generators": _generator_hashes(folder)}
    atomic_write(folder / _TIMES, with_checksum(json.dumps(result).encode()), overwrite=True)
    return _read_phases(folder)


def _training_data(images: Images, stage_1: Results, held_out: int, *, all_have_hr: bool) -> TrainingData:
    """All LR images but the first, which validation takes."""
    lr, hr = ([to_levels(x) for x in some] for some in (images.lr, stage_1.images))
    first = held_out + round(_WITH_SYNTHETIC_HR * (len(lr) - held_out))

    def part(begin: int, end: int, *, with_hr: bool = True) -> sampling.Images:
        own = tuple(hr[begin:end]) if with_hr else None
        return sampling.Images(images.ids[begin:end], tuple(lr[begin:end]), own, (0,) * (end - begin))

    reals = part(held_out, len(lr) if all_have_hr else first)
    return TrainingData(
        inputs=reals if all_have_hr else part(first, len(lr), with_hr=False),
        reals=reals,
        held_out=part(0, held_out),
        downscales=images.downscales[:1],
        channels=len(lr[0]),
        scale=hr[0].shape[-1] // lr[0].shape[-1],
        left_out=(),
    )


def _hashes(images: object) -> dict[str, str]:
    """Of each LR image: it has no file."""
    assert isinstance(images, sampling.Images)  # these are in memory
    return {one: content_hash(from_levels(lr)) for one, lr in zip(images.ids, images.lr, strict=True)}


def _generator_hashes(folder: Path) -> list[str | None]:
    generators = (folder / CONTENT / GENERATOR, folder / GENERATOR)
    return [sha256_file(one) if one.exists() else None for one in generators]


def _read_phases(folder: Path) -> Phases:
    """What a training left; an error where it is not whole, or a byte of a generator was changed."""
    times = json.loads(verify((folder / _TIMES).read_bytes()))
    if times["generators"] != _generator_hashes(folder):
        raise ValueError(f"{folder}: is damaged")
    content = load_generator(folder / CONTENT / GENERATOR) if times["generators"][0] else None
    return Phases(content, load_generator(folder / GENERATOR), times["content"] if content else None, times["last"])
