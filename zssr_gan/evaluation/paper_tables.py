"""Tables I and II of the seed paper, whose references are no truths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from zssr_gan.evaluation.cache import Made
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim, ssim_pil
from zssr_gan.evaluation.metrics.metric import Definition, Figure, Metric
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Part
from zssr_gan.evaluation.run import Chosen
from zssr_gan.evaluation.runner import HEADS, Measuring, Shown
from zssr_gan.evaluation.tables import Cell, Method, Row, Table, differences, summarised
from zssr_gan.provenance import Label

# What others printed: facts to stand beside our own, each under its own name.


# The seed paper (Moreira, Romero, Ribeiro).
TABLE_1 = (
    (0.9132, 31.5044),
    (0.8568, 31.6848),
    (0.8951, 31.9378),
    (0.8668, 31.2329),
    (0.8566, 31.1281),
    (0.8715, 31.2964),
    (0.9462, 38.9739),
    (0.8835, 32.9032),
)
"""SSIM and PSNR (dB) between synthetic HR and SRGAN, of eight images that it shows and does not name."""

HOURS, IMAGES, DEVICE = 120.0, 7000, "NVIDIA Titan Xp"
"""Of the zero-shot training and application on the first 7,000 images."""

SSIM = Definition(
    name="the seed paper's SSIM, as printed",
    meaning="by the package SSIM-PIL, whose version it does not name, of images that are not at hand",
    unit="",
    higher_is_better=True,
)

PSNR = Definition(
    name="the seed paper's PSNR, as printed",
    meaning="by a function of scikit-image or scikit-learn (it names the second), plane and range not named",
    unit="dB",
    higher_is_better=True,
)


# Sets of truths, x2, by the name that a config gives them.
SET_PSNR = Definition(
    name="PSNR, as printed",
    meaning="on Y, a border of the scale cropped, as the field's papers say",
    unit="dB",
    higher_is_better=True,
)

SET_SSIM = Definition(
    name="SSIM, as printed",
    meaning="on Y, a border of the scale cropped, as the field's papers say",
    unit="",
    higher_is_better=True,
)

SETS: dict[str, dict[str, tuple[Label, float, float]]] = {
    "Set5": {
        "bicubic, as printed by Kim et al. 2016": ("internal", 33.66, 0.9299),
        "ZSSR, as printed by Shocher et al. 2018": ("internal", 37.37, 0.9570),
        "VDSR, learnt on HR images, as printed by Kim et al. 2016": ("generative", 37.53, 0.9587),
    },
    "Set14": {
        "bicubic, as printed by Kim et al. 2016": ("internal", 30.24, 0.8688),
        "ZSSR, as printed by Shocher et al. 2018": ("internal", 33.00, 0.9108),
        "VDSR, learnt on HR images, as printed by Kim et al. 2016": ("generative", 33.03, 0.9124),
    },
    "BSD100": {
        "bicubic, as printed by Kim et al. 2016": ("internal", 29.56, 0.8431),
        "ZSSR, as printed by Shocher et al. 2018": ("internal", 31.65, 0.8920),
        "VDSR, learnt on HR images, as printed by Kim et al. 2016": ("generative", 31.90, 0.8960),
    },
}
"""What the pixels were learnt from, PSNR in dB and SSIM, at x2."""

IMAGES_OF = {"Set5": 5, "Set14": 14, "BSD100": 100}

_TABLE_1 = (
    "What the generator makes, held against the synthetic HR images of the zero-shot way. Those are no truths: the "
    "figures say how close the generator comes to them, and nothing of how close either is to the scene."
)

_TABLE_2 = (
    "Images of which nothing was made before, neither by the zero-shot way nor by the generator. No truth is known, so "
    "no figure says how right a result is; these say whether it agrees with its input, and how sharp it is."
)


@dataclass
class PaperTables:
    """Makes both."""

    measuring: Measuring

    def __post_init__(self) -> None:
        """The run's parts."""
        self.run, self.bar = self.measuring.run, self.measuring.bar

    def table_1(self) -> Part | None:
        """SRGAN against the synthetic HR images of the role `table1`."""
        role = self.measuring.roled("table1")
        if not role.ids:
            self.bar.note("table1: split.json has no image of the role table1: left out")
            return None
        synthetic = self.run.synthetic(role.ids)
        metrics = [ssim_pil(), psnr("RGB"), ssim(), psnr()]
        printed = [SSIM, PSNR]
        columns = [*(metric.definition for metric in metrics), *printed]
        shown = {
            **self.measuring.own("table 1", role.inputs),
            "bicubic": Shown("internal", self.measuring.bicubic(role.inputs)),
        }
        methods = self._methods("table 1", shown, metrics, role, synthetic, printed)
        whole = summarised(
            f"Table I: synthetic HR against SRGAN, {role.told} of the role table1",
            HEADS,
            columns,
            methods,
            (
                "The reference is the synthetic HR image, which is no truth: the figures say how close the generator "
                "comes to the zero-shot way",
            ),
        )
        theirs = {
            SSIM.name: [Figure(SSIM.name, ssim) for ssim, _ in TABLE_1],
            PSNR.name: [Figure(PSNR.name, decibel) for _, decibel in TABLE_1],
        } | {one.definition.name: [one.definition.none("the paper's images are not at hand")] * 8 for one in metrics}
        row = summarised("", HEADS, columns, [Method(("the seed paper, its eight images", "generative"), theirs)])
        whole = Table(whole.title, HEADS, whole.columns, (*whole.rows, *row.rows), whole.remarks)
        gains = differences("Table I: differences to bicubic", HEADS, columns[:-2], methods, methods[2])
        return Part(
            "table1",
            "Table I: the generator against the zero-shot way",
            (_TABLE_1,),
            (self._samples(role, methods[0], columns), whole, gains),
            scenes=self.measuring.scenes(
                role.ids,
                role.inputs,
                {"bicubic": shown["bicubic"], "synthetic HR": Shown(self._taught, Made(synthetic, 0.0)), **shown},
                None,
            ),
        )

    @property
    def _taught(self) -> Label:
        """What synthetic HR images were learnt from."""
        return "case" if self.run.settings.synth.init == "shared" else "internal"

    def _methods(
        self,
        what: str,
        shown: Mapping[str, Shown],
        metrics: Sequence[Metric],
        role: Chosen,
        references: Sequence[Tensor] | None,
        printed: Sequence[Definition] = (),
    ) -> list[Method]:
        methods = []
        for name, one in shown.items():
            assert one.made is not None  # all can be made of what a run has
            figures = self.measuring.figures(
                f"{what}, {name}", one.made.images, metrics, role.inputs, references, role.cameras
            )
            figures |= {column.name: [column.none("this row is ours")] * len(role.ids) for column in printed}
            methods.append(Method((name, one.label), figures))
        return methods

    def _samples(self, role: Chosen, method: Method, columns: Sequence[Definition]) -> Table:
        count = min(self.run.settings.evaluate.samples, len(role.ids))
        rows = []
        for n in range(count):
            cells = {one.name: Cell(method.figures[one.name][n]) for one in columns}
            if n < len(TABLE_1):
                values = dict(zip((SSIM.name, PSNR.name), TABLE_1[n], strict=True))
                cells |= {name: Cell(Figure(name, value)) for name, value in values.items()}
            rows.append(Row((str(n + 1), role.ids[n]), cells))
        return Table(
            f"Table I: {count} samples, drawn by the seed {self.run.settings.seed}; {self.measuring.names.raw}",
            ("sample", "image"),
            tuple(columns),
            tuple(rows),
            ("The seed paper's values are of its own eight images, which are not these",),
        )

    def table_2(self) -> Part | None:
        """LR images that nothing was made of before: extended (bicubic) and by SRGAN."""
        role = self.measuring.roled("unseen")
        if not role.ids:
            self.bar.note("table2: split.json has no image of the role unseen: left out")
            return None
        downscales = self.run.downscales
        metrics = [psnr(), ssim(), residual(downscales), colour_shift(downscales), sharpness()]
        shown = {
            "extended LR (bicubic)": Shown("internal", self.measuring.bicubic(role.inputs)),
            **self.measuring.own("table 2", role.inputs),
        }
        methods = self._methods("table 2", shown, metrics, role, None)
        columns = [metric.definition for metric in metrics]
        tables = (
            summarised(f"Table II: {role.told} of the role unseen, without a truth", HEADS, columns, methods),
            differences("Table II: differences to the extended LR", HEADS, columns, methods, methods[0]),
        )
        scenes = self.measuring.scenes(
            role.ids, role.inputs, {"bicubic": shown.pop("extended LR (bicubic)"), **shown}, None
        )
        return Part("table2", "Table II: unseen images", (_TABLE_2,), tables, scenes=scenes)
