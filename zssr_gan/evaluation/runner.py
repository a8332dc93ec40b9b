"""What every part of an evaluation stands on: methods whose results are kept, figures of them, tables and scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.split import Role
from zssr_gan.degradation.model import degradation_of
from zssr_gan.degradation.operators import BicubicDownscale, Downscale
from zssr_gan.devices import Machine
from zssr_gan.evaluation.cache import Figures, Kept, Made, hash_of, joined
from zssr_gan.evaluation.methods import Inputs, generated, interpolated, learnt_alone, learnt_together
from zssr_gan.evaluation.metrics.frechet import Features, SetMetric, fid, frechet
from zssr_gan.evaluation.metrics.metric import Definition, Metric, Sample
from zssr_gan.evaluation.metrics.perceptual import lpips, perceptual
from zssr_gan.evaluation.part import Illustration, Part, Scene, View
from zssr_gan.evaluation.run import Chosen, Run, device_name, scale_of
from zssr_gan.evaluation.tables import Table, to_csv, to_latex, to_markdown
from zssr_gan.files import atomic_write
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.sheets import evidence_sheet
from zssr_gan.networks.registry import mediator_options
from zssr_gan.networks.vgg import VGGOptions
from zssr_gan.progress import Bar
from zssr_gan.provenance import MARK, Label
from zssr_gan.settings.evaluate import EvaluateSettings
from zssr_gan.settings.zeroshot import ZeroShotSettings, load_preset
from zssr_gan.training.model_card import TrainedGenerator

HEADS = ("method", "label")

INTERPOLATIONS = {
    "nearest": "nearest",
    "bicubic": "bicubic",
    "lanczos": "Lanczos",
    "back-projected": "bicubic, back-projected",
}
"""Ways without a network, and what tables call them."""

_VIEWS = 8

_SIDE_BY_SIDE = 64
"""Networks of a fleet: more bring no speed on a CPU, and what a stop costs grows with them."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A method's results with what they were learnt from, or why there are none."""

    label: Label
    made: Made | None
    why: str = ""
    learnt_from: str = "nothing"
    """What taught it, for a person."""
    seconds: float | None = 0.0
    """Of a learning on these images, beside what making took; None: it cannot be known."""


@dataclass(frozen=True, slots=True)
class Names:
    """What tables call a generator's results: its network's name, and what was done."""

    network: str

    @property
    def raw(self) -> str:
        """Its output as it is."""
        return f"{self.network}, its output as it is"

    @property
    def whole(self) -> str:
        """As `zssr-gan enhance --model` does by default."""
        return f"{self.network}, back-projected"

    @property
    def content(self) -> str:
        """The generator of the first phase."""
        return f"{self.network} before the discriminator"

    @classmethod
    def of(cls, generator: TrainedGenerator, what: str = "") -> "Names":
        """By its card; `what` follows the network's name."""
        return cls(f"{generator.card.name.upper()}{what}")


