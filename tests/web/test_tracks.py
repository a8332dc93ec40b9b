import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from zssr_gan.errors import OutputError
from zssr_gan.files import atomic_write, locked
from zssr_gan.web import log
from zssr_gan.web.case_folder import LOCK, Case, CaseError, create_case
from zssr_gan.web.report import make_report
from zssr_gan.web.tracks import edit_track, name_track, tracks


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = create_case(tmp_path / "cases", "A", "ann")
    (tmp_path / "upload").write_bytes(b"clip")
    made.add_original(tmp_path / "upload", "clip.mkv", "ann")
    return made


def write_track(case: Case, **changes: Any) -> None:
    frames = [
        {"index": n, "corners": [[0, 0], [9, 0], [9, 9], [0, 9]], "error_px": 0.1, "status": "tracked"}
        for n in range(3)
    ]
    frames[2]["status"] = "looks otherwise"
    content = {"sha256": case.originals()[0].sha256, "region": [0, 0, 9, 9], "reference": 1, "ended": ["a", "b"]}
    (case.folder / "tracks" / "4_clip.json").write_text(json.dumps({**content, "frames": frames, **changes}))


def test_an_edited_track_is_a_new_file_that_is_logged(case: Case) -> None:
    write_track(case)
    shutil.copyfile(case.folder / "originals" / "clip.mkv", case.folder / "again")
    case.add_original(case.folder / "again", "again.png", "ann")  # the same bytes: what was made before is of the first
    (one,) = tracks(case)
    assert (one["id"], one["original"], one["tracked"], one["lost"]) == ("4_clip", "1", 2, 1)
    corners = [[1, 1], [9, 0], [9, 9.5], [0, 9]]
    edited = edit_track(case, "4_clip", [{"index": 0, "corners": corners}, {"index": 1, "status": "left out"}], "bob")
    again = edit_track(case, edited["id"], [{"index": 2, "status": "tracked"}], "bob")
    assert [found["id"] for found in tracks(case)] == ["4_clip", "4_clip-edited-1", "4_clip-edited-2"]
    content = json.loads(again["_paths"]["record"].read_text())
    assert content["frames"][0]["corners"] == corners
    assert content["frames"][0]["error_px"] is None  # it was of the place before
    assert [frame.get("edited") for frame in content["frames"]] == [True, None, None]
    assert (again["edited"], again["name"]) == ([0], "Track 1 of clip.mkv (edit 2)")
    assert content["frames"][1]["error_px"] == 0.1
    assert [frame["status"] for frame in content["frames"]] == ["tracked", "left out", "tracked"]
    assert json.loads((case.folder / "tracks" / "4_clip.json").read_text())["frames"][0]["corners"][0] == [0, 0]
    assert [entry["act"] for entry in log.read_log(case.folder)][-2:] == ["track edited"] * 2


@pytest.mark.parametrize(
    "edit",
    [{"index": 9}, {"index": 0, "corners": [[0, 0]] * 3}, {"index": 0, "corners": [[0, math.nan]] * 4}, {"corners": 7}],
)
def test_an_edit_that_makes_no_sense_is_refused(case: Case, edit: dict[str, Any]) -> None:
    write_track(case)
    with pytest.raises(CaseError, match=r"no frame|not four pairs"):
        edit_track(case, "4_clip", [edit], "bob")
    assert len(tracks(case)) == 1


def test_two_windows_edit_one_track_one_after_the_other(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    write_track(case)

    def write(path: Path, data: bytes) -> None:
        with pytest.raises(OutputError, match="held"), locked(case.folder / LOCK, OutputError("held")):
            pass
        atomic_write(path, data)

    monkeypatch.setattr("zssr_gan.web.tracks.atomic_write", write)
    names = [edit_track(case, "4_clip", [{"index": 0, "status": "left out"}], "bob")["id"] for _ in range(2)]
    (case.folder / "tracks" / f"{names[0]}.json").unlink()
    names.append(edit_track(case, names[1], [{"index": 1, "status": "left out"}], "bob")["id"])
    assert names == ["4_clip-edited-1", "4_clip-edited-2", "4_clip-edited-1"]


def test_a_track_has_the_name_that_a_person_gives(case: Case) -> None:
    write_track(case)
    assert name_track(case, "4_clip", " Red  car ", "bob")["name"] == "Red car"
    assert [(one["id"], one["name"]) for one in tracks(case)] == [("4_clip", "Red car")]
    assert b"Red car" in make_report(case)
    for track, name in (("5_x", "a"), ("4_clip", " "), ("4_clip", "a\u202eb"), ("4_clip", "x" * 81)):
        with pytest.raises(CaseError, match=r"has no track|has 1 to 80 characters"):
            name_track(case, track, name, "bob")
    assert log.read_log(case.folder)[-1]["facts"] == {"track": "4_clip", "name": "Red car"}


def test_the_tracks_of_a_video_have_numbers_that_stay(case: Case, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"other")
    other = case.add_original(tmp_path / "upload", "other.mkv", "ann")

    def ends(name: str, **changes: Any) -> dict[str, str]:
        """A job writes a track, and the log has its end a moment later."""
        write_track(case, **changes)
        (case.folder / "tracks" / "4_clip.json").rename(case.folder / "tracks" / f"{name}.json")
        before = {one["id"]: one["name"] for one in tracks(case)}
        log.append(case.folder, "ann", "job ended", job=1, files={f"tracks/{name}.json": "", f"tracks/{name}.png": ""})
        after = {one["id"]: one["name"] for one in tracks(case)}
        assert before == after
        return after

    log.append(case.folder, "ann", "job ended", job=1, files=7)  # a stranger's log
    ends("9_clip")
    edit_track(case, "9_clip", [{"index": 0, "status": "left out"}], "bob")
    ends("10_other", sha256=other.sha256)
    assert ends("mine") | ends("5_clip") == {
        "mine": "mine of clip.mkv",
        "5_clip": "Track 2 of clip.mkv",  # it was queued before the first, and ended later
        "9_clip": "Track 1 of clip.mkv",
        "9_clip-edited-1": "Track 1 of clip.mkv (edit 1)",
        "10_other": "Track 1 of other.mkv",
    }


def test_what_cannot_be_read_or_lies_behind_a_link_is_no_track(case: Case, tmp_path: Path) -> None:
    write_track(case, frames=7)
    assert tracks(case) == []
    write_track(case)
    (case.folder / "tracks" / "4_clip.json").rename(tmp_path / "a.json")
    (case.folder / "tracks" / "4_clip.json").symlink_to(tmp_path / "a.json")
    assert tracks(case) == []
