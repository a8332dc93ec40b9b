"""Tests of the CUDA path: on a GPU, or with the stand-in (`pytest -m gpu -p tests.gpu.standin`), which CI runs."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.ops import graphs

UNORDERED = re.compile(
    ".*(upsample|pad).*_backward|scatter_add_?|scatter_reduce_?|index_add_?|index_put_?|put_?|.*bincount"
)
"""Operators whose sums CUDA may take in any order."""

STANDIN = sys.modules.get("tests.gpu.standin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this folder `gpu`; skip what only one kind of device can show."""
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker("gpu")
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device: pytest -m gpu -p tests.gpu.standin"))


@pytest.fixture(autouse=True)
def _captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No capture has failed in an earlier test."""
    monkeypatch.setattr(graphs, "_failed", {})


@pytest.fixture
def cuda() -> Iterator[Machine]:
    """The device in fp32."""
    with machine(RunOptions("cuda", "fp32", threads=1)) as used:
        yield used


@contextmanager
def _waits_counted() -> Iterator[None]:
    """Fail where the host waits for the device inside."""
    if STANDIN is None:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    STANDIN.log.reset()
    yield
    waits = "; ".join(f"{reason} at {line} ({count})" for (reason, line), count in STANDIN.log.waits.items())
    assert not waits, f"the host waits for the device: {waits}"


@pytest.fixture
def no_wait() -> Callable[[], AbstractContextManager[None]]:
    """A context in which the host must not wait for the device."""
    return _waits_counted


@pytest.fixture
def launches() -> Callable[[Callable[[], object]], list[str]]:
    """The operators that some work launches on the device, in order; with the stand-in alone."""
    if STANDIN is None:
        pytest.skip("a GPU does not count launches: pytest -p tests.gpu.standin")
    log = STANDIN.log

    def of(work: Callable[[], object]) -> list[str]:
        log.reset()
        work()
        return list(log.launches)

    return of
