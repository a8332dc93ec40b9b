"""Every method against truths that none of them saw: made small by bicubic, or blind, in groups of one camera each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from zssr_gan.degradation.operators import Downscale
from zssr_gan.errors import SettingsError, WeightsError
from zssr_gan.evaluation.cache import Made, joined
from zssr_gan.evaluation.case_training import CaseTraining
from zssr_gan.evaluation.figures import histograms_png
from zssr_gan.evaluation.ground_truth import Truths, blind_groups, known_truths, told_degradation
from zssr_gan.evaluation.methods import Inputs
from zssr_gan.evaluation.metrics.full_reference import mse, psnr, ssim, ssim_pil, vif
from zssr_gan.evaluation.metrics.metric import Definition, Figure, Metric
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual
from zssr_gan.evaluation.other_runs import Other, others_of, taught_with
from zssr_gan.evaluation.part import Illustration, Part
from zssr_gan.evaluation.runner import INTERPOLATIONS, Judges, Measuring, Names, Shown, taught_by
from zssr_gan.evaluation.tables import Method, Row, Table, differences, summarised
from zssr_gan.training.model_card import TrainedGenerator

ALONE, TOGETHER = "ZSSR, learnt on each LR image", "ZSSR, learnt on all LR images"

ASSUMED = "ZSSR, learnt on all LR images, bicubic assumed"

_THESE = "these LR images"

_HEADS = ("method", "learnt from", "label")

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


@dataclass
class TruthTables:
    """Makes the parts `truth` and `blind`."""

    measuring: Measuring
    _notices: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """The run's parts."""
        self.run, self.bar = self.measuring.run, self.measuring.bar
        self.evaluate = self.run.settings.evaluate

    @cached_property
    def _judges(self) -> Judges:
        return Judges(self.evaluate, self.run.settings.seed, self.measuring.used.device, self.measuring.kept)

    @cached_property
    def _others(self) -> list[Other]:
        return others_of(self.run)

    @cached_property
    def _truths(self) -> Truths:
        taught = taught_with(self._others) if self.evaluate.truth is not None else set()
        truths, notices = known_truths(self.run, taught)
        for notice in notices:
            self.bar.note(notice)
        self._notices = tuple(f"{notice}." for notice in notices)
        return truths

    def truth(self) -> Part:
        """Truths made small by bicubic."""
        shown = self._methods(self._truths, alone=self.evaluate.truth is not None and self.evaluate.truth.alone)
        title = f"Truth known: {self._told(self._truths)}, LR by bicubic"
        return self._part("truth", "Truth known", (_TRUTH, *self._order), title, [self._truths], shown)

    def blind(self) -> Part | None:
        """Truths that went through cameras unknown to the methods."""
        truths, wanted = self._truths, self.evaluate.truth
        assert wanted is not None  # else there are no truths
        if not wanted.blind:
            raise SettingsError("evaluate.truth.blind: is 0, so that there are no groups: set it to 3.")
        groups = blind_groups(self.run, truths, self.measuring.kept)
        for group in groups:
            self.bar.note(f"{told_degradation(group.degradation, self.run.scale[0])}; estimated: {group.camera}")
        each = [self._methods(group, alone=False) for group in groups]
        shown = {name: _together([one[name] for one in each]) for name in each[0]}
        title = f"Blind: {len(groups)} groups of {self._told(groups[0])}"
        part = self._part(
            "blind", "Blind: cameras that no method is told of", (_BLIND, *self._order), title, groups, shown
        )
        heads = ("group", "images", "what the camera did", "what was estimated")
        cameras = Table(
            "Cameras",
            heads,
            (),
            tuple(
                Row(
                    (
                        str(n),
                        f"{len(group.ids):,}",
                        told_degradation(group.degradation, self.run.scale[0]),
                        group.camera,
                    ),
                    {},
                )
                for n, group in enumerate(groups, 1)
            ),
        )
        return replace(part, tables=(*part.tables, cameras))

    @property
    def _trains(self) -> bool:
        """Whether the whole unpaired way stands in the tables."""
        wanted = self.evaluate.truth
        return wanted is not None and wanted.train and self.run.settings.train.pairs is None

    @property
    def _order(self) -> tuple[str, ...]:
        """What must be said of the whole unpaired way, where it stands there."""
        if not self._trains:
            return ()
        mediator = self.run.settings.train.mediator
        if not self.run.settings.train.losses.need_features:
            return (_ORDER,)
        return (_ORDER, f"Its mediator's weights are not of these images: {mediator.weights}.")

    def _told(self, truths: Truths) -> str:
        side = truths.images[0].shape[-1]
        return f"{len(truths.ids):,} images of {side} px a side, x{self.run.scale[0]:g}"

    def _methods(self, truths: Truths, *, alone: bool) -> dict[str, Shown]:
        """Every method on the LR images of one case; with `alone`, networks of each image's own too."""
        wanted, inputs, measuring = self.evaluate.truth, truths.inputs, self.measuring
        assert wanted is not None
        shown = {
            told: Shown("internal", measuring.interpolated(name, inputs.as_bicubic))
            for name, told in INTERPOLATIONS.items()
        }
        if alone:
            preset = wanted.alone_preset or wanted.preset
            shown[ALONE] = Shown(
                "internal", measuring.zero_shot_alone(preset, inputs), learnt_from="each LR image itself"
            )
        if truths.estimate is not None:
            shown[ASSUMED] = Shown(
                "case", measuring.zero_shot_together(wanted.preset, inputs.as_bicubic), learnt_from=_THESE
            )
        stage_1 = measuring.zero_shot_together(wanted.preset, inputs)
        shown[TOGETHER] = Shown("case", stage_1, learnt_from=_THESE)
        if self._trains:
            shown |= self._trained(truths, stage_1)
        run = self.run
        if run.trained is None:
            self.bar.note("truth: this run has trained no generator, so it has no row")
        else:
            if run.content is not None:
                made = measuring.by_generator("truth", inputs, "raw", run.content)
                shown[measuring.names.content] = Shown("generative", made, learnt_from=taught_by(run.content))
            shown |= measuring.own("truth", inputs)
        for other in self._others:
            if other.generator is None:
                shown[other.told] = Shown("generative", None, other.why, "not known")
            else:
                made = measuring.by_generator(other.name, inputs, "raw", other.generator)
                shown[other.told] = Shown("generative", made, learnt_from=taught_by(other.generator))
        return shown

    def _trained(self, truths: Truths, stage_1: Made) -> dict[str, Shown]:
        """The whole unpaired way on these LR images."""
        train = self.run.settings.train
        names = Names(f"{train.generator.name.upper()} on these LR images")
        training = CaseTraining(train, self.run.settings.seed, self.measuring.used, self.bar)
        try:
            phases = training.run(truths, stage_1, self.measuring.kept)
        except (WeightsError, SettingsError) as error:
            why = str(error).removesuffix(".")
            return {name: Shown("generative", None, why, _THESE) for name in (names.content, names.raw, names.whole)}

        def shown(preset: str, generator: TrainedGenerator, training: float | None) -> Shown:
            made = self.measuring.by_generator("truth", truths.inputs, preset, generator)
            learning = None if training is None else training + stage_1.seconds * len(truths.ids)
            return Shown("generative", made, learnt_from=_THESE, seconds=learning)

        before = Shown("generative", None, "the run's settings have one phase alone", _THESE)
        if phases.content is not None:
            before = shown("raw", phases.content, phases.content_seconds)
        last = (phases.last, phases.seconds)
        return {names.content: before, names.raw: shown("raw", *last), names.whole: shown("generator", *last)}

    def _part(
        self,
        name: str,
        title: str,
        text: tuple[str, ...],
        told: str,
        groups: Sequence[Truths],
        shown: Mapping[str, Shown],
    ) -> Part:
        """Tables and scenes of all groups' images together."""
        images = tuple(image for group in groups for image in group.images)
        ids = tuple(one for group in groups for one in group.ids)
        downscales = [_camera(group) for group in groups]
        inputs = Inputs(
            tuple(image for group in groups for image in group.inputs.images),
            tuple(downscale for group in groups for downscale in group.inputs.downscales),
        )
        cameras = [place for place, group in enumerate(groups) for _ in group.ids]
        metrics = self._metrics(downscales)
        distances = self._judges.distances
        sets = frozenset({self._seconds.name, *(one.name for one in distances)})
        columns = [*(metric.definition for metric in metrics), *distances, self._seconds]
        methods = []
        for method, one in shown.items():
            if one.made is None:
                figures = {
                    column.name: [column.none(one.why)] * (1 if column.name in sets else len(ids)) for column in columns
                }
            else:
                figures = self.measuring.figures(f"{name}, {method}", one.made.images, metrics, inputs, images, cameras)
                figures |= self._judges.between(one.made, images)
                figures[self._seconds.name] = [self._time(one, len(ids))]
            methods.append(Method((method, one.learnt_from, one.label), figures, sets))
        baseline = next(one for one in methods if one.texts[0] == "bicubic")
        tables = (
            summarised(told, _HEADS, columns, methods),
            differences(f"{title}: differences to bicubic", _HEADS, columns, methods, baseline),
        )
        drawn = {method: one.made.images for method, one in shown.items() if one.made is not None}
        own = TOGETHER if self.run.trained is None else self.measuring.names.raw
        kinds = {"truth": images, **{kind: drawn[kind] for kind in ("bicubic", own)}}
        histogram = Illustration("Pixel intensities", histograms_png(kinds))
        return Part(
            name,
            title,
            (*text, *self._notices),
            tables,
            (histogram,),
            self.measuring.scenes(ids, inputs, shown, images),
        )

    def _time(self, shown: Shown, images: int) -> Figure:
        """Of making, and of learning on these images."""
        if shown.made is None or shown.seconds is None:
            return self._seconds.none(
                "the training was stopped and went on, and nobody has the time of its first steps"
            )
        return Figure(self._seconds.name, shown.made.seconds + shown.seconds / images)

    def _metrics(self, downscales: Sequence[Downscale]) -> list[Metric]:
        against_truths = [psnr(), ssim(), ssim_pil(), mse(), vif(), *self._judges.metrics]
        return [*against_truths, residual(downscales), colour_shift(downscales)]

    @cached_property
    def _seconds(self) -> Definition:
        used = self.measuring.used
        return Definition(
            f"time, {self.measuring.device['device']}, {used.threads} CPU threads, {used.precision}",
            "wall time an image, all learning on these images included, a run's own training before not",
            "s",
            higher_is_better=False,
        )


def _camera(truths: Truths) -> Downscale:
    """What was done in truth, where that is known."""
    return truths.downscale if truths.degradation is None else truths.degradation.downscale


def _together(of_each: Sequence[Shown]) -> Shown:
    """A method's results on several groups; none where it has none of one."""
    lacking = next((one for one in of_each if one.made is None), None)
    if lacking is not None:
        return lacking
    times = [one.seconds for one in of_each]
    return replace(
        of_each[0],
        made=joined([one.made for one in of_each if one.made is not None]),
        seconds=None if None in times else sum(one for one in times if one is not None),
    )
