"""The part `figures`: the seed paper's figures 4 to 7 as grids, tables as pictures, curves, histograms, and the time.

The time of the zero-shot way is measured: some synthetic HR images are made again, as the run made them.
"""

import io
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure as Drawing
from torch import Tensor

from zssr_gan.data.run_case import zero_shot_settings
from zssr_gan.evaluation import published
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.measure import SHOWN
from zssr_gan.evaluation.methods import EXTENDED, RAW, apply_generator, interpolate, own_generator, zero_shot
from zssr_gan.evaluation.metrics.metric import Definition
from zssr_gan.evaluation.part import Illustration, Part
from zssr_gan.evaluation.run import Images
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Row, Table
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet
from zssr_gan.training.logs import MetricsLog, curves_png
from zssr_gan.zeroshot.shared import read_shared

_GRID, _COLUMNS = 24, 6
"""Images of a grid, and in a row of it."""

_TIMED = 8
"""Synthetic HR images that are made again, side by side, to know how long it takes."""

_SECONDS = Definition(
    "seconds an image", "wall time of making the images side by side, over their number", "s", higher_is_better=False
)

_HOURS = Definition(
    f"hours for {published.IMAGES} images",
    "of the seed paper: as printed; of others: seconds an image times their number",
    "h",
    higher_is_better=False,
)


def histograms_png(sets: Mapping[str, Sequence[Tensor]]) -> bytes:
    """Histograms of pixel intensities over all channels, a curve a set: whether a method keeps its input's."""
    drawing = Drawing(figsize=(8, 4), layout="constrained")
    axes = drawing.add_subplot()
    for name, images in sets.items():
        levels = torch.cat([image.mul(255).round().flatten() for image in images]).numpy()
        shares, edges = np.histogram(levels, bins=64, range=(0, 256))
        axes.stairs(shares / shares.sum(), edges, label=f"{name} ({len(images):,} images)")
    axes.set(xlabel="intensity, levels of 255", ylabel="share of pixels in 4 levels")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()


def figures(work: Evaluator) -> Part:
    """All figures of a run; those that it has no images for are left out with a notice."""
    if work.settings.train.pairs is not None:  # it has neither synthetic HR images nor LR ones of its own
        return Part("figures", "Figures and time", (), (), _curves(work))
    illustrations = (*_grids(work), *_samples(work), *_curves(work))
    return Part("figures", "Figures and time", (), _times(work), illustrations)


def _grids(work: Evaluator) -> list[Illustration]:
    name = RAW.format(work.network)
    zssr, taught = (work.images(role, _GRID)[0] for role in ("zssr", work.settings.train.images))
    grids = {
        4: ("LR images that the zero-shot way was given", zssr.ids, zssr.lr),
        5: ("synthetic HR images of them", zssr.ids, work.synthetic(zssr.ids)),
        6: ("LR images that the generator was trained on", taught.ids, taught.lr),
        7: (
            f"HR images of them; {name}, generative",
            taught.ids,
            apply_generator(work, "figure 7", taught, "raw", work.generator).images,
        ),
    }
    found = []
    for number, (what, ids, images) in grids.items():
        if not ids:
            work.bar.note(f"figure {number}: split.json has no image for it: left out")
            continue
        cells = list(zip(ids, images, strict=True))
        rows = [cells[at : at + _COLUMNS] for at in range(0, len(cells), _COLUMNS)]
        found.append(_sheet(f"figure-{number}", f"As figure {number} of the seed paper: {what}", rows))
    return found


def _samples(work: Evaluator) -> list[Illustration]:
    """The paper's tables as pictures, and pixel intensities of the generator's inputs and outputs."""
    most = work.settings.evaluate.most
    table1, unseen = (work.images(role, most)[0] for role in ("table1", "unseen"))
    found = []
    for name, images, title in (
        ("table1", table1, "Table I: samples"),
        ("table2", unseen, "Table II: unseen images"),
    ):
        if not images.ids:
            continue
        shown = {EXTENDED: interpolate(work, "bicubic", images).images}
        if name == "table1":
            shown["synthetic HR"] = work.synthetic(images.ids)
        shown |= {one.name: one.images for one in own_generator(work, images)}
        rows = [
            [(f"LR, {one}", images.lr[n]), *((caption, its[n]) for caption, its in shown.items())]
            for n, one in enumerate(images.ids[:SHOWN])
        ]
        found.append(_sheet(f"{name}-samples", title, rows))
    images = unseen if unseen.ids else table1
    if not images.ids:
        work.bar.note("histograms: split.json has no image of the roles unseen and table1: left out")
        return found
    sets = {"LR input": images.lr, **{one.name: one.images for one in own_generator(work, images)}}
    caption = "Pixel intensities of what goes into the generator and of what comes out"
    return [*found, Illustration(caption, histograms_png(sets), name="histograms")]


def _curves(work: Evaluator) -> tuple[Illustration, ...]:
    lines = MetricsLog(work.folder / "train" / "metrics.jsonl").read()
    if not lines:
        work.bar.note("losses: train/metrics.jsonl is not there or empty: left out")
        return ()
    return (Illustration("Losses and validation of the training", curves_png(lines, "Training"), name="losses"),)


def _times(work: Evaluator) -> tuple[Table, ...]:
    """The zero-shot way's time, beside the seed paper's."""
    settings, machine = work.settings, work.machine
    images, _ = work.images("zssr", _TIMED)
    if not images.ids:
        work.bar.note("zero-shot time: split.json has no image of the role zssr: left out")
        return ()
    shares = settings.synth.init == "shared"
    way = "one network learnt on all images" if shares else "network of its own for each image"
    threads = f", {machine.threads} CPU threads" if machine.device.type == "cpu" else ""
    device = f"{work.device['device']}{threads}, {machine.precision}"
    remarks = [f"Measured on {len(images)} images of {settings.synth.preset} settings, and extrapolated"]
    if shares:
        remarks.append("The learning of the shared network, once a run, is not in it: the store keeps no time")
    theirs = published.HOURS * 3600 / published.IMAGES
    times = (
        ("the seed paper", published.DEVICE, theirs),
        (f"this run: {way}", device, _seconds(work, images, shares=shares)),
    )
    rows = tuple(
        Row(tuple(texts), (Cell(_SECONDS.name, seconds), Cell(_HOURS.name, seconds * published.IMAGES / 3600)))
        for *texts, seconds in times
    )
    title = f"Time of the zero-shot way for {published.IMAGES:,} images"
    return (Table(title, ("what", "device"), (_SECONDS, _HOURS), rows, tuple(remarks)),)


def _seconds(work: Evaluator, images: Images, *, shares: bool) -> float:
    """Seconds an image of making these images' synthetic HR again."""
    settings = work.settings
    shared = read_shared(work.folder / "synthetic" / "shared.safetensors") if shares else None
    key = {
        "images": [*images.ids],
        "settings": zero_shot_settings(settings).model_dump(mode="json"),
        "shared": None if shared is None else shared.sha256,
        "scale": settings.synth.scale,
        "seed": settings.seed,
        **work.device,
    }

    compute = partial(zero_shot, work, "zero-shot time", zero_shot_settings(settings), images, shared)
    return work.cache.results("timed", key, compute).seconds


def _sheet(name: str, title: str, rows: Sequence[Sequence[tuple[str, Tensor]]]) -> Illustration:
    sheet = contact_sheet(rows, title=title, cell=192)
    return Illustration(title, encode_sheet(sheet, "comparison sheet"), name=name)
