"""Methods that enlarge LR images, each with the label of its results: the rows of the tables.

Shapes: images are `C H W`, [0, 1]; results are on 8-bit levels, as a file holds them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.degradation.model import degradation_of
from zssr_gan.degradation.operators import Downscale, back_project
from zssr_gan.devices import Machine
from zssr_gan.evaluation.cache import Cache, Results, hash_of, joined
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.evaluation.run import Inputs, Run, scale_of
from zssr_gan.imaging.resize import enlarged_size, resize
from zssr_gan.inference.generator import generate, images_together, own_scale
from zssr_gan.progress import Bar
from zssr_gan.provenance import CaseImage, Label, label_of
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_generator_preset, load_preset
from zssr_gan.training.model_card import TrainedGenerator
from zssr_gan.zeroshot.case import learn_case, read_lr
from zssr_gan.zeroshot.scheduler import Job, run_jobs, run_single
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

THESE = "these LR images"

_FLEET = 64
"""Networks of a fleet: more are no faster on a CPU, and a stop loses more of them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A method's results with what they were learnt from, or why there are none."""

    label: Label
    results: Results | None
    learnt_from: str = "nothing"
    """What taught it, for a person."""
    why: str = ""
    learning_seconds: float | None = 0.0
    """Of a learning on these images, beside `results.seconds`; None: not known."""


def no_results(learnt_from: str, why: str) -> Entry:
    """The entry of a generator that cannot be had."""
    return Entry(label_of("", generator=True), None, learnt_from, why)


