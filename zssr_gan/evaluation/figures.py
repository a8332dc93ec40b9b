"""The part `figures`: the seed paper's figures 4 to 7 as grids, tables as pictures, curves, histograms, and the time.

The time of the zero-shot way is measured: some synthetic HR images are made again, as the run made them.
"""

import io
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure as Drawing
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.case import zero_shot_settings
from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role
from zssr_gan.data.synthesis import FailedImage, Synthesiser
from zssr_gan.errors import NumericalError
from zssr_gan.evaluation import published
from zssr_gan.evaluation.cache import Results
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.methods import RAW, Entry
from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.paper_tables import EXTENDED
from zssr_gan.evaluation.part import Illustration, Part
from zssr_gan.evaluation.run import Chosen
from zssr_gan.evaluation.summary import Cell
from zssr_gan.evaluation.tables import Row, Table
from zssr_gan.imaging.picture import Metadata, from_samples
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet
from zssr_gan.training.logs import MetricsLog, curves_png
from zssr_gan.zeroshot.shared import read_shared
from zssr_gan.zeroshot.steps import fleet_capacity

_GRID, _COLUMNS = 24, 6
"""Images of a grid, and in a row of it."""

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
    axes.set_xlabel("intensity, levels of 255")
    axes.set_ylabel("share of pixels in 4 levels")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()


def figures(evaluator: Evaluator) -> Part:
    """All figures of a run; those that it has no images for are left out with a notice."""
    if evaluator.run.settings.train.pairs is not None:  # it has neither synthetic HR images nor LR ones of its own
        return Part("figures", "Figures and time", ("The run's training on HR images.",), (), _curves(evaluator))
    illustrations = (*_grids(evaluator), *_samples(evaluator), *_histograms(evaluator), *_curves(evaluator))
    text = "The seed paper's figures 4 to 7 for this run, and what the zero-shot way takes."
    return Part("figures", "Figures and time", (text,), _times(evaluator), illustrations)


def _grids(evaluator: Evaluator) -> list[Illustration]:
    run, name = evaluator.run, RAW.format(evaluator.network)
    zssr, taught = run.chosen("zssr", _GRID), run.chosen(run.settings.train.images, _GRID)
    made = _images(evaluator.generate("figure 7", taught.inputs, "raw", run.generator))
    grids = {
        4: ("LR images that the zero-shot way was given", zssr.ids, zssr.inputs.images),
        5: ("synthetic HR images of them", zssr.ids, run.synthetic(zssr.ids)),
        6: ("LR images that the generator was trained on", taught.ids, taught.inputs.images),
        7: (f"HR images of them; {name}, generative", taught.ids, made),
    }
    found = []
    for number, (what, ids, images) in grids.items():
        if not ids:
            evaluator.bar.note(f"figure {number}: split.json has no image for it: left out")
            continue
        cells = list(zip(ids, images, strict=True))
        rows = [cells[at : at + _COLUMNS] for at in range(0, len(cells), _COLUMNS)]
        found.append(_sheet(f"figure-{number}", f"As figure {number} of the seed paper: {what}", rows))
    return found


def _samples(evaluator: Evaluator) -> list[Illustration]:
    """The paper's tables as pictures."""
    found, samples = [], evaluator.run.settings.evaluate.samples
    for name, role, title in (
        ("table1", evaluator.images_of("table1"), "Table I: samples"),
        ("table2", evaluator.images_of("unseen"), "Table II: unseen images"),
    ):
        if not role.ids:
            continue
        shown: dict[str, Sequence[Tensor]] = {EXTENDED: _images(evaluator.interpolate("bicubic", role.inputs))}
        if name == "table1":
            shown["synthetic HR"] = evaluator.run.synthetic(role.ids)
        shown |= {what: _images(one) for what, one in evaluator.generate_both(name, role.inputs).items()}
        rows = [
            [(f"LR, {one}", role.inputs.images[n]), *((caption, images[n]) for caption, images in shown.items())]
            for n, one in enumerate(role.ids[:samples])
        ]
        found.append(_sheet(f"{name}-samples", title, rows))
    return found


