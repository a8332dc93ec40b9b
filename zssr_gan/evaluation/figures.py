"""The figures of an evaluation: the seed paper's 4 to 7 as grids, tables as pictures, curves, histograms, and the time.

The time of the zero-shot way is measured: some synthetic HR images are made again, as the run made them.
"""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure as Drawing
from pydantic import JsonValue
from torch import Tensor

from zssr_gan.data.prepared import Prepared
from zssr_gan.data.split import Role
from zssr_gan.data.synthesis import Failed, Synthesiser, zero_shot_settings
from zssr_gan.errors import NumericalError
from zssr_gan.evaluation import paper_tables as paper
from zssr_gan.evaluation.cache import Made
from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.part import Illustration, Part
from zssr_gan.evaluation.run import Chosen
from zssr_gan.evaluation.runner import Measuring
from zssr_gan.evaluation.tables import Cell, Row, Table
from zssr_gan.files import atomic_write
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata, Picture, from_samples
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.provenance import MARK
from zssr_gan.training.checkpoints import MetricsLog
from zssr_gan.training.logs import curves_png
from zssr_gan.zeroshot.shared import read_shared
from zssr_gan.zeroshot.steps import fleet_capacity

# Histograms of pixel intensities: whether a method keeps the distribution of its input.


def histograms_png(sets: Mapping[str, Sequence[Tensor]]) -> bytes:
    """Shares of the 256 levels, over all channels, a curve a set."""
    drawing = Drawing(figsize=(8, 4), layout="constrained")
    axes = drawing.add_subplot()
    for name, images in sets.items():
        levels = torch.cat([image.mul(255).round().flatten() for image in images]).numpy()
        shares, edges = np.histogram(levels, bins=64, range=(0, 256))
        axes.stairs(shares / shares.sum(), edges, label=f"{name} ({len(images):,} images)")
    axes.set_xlabel("intensity, levels of 255")
    axes.set_ylabel("share of pixels in 4 levels")
    axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", metadata={"Software": "zssr-gan"})
    return buffer.getvalue()


_GRID, _COLUMNS = 24, 6

_SECONDS = Definition(
    "seconds an image", "wall time of making the images side by side, over their number", "s", higher_is_better=False
)

_HOURS = Definition(
    f"hours for {paper.IMAGES} images",
    "of the seed paper: as printed; of others: seconds an image times their number",
    "h",
    higher_is_better=False,
)


