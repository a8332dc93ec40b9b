"""The work on many files: each is read, enhanced and written with its record; one that fails does not stop the rest."""

import importlib.metadata
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import JsonValue

from zssr_gan.degradation.model import Degradation
from zssr_gan.devices import resolve_device
from zssr_gan.errors import ImageError, ZssrGanError, is_out_of_memory
from zssr_gan.files import canonical_sha256, relative_path, sha256_bytes, sha256_file, write_together
from zssr_gan.imaging.io import decode_picture, encode_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.sheets import evidence_sheet
from zssr_gan.inference.enhance import Enhanced, enhance_picture, enhance_pictures
from zssr_gan.inference.generator import images_together, takes_together
from zssr_gan.inference.outputs import Job, Plan, Scale
from zssr_gan.inference.record import (
    InputFile,
    ModelFacts,
    Record,
    RecordError,
    ResultFile,
    Times,
    WrittenFile,
    build_record,
    encode_record,
    label_of,
    read_record,
)
from zssr_gan.inference.request import KeptDegradation, Request
from zssr_gan.progress import Progress
from zssr_gan.provenance import MARK, provenance_text, scale_text, strongest
from zssr_gan.settings.zeroshot import GeneratorSettings
from zssr_gan.signals import uninterrupted

# What came of one image of a run, in a line for a person or as JSON for a script.


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
        if self.record.model is not None and (was := self.record.model.input_was):
            others.append(seen_in_training(was))
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
            if made.model is not None:
                facts["model_sha256"] = made.model.sha256
        return facts | {"seconds": round(self.seconds, 3)}


def _named_targets(job: Job) -> dict[str, Path | None]:
    return {"output": job.result, "record": job.record, "evidence": job.evidence}


def seen_in_training(purposes: tuple[str, ...]) -> str:
    """That a generator knows an image from its training, and for what it was used there (`ModelFacts.input_was`)."""
    what = "validated with" if purposes == ("held_out",) else "trained on"
    return f"the generator was {what} this very image ({', '.join(purposes)})"


def choice_text(record: Record) -> str:
    """In a few words: how much of the pixels is the network's and how much back-projection's, and why."""
    choice: Any = record.enhancement["choice"]
    share = choice["share"]
    network = "network" if record.model is None else "generator"
    made_by = {0.0: "back-projection", 1.0: network}.get(share, f"{share:.0%} network, else back-projection")
    if choice["network_db"] is None:
        return f"{made_by} ({choice['why']})"
    gain = choice["network_db"] - choice["back_projection_db"]
    where = "on held-out parts" if choice["held_out"] else "on its own shrunk copy"
    return f"{made_by} (network {gain:+.2f} dB {where})"


# Many items through one worker that takes several at once, with reading ahead of it and writing behind it.
#
# The work itself stays in the calling thread, one batch at a time; threads only read and write.


Item = TypeVar("Item")

Read = TypeVar("Read")

Made = TypeVar("Made")

Kept = TypeVar("Kept")

_Done = TypeVar("_Done")

_THREADS = 4


