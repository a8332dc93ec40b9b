"""Many files: each is read, enhanced and written with its record; one that fails does not stop the rest."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

from zssr_gan.degradation.encoder_tables import jpeg_of
from zssr_gan.degradation.model import Jpeg
from zssr_gan.devices import resolve_device
from zssr_gan.errors import ZssrGanError
from zssr_gan.files import (
    canonical_sha256,
    check_unchanged,
    relative_path,
    sha256_bytes,
    sha256_file,
    write_together,
)
from zssr_gan.imaging.io import decode_picture, encode_picture, left_out, read_image_bytes
from zssr_gan.imaging.picture import Picture
from zssr_gan.imaging.sheets import encode_sheet, evidence_sheet
from zssr_gan.inference.enhance import Enhanced, enhance_pictures, pictures_together
from zssr_gan.inference.evidence import blocks_in
from zssr_gan.inference.generator import takes_together
from zssr_gan.inference.outputs import ImageTask, RunPlan
from zssr_gan.inference.record import (
    InputFile,
    Record,
    RecordError,
    ResultFile,
    Times,
    Tool,
    WrittenFile,
    encode_record,
    read_record,
)
from zssr_gan.inference.region import region_text
from zssr_gan.inference.request import Request
from zssr_gan.inference.result import Result, choice_text, failed_result
from zssr_gan.inference.small import OnResult, fits_one_thread, run_small
from zssr_gan.inference.stream import stream
from zssr_gan.progress import OnProgress
from zssr_gan.provenance import LABELS, VERSION, provenance_text, scale_text
from zssr_gan.signals import uninterrupted

Contents = dict[Path, bytes]
"""The bytes of each file to write; the record, which vouches for the others, comes last."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An input in memory."""

    started: datetime
    clock: float
    """Seconds, of `time.perf_counter`, when it was begun."""
    path: Path
    size_bytes: int
    sha256: str
    """Of the bytes that were decoded."""
    picture: Picture
    jpeg: Jpeg | None
    """How the file was compressed."""


def run_plan(
    plan: RunPlan,
    request: Request,
    *,
    on_start: Callable[[int, ImageTask], None] | None = None,
    on_progress: OnProgress | None = None,
    on_result: OnResult | None = None,
) -> Iterator[Result]:
    """Do a plan's tasks in their order; yields what came of each as soon as it is known.

    Args:
        plan: as made by `plan_run`.
        request: what is asked of each image.
        on_start: gets the place among the tasks to do, from 0, and the task.
        on_progress: gets each step of the image in work.
        on_result: gets the result while it is in memory, and its record, e.g. for a comparison sheet.
    """
    case = _case_of(plan, request) if plan.skipped else set()
    for task in plan.skipped:
        yield _skip(task, request, case)
    places = {task: place for place, task in enumerate(plan.todo)}

    def begin(task: ImageTask) -> None:
        if on_start is not None:
            on_start(places[task], task)

    if takes_together(resolve_device(request.options.device)):
        yield from _run_together(plan, request, begin, on_progress, on_result)
        return
    threads, run_task = request.options.small_images_at_once, partial(_run_task, request)
    alone = threads == 1 or request.model is not None
    for small, tasks in groupby(plan.todo, lambda task: not alone and fits_one_thread(task.source)):
        if small:
            yield from run_small([*tasks], threads, run_task, begin, on_progress, on_result)
            continue
        for task in tasks:
            begin(task)
            yield run_task(task, on_progress, on_result)


def _run_task(request: Request, task: ImageTask, on_progress: OnProgress | None, on_result: OnResult | None) -> Result:
    """Do one task. What it held in memory ends here, before the next image needs the room."""
    started = time.perf_counter()
    try:
        enhanced, record, contents = _make(task, request, on_progress)
        _write(task, request, contents)
        if on_result is not None:
            on_result(task, enhanced, record)
    except Exception as error:
        return failed_result(task, error, time.perf_counter() - started)
    return Result(task, "done", choice_text(record), time.perf_counter() - started, record)


def _make(task: ImageTask, request: Request, on_progress: OnProgress | None) -> tuple[Enhanced, Record, Contents]:
    """A task's result and files; of an error no frame that still runs holds the input."""
    opened = open_input(task.source, request)
    (enhanced,) = enhance_opened([opened], request, on_progress)
    return enhanced, *record_and_files(task, opened, enhanced)


