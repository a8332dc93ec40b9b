"""Ctrl-C and SIGTERM are held back while files that belong together are written, and not lost."""

import signal

import pytest

from zssr_gan import signals
from zssr_gan.signals import (
    Terminated,
    exit_code,
    ignore_further_signals,
    turn_sigterm_into_an_exception,
    uninterrupted,
)


@pytest.fixture(autouse=True)
def _handlers(_own_signal_handlers: None) -> None:
    turn_sigterm_into_an_exception()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals, code: int) -> None:
    reached = []

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(number)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt) as stopped:
        work()
    assert reached
    assert exit_code(stopped.value) == code


def test_a_block_without_a_signal_leaves_the_handlers() -> None:
    before = signal.getsignal(signal.SIGINT)
    with uninterrupted():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    turn_sigterm_into_an_exception()
    signal.raise_signal(signal.SIGINT)
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)


def test_sigterm_is_a_kind_of_ctrl_c() -> None:
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_does_not_disturb_the_clearing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    now[0] += 0.02
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    now[0] += 60  # the first was lost somewhere: it must not be the last that is heard
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_at_the_very_end_no_signal_counts() -> None:
    ignore_further_signals()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
