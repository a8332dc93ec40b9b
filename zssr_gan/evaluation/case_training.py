"""Train a generator on nothing but LR images and what stage 1 made of them: `make synth` and `make train` for tables.

The truths of these images are known to the tables alone.
"""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

from zssr_gan.degradation.model import degradation_of
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.evaluation.cache import Results, hash_of
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.methods import CONTENT, PROJECTED, RAW, THESE, Method, apply_generator, no_results
from zssr_gan.evaluation.metrics.perceptual import reason
from zssr_gan.evaluation.run import Images
from zssr_gan.files import atomic_write, with_checksum, without_checksum
from zssr_gan.imaging.colour import from_levels, to_levels
from zssr_gan.seeds import content_hash
from zssr_gan.training import sampling, train
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.logs import Callbacks
from zssr_gan.training.model_card import GENERATOR, TrainedGenerator, load_generator

_TIMES = "times.json"

_WITH_SYNTHETIC_HR = 0.7
"""Share of the images that keep their synthetic HR where the generator learns from others, as in the seed paper."""

_LARGEST_SHARE_HELD_OUT = 0.1

_Phase = tuple[TrainedGenerator, float | None]
"""The generator at a phase's end, and the seconds to get there; None: not known, as the training was resumed."""


def train_on_these(work: Evaluator, images: Images, stage_1: Method) -> list[Method]:
    """A generator trained on these LR images and their synthetic HR images: each phase, and back-projected."""
    network = f"{work.settings.train.generator.name.upper()} on these LR images"
    before, raw, projected = (name.format(network) for name in (CONTENT, RAW, PROJECTED))
    assert stage_1.results is not None  # it is always made
    try:
        content, last = _phases(work, images, stage_1.results)
    except (WeightsError, SettingsError) as error:
        return [no_results(name, THESE, reason(error)) for name in (before, raw, projected)]
    stage_1_seconds = stage_1.results.seconds * len(images)

    def method(name: str, preset: str, phase: _Phase) -> Method:
        generator, seconds = phase
        made = apply_generator(work, name, images, preset, generator, THESE)
        return replace(made, learning_seconds=None if seconds is None else seconds + stage_1_seconds)

    first = no_results(before, THESE, "the run's settings have one phase alone")
    if content is not None:
        first = method(before, "raw", content)
    return [first, method(raw, "raw", last), method(projected, "generator", last)]


def _phases(work: Evaluator, images: Images, stage_1: Results) -> tuple[_Phase | None, _Phase]:
    """The generator before the adversarial phase, where there are two, and at the end.

    From the cache; else it is trained now, from the newest checkpoint where there is one. Patch and validation of the
    run's group `train` are fitted to the size and number of the images, whose order is that of the seed.
    """
    settings, seed, machine = work.settings.train, work.settings.seed, work.machine
    held_out = min(settings.validation.images, max(2, int(_LARGEST_SHARE_HELD_OUT * len(images))))
    changes: dict[str, object] = {"validation": settings.validation.model_copy(update={"images": held_out})}
    if settings.patch is not None and settings.patch >= min(images.lr[0].shape[-2:]):
        changes["patch"] = None
    settings = settings.model_copy(update=changes)
    mediator = train.load_mediator(settings, seed, machine)
    facts = {
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
        times["content" if phase == "pretrain" else "last"] = time.perf_counter() - began

    train.train_generator(
        settings,
        data,
        mediator,
        seed=seed,
        machine=machine,
        folder=folder,
        images={purpose: _hashes(own) for purpose, own in data.by_purpose.items()},
        facts={},  # the folder's name depends on all of them, so a checkpoint there is of this training
        callbacks=Callbacks(
            progress=lambda done, total, _: work.bar.update("SRGAN on these LR images", done, total),
            notice=work.bar.note,
            best=note_best,
            begun=first_steps.append,
        ),
    )
    times["last"] = time.perf_counter() - began
    if any(first_steps):  # another process made the steps before, in a time that is not known
        times = {"content": None, "last": None}
    content = folder / train.CONTENT / GENERATOR
    hashes = [load_generator(path).sha256 if path.exists() else None for path in (content, folder / GENERATOR)]
    result = with_checksum(json.dumps({**times, "generators": hashes}).encode())
    atomic_write(folder / _TIMES, result, overwrite=True)
    return _read_phases(folder)


def _read_phases(folder: Path) -> tuple[_Phase | None, _Phase]:
    """What a training left; an error where it is not whole, or a byte of a generator was changed."""
    times = json.loads(without_checksum((folder / _TIMES).read_bytes()))

    def phase(path: Path, name: str, sha256: str) -> _Phase:
        generator = load_generator(path)
        if generator.sha256 != sha256:
            raise ValueError(f"{path}: is damaged")
        return generator, times[name]

    content, last = times["generators"]
    first = None if content is None else phase(folder / train.CONTENT / GENERATOR, "content", content)
    return first, phase(folder / GENERATOR, "last", last)


def _training_data(images: Images, stage_1: Results, held_out: int, *, all_have_hr: bool) -> TrainingData:
    """All LR images but the first, which validation takes. Raises SettingsError where too few are left."""
    fewest = held_out + (1 if all_have_hr else 2)
    if len(images) < fewest:
        raise SettingsError(
            f"evaluate.truth: a generator needs {fewest} images or more to learn from ({held_out} to validate with), "
            f"and there are {len(images)}: give more (evaluate.truth.count), or set evaluate.truth.train to false."
        )
    lr, hr = ([to_levels(x) for x in some] for some in (images.lr, stage_1.images))
    first = held_out + round(_WITH_SYNTHETIC_HR * (len(lr) - held_out))

    def part(begin: int, end: int, *, with_hr: bool = True) -> sampling.Images:
        own = tuple(hr[begin:end]) if with_hr else None
        return sampling.Images(images.ids[begin:end], tuple(lr[begin:end]), own, (0,) * (end - begin))

    reals = part(held_out, len(lr) if all_have_hr else first)
    inputs = reals if all_have_hr else part(first, len(lr), with_hr=False)
    scale = hr[0].shape[-1] // lr[0].shape[-1]
    return TrainingData(inputs, reals, part(0, held_out), images.downscales[:1], len(lr[0]), scale, ())


def _hashes(images: object) -> dict[str, str]:
    """Of each LR image: it has no file."""
    assert isinstance(images, sampling.Images)  # these are in memory
    return {one: content_hash(from_levels(lr)) for one, lr in zip(images.ids, images.lr, strict=True)}