@dataclass
class Measuring:
    """Makes and measures, and writes into the run's folder `report`."""

    run: Run
    kept: Kept
    used: Machine
    bar: Bar

    @property
    def report(self) -> Path:
        """The folder of what is shown."""
        return self.run.folder / "report"

    @cached_property
    def device(self) -> dict[str, JsonValue]:
        """What results and their time hang on."""
        return {"device": device_name(self.used.device), "precision": self.used.precision, "threads": self.used.threads}

    def roled(self, role: Role) -> Chosen:
        """The images of a role that are measured."""
        return self.run.chosen(role, self.run.settings.evaluate.most)

    def bicubic(self, inputs: Inputs) -> Made:
        """Enlarged by bicubic; too cheap to be kept."""
        return interpolated("bicubic", inputs, self.run.scale, lambda _done, _total: None)

    def interpolated(self, name: str, inputs: Inputs) -> Made:
        """One of `INTERPOLATIONS`, kept: its time is a figure too."""
        facts = {**self._facts(inputs), "method": name}
        return self.kept.made(
            name,
            facts,
            lambda: interpolated(name, inputs, self.run.scale, lambda done, total: self.bar.update(name, done, total)),
        )

    @cached_property
    def names(self) -> Names:
        """Of the run's generator."""
        return Names.of(self.run.generator)

    def own(self, what: str, inputs: Inputs) -> dict[str, Shown]:
        """By the run's generator: its output as it is, and back-projected."""
        ways = {self.names.raw: "raw", self.names.whole: "generator"}
        return {
            name: Shown(
                "generative",
                self.by_generator(what, inputs, preset, self.run.generator),
                learnt_from=taught_by(self.run.generator),
            )
            for name, preset in ways.items()
        }

    def by_generator(self, what: str, inputs: Inputs, preset: str, generator: TrainedGenerator) -> Made:
        """By a generator; kept. One that keeps the size is given the image enlarged by bicubic."""
        if scale_of(generator) == 1 and self.run.scale[0] != 1:
            enlarged = self.bicubic(inputs).images
            inputs = Inputs(enlarged, (BicubicDownscale(),) * len(enlarged))
        facts = {**self._facts(inputs), "generator": generator.sha256, "preset": preset}
        return self.kept.made(
            "generator",
            facts,
            lambda: generated(
                preset,
                inputs,
                generator,
                self.used,
                lambda done, total: self.bar.update(f"generator, {what}", done, total),
            ),
        )

    def zero_shot_together(self, preset: str, inputs: Inputs) -> Made:
        """By one zero-shot network that is learnt on all; kept."""
        facts = self._zero_shot_facts(load_preset(preset).for_case(), inputs)

        def learning(done: int, total: int, loss: float) -> None:
            self.bar.update("ZSSR, learning", done, total, f"loss {loss:.4f}")

        asked = (preset, inputs, self.run.scale, self.run.settings.seed, self.used)
        return self.kept.made("zssr-shared", facts, lambda: learnt_together(*asked, learning))

    def zero_shot_alone(self, preset: str, inputs: Inputs, together: int = _SIDE_BY_SIDE) -> Made:
        """By a zero-shot network for each image; kept in parts of so many, since it takes the longest."""
        settings, parts = load_preset(preset), []
        for at in range(0, len(inputs), together):
            some = inputs.part(at, at + together)

            def told(done: int, _total: int, before: int = at) -> None:
                self.bar.update("ZSSR, each image", before + done, len(inputs))

            asked = (preset, some, self.run.scale, self.run.settings.seed, self.used, told)
            make = partial(learnt_alone, *asked)
            parts.append(self.kept.made("zssr-alone", self._zero_shot_facts(settings, some), make))
        return joined(parts)

    def _zero_shot_facts(self, settings: ZeroShotSettings, inputs: Inputs) -> dict[str, JsonValue]:
        return {
            **self._facts(inputs),
            "settings": settings.model_dump(mode="json"),
            "seed": self.run.settings.seed,
        }

    def _facts(self, inputs: Inputs) -> dict[str, JsonValue]:
        return {
            "lr": hash_of(inputs.images),
            "downscales": [degradation_of(one) for one in inputs.downscales],
            "scale": list(self.run.scale),
            **self.device,
        }

    def figures(
        self,
        what: str,
        results: Sequence[Tensor],
        metrics: Sequence[Metric],
        inputs: Inputs,
        truths: Sequence[Tensor] | None,
        cameras: Sequence[int] | None = None,
    ) -> Figures:
        """Figures of results, image by image; kept.

        Args:
            what: is measured, for the progress.
            results: of each input.
            metrics: the columns.
            inputs: LR images.
            truths: of each; None where none is known.
            cameras: of each, its place among those that metrics were given; None: the first.
        """
        names = [metric.definition.name for metric in metrics]
        cameras = cameras or (0,) * len(inputs)
        facts: dict[str, JsonValue] = {
            "results": hash_of(results),
            "lr": hash_of(inputs.images),
            "truths": None if truths is None else hash_of(truths),
            "cameras": list(cameras),
            "metrics": [*names],
            "missing": [metric.definition.missing for metric in metrics],
        }

        def measure() -> Figures:
            figures: Figures = {name: [] for name in names}
            for n, result in enumerate(results):
                truth = None if truths is None else truths[n]
                sample = Sample(result, truth, inputs.images[n], cameras[n])
                for metric in metrics:
                    figures[metric.definition.name].append(metric(sample))
                self.bar.update(f"measuring: {what}", n + 1, len(results))
            return figures

        return self.kept.figures("figures", facts, measure)

    def scenes(
        self, ids: Sequence[str], inputs: Inputs, shown: Mapping[str, Shown], truths: Sequence[Tensor] | None
    ) -> tuple[Scene, ...]:
        """The first images as all methods show them: as many as `evaluate.samples`.

        Evidence maps come with the last method that has views to disagree: the others' are read off their records.
        """
        large = interpolated("nearest", inputs, self.run.scale, lambda _done, _total: None)
        scenes = []
        for n in range(min(self.run.settings.evaluate.samples, len(ids))):
            views = [View("LR, its pixels enlarged", None, png_of(large.images[n]))]
            maps: list[Illustration] = []
            for name, one in shown.items():
                if one.made is None or name == INTERPOLATIONS["nearest"]:
                    continue
                views.append(View(name, one.label, png_of(one.made.images[n])))
                if one.made.disagreements:
                    maps = [self._evidence(name, one.made, n, inputs.images[n], inputs.downscales[n])]
            if truths is not None:
                views.append(View("truth", None, png_of(truths[n])))
            scenes.append(Scene(ids[n], tuple(views), tuple(maps)))
        return tuple(scenes)

    @staticmethod
    def _evidence(name: str, made: Made, n: int, lr: Tensor, downscale: Downscale) -> Illustration:
        again = downscale(made.images[n][None], (lr.shape[-2], lr.shape[-1]))[0]
        residual = (again - lr).abs().mean(0) * 255
        sheet = evidence_sheet(made.disagreements[n], residual, views=_VIEWS)
        return Illustration(f"Evidence for: {name}", png_of(sheet))

    def written(self, name: str, tables: Sequence[Table]) -> None:
        """Write NAME.csv, NAME.md and NAME.tex of some tables."""
        contents = {
            "csv": to_csv(tables),
            "md": "\n".join(map(to_markdown, tables)).encode(),
            "tex": "\n".join(map(to_latex, tables)).encode(),
        }
        for extension, data in contents.items():
            atomic_write(self.report / f"{name}.{extension}", data, overwrite=True)

    def unwritten(self, name: str) -> None:
        """Remove what `written` wrote before, where it did."""
        for extension in ("csv", "md", "tex"):
            (self.report / f"{name}.{extension}").unlink(missing_ok=True)


