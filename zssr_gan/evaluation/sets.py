"""Sets of images at their own sizes: truths such as Set5 beside published figures, and native LR images without any."""

from collections.abc import Sequence
from dataclasses import replace

from zssr_gan.errors import SettingsError
from zssr_gan.evaluation import published
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.ground_truth import native_images, own_sizes
from zssr_gan.evaluation.measure import measure, scenes
from zssr_gan.evaluation.methods import (
    ASSUMED,
    INTERPOLATIONS,
    TOGETHER,
    interpolate,
    learn_alone,
    learn_together,
    own_generator,
)
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Part
from zssr_gan.evaluation.summary import single
from zssr_gan.evaluation.tables import Measured, Row, Table, compared
from zssr_gan.settings.evaluate import SetSettings

_SETS = (
    "Truths at their own sizes, shrunk by antialiased bicubic and rounded to 8 bits; each LR image gets a network of "
    "its own, and nothing is learnt from any other image. Figures are on Y with a border of the scale cropped, as the "
    "field's papers have them; what those printed stands in columns of its own."
)

_NATIVE = (
    "Footage as cameras gave it, without a truth: no figure says how right a result is. These say whether it agrees "
    "with its input under what the camera is estimated to have done, and how sharp it is. Sharper is not truer: look "
    "at the pictures, and at where the maps are bright."
)


def set_tables(work: Evaluator) -> Part:
    """Tables of means, of differences and of single images for each of `evaluate.sets`."""
    sets = work.run.settings.evaluate.sets
    if not sets:
        raise SettingsError("evaluate.sets: is empty: name a folder of truths, [{root: set5, name: Set5}].")
    return _joined("sets", "Sets of truths, beside published figures", _SETS, [_set(work, one) for one in sets])


def native_tables(work: Evaluator) -> Part:
    """Tables and scenes for each of `evaluate.native`."""
    sets = work.run.settings.evaluate.native
    if not sets:
        raise SettingsError("evaluate.native: is empty: name a folder of LR images, [{kind: folder, root: crops}].")
    return _joined("native", "Native footage, without a truth", _NATIVE, [_native(work, one) for one in sets])


def _set(work: Evaluator, wanted: SetSettings) -> Part:
    images, notices = own_sizes(work.run, wanted)
    methods = [interpolate(work, name, images) for name in INTERPOLATIONS if name != "nearest"]
    # One by one: a run that is stopped loses one, and large ones need not lie in memory together.
    methods.append(learn_alone(work, f"ZSSR, {wanted.preset}", wanted.preset, images, together=1))
    border = round(work.run.scale[0])
    metrics = [psnr("Y", border), ssim("Y", border)]
    columns = [metric.definition for metric in metrics]
    rows = measure(work, wanted.label, methods, metrics, images)
    # What others printed compares where the set has all of its images, at x2.
    complete = border == 2 and published.IMAGES_OF.get(wanted.label) == len(images)
    theirs, printed = [], (published.SET_PSNR, published.SET_SSIM)
    for name, (label, *values) in (published.SETS[wanted.label] if complete else {}).items():
        figures = {one.name: Figure(one.name, value) for one, value in zip(printed, values, strict=True)}
        theirs.append(Measured((name,), figures, label, "the paper's results are not at hand"))
    tables = compared(
        f"{wanted.label}: {len(images):,} images, x{border}",
        ("method",),
        [*columns, *printed] if theirs else columns,
        [*(replace(row, lacking="this row is ours") for row in rows), *theirs],
        gains=f"{wanted.label}: differences to bicubic",
    )
    each = tuple(
        Row((name, row.texts[0]), tuple(single(row.figures[column.name][n]) for column in columns))
        for n, name in enumerate(images.ids)
        for row in rows
    )
    single_images = Table(f"{wanted.label}, image by image", ("image", "method"), tuple(columns), each)
    return Part("", wanted.label, tuple(notices), (*tables, single_images), scenes=scenes(work, images, methods))


def _native(work: Evaluator, wanted: SetSettings) -> Part:
    group, notices = native_images(work.run, wanted, work.cache)
    images, bicubic = group.images, group.images.as_bicubic()
    work.bar.note(f"{wanted.label}: {group.estimated}")
    methods = [interpolate(work, name, bicubic) for name in ("bicubic", "back-projected")]
    methods.append(learn_together(work, ASSUMED, wanted.preset, bicubic))
    methods.append(learn_together(work, TOGETHER, wanted.preset, images))
    if work.run.trained is not None:
        methods += own_generator(work, images)
    metrics = [psnr(), ssim(), residual(images.cameras), colour_shift(images.cameras), sharpness()]
    tables = compared(
        f"{wanted.label}: {len(images):,} native images, x{work.run.scale[0]:g}",
        ("method",),
        [metric.definition for metric in metrics],
        measure(work, wanted.label, methods, metrics, images),
        remarks=(f"Camera: {group.estimated}",),
        gains=f"{wanted.label}: differences to bicubic",
    )
    return Part("", wanted.label, tuple(notices), tables, scenes=scenes(work, images, methods))


def _joined(name: str, title: str, text: str, sets: Sequence[Part]) -> Part:
    """One part of several sets of images, which are parts with a label as title and notices as text."""
    notices = [f"{one.title}: {notice}." for one in sets for notice in one.text]
    tables = tuple(table for one in sets for table in one.tables)
    return Part(name, title, (text, *notices), tables, scenes=tuple(scene for one in sets for scene in one.scenes))