def _run_together(
    plan: RunPlan,
    request: Request,
    on_start: Callable[[ImageTask], None],
    on_progress: OnProgress | None,
    on_result: OnResult | None,
) -> Iterator[Result]:
    """Images of one size go through a generator, or are learnt from, at once, while others are read and written.

    Their files have the same bytes as if each went alone, but for durations.
    """
    device = resolve_device(request.options.device)

    def work(batch: list[tuple[ImageTask, Opened]]) -> list[Enhanced]:
        on_start(batch[0][0])
        return enhance_opened([opened for _, opened in batch], request, on_progress)

    def write(task: ImageTask, opened: Opened, enhanced: Enhanced) -> tuple[Enhanced, Record]:
        record, contents = record_and_files(task, opened, enhanced)
        _write(task, request, contents)
        return enhanced, record

    for task, written in stream(
        plan.todo,
        read=lambda task: open_input(task.source, request),
        kind=lambda opened: opened.picture.pixels.shape,
        most=lambda opened: pictures_together(request, device, opened.picture),
        work=work,
        write=write,
    ):
        if isinstance(written, Exception):
            yield failed_result(task, written, 0.0)
            continue
        enhanced, record = written
        if on_result is not None:
            on_result(task, enhanced, record)
        yield Result(task, "done", choice_text(record), record.times.seconds, record)


def _case_of(plan: RunPlan, request: Request) -> set[str]:
    """SHA-256 of the images that results of a request are learnt from together; of all, where it is still to be learnt
    from them, since every result exists."""
    if request.shared is not None:
        return {image.sha256 for image in request.shared.facts.images}
    if request.to_learn or request.to_estimate:
        return {sha256_file(task.source) for task in (*plan.skipped, *plan.todo)}
    return {image.sha256 for image in request.degradation.images}


def _skip(task: ImageTask, request: Request, case: set[str]) -> Result:
    """The result of a task whose files exist; says so where they were made from something else.

    `request` is decided (`learn_from_files`); what it has still to estimate or learn is taken from the record.
    """
    if task.record is None:
        return Result(task, "skipped", "exists already")
    try:
        made = read_record(task.record)
        asked, settings = made.request, request.settings_for(made.input.width * made.input.height)
        shared, network = request.shared, _sha256_of(made, "init-from")
        model = None if request.model is None else request.model.sha256
        then = {image.sha256 for image in asked.case or asked.degradation.images}
        known = ("estimate",) if request.to_estimate == "asked" else ("estimate", "picture", "default")
        changes = {
            f"other images in the case ({len(then)}, and now {len(case)})": then and case and then != case,
            "another input": made.input.sha256 != sha256_file(task.source),
            "other settings": asked.settings_sha256 != canonical_sha256(settings.model_dump(mode="json")),
            "another scale": asked.scale != request.scale,
            "another region": asked.region != request.region,
            "another seed": asked.seed != request.seed,
            "a network of its own": network is None and (shared is not None or request.to_learn),
            "a shared model": network is not None and shared is None and not request.to_learn,
            "another shared model": shared is not None and network not in (None, shared.sha256),
            "another model": model != _sha256_of(made, "model"),
            # Where nothing is left to do nothing was estimated: what other images would give is not known.
            "another degradation": asked.degradation.source not in known
            or (asked.degradation.source == "estimate" and then == case != {i.sha256 for i in asked.degradation.images})
            if request.to_estimate
            # What is seen in a picture is seen again.
            else asked.degradation.sha256 != request.degradation_of(made.input.sha256).sha256
            and (asked.degradation.source, request.degradation.source) != ("picture", "default"),
        }
    except (RecordError, OSError) as error:
        return Result(task, "skipped", f"exists already, but cannot be checked ({error})")
    changed = [name for name, differs in changes.items() if differs]
    return Result(
        task, "skipped", f"exists already, but was made with {', '.join(changed)}" if changed else "exists already"
    )


def _sha256_of(record: Record, option: Literal["init-from", "model"]) -> str | None:
    file = record.request.files.get(option)
    return None if file is None else file.sha256


