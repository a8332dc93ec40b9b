"""What ends a command: an error of ours as one line and an exit code, Ctrl-C and SIGTERM with codes of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from zssr_gan.errors import ZssrGanError, is_out_of_memory
from zssr_gan.signals import exit_code

if TYPE_CHECKING:
    from zssr_gan.progress import Bar


@contextmanager
def running(
    stopped: str = "Stopped: nothing is written.",
    *,
    failed: type[ZssrGanError] | tuple[type[ZssrGanError], ...] = (),
    quiet: bool = False,
    verbose: bool = False,
) -> Iterator["Bar"]:
    """The bar of a command; errors end it with one line on standard error.

    Exit codes: 1 for errors of the kinds in `failed` and where memory is short, 2 for others of ours and for paths that
    the system refuses, 130 after Ctrl-C, 143 after SIGTERM.

    Args:
        stopped: the line after Ctrl-C or SIGTERM.
        failed: errors that are no mistake in what was asked for.
        quiet, verbose: see `Bar`.
    """
    from zssr_gan.progress import Bar

    with Bar(quiet=quiet, verbose=verbose) as bar:
        try:
            yield bar
        except ZssrGanError as error:
            bar.note(f"error: {error}", "red")
            raise typer.Exit(1 if isinstance(error, failed) else 2) from error
        except OSError as error:  # too long a name, a forbidden folder
            if error.filename is None:
                raise
            bar.note(f"error: {error.filename}: {error.strerror}", "red")
            raise typer.Exit(2) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            bar.note("error: this needs more memory than the machine gives", "red")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            bar.note(stopped, "red")
            raise typer.Exit(exit_code(stop)) from stop