class Stream(Generic[Item, Read, Made, Kept]):
    """How items are read, worked on together and written.

    Args:
        read: in a thread.
        kind: what items must agree in to be worked on together.
        most: how many of that one's kind are worked on together at the most.
        work: on items of one kind, in the calling thread. Where it fails for several, each is tried alone.
        write: in a thread.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        kind: Callable[[Read], Hashable],
        most: Callable[[Read], int],
        work: Callable[[list[tuple[Item, Read]]], list[Made]],
        write: Callable[[Item, Read, Made], Kept],
    ) -> None:
        self.read, self.kind, self.most, self.work, self.write = read, kind, most, work, write

    def run(self, items: Sequence[Item]) -> Iterator[tuple[Item, Kept | Exception]]:
        """Yields each item in order with what was kept of it, or with its error.

        Interrupted, it writes what is made, yields that, and passes the interrupt on.
        """
        written: deque[tuple[Item, Future[Kept]]] = deque()
        with ThreadPoolExecutor(_THREADS) as readers, ThreadPoolExecutor(_THREADS) as writers:
            try:
                for batch in self._batches(items, readers):
                    # Whoever writes slower than the device works must not gather everything in memory.
                    while len(written) > len(batch):
                        item, future = written[0]
                        kept = _piece_outcome(future)
                        written.popleft()  # now: what an interrupt finds waiting must still be told
                        yield item, kept
                    for (item, read), made in zip(batch, self._made(batch), strict=True):
                        if isinstance(read, Exception):
                            written.append((item, _failed(read)))
                        elif isinstance(made, Exception):
                            written.append((item, _failed(made)))
                        else:
                            written.append((item, writers.submit(self.write, item, read, made)))
                while written:
                    item, future = written[0]
                    kept = _piece_outcome(future)
                    written.popleft()  # now: what an interrupt finds waiting must still be told
                    yield item, kept
            except KeyboardInterrupt:
                # What is made is written, begun or not: whether a thread was free must not decide what is lost.
                for item, future in written:
                    kept = _piece_outcome(future)
                    yield item, kept
                raise
            finally:
                for pool in (readers, writers):
                    pool.shutdown(wait=False, cancel_futures=True)

    def _batches(
        self, items: Sequence[Item], readers: ThreadPoolExecutor
    ) -> Iterator[list[tuple[Item, Read | Exception]]]:
        """Neighbours of one kind; what cannot be read is a batch by itself."""
        waiting, ahead = deque(items), 2
        reading: deque[tuple[Item, Future[Read]]] = deque()
        batch: list[tuple[Item, Read | Exception]] = []
        kind: Hashable = None
        while waiting or reading:
            while waiting and len(reading) < ahead:
                reading.append((waiting[0], readers.submit(self.read, waiting.popleft())))
            item, future = reading.popleft()
            read = _piece_outcome(future)
            own = object() if isinstance(read, Exception) else self.kind(read)
            most = 1 if isinstance(read, Exception) else self.most(read)
            if batch and (own != kind or len(batch) >= most):
                yield batch
                batch = []
            batch.append((item, read))
            kind, ahead = own, max(2, most)
        if batch:
            yield batch

    def _made(self, batch: list[tuple[Item, Read | Exception]]) -> list[Made | Exception]:
        good = [(item, read) for item, read in batch if not isinstance(read, Exception)]
        if len(good) < len(batch):
            return [read for _, read in batch if isinstance(read, Exception)]
        try:
            return [*self.work(good)]
        except Exception as error:  # one of them cannot be worked on, and must not cost the others their turn
            if len(good) == 1:
                return [error]
            return [made for one in good for made in self._made([one])]


def _failed(error: Exception) -> "Future[_Done]":
    future: Future[_Done] = Future()
    future.set_exception(error)
    return future


def _piece_outcome(future: "Future[_Done]") -> _Done | Exception:
    try:
        return future.result()
    except Exception as error:
        return error


VERSION = importlib.metadata.version("zssr-gan")

OnStart = Callable[[int, Job], None]

OnProgress = Callable[[Progress], None]

OnResult = Callable[[Job, Picture, Enhanced], None]

_REPORT_TO = "please report it with the output of `zssr-gan info`; -v shows where it happened"


def run_plan(
    plan: Plan,
    request: Request,
    *,
    on_start: OnStart | None = None,
    on_progress: OnProgress | None = None,
    on_result: OnResult | None = None,
) -> Iterator[Outcome]:
    """Do a plan's jobs in their order; yields what came of each as soon as it is known.

    Args:
        plan: as made by `plan_run`.
        request: what is asked of each image.
        on_start: gets the place among the jobs to do, from 0, and the job.
        on_progress: gets each step of the image in work.
        on_result: gets the input and the result while they are in memory, e.g. for a comparison sheet.
    """
    for job in plan.skipped:
        yield skip(job, request)
    if request.model is not None and takes_together(resolve_device(request.options.device)):
        yield from _run_together(plan, request, on_start, on_progress, on_result)
        return
    for index, job in enumerate(plan.todo):
        if on_start is not None:
            on_start(index, job)
        yield _outcome(job, request, on_progress, on_result)


def _run_together(
    plan: Plan,
    request: Request,
    on_start: OnStart | None,
    on_progress: OnProgress | None,
    on_result: OnResult | None,
) -> Iterator[Outcome]:
    """Images of one size go through a generator at once, while others are read and written.

    Their files have the same bytes as if each went alone, but for durations.
    """
    assert request.model is not None
    generator, settings = request.model.generator, request.settings
    assert isinstance(settings, GeneratorSettings)
    device = resolve_device(request.options.device)
    places = {job: place for place, job in enumerate(plan.todo)}

    def work(batch: list[tuple[Job, Opened]]) -> list[Enhanced]:
        if on_start is not None:
            on_start(places[batch[0][0]], batch[0][0])
        pictures = [opened.picture for _, opened in batch]
        with _named(batch[0][0]):
            return enhance_pictures(
                pictures, request.scale, settings, generator, on_progress=on_progress, **_how(request)
            )

    def write(job: Job, opened: Opened, enhanced: Enhanced) -> tuple[Opened, Enhanced, Record]:
        return opened, enhanced, _keep(job, request, opened, enhanced)

    stream = Stream(
        read=lambda job: open_input(job, request),
        kind=lambda opened: opened.picture.pixels.shape,
        most=lambda opened: images_together(device, (opened.picture.pixels.shape[-2], opened.picture.pixels.shape[-1])),
        work=work,
        write=write,
    )
    for job, kept in stream.run(plan.todo):
        if isinstance(kept, Exception):
            let_go(kept)
            yield Outcome(job, "failed", what_failed(job, kept), error=kept)
            continue
        opened, enhanced, record = kept
        if on_result is not None:
            on_result(job, opened.picture, enhanced)
        yield Outcome(job, "done", choice_text(record), record.times.seconds, record)


def _outcome(
    job: Job,
    request: Request,
    on_progress: OnProgress | None,
    on_result: OnResult | None,
) -> Outcome:
    """Do one job. What it held in memory ends here, before the next image needs the room."""
    started = time.perf_counter()
    try:
        picture, enhanced, record = do_job(job, request, on_progress)
        if on_result is not None:
            on_result(job, picture, enhanced)
    except Exception as error:
        let_go(error)
        return Outcome(job, "failed", what_failed(job, error), time.perf_counter() - started, error=error)
    return Outcome(job, "done", choice_text(record), time.perf_counter() - started, record)


def what_failed(job: Job, error: Exception) -> str:
    """A failure in a sentence, with the file's name; a mistake of ours too."""
    if isinstance(error, ZssrGanError):
        return str(error)
    if is_out_of_memory(error):
        return f"{job.source}: not enough memory: close other programs, or try a smaller --tile"
    # A mistake of ours in one image must not cost the user the other images.
    return f"{job.source}: zssr-gan made a mistake ({type(error).__name__}: {error}); {_REPORT_TO}"


