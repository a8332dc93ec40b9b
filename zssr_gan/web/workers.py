"""The processes that run jobs: one a device, one of quick jobs. They start with the server, again when they die."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from zssr_gan.web.queue import QUICK

_POLL_S = 0.5
_AGAIN_S = 5.0  # after the last start, so that one that cannot start is not started all the time
_END_S = 30.0


class Workers:
    """All workers of a server.

    Args:
        cases: the folder of the cases.
        devices: "cpu", "cuda:0", ...; none: jobs wait.
    """

    def __init__(self, cases: Path, devices: Sequence[str]) -> None:
        self._cases, self.devices = cases, devices
        self._processes: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self._ending = False

    async def watch(self) -> None:
        """Start workers that do not run, for as long as this runs; in the main thread, with which they end."""
        while not self._ending:
            for device in (*self.devices, *[QUICK][: len(self.devices)]):
                process, started = self._processes.get(device, (None, 0.0))
                if process is None or (process.poll() is not None and time.monotonic() - started > _AGAIN_S):
                    self._processes[device] = self._start(device), time.monotonic()
            await asyncio.sleep(_POLL_S)

    def end(self) -> None:
        """End the workers: a job in work goes back into the queue."""
        self._ending = True
        for process, _ in self._processes.values():
            process.terminate()
        for process, _ in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
            process.kill()
            process.wait()

    def _start(self, device: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "zssr_gan", "web-worker", str(self._cases), device, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )


def found_devices() -> list[str]:
    """A device for each NVIDIA GPU of this machine, else the CPU; without torch, which takes seconds to import."""
    numbers = sorted(int(path.name[6:]) for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdecimal())
    return [f"cuda:{place}" for place in range(len(numbers))] or ["cpu"]
