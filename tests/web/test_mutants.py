import json
import os
import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.client import Client
from tests.web.mutants import NAMES, damaged, files, requests
from zssr_gan.web.site import Site

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("ZSSR_GAN_MUTANTS", "2000"))  # 10,000 before a release
ON_PURPOSE = {507}  # no room for an upload


def test_damaged_requests_are_refused_in_one_sentence(tmp_path: Path, site: Site, client: Client) -> None:
    case = client.post("/api/cases", {"title": "Bank, 4 May"}).json["id"]
    upload = client.post(f"/api/cases/{case}/uploads", {"name": "a.png", "bytes": 9}).json["id"]
    before = outside(tmp_path, site.cases)
    draw = random.Random(0)
    cookies = dict(client.cookies)
    for _, (method, path, headers, body) in zip(range(200), requests(draw, case, upload), strict=False):
        client.cookies = dict(cookies)
        answer = client.send(method, path, [body], headers=headers)
        assert answer.status < 500 or answer.status in ON_PURPOSE, (method, path, headers, body)
        if answer.status >= 400 and method != "HEAD" and answer.header("content-type") == "application/json":
            assert "Traceback" not in answer.error
            assert str(tmp_path) not in answer.error, path
    assert outside(tmp_path, site.cases) == before


def outside(folder: Path, cases: Path) -> set[Path]:
    """All files of a test but those of the cases."""
    return {path for path in folder.rglob("*") if cases not in path.parents}


@pytest.mark.slow
def test_damaged_requests_and_uploads_over_the_network(tmp_path: Path) -> None:
    """One in ten an upload of a damaged file whose pictures are asked for."""
    cases = tmp_path / "cases"
    words = [sys.executable, "-m", "zssr_gan", "web", "--cases", str(cases), "--port", "0"]
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True) as server,
    ):
        try:
            assert server.stdout
            found = re.search(r":(\d+)(/enter\S+)", server.stdout.readline())
            assert found
            attack(int(found[1]), found[2], tmp_path, COUNT)
        finally:
            server.terminate()
    assert "Traceback" not in (tmp_path / "said").read_text()
    case = cases / "bank-4-may"
    assert {path.name for path in cases.iterdir()} == {case.name, ".zssr-gan-web"}
    assert not list(tmp_path.rglob("*evil"))
    assert {path.name for path in tmp_path.iterdir()} == {"cases", "said", "made"}


def attack(port: int, entry: str, folder: Path, count: int) -> None:
    host = f"127.0.0.1:{port}"

    def ask(method: str, path: str, headers: dict[str, str | None], body: bytes) -> tuple[int, bytes]:
        """Status (0: the connection was closed) and body."""
        given = {"host": host, "x-zssr-gan": "1", "content-length": str(len(body)), "connection": "close", **headers}
        lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1", "replace")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            answer = b""
            try:
                connection.sendall(head + body)
                while piece := connection.recv(1 << 16):
                    answer += piece
            except ConnectionError:
                pass
            except TimeoutError:  # it waits for the chunks that were announced
                assert headers.get("transfer-encoding") == "chunked"
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
        assert status < 500 or status in ON_PURPOSE, (method, path, headers, body, answer[:500])
        assert b"Traceback" not in answer
        return status, head if path == entry else rest

    _, head = ask("GET", entry, {}, b"")
    cookie = re.search(rb"set-cookie: ([^;]+)", head)
    assert cookie
    mine: dict[str, str | None] = {"cookie": cookie[1].decode()}
    case = json.loads(ask("POST", "/api/cases", mine, b'{"title": "Bank, 4 May"}')[1])["id"]
    place = f"/api/cases/{case}"
    (folder / "made").mkdir()
    whole, draw = files(folder / "made"), random.Random(1)

    def upload(name: str, data: bytes) -> object:
        status, made = ask("POST", f"{place}/uploads", mine, json.dumps({"name": name, "bytes": len(data)}).encode())
        if status != 201:
            return None
        _, done = ask("PUT", f"{place}/uploads/{json.loads(made)['id']}", {**mine, "upload-offset": "0"}, data)
        return json.loads(done).get("original")

    upload("a.png", whole["png"])
    upload("a.mkv", whole["mkv"])
    made = json.loads(ask("POST", f"{place}/uploads", mine, b'{"name": "b.png", "bytes": 9}')[1])["id"]
    damaged_requests = requests(draw, case, made)
    for number in range(count):
        if number % 10:
            method, path, headers, body = next(damaged_requests)
            ask(method, path, {**mine, **headers}, body)
            continue
        ending = draw.choice(sorted(whole))
        name = draw.choice(NAMES) if draw.random() < 0.3 else f"{number}.{draw.choice((ending, ending, 'png', 'mkv'))}"
        original = upload(name, damaged(draw, whole[ending]))
        if isinstance(original, dict) and original["kind"] != "other":
            shown = "view.png" if original["kind"] == "image" else "frames/1.png"
            ask("GET", f"{place}/originals/{original['id']}/{shown}", mine, b"")
