"""How the commands beside `enhance` talk: a display whose errors are one line each, and its bar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from zssr_gan.errors import ZssrGanError
from zssr_gan.signals import exit_code

if TYPE_CHECKING:
    from zssr_gan.progress import Display


@contextmanager
def talk(stopped: str, code_of: Callable[[ZssrGanError], int]) -> Iterator["Display"]:
    """A display, with every error of ours as one line and an exit code, and Ctrl-C as its own.

    Args:
        stopped: what is said after Ctrl-C.
        code_of: the exit code of an error.
    """
    from zssr_gan.progress import Display, printable

    with Display() as display:
        try:
            yield display
        except ZssrGanError as error:
            display.note(f"error: {printable(str(error))}", "red")
            raise typer.Exit(code_of(error)) from error
        except KeyboardInterrupt as stop:
            display.note(stopped, "red")
            raise typer.Exit(exit_code(stop)) from stop


def show_progress(display: "Display", stage: str, done: int, total: int) -> None:
    """How much of a stage is done, for the bar and its time left."""
    from zssr_gan.progress import Progress

    display.update(Progress(stage, done, total, float("nan"), 0.0))
