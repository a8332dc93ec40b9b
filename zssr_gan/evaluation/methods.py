"""Methods that enlarge LR images, each with the label of its results: the rows of the tables.

Shapes: images are `C H W`, [0, 1]; results are on 8-bit levels, as a file holds them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zssr_gan.degradation.model import degradation_of
from zssr_gan.degradation.operators import back_project
from zssr_gan.evaluation.cache import Results, hash_of, joined
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.evaluation.run import Images, scale_of
from zssr_gan.imaging.resize import enlarged_size, resize
from zssr_gan.inference.generator import generate, images_together, own_scale
from zssr_gan.provenance import CaseImage, Label, label_of
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_generator_preset, load_preset
from zssr_gan.training.model_card import TrainedGenerator
from zssr_gan.zeroshot.case import learn_case, read_lr
from zssr_gan.zeroshot.scheduler import run_jobs
from zssr_gan.zeroshot.shared import SharedModel
from zssr_gan.zeroshot.steps import fleet_capacity
from zssr_gan.zeroshot.upscale import SuperResolved, upscale

BACK_PROJECTIONS = 10

INTERPOLATIONS = {
    "nearest": "nearest",
    "bicubic": "bicubic",
    "lanczos": "Lanczos",
    "back-projected": "bicubic, back-projected",
}
"""Methods without a network, and their names in tables."""

RAW, PROJECTED, CONTENT = "{}, its output as it is", "{}, back-projected", "{} before the discriminator"
"""Names in tables of a generator's results: with the preset `raw`, with `generator`, and after the first phase."""

EXTENDED = "extended LR (bicubic)"
"""The seed paper's name of the interpolated image."""

THESE = "these LR images"

_FLEET = 64
"""Networks of a fleet: more are no faster on a CPU, and a stop loses more of them."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method's results and what they were learnt from, or why there are none."""

    name: str
    label: Label
    results: Results | None
    learnt_from: str = "nothing"
    why: str = ""
    learning_seconds: float | None = 0.0
    """Of learning on these images, beside `results.seconds`; None: not known."""

    @property
    def images(self) -> tuple[Tensor, ...]:
        """Of a method that has results."""
        assert self.results is not None
        return self.results.images


def no_results(name: str, learnt_from: str, why: str) -> Method:
    """A generator that cannot be had."""
    return Method(name, label_of("", generator=True), None, learnt_from, why)


def interpolate(work: Evaluator, name: str, images: Images) -> Method:
    """One of `INTERPOLATIONS`."""

    def compute() -> Results:
        began, made = time.perf_counter(), list[Tensor]()
        for lr, downscale in zip(images.lr, images.downscales, strict=True):
            size = enlarged_size((lr.shape[-2], lr.shape[-1]), work.scale)
            if name == "nearest":
                enlarged = torch.nn.functional.interpolate(lr[None], size, mode="nearest-exact")[0]
            elif name == "lanczos":
                enlarged = _lanczos(lr, size)
            else:
                enlarged = resize(lr, size).clamp(0, 1)
                if name == "back-projected":
                    enlarged = back_project(enlarged[None], lr[None], downscale, BACK_PROJECTIONS)[0]
            made.append(rounded(enlarged))
            work.bar.update(name, len(made), len(images))
        return Results(tuple(made), (time.perf_counter() - began) / len(made))

    results = work.cache.results(name, {**_key(work, images), "method": name}, compute)
    return Method(INTERPOLATIONS[name], label_of(""), results)


def apply_generator(
    work: Evaluator, name: str, images: Images, preset: str, generator: TrainedGenerator, learnt_from: str = ""
) -> Method:
    """A generator with the preset `raw` (its output) or `generator` (ensemble and back-projection).

    One of scale 1 is given the image enlarged by bicubic.
    """
    if scale_of(generator) == 1 and work.scale[0] != 1:
        images = replace(images, lr=interpolate(work, "bicubic", images.as_bicubic()).images).as_bicubic()
    key = {**_key(work, images), "generator": generator.sha256, "preset": preset}
    results = work.cache.results("generator", key, partial(_generated, work, name, images, preset, generator))
    return Method(name, label_of("", generator=True), results, learnt_from or _taught_by(generator))


def own_generator(work: Evaluator, images: Images) -> list[Method]:
    """The run's generator: its output, and back-projected."""
    presets = ((RAW, "raw"), (PROJECTED, "generator"))
    name, generator = work.network, work.generator
    return [apply_generator(work, shown.format(name), images, preset, generator) for shown, preset in presets]


def learn_together(work: Evaluator, name: str, preset: str, images: Images) -> Method:
    """One zero-shot network that learns from all LR images and nothing else; its time is shared among them."""
    settings = load_preset(preset).for_case()

    def compute() -> Results:
        began = time.perf_counter()
        shared = learn_case(
            [read_lr(CaseImage(name=str(n), sha256=""), image, None) for n, image in enumerate(images.lr)],
            seed=work.settings.seed,
            degradations=images.downscales,
            settings=settings,
            scale=work.scale,
            machine=work.machine,
            on_progress=work.bar.step,
        ).shared
        return zero_shot(work, name, settings, images, shared, began=began)

    results = work.cache.results("zssr-shared", _zero_shot_key(work, settings, images), compute)
    return Method(name, label_of("", shared=True), results, THESE)


