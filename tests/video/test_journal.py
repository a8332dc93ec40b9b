"""The journal of a video: what is whole is read again, what is cut off or damaged is gone."""

from pathlib import Path

import pytest

from zssr_gan.video.journal import Journal


def filled(path: Path) -> Journal:
    journal = Journal(path)
    journal.append({"plan": 1})
    for n in range(3):
        journal.append({"row": {"index": str(n)}}, bytes([n]) * 100)
    return journal


def test_entries_come_back_and_more_are_added(tmp_path: Path) -> None:
    filled(tmp_path / "j").close()
    journal = Journal(tmp_path / "j")
    assert journal.frames == 3
    journal.append({"row": {"index": "3"}})
    assert [data for _, data in journal.entries()] == [b"", b"\0" * 100, b"\1" * 100, b"\2" * 100, b""]
    journal.clear()
    assert not list(journal.entries())
    journal.append({"row": {}}, b"x")
    assert [data for _, data in journal.entries()] == [b"x"]
    journal.clear()
    journal.close()
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("cut", [1, 50, 99, 100, 101, 150])
def test_a_cut_off_end_is_removed(tmp_path: Path, cut: int) -> None:
    filled(tmp_path / "j").close()
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-cut])
    journal = Journal(tmp_path / "j")
    assert journal.frames == 2
    journal.append({"row": {"index": "2"}}, b"\2" * 100)
    journal.close()
    assert (tmp_path / "j").read_bytes() == whole


def test_damage_ends_it(tmp_path: Path) -> None:
    filled(tmp_path / "j").close()
    data = bytearray((tmp_path / "j").read_bytes())
    data[data.index(b"\1" * 100) + 5] ^= 1
    (tmp_path / "j").write_bytes(data)
    journal = Journal(tmp_path / "j")
    journal.close()
    assert journal.frames == 1