def let_go(error: BaseException) -> None:
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
        settings = request.settings_for(made.input.width * made.input.height)
        changes = {
            "another input": made.input.sha256 != sha256_file(job.source),
            "other settings": made.settings_sha256 != canonical_sha256(settings.model_dump(mode="json")),
            "another scale": tuple(made.arguments.scale) != request.scale,
            "another seed": made.arguments.seed != request.seed,
            "another shared start": request.shared is not None
            and (made.case is None or made.case.sha256 != request.shared.start.sha256),
            "another model": (made.model and made.model.sha256) != (request.model and request.model.generator.sha256),
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


def do_job(job: Job, request: Request, on_progress: OnProgress | None = None) -> tuple[Picture, Enhanced, Record]:
    """Enhance one file and write what is wanted of it: all of the files, or, where anything fails, none.

    Files of an earlier run that would be replaced are left as they are until all of the new ones are on the disk.

    Raises:
        ImageError: the input cannot be read or worked on, or changed meanwhile.
        OutputError: a file cannot be written.
        DeviceError, NumericalError, SettingsError: see `enhance_picture`.
    """
    opened = open_input(job, request)
    enhanced = enhance_opened(job, request, opened.picture, on_progress)
    return opened.picture, enhanced, _keep(job, request, opened, enhanced)


@dataclass(frozen=True, slots=True)
class Opened:
    """An input in memory."""

    started: datetime
    clock: float
    """Seconds, of `time.perf_counter`, when it was begun."""
    data: bytes
    picture: Picture


def open_input(job: Job, request: Request) -> Opened:
    """Read and decode a job's input. ImageError where that cannot be done."""
    started, clock = datetime.now(UTC), time.perf_counter()
    data = _read(job.source, request.max_megapixels)
    picture = decode_picture(data, str(job.source), max_megapixels=request.max_megapixels)
    return Opened(started, clock, data, picture)


def enhance_opened(job: Job, request: Request, picture: Picture, on_progress: OnProgress | None) -> Enhanced:
    """A job's result, not written yet; errors are those of `enhance_picture`, with the file's name."""
    with _named(job):
        return enhance_picture(
            picture,
            request.scale,
            request.settings,
            shared=None if request.shared is None else request.shared.start,
            generator=None if request.model is None else request.model.generator,
            on_progress=on_progress,
            **_how(request),
        )


def _how(request: Request) -> dict[str, Any]:
    """What both ways ask alike."""
    return {
        "seed": request.seed,
        "kernel": None if request.kernel is None else request.kernel.values,
        "degradation": None if request.degradation is None else request.degradation.degradation,
        "options": request.options,
    }


@contextmanager
def _named(job: Job) -> Iterator[None]:
    """The work knows pixels, not files: the name is put before its sentence."""
    try:
        yield
    except ZssrGanError as error:
        raise type(error)(f"{job.source}: {error}") from error


def _keep(job: Job, request: Request, opened: Opened, enhanced: Enhanced) -> Record:
    """Write what is wanted of a result: all of the files, or, where anything fails, none."""
    picture, data = opened.picture, opened.data
    folder, sha256 = job.result.parent, sha256_bytes(data)
    case = None if request.shared is None else request.shared.facts(folder)
    degradation = None if request.degradation is None else request.degradation.facts(folder, case)
    model = None if request.model is None else request.model.facts(folder, sha256)
    label = strongest(enhanced.report["label"], label_of(sha256, case, degradation, model))
    enhanced = replace(enhanced, report={**enhanced.report, "label": label})
    text = result_text(
        enhanced.report, version=VERSION, input_sha256=sha256, seed=request.seed, scale=request.scale, model=model
    )
    result = encode_picture(enhanced.picture, job.result.suffix, text)
    evidence = None if job.evidence is None else evidence_png(enhanced, text)

    record = build_record(
        version=VERSION,
        arguments=request.arguments,
        source=input_facts(job, picture, data),
        output=output_facts(job.result.name, enhanced.picture, result),
        evidence=None if evidence is None or job.evidence is None else written_file(job.evidence.name, evidence),
        kernel=None if request.kernel is None else request.kernel.facts,
        case=case,
        model=model,
        degradation=degradation,
        report=enhanced.report,
        times=Times(
            started_utc=opened.started.isoformat(timespec="seconds"),
            finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - opened.clock, 3),
        ),
        option_files=request.option_files(job.source.parent),
    )
    # The record last, since it vouches for the others: where it stands, they are whole.
    files = ((job.evidence, evidence), (job.result, result), (job.record, encode_record(record)))
    contents = {path: content for path, content in files if path is not None and content is not None}
    with uninterrupted():
        write_together(contents, replaceable=contents if request.overwrite else job.replaced)
    return record