@dataclass
class Methods:
    """Applies methods to LR images; results are cached, and an entry's label is decided here."""

    run: Run
    cache: Cache
    machine: Machine
    bar: Bar

    @cached_property
    def device(self) -> dict[str, JsonValue]:
        """What results and their time depend on."""
        device = self.machine.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        return {"device": name, "precision": self.machine.precision, "threads": self.machine.threads}

    @property
    def network(self) -> str:
        """Name of the run's generator in tables."""
        return self.run.generator.card.name.upper()

    def interpolate(self, name: str, inputs: Inputs) -> Entry:
        """One of `INTERPOLATIONS`."""
        key = {**self._key(inputs), "method": name}
        return Entry(label_of(""), self.cache.results(name, key, lambda: self._interpolated(name, inputs)))

    def _interpolated(self, name: str, inputs: Inputs) -> Results:
        began, made = time.perf_counter(), []
        for lr, downscale in zip(inputs.images, inputs.downscales, strict=True):
            size = enlarged_size((lr.shape[-2], lr.shape[-1]), self.run.scale)
            if name == "nearest":
                enlarged = torch.nn.functional.interpolate(lr[None], size, mode="nearest-exact")[0]
            elif name == "lanczos":
                enlarged = _lanczos(lr, size)
            else:
                enlarged = resize(lr, size).clamp(0, 1)
                if name == "back-projected":
                    enlarged = back_project(enlarged[None], lr[None], downscale, BACK_PROJECTIONS)[0]
            made.append(rounded(enlarged))
            self.bar.update(name, len(made), len(inputs))
        return Results(tuple(made), (time.perf_counter() - began) / len(made))

    def generate(
        self, what: str, inputs: Inputs, preset: str, generator: TrainedGenerator, learnt_from: str = ""
    ) -> Entry:
        """A generator with the preset `raw` (its output) or `generator` (ensemble and back-projection).

        One of scale 1 is given the image enlarged by bicubic.
        """
        if scale_of(generator) == 1 and self.run.scale[0] != 1:
            inputs = Inputs.by_bicubic(self._interpolated("bicubic", inputs).images)
        key = {**self._key(inputs), "generator": generator.sha256, "preset": preset}
        apply = partial(self._generated, f"generator, {what}", inputs, preset, generator)
        results = self.cache.results("generator", key, apply)
        return Entry(label_of("", generator=True), results, learnt_from or taught_by(generator))

    def _generated(self, what: str, inputs: Inputs, preset: str, generator: TrainedGenerator) -> Results:
        settings, scale = load_generator_preset(preset), own_scale(generator)
        began, done = time.perf_counter(), list[_Output]()
        pairs = list(zip(inputs.images, inputs.downscales, strict=True))
        # Neighbours of one shape and camera share a pass, where the device takes several.
        for (shape, _), group in groupby(pairs, key=lambda pair: (pair[0].shape, id(pair[1]))):
            alike = list(group)
            together = images_together(self.machine.device, (shape[-2], shape[-1]))
            for at in range(0, len(alike), together):
                some = alike[at : at + together]
                lr = [image.to(self.machine.device) for image, _ in some]
                done += map(_output, generate(lr, scale, settings, some[0][1], generator, self.machine))
                self.bar.update(what, len(done), len(pairs))
        return _results(done, began)

    def generate_both(self, what: str, inputs: Inputs) -> dict[str, Entry]:
        """The run's generator: its output, and back-projected."""
        names = (RAW.format(self.network), PROJECTED.format(self.network))
        presets = zip(names, ("raw", "generator"), strict=True)
        return {name: self.generate(what, inputs, preset, self.run.generator) for name, preset in presets}

    def learn_together(self, preset: str, inputs: Inputs) -> Entry:
        """One zero-shot network that learns from all LR images and nothing else; its time is shared among them."""
        settings = load_preset(preset).for_case()
        key = self._zero_shot_key(settings, inputs)
        results = self.cache.results("zssr-shared", key, lambda: self._learnt_together(settings, inputs))
        return Entry(label_of("", shared=True), results, THESE)

    def _learnt_together(self, settings: ZeroShotSettings, inputs: Inputs) -> Results:
        began = time.perf_counter()
        case = learn_case(
            [read_lr(CaseImage(name=str(n), sha256=""), image, None) for n, image in enumerate(inputs.images)],
            seed=self.run.settings.seed,
            degradations=inputs.downscales,
            settings=settings,
            scale=self.run.scale,
            machine=self.machine,
            on_progress=self.bar.step,
        )
        pairs = zip(inputs.images, inputs.downscales, strict=True)
        done = [_output(run_single(self._job(lr, settings, downscale, case.shared))) for lr, downscale in pairs]
        return _results(done, began)

    def learn_alone(self, preset: str, inputs: Inputs, together: int = _FLEET) -> Entry:
        """A zero-shot network for each image, `together` side by side; each such group is cached by itself."""
        settings, parts = load_preset(preset), []
        for at in range(0, len(inputs), together):
            some = Inputs(inputs.images[at : at + together], inputs.downscales[at : at + together])
            key = self._zero_shot_key(settings, some)
            apply = partial(self._learnt_alone, settings, some, at, len(inputs))
            parts.append(self.cache.results("zssr-alone", key, apply))
        return Entry(label_of(""), joined(parts), "each LR image itself")

    def _learnt_alone(self, settings: ZeroShotSettings, inputs: Inputs, before: int, total: int) -> Results:
        began, first = time.perf_counter(), inputs.images[0]
        size = (first.shape[-2], first.shape[-1])
        capacity = min(len(inputs), fleet_capacity(self.machine.device, settings.for_size(first[0].numel()), size))
        jobs = (
            (n, self._job(lr, settings.for_size(lr[0].numel()), downscale))
            for n, (lr, downscale) in enumerate(zip(inputs.images, inputs.downscales, strict=True))
        )
        done: dict[int, _Output] = {}
        for ended in run_jobs(jobs, capacity):
            if ended.error is not None:
                raise ended.error
            assert ended.result is not None
            done[ended.key] = _output(ended.result)
            self.bar.update("ZSSR, each image", before + len(done), total)
        return _results([done[n] for n in range(len(inputs))], began)

    def _job(
        self, lr: Tensor, settings: ZeroShotSettings, downscale: Downscale, shared: SharedModel | None = None
    ) -> Job[SuperResolved]:
        """The job that upscales one image."""
        seed = self.run.settings.seed
        return upscale(
            lr.to(self.machine.device), self.run.scale, settings, downscale, self.machine, seed=seed, shared=shared
        )

    def _zero_shot_key(self, settings: ZeroShotSettings, inputs: Inputs) -> dict[str, JsonValue]:
        own = settings.model_dump(mode="json")
        return {**self._key(inputs), "settings": own, "seed": self.run.settings.seed}

    def _key(self, inputs: Inputs) -> dict[str, JsonValue]:
        return {
            "lr": hash_of(inputs.images),
            "downscales": [degradation_of(one) for one in inputs.downscales],
            "scale": list(self.run.scale),
            **self.device,
        }


_Output = tuple[Tensor, Tensor | None]


def _output(one: SuperResolved) -> _Output:
    """An image, and how far its views disagree where there are several; on the CPU."""
    return rounded(one.image_CHW.cpu()), one.disagreement_HW.float().cpu() if one.views > 1 else None


def _results(done: Sequence[_Output], began: float) -> Results:
    """Images with the seconds an image since `began`."""
    seconds = (time.perf_counter() - began) / len(done)
    return Results(tuple(image for image, _ in done), seconds, tuple(apart for _, apart in done if apart is not None))


def taught_by(generator: TrainedGenerator) -> str:
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
