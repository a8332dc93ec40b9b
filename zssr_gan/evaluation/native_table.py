"""Native LR images, whose truth nobody knows: what can be measured all the same, and pictures to look at."""

from zssr_gan.errors import SettingsError
from zssr_gan.evaluation.evaluator import HEADS, Evaluator
from zssr_gan.evaluation.ground_truth import native_images
from zssr_gan.evaluation.ground_truth_table import ASSUMED, TOGETHER
from zssr_gan.evaluation.methods import INTERPOLATIONS
from zssr_gan.evaluation.metrics.full_reference import psnr, ssim
from zssr_gan.evaluation.metrics.no_reference import colour_shift, residual, sharpness
from zssr_gan.evaluation.part import Part, merge_sets
from zssr_gan.evaluation.run import Inputs
from zssr_gan.evaluation.tables import differences, summarised
from zssr_gan.settings.data import SourceSettings

_TEXT = (
    "Footage as cameras gave it. Nobody knows the scene, so there is no figure of how right a result is: those below "
    "say whether it agrees with its input under what the camera is estimated to have done, and how sharp it is. "
    "Sharper is not truer. Look at the pictures, and at where the maps are bright."
)


def native_tables(evaluator: Evaluator) -> Part:
    """Tables and scenes for each of `evaluate.native`."""
    wanted = evaluator.run.settings.evaluate.native
    if not wanted:
        raise SettingsError("evaluate.native: is empty: name a folder of LR images, [{kind: folder, root: crops}].")
    parts = [_set(evaluator, one) for one in wanted]
    return merge_sets("native", "Native footage, without a truth", _TEXT, parts)


def _set(evaluator: Evaluator, wanted: SourceSettings) -> Part:
    run = evaluator.run
    case, notices = native_images(run, wanted, evaluator.cache)
    for notice in [*notices, f"{wanted.label}: {case.camera}"]:
        evaluator.bar.note(notice)
    inputs, preset = case.inputs, run.settings.evaluate.native_preset
    assumed = Inputs.by_bicubic(inputs.images)
    entries = {INTERPOLATIONS[name]: evaluator.interpolate(name, assumed) for name in ("bicubic", "back-projected")}
    entries[ASSUMED] = evaluator.learn_together(preset, assumed)
    entries[TOGETHER] = evaluator.learn_together(preset, inputs)
    if run.trained is not None:
        entries |= evaluator.generate_both("native", inputs)
    metrics = [psnr(), ssim(), residual([case.downscale]), colour_shift([case.downscale]), sharpness()]
    columns = [metric.definition for metric in metrics]
    methods = evaluator.measure(wanted.label, entries, metrics, inputs)
    title = f"{wanted.label}: {len(case.ids):,} native images, x{run.scale[0]:g}"
    tables = (
        summarised(title, HEADS, columns, methods, (f"Camera: {case.camera}",)),
        differences(f"{wanted.label}: differences to bicubic", HEADS, columns, methods, methods[0]),
    )
    return Part("", wanted.label, tuple(notices), tables, scenes=evaluator.scenes(case.ids, inputs, entries))
