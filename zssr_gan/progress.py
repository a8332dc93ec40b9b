"""What a person sees of a run: a live bar in a terminal, plain lines every few seconds elsewhere.

All of it goes to standard error; standard output is for results. Everything is readable at 40 columns. With
`ZSSR_GAN_PROGRESS=json` in the environment programs read it: a JSON object a line, with "note" or with "stage".
"""

import io
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_JSON = 0.2

_LEFT_WIDTH = len(" 99:59:59 left")


def ignore(*_: object) -> None:
    """Do nothing: the callback of a caller who gives none."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the work on an image or a case stands."""

    stage: str
    """`learning from the picture` or `enlarging it`, with the step where there are several."""
    iteration: int
    """Of `total`, within the stage."""
    total: int
    loss: float
    """Mean absolute error, [0, 1] units; NaN outside training."""
    lr: float
    """Learning rate; NaN or 0 where it is not known."""


OnProgress = Callable[[Progress], None]

OnCount = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""


def escape_unencodable_output() -> None:
    """Make standard output and error write characters that their encoding lacks as `\\u65e5`, and not raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a program without a console has none
            stream.reconfigure(errors="backslashreplace")


def printable(text: str, encoding: str = "utf-8") -> str:
    """The text with escapes for control characters, bytes that are not UTF-8 and what the encoding lacks."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return plain.encode(encoding, "backslashreplace").decode(encoding)


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Bar:
    """Progress of one stage after another, over one or several images, and the lines between.

    A context manager, so that the terminal is restored also when the run is interrupted.

    Args:
        images: how many `start` will name; it may be set later.
        quiet: show no progress and no `info`; `note` and `result` still print.
        verbose: show the tracebacks of failures.
    """

    def __init__(self, images: int = 0, *, quiet: bool = False, verbose: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.images, self.quiet, self.verbose = images, quiet, verbose
        self._place, self._name = 0, ""
        self._stage, self._done, self._detail = "", 0, ""
        self._total: int | None = None
        self._first = 0  # where the stage began, so that what an earlier run did takes none of this one's time
        self._run_started = self._image_started = self._stage_started = self._last_line = time.monotonic()
        self._live: Live | None = None
        self._json = os.environ.get("ZSSR_GAN_PROGRESS") == "json"
        if not (quiet or self._json) and self.console.is_terminal and not self.console.is_dumb_terminal:
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
        """Begin an image; `place` counts from 0."""
        self._place, self._name, self._stage = place, printable(name, self.console.encoding), ""
        self._last_line = self._image_started = time.monotonic()
        if place == 0:  # what came before, as an estimate or a network of all images, comes once
            self._run_started = self._image_started
        if self._json:
            self._write_json(None)
        elif self._live is None and self.images > 1:
            self.info(f"{place + 1}/{self.images} {name}")

    def update(self, stage: str, done: int, total: int | None, detail: str = "", *, images: int = 0) -> None:
        """Show how far a stage is. Cheap, since it may come with every iteration.

        Args:
            stage: what is done; a new one, or one that begins again, counts its time anew.
            done, total: steps; a total of None is not known yet.
            detail: figures beside.
            images: of each step, for a speed in images a second.
        """
        now = time.monotonic()
        new = stage != self._stage or done < self._done or total is None
        if new:
            self._stage, self._first, self._stage_started = printable(stage), done, now
        self._done, self._total, self._detail = done, total, detail
        if images and now > self._stage_started:
            speed = images * (done - self._first) / (now - self._stage_started)
            self._detail = ", ".join(filter(None, [detail, f"{speed:.3g} images/s"]))
        since = now - self._last_line
        if self._json:
            if new or done == total or since >= _SECONDS_BETWEEN_JSON:
                self._write_json(total)
        elif self._live is None and not self.quiet and total and since >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            parts = [f"{self._stage}: {done:,}/{total:,}", self._detail, self._left()]
            self.note(", ".join(filter(None, parts)))

    def step(self, progress: Progress) -> None:
        """Show where the work on an image stands."""
        detail = f"loss {progress.loss:.4f}" if math.isfinite(progress.loss) else ""
        if detail and progress.lr > 0:
            detail += f", lr {progress.lr:.0e}"
        self.update(progress.stage, progress.iteration, progress.total, detail)

    def result(self, text: str) -> None:
        """Write a line to standard output; above the live bar where both share a terminal."""
        if self._live is not None and sys.stdout.isatty():
            self.note(text)
        else:
            typer.echo(printable(text, sys.stdout.encoding or "utf-8"))

    def note(self, text: str, style: str = "") -> None:
        """Write a line to standard error, above the bar."""
        if self._json:
            return self._write({"note": text, "style": style})
        return self.console.print(Text(printable(text, self.console.encoding), style=style), soft_wrap=True)

    def info(self, text: str, style: str = "") -> None:
        """Write a line to standard error, unless the run is quiet."""
        if not self.quiet:
            self.note(text, style)

    def failure(self, message: str, error: BaseException | None = None) -> None:
        """Write what failed to standard error."""
        self.note(f"failed: {message}", "red")
        if self.verbose and error is not None:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self.note(line)

    def _left(self) -> str:
        """Time that the stage still takes, once there is enough to judge by; else nothing."""
        seconds = self._stage_left()
        return "" if seconds is None else f"{duration(seconds)} left"

    def _stage_left(self) -> float | None:
        done, elapsed = self._done - self._first, time.monotonic() - self._stage_started
        if done <= 0 or elapsed < 1 or not self._total:
            return None
        return elapsed / done * max(0, self._total - self._done)

    def _run_left(self) -> float | None:
        """Seconds that this image and those after it take, by those before it."""
        if not self._place:
            return None
        each = (self._image_started - self._run_started) / self._place
        return max(0.0, each * (self.images - self._place) - (time.monotonic() - self._image_started))

    def _write_json(self, total: int | None) -> None:
        """Where the run stands, for a program."""
        self._last_line = time.monotonic()
        left = self._run_left() if self.images > 1 else self._stage_left()
        self._write(
            {
                "image": self._place + 1,
                "images": max(1, self.images),
                "name": self._name,
                "stage": self._stage,
                "done": self._done,
                "total": total,
                "detail": self._detail,
                "left_s": None if left is None else round(left, 1),
            }
        )

    def _write(self, facts: dict[str, object]) -> None:
        typer.echo(json.dumps(facts), err=True)

    def _render(self) -> Group:
        lines: list[RenderableType] = []
        if self.images > 1:
            ready = ""
            if (left := self._run_left()) is not None:
                ready = f", ~{duration(left)} left"
            lines.append(self._line(f"image {self._place + 1} of {self.images}{ready}", "bold"))
        lines += [self._line(text) for text in (self._name, self._stage) if text]
        if self._stage:
            total = "" if self._total is None else f"/{self._total:,}"
            lines.append(self._line("  ".join(filter(None, [f"{self._done:,}{total}", self._detail]))))
            row = Table.grid()
            width = min(60, self.console.width) - _LEFT_WIDTH
            row.add_row(ProgressBar(self._total, self._done, width=width), f" {self._left()}")
            lines.append(row)
        return Group(*lines)

    def _line(self, text: str, style: str = "") -> Text:
        fits = self.console.encoding.startswith("utf")  # else the one character of an ellipsis becomes six
        return Text(text, style=style, no_wrap=True, overflow="ellipsis" if fits else "crop")