def _histograms(evaluator: Evaluator) -> list[Illustration]:
    """Pixel intensities of the generator's inputs and outputs."""
    unseen = evaluator.images_of("unseen")
    role = unseen if unseen.ids else evaluator.images_of("table1")
    if not role.ids:
        evaluator.bar.note("histograms: split.json has no image of the roles unseen and table1: left out")
        return []
    sets = {"LR input": role.inputs.images}
    sets |= {name: _images(one) for name, one in evaluator.generate_both("histograms", role.inputs).items()}
    caption = "Pixel intensities of what goes into the generator and of what comes out"
    return [Illustration(caption, histograms_png(sets), "histograms")]


def _curves(evaluator: Evaluator) -> tuple[Illustration, ...]:
    lines = MetricsLog(evaluator.run.folder / "train" / "metrics.jsonl").read()
    if not lines:
        evaluator.bar.note("losses: train/metrics.jsonl is not there or empty: left out")
        return ()
    return (Illustration("Losses and validation of the training", curves_png(lines, "Training"), "losses"),)


def _times(evaluator: Evaluator) -> tuple[Table, ...]:
    """The zero-shot way's time, beside the seed paper's."""
    settings, machine = evaluator.run.settings, evaluator.machine
    chosen = evaluator.run.chosen("zssr", settings.evaluate.timed)
    if not chosen.ids:
        evaluator.bar.note("zero-shot time: split.json has no image of the role zssr: left out")
        return ()
    shares = settings.synth.init == "shared"
    seconds = _measured_seconds(evaluator, chosen)
    way = "one network learnt on all images" if shares else "network of its own for each image"
    threads = f", {machine.threads} CPU threads" if machine.device.type == "cpu" else ""
    device = f"{evaluator.device['device']}{threads}, {machine.precision}"
    remarks = [f"Measured on {len(chosen.ids)} images of {settings.synth.preset} settings, and extrapolated"]
    if shares:
        remarks.append("The learning of the shared network, once a run, is not in it: the store keeps no time")
    rows = (
        _time_row("the seed paper", published.DEVICE, published.HOURS * 3600 / published.IMAGES),
        _time_row(f"this run: {way}", device, seconds),
    )
    title = f"Time of the zero-shot way for {published.IMAGES:,} images"
    return (Table(title, ("what", "device"), (_SECONDS, _HOURS), rows, tuple(remarks)),)


def _measured_seconds(evaluator: Evaluator, chosen: Chosen) -> float:
    """Seconds an image of making these images' synthetic HR again."""
    run, settings, machine = evaluator.run, evaluator.run.settings, evaluator.machine
    shares = settings.synth.init == "shared"
    shared = read_shared(run.folder / "synthetic" / "shared.safetensors") if shares else None
    zero_shot = zero_shot_settings(settings)
    key: dict[str, JsonValue] = {
        "images": [*chosen.ids],
        "settings": zero_shot.model_dump(mode="json"),
        "shared": None if shared is None else shared.sha256,
        "scale": settings.synth.scale,
        "seed": settings.seed,
        **evaluator.device,
    }

    def compute() -> Results:
        roles: tuple[Role, ...] = ("zssr",)
        images = Prepared(run.split, settings.data, roles)
        rows, columns = chosen.inputs.images[0].shape[-2:]
        capacity = fleet_capacity(machine.device, zero_shot.for_size(rows * columns), (rows, columns))
        work = Synthesiser(images, zero_shot, run.scale, settings.seed, machine, shared, run.cameras)
        began, made = time.perf_counter(), []
        for one in work.run(chosen.numbers, min(capacity, len(chosen.numbers))):
            if isinstance(one, FailedImage):
                raise NumericalError(f"the zero-shot time cannot be measured: {one.why}")
            made.append(from_samples(one.sr, Metadata()).pixels.clone())
            evaluator.bar.update("zero-shot time", len(made), len(chosen.numbers))
        return Results(tuple(made), (time.perf_counter() - began) / len(made))

    return evaluator.cache.results("timed", key, compute).seconds


def _time_row(what: str, device: str, seconds: float) -> Row:
    values = {_SECONDS.name: seconds, _HOURS.name: seconds * published.IMAGES / 3600}
    return Row((what, device), {name: Cell(Figure(name, value)) for name, value in values.items()})


def _images(entry: Entry) -> tuple[Tensor, ...]:
    assert entry.results is not None  # the run has all that it is made of
    return entry.results.images


def _sheet(name: str, title: str, rows: Sequence[Sequence[tuple[str, Tensor]]]) -> Illustration:
    return Illustration(title, encode_sheet(contact_sheet(rows, title=title, cell=192), "comparison sheet"), name)
