import json
import stat
from pathlib import Path

import pytest

from zssr_gan.errors import OutputError
from zssr_gan.web.case_folder import (
    CaseError,
    create_case,
    delete_case,
    edit_case,
    facts_in_log,
    list_cases,
    open_case,
    read_case,
)
from zssr_gan.web.log import append, read_log, verify_log


def upload(folder: Path, data: bytes) -> Path:
    path = folder / "upload"
    path.write_bytes(data)
    return path


def test_a_case_opens_on_another_machine(tmp_path: Path) -> None:
    case = create_case(tmp_path / "here", "Car park, 3 May", "ann", number="17/26", operator="Ann B.")
    one = case.add_original(upload(tmp_path, b"pixels"), "DCIM/IMG 1.PNG", "ann")
    assert (one.path, one.kind, one.bytes, one.id) == ("originals/IMG-1.png", "image", 6, "1")
    (tmp_path / "there").mkdir()
    case.folder.rename(tmp_path / "there" / case.id)
    (moved,) = list_cases(tmp_path / "there")
    assert moved.facts.title == "Car park, 3 May"
    assert moved.facts.number == "17/26"
    assert moved.originals() == [one]
    assert moved.path_of(one).read_bytes() == b"pixels"
    assert not stat.S_IMODE(moved.path_of(one).stat().st_mode) & 0o222
    assert [entry["act"] for entry in read_log(moved.folder)] == ["created", "received"]


def test_originals_get_names_of_their_own(tmp_path: Path) -> None:
    case = create_case(tmp_path, "a", "ann")
    names = ["x.png", "sub/X.PNG", "../../etc/x.png", "x.png", "日本.png", "日本語.png"]
    paths = [case.add_original(upload(tmp_path, f"{n}".encode()), name, "ann").path for n, name in enumerate(names)]
    assert len({path.lower() for path in paths}) == len(names)
    assert all(path.startswith("originals/") and path.count("/") == 1 for path in paths)
    assert [one.name for one in case.originals()] == names
    again = case.add_original(upload(tmp_path, b"3"), "x.png", "ann")
    assert again.path == paths[3]
    assert len(case.originals()) == len(names)


def test_a_file_whose_log_line_a_kill_prevented_is_received_once(tmp_path: Path) -> None:
    case = create_case(tmp_path, "a", "ann")
    (case.folder / "originals" / "x.png").write_bytes(b"whole")
    one = case.add_original(upload(tmp_path, b"whole"), "x.png", "ann")
    other = case.add_original(upload(tmp_path, b"other"), "x.png", "ann")
    assert (one.path, other.path) == ("originals/x.png", "originals/x-2.png")
    assert sorted(path.name for path in (case.folder / "originals").iterdir()) == ["x-2.png", "x.png"]


def test_a_stranger_s_log_leads_nowhere_else(tmp_path: Path) -> None:
    case = create_case(tmp_path, "a", "ann")
    facts = {"id": "1", "name": "x", "kind": "image", "bytes": 1, "sha256": "0" * 64}
    for path in ("/etc/passwd", "originals/../../x", "../x"):
        append(case.folder, "eve", "received", path=path, **facts)
    append(case.folder, "eve", "received", path=7)
    assert case.originals() == []


