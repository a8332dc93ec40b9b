"""Sets of images at their own sizes: truths such as Set5 beside published figures, and native LR images without any."""

from collections.abc import Sequence
from dataclasses import replace

from zssr_gan.errors import SettingsError
from zssr_gan.evaluation import published
from zssr_gan.evaluation.evaluator import HEADS, Evaluator
from zssr_gan.evaluation.ground_truth import native_images, own_sizes
from zssr_gan.evaluation.ground_truth_table import ASSUMED, TOGETHER
from zssr_gan.evaluation.methods import INTERPOLATIONS
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Part
from zssr_gan.evaluation.run import Inputs
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Method, Row, Table, differences, summarised
from zssr_gan.settings.data import SourceSettings
from zssr_gan.settings.evaluate import SetSettings

_SETS = (
    "Truths at their own sizes, shrunk by antialiased bicubic and rounded to 8 bits; each LR image gets a network of "
    "its own, and nothing is learnt from any other image. Figures are on Y with a border of the scale cropped, as the "
    "field's papers have them; what those printed stands in columns of its own."
)

_NATIVE = (
    "Footage as cameras gave it. Nobody knows the scene, so there is no figure of how right a result is: those below "
    "say whether it agrees with its input under what the camera is estimated to have done, and how sharp it is. "
    "Sharper is not truer. Look at the pictures, and at where the maps are bright."
)


def set_tables(evaluator: Evaluator) -> Part:
    """Tables of means, of differences and of single images for each of `evaluate.sets`."""
    sets = evaluator.run.settings.evaluate.sets
    if not sets:
        raise SettingsError("evaluate.sets: is empty: name a folder of truths, [{root: set5, name: Set5}].")
    parts = [_set(evaluator, one) for one in sets]
    return _merged("sets", "Sets of truths, beside published figures", _SETS, parts)


def _set(evaluator: Evaluator, wanted: SetSettings) -> Part:
    truths, notices = own_sizes(evaluator.run, wanted)
    for notice in notices:
        evaluator.bar.note(notice)
    entries = {
        shown: evaluator.interpolate(name, truths.inputs) for name, shown in INTERPOLATIONS.items() if name != "nearest"
    }
    # One by one: a run that is stopped loses one, and large ones need not lie in memory together.
    entries[f"ZSSR, {wanted.preset}"] = evaluator.learn_alone(wanted.preset, truths.inputs, together=1)
    border = round(evaluator.run.scale[0])
    metrics = [psnr("Y", border), ssim("Y", border)]
    columns = [metric.definition for metric in metrics]
    methods = evaluator.measure(wanted.label, entries, metrics, truths.inputs, truths.images)
    title = f"{wanted.label}: {len(truths.ids):,} images, x{border}"
    # What others printed compares where the set has all of its images, at x2.
    complete = border == 2 and published.IMAGES_OF.get(wanted.label) == len(truths.ids)
    theirs = published.SETS[wanted.label] if complete else {}
    if theirs:
        printed = (published.SET_PSNR, published.SET_SSIM)
        ours = {one.name: [one.none("this row is ours")] for one in printed}
        lacking = {one.name: [one.none("the paper's results are not at hand")] for one in columns}
        rows = [replace(one, figures={**one.figures, **ours}, sets=frozenset(ours)) for one in methods]
        for name, (label, *values) in theirs.items():
            figures = {one.name: [Figure(one.name, value)] for one, value in zip(printed, values, strict=True)}
            rows.append(Method((name,), {**lacking, **figures}, label, frozenset({*lacking, *figures})))
        means = summarised(title, HEADS, [*columns, *printed], rows)
    else:
        means = summarised(title, HEADS, columns, methods)
    images = Table(
        f"{wanted.label}, image by image",
        ("image", "method"),
        tuple(columns),
        tuple(
            Row((name, one.texts[0]), {column.name: Cell(one.figures[column.name][n]) for column in columns})
            for n, name in enumerate(truths.ids)
            for one in methods
        ),
    )
    gains = differences(f"{wanted.label}: differences to bicubic", HEADS, columns, methods, methods[0])
    scenes = evaluator.scenes(truths.ids, truths.inputs, entries, truths.images)
    return Part("", wanted.label, tuple(notices), (means, gains, images), scenes=scenes)


def native_tables(evaluator: Evaluator) -> Part:
    """Tables and scenes for each of `evaluate.native`."""
    wanted = evaluator.run.settings.evaluate.native
    if not wanted:
        raise SettingsError("evaluate.native: is empty: name a folder of LR images, [{kind: folder, root: crops}].")
    parts = [_native(evaluator, one) for one in wanted]
    return _merged("native", "Native footage, without a truth", _NATIVE, parts)


def _native(evaluator: Evaluator, wanted: SourceSettings) -> Part:
    run = evaluator.run
    case, notices = native_images(run, wanted, evaluator.cache)
    for notice in [*notices, f"{wanted.label}: {case.camera}"]:
        evaluator.bar.note(notice)
    inputs, preset = case.inputs, run.settings.evaluate.native_preset
    assumed = Inputs.by_bicubic(inputs.images)
    entries = {INTERPOLATIONS[name]: evaluator.interpolate(name, assumed) for name in ("bicubic", "back-projected")}
    entries[ASSUMED] = evaluator.learn_together(preset, assumed)
    entries[TOGETHER] = evaluator.learn_together(preset, inputs)
    if run.trained is not None:
        entries |= evaluator.generate_both("native", inputs)
    metrics = [psnr(), ssim(), residual([case.downscale]), colour_shift([case.downscale]), sharpness()]
    columns = [metric.definition for metric in metrics]
    methods = evaluator.measure(wanted.label, entries, metrics, inputs)
    title = f"{wanted.label}: {len(case.ids):,} native images, x{run.scale[0]:g}"
    tables = (
        summarised(title, HEADS, columns, methods, (f"Camera: {case.camera}",)),
        differences(f"{wanted.label}: differences to bicubic", HEADS, columns, methods, methods[0]),
    )
    return Part("", wanted.label, tuple(notices), tables, scenes=evaluator.scenes(case.ids, inputs, entries))


def _merged(name: str, title: str, text: str, sets: Sequence[Part]) -> Part:
    """One part of several sets of images, which are parts with a label as title and notices as text."""
    notices = [f"{one.title}: {notice}." for one in sets for notice in one.text]
    tables = tuple(table for one in sets for table in one.tables)
    return Part(name, title, (text, *notices), tables, scenes=tuple(scene for one in sets for scene in one.scenes))
