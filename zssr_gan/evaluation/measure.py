"""Figures and pictures of methods' results."""

from collections.abc import Callable, Sequence
from functools import cache, partial

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.evaluation.cache import hash_of
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.methods import INTERPOLATIONS, Method, interpolated
from zssr_gan.evaluation.metrics.frechet import Features, SetMetric
from zssr_gan.evaluation.metrics.metric import Figure, Metric, Sample
from zssr_gan.evaluation.part import Illustration, Scene
from zssr_gan.evaluation.run import Images
from zssr_gan.evaluation.tables import Measured
from zssr_gan.imaging.sheets import encode_sheet, evidence_sheet

SHOWN = 8
"""Images of a table that are shown one by one, as in the seed paper's Table I."""

_VIEWS = 8

_Figures = dict[str, list[Figure]]
"""By definition, image by image."""


def measure(
    work: Evaluator, what: str, methods: Sequence[Method], metrics: Sequence[Metric], images: Images
) -> list[Measured]:
    """Methods with their figures, image by image; one without results has its reason in every cell.

    Args:
        work: caches figures.
        what: name of the images, for the progress.
        methods: have results for all images, or none.
        metrics: columns.
        images: with their truths, where some are known.
    """
    key: dict[str, JsonValue] = {
        "lr": hash_of(images.lr),
        "truths": None if images.truths is None else hash_of(images.truths),
        "cameras": list(images.camera_of or (0,) * len(images)),
        "metrics": [metric.definition.name for metric in metrics],
        "missing": [metric.definition.missing for metric in metrics],
    }
    rows = []
    for one in methods:
        if one.results is None:
            figures = {x.definition.name: [x.definition.none(one.why)] * len(images) for x in metrics}
        else:
            compute = partial(_figures, work, f"measuring: {what}, {one.name}", one.images, metrics, images)
            figures = work.cache.value("figures", {**key, "results": hash_of(one.images)}, _Figures, compute)
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


def measure_sets(
    work: Evaluator, methods: Sequence[Method], metrics: Sequence[SetMetric], truths: Sequence[Tensor]
) -> list[dict[str, Figure]]:
    """Of each method, distances of all its results to all truths, by definition."""
    found: list[dict[str, Figure]] = [{} for _ in methods]
    for metric in metrics:
        truth_features = cache(partial(metric.look, truths))  # once for all methods
        names = sorted(one.name for one in metric.definitions.values())
        for method, figures in zip(methods, found, strict=True):
            if method.results is None:
                figures |= {one.name: one.none(method.why) for one in metric.definitions.values()}
                continue
            key: dict[str, JsonValue] = {"images": hash_of(method.images), "truths": hash_of(truths), "names": [*names]}
            compute = partial(_distances, metric, method.images, truth_features)
            figures |= {name: one for name, (one,) in work.cache.value("distances", key, _Figures, compute).items()}
    return found


def _distances(metric: SetMetric, results: Sequence[Tensor], truth_features: Callable[[], Features]) -> _Figures:
    return {one.name: [one] for one in metric.figures(metric.look(results), truth_features()).values()}


def scenes(work: Evaluator, images: Images, methods: Sequence[Method]) -> tuple[Scene, ...]:
    """The first images by all methods but nearest, with the truth where it is known.

    Evidence maps are of the last method with views that can disagree: the others' are in their records.
    """
    large = interpolated(work, "nearest", images).images
    shown = [one for one in methods if one.results is not None and one.name != INTERPOLATIONS["nearest"]]
    found = []
    for n in range(min(SHOWN, len(images))):
        views = [Illustration("LR, its pixels enlarged", png_of(large[n]))]
        views += [Illustration(one.name, png_of(one.images[n]), one.label) for one in shown]
        if images.truths is not None:
            views.append(Illustration("truth", png_of(images.truths[n])))
        last = [one for one in shown if one.results is not None and one.results.disagreements][-1:]
        found.append(Scene(images.ids[n], tuple(views), tuple(_evidence(one, n, images) for one in last)))
    return tuple(found)


def _evidence(method: Method, n: int, images: Images) -> Illustration:
    """Where a result is not to be trusted."""
    assert method.results is not None
    lr = images.lr[n]
    again = images.downscales[n](method.images[n][None], (lr.shape[-2], lr.shape[-1]))[0]
    residual = (again - lr).abs().mean(0) * 255
    sheet = evidence_sheet(method.results.disagreements[n], residual, views=_VIEWS)
    return Illustration(f"Evidence for: {method.name}", png_of(sheet))


def png_of(pixels: Tensor) -> bytes:
    """`C H W`, [0, 1], as a PNG with our mark."""
    return encode_sheet(pixels, "evaluation")
