"""Figures and pictures of methods' results."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from torch import Tensor

from zssr_gan.evaluation.cache import hash_of
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.methods import INTERPOLATIONS, Method, interpolate
from zssr_gan.evaluation.metrics.frechet import Features, SetMetric
from zssr_gan.evaluation.metrics.metric import Figure, Metric, Sample
from zssr_gan.evaluation.part import Illustration, Scene
from zssr_gan.evaluation.run import Images
from zssr_gan.evaluation.tables import Measured
from zssr_gan.imaging.sheets import encode_sheet, evidence_sheet
from zssr_gan.inference.evidence import added_variation

SHOWN = 8
"""Images of a table that are shown one by one, as in the seed paper's Table I."""

_VIEWS = 8

_Figures = dict[str, list[Figure]]
"""By definition, image by image."""


def measure(
    work: Evaluator,
    what: str,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    images: Images,
    of_sets: Sequence[SetMetric] = (),
) -> list[Measured]:
    """Methods with their figures; one without results has its reason in every cell.

    Args:
        work: caches figures.
        what: name of the images, for the progress.
        methods: have results for all images, or none.
        metrics: columns, image by image.
        images: with their truths, where some are known.
        of_sets: columns of distances of all results to all truths.
    """
    truths = None if images.truths is None else hash_of(images.truths)
    key = {
        "lr": hash_of(images.lr),
        "truths": truths,
        "cameras": list(images.camera_of or (0,) * len(images)),
        "metrics": [metric.definition.name for metric in metrics],
        "missing": [metric.definition.missing for metric in metrics],
    }
    truth_features = [cache(partial(metric.look, images.truths or ())) for metric in of_sets]  # once for all methods
    rows = []
    for one in methods:
        if one.results is None:
            rows.append(Measured((one.name,), {}, one.label, one.why))
            continue
        sha256 = hash_of(one.images)
        compute = partial(_figures, work, f"measuring: {what}, {one.name}", one.images, metrics, images)
        figures: dict[str, Any] = work.cache.value("figures", {**key, "results": sha256}, _Figures, compute)
        for metric, features in zip(of_sets, truth_features, strict=True):
            names = sorted(column.name for column in metric.definitions.values())
            set_key = {"images": sha256, "truths": truths, "names": names}
            distances = partial(_distances, metric, one.images, features)
            found = work.cache.value("distances", set_key, _Figures, distances)
            figures |= {name: figure for name, (figure,) in found.items()}
        rows.append(Measured((one.name,), figures, one.label))
    return rows


def _figures(
    work: Evaluator, what: str, results: Sequence[Tensor], metrics: Sequence[Metric], images: Images
) -> _Figures:
    figures: _Figures = {metric.definition.name: [] for metric in metrics}
    for n, result in enumerate(results):
        truth = None if images.truths is None else images.truths[n]
        sample = Sample(result, truth, images.lr[n], images.camera_of[n] if images.camera_of else 0)
        for metric in metrics:
            figures[metric.definition.name].append(metric(sample))
        work.bar.update(what, n + 1, len(results))
    return figures


def _distances(metric: SetMetric, results: Sequence[Tensor], truth_features: Callable[[], Features]) -> _Figures:
    return {one.name: [one] for one in metric.figures(metric.look(results), truth_features())}


def scenes(work: Evaluator, images: Images, methods: Sequence[Method]) -> tuple[Scene, ...]:
    """The first images by all methods but nearest, with the truth where it is known.

    Evidence maps are of the last method with views that can disagree: the others' are in their records.
    """
    large = interpolate(work, "nearest", images.as_bicubic()).images
    shown = [one for one in methods if one.results is not None and one.name != INTERPOLATIONS["nearest"]]
    found = []
    for n in range(min(SHOWN, len(images))):
        views = [Illustration("LR, its pixels enlarged", _png(large[n]))]
        views += [Illustration(one.name, _png(one.images[n]), one.label) for one in shown]
        if images.truths is not None:
            views.append(Illustration("truth", _png(images.truths[n])))
        last = [one for one in shown if one.results is not None and one.results.disagreements][-1:]
        found.append(Scene(images.ids[n], tuple(views), tuple(_evidence(one, n, images) for one in last)))
    return tuple(found)


def _evidence(method: Method, n: int, images: Images) -> Illustration:
    """Where a result is not to be trusted."""
    assert method.results is not None
    lr = images.lr[n]
    again = images.downscales[n](method.images[n][None], (lr.shape[-2], lr.shape[-1]))[0]
    residual = (again - lr).abs().mean(0) * 255
    added = added_variation(method.images[n], lr)
    sheet = evidence_sheet(method.results.disagreements[n], residual, added, views=_VIEWS)
    return Illustration(f"Evidence for: {method.name}", _png(sheet))


def _png(pixels: Tensor) -> bytes:
    return encode_sheet(pixels, "evaluation")