def learn_alone(work: Evaluator, name: str, preset: str, images: Images, together: int = _FLEET) -> Method:
    """A zero-shot network for each image, `together` side by side; each such group is cached by itself."""
    settings, parts = load_preset(preset), []
    for at in range(0, len(images), together):
        some = images.part(at, at + together)
        compute = partial(zero_shot, work, f"{name}, from {at + 1} of {len(images)}", settings, some)
        parts.append(work.cache.results("zssr-alone", _zero_shot_key(work, settings, some), compute))
    return Method(name, label_of(""), joined(parts), "each LR image itself")


def zero_shot(
    work: Evaluator,
    what: str,
    settings: ZeroShotSettings,
    images: Images,
    shared: SharedModel | None = None,
    *,
    began: float | None = None,
) -> Results:
    """Enlarge images side by side, each by a network of its own or all by a shared one.

    Args:
        work: device, scale, seed.
        what: for the progress.
        settings: of the shared model; of networks of their own, before `for_size`.
        images: LR images.
        shared: None: each image gets a network of its own.
        began: `time.perf_counter()` from which the time counts; None: now.
    """
    began, machine, first = began or time.perf_counter(), work.machine, images.lr[0]

    def own(lr: Tensor) -> ZeroShotSettings:
        return settings.for_size(lr[0].numel()) if shared is None else settings

    jobs = (
        upscale(
            lr.to(machine.device),
            work.scale,
            own(lr),
            downscale,
            machine,
            seed=work.settings.seed,
            shared=shared,
        )
        for lr, downscale in zip(images.lr, images.downscales, strict=True)
    )
    capacity = fleet_capacity(machine.device, own(first), (first.shape[-2], first.shape[-1]))
    done: dict[int, _Output] = {}
    for ended in run_jobs(enumerate(jobs), min(len(images), capacity)):
        if ended.error is not None:
            raise ended.error
        assert ended.result is not None
        done[ended.key] = _output(ended.result)
        work.bar.update(what, len(done), len(images))
    return _results([done[n] for n in range(len(images))], began)


_Output = tuple[Tensor, Tensor | None]


def _output(one: SuperResolved) -> _Output:
    """An image, and how far its views disagree where there are several; on the CPU."""
    return rounded(one.image_CHW.cpu()), one.disagreement_HW.float().cpu() if one.views > 1 else None


def _results(done: Sequence[_Output], began: float) -> Results:
    """Images with the seconds an image since `began`."""
    seconds = (time.perf_counter() - began) / len(done)
    return Results(tuple(image for image, _ in done), seconds, tuple(apart for _, apart in done if apart is not None))


def _generated(work: Evaluator, name: str, images: Images, preset: str, generator: TrainedGenerator) -> Results:
    settings, scale, device = load_generator_preset(preset), own_scale(generator), work.machine.device
    began, done = time.perf_counter(), list[_Output]()
    pairs = zip(images.lr, images.downscales, strict=True)
    # Neighbours of one shape and camera share a pass, where the device takes several.
    for (shape, _), group in groupby(pairs, key=lambda pair: (pair[0].shape, id(pair[1]))):
        alike = list(group)
        together = images_together(device, (shape[-2], shape[-1]))
        for at in range(0, len(alike), together):
            some = alike[at : at + together]
            lr = [image.to(device) for image, _ in some]
            done += map(_output, generate(lr, scale, settings, some[0][1], generator, work.machine))
            work.bar.update(f"generator, {name}", len(done), len(images))
    return _results(done, began)


def _key(work: Evaluator, images: Images) -> dict[str, object]:
    """What every method's results depend on."""
    downscales = [degradation_of(one) for one in images.downscales]
    return {"lr": hash_of(images.lr), "downscales": downscales, "scale": list(work.scale), **work.device}


def _zero_shot_key(work: Evaluator, settings: ZeroShotSettings, images: Images) -> dict[str, object]:
    return {**_key(work, images), "settings": settings.model_dump(mode="json"), "seed": work.settings.seed}


def _taught_by(generator: TrainedGenerator) -> str:
    """What a generator was learnt from, in a few words, by its card."""
    card = generator.card
    if card.origin is not None:
        return "not known: trained elsewhere"
    count = card.images["inputs"].count if "inputs" in card.images else 0
    images = f"{count:,} other images, {'HR truths' if card.truths else 'LR'}"
    if card.step is None or card.steps is None or card.step >= card.steps:
        return images
    # A phase, the best on the way, or a training that broke off.
    return f"{images}, {card.step:,} of {card.steps:,} steps"


def _lanczos(lr: Tensor, size: tuple[int, int]) -> Tensor:
    planes = [
        np.asarray(Image.fromarray(plane.numpy(), "F").resize((size[1], size[0]), Image.Resampling.LANCZOS))
        for plane in lr
    ]
    return torch.from_numpy(np.stack(planes))