@dataclass
class Drawings:
    """Draws the figures of a run into its folder `report`."""

    measuring: Measuring

    def __post_init__(self) -> None:
        """The run's parts."""
        self.run, self.bar = self.measuring.run, self.measuring.bar

    def draw(self) -> Part:
        """All of them, which are PNG files in the report's folder too."""
        if self.run.settings.train.pairs is None:
            text, tables = (
                ("The seed paper's figures 4 to 7 for this run, and what the zero-shot way takes.",),
                self._times(),
            )
            drawn = {**self._grids(), **self._rows(), **self._histograms(), **self._curves()}
        else:  # it has neither synthetic HR images nor LR ones of its own
            text, tables, drawn = ("The run's training on HR images.",), [], self._curves()
        for name, one in drawn.items():
            atomic_write(self.measuring.report / f"{name}.png", one.png, overwrite=True)
        return Part(
            "figures",
            "Figures and time",
            text,
            tuple(tables),
            tuple(drawn.values()),
        )

    def _grids(self) -> dict[str, Illustration]:
        zssr = self.run.chosen("zssr", _GRID)
        taught: Role = self.run.settings.train.images
        generator = self.run.chosen(taught, _GRID)
        made = self.measuring.by_generator("figure 7", generator.inputs, "raw", self.run.generator).images
        figures = {
            4: ("LR images that the zero-shot way was given", zssr.ids, zssr.inputs.images),
            5: ("synthetic HR images of them", zssr.ids, self.run.synthetic(zssr.ids)),
            6: ("LR images that the generator was trained on", generator.ids, generator.inputs.images),
            7: (f"HR images of them; {self.measuring.names.raw}, generative", generator.ids, made),
        }
        drawn = {}
        for number, (told, ids, images) in figures.items():
            if not ids:
                self.bar.note(f"figure {number}: split.json has no image for it: left out")
                continue
            cells = list(zip(ids, images, strict=True))
            rows = [cells[at : at + _COLUMNS] for at in range(0, len(cells), _COLUMNS)]
            drawn[f"figure-{number}"] = _sheet(f"As figure {number} of the seed paper: {told}", rows)
        return drawn

    def _rows(self) -> dict[str, Illustration]:
        """What the paper's tables show as pictures."""
        samples = self.run.settings.evaluate.samples
        drawn = {}
        for name, role, told in (
            ("table1", self.measuring.roled("table1"), "Table I: samples"),
            ("table2", self.measuring.roled("unseen"), "Table II: unseen images"),
        ):
            if not role.ids:
                continue
            rows = [[(f"LR, {one}", role.inputs.images[n])] for n, one in enumerate(role.ids[:samples])]
            for caption, images in self._shown(name, role).items():
                for row, image in zip(rows, images, strict=False):
                    row.append((caption, image))
            drawn[f"{name}-samples"] = _sheet(told, rows)
        return drawn

    def _shown(self, name: str, role: Chosen) -> Mapping[str, Sequence[Tensor]]:
        shown: dict[str, Sequence[Tensor]] = {"extended LR (bicubic)": self.measuring.bicubic(role.inputs).images}
        if name == "table1":
            shown["synthetic HR"] = self.run.synthetic(role.ids)
        for what, one in self.measuring.own(name, role.inputs).items():
            assert one.made is not None
            shown[what] = one.made.images
        return shown

    def _curves(self) -> dict[str, Illustration]:
        lines = MetricsLog(self.run.folder / "train" / "metrics.jsonl").read()
        if not lines:
            self.bar.note("losses: train/metrics.jsonl is not there or empty: left out")
            return {}
        return {"losses": Illustration("Losses and validation of the training", curves_png(lines, "Training"))}

    def _histograms(self) -> dict[str, Illustration]:
        """Pixel intensities of what goes into the generator and of what comes out."""
        role = self.measuring.roled("unseen")
        role = role if role.ids else self.measuring.roled("table1")
        if not role.ids:
            self.bar.note("histograms: split.json has no image of the roles unseen and table1: left out")
            return {}
        own = self.measuring.own("histograms", role.inputs).items()
        outputs = {
            "LR input": role.inputs.images,
            **{name: one.made.images for name, one in own if one.made is not None},
        }
        told = "Pixel intensities of what goes into the generator and of what comes out"
        return {"histograms": Illustration(told, histograms_png(outputs))}

    def _times(self) -> list[Table]:
        settings = self.run.settings
        chosen = self.run.chosen("zssr", settings.evaluate.timed)
        if not chosen.ids:
            self.bar.note("zero-shot time: split.json has no image of the role zssr: left out")
            return []
        used = self.measuring.used
        shared = (
            read_shared(self.run.folder / "synthetic" / "shared.safetensors")
            if settings.synth.init == "shared"
            else None
        )
        zero_shot = zero_shot_settings(settings)
        facts: dict[str, JsonValue] = {
            "images": [*chosen.ids],
            "settings": zero_shot.model_dump(mode="json"),
            "shared": None if shared is None else shared.sha256,
            "scale": settings.synth.scale,
            "seed": settings.seed,
            **self.measuring.device,
        }

        def again() -> Made:
            roles: tuple[Role, ...] = ("zssr",)
            images = Prepared(self.run.split, settings.data, roles)
            lr = chosen.inputs.images[0]
            size = (lr.shape[-2], lr.shape[-1])
            capacity = fleet_capacity(used.device, zero_shot.for_size(size[0] * size[1]), size)
            work = Synthesiser(images, zero_shot, self.run.scale, settings.seed, used, shared, self.run.cameras)
            began, made = time.perf_counter(), []
            for one in work.run(chosen.numbers, min(capacity, len(chosen.numbers))):
                if isinstance(one, Failed):
                    raise NumericalError(f"the zero-shot time cannot be measured: {one.why}")
                made.append(from_samples(one.sr, Metadata()).pixels.clone())
                self.bar.update("zero-shot time", len(made), len(chosen.numbers))
            return Made(tuple(made), (time.perf_counter() - began) / len(made))

        seconds = self.measuring.kept.made("timed", facts, again).seconds
        way = "network of its own for each image" if shared is None else "one network learnt on all images"
        threads = f", {used.threads} CPU threads" if used.device.type == "cpu" else ""
        table = Table(
            f"Time of the zero-shot way for {paper.IMAGES:,} images",
            ("what", "device"),
            (_SECONDS, _HOURS),
            (
                _timed("the seed paper", paper.DEVICE, paper.HOURS * 3600 / paper.IMAGES),
                _timed(f"this run: {way}", f"{self.measuring.device['device']}{threads}, {used.precision}", seconds),
            ),
            (
                f"Measured on {len(chosen.ids)} images of {settings.synth.preset} settings, and extrapolated",
                *(
                    ("The learning of the shared network, once a run, is not in it: the store keeps no time",)
                    * bool(shared)
                ),
            ),
        )
        self.measuring.written("time", [table])
        return [table]


def _sheet(title: str, rows: Sequence[Sequence[tuple[str, Tensor]]]) -> Illustration:
    picture = Picture(contact_sheet(rows, title=title, cell=192), None, 8, Metadata())
    return Illustration(title, encode_picture(picture, "png", {MARK: "comparison sheet"}))


def _timed(what: str, device: str, seconds: float) -> Row:
    hours = seconds * paper.IMAGES / 3600
    return Row(
        (what, device),
        {_SECONDS.name: Cell(Figure(_SECONDS.name, seconds)), _HOURS.name: Cell(Figure(_HOURS.name, hours))},
    )
