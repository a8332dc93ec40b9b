import hashlib
import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.web.client import Answer, Client
from zssr_gan.web import uploads
from zssr_gan.web.server import build_app
from zssr_gan.web.site import Site

DATA = np.random.default_rng(0).integers(0, 256, 3_000_001, np.uint8).tobytes()


@pytest.fixture
def place(client: Client) -> str:
    """The address of a case's uploads."""
    return f"/api/cases/{client.post('/api/cases', {'title': 'a case'}).json['id']}/uploads"


def begin(client: Client, place: str, name: str = "clip.bin", size: int = len(DATA)) -> Answer:
    return client.post(place, {"name": name, "bytes": size})


def put(client: Client, address: str, offset: int, data: bytes, *, breaks: bool = False) -> Answer:
    pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    return client.send("PUT", address, pieces, headers={"upload-offset": str(offset)}, breaks=breaks)


def test_an_upload_goes_on_where_the_connection_broke(site: Site, client: Client, place: str) -> None:
    address = f"{place}/{begin(client, place).json['id']}"
    for end in (500_000, 1_900_000, 2_000_000):
        offset = client.get(address).json["offset"]
        assert put(client, address, offset, DATA[offset:end], breaks=True).status in (0, 200)
        assert client.get(address).json == {"offset": end}
    wrong = put(client, address, 5, DATA)
    assert (wrong.status, wrong.json["offset"]) == (409, 2_000_000)
    client.app = build_app(Site(site.cases, site.address, decoder=site.pictures.decoder))  # a restart
    assert client.get(address).json == {"offset": 2_000_000}
    done = put(client, address, 2_000_000, DATA[2_000_000:])
    assert done.json["offset"] == len(DATA)
    original = done.json["original"]
    assert (original["bytes"], original["sha256"]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    (stored,) = (site.cases / "a-case" / "originals").iterdir()
    assert stored.read_bytes() == DATA
    assert stored.stat().st_mode & 0o222 == 0
    assert client.get(address).status == 404
    assert not list((site.state / "uploads").iterdir())
    saved = client.get(f"/api/cases/a-case/originals/{original['id']}/file")
    assert saved.body == DATA
    assert saved.header("content-type") == "application/octet-stream"
    assert (saved.header("content-disposition") or "").startswith("attachment")


@pytest.mark.parametrize(
    "name",
    ["../../evil.png", "/etc/passwd", "C:\\evil.png", "a/b/c.png", ".htaccess", "\u202egnp.exe", "a\nb", "x" * 255],
)
def test_a_name_is_never_a_path(site: Site, client: Client, place: str, name: str) -> None:
    before = set(site.cases.parent.rglob("*"))
    address = f"{place}/{begin(client, place, name, 3).json['id']}"
    original = put(client, address, 0, b"abc").json["original"]
    assert original["name"].isprintable()
    new = {path for path in set(site.cases.parent.rglob("*")) - before if site.state not in path.parents}
    assert {path.parent for path in new if path.is_file()} <= {
        site.cases / "a-case",
        site.cases / "a-case" / "originals",
    }


def test_what_cannot_be_stored_is_said_before_it_begins(
    client: Client, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert begin(client, place, size=10**400).status == 400
    assert begin(client, place, size=0).error == "clip.bin: is empty."
    assert begin(client, place, size=21 * 10**9).error == (
        "clip.bin: has 21 GB, more than the limit of 20 GB (zssr-gan web --upload-limit)."
    )
    assert begin(client, place, "").status == 400
    assert begin(client, place, "x" * 256).status == 400
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _folder: type("", (), {"free": 600 << 20}))
    assert begin(client, place, size=80_000_000).status == 201
    full = begin(client, place, size=20_000_000)  # the other one still needs its room
    assert (full.status, full.error) == (
        507,
        "clip.bin: there is no room for 20 MB (12 MB are free, besides what uploads in work still need): make room, "
        "or wait for these.",
    )


def test_one_user_cannot_hold_all_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _folder: type("", (), {"free": (512 << 20) + 100}))
    held = site.uploads.begin("a-case", "eve", "held.bin", 100)
    held.path.write_bytes(b"x")
    assert (site.uploads.free_bytes("eve"), site.uploads.free_bytes("ada")) == (1, 50)
    site.uploads.begin("a-case", "ada", "b.bin", 50)
    later = uploads.time.time() + 1000  # nothing came since
    monkeypatch.setattr(uploads.time, "time", lambda: later)
    assert (site.uploads.free_bytes("eve"), site.uploads.free_bytes("ada")) == (100, 100)
    assert [one.facts.name for one in site.uploads.of_case("a-case")] == ["held.bin", "b.bin"]


