from pathlib import Path

import pytest

from zssr_gan.web.database import Database

NORMAL, FULL = 1, 2


@pytest.mark.parametrize(("durable", "level"), [(True, FULL), (False, NORMAL)])
def test_what_is_answered_waits_for_the_disk(tmp_path: Path, durable: bool, level: int) -> None:
    database = Database(tmp_path / "a.sqlite", "create table a (b)")
    with database.writing(durable=durable) as db:
        assert db.execute("pragma synchronous").fetchone() == (level,)
