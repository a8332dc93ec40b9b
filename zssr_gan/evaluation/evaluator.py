"""What every part of an evaluation is made with: methods, whose results are cached, figures of them, and scenes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.split import Role
from zssr_gan.degradation.model import degradation_of
from zssr_gan.devices import Machine
from zssr_gan.evaluation.cache import Cache, Figures, Results, hash_of, joined
from zssr_gan.evaluation.methods import Inputs, generated, interpolated, learnt_alone, learnt_together
from zssr_gan.evaluation.metrics.frechet import Features, SetMetric, fid, frechet
from zssr_gan.evaluation.metrics.metric import Definition, Metric, Sample
from zssr_gan.evaluation.metrics.perceptual import lpips, perceptual
from zssr_gan.evaluation.part import Illustration, Scene, View
from zssr_gan.evaluation.run import Chosen, Run, scale_of
from zssr_gan.evaluation.tables import Method
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.sheets import evidence_sheet
from zssr_gan.networks.registry import mediator_options
from zssr_gan.progress import Bar, Progress
from zssr_gan.provenance import MARK, Label
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset
from zssr_gan.training.model_card import TrainedGenerator

HEADS = ("method",)

INTERPOLATIONS = {
    "nearest": "nearest",
    "bicubic": "bicubic",
    "lanczos": "Lanczos",
    "back-projected": "bicubic, back-projected",
}
"""Methods without a network, and their names in tables."""

THESE = "these LR images"

_VIEWS = 8

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


@dataclass(frozen=True, slots=True)
class Names:
    """What tables call a generator's results: its network's name, and what was done."""

    network: str

    @property
    def raw(self) -> str:
        """Its output."""
        return f"{self.network}, its output as it is"

    @property
    def projected(self) -> str:
        """Ensemble and back-projection, as `zssr-gan enhance --model` does by default."""
        return f"{self.network}, back-projected"

    @property
    def content(self) -> str:
        """The generator of the first phase."""
        return f"{self.network} before the discriminator"


@dataclass
class Evaluator:
    """Applies methods and measures their results."""

    run: Run
    cache: Cache
    machine: Machine
    bar: Bar
    _looked: dict[tuple[str, str], Features] = field(default_factory=dict, init=False)

    @cached_property
    def device(self) -> dict[str, JsonValue]:
        """What results and their time depend on."""
        device = self.machine.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        return {"device": name, "precision": self.machine.precision, "threads": self.machine.threads}

    @cached_property
    def names(self) -> Names:
        """Of the run's generator."""
        return Names(self.run.generator.card.name.upper())

    def images_of(self, role: Role) -> Chosen:
        """The images of a role that are measured."""
        return self.run.chosen(role, self.run.settings.evaluate.most)

    # Methods. What a row's label is, is decided here.

    def interpolate(self, name: str, inputs: Inputs) -> Entry:
        """One of `INTERPOLATIONS`."""
        apply = partial(interpolated, name, inputs, self.run.scale, self._progress(name))
        return Entry("internal", self.cache.results(name, {**self._key(inputs), "method": name}, apply))

    def generate(
        self, what: str, inputs: Inputs, preset: str, generator: TrainedGenerator, learnt_from: str = ""
    ) -> Entry:
        """A generator's results; one of scale 1 is given the image enlarged by bicubic."""
        if scale_of(generator) == 1 and self.run.scale[0] != 1:
            enlarged = interpolated("bicubic", inputs, self.run.scale, lambda *_: None).images
            inputs = Inputs.by_bicubic(enlarged)
        key = {**self._key(inputs), "generator": generator.sha256, "preset": preset}
        apply = partial(generated, preset, inputs, generator, self.machine, self._progress(f"generator, {what}"))
        return Entry("generative", self.cache.results("generator", key, apply), learnt_from or taught_by(generator))

    def generate_both(self, what: str, inputs: Inputs) -> dict[str, Entry]:
        """The run's generator: its output, and back-projected."""
        presets = {self.names.raw: "raw", self.names.projected: "generator"}
        return {name: self.generate(what, inputs, preset, self.run.generator) for name, preset in presets.items()}

    def learn_together(self, preset: str, inputs: Inputs) -> Entry:
        """One zero-shot network that learns from all LR images."""

        def on_progress(one: Progress) -> None:
            self.bar.update("ZSSR, learning", one.iteration, one.total, f"loss {one.loss:.4f}")

        options = (preset, inputs, self.run.scale, self.run.settings.seed, self.machine, on_progress)
        key = self._zero_shot_key(load_preset(preset).for_case(), inputs)
        return Entry("case", self.cache.results("zssr-shared", key, partial(learnt_together, *options)), THESE)

    def learn_alone(self, preset: str, inputs: Inputs, together: int = _FLEET) -> Entry:
        """A zero-shot network for each image; cached in parts of `together` images, since it takes the longest."""
        settings, parts = load_preset(preset), []
        for at in range(0, len(inputs), together):
            some = inputs.part(at, at + together)

            def on_image(done: int, _total: int, before: int = at) -> None:
                self.bar.update("ZSSR, each image", before + done, len(inputs))

            options = (preset, some, self.run.scale, self.run.settings.seed, self.machine, on_image)
            key = self._zero_shot_key(settings, some)
            parts.append(self.cache.results("zssr-alone", key, partial(learnt_alone, *options)))
        return Entry("internal", joined(parts), "each LR image itself")

    def _progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.bar.update(what, done, total)

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

    # Figures.

    def measure(
        self,
        what: str,
        entries: Mapping[str, Entry],
        metrics: Sequence[Metric],
        inputs: Inputs,
        truths: Sequence[Tensor] | None = None,
        cameras: Sequence[int] | None = None,
    ) -> list[Method]:
        """Methods with their figures, image by image; an entry without results has its reason in every cell.

        Args:
            what: name of the images, for the progress.
            entries: methods by name.
            metrics: columns.
            inputs: LR images.
            truths: of each; None where none is known.
            cameras: of each, its index among the downscales that metrics were made with; None: the first.
        """
        methods = []
        for name, one in entries.items():
            if one.results is None:
                columns = (metric.definition for metric in metrics)
                figures = {column.name: [column.none(one.why)] * len(inputs) for column in columns}
            else:
                places = cameras or (0,) * len(inputs)
                figures = self._figures(f"{what}, {name}", one.results.images, metrics, inputs, truths, places)
            methods.append(Method((name,), figures, one.label))
        return methods

    def _figures(
        self,
        what: str,
        results: Sequence[Tensor],
        metrics: Sequence[Metric],
        inputs: Inputs,
        truths: Sequence[Tensor] | None,
        cameras: Sequence[int],
    ) -> Figures:
        names = [metric.definition.name for metric in metrics]
        key: dict[str, JsonValue] = {
            "results": hash_of(results),
            "lr": hash_of(inputs.images),
            "truths": None if truths is None else hash_of(truths),
            "cameras": list(cameras),
            "metrics": [*names],
            "missing": [metric.definition.missing for metric in metrics],
        }

        def compute() -> Figures:
            figures: Figures = {name: [] for name in names}
            for n, result in enumerate(results):
                sample = Sample(result, None if truths is None else truths[n], inputs.images[n], cameras[n])
                for metric in metrics:
                    figures[metric.definition.name].append(metric(sample))
                self.bar.update(f"measuring: {what}", n + 1, len(results))
            return figures

        return self.cache.value("figures", key, Figures, compute)

    @cached_property
    def network_metrics(self) -> tuple[Metric, Metric]:
        """Perceptual distance and LPIPS, by the settings."""
        settings = self.run.settings
        options = mediator_options(settings.evaluate.features, "evaluate.features")
        features = perceptual(options, settings.evaluate.features.weights, seed=settings.seed)
        return features, lpips(_path(settings.evaluate.lpips.weights), settings.evaluate.lpips.net)

    @cached_property
    def _set_metrics(self) -> tuple[SetMetric, SetMetric]:
        settings = self.run.settings
        options = mediator_options(settings.evaluate.features, "evaluate.features")
        places = frechet(options, settings.evaluate.features.weights, seed=settings.seed)
        return places, fid(_path(settings.evaluate.inception), device=self.machine.device)

    @property
    def distances(self) -> list[Definition]:
        """Definitions of distances between whole sets: Frechet, FID."""
        return [one for metric in self._set_metrics for one in metric.definitions.values()]

    def distances_between(self, results: Results, truths: Sequence[Tensor]) -> Figures:
        """Distances of all results to all truths."""
        figures: Figures = {}
        for metric in self._set_metrics:
            names: list[JsonValue] = [*sorted(one.name for one in metric.definitions.values())]
            key: dict[str, JsonValue] = {"images": results.sha256, "truths": hash_of(truths), "names": names}
            compute = partial(self._distance, metric, results, truths, str(key["truths"]))
            figures |= self.cache.value("distances", key, Figures, compute)
        return figures

    def _distance(self, metric: SetMetric, results: Results, truths: Sequence[Tensor], sha256: str) -> Figures:
        if (metric.kind, sha256) not in self._looked:  # once for all methods
            self._looked[metric.kind, sha256] = metric.look(truths)
        figures = metric.figures(metric.look(results.images), self._looked[metric.kind, sha256])
        return {figure.name: [figure] for figure in figures.values()}

    # Pictures.

    def scenes(
        self, ids: Sequence[str], inputs: Inputs, entries: Mapping[str, Entry], truths: Sequence[Tensor] | None = None
    ) -> tuple[Scene, ...]:
        """The first `evaluate.samples` images by all methods.

        Evidence maps are of the last method with views that can disagree: the others' are in their records.
        """
        shown = min(self.run.settings.evaluate.samples, len(ids))
        large = interpolated("nearest", inputs, self.run.scale, lambda *_: None).images
        scenes = []
        for n in range(shown):
            views = [View("LR, its pixels enlarged", None, png_of(large[n]))]
            maps: tuple[Illustration, ...] = ()
            for name, one in entries.items():
                if one.results is None or name == INTERPOLATIONS["nearest"]:
                    continue
                views.append(View(name, one.label, png_of(one.results.images[n])))
                if one.results.disagreements:
                    maps = (self._evidence(name, one.results, n, inputs),)
            if truths is not None:
                views.append(View("truth", None, png_of(truths[n])))
            scenes.append(Scene(ids[n], tuple(views), maps))
        return tuple(scenes)

    @staticmethod
    def _evidence(name: str, results: Results, n: int, inputs: Inputs) -> Illustration:
        lr = inputs.images[n]
        again = inputs.downscales[n](results.images[n][None], (lr.shape[-2], lr.shape[-1]))[0]
        residual = (again - lr).abs().mean(0) * 255
        sheet = evidence_sheet(results.disagreements[n], residual, views=_VIEWS)
        return Illustration(f"Evidence for: {name}", png_of(sheet))


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


def png_of(pixels: Tensor) -> bytes:
    """`C H W`, [0, 1], as a PNG with our mark."""
    return encode_picture(Picture(pixels, None, 8, Metadata()), "png", {MARK: "evaluation"})


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name).expanduser()
