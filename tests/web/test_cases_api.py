import io
from pathlib import Path

import pytest
from PIL import Image

from tests.video.clips import picture, write
from tests.web.client import Client
from zssr_gan.cli.main import main
from zssr_gan.web import users
from zssr_gan.web.guard import Address
from zssr_gan.web.pictures import CHANGED
from zssr_gan.web.server import build_app
from zssr_gan.web.site import Site


def test_a_case_is_made_listed_and_deleted(client: Client) -> None:
    made = client.post("/api/cases", {"title": "Bank, 4 May", "number": "17/26", "operator": "A. L."}).json
    assert (made["title"], made["number"], made["files"], made["results"]) == ("Bank, 4 May", "17/26", 0, [])
    assert made["log"]["ok"]
    (listed,) = client.get("/api/cases").json
    assert (listed["id"], listed["results"], listed["running"]) == (made["id"], 0, 0)
    assert client.get(f"/api/cases/{made['id']}").json["title"] == "Bank, 4 May"
    edit = [b'{"title": "Bank, 5 May", "operator": "B."}']
    assert client.send("PUT", f"/api/cases/{made['id']}", edit).json["operator"] == "B."
    assert client.get("/api/cases").json[0]["title"] == "Bank, 5 May"
    assert client.send("DELETE", f"/api/cases/{made['id']}", [b'{"title": "Bank, 4 May"}']).status == 400
    assert client.send("DELETE", f"/api/cases/{made['id']}", [b'{"title": "Bank, 5 May"}']).status == 200
    assert client.get("/api/cases").json == []
    assert client.get(f"/api/cases/{made['id']}").status == 404


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the request cannot be read (Invalid JSON: EOF while parsing a value at line 1 column 0)."),
        (b"[1]", "the request cannot be read (Input should be an object)."),
        (b'{"title": 3}', "the request cannot be read (title: Input should be a valid string)."),
        (b'{"title": "a", "x": 1}', "the request cannot be read (x: Extra inputs are not permitted)."),
        (b'{"title": "--"}', "a case needs a title with a letter or a digit; type one."),
        (b"\xff\xfe", "the request cannot be read (Invalid JSON: expected value at line 1 column 1)."),
        (b"[" * 100_000, "the request cannot be read (Invalid JSON: recursion limit exceeded at line 1 column 202)."),
    ],
)
def test_a_body_that_is_none_is_one_sentence(client: Client, content: bytes, why: str) -> None:
    answer = client.send("POST", "/api/cases", [content])
    assert (answer.status, answer.error) == (400, why)


def test_a_body_has_a_limit(client: Client) -> None:
    assert client.send("POST", "/api/cases", [b" " * 65536] * 17).status == 413


def test_a_folder_is_opened_and_not_changed(tmp_path: Path, client: Client) -> None:
    folder = tmp_path / "footage"
    folder.mkdir()
    write(folder / "clip.mkv", pictures=[picture(number) for number in range(5)])
    before = [(path, path.stat().st_mtime_ns) for path in folder.rglob("*")]
    case = client.post("/api/cases/open", {"folder": str(folder)}).json
    assert case["opened_from"] == str(folder)
    assert [one["name"] for one in case["originals"]] == ["clip.mkv"]
    assert [(path, path.stat().st_mtime_ns) for path in folder.rglob("*")] == before
    assert client.post("/api/cases/open", {"folder": str(tmp_path / "none")}).status == 400
    for inside in ("cases", "cases/footage/results", ""):
        refused = client.post("/api/cases/open", {"folder": str(tmp_path / inside)})
        assert refused.error.endswith("the cases of this server lie there; open them from the list.")
    for name in ("a\0b", "../..", ".", "~nobody-of-that-name"):
        assert client.post("/api/cases/open", {"folder": name}).status == 400


def test_a_video_is_scrubbed_frame_by_frame(tmp_path: Path, client: Client) -> None:
    folder = tmp_path / "footage"
    folder.mkdir()
    write(folder / "clip.mkv", pictures=[picture(number) for number in range(30)])
    place = f"/api/cases/{client.post('/api/cases/open', {'folder': str(folder)}).json['id']}/originals/1"
    frames = client.get(f"{place}/frames").json
    while not frames["complete"]:
        frames = client.get(f"{place}/frames").json
    assert frames["count"] == 30
    assert [frame["index"] for frame in frames["frames"]] == list(range(30))
    assert frames["frames"][0].keys() == {"index", "pts", "time_base", "type", "key", "repeat"}
    shown = [client.get(f"{place}/frames/{number}.png") for number in (0, 12, 25)]
    assert [one.header("content-type") for one in shown] == ["image/png"] * 3
    assert len({one.body for one in shown}) == 3
    assert client.get(f"{place}/frames/30.png").error == "clip.mkv: has no frame 30."
    assert client.get(f"{place}/frames/-1.png").status == 404
    asked = {"kind": "track", "originals": ["1"], "options": {"frame": 30, "region": [0, 0, 20, 20]}}
    for path in ("plan", "jobs"):
        refused = client.post(f"{place.rpartition('/originals')[0]}/{path}", asked)
        assert (refused.status, refused.error) == (400, "clip.mkv: has no frame 30; it has 30, from 0 on.")
    asked["options"] = {"frame": 29, "region": [0, 0, 20, 20]}
    assert client.post(f"{place.rpartition('/originals')[0]}/plan", asked).status == 200


