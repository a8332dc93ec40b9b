import json
from pathlib import Path

import pytest

from zssr_gan.web.case_folder import CaseError, create_case, list_cases, open_case
from zssr_gan.web.opened import open_folder


def test_a_folder_opened_as_a_case_is_not_changed(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.jpg", "notes.txt", ".hidden.png"):
        (folder / name).write_bytes(name.encode())
    before = {path: path.stat() for path in folder.rglob("*")}
    case = open_folder(tmp_path / "cases", folder, "ann")
    assert [one.name for one in case.originals()] == ["a.png", "sub/b.jpg"]
    assert case.path_of(case.originals()[1]) == folder / "sub" / "b.jpg"
    assert {path: path.stat() for path in folder.rglob("*")} == before
    (folder / "c.png").write_bytes(b"new")
    assert len(open_folder(tmp_path / "cases", folder, "ann").originals()) == 3
    assert len(list_cases(tmp_path / "cases")) == 1
    for bad in (tmp_path / "none", tmp_path / "cases" / "faces" / "tracks"):
        with pytest.raises(CaseError, match=r"no such folder|no image and no video"):
            open_folder(tmp_path / "others", bad, "ann")


def test_an_opened_folder_gives_no_links(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "elsewhere.png").write_bytes(b"x")
    (tmp_path / "faces" / "a.png").write_bytes(b"a")
    (tmp_path / "faces" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    case = open_folder(tmp_path / "cases", tmp_path / "faces", "ann")
    assert [one.name for one in case.originals()] == ["a.png"]


@pytest.mark.parametrize("place", ["cases", "cases/b", ".", "link"])
def test_no_case_lists_what_lies_in_others(tmp_path: Path, place: str) -> None:
    case, other = (create_case(tmp_path / "cases", title, "ann") for title in ("a", "b"))
    (tmp_path / "link").symlink_to(tmp_path / "cases")
    content = json.loads((case.folder / "case.json").read_bytes())
    (case.folder / "case.json").write_text(json.dumps({**content, "opened_from": str(tmp_path / place)}))
    with pytest.raises(CaseError, match="where other cases lie; move the case away"):
        open_case(tmp_path / "cases", case.id)
    assert list_cases(tmp_path / "cases") == [other]
    with pytest.raises(CaseError, match="the cases of this server lie there; open them from the list"):
        open_folder(tmp_path / "cases", tmp_path / place, "ann")
