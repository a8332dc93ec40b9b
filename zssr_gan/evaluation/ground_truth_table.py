"""Every method against truths that none of them saw: made small by bicubic, or blind, in groups of one camera each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from zssr_gan.degradation.operators import Downscale
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.evaluation.cache import joined
from zssr_gan.evaluation.case_training import train_on_case
from zssr_gan.evaluation.evaluator import Evaluator
from zssr_gan.evaluation.figures import histograms_png
from zssr_gan.evaluation.ground_truth import Truths, blind_groups, degradation_text, known_truths
from zssr_gan.evaluation.methods import CONTENT, INTERPOLATIONS, PROJECTED, RAW, THESE, Entry, no_results
from zssr_gan.evaluation.metrics.full_reference import mse, psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Definition, Figure
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual
from zssr_gan.evaluation.metrics.perceptual import reason
from zssr_gan.evaluation.other_runs import Others, others_of, training_images
from zssr_gan.evaluation.part import Illustration, Part
from zssr_gan.evaluation.run import Inputs
from zssr_gan.evaluation.tables import Method, Row, Table, differences, summarised
from zssr_gan.training.model_card import TrainedGenerator

ALONE, TOGETHER = "ZSSR, learnt on each LR image", "ZSSR, learnt on all LR images"

ASSUMED = "ZSSR, learnt on all LR images, bicubic assumed"

_HEADS = ("method", "learnt from")

_TRUTH = (
    "Images of high resolution were made small, and every method was given the small images. What it makes is held "
    "against the truths. What else taught a method, the second column says: rows on “these LR images” saw no other "
    "images; generators of runs were trained on others before, which may have been sharper than these LR images."
)

_ORDER = (
    "Rows of a generator “on these LR images” are the whole unpaired way on them: one zero-shot network learnt on all, "
    "what it makes taken for real by the discriminator, and a generator trained on both. At most a tenth of the "
    "images, or two, are held out of that training, to choose by, and measured with the rest. Their label is "
    "“generative”, as every generator's is: here the other images that taught it are the LR images of this table."
)

_BLIND = (
    "The same truths, but their camera blurred them, added noise and compressed, in a way that no method is told: each "
    "group of images has a camera of its own. What it did is estimated from the group's LR images, and used by what is "
    "learnt on these LR images where the row does not say “bicubic assumed”, and by back-projection of generators. "
    "Residual and colour shift go through the true camera."
)

_NO_TIME = "the training was stopped and went on, and nobody has the time of its first steps"


class GroundTruthTables:
    """The parts `truth` and `blind`, which share their truths."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.run, self.bar = evaluator, evaluator.run, evaluator.bar
        self._notices: tuple[str, ...] = ()

    @cached_property
    def _others(self) -> Others:
        return others_of(self.run)

    @cached_property
    def _truths(self) -> Truths:
        taught = training_images(self._others) if self.run.settings.evaluate.truth is not None else set()
        truths, notices = known_truths(self.run, taught)
        for notice in notices:
            self.bar.note(notice)
        self._notices = tuple(f"{notice}." for notice in notices)
        return truths

    def truth(self) -> Part:
        """Truths made small by bicubic."""
        truths, wanted = self._truths, self.run.settings.evaluate.truth
        assert wanted is not None  # else there are no truths
        entries = self._entries(truths, alone_preset=wanted.alone_preset or wanted.preset if wanted.alone else None)
        title = f"Truth known: {self._size_text(truths)}, LR by bicubic"
        return self._part("truth", "Truth known", (_TRUTH, *self._order), title, [truths], entries)

    def blind(self) -> Part:
        """Truths that went through cameras unknown to the methods."""
        truths, wanted, scale = self._truths, self.run.settings.evaluate.truth, self.run.scale[0]
        assert wanted is not None  # else there are no truths
        if not wanted.blind:
            raise SettingsError("evaluate.truth.blind: is 0, so that there are no groups: set it to 3.")
        groups = blind_groups(self.run, truths, self.evaluator.cache)
        for group in groups:
            self.bar.note(f"{degradation_text(group.degradation, scale)}; estimated: {group.camera}")
        each = [self._entries(group) for group in groups]
        entries = {name: _joined([one[name] for one in each]) for name in each[0]}
        title = f"Blind: {len(groups)} groups of {self._size_text(groups[0])}"
        heading = "Blind: cameras that no method is told of"
        part = self._part("blind", heading, (_BLIND, *self._order), title, groups, entries)
        rows = [
            (str(n), f"{len(group.ids):,}", degradation_text(group.degradation, scale), group.camera)
            for n, group in enumerate(groups, 1)
        ]
        heads = ("group", "images", "what the camera did", "what was estimated")
        return replace(part, tables=(*part.tables, Table("Cameras", heads, (), tuple(Row(row, {}) for row in rows))))

    @property
    def _trains(self) -> bool:
        """Whether a generator is trained on the LR images of these tables."""
        wanted = self.run.settings.evaluate.truth
        return wanted is not None and wanted.train and self.run.settings.train.pairs is None

    @property
    def _order(self) -> tuple[str, ...]:
        """Paragraphs on that generator, where it has rows."""
        if not self._trains:
            return ()
        train = self.run.settings.train
        if not train.losses.need_features:
            return (_ORDER,)
        return (_ORDER, f"Its mediator's weights are not of these images: {train.mediator.weights}.")

    def _size_text(self, truths: Truths) -> str:
        side = truths.images[0].shape[-1]
        return f"{len(truths.ids):,} images of {side} px a side, x{self.run.scale[0]:g}"

    def _entries(self, truths: Truths, alone_preset: str | None = None) -> dict[str, Entry]:
        """Every method on the LR images of one case; with `alone_preset`, a network of each image's own too."""
        wanted, inputs, evaluator, run = self.run.settings.evaluate.truth, truths.inputs, self.evaluator, self.run
        assert wanted is not None  # else there are no truths
        assumed = Inputs.by_bicubic(inputs.images)
        entries = {shown: evaluator.interpolate(name, assumed) for name, shown in INTERPOLATIONS.items()}
        if alone_preset is not None:
            entries[ALONE] = evaluator.learn_alone(alone_preset, inputs)
        if truths.estimate is not None:
            entries[ASSUMED] = evaluator.learn_together(wanted.preset, assumed)
        entries[TOGETHER] = evaluator.learn_together(wanted.preset, inputs)
        if self._trains:
            entries |= self._trained(truths, entries[TOGETHER])
        if run.trained is None:
            self.bar.note("truth: this run has trained no generator, so it has no row")
        else:
            if run.content is not None:
                entries[CONTENT.format(evaluator.network)] = evaluator.generate("truth", inputs, "raw", run.content)
            entries |= evaluator.generate_both("truth", inputs)
        for title, other in self._others.items():
            if isinstance(other, str):
                entries[title] = no_results("not known", other)
            else:
                entries[title] = evaluator.generate(title, inputs, "raw", other)
        return entries

    def _trained(self, truths: Truths, stage_1: Entry) -> dict[str, Entry]:
        """A generator trained on these LR images and on what the zero-shot way made of them."""
        train = self.run.settings.train
        network = f"{train.generator.name.upper()} on these LR images"
        names = [name.format(network) for name in (CONTENT, RAW, PROJECTED)]
        assert stage_1.results is not None  # it is always made
        try:
            phases = train_on_case(
                train,
                truths,
                stage_1.results,
                self.evaluator.cache,
                seed=self.run.settings.seed,
                machine=self.evaluator.machine,
                bar=self.bar,
            )
        except (WeightsError, SettingsError) as error:
            failed = no_results(THESE, reason(error))
            return dict.fromkeys(names, failed)
        before = stage_1.results.seconds * len(truths.ids)

        def entry(preset: str, generator: TrainedGenerator, seconds: float | None) -> Entry:
            made = self.evaluator.generate("truth", truths.inputs, preset, generator, THESE)
            return replace(made, learning_seconds=None if seconds is None else seconds + before)

        content = no_results(THESE, "the run's settings have one phase alone")
        if phases.content is not None:
            content = entry("raw", phases.content, phases.content_seconds)
        last = [entry(preset, phases.last, phases.seconds) for preset in ("raw", "generator")]
        return dict(zip(names, (content, *last), strict=True))

    def _part(
        self,
        name: str,
        title: str,
        text: tuple[str, ...],
        table_title: str,
        groups: Sequence[Truths],
        entries: Mapping[str, Entry],
    ) -> Part:
        """Tables and scenes of all groups' images together."""
        evaluator = self.evaluator
        images = tuple(image for group in groups for image in group.images)
        ids = tuple(one for group in groups for one in group.ids)
        inputs = Inputs(
            tuple(image for group in groups for image in group.inputs.images),
            tuple(downscale for group in groups for downscale in group.inputs.downscales),
        )
        downscales = [_true_downscale(group) for group in groups]
        metrics = [psnr(), ssim(), ssim_pil(), mse(), vif(), *evaluator.network_metrics]
        metrics += [residual(downscales), colour_shift(downscales)]
        cameras = [place for place, group in enumerate(groups) for _ in group.ids]
        of_sets = [*evaluator.distances, self._seconds]
        columns = [*(metric.definition for metric in metrics), *of_sets]
        methods = []
        measured = evaluator.measure(name, entries, metrics, inputs, images, cameras)
        for method, one in zip(measured, entries.values(), strict=True):
            if one.results is None:
                extra = {column.name: [column.none(one.why)] for column in of_sets}
            else:
                extra = evaluator.distances_between(one.results, images)
                extra[self._seconds.name] = [self._time(one, len(ids))]
            names = frozenset(column.name for column in of_sets)
            texts = (*method.texts, one.learnt_from)
            methods.append(Method(texts, {**method.figures, **extra}, method.label, names))
        baseline = next(one for one in methods if one.texts[0] == "bicubic")
        tables = (
            summarised(table_title, _HEADS, columns, methods),
            differences(f"{title}: differences to bicubic", _HEADS, columns, methods, baseline),
        )
        shown = {"truth": images}
        for kind in ("bicubic", TOGETHER if self.run.trained is None else RAW.format(evaluator.network)):
            if (results := entries[kind].results) is not None:
                shown[kind] = results.images
        histogram = Illustration("Pixel intensities", histograms_png(shown))
        scenes = evaluator.scenes(ids, inputs, entries, images)
        return Part(name, title, (*text, *self._notices), tables, (histogram,), scenes)

    def _time(self, entry: Entry, images: int) -> Figure:
        """Of applying, and of learning on these images."""
        if entry.results is None or entry.learning_seconds is None:
            return self._seconds.none(_NO_TIME)
        return Figure(self._seconds.name, entry.results.seconds + entry.learning_seconds / images)

    @cached_property
    def _seconds(self) -> Definition:
        device = self.evaluator.device
        return Definition(
            f"time, {device['device']}, {device['threads']} CPU threads, {device['precision']}",
            "wall time an image, all learning on these images included, a run's own training before not",
            "s",
            higher_is_better=False,
        )


def _true_downscale(truths: Truths) -> Downscale:
    """What was done in truth, where that is known."""
    return truths.downscale if truths.degradation is None else truths.degradation.downscale


def _joined(entries: Sequence[Entry]) -> Entry:
    """A method's results on several groups; none where one group has none."""
    missing = next((one for one in entries if one.results is None), None)
    if missing is not None:
        return missing
    times = [one.learning_seconds for one in entries]
    return replace(
        entries[0],
        results=joined([one.results for one in entries if one.results is not None]),
        learning_seconds=None if None in times else sum(one for one in times if one is not None),
    )
