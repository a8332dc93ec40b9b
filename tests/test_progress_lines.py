"""The lines of a stage: the time left goes by this run's own pace."""

import pytest

from zssr_gan import progress
from zssr_gan.progress import Bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_after_a_resume(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        bar.update("training", 9_000, 10_000)
        clock[0] += 60
        bar.update("training", 9_100, 10_000)
    # 100 steps took a minute, so the 900 that are left take nine, and not a fraction of a second.
    assert "training: 9,100/10,000, 9:00 left" in capsys.readouterr().err