def test_a_part_of_a_closed_window_is_listed_with_its_proof(client: Client, place: str) -> None:
    data = random.Random(0).randbytes(uploads.PROOF_BYTES + 1000)
    made = begin(client, place, "clip.bin", len(data) + 5).json["id"]
    client.send("PUT", f"{place}/{made}", [data], headers={"upload-offset": "0"}, breaks=True)
    listed = {"id": made, "name": "clip.bin", "bytes": len(data) + 5, "offset": len(data)}
    assert client.get(place).json == [listed]
    pieces = [data[: uploads.PROOF_BYTES], data[uploads.PROOF_BYTES :]]
    proof = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()
    assert client.get(f"{place}/{made}/proof").json == {
        **{"offset": len(data), "proof": proof, "piece_bytes": uploads.PROOF_BYTES}
    }
    put(client, f"{place}/{made}", len(data), b"12345")
    assert client.get(place).json == []


def test_room_is_free_again_when_a_case_goes_or_nothing_comes(
    site: Site, client: Client, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = site.uploads.free_bytes()
    begin(client, place, size=10**9)
    assert site.uploads.free_bytes() < free - 9 * 10**8
    assert client.send("DELETE", "/api/cases/a-case", [b'{"title": "a case"}']).status == 200
    assert site.uploads._uploads == {}
    assert list((site.state / "uploads").iterdir()) == []
    client.post("/api/cases", {"title": "a case"})
    begin(client, place, "silent", size=10**9)
    part = f"{place}/{begin(client, place, 'part', size=10**9).json['id']}"
    client.send("PUT", part, [b"abc"], headers={"upload-offset": "0"}, breaks=True)
    hour = uploads.time.time() + 3700
    monkeypatch.setattr(uploads.time, "time", lambda: hour)
    site.uploads.free_bytes()
    assert [one.facts.name for one in site.uploads._uploads.values()] == ["part"]
    week = hour + 7 * 24 * 3600
    monkeypatch.setattr(uploads.time, "time", lambda: week)
    site.uploads.free_bytes()
    assert site.uploads._uploads == {}


def test_a_disk_that_gives_other_bytes_is_named(site: Site, client: Client, place: str) -> None:
    made = begin(client, place, size=6).json["id"]
    client.send("PUT", f"{place}/{made}", [b"abc"], headers={"upload-offset": "0"}, breaks=True)
    (site.state / "uploads" / made / "bytes").write_bytes(b"abd")
    answer = put(client, f"{place}/{made}", 3, b"def")
    assert (answer.status, answer.error) == (
        507,
        "clip.bin: the disk gives other bytes than were received; check the disk.",
    )


def test_more_bytes_than_announced_are_refused(client: Client, place: str) -> None:
    address = f"{place}/{begin(client, place, size=10).json['id']}"
    assert put(client, address, 0, b"x" * 11).status == 413
    assert client.get(address).json == {"offset": 0}
    for offset in ("", "-1", "1e3", "\u00b2", "9" * 30):
        assert client.send("PUT", address, [b"x"], headers={"upload-offset": offset}).status == 400
    assert client.send("DELETE", address).status == 200
    assert client.get(address).status == 404


def test_a_picture_is_there_with_its_facts(tmp_path: Path, site: Site, client: Client, place: str) -> None:
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for name, content in (("a.png", data), ("damaged.png", data[:60])):
        address = f"{place}/{begin(client, place, name, len(content)).json['id']}"
        put(client, address, 0, content)
    for work in list(site.pictures._running.values()):
        work.exception(60)
    case = client.get("/api/cases/a-case").json
    whole, damaged = case["originals"]
    assert (whole["name"], whole["width"], whole["height"], whole["problem"]) == ("a.png", 40, 30, None)
    assert damaged["problem"].startswith("the PNG file is damaged or truncated")
    assert str(site.cases) not in damaged["problem"]
    assert client.get("/api/cases/a-case/originals/1/thumb.png").header("content-type") == "image/png"
    assert client.get("/api/cases/a-case/originals/2/view.png").status == 422
    assert client.get("/api/cases/a-case/originals/3/view.png").status == 404
    assert client.get("/api/cases/a-case/originals/1/frames").status == 404


def test_what_is_answered_is_on_the_disk(site: Site, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes nothing of it: files, and the folders that name them."""
    synced, fsync = list[str](), os.fsync

    def record(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    client.post("/api/cases", {"title": "b"})
    case = site.cases / "b"
    made = begin(client, "/api/cases/b/uploads", "a.bin", 6).json["id"]
    place, part = f"/api/cases/b/uploads/{made}", str(site.state / "uploads" / made / "bytes")
    assert {str(site.cases), str(case), str(case / "log.jsonl")} <= set(synced)
    client.send("PUT", place, [b"abc"], headers={"upload-offset": "0"}, breaks=True)
    assert synced[-1] == part
    put(client, place, 3, b"def")
    last = synced[synced.index(part) + 1 :]
    assert last[:2] == [part, str(case / "originals")]  # before the log names it
    assert last[2] == str(case / "log.jsonl")
