"""Sets of truths at their own sizes, such as Set5: the zero-shot way beside what others printed."""

from dataclasses import dataclass

from zssr_gan.errors import SettingsError
from zssr_gan.evaluation import paper_tables
from zssr_gan.evaluation.ground_truth import own_sizes
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.metric import Figure
from zssr_gan.evaluation.part import Part, Scene
from zssr_gan.evaluation.runner import HEADS, INTERPOLATIONS, Measuring, Shown, part_of_sets
from zssr_gan.evaluation.tables import Cell, Method, Row, Table, differences, summarised
from zssr_gan.provenance import Label
from zssr_gan.settings.evaluate import SetSettings

_TEXT = (
    "Truths at their own sizes, shrunk by antialiased bicubic and rounded to 8 bits; each LR image gets a network of "
    "its own, and nothing is learnt from any other image. Figures are on Y with a border of the scale cropped, as the "
    "field's papers have them; what those printed stands in columns of its own."
)


@dataclass
class SetTables:
    """Makes the part `sets`."""

    measuring: Measuring

    def part(self) -> Part:
        """A table of means and one of images for each of `evaluate.sets`."""
        sets = self.measuring.run.settings.evaluate.sets
        if not sets:
            raise SettingsError("evaluate.sets: is empty: name a folder of truths, [{root: set5, name: Set5}].")
        return part_of_sets(
            "sets", "Sets of truths, beside published figures", _TEXT, [(one.label, *self._set(one)) for one in sets]
        )

    def _set(self, wanted: SetSettings) -> tuple[list[Table], tuple[Scene, ...], list[str]]:
        measuring = self.measuring
        truths, notices = own_sizes(measuring.run, wanted)
        for notice in notices:
            measuring.bar.note(notice)
        shown = {
            told: Shown("internal", measuring.interpolated(name, truths.inputs))
            for name, told in INTERPOLATIONS.items()
            if name != "nearest"
        }
        zssr = f"ZSSR, {wanted.preset}"
        # One by one: a run that is stopped loses one, and large ones need not lie in memory together.
        shown[zssr] = Shown("internal", measuring.zero_shot_alone(wanted.preset, truths.inputs, together=1))
        border = round(measuring.run.scale[0])
        metrics = [psnr("Y", border), ssim("Y", border)]
        columns = [metric.definition for metric in metrics]
        printed = [paper_tables.SET_PSNR, paper_tables.SET_SSIM]
        methods = []
        for name, one in shown.items():
            assert one.made is not None
            figures = measuring.figures(
                f"{wanted.label}, {name}", one.made.images, metrics, truths.inputs, truths.images
            )
            methods.append(Method((name, one.label), figures))
        title = f"{wanted.label}: {len(truths.ids):,} images, x{border}"
        own = summarised(title, HEADS, columns, methods)
        ours = tuple(
            Row(row.texts, {**row.cells, **{one.name: Cell(one.none("this row is ours")) for one in printed}})
            for row in own.rows
        )
        theirs = tuple(
            Row(
                (name, label),
                {
                    **{one.name: Cell(one.none("the paper's results are not at hand")) for one in columns},
                    **{one.name: Cell(Figure(one.name, value)) for one, value in zip(printed, values, strict=True)},
                },
            )
            for name, (label, *values) in _published(wanted.label, len(truths.ids), border).items()
        )
        both = Table(title, HEADS, (*columns, *printed), ours + theirs) if theirs else own
        images = Table(
            f"{wanted.label}, image by image",
            ("image", "method"),
            tuple(columns),
            tuple(
                Row((name, method.texts[0]), {one.name: Cell(method.figures[one.name][n]) for one in columns})
                for n, name in enumerate(truths.ids)
                for method in methods
            ),
        )
        gains = differences(f"{wanted.label}: differences to bicubic", HEADS, columns, methods, methods[0])
        return [both, gains, images], measuring.scenes(truths.ids, truths.inputs, shown, truths.images), notices


def _published(name: str, images: int, scale: int) -> dict[str, tuple[Label, float, float]]:
    """What was printed of a set, where all of its images are here."""
    return paper_tables.SETS[name] if scale == 2 and paper_tables.IMAGES_OF.get(name) == images else {}