def _read(path: Path, max_megapixels: float) -> bytes:
    try:
        # 8 bytes hold the largest pixel; a file far beyond that would fill the memory before its header is seen.
        if path.stat().st_size > 64e6 + 2 * 8e6 * max_megapixels:
            raise ImageError(f"{path}: {path.stat().st_size / 1e6:.0f} MB is more than --max-megapixels can be")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error


def input_facts(job: Job, picture: Picture, data: bytes) -> InputFile:
    """What a record says of the input. ImageError where its file was changed meanwhile."""
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
    report: Mapping[str, Any],
    *,
    version: str,
    input_sha256: str,
    seed: int,
    scale: Scale,
    model: ModelFacts | None = None,
) -> dict[str, str]:
    """The text fields inside a result: a function of its record, so that a rerun can write the same bytes."""
    facts = {
        "input-sha256": input_sha256,
        "settings-sha256": canonical_sha256(report["settings"]),
        "scale": scale_text(scale),
        "seed": str(seed),
        **({} if model is None else {"model-sha256": model.sha256}),
    }
    return provenance_text(kind="result", version=version, label=report["label"], facts=facts)


def evidence_png(enhanced: Enhanced, text: Mapping[str, str]) -> bytes:
    """The evidence map's file, with the result's text fields."""
    views = enhanced.report["evidence"]["views"]
    sheet = evidence_sheet(enhanced.disagreement, enhanced.residual, views=views)
    picture = Picture(pixels=sheet, alpha=None, bits=8, metadata=Metadata())
    return encode_picture(picture, "png", {**text, MARK: "evidence map"})
