"""Tables I and II of the seed paper, whose references are no truths."""

from collections.abc import Sequence

from zssr_gan.evaluation import published
from zssr_gan.evaluation.cache import Results
from zssr_gan.evaluation.evaluator import HEADS, Evaluator
from zssr_gan.evaluation.methods import RAW, Entry
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim, ssim_pil
from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Part
from zssr_gan.evaluation.run import Chosen
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Method, Row, Table, differences, summarised
from zssr_gan.provenance import label_of

EXTENDED = "extended LR (bicubic)"
"""The seed paper's name of the interpolated image."""

_TABLE_1 = (
    "What the generator makes, held against the synthetic HR images of the zero-shot way. Those are no truths: the "
    "figures say how close the generator comes to them, and nothing of how close either is to the scene."
)

_TABLE_2 = (
    "Images of which nothing was made before, neither by the zero-shot way nor by the generator. No truth is known, so "
    "no figure says how right a result is; these say whether it agrees with its input, and how sharp it is."
)


def table_1(evaluator: Evaluator) -> Part | None:
    """The generator against the synthetic HR images of the role `table1`; None where it has no image."""
    role = evaluator.images_of("table1")
    if not role.ids:
        evaluator.bar.note("table1: split.json has no image of the role table1: left out")
        return None
    synthetic = evaluator.run.synthetic(role.ids)
    metrics = [ssim_pil(), psnr("RGB"), ssim(), psnr()]
    own, printed = [metric.definition for metric in metrics], [published.SSIM, published.PSNR]
    entries = {
        **evaluator.generate_both("table 1", role.inputs),
        "bicubic": evaluator.interpolate("bicubic", role.inputs),
    }
    methods = evaluator.measure("table 1", entries, metrics, role.inputs, synthetic, role.cameras)
    ours = {one.name: [one.none("this row is ours")] * len(role.ids) for one in printed}
    rows = [Method(one.texts, {**one.figures, **ours}, one.label) for one in methods]
    theirs = {
        **{one.name: [one.none("the paper's images are not at hand")] * len(published.TABLE_1) for one in own},
        **{one.name: [Figure(one.name, pair[n]) for pair in published.TABLE_1] for n, one in enumerate(printed)},
    }
    rows.append(Method(("the seed paper, its eight images",), theirs, label_of("", generator=True)))
    title = f"Table I: synthetic HR against SRGAN, {role.count_text} of the role table1"
    remark = (
        "The reference is the synthetic HR image, which is no truth: the figures say how close the generator comes to "
        "the zero-shot way"
    )
    tables = (
        _samples(evaluator, role, rows[0], [*own, *printed]),
        summarised(title, HEADS, [*own, *printed], rows, (remark,)),
        differences("Table I: differences to bicubic", HEADS, own, methods, methods[-1]),
    )
    label = label_of("", shared=evaluator.run.settings.synth.init == "shared")
    shown = {"bicubic": entries["bicubic"], "synthetic HR": Entry(label, Results(synthetic, 0.0)), **entries}
    scenes = evaluator.scenes(role.ids, role.inputs, shown)
    return Part("table1", "Table I: the generator against the zero-shot way", (_TABLE_1,), tables, scenes=scenes)


def _samples(evaluator: Evaluator, role: Chosen, method: Method, columns: Sequence[Definition]) -> Table:
    """The first images one by one, beside the paper's."""
    count = min(evaluator.run.settings.evaluate.samples, len(role.ids))
    rows = []
    for n in range(count):
        cells = {one.name: Cell(method.figures[one.name][n]) for one in columns}
        if n < len(published.TABLE_1):
            for one, value in zip((published.SSIM, published.PSNR), published.TABLE_1[n], strict=True):
                cells[one.name] = Cell(Figure(one.name, value))
        rows.append(Row((str(n + 1), role.ids[n]), cells))
    title = (
        f"Table I: {count} samples, drawn by the seed {evaluator.run.settings.seed}; {RAW.format(evaluator.network)}"
    )
    remark = "The seed paper's values are of its own eight images, which are not these"
    return Table(title, ("sample", "image"), tuple(columns), tuple(rows), (remark,))


def table_2(evaluator: Evaluator) -> Part | None:
    """LR images of the role `unseen`, extended (bicubic) and by the generator; None where it has no image."""
    role = evaluator.images_of("unseen")
    if not role.ids:
        evaluator.bar.note("table2: split.json has no image of the role unseen: left out")
        return None
    downscales = evaluator.run.downscales
    metrics = [psnr(), ssim(), residual(downscales), colour_shift(downscales), sharpness()]
    columns = [metric.definition for metric in metrics]
    bicubic, own = evaluator.interpolate("bicubic", role.inputs), evaluator.generate_both("table 2", role.inputs)
    entries = {EXTENDED: bicubic, **own}
    methods = evaluator.measure("table 2", entries, metrics, role.inputs, cameras=role.cameras)
    title = f"Table II: {role.count_text} of the role unseen, without a truth"
    tables = (
        summarised(title, HEADS, columns, methods),
        differences("Table II: differences to the extended LR", HEADS, columns, methods, methods[0]),
    )
    scenes = evaluator.scenes(role.ids, role.inputs, {"bicubic": bicubic, **own})
    return Part("table2", "Table II: unseen images", (_TABLE_2,), tables, scenes=scenes)
