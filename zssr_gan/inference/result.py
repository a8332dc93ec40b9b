"""What came of one image of a run, in a line for a person or as JSON for a script."""

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from zssr_gan.errors import ZssrGanError, is_out_of_memory
from zssr_gan.inference.outputs import ImageTask
from zssr_gan.inference.record import Record

_REPORT_TO = "please report it with the output of `zssr-gan info`; -v shows where it happened"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one task."""

    task: ImageTask
    status: Literal["done", "skipped", "failed"]
    message: str
    seconds: float = 0.0
    record: Record | None = None
    error: Exception | None = None

    @property
    def notices(self) -> list[str]:
        """What a user should know of this image: what reading changed, and networks that died and were trained anew."""
        return [] if self.record is None else notices_of(self.record)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the result may be wrong."""
        return () if self.record is None else self.record.enhancement.warnings

    def line(self) -> str:
        """One line for a person."""
        if self.record is None:
            return f"{self.task.result}: {self.message}"
        return f"{self.task.result}: {self.message}, {self.record.label}, {self.seconds:.1f} s"

    def as_json(self) -> dict[str, JsonValue]:
        """One flat object for scripts."""
        task, made = self.task, self.record
        facts: dict[str, JsonValue] = {"input": str(task.source), "status": self.status, "message": self.message}
        if self.status != "failed":
            targets = {"output": task.result, "record": task.record, "evidence": task.evidence}
            facts |= {name: None if path is None else str(path) for name, path in targets.items()}
        if made is not None:
            model = made.request.files.get("model")
            facts |= {
                "label": made.label,
                "width": made.output.width,
                "height": made.output.height,
                "scale": list(made.request.scale),
                "choice": made.enhancement.model_dump(mode="json")["choice"],
                "residual_db": made.enhancement.residual_db,
                "notices": list(self.notices),
                "warnings": list(self.warnings),
                "sha256": made.output.sha256,
                "degradation_sha256": made.request.degradation.sha256,
                **({} if model is None else {"model_sha256": model.sha256}),
            }
        return facts | {"seconds": round(self.seconds, 3)}


def notices_of(record: Record) -> list[str]:
    """What a user should know of a result, a sentence each."""
    request, image = record.request, record.input.sha256
    steps: Any = record.enhancement.steps
    restarts = sum(sum(step.get("restarts", ())) for step in steps)
    notices = [*record.enhancement.notices]
    if request.case is not None and image not in {one.sha256 for one in request.case}:
        notices.append("it is not among the images that the shared model was learnt on")
    if request.degradation.images and image not in {one.sha256 for one in request.degradation.images}:
        notices.append("it is not among the images that the degradation was estimated from")
    if request.model is not None and (was := request.model.input_was):
        notices.append(seen_in_training(was))
    if restarts:
        notices.append(f"training died and was started anew {restarts} time(s)")
    return notices


def seen_in_training(purposes: tuple[str, ...]) -> str:
    """That a generator knows an image from its training, and for what it was used there (`ModelFacts.input_was`)."""
    what = "validated with" if purposes == ("held_out",) else "trained on"
    return f"the generator was {what} this very image ({', '.join(purposes)})"


def choice_text(record: Record) -> str:
    """In a few words: how much of the pixels is the network's and how much back-projection's, and why."""
    choice = record.enhancement.choice
    network = "network" if record.request.model is None else "generator"
    made_by = {0.0: "back-projection", 1.0: network}.get(
        choice.share, f"{choice.share:.0%} network, else back-projection"
    )
    if choice.network_db is None or choice.back_projection_db is None:
        return f"{made_by} ({choice.why})"
    gain = choice.network_db - choice.back_projection_db
    where = "held-out parts of the shrunk input" if choice.held_out else "the shrunk input"
    return f"{made_by} (in a trial on {where} {gain:+.2f} dB over back-projection; not this result's quality)"


def failed_result(task: ImageTask, error: Exception, seconds: float) -> Result:
    """The result of a task that failed; the error no longer holds the image."""
    message = error_message(task.source, error)
    clear_traceback(error)
    return Result(task, "failed", message, seconds, error=error)


def error_message(source: Path, error: Exception) -> str:
    """A failure in a sentence, with the file's name; a mistake of ours too."""
    if isinstance(error, ZssrGanError):
        return str(error)
    if is_out_of_memory(error):
        return f"{source}: not enough memory: close other programs, or try a smaller --tile"
    # A mistake of ours in one image must not cost the user the other images.
    return f"{source}: zssr-gan made a mistake ({type(error).__name__}: {error}); {_REPORT_TO}"


def clear_traceback(error: BaseException) -> None:
    """Drop the variables that an error's traceback holds: its lines are still to be shown, the image is not."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
