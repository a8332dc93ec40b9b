"""A command in a child process of a warm worker: forked, since to import torch takes seconds.

The child ends when its parent does, also by SIGKILL (Linux's PR_SET_PDEATHSIG), and its output comes by pipes.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

Main = Callable[[Sequence[str]], int]
"""The command: its arguments to its exit code."""

_PR_SET_PDEATHSIG = 1
_LONGEST_LINE = 1 << 16
_SECONDS_TO_STOP = 20.0


class Child:
    """`main(argv)` in a process of its own.

    Args:
        main: the command.
        argv: its arguments.
        folder: that it works in.
        environment: added to this process's.
    """

    def __init__(self, main: Main, argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        pipes = os.pipe(), os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _run(main, argv, folder, environment, parent, [write for _, write in pipes])
        self._lines: dict[int, bytearray] = {}
        self._selector = selectors.DefaultSelector()
        for (read, write), name in zip(pipes, ("stdout", "stderr"), strict=True):
            os.close(write)
            os.set_blocking(read, False)
            self._lines[read] = bytearray()
            self._selector.register(read, selectors.EVENT_READ, name)
        self._stopped: float | None = None

    def read(self, seconds: float) -> list[tuple[Literal["stdout", "stderr"], str]]:
        """The lines that it has written, after at most so many seconds."""
        found = []
        for key, _ in self._selector.select(seconds):
            read = key.fd
            data = os.read(read, 1 << 16)
            pending = self._lines[read]
            pending += data
            *whole, rest = pending.split(b"\n")
            if not data or len(rest) > _LONGEST_LINE:
                whole, rest = [*whole, rest] if rest else whole, bytearray()
            self._lines[read] = bytearray(rest)
            found += [(key.data, line.decode("utf-8", "replace")) for line in whole]
            if not data:
                self._selector.unregister(read)
                os.close(read)
        return found

    @property
    def ended(self) -> bool:
        """Whether it has closed its output."""
        return not self._selector.get_map()

    def stop(self) -> None:
        """Ask it to end (SIGTERM); make it end (SIGKILL) where it has not done so in some seconds."""
        if self._stopped is None:
            self._stopped = time.monotonic()
            os.kill(self.pid, signal.SIGTERM)
        elif time.monotonic() > self._stopped + _SECONDS_TO_STOP:
            os.kill(self.pid, signal.SIGKILL)

    def code(self) -> int:
        """Its exit code, once it has ended; below 0: minus the number of the signal that ended it."""
        self._selector.close()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def end_with_parent(parent: int) -> None:
    """Let this process be killed when its parent ends, where the system can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended meanwhile
        os._exit(1)


def _run(
    main: Main,
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    parent: int,
    outputs: Sequence[int],
) -> None:
    """The child: never returns, so that nothing of the worker runs twice."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the server's terminal is the server's to pass on
        end_with_parent(parent)
        for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
            os.dup2(descriptor, number)
        for name, number in (("stdout", 1), ("stderr", 2)):  # the worker's own may lead to a file
            setattr(sys, name, open(number, "w", buffering=1, encoding="utf-8", closefd=False))  # noqa: SIM115
        os.environ.update(environment)
        os.chdir(folder)
        code = main(list(argv))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
