"""Every method against truths that none of them saw: made small by bicubic, or blind, in groups of one camera each."""

from collections.abc import Sequence
from dataclasses import replace

from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.evaluation.cache import joined
from zssr_gan.evaluation.case_training import train_on_case
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.figures import histograms_png
from zssr_gan.evaluation.ground_truth import Group, blind_groups
from zssr_gan.evaluation.measure import measure, measure_sets, scenes
from zssr_gan.evaluation.methods import (
    ASSUMED,
    CONTENT,
    INTERPOLATIONS,
    PROJECTED,
    RAW,
    THESE,
    TOGETHER,
    Method,
    apply_generator,
    interpolate,
    learn_alone,
    learn_together,
    no_results,
    own_generator,
)
from zssr_gan.evaluation.metrics.full_reference import mse, psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual
from zssr_gan.evaluation.metrics.perceptual import reason
from zssr_gan.evaluation.part import Illustration, Part
from zssr_gan.evaluation.run import Images, joined_images
from zssr_gan.evaluation.tables import Row, Table, compared
from zssr_gan.training.model_card import TrainedGenerator

ALONE = "ZSSR, learnt on each LR image"

_TRUTH = (
    "Images of high resolution are made small, every method enlarges the small images, and its results are compared "
    "with the truths. The second column says what taught a method: rows on “these LR images” saw no other images; "
    "generators of runs were trained on others before, which may have been sharper than these LR images."
)

_TRAINED = (
    "Rows of a generator “on these LR images” are the whole unpaired way: one zero-shot network learnt on all LR "
    "images, its results taken for real by the discriminator, and a generator trained on both. At most a tenth of the "
    "images, or two, are held out of that training, to choose by, and measured with the rest."
)

_BLIND = (
    "The same truths after blur, noise and compression that no method is told; each group of images has a camera of "
    "its own. What it did is estimated from the group's LR images, and used by the networks learnt on them (but those "
    "of “bicubic assumed”) and by back-projection of generators. Residual and colour shift go through the true camera."
)

_NO_TIME = "the training was stopped and went on, and nobody has the time of its first steps"


def truth(work: Evaluator) -> Part:
    """Truths made small by bicubic."""
    images, notices = work.truths
    methods = _methods(work, Group(images), with_alone=True)
    title = f"Truth known: {_size_text(work, images)}, LR by bicubic"
    return _part(work, "truth", "Truth known", (_TRUTH, *_training_text(work), *notices), title, images, methods)


def blind(work: Evaluator) -> Part:
    """Truths that went through cameras unknown to the methods."""
    wanted = work.run.settings.evaluate.truth
    if wanted is not None and not wanted.blind:
        raise SettingsError("evaluate.truth.blind: is 0, so that there are no groups: set it to 3.")
    truths, notices = work.truths
    groups = blind_groups(work.run, truths, work.cache)
    for group in groups:
        work.bar.note(f"{group.done}; estimated: {group.estimated}")
    methods = [_joined(list(one)) for one in zip(*(_methods(work, group) for group in groups), strict=True)]
    images = joined_images([one.images for one in groups])
    title = f"Blind: {len(groups)} groups of {_size_text(work, groups[0].images)}"
    text = (_BLIND, *_training_text(work), *notices)
    part = _part(work, "blind", "Blind: cameras that no method is told of", text, title, images, methods)
    rows = [Row((str(n), f"{len(one.images):,}", one.done, one.estimated), ()) for n, one in enumerate(groups, 1)]
    heads = ("group", "images", "what the camera did", "what was estimated")
    return replace(part, tables=(*part.tables, Table("Cameras", heads, (), tuple(rows))))


def _trains(work: Evaluator) -> bool:
    """Whether a generator is trained on the LR images of these tables."""
    wanted = work.run.settings.evaluate.truth
    return wanted is not None and wanted.train and work.run.settings.train.pairs is None


def _training_text(work: Evaluator) -> tuple[str, ...]:
    """Paragraphs on the generator that is trained on these LR images."""
    train = work.run.settings.train
    if not _trains(work):
        return ()
    if not train.losses.need_features:
        return (_TRAINED,)
    return (_TRAINED, f"Its mediator's weights are not of these images: {train.mediator.weights}.")


def _size_text(work: Evaluator, images: Images) -> str:
    assert images.truths is not None
    return f"{len(images):,} images of {images.truths[0].shape[-1]} px a side, x{work.run.scale[0]:g}"


