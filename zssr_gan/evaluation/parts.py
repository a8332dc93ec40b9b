"""The parts of an evaluation that are tables: each is a list of methods, a list of metrics, and images.

Tables I and II of the seed paper, whose references are no truths; every method against truths that none of them saw,
made small by bicubic or blind; sets of truths at their own sizes; and native LR images without a truth.
"""

from collections.abc import Sequence
from dataclasses import replace

from zssr_gan.errors import SettingsError
from zssr_gan.evaluation import published
from zssr_gan.evaluation.cache import Results, joined
from zssr_gan.evaluation.case_training import train_on_these
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.figures import histograms_png
from zssr_gan.evaluation.ground_truth import blind_groups, native_images, own_sizes
from zssr_gan.evaluation.measure import SHOWN, measure, scenes
from zssr_gan.evaluation.methods import (
    CONTENT,
    EXTENDED,
    INTERPOLATIONS,
    RAW,
    Method,
    apply_generator,
    interpolate,
    learn_alone,
    learn_together,
    no_results,
    own_generator,
)
from zssr_gan.evaluation.metrics.full_reference import mse, psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Definition, Figure, Metric
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Illustration, Part
from zssr_gan.evaluation.run import Images, joined_images
from zssr_gan.evaluation.summary import single
from zssr_gan.evaluation.tables import Measured, Row, Table, compared
from zssr_gan.provenance import label_of
from zssr_gan.settings.evaluate import SetSettings

ALONE, TOGETHER = "ZSSR, learnt on each LR image", "ZSSR, learnt on all LR images"

ASSUMED = f"{TOGETHER}, bicubic assumed"

_TRAINED = (
    "Rows of a generator “on these LR images” are the whole unpaired way: one zero-shot network learnt on all LR "
    "images, its results taken for real by the discriminator, and a generator trained on both. At most a tenth of the "
    "images, or two, are held out of that training, to choose by, and measured with the rest."
)

_NO_TIME = "the training was stopped and went on, and nobody has the time of its first steps"


def table_1(work: Evaluator) -> Part | None:
    """The generator against the synthetic HR images of the role `table1`; None where it has no image."""
    images, count = work.images("table1", work.settings.evaluate.most)
    if not images.ids:
        return None
    synthetic, seed = work.synthetic(images.ids), work.settings.seed
    bicubic, own = interpolate(work, "bicubic", images), own_generator(work, images)
    metrics = [ssim_pil(), psnr("RGB"), ssim(), psnr()]
    rows = measure(work, "table 1", [*own, bicubic], metrics, replace(images, truths=synthetic))
    columns = (*(metric.definition for metric in metrics), published.SSIM, published.PSNR)
    printed = {
        one.name: [Figure(one.name, pair[n]) for pair in published.TABLE_1]
        for n, one in enumerate((published.SSIM, published.PSNR))
    }
    lacking = "the paper's images are not at hand"
    paper = Measured(("the seed paper, its eight images",), printed, label_of("", generator=True), lacking)
    means, gains = compared(
        f"Table I: synthetic HR against SRGAN, {count} of the role table1",
        columns,
        [*(replace(row, lacking="this row is ours") for row in rows), paper],
        baseline="bicubic",
        gains="Table I: differences to bicubic",
        remarks=(
            "The reference is the synthetic HR image, which is no truth: the figures say how close the generator comes "
            "to the zero-shot way",
        ),
    )
    shown, figures = images.ids[:SHOWN], {**rows[0].figures, **printed}
    samples = Table(
        f"Table I: {len(shown)} samples, drawn by the seed {seed}; {RAW.format(work.network)}",
        ("sample", "image"),
        columns,
        tuple(
            Row((str(n + 1), name), tuple(single(figures[column.name][n]) for column in columns))
            for n, name in enumerate(shown)
        ),
        ("The seed paper's values are of its own eight images, which are not these",),
    )
    zssr = Method("synthetic HR", label_of("", shared=work.settings.synth.init == "shared"), Results(synthetic, 0))
    title, views = "Table I: the generator against the zero-shot way", scenes(work, images, [bicubic, zssr, *own])
    return Part("table1", title, (), (samples, means, gains), scenes=views)


def table_2(work: Evaluator) -> Part | None:
    """LR images of the role `unseen`, extended (bicubic) and by the generator; None where it has no image."""
    images, count = work.images("unseen", work.settings.evaluate.most)
    if not images.ids:
        return None
    bicubic, own = interpolate(work, "bicubic", images), own_generator(work, images)
    metrics = _without_truth(images)
    tables = compared(
        f"Table II: {count} of the role unseen, without a truth",
        [metric.definition for metric in metrics],
        measure(work, "table 2", [replace(bicubic, name=EXTENDED), *own], metrics, images),
        baseline=EXTENDED,
        gains="Table II: differences to the extended LR",
    )
    views = scenes(work, images, [bicubic, *own])
    return Part("table2", "Table II: unseen images", (), tables, scenes=views)


