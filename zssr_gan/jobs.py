"""The work on many files: each is read, enhanced and written with its record; one that fails does not stop the rest."""

import importlib.metadata
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from zssr_gan.enhancement import Enhanced, Progress, enhance_picture
from zssr_gan.errors import ImageError, ZssrGanError, is_out_of_memory
from zssr_gan.files import canonical_sha256, sha256_bytes, sha256_file, write_together
from zssr_gan.imaging.codecs import Metadata, Picture, decode_picture, encode_picture
from zssr_gan.imaging.degradation import Degradation
from zssr_gan.imaging.sheets import evidence_sheet
from zssr_gan.interrupts import uninterrupted
from zssr_gan.naming import Job, Plan, Scale
from zssr_gan.record import (
    MARK,
    InputFile,
    Record,
    RecordError,
    ResultFile,
    Times,
    WrittenFile,
    build_record,
    encode_record,
    label_of,
    provenance_text,
    read_record,
    relative_path,
    scale_text,
    strongest,
)
from zssr_gan.request import KeptDegradation, Request

VERSION = importlib.metadata.version("zssr-gan")

_REPORT_TO = "please report it with the output of `zssr-gan info`; -v shows where it happened"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one job."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    message: str
    seconds: float = 0.0
    record: Record | None = None
    error: Exception | None = None

    @property
    def notices(self) -> list[str]:
        """What a user should know of this image: what reading changed, and starts that died and were made anew."""
        if self.record is None:
            return []
        report: Any = self.record.enhancement
        restarts = sum(sum(step.get("restarts", ())) for step in report["steps"])
        case, image = self.record.case, self.record.input.sha256
        strange = case is not None and image not in {teacher.sha256 for teacher in case.images}
        others = ["it is not among the images that the shared start was learnt on"] if strange else []
        camera = self.record.degradation
        if camera is not None and camera.images and image not in {teacher.sha256 for teacher in camera.images}:
            others.append("it is not among the images that the degradation was estimated from")
        died = [f"training died and was started anew {restarts} time(s)"] if restarts else []
        return [*report["notices"], *others, *died]

    def line(self) -> str:
        """One line for a person."""
        if self.record is None:
            return f"{self.job.result}: {self.message}"
        return f"{self.job.result}: {self.message}, {self.record.label}, {self.seconds:.1f} s"

    def as_json(self) -> dict[str, JsonValue]:
        """One flat object for scripts."""
        made = self.record
        facts: dict[str, JsonValue] = {"input": str(self.job.source), "status": self.status, "message": self.message}
        if self.status != "failed":
            facts |= {key: None if path is None else str(path) for key, path in _named_targets(self.job).items()}
        if made is not None:
            report = made.enhancement
            facts |= {
                "label": made.label,
                "width": made.output.width,
                "height": made.output.height,
                "scale": list(made.arguments.scale),
                "choice": report["choice"],
                "residual_db": report["residual_db"],
                "notices": list(self.notices),
                "sha256": made.output.sha256,
            }
            if made.degradation is not None:
                facts["degradation_sha256"] = made.degradation.values_sha256
        return facts | {"seconds": round(self.seconds, 3)}


def _named_targets(job: Job) -> dict[str, Path | None]:
    return {"output": job.result, "record": job.record, "evidence": job.evidence}