def open_input(path: Path, request: Request) -> Opened:
    """Read and decode an input. ImageError where that cannot be done."""
    started, clock, limit = datetime.now(UTC), time.perf_counter(), request.max_megapixels
    data = read_image_bytes(path, limit)
    picture = decode_picture(data, str(path), max_megapixels=limit)
    return Opened(started, clock, path, len(data), sha256_bytes(data), picture, jpeg_of(data))


def enhance_opened(opened: list[Opened], request: Request, on_progress: OnProgress | None) -> list[Enhanced]:
    """Results, not written yet; errors are those of `enhance_pictures`, with the first file's name."""
    degradations = [] if request.model is not None else [request.degradation_of(one.sha256) for one in opened]
    pictures, jpegs = [one.picture for one in opened], [one.jpeg for one in opened]
    try:
        return enhance_pictures(pictures, request, on_progress, jpegs=jpegs, degradations=degradations)
    except ZssrGanError as error:  # the work knows pixels, not files
        raise type(error)(f"{opened[0].path}: {error}") from error


def record_and_files(
    task: ImageTask, opened: Opened, enhanced: Enhanced, version: str = VERSION
) -> tuple[Record, Contents]:
    """A result's record and the bytes of its files; `version` is that of the program that the record names.

    Raises:
        ImageError: the input was changed while it was worked on.
    """
    source, request = input_facts(task, opened), enhanced.request
    facts = request.facts(enhanced.settings, enhanced.machine, source.sha256, task.result.parent)
    label = facts.label(source.sha256)
    # The text inside the files is a function of the record, so that a rerun can write the same bytes.
    text = provenance_text(
        kind="result",
        version=version,
        label=label,
        facts={
            "input-sha256": source.sha256,
            "settings-sha256": facts.settings_sha256,
            "scale": scale_text(request.scale),
            **({} if request.region is None else {"region": region_text(request.region)}),
            "seed": str(request.seed),
            **({} if request.model is None else {"model-sha256": request.model.sha256}),
        },
    )
    contents: Contents = {}
    if task.evidence is not None:
        maps = enhanced.disagreement, enhanced.residual, enhanced.added_variation
        blocks, note = blocks_in(request.degradation, request.region)
        sheet = evidence_sheet(*maps, views=enhanced.work.evidence.views, blocks=blocks, note=note)
        contents[task.evidence] = encode_sheet(sheet, "evidence map", text)
    contents[task.result] = encode_picture(enhanced.picture, task.result.suffix, text)
    channels, height, width = enhanced.picture.pixels.shape
    lost = left_out(enhanced.picture.metadata, channels, task.result.suffix)
    record = Record(
        tool=Tool(version=version),
        label=label,
        label_means=LABELS[label],
        command_line=request.command_line(task.source, task.result.name, enhanced.machine),
        request=facts,
        input=source,
        output=ResultFile(
            **written_file(task.result, contents).model_dump(),
            width=width,
            height=height,
            channels=channels + (enhanced.picture.alpha is not None),
            bits=enhanced.picture.bits,
        ),
        evidence=None if task.evidence is None else written_file(task.evidence, contents),
        enhancement=enhanced.work.model_copy(update={"notices": (*enhanced.work.notices, *lost)}),
        times=Times(
            started_utc=opened.started.isoformat(timespec="seconds"),
            finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - opened.clock, 3),
        ),
    )
    if task.record is not None:
        contents[task.record] = encode_record(record)
    return record, contents


def _write(task: ImageTask, request: Request, contents: Contents) -> None:
    """Write all of a result's files, or, where anything fails, none. Raises OutputError."""
    with uninterrupted():
        write_together(contents, replaceable=contents if request.overwrite else task.replaced)


def input_facts(task: ImageTask, opened: Opened) -> InputFile:
    """What a record says of the input. ImageError where its file was changed meanwhile."""
    check_unchanged(opened.path, opened.sha256)
    height, width = opened.picture.pixels.shape[-2:]
    return InputFile(
        name=task.source.name,
        path=relative_path(task.source, task.result.parent),
        size_bytes=opened.size_bytes,
        width=width,
        height=height,
        sha256=opened.sha256,
        sha256_after=opened.sha256,
    )


def written_file(path: Path, contents: Contents) -> WrittenFile:
    """What a record says of a file of ours."""
    return WrittenFile(name=path.name, size_bytes=len(contents[path]), sha256=sha256_bytes(contents[path]))