def truth(work: Evaluator) -> Part:
    """Truths made small by bicubic."""
    images, _ = work.truths
    methods = _methods(work, images, with_alone=True)
    title = f"Truth known: {_size_text(work, images)}, LR by bicubic"
    return _against_truths(work, "truth", "Truth known", title, images, methods)


def blind(work: Evaluator) -> Part:
    """Truths that went through cameras unknown to the methods."""
    truths, _ = work.truths
    groups = blind_groups(work, truths, work.cache)
    if not groups:
        raise SettingsError("evaluate.truth.blind: is 0, so that there are no groups: set it to 3.")
    for group in groups:
        work.bar.note(f"{group.done}; estimated: {group.estimated}")
    methods = [_joined(each) for each in zip(*(_methods(work, group) for group in groups), strict=True)]
    images = joined_images(groups)
    title = f"Blind: {len(groups)} groups of {_size_text(work, groups[0])}"
    part = _against_truths(work, "blind", "Blind: cameras unknown to every method", title, images, methods)
    rows = [Row((str(n), f"{len(one):,}", one.done, one.estimated), ()) for n, one in enumerate(groups, 1)]
    heads = ("group", "images", "what the camera did", "what was estimated")
    return replace(part, tables=(*part.tables, Table("Cameras", heads, (), tuple(rows))))


def sets(work: Evaluator) -> Part:
    """Tables of means, of differences and of single images for each of `evaluate.sets`."""
    wanted = work.settings.evaluate.sets
    if not wanted:
        raise SettingsError("evaluate.sets: is empty: name a folder of truths, [{root: set5, name: Set5}].")
    parts = [_set(work, one) for one in wanted]
    return _in_one("sets", "Sets of truths, beside published figures", parts)


def native(work: Evaluator) -> Part:
    """Tables and scenes for each of `evaluate.native`."""
    wanted = work.settings.evaluate.native
    if not wanted:
        raise SettingsError("evaluate.native: is empty: name a folder of LR images, [{kind: folder, root: crops}].")
    return _in_one("native", "Native footage, without a truth", [_native(work, one) for one in wanted])


def _set(work: Evaluator, wanted: SetSettings) -> Part:
    images, notices = own_sizes(work, wanted)
    methods = [interpolate(work, name, images) for name in INTERPOLATIONS if name != "nearest"]
    # One by one: a run that is stopped loses one, and large ones need not lie in memory together.
    methods.append(learn_alone(work, f"ZSSR, {wanted.preset}", wanted.preset, images, together=1))
    border = round(work.scale[0])
    metrics = [psnr("Y", border), ssim("Y", border)]
    columns, rows = [metric.definition for metric in metrics], measure(work, wanted.label, methods, metrics, images)
    # What others printed compares where the set has all of its images, at x2.
    complete = border == 2 and published.IMAGES_OF.get(wanted.label) == len(images)
    theirs, printed = [], (published.SET_PSNR, published.SET_SSIM)
    for name, (label, *values) in (published.SETS[wanted.label] if complete else {}).items():
        figures = {one.name: Figure(one.name, value) for one, value in zip(printed, values, strict=True)}
        theirs.append(Measured((name,), figures, label, "the paper's results are not at hand"))
    means, gains = compared(
        f"{wanted.label}: {len(images):,} images, x{border}",
        [*columns, *printed] if theirs else columns,
        [*(replace(row, lacking="this row is ours") for row in rows), *theirs],
        gains=f"{wanted.label}: differences to bicubic",
    )
    each = tuple(
        Row((name, row.texts[0]), tuple(single(row.figures[column.name][n]) for column in columns))
        for n, name in enumerate(images.ids)
        for row in rows
    )
    singles = Table(f"{wanted.label}, image by image", ("image", "method"), tuple(columns), each)
    return Part("", wanted.label, tuple(notices), (means, gains, singles), scenes=scenes(work, images, methods))


def _native(work: Evaluator, wanted: SetSettings) -> Part:
    images, notices = native_images(work, wanted, work.cache)
    bicubic = images.as_bicubic()
    work.bar.note(f"{wanted.label}: {images.estimated}")
    methods = [
        *(interpolate(work, name, bicubic) for name in ("bicubic", "back-projected")),
        learn_together(work, ASSUMED, wanted.preset, bicubic),
        learn_together(work, TOGETHER, wanted.preset, images),
        *([] if work.trained is None else own_generator(work, images)),
    ]
    metrics = _without_truth(images)
    tables = compared(
        f"{wanted.label}: {len(images):,} native images, x{work.scale[0]:g}",
        [metric.definition for metric in metrics],
        measure(work, wanted.label, methods, metrics, images),
        gains=f"{wanted.label}: differences to bicubic",
        remarks=(f"Camera: {images.estimated}",),
    )
    return Part("", wanted.label, tuple(notices), tables, scenes=scenes(work, images, methods))


