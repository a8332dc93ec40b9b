from pathlib import Path

import pytest

from zssr_gan.web import sessions
from zssr_gan.web.sessions import LIFE_S, Sessions


@pytest.mark.parametrize(("seconds", "is_in"), [(LIFE_S - 60, True), (LIFE_S + 60, False), (-3600, False)])
def test_a_session_ends_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, is_in: bool
) -> None:
    before = Sessions(tmp_path / "sessions.json", lambda _token: None)
    cookie, later = before.begin("ann"), sessions.time.time() + seconds
    monkeypatch.setattr(sessions.time, "time", lambda: later)
    restarted = Sessions(tmp_path / "sessions.json", lambda _token: None)
    assert [one.find(cookie) is not None for one in (before, restarted)] == [is_in] * 2
