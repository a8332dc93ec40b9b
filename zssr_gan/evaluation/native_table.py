"""Native LR images, of which no truth is known: what can be said of them all the same, and pictures to look at."""

from dataclasses import dataclass

from zssr_gan.errors import SettingsError
from zssr_gan.evaluation.ground_truth import native_images
from zssr_gan.evaluation.ground_truth_table import ASSUMED, TOGETHER
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Part, Scene
from zssr_gan.evaluation.runner import HEADS, INTERPOLATIONS, Measuring, Shown, part_of_sets
from zssr_gan.evaluation.tables import Method, Table, differences, summarised
from zssr_gan.settings.data import SourceSettings

_TEXT = (
    "Footage as cameras gave it. Nobody knows the scene, so there is no figure of how right a result is: those below "
    "say whether it agrees with its input under what the camera is estimated to have done, and how sharp it is. "
    "Sharper is not truer. Look at the pictures, and at where the maps are bright."
)


@dataclass
class NativeTables:
    """Makes the part `native`."""

    measuring: Measuring

    def part(self) -> Part:
        """Tables and scenes for each of `evaluate.native`."""
        wanted = self.measuring.run.settings.evaluate.native
        if not wanted:
            raise SettingsError("evaluate.native: is empty: name a folder of LR images, [{kind: folder, root: crops}].")
        return part_of_sets(
            "native", "Native footage, without a truth", _TEXT, [(one.label, *self._set(one)) for one in wanted]
        )

    def _set(self, wanted: SourceSettings) -> tuple[list[Table], tuple[Scene, ...], list[str]]:
        measuring, run = self.measuring, self.measuring.run
        case, notices = native_images(run, wanted, measuring.kept)
        for notice in [*notices, f"{wanted.label}: {case.camera}"]:
            measuring.bar.note(notice)
        inputs, preset = case.inputs, run.settings.evaluate.native_preset
        shown = {
            told: Shown("internal", measuring.interpolated(name, inputs.as_bicubic))
            for name, told in INTERPOLATIONS.items()
            if name not in ("nearest", "lanczos")
        }
        shown[ASSUMED] = Shown("case", measuring.zero_shot_together(preset, inputs.as_bicubic))
        shown[TOGETHER] = Shown("case", measuring.zero_shot_together(preset, inputs))
        if run.trained is not None:
            shown |= measuring.own("native", inputs)
        downscales = [case.downscale]
        metrics = [psnr(), ssim(), residual(downscales), colour_shift(downscales), sharpness()]
        columns = [metric.definition for metric in metrics]
        methods = []
        for name, one in shown.items():
            assert one.made is not None
            figures = measuring.figures(f"{wanted.label}, {name}", one.made.images, metrics, inputs, None)
            methods.append(Method((name, one.label), figures))
        title = f"{wanted.label}: {len(case.ids):,} native images, x{run.scale[0]:g}"
        tables = [
            summarised(title, HEADS, columns, methods, (f"Camera: {case.camera}",)),
            differences(f"{wanted.label}: differences to bicubic", HEADS, columns, methods, methods[0]),
        ]
        return tables, measuring.scenes(case.ids, inputs, shown, None), notices