def _without_truth(images: Images) -> list[Metric]:
    """Columns of images without a truth; those that need one say so in every cell."""
    return [psnr(), ssim(), residual(images.cameras), colour_shift(images.cameras), sharpness()]


def _in_one(name: str, title: str, parts: Sequence[Part]) -> Part:
    """One part of several sets of images, which are parts with a label as title and notices as text."""
    notices = tuple(f"{one.title}: {notice}." for one in parts for notice in one.text)
    tables = tuple(table for one in parts for table in one.tables)
    return Part(name, title, notices, tables, scenes=tuple(scene for one in parts for scene in one.scenes))


def _methods(work: Evaluator, images: Images, *, with_alone: bool = False) -> list[Method]:
    """Every method on the LR images of one camera; `with_alone`: a network of each image's own too."""
    wanted = work.settings.evaluate.truth
    assert wanted is not None  # else there are no truths
    bicubic = images.as_bicubic()
    methods = [interpolate(work, name, bicubic) for name in INTERPOLATIONS]
    if with_alone and wanted.alone is not None:
        methods.append(learn_alone(work, ALONE, wanted.alone, images))
    if images.estimated:
        methods.append(learn_together(work, ASSUMED, wanted.preset, bicubic))
    methods.append(learn_together(work, TOGETHER, wanted.preset, images))
    if work.trains_on_truths:
        methods += train_on_these(work, images, methods[-1])
    if work.trained is None:
        work.bar.note("truth: this run has trained no generator, so it has no row")
    else:
        if work.content is not None:
            methods.append(apply_generator(work, CONTENT.format(work.network), images, "raw", work.content))
        methods += own_generator(work, images)
    for name, other in work.others.items():
        if isinstance(other, str):
            methods.append(no_results(name, "not known", other))
        else:
            methods.append(apply_generator(work, name, images, "raw", other))
    return methods


def _against_truths(
    work: Evaluator, name: str, title: str, table: str, images: Images, methods: Sequence[Method]
) -> Part:
    """Tables and scenes of methods whose results are compared with truths."""
    assert images.truths is not None
    by_networks, of_sets = work.network_metrics
    metrics = [psnr(), ssim(), ssim_pil(), mse(), vif(), *by_networks]
    metrics += [residual(images.cameras), colour_shift(images.cameras)]
    time = _time_column(work)
    rows = [
        replace(
            row,
            texts=(method.name, method.learnt_from),
            figures={**row.figures, time.name: _time(method, time, len(images))},
        )
        for method, row in zip(methods, measure(work, name, methods, metrics, images, of_sets), strict=True)
    ]
    columns = [metric.definition for metric in metrics]
    columns += [one for metric in of_sets for one in metric.definitions.values()]
    tables = compared(
        table,
        [*columns, time],
        rows,
        heads=("method", "learnt from"),
        baseline="bicubic",
        gains=f"{title}: differences to bicubic",
    )
    train, texts = work.settings.train, list[str]()
    if work.trains_on_truths:
        texts.append(_TRAINED)
        if train.losses.need_features:
            texts.append(f"Its mediator's weights are not of these images: {train.mediator.weights}.")
    best = TOGETHER if work.trained is None else RAW.format(work.network)
    shown = {one.name: one.images for one in methods if one.name in ("bicubic", best)}
    histogram = Illustration("Pixel intensities", histograms_png({"truth": images.truths, **shown}))
    return Part(name, title, (*texts, *work.truths[1]), tables, (histogram,), scenes(work, images, methods))


def _size_text(work: Evaluator, images: Images) -> str:
    assert images.truths is not None
    return f"{len(images):,} images of {images.truths[0].shape[-1]} px a side, x{work.scale[0]:g}"


def _time_column(work: Evaluator) -> Definition:
    device = "{device}, {threads} CPU threads, {precision}".format(**work.device)
    meaning = "wall time an image, all learning on these images included, a run's own training before not"
    return Definition(f"time, {device}", meaning, "s", higher_is_better=False)


def _time(method: Method, column: Definition, images: int) -> Figure:
    """Of applying, and of learning on these images."""
    if method.results is None:
        return column.none(method.why)
    if method.learning_seconds is None:
        return column.none(_NO_TIME)
    return Figure(column.name, method.results.seconds + method.learning_seconds / images)


def _joined(methods: Sequence[Method]) -> Method:
    """A method's results on several groups; none where one group has none."""
    if missing := [one for one in methods if one.results is None]:
        return missing[0]
    results = joined([one.results for one in methods if one.results is not None])
    times = [one.learning_seconds for one in methods]
    seconds = None if None in times else sum(one for one in times if one is not None)
    return replace(methods[0], results=results, learning_seconds=seconds)
