"""How far a stage is: a live bar with the time left in a terminal, plain lines every few seconds elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from zssr_gan.display import SECONDS_BETWEEN_LINES, duration, printable


class Bar:
    """Progress of one stage, on standard error; a context manager, so that the terminal is put right in any case."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._what, self._started, self._last_line = "", 0.0, 0.0
        self._first = 0
        self._task: TaskID | None = None
        self._progress: Progress | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self.console, transient=True, redirect_stdout=False)

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

    def _draw(self, progress: Progress, what: str, done: int, total: int | None, detail: str) -> None:
        if self._task is None or progress.tasks[-1].description != what or progress.tasks[-1].total != total:
            if self._task is not None:
                progress.remove_task(self._task)
            self._task = progress.add_task(what, total=total, detail=detail)
        progress.update(self._task, completed=done, detail=detail)