def part_of_sets(
    name: str, title: str, text: str, sets: Sequence[tuple[str, list[Table], tuple[Scene, ...], list[str]]]
) -> Part:
    """A part of several sets of images: of each its label, tables, scenes and notices."""
    return Part(
        name,
        title,
        (text, *(f"{label}: {notice}." for label, _, _, notices in sets for notice in notices)),
        tuple(table for _, tables, _, _ in sets for table in tables),
        scenes=tuple(scene for _, _, scenes, _ in sets for scene in scenes),
    )


def taught_by(generator: TrainedGenerator) -> str:
    """What a generator was learnt from, in a few words, by its card."""
    card = generator.card
    if card.origin is not None:
        return "not known: trained elsewhere"
    count = card.images["inputs"].count if "inputs" in card.images else 0
    told = f"{count:,} other images, {'HR truths' if card.truths else 'LR'}"
    if card.step is None or card.steps is None or card.step >= card.steps:
        return told
    return (
        f"{told}, {card.step:,} of {card.steps:,} steps"  # a phase, the best on the way, or a training that broke off
    )


def png_of(pixels: Tensor) -> bytes:
    """`C H W`, [0, 1], as a file that says whose it is."""
    return encode_picture(Picture(pixels, None, 8, Metadata()), "png", {MARK: "evaluation"})


# Networks that others trained, as judges of results against truths: per image, and of a whole set at once.


class Judges:
    """Those that the settings name; each is read once, when it is first asked.

    Args:
        settings: the group `evaluate`.
        seed: of random weights.
        device: of Inception.
        kept: where distances are kept.
    """

    def __init__(self, settings: EvaluateSettings, seed: int, device: torch.device, kept: Kept) -> None:
        self._settings, self._seed, self._device, self._kept = settings, seed, device, kept
        self._looked: dict[tuple[str, str], Features] = {}

    @cached_property
    def metrics(self) -> tuple[Metric, Metric]:
        """Perceptual distance and LPIPS."""
        wanted = self._settings.lpips
        features = perceptual(self._options, self._settings.features.weights, seed=self._seed)
        return features, lpips(_path(wanted.weights), wanted.net)

    @property
    def distances(self) -> list[Definition]:
        """Of whole sets."""
        return [one for judge in self._of_sets for one in judge.definitions.values()]

    @cached_property
    def _of_sets(self) -> tuple[SetMetric, SetMetric]:
        places = frechet(self._options, self._settings.features.weights, seed=self._seed)
        return places, fid(_path(self._settings.inception), device=self._device)

    @property
    def _options(self) -> VGGOptions:
        return mediator_options(self._settings.features, "evaluate.features")

    def between(self, made: Made, truths: Sequence[Tensor]) -> Figures:
        """Distances of the whole set of results to the whole set of truths; kept."""
        figures: Figures = {}
        for judge in self._of_sets:
            figures |= self._distance(judge, made, truths)
        return figures

    def _distance(self, judge: SetMetric, made: Made, truths: Sequence[Tensor]) -> Figures:
        facts: dict[str, JsonValue] = {
            "images": made.sha256,
            "truths": hash_of(truths),
            "names": [*sorted(one.name for one in judge.definitions.values())],
        }

        def look() -> Figures:
            key = (judge.kind, str(facts["truths"]))
            if key not in self._looked:  # at a set once, however many methods are held against it
                self._looked[key] = judge.look(truths)
            figures = judge.figures(judge.look(made.images), self._looked[key])
            return {figure.name: [figure] for figure in figures.values()}

        return self._kept.figures("distances", facts, look)


def _path(named: str | None) -> Path | None:
    return None if named is None else Path(named).expanduser()
