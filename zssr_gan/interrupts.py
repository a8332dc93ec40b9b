"""Ctrl-C and SIGTERM: both end the work in the same orderly way, and neither falls between two files of one result."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM; a kind of Ctrl-C, so that whatever cleans up after the one does so after the other."""


def exit_code(stop: KeyboardInterrupt) -> int:
    """128 + the signal's number, as shells have it: 130 or 143."""
    return 143 if isinstance(stop, Terminated) else 130


def turn_sigterm_into_an_exception() -> None:
    """Let SIGTERM raise `Terminated`. Only a process's main thread can; elsewhere this does nothing."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done: for a few writes that belong together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        pending.append(number)

    # An ignored signal (nohup, a background job) stays ignored; None is a handler that Python did not set.
    kept = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    for number in kept:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])