def test_a_video_whose_frames_are_listed_has_their_number_and_its_length(
    tmp_path: Path, site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "footage"
    folder.mkdir()
    write(folder / "whole.mkv", pictures=[picture(number) for number in range(30)])
    cut = write(folder / "cut.avi", "mjpeg", pixel_format="yuvj420p", pictures=[picture(n) for n in range(30)])
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    case, told = client.post("/api/cases/open", {"folder": str(folder)}).json["id"], list[str]()
    monkeypatch.setattr(site.events, "changed", told.append)

    def lengths() -> dict[str, tuple[int | None, float | None]]:
        originals = client.get(f"/api/cases/{case}").json["originals"]
        return {one["name"]: (one["frames"], one["seconds"]) for one in originals}

    for number in "12":
        assert client.get(f"/api/cases/{case}/originals/{number}/thumb.png").status == 200
    before = lengths()
    assert (before["whole.mkv"], before["cut.avi"][0]) == ((None, None), 30)
    told.clear()
    listed = {number: client.get(f"/api/cases/{case}/originals/{number}/frames").json for number in "12"}
    while not all(one["complete"] for one in listed.values()):
        listed = {number: client.get(f"/api/cases/{case}/originals/{number}/frames").json for number in "12"}
    assert told == [case] * 2
    left = min(one["count"] for one in listed.values())
    assert 2 < left < 20
    assert lengths() == {"whole.mkv": (30, 1.2), "cut.avi": (left, pytest.approx(left / 25))}


def test_users_see_their_own_cases_and_an_admin_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_N", 2)
    file = tmp_path / "lab.json"
    for name, options in (("ada", ["--admin"]), ("bob", []), ("eve", [])):
        monkeypatch.setattr("sys.stdin", io.StringIO("a password\n"))
        assert main(["web-user", "add", name, "--users", str(file), *options]) == 0
    app = build_app(Site(tmp_path / "cases", Address("http", "127.0.0.1", 8765), users=file))
    ada, bob, eve = (Client(app) for _ in range(3))
    for client, name in ((ada, "ada"), (bob, "bob"), (eve, "eve")):
        assert client.post("/api/login", {"name": name, "password": "a password"}).status == 200
    case = bob.post("/api/cases", {"title": "bob's"}).json["id"]
    assert [len(client.get("/api/cases").json) for client in (ada, bob, eve)] == [1, 1, 0]
    assert [client.get(f"/api/cases/{case}").status for client in (ada, bob, eve)] == [200, 200, 404]
    upload = f"/api/cases/{case}/uploads"
    assert eve.post(upload, {"name": "a.png", "bytes": 5}).status == 404
    assert eve.send("DELETE", f"/api/cases/{case}", [b'{"title": "bob\'s"}']).status == 404
    assert eve.post("/api/cases/open", {"folder": str(tmp_path)}).status == 403


def test_an_original_that_was_changed_is_not_shown(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "footage"
    folder.mkdir()
    Image.new("L", (8, 8), 10).save(folder / "a.png")
    case = f"/api/cases/{client.post('/api/cases/open', {'folder': str(folder)}).json['id']}"
    assert client.get(f"{case}/originals/1/thumb.png").status == 200
    assert client.get(f"{case}/originals/1/file").status == 200
    whole = (folder / "a.png").read_bytes()
    Image.new("L", (9, 9), 90).save(folder / "a.png")
    for name in ("thumb.png", "view.png"):
        answer = client.get(f"{case}/originals/1/{name}")
        assert (answer.status, answer.error) == (422, CHANGED)
    assert client.get(f"{case}/originals/1/file").status == 409
    assert client.get(case).json["originals"][0]["problem"] == CHANGED
    refused = client.post(f"{case}/jobs", {"kind": "enhance", "originals": ["1"]})
    assert (refused.status, refused.error) == (400, f"a.png: {CHANGED}.")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(whole)
    other = client.post("/api/cases/open", {"folder": str(tmp_path / "other")}).json["id"]
    assert client.get(f"/api/cases/{other}/originals/1/view.png").status == 200  # the same hash, and these bytes


def test_what_a_kill_left_of_a_deleted_case_goes_at_the_next_start(site: Site) -> None:
    left = site.state / "deleted-a" / "originals"
    left.mkdir(parents=True)
    Site(site.cases, site.address, decoder=site.pictures.decoder)
    assert not left.parent.exists()


def test_a_case_that_cannot_be_read_is_named(site: Site, client: Client) -> None:
    made = [client.post("/api/cases", {"title": title}).json["id"] for title in "abc"]
    (site.cases / "b" / "case.json").write_text('{"version": 99}')
    (site.cases / "c" / "case.json").write_text("{")
    listed = client.get("/api/cases").json
    assert [one["id"] for one in listed] == made
    assert "is a case of version 99; this program reads 1: upgrade it" in listed[1]["problem"]
    assert "case.json" in listed[2]["problem"]
    answer = client.get("/api/cases/c").error
    assert answer.endswith(".")
    assert not answer.endswith("..")
