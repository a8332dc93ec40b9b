"""Tables I and II of the seed paper, whose references are no truths."""

from dataclasses import replace

from zssr_gan.evaluation import published
from zssr_gan.evaluation.cache import Results
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.measure import SHOWN, measure, scenes
from zssr_gan.evaluation.methods import RAW, Method, interpolate, own_generator
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim, ssim_pil
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Part
from zssr_gan.evaluation.run import Images
from zssr_gan.evaluation.summary import single
from zssr_gan.evaluation.tables import Measured, Row, Table, compared
from zssr_gan.provenance import label_of

EXTENDED = "extended LR (bicubic)"
"""The seed paper's name of the interpolated image."""

_TABLE_1 = (
    "The generator's results, compared with the synthetic HR images. Those are no truths: the figures say how close "
    "the generator comes to the zero-shot way, and not how close either is to the scene."
)

_TABLE_2 = (
    "Images that nothing was learnt from. No truth is known, so no figure says how right a result is; these say "
    "whether it agrees with its input, and how sharp it is."
)


def table_1(work: Evaluator) -> Part | None:
    """The generator against the synthetic HR images of the role `table1`; None where it has no image."""
    images, count = work.run.images("table1", work.run.settings.evaluate.most)
    if not images.ids:
        return None
    synthetic = work.run.synthetic(images.ids)
    bicubic, own = interpolate(work, "bicubic", images), own_generator(work, images)
    metrics = [ssim_pil(), psnr("RGB"), ssim(), psnr()]
    columns = (*(metric.definition for metric in metrics), published.SSIM, published.PSNR)
    rows = measure(work, "table 1", [*own, bicubic], metrics, replace(images, truths=synthetic))
    printed = {
        one.name: [Figure(one.name, pair[n]) for pair in published.TABLE_1]
        for n, one in enumerate((published.SSIM, published.PSNR))
    }
    paper, label = "the seed paper, its eight images", label_of("", generator=True)
    means, gains = compared(
        f"Table I: synthetic HR against SRGAN, {count} of the role table1",
        ("method",),
        columns,
        [
            *(replace(one, lacking="this row is ours") for one in rows),
            Measured((paper,), printed, label, "the paper's images are not at hand"),
        ],
        baseline=2,
        remarks=(
            "The reference is the synthetic HR image, which is no truth: the figures say how close the generator comes "
            "to the zero-shot way",
        ),
        gains="Table I: differences to bicubic",
    )
    zssr = Method("synthetic HR", label_of("", shared=work.run.settings.synth.init == "shared"), Results(synthetic, 0))
    shown = scenes(work, images, [bicubic, zssr, *own])
    tables = (_samples(work, images, replace(rows[0], figures={**rows[0].figures, **printed}), means), means, gains)
    return Part("table1", "Table I: the generator against the zero-shot way", (_TABLE_1,), tables, scenes=shown)


def _samples(work: Evaluator, images: Images, row: Measured, means: Table) -> Table:
    """The first images one by one, beside the paper's."""
    count = min(SHOWN, len(images))
    rows = []
    for n in range(count):
        cells = tuple(single(row.figures[column.name][n]) for column in means.columns)
        rows.append(Row((str(n + 1), images.ids[n]), cells))
    seed, method = work.run.settings.seed, RAW.format(work.network)
    title = f"Table I: {count} samples, drawn by the seed {seed}; {method}"
    remark = "The seed paper's values are of its own eight images, which are not these"
    return Table(title, ("sample", "image"), means.columns, tuple(rows), (remark,))


def table_2(work: Evaluator) -> Part | None:
    """LR images of the role `unseen`, extended (bicubic) and by the generator; None where it has no image."""
    images, count = work.run.images("unseen", work.run.settings.evaluate.most)
    if not images.ids:
        return None
    metrics = [psnr(), ssim(), residual(images.cameras), colour_shift(images.cameras), sharpness()]
    bicubic, own = interpolate(work, "bicubic", images), own_generator(work, images)
    tables = compared(
        f"Table II: {count} of the role unseen, without a truth",
        ("method",),
        [metric.definition for metric in metrics],
        measure(work, "table 2", [replace(bicubic, name=EXTENDED), *own], metrics, images),
        gains="Table II: differences to the extended LR",
    )
    shown = scenes(work, images, [bicubic, *own])
    return Part("table2", "Table II: unseen images", (_TABLE_2,), tables, scenes=shown)
