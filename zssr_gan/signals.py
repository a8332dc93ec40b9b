"""Ctrl-C and SIGTERM: both end the work in the same orderly way, and neither falls between two files of one result."""

import atexit
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM; a kind of Ctrl-C, so that whatever cleans up after the one does so after the other."""


def exit_code(stop: KeyboardInterrupt) -> int:
    """128 + the signal's number, as shells have it: 130 or 143."""
    return 143 if isinstance(stop, Terminated) else 130


_SAME_STOP_S = 2.0


def turn_sigterm_into_an_exception() -> None:
    """Let SIGTERM raise `Terminated`, and have either signal stop the work once, however often it comes.

    A second Ctrl-C a moment later would fall into the clearing up after the first, and take the exit code with it. One
    that comes much later is heard: the first may have been lost in foreign code.
    Only a process's main thread can do this; elsewhere nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    stopped: list[float] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if stopped and now - stopped[-1] < _SAME_STOP_S:
            return
        if not stopped:
            atexit.register(ignore_further_signals)
        stopped.append(now)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    signal.signal(signal.SIGTERM, stop)
    # Ignored (nohup, a background job), it stays ignored.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)


def ignore_further_signals() -> None:
    """For a process that was stopped and only ends: nothing may change its exit code now."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted() -> Iterator[list[int]]:
    """Hold Ctrl-C and SIGTERM back until the block is done: for a few writes that belong together.

    Yields those that came meanwhile, for a longer block that looks at them where it may stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    pending: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        pending.append(number)

    # An ignored signal (nohup, a background job) stays ignored; None is a handler that Python did not set.
    handlers = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    for number in handlers:
        signal.signal(number, hold)
    try:
        yield pending
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])