def test_what_is_no_case_is_one_sentence(tmp_path: Path) -> None:
    case = create_case(tmp_path, "a", "ann")
    for name in ("b", "../a", ".", "a/../a"):
        with pytest.raises(CaseError, match="there is no case"):
            open_case(tmp_path, name)
    with pytest.raises(CaseError, match="needs a title"):
        create_case(tmp_path, " - ", "ann")
    content = json.loads((case.folder / "case.json").read_bytes())
    (case.folder / "case.json").write_text(json.dumps({**content, "version": 2, "new": 1}))
    with pytest.raises(CaseError, match=r"version 2; this program reads 1: upgrade it"):
        read_case(case.folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another"):
        create_case(tmp_path / "file", "a", "ann")


def test_deleting_is_logged_and_leaves_nothing(tmp_path: Path) -> None:
    case = create_case(tmp_path, "a", "ann")
    case.add_original(upload(tmp_path, b"1"), "x.png", "ann")
    delete_case(case, "bob")
    assert not case.folder.exists()
    assert list_cases(tmp_path) == []
    server = tmp_path / ".zssr-gan-web"
    (entry,) = read_log(server)
    assert (entry["user"], entry["act"], entry["facts"]["id"], entry["facts"]["log_entries"]) == (
        "bob",
        "deleted",
        "a",
        2,
    )
    assert verify_log(server).ok
    assert not list(server.glob("deleted-*"))


def test_cases_of_one_title_lie_apart(tmp_path: Path) -> None:
    assert [create_case(tmp_path, title, "ann").id for title in ("A 1", "A\x1b 1\u202e", "日本", "v1.2/x")] == [
        "a-1", "a-1-2", "case", "v1-2-x",
    ]  # fmt: skip


def test_other_accounts_of_the_machine_cannot_look_into_a_case(tmp_path: Path) -> None:
    assert create_case(tmp_path, "A", "ann").folder.stat().st_mode & 0o077 == 0


def test_a_case_is_edited_and_the_log_has_what_was_before(tmp_path: Path) -> None:
    case = create_case(tmp_path, "Car", "ann", number="1")
    edited = edit_case(case, "bob", " Car \x1b \n park\u202e ", "2", "Ann B.")
    assert (edited.id, edited.facts.title, edited.facts.owner) == ("car", "Car park", "ann")
    assert read_case(case.folder) == edited
    assert read_log(case.folder)[-1]["facts"] == {
        **{"title": "Car park", "number": "2", "operator": "Ann B."},
        "before": {"title": "Car", "number": "1", "operator": ""},
    }
    assert facts_in_log(read_log(case.folder)) == edited.facts.model_dump(mode="json")
    edit_case(edited, "bob", "Car park", "2", "Ann B.")
    assert len(read_log(case.folder)) == 2
    with pytest.raises(CaseError, match="a letter or a digit"):
        edit_case(case, "bob", "--", "", "")


def test_a_case_that_cannot_be_written_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OutputError("no room")

    monkeypatch.setattr("zssr_gan.web.case_folder.atomic_write", refuse)
    with pytest.raises(OutputError, match="no room"):
        create_case(tmp_path, "a", "ann")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["originals", "results", "tracks", "report", "case.json", "log.jsonl", ".case.lock", ".log.lock"]
)
def test_a_case_with_a_link_in_place_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    case = create_case(tmp_path / "cases", "A", "ann")
    case.add_original(upload(tmp_path, b"x"), "a.png", "ann")  # which makes the locks
    (case.folder / name).rename(tmp_path / name)
    (case.folder / name).symlink_to(tmp_path / name)
    with pytest.raises(CaseError, match=f"{name}: is a link"):
        read_case(case.folder)


def test_a_folder_that_is_a_link_holds_no_original(tmp_path: Path) -> None:
    case = create_case(tmp_path / "cases", "A", "ann")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "p.png").write_bytes(b"x")
    (case.folder / "originals" / "d").symlink_to(tmp_path / "elsewhere")
    facts = {"id": "1", "name": "p.png", "kind": "image", "bytes": 1, "sha256": "0" * 64}
    for path in ("originals/d/p.png", "originals/\0.png"):
        append(case.folder, "ann", "received", **facts, path=path)
    assert case.originals() == []


def test_a_link_is_no_original(tmp_path: Path) -> None:
    case = create_case(tmp_path / "cases", "a", "ann")
    one = case.add_original(upload(tmp_path, b"pixels"), "a.png", "ann")
    path = case.path_of(one)
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    assert case.originals() == []
