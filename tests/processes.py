"""Commands in processes of their own, for tests of signals, kills and several ranks.

They are forked from a server that has imported them: a start takes a hundredth of that of a new interpreter.
"""

import importlib
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    # torch.optim imports torch._dynamo with the first optimiser, which takes as long as a short training.
    ["pipelines.synth", "pipelines.train", "torch._dynamo", "zssr_gan.cli.enhance", "zssr_gan.inference.batch"]
)


class Running:
    """`module.main(words)` in another process of the working folder, which leads a group of processes."""

    def __init__(self, module: str, *words: str, environment: Mapping[str, str] | None = None) -> None:
        folder = Path(tempfile.mkdtemp(prefix="zssr-gan-test-"))
        self._outputs = folder / "stdout", folder / "stderr"
        self._process = _SERVER.Process(target=_main, args=(module, words, self._outputs, dict(environment or {})))
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def until(self, condition: Callable[[], object], seconds: float = 180) -> None:
        """Wait for something that the process does before it ends."""
        end = time.monotonic() + seconds
        while not condition():
            assert self._process.is_alive(), self.said()
            assert time.monotonic() < end
            time.sleep(0.005)

    def said(self) -> str:
        """What is on its standard error by now."""
        return self._outputs[1].read_text() if self._outputs[1].exists() else ""

    def finish(self, seconds: float = 180) -> tuple[int | None, str, str]:
        """Exit code (below 0: of a signal), standard output and standard error at its end."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(self.said())
        return self._process.exitcode, self._outputs[0].read_text(), self.said()


def ranks(module: str, count: int, *words: str) -> list[Running]:
    """As many processes with what torchrun tells those that it starts on one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    numbers = map(str, range(count))
    return [Running(module, *words, environment={**common, "RANK": n, "LOCAL_RANK": n}) for n in numbers]


def torchrun(module: str, count: int, *words: str, restarts: int = 0) -> Running:
    """torchrun itself, which starts new interpreters."""
    options = ("--standalone", "--nproc-per-node", str(count), "--max-restarts", str(restarts), "-m", module)
    return Running("torch.distributed.run", *options, *words, environment={"PYTHONPATH": str(ROOT)})


def _main(module: str, words: tuple[str, ...], outputs: tuple[Path, Path], environment: Mapping[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.exit(importlib.import_module(module).main(list(words)))
