"""The degradations of a run: estimated once from the training part's LR images, kept in its folder, found again."""

import time
from pathlib import Path

from pipelines.degradation_pictures import degradations_png
from pipelines.progress import Bar
from pipelines.teachers import Teachers
from zssr_gan.data.cameras import (
    CaseDegradations,
    GroupEstimate,
    encode_degradations,
    group_images,
    read_degradations,
)
from zssr_gan.errors import ImageError, SettingsError
from zssr_gan.files import write_together
from zssr_gan.imaging.degradation import KernelBlur
from zssr_gan.interrupts import uninterrupted
from zssr_gan.record import is_ours
from zssr_gan.stages import RunSettings
from zssr_gan.zeroshot.degradation import Evidence, estimate_degradation
from zssr_gan.zeroshot.degradation_estimate import read_estimate
from zssr_gan.zeroshot.estimation_settings import EstimationSettings


def case_degradations(settings: RunSettings, teachers: Teachers, path: Path, bar: Bar) -> CaseDegradations | None:
    """The run's degradations, None where it assumes bicubic: from a file, from `path` as kept, or estimated.

    Args:
        settings: the run's.
        teachers: what is estimated from.
        path: degradation.json of an earlier start of the run, if there was one. Nothing is written here.
        bar: how far it is.

    Raises:
        SettingsError: the file that is named holds no degradation, or one for another scale; or a user's own file lies
            at `path`.
        ImageError: no image can be estimated from.
    """
    if settings.synth.degradation_from == "bicubic":
        return None
    kept = _kept(settings, path)
    if settings.synth.degradation_from == "file":
        given = Path(settings.synth.degradation).expanduser()
        estimate = read_estimate(given)
        blur, scale = estimate.degradation.blur, settings.synth.scale
        if isinstance(blur, KernelBlur) and blur.scale != (scale, scale):
            raise SettingsError(
                f"{given}: its kernel holds for a scale of {blur.scale[0]} x {blur.scale[1]} alone (y, x), and "
                f"synth.scale is {scale:g}."
            )
        bar.note(f"degradation of all images: {estimate.summary}, from {given}")
        named = GroupEstimate(group=given.stem, estimate=estimate)
        return CaseDegradations(seed=None, size=settings.data.size, groups=(named,))
    groups, notices = group_images(teachers.images)
    if not groups:
        raise ImageError("there is no image to estimate the degradation from: no image of the training part has a role")
    if kept is not None and _is_of(kept, settings, teachers, groups):
        for one in kept.groups:
            bar.note(f"degradation of {one.group}: {one.estimate.summary}, as kept in {path}")
        return kept
    for notice in notices:
        bar.note(notice)
    return _estimated(settings, teachers, groups, bar)


def keep_degradations(degradations: CaseDegradations, path: Path) -> None:
    """Write degradation.json, and degradation.png beside it, where they do not hold these already."""
    picture = path.with_suffix(".png")
    content = encode_degradations(degradations)
    if picture.exists() and path.exists() and path.read_bytes() == content:
        return
    contents = {picture: degradations_png(degradations), path: content}
    with uninterrupted():
        write_together(contents, replaceable=list(contents))


def _kept(settings: RunSettings, path: Path) -> CaseDegradations | None:
    """What an earlier start of the run kept. Anything else there is a user's, who may have no second copy of it."""
    given = Path(settings.synth.degradation).expanduser()
    if settings.synth.degradation_from == "file" and given.exists() and path.exists() and given.samefile(path):
        raise SettingsError(
            f"synth.degradation: {given} lies where the run keeps its own estimates, and would be replaced: move it "
            "away, and name it by synth.degradation there."
        )
    way_out = "move it away (an estimate can be named by synth.degradation there)."
    picture = path.with_suffix(".png")
    if picture.exists() and not is_ours(picture):
        raise SettingsError(f"{picture}: lies where the run draws its estimates, and is no such picture: {way_out}")
    if not path.exists():
        return None
    try:
        return read_degradations(path)
    except SettingsError as error:
        why = str(error).removeprefix(f"{path}: ").removesuffix(".")
        raise SettingsError(
            f"{path}: lies where the run keeps its own estimates, and cannot be taken for them ({why}): {way_out}"
        ) from error


def _is_of(kept: CaseDegradations, settings: RunSettings, teachers: Teachers, groups: dict[str, list[int]]) -> bool:
    """Whether it was estimated from these images, as they are prepared now, with these settings and this seed."""
    if (kept.seed, kept.size) != (settings.seed, settings.data.size):
        return False
    members = {group: [teachers.images.member(number) for number in groups[group]] for group in groups}
    wanted = {
        group: sorted(member.sha256 for member in its if member.id not in kept.left_out)
        for group, its in members.items()
    }
    found = {one.group: sorted(image.sha256 for image in one.estimate.images) for one in kept.groups}
    constants = EstimationSettings().model_dump(mode="json")
    # A group of which nothing could be read has no estimate.
    return found == {group: images for group, images in wanted.items() if images} and all(
        one.estimate.settings == constants for one in kept.groups
    )


def _estimated(settings: RunSettings, teachers: Teachers, groups: dict[str, list[int]], bar: Bar) -> CaseDegradations:
    by_number = {teacher.number: teacher for teacher in teachers.read(bar)}
    found = []
    for place, (group, numbers) in enumerate(groups.items(), 1):
        its = [by_number[number] for number in numbers if number in by_number]
        if not its:
            continue
        began = time.perf_counter()

        def tell(what: str, done: int, most: int, group: str = group, place: int = place) -> None:
            bar.update(f"degradation of {group}: {what}", done, most, f"group {place} of {len(groups)}")

        evidence = [Evidence(teacher.image, teacher.blocks, teacher.jpeg) for teacher in its]
        estimate = estimate_degradation(evidence, EstimationSettings(), seed=settings.seed, on_estimate=tell)
        found.append(GroupEstimate(group=group, estimate=estimate))
        seconds = time.perf_counter() - began
        bar.note(f"degradation of {group}: {estimate.summary}, from {len(its):,} images in {seconds:.0f} s")
        bar.note(f"degradation of {group}: {estimate.why}")
    if not found:
        raise ImageError("none of the images can be estimated from: they are broken or too small")
    members = (teachers.images.member(number) for numbers in groups.values() for number in numbers)
    read = {teacher.image.name for teacher in by_number.values()}
    left_out = tuple(sorted(member.id for member in members if member.id not in read))
    return CaseDegradations(seed=settings.seed, size=settings.data.size, left_out=left_out, groups=tuple(found))