def _methods(work: Evaluator, group: Group, *, with_alone: bool = False) -> list[Method]:
    """Every method on the LR images of one camera; `with_alone`: a network of each image's own too."""
    wanted, run = work.run.settings.evaluate.truth, work.run
    assert wanted is not None  # else there are no truths
    images, bicubic = group.images, group.images.as_bicubic()
    methods = [interpolate(work, name, bicubic) for name in INTERPOLATIONS]
    if with_alone and wanted.alone is not None:
        methods.append(learn_alone(work, ALONE, wanted.alone, images))
    if group.estimated:
        methods.append(learn_together(work, ASSUMED, wanted.preset, bicubic))
    methods.append(learn_together(work, TOGETHER, wanted.preset, images))
    if _trains(work):
        methods += _trained(work, images, methods[-1])
    if run.trained is None:
        work.bar.note("truth: this run has trained no generator, so it has no row")
    else:
        if run.content is not None:
            methods.append(apply_generator(work, CONTENT.format(work.network), images, "raw", run.content))
        methods += own_generator(work, images)
    for name, other in run.others.items():
        if isinstance(other, str):
            methods.append(no_results(name, "not known", other))
        else:
            methods.append(apply_generator(work, name, images, "raw", other))
    return methods


def _trained(work: Evaluator, images: Images, stage_1: Method) -> list[Method]:
    """A generator trained on these LR images and on what the zero-shot way made of them."""
    network = f"{work.run.settings.train.generator.name.upper()} on these LR images"
    content, raw, projected = (name.format(network) for name in (CONTENT, RAW, PROJECTED))
    assert stage_1.results is not None  # it is always made
    try:
        phases = train_on_case(work, images, stage_1.results)
    except (WeightsError, SettingsError) as error:
        return [no_results(name, THESE, reason(error)) for name in (content, raw, projected)]
    before = stage_1.results.seconds * len(images)

    def method(name: str, preset: str, generator: TrainedGenerator, seconds: float | None) -> Method:
        made = apply_generator(work, name, images, preset, generator, THESE)
        return replace(made, learning_seconds=None if seconds is None else seconds + before)

    first = no_results(content, THESE, "the run's settings have one phase alone")
    if phases.content is not None:
        first = method(content, "raw", phases.content, phases.content_seconds)
    names = ((raw, "raw"), (projected, "generator"))
    return [first, *(method(name, preset, phases.last, phases.seconds) for name, preset in names)]


def _part(
    work: Evaluator,
    name: str,
    title: str,
    text: tuple[str, ...],
    table_title: str,
    images: Images,
    methods: Sequence[Method],
) -> Part:
    """Tables and scenes."""
    assert images.truths is not None
    metrics = [psnr(), ssim(), ssim_pil(), mse(), vif(), *work.network_metrics]
    metrics += [residual(images.cameras), colour_shift(images.cameras)]
    of_sets, seconds = work.set_metrics, _seconds(work)
    distances = measure_sets(work, methods, of_sets, images.truths)
    rows = [
        replace(
            row,
            texts=(method.name, method.learnt_from),
            figures={**row.figures, **of_set, seconds.name: _time(method, seconds, len(images))},
        )
        for row, method, of_set in zip(measure(work, name, methods, metrics, images), methods, distances, strict=True)
    ]
    columns = [metric.definition for metric in metrics]
    columns += [one for metric in of_sets for one in metric.definitions.values()]
    place = [method.name for method in methods].index("bicubic")
    heads = ("method", "learnt from")
    gains = f"{title}: differences to bicubic"
    tables = compared(table_title, heads, [*columns, seconds], rows, baseline=place, gains=gains)
    best = TOGETHER if work.run.trained is None else RAW.format(work.network)
    shown = {one.name: one.images for one in methods if one.name in ("bicubic", best)}
    histogram = Illustration("Pixel intensities", histograms_png({"truth": images.truths, **shown}))
    return Part(name, title, text, tables, (histogram,), scenes(work, images, methods))


def _time(method: Method, seconds: Definition, images: int) -> Figure:
    """Of applying, and of learning on these images."""
    if method.results is None:
        return seconds.none(method.why)
    if method.learning_seconds is None:
        return seconds.none(_NO_TIME)
    return Figure(seconds.name, method.results.seconds + method.learning_seconds / images)


def _seconds(work: Evaluator) -> Definition:
    device = "{device}, {threads} CPU threads, {precision}".format(**work.device)
    meaning = "wall time an image, all learning on these images included, a run's own training before not"
    return Definition(f"time, {device}", meaning, "s", higher_is_better=False)


def _joined(methods: Sequence[Method]) -> Method:
    """A method's results on several groups; none where one group has none."""
    if missing := [one for one in methods if one.results is None]:
        return missing[0]
    times = [one.learning_seconds for one in methods]
    return replace(
        methods[0],
        results=joined([one.results for one in methods if one.results is not None]),
        learning_seconds=None if None in times else sum(one for one in times if one is not None),
    )