def run_plan(
    plan: Plan,
    request: Request,
    *,
    on_start: Callable[[int, Job], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_result: Callable[[Job, Picture, Enhanced], None] | None = None,
) -> Iterator[Outcome]:
    """Do a plan's jobs one after the other; yields what came of each as soon as it is known.

    Args:
        plan: as made by `plan_run`.
        request: what is asked of each image.
        on_start: gets the place among the jobs to do, from 0, and the job.
        on_progress: gets each step of the image in work.
        on_result: gets the input and the result while they are in memory, e.g. for a comparison sheet.
    """
    for job in plan.skipped:
        yield skip(job, request)
    for index, job in enumerate(plan.todo):
        if on_start is not None:
            on_start(index, job)
        yield _outcome(job, request, on_progress, on_result)


def _outcome(
    job: Job,
    request: Request,
    on_progress: Callable[[Progress], None] | None,
    on_result: Callable[[Job, Picture, Enhanced], None] | None,
) -> Outcome:
    """Do one job. What it held in memory ends here, before the next image needs the room."""
    started = time.perf_counter()
    try:
        picture, enhanced, record = do_job(job, request, on_progress)
        if on_result is not None:
            on_result(job, picture, enhanced)
    except Exception as error:
        _let_go(error)
        return Outcome(job, "failed", _what_failed(job, error), time.perf_counter() - started, error=error)
    return Outcome(job, "done", choice_text(record), time.perf_counter() - started, record)


def _what_failed(job: Job, error: Exception) -> str:
    if isinstance(error, ZssrGanError):
        return str(error)
    if is_out_of_memory(error):
        return f"{job.source}: not enough memory: close other programs, or try a smaller --tile"
    # A mistake of ours in one image must not cost the user the other images.
    return f"{job.source}: zssr-gan made a mistake ({type(error).__name__}: {error}); {_REPORT_TO}"


def _let_go(error: BaseException) -> None:
    """Drop the variables that an error's traceback holds: its lines are still to be shown, the image is not."""
    whole: BaseException | None = error
    while whole is not None:
        traceback.clear_frames(whole.__traceback__)
        whole = whole.__cause__ or whole.__context__


def skip(job: Job, request: Request) -> Outcome:
    """The outcome of a job whose files exist; says so where they were made from something else."""
    if job.record is None:
        return Outcome(job, "skipped", "exists already")
    try:
        made = read_record(job.record)
        settings = request.settings
        if request.init == "scratch":
            settings = settings.for_size(made.input.width * made.input.height)
        changes = {
            "another input": made.input.sha256 != sha256_file(job.source),
            "other settings": made.settings_sha256 != canonical_sha256(settings.model_dump(mode="json")),
            "another scale": tuple(made.arguments.scale) != request.scale,
            "another seed": made.arguments.seed != request.seed,
            "another shared start": request.shared is not None
            and (made.case is None or made.case.sha256 != request.shared.start.sha256),
            "another degradation": _another_degradation(made, request),
            "another kernel": made.kernel != (request.kernel and request.kernel.facts),
        }
    except (RecordError, OSError) as error:
        return Outcome(job, "skipped", f"exists already, but cannot be checked ({error})")
    changed = [name for name, differs in changes.items() if differs]
    if changed:
        return Outcome(job, "skipped", f"exists already, but was made with {', '.join(changed)}")
    return Outcome(job, "skipped", "exists already")


def _another_degradation(made: Record, request: Request) -> bool:
    if request.estimates and request.degradation is None:  # nothing is left to do, and so nothing was estimated
        return made.degradation is None
    return _degradation_of(made) != (request.degradation or KeptDegradation(Degradation())).degradation.sha256


def _degradation_of(made: Record) -> str:
    return Degradation().sha256 if made.degradation is None else made.degradation.values_sha256


def do_job(
    job: Job, request: Request, on_progress: Callable[[Progress], None] | None = None
) -> tuple[Picture, Enhanced, Record]:
    """Enhance one file and write what is wanted of it: all of the files, or, where anything fails, none.

    Files of an earlier run that would be replaced are left as they are until all of the new ones are on the disk.

    Raises:
        ImageError: the input cannot be read or worked on, or changed meanwhile.
        OutputError: a file cannot be written.
        DeviceError, NumericalError, SettingsError: see `enhance_picture`.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    data = _read(job.source, request.max_megapixels)
    picture = decode_picture(data, str(job.source), max_megapixels=request.max_megapixels)
    enhanced = _enhance(job, request, picture, on_progress)
    folder, sha256 = job.result.parent, sha256_bytes(data)
    case = None if request.shared is None else request.shared.facts(folder)
    degradation = None if request.degradation is None else request.degradation.facts(folder, case)
    label = strongest(enhanced.report["label"], label_of(sha256, case, degradation))
    enhanced = replace(enhanced, report={**enhanced.report, "label": label})
    text = result_text(enhanced.report, version=VERSION, input_sha256=sha256, seed=request.seed, scale=request.scale)
    result = encode_picture(enhanced.picture, job.result.suffix, text)
    evidence = None if job.evidence is None else evidence_png(enhanced, text)

    record = build_record(
        version=VERSION,
        arguments=request.arguments,
        source=_input_facts(job, picture, data),
        output=output_facts(job.result.name, enhanced.picture, result),
        evidence=None if evidence is None or job.evidence is None else written_file(job.evidence.name, evidence),
        kernel=None if request.kernel is None else request.kernel.facts,
        case=case,
        degradation=degradation,
        report=enhanced.report,
        times=Times(
            started_utc=started.isoformat(timespec="seconds"),
            finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - clock, 3),
        ),
        option_files=request.option_files(job.source.parent),
    )
    # The record last, since it vouches for the others: where it stands, they are whole.
    files = ((job.evidence, evidence), (job.result, result), (job.record, encode_record(record)))
    contents = {path: content for path, content in files if path is not None and content is not None}
    with uninterrupted():
        write_together(contents, replaceable=contents if request.overwrite else job.replaced)
    return picture, enhanced, record


def _enhance(job: Job, request: Request, picture: Picture, on_progress: Callable[[Progress], None] | None) -> Enhanced:
    try:
        return enhance_picture(
            picture,
            request.scale,
            request.settings,
            seed=request.seed,
            kernel=None if request.kernel is None else request.kernel.values,
            degradation=None if request.degradation is None else request.degradation.degradation,
            shared=None if request.shared is None else request.shared.start,
            options=request.options,
            on_progress=on_progress,
        )
    except ZssrGanError as error:
        # It knows pixels, not files: the name is put before its sentence.
        raise type(error)(f"{job.source}: {error}") from error


def _read(path: Path, max_megapixels: float) -> bytes:
    try:
        # 8 bytes hold the largest pixel; a file far beyond that would fill the memory before its header is seen.
        if path.stat().st_size > 64e6 + 2 * 8e6 * max_megapixels:
            raise ImageError(f"{path}: {path.stat().st_size / 1e6:.0f} MB is more than --max-megapixels can be")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error


def _input_facts(job: Job, picture: Picture, data: bytes) -> InputFile:
    before = sha256_bytes(data)
    try:
        after = sha256_file(job.source)
    except OSError:
        after = ""
    if after != before:
        raise ImageError(f"{job.source}: the file was changed while it was worked on: run it again")
    return InputFile(
        name=job.source.name,
        path=relative_path(job.source, job.result.parent),
        size_bytes=len(data),
        width=picture.pixels.shape[-1],
        height=picture.pixels.shape[-2],
        sha256=before,
        sha256_after=after,
    )


def written_file(name: str, content: bytes) -> WrittenFile:
    """What a record says of a file of ours."""
    return WrittenFile(name=name, size_bytes=len(content), sha256=sha256_bytes(content))


def output_facts(name: str, picture: Picture, content: bytes) -> ResultFile:
    """What a record says of a result."""
    channels, height, width = picture.pixels.shape
    return ResultFile(
        **written_file(name, content).model_dump(),
        width=width,
        height=height,
        channels=channels + (picture.alpha is not None),
        bits=picture.bits,
    )


def result_text(
    report: Mapping[str, Any], *, version: str, input_sha256: str, seed: int, scale: Scale
) -> dict[str, str]:
    """The text fields inside a result: a function of its record, so that a rerun can write the same bytes."""
    facts = {
        "input-sha256": input_sha256,
        "settings-sha256": canonical_sha256(report["settings"]),
        "scale": scale_text(scale),
        "seed": str(seed),
    }
    return provenance_text(kind="result", version=version, label=report["label"], facts=facts)


def evidence_png(enhanced: Enhanced, text: Mapping[str, str]) -> bytes:
    """The evidence map's file, with the result's text fields."""
    views = enhanced.report["evidence"]["views"]
    sheet = evidence_sheet(enhanced.disagreement, enhanced.residual, views=views)
    picture = Picture(pixels=sheet, alpha=None, bits=8, metadata=Metadata())
    return encode_picture(picture, "png", {**text, MARK: "evidence map"})


def choice_text(record: Record) -> str:
    """In a few words: how much of the pixels is the network's and how much back-projection's, and why."""
    choice: Any = record.enhancement["choice"]
    share = choice["share"]
    made_by = {0.0: "back-projection", 1.0: "network"}.get(share, f"{share:.0%} network, else back-projection")
    if choice["network_db"] is None:
        return f"{made_by} ({choice['why']})"
    gain = choice["network_db"] - choice["back_projection_db"]
    where = "on held-out parts" if choice["held_out"] else "on its own shrunk copy"
    return f"{made_by} (network {gain:+.2f} dB {where})"
