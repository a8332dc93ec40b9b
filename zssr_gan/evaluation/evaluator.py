"""What every part of an evaluation is made with: methods, figures of their results, and scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.split import Role
from zssr_gan.evaluation.cache import Figures, Results, hash_of
from zssr_gan.evaluation.methods import INTERPOLATIONS, Entry, Methods
from zssr_gan.evaluation.metrics.frechet import Features, SetMetric, fid, frechet
from zssr_gan.evaluation.metrics.metric import Definition, Metric, Sample
from zssr_gan.evaluation.metrics.perceptual import lpips, perceptual
from zssr_gan.evaluation.part import Illustration, Scene, View
from zssr_gan.evaluation.run import Chosen, Inputs
from zssr_gan.evaluation.tables import Method
from zssr_gan.imaging.sheets import encode_sheet, evidence_sheet
from zssr_gan.networks.registry import mediator_options

HEADS = ("method",)

_VIEWS = 8


@dataclass
class Evaluator(Methods):
    """Methods, and figures and pictures of their results."""

    _looked: dict[tuple[str, str], Features] = field(default_factory=dict, init=False)

    def images_of(self, role: Role) -> Chosen:
        """The images of a role that are measured."""
        return self.run.chosen(role, self.run.settings.evaluate.most)

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
        places = list(cameras or (0,) * len(inputs))
        known: Sequence[Tensor | None] = [None] * len(inputs) if truths is None else truths
        given = list(zip(known, inputs.images, places, strict=True))
        key: dict[str, JsonValue] = {
            "lr": hash_of(inputs.images),
            "truths": None if truths is None else hash_of(truths),
            "cameras": [*places],
            "metrics": [metric.definition.name for metric in metrics],
            "missing": [metric.definition.missing for metric in metrics],
        }
        methods = []
        for name, one in entries.items():
            if one.results is None:
                columns = (metric.definition for metric in metrics)
                figures = {column.name: [column.none(one.why)] * len(inputs) for column in columns}
            else:
                own = {**key, "results": one.results.sha256}
                compute = partial(self._figures, f"measuring: {what}, {name}", one.results.images, metrics, given)
                figures = self.cache.value("figures", own, Figures, compute)
            methods.append(Method((name,), figures, one.label))
        return methods

    def _figures(
        self,
        what: str,
        results: Sequence[Tensor],
        metrics: Sequence[Metric],
        given: Sequence[tuple[Tensor | None, Tensor, int]],
    ) -> Figures:
        """Figures of results, each with its truth, LR image and camera."""
        figures: Figures = {metric.definition.name: [] for metric in metrics}
        for n, (result, (truth, lr, camera)) in enumerate(zip(results, given, strict=True)):
            for metric in metrics:
                figures[metric.definition.name].append(metric(Sample(result, truth, lr, camera)))
            self.bar.update(what, n + 1, len(results))
        return figures

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

    def scenes(
        self, ids: Sequence[str], inputs: Inputs, entries: Mapping[str, Entry], truths: Sequence[Tensor] | None = None
    ) -> tuple[Scene, ...]:
        """The first `evaluate.samples` images by all methods.

        Evidence maps are of the last method with views that can disagree: the others' are in their records.
        """
        shown = min(self.run.settings.evaluate.samples, len(ids))
        large = self._interpolated("nearest", inputs).images
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


def png_of(pixels: Tensor) -> bytes:
    """`C H W`, [0, 1], as a PNG with our mark."""
    return encode_sheet(pixels, "evaluation")


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name).expanduser()
