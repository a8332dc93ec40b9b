"""What a person sees while images are enhanced: a live bar in a terminal, plain lines every few seconds elsewhere.

All of it goes to standard error; standard output is for results. Everything is readable at 40 columns.
"""

import math
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    stage: str
    """`training` or `ensemble`, with the step where there are several."""
    iteration: int
    """Of `total`, within the stage."""
    total: int
    loss: float
    """Mean absolute error, [0, 1] units; NaN outside training."""
    lr: float
    """Learning rate; NaN outside training."""


SECONDS_BETWEEN_LINES = 5.0

_LEFT_WIDTH = len(" 99:59:59 left")


def printable(text: str) -> str:
    """The text without what would confuse a terminal: control characters, and bytes that are not UTF-8."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return plain.encode("utf-8", "backslashreplace").decode()


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display:
    """Progress of a run over `total` images, and the lines that are said meanwhile.

    Used as a context manager, so that the terminal is put right also when the run is interrupted.
    """

    def __init__(self, total: int = 1, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._total = total
        self._quiet = quiet
        self._place = 0
        self._name = ""
        self._progress: Progress | None = None
        self._stage = (0, 0.0)
        self._run_started = time.monotonic()
        self._last_line = 0.0
        self._live: Live | None = None
        if not quiet and self.console.is_terminal and not self.console.is_dumb_terminal:
            # Standard output is left alone: it may be a pipe, and Rich would send it to the terminal.
            self._live = Live(
                get_renderable=self._render,
                console=self.console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, place: int, name: str) -> None:
        """An image is begun; `place` counts from 0."""
        self._place, self._name, self._progress = place, printable(name), None
        self._last_line = time.monotonic()
        if self._live is None and not self._quiet and self._total > 1:
            self.note(f"{place + 1}/{self._total} {self._name}")

    def update(self, progress: Progress) -> None:
        """A step of the current image. Cheap, since it may come with every iteration."""
        now = time.monotonic()
        last = self._progress
        # A start that died begins again in the same stage.
        if last is None or progress.stage != last.stage or progress.iteration < last.iteration:
            self._stage = (progress.iteration, now)
        self._progress = progress
        if self._live is None and not self._quiet and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = [f"{left} left"] if (left := self._left(progress)) else []
            place = f"{progress.stage} {progress.iteration}/{progress.total}"
            self.note(f"  {', '.join([place, *self._facts(progress), *left])}")

    def result(self, text: str) -> None:
        """A line for standard output; above the live bar where both share a terminal."""
        if self._live is not None and sys.stdout.isatty():
            self.note(text)
        else:
            typer.echo(text)

    def note(self, text: str, style: str = "") -> None:
        """A line for standard error."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def _left(self, progress: Progress) -> str | None:
        """Time that the current stage still takes, once there is enough to judge by."""
        first, started = self._stage
        done, elapsed = progress.iteration - first, time.monotonic() - started
        if done <= 0 or elapsed < 1 or progress.total <= 0:
            return None
        return duration(elapsed / done * max(0, progress.total - progress.iteration))

    def _facts(self, progress: Progress) -> list[str]:
        if math.isfinite(progress.loss) and progress.lr > 0:  # stages that do not train have neither
            return [f"loss {progress.loss:.4f}", f"lr {progress.lr:.0e}"]
        return []

    def _render(self) -> Group:
        lines: list[RenderableType] = []
        if self._total > 1:
            ready = ""
            if self._place:
                each = (time.monotonic() - self._run_started) / self._place
                ready = f", ~{duration(each * (self._total - self._place))} left"
            lines.append(_line(f"image {self._place + 1} of {self._total}{ready}", "bold"))
        lines.append(_line(self._name))
        if (progress := self._progress) is not None:
            lines.append(_line(progress.stage))
            lines.append(_line("  ".join([f"{progress.iteration}/{progress.total}", *self._facts(progress)])))
            left = f" {left} left" if (left := self._left(progress)) else ""
            row = Table.grid()
            row.add_row(
                ProgressBar(progress.total, progress.iteration, width=min(60, self.console.width) - _LEFT_WIDTH), left
            )
            lines.append(row)
        return Group(*lines)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


# How far a stage is: a live bar with the time left in a terminal, plain lines every few seconds elsewhere.


class Bar:
    """Progress of one stage, on standard error; a context manager, so that the terminal is put right in any case."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._what, self._started, self._last_line = "", 0.0, 0.0
        self._first = 0
        self._task: TaskID | None = None
        self._progress: RichProgress | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
            )
            self._progress = RichProgress(*columns, console=self.console, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, what: str, done: int, total: int | None, detail: str = "") -> None:
        """`done` of `total` (None: not known yet) of `what`, with figures beside. Cheap, since it may come often.

        The time left goes by what was done since the first call: what an earlier run did took none of this one's time.
        """
        now = time.monotonic()
        if what != self._what or total is None:
            self._what, self._started, self._last_line, self._first = what, now, now, done
        if self._progress is not None:
            self._draw(self._progress, what, done, total, detail)
        elif total and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = duration((now - self._started) / max(1, done - self._first) * (total - done))
            self.note(f"{what}: {done:,}/{total:,}, {detail + ', ' if detail else ''}{left} left")

    def note(self, text: str, style: str = "") -> None:
        """A line on standard error, above the bar."""
        self.console.print(Text(printable(text), style=style), soft_wrap=True)

    def _draw(self, progress: RichProgress, what: str, done: int, total: int | None, detail: str) -> None:
        if self._task is None or progress.tasks[-1].description != what or progress.tasks[-1].total != total:
            if self._task is not None:
                progress.remove_task(self._task)
            self._task = progress.add_task(what, total=total, detail=detail)
        progress.update(self._task, completed=done, detail=detail)
