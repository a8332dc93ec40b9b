"""What came of one image of a run, in a line for a person or as JSON for a script."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from zssr_gan.naming import Job
from zssr_gan.record import Record


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
