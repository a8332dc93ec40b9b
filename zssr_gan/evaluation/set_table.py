"""Sets of truths at their own sizes, such as Set5: the zero-shot way beside published figures."""

from dataclasses import replace

from zssr_gan.errors import SettingsError
from zssr_gan.evaluation import published
from zssr_gan.evaluation.evaluator import HEADS, Evaluator
from zssr_gan.evaluation.ground_truth import own_sizes
from zssr_gan.evaluation.methods import INTERPOLATIONS
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.part import Part, merge_sets
from zssr_gan.evaluation.tables import Cell, Method, Row, Table, differences, summarised
from zssr_gan.settings.evaluate import SetSettings

_TEXT = (
    "Truths at their own sizes, shrunk by antialiased bicubic and rounded to 8 bits; each LR image gets a network of "
    "its own, and nothing is learnt from any other image. Figures are on Y with a border of the scale cropped, as the "
    "field's papers have them; what those printed stands in columns of its own."
)


def set_tables(evaluator: Evaluator) -> Part:
    """Tables of means, of differences and of single images for each of `evaluate.sets`."""
    sets = evaluator.run.settings.evaluate.sets
    if not sets:
        raise SettingsError("evaluate.sets: is empty: name a folder of truths, [{root: set5, name: Set5}].")
    parts = [_set(evaluator, one) for one in sets]
    return merge_sets("sets", "Sets of truths, beside published figures", _TEXT, parts)


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
    theirs = published.SETS[wanted.label] if _is_published(wanted.label, len(truths.ids), border) else {}
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


def _is_published(name: str, images: int, scale: int) -> bool:
    """Whether published figures of a set compare: it has all of its images, at x2."""
    return scale == 2 and published.IMAGES_OF.get(name) == images
