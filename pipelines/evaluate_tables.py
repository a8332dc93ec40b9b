"""The tables of an evaluation: I and II of the seed paper, and the one with truths that it could not have."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from pipelines import paper_values as paper
from pipelines.evaluated_methods import Inputs, generated, interpolated, learnt_alone, learnt_together
from pipelines.evaluated_run import Chosen, Run, device_name
from pipelines.kept_results import Figures, Kept, Made, hash_of
from pipelines.progress import Bar
from zssr_gan.config import load_preset
from zssr_gan.data.split import Role
from zssr_gan.devices import Machine
from zssr_gan.evaluation.features import Frechet, perceptual
from zssr_gan.evaluation.full_reference import psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metric import Definition, Figure, Metric, Sample
from zssr_gan.evaluation.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.tables import Cell, Method, Row, Table, differences, summarised, to_csv, to_latex, to_markdown
from zssr_gan.files import atomic_write
from zssr_gan.imaging.resampling import BicubicDownscale
from zssr_gan.training.card import TrainedGenerator
from zssr_gan.training.models import mediator_options
from zssr_gan.zeroshot.shared import degradation_of

HEADS = ("method", "label")
SRGAN, RAW, CONTENT = "SRGAN, back-projected", "SRGAN, its output as it is", "SRGAN before the discriminator"
_INTERPOLATIONS = ("nearest", "bicubic", "lanczos", "back-projected")
_SHOWN_AS = {"lanczos": "Lanczos", "back-projected": "bicubic, back-projected"}


@dataclass
class Tables:
    """Makes the tables of a run and writes them into its folder `report`."""

    run: Run
    kept: Kept
    used: Machine
    bar: Bar

    @cached_property
    def _device(self) -> dict[str, JsonValue]:
        return {"device": device_name(self.used.device), "precision": self.used.precision, "threads": self.used.threads}

    def roled(self, role: Role) -> Chosen:
        """The images of a role that are measured."""
        return self.run.chosen(role, self.run.settings.evaluate.most)

    def bicubic(self, inputs: Inputs) -> Made:
        """Enlarged by bicubic; too cheap to be kept."""
        return interpolated("bicubic", inputs, self.run.scale, lambda _done, _total: None)

    def srgan(self, what: str, inputs: Inputs, preset: str, generator: TrainedGenerator) -> Made:
        """By a generator; kept."""
        facts: dict[str, JsonValue] = {
            "lr": hash_of(inputs.images),
            "downscales": [degradation_of(one) for one in inputs.downscales],
            "generator": generator.sha256,
            "preset": preset,
            **self._device,
        }
        return self.kept.made(
            "srgan",
            facts,
            lambda: generated(
                preset, inputs, generator, self.used, lambda done, total: self.bar.update(f"SRGAN, {what}", done, total)
            ),
        )

    def table_1(self) -> list[Path]:
        """SRGAN against the synthetic HR images of the role `table1`."""
        role = self.roled("table1")
        if not role.ids:
            self.bar.note("table1: split.json has no image of the role table1: left out")
            return []
        synthetic = self.run.synthetic(role.ids)
        metrics = [ssim_pil(), psnr("RGB"), ssim(), psnr()]
        printed = [paper.SSIM, paper.PSNR]
        columns = [*(metric.definition for metric in metrics), *printed]
        methods = []
        for name, made in {
            RAW: self.srgan("table 1", role.inputs, "raw", self.run.generator),
            SRGAN: self.srgan("table 1", role.inputs, "generator", self.run.generator),
            "bicubic": self.bicubic(role.inputs),
        }.items():
            figures = self._figures(f"table 1, {name}", made.images, metrics, role, synthetic)
            figures |= {one.name: [one.none("this row is ours")] * len(role.ids) for one in printed}
            methods.append(Method((name, "internal" if name == "bicubic" else "generative"), figures))
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
            paper.SSIM.name: [Figure(paper.SSIM.name, ssim) for ssim, _ in paper.TABLE_1],
            paper.PSNR.name: [Figure(paper.PSNR.name, decibel) for _, decibel in paper.TABLE_1],
        } | {one.definition.name: [one.definition.none("the paper's images are not at hand")] * 8 for one in metrics}
        row = summarised("", HEADS, columns, [Method(("the seed paper, its eight images", "generative"), theirs)])
        whole = Table(whole.title, HEADS, whole.columns, (*whole.rows, *row.rows), whole.remarks)
        gains = differences("Table I: differences to bicubic", HEADS, columns[:-2], methods, methods[2])
        return self._written("table1", [self._samples(role, methods[0], columns), whole, gains])

    def _samples(self, role: Chosen, method: Method, columns: Sequence[Definition]) -> Table:
        count = min(self.run.settings.evaluate.samples, len(role.ids))
        rows = []
        for n in range(count):
            cells = {one.name: Cell(method.figures[one.name][n]) for one in columns}
            if n < len(paper.TABLE_1):
                values = dict(zip((paper.SSIM.name, paper.PSNR.name), paper.TABLE_1[n], strict=True))
                cells |= {name: Cell(Figure(name, value)) for name, value in values.items()}
            rows.append(Row((str(n + 1), role.ids[n]), cells))
        return Table(
            f"Table I: {count} samples, drawn by the seed {self.run.settings.seed}; {RAW}",
            ("sample", "image"),
            tuple(columns),
            tuple(rows),
            ("The seed paper's values are of its own eight images, which are not these",),
        )

    def table_2(self) -> list[Path]:
        """LR images that nothing was made of before: extended (bicubic) and by SRGAN."""
        role = self.roled("unseen")
        if not role.ids:
            self.bar.note("table2: split.json has no image of the role unseen: left out")
            return []
        downscales = self.run.downscales
        metrics = [psnr(), ssim(), residual(downscales), colour_shift(downscales), sharpness()]
        methods: list[Method] = []
        for name, made in {
            "extended LR (bicubic)": self.bicubic(role.inputs),
            RAW: self.srgan("table 2", role.inputs, "raw", self.run.generator),
            SRGAN: self.srgan("table 2", role.inputs, "generator", self.run.generator),
        }.items():
            label = "generative" if methods else "internal"
            methods.append(Method((name, label), self._figures(f"table 2, {name}", made.images, metrics, role, None)))
        columns = [metric.definition for metric in metrics]
        tables = [
            summarised(f"Table II: {role.told} of the role unseen, without a truth", HEADS, columns, methods),
            differences("Table II: differences to the extended LR", HEADS, columns, methods, methods[0]),
        ]
        return self._written("table2", tables)

    def truth(self) -> list[Path]:
        """Every method against truths that none of them saw."""
        evaluate, seed = self.run.settings.evaluate, self.run.settings.seed
        options = mediator_options(evaluate.features, "evaluate.features")
        truths = self.run.truths()
        for notice in truths.notices:
            self.bar.note(notice)
        wanted, inputs = evaluate.truth, truths.inputs
        assert wanted is not None  # else there are no truths
        made: dict[str, tuple[str, Made]] = {}
        for name in _INTERPOLATIONS:
            facts: dict[str, JsonValue] = {"lr": hash_of(inputs.images), "method": name, **self._device}
            facts["scale"] = list(self.run.scale)
            made[_SHOWN_AS.get(name, name)] = (
                "internal",
                self.kept.made(name, facts, partial(self._interpolated, name, inputs)),
            )
        if wanted.alone:
            made["ZSSR, learnt on each LR image"] = ("internal", self._zero_shot(wanted.preset, inputs, alone=True))
        made["ZSSR, learnt on all LR images"] = ("case", self._zero_shot(wanted.preset, inputs, alone=False))
        if self.run.content is not None:
            made[CONTENT] = ("generative", self.srgan("truth", inputs, "generator", self.run.content))
        made[RAW] = ("generative", self.srgan("truth", inputs, "raw", self.run.generator))
        made[SRGAN] = ("generative", self.srgan("truth", inputs, "generator", self.run.generator))

        downscales = [BicubicDownscale()]
        metrics = [psnr(), ssim(), vif(), perceptual(options, evaluate.features.weights, seed=seed)]
        metrics += [residual(downscales), colour_shift(downscales)]
        frechet = Frechet(options, evaluate.features.weights, seed=seed)
        seconds = Definition(
            f"time, {self._device['device']}, {self.used.threads} CPU threads, {self.used.precision}",
            "wall time an image, learning on these images included, training before not",
            "s",
            higher_is_better=False,
        )
        role = Chosen(truths.ids, tuple(range(len(truths.ids))), inputs, (0,) * len(truths.ids), len(truths.ids))
        sets = frozenset({seconds.name, *(one.name for one in frechet.definitions.values())})
        theirs = None
        methods = []
        for name, (label, one) in made.items():
            figures = self._figures(f"truth, {name}", one.images, metrics, role, truths.images)

            def distances(images: tuple[Tensor, ...] = one.images) -> Figures:
                nonlocal theirs
                theirs = frechet.look(truths.images) if theirs is None else theirs
                return {figure.name: [figure] for figure in frechet.figures(frechet.look(images), theirs).values()}

            facts = {"images": one.sha256, "truths": hash_of(truths.images), "names": [*sorted(sets - {seconds.name})]}
            figures |= self.kept.figures("frechet", facts, distances)
            figures[seconds.name] = [Figure(seconds.name, one.seconds)]
            methods.append(Method((name, label), figures, sets))
        columns = [*(metric.definition for metric in metrics), *frechet.definitions.values(), seconds]
        size = f"{truths.images[0].shape[-1]} px a side, x{self.run.scale[0]:g}, LR by bicubic"
        tables = [
            summarised(
                f"Truth known: {len(truths.ids):,} images of {size}",
                HEADS,
                columns,
                methods,
                ("SRGAN is the run's, trained on its LR images as they are; no truth is a file of its training part",),
            ),
            differences("Truth known: differences to bicubic", HEADS, columns, methods, methods[1]),
        ]
        return self._written("truth", tables)

    def _interpolated(self, name: str, inputs: Inputs) -> Made:
        return interpolated(name, inputs, self.run.scale, lambda done, total: self.bar.update(name, done, total))

    def _zero_shot(self, preset: str, inputs: Inputs, *, alone: bool) -> Made:
        chosen = load_preset(preset)
        facts: dict[str, JsonValue] = {
            "lr": hash_of(inputs.images),
            "settings": (chosen if alone else chosen.for_case()).model_dump(mode="json"),
            "scale": list(self.run.scale),
            "seed": self.run.settings.seed,
            **self._device,
        }

        def learning(what: str, done: int, total: int, loss: float) -> None:
            self.bar.update(f"ZSSR, {what}", done, total, f"loss {loss:.4f}")

        def told(done: int, total: int) -> None:
            self.bar.update("ZSSR, each image", done, total)

        asked = (preset, inputs, self.run.scale, self.run.settings.seed, self.used)
        if alone:
            return self.kept.made("zssr-alone", facts, lambda: learnt_alone(*asked, told))
        return self.kept.made("zssr-shared", facts, lambda: learnt_together(*asked, learning))

    def _figures(
        self,
        what: str,
        results: tuple[Tensor, ...],
        metrics: Sequence[Metric],
        role: Chosen,
        truths: tuple[Tensor, ...] | None,
    ) -> Figures:
        names = [metric.definition.name for metric in metrics]
        facts: dict[str, JsonValue] = {
            "results": hash_of(results),
            "lr": hash_of(role.inputs.images),
            "truths": None if truths is None else hash_of(truths),
            "cameras": list(role.cameras),
            "metrics": [*names],
            "missing": [metric.definition.missing for metric in metrics],
        }

        def measure() -> Figures:
            figures: Figures = {name: [] for name in names}
            for n, result in enumerate(results):
                truth = None if truths is None else truths[n]
                sample = Sample(result, truth, role.inputs.images[n], role.cameras[n])
                for metric in metrics:
                    figures[metric.definition.name].append(metric(sample))
                self.bar.update(f"measuring: {what}", n + 1, len(results))
            return figures

        return self.kept.figures("figures", facts, measure)

    def _written(self, name: str, tables: Sequence[Table]) -> list[Path]:
        return write_tables(self.run.folder / "report", name, tables)


def write_tables(folder: Path, name: str, tables: Sequence[Table]) -> list[Path]:
    """NAME.csv, NAME.md and NAME.tex of some tables; their paths."""
    contents = {
        "csv": to_csv(tables),
        "md": "\n".join(map(to_markdown, tables)).encode(),
        "tex": "\n".join(map(to_latex, tables)).encode(),
    }
    paths = []
    for extension, data in contents.items():
        paths.append(folder / f"{name}.{extension}")
        atomic_write(paths[-1], data, overwrite=True)
    return paths
