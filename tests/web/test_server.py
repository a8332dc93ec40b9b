import asyncio
import shutil
import socket
from collections import Counter
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.web.client import Client
from zssr_gan.errors import OutputError, SettingsError
from zssr_gan.provenance import LABELS
from zssr_gan.web import server
from zssr_gan.web.guard import POLICY, Address
from zssr_gan.web.log import read_log
from zssr_gan.web.pictures import Decoder
from zssr_gan.web.server import bind, build_app
from zssr_gan.web.site import Site, account
from zssr_gan.web.workers import Workers


def test_the_printed_address_lets_one_browser_in(site: Site) -> None:
    app, token = build_app(site), site.sessions.token
    browser, other = Client(app), Client(app)
    refused = browser.get("/api/me")
    assert refused.status == 401
    assert refused.json == {
        "error": "you are not signed in here (any more): open the address that 'zssr-gan web' printed last in its "
        "window.",
        "users": False,
    }
    entered = browser.get(f"/enter?token={token}")
    assert (entered.status, entered.header("location")) == (303, "/")
    cookie = entered.header("set-cookie") or ""
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
    assert browser.get("/api/me").json["labels"] == LABELS
    late = other.get(f"/enter?token={token}")
    assert late.status == 403
    assert b"used before" in late.body
    assert b'name="viewport"' in late.body  # a phone shows it as large as the page
    assert other.get("/api/me").status == 401
    assert browser.get(f"/enter?token={token}").status == 303  # a reload
    assert other.get(f"/enter?token={site.sessions.token}").status == 303
    assert site.sessions.token != token


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cookie_of_https_is_sent_by_no_other_scheme(tmp_path: Path, decoder: Decoder, scheme: str) -> None:
    site = Site(tmp_path / "cases", Address(scheme, "127.0.0.1", 8765), decoder=decoder)
    browser = Client(build_app(site))
    browser.headers["origin"] = f"{scheme}://127.0.0.1:8765"
    cookie = browser.get(f"/enter?token={site.sessions.token}").header("set-cookie") or ""
    assert ("Secure" in cookie.split("; ")) == (scheme == "https")


def test_a_restart_keeps_the_browser_signed_in(site: Site, client: Client) -> None:
    restarted = Client(build_app(Site(site.cases, site.address, decoder=site.pictures.decoder)))
    restarted.cookies = client.cookies
    assert restarted.get("/api/me").status == 200
    assert (site.state / "sessions.json").stat().st_mode & 0o077 == 0
    assert next(iter(client.cookies.values())) not in (site.state / "sessions.json").read_text()
    assert client.post("/api/logout").status == 200
    assert [(entry["act"], entry["user"]) for entry in read_log(site.state)] == [
        ("signed in", account()),
        ("signed out", account()),
    ]
    restarted.cookies = {site.cookie: "x"}
    assert restarted.get("/api/me").status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example:8765"}, 421),
        ({"host": "127.0.0.1:9000"}, 421),
        ({"host": "127.0.0.1"}, 421),
        ({"host": "10.0.0.1:8765"}, 421),
        ({"host": None}, 421),
        ({"host": "localhost:8765", "origin": "http://localhost:8765"}, 200),
        ({"host": "[::1]:8765", "origin": "http://[::1]:8765"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1:8765"}, 403),
        ({"origin": None}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": None}, 200),
        ({"x-zssr-gan": None}, 403),
        ({"cookie": "zssr_gan_8765=guess"}, 401),
        ({"cookie": ";;=\x7f"}, 401),
    ],
)
def test_only_its_own_page_changes_anything(client: Client, headers: dict[str, str | None], status: int) -> None:
    answer = client.send("POST", "/api/logout", headers=headers)
    assert answer.status == status
    assert status == 200 or answer.error.endswith(".")


def test_every_answer_carries_the_policy(client: Client) -> None:
    for path, status in (("/api/me", 200), ("/api/nothing", 404), ("/static/nothing", 404), ("/enter", 303)):
        answer = client.get(path)
        assert answer.status == status, path
        assert answer.header("content-security-policy") == POLICY
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("referrer-policy") == "no-referrer"
    assert "default-src 'self'" in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert client.get("/api/me").header("cache-control") == "no-store"
    assert client.send("DELETE", "/api/me").status == 405


@pytest.mark.parametrize(
    "name", ["../server.py", "..%2Fserver.py", "%2e%2e/server.py", "/etc/passwd", "%00", "a\x7f", "__init__.py"]
)
def test_only_the_pages_own_files_are_served(client: Client, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status == 404
    assert answer.error.endswith(".")


def test_an_error_of_ours_is_one_sentence(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_user: str) -> int:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(site.uploads, "free_bytes", fail)
    answer = client.get("/api/me")
    assert answer.status == 500
    assert "planted" not in answer.error
    assert "ZeroDivisionError: planted" in capsys.readouterr().err


def test_a_connection_without_a_request_is_closed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SILENCE_S", 0.2)
    config = uvicorn.Config(client.app, log_config=None, timeout_keep_alive=60)
    config.load()
    whole = b"GET / HTTP/1.1\r\nhost: 127.0.0.1:8765\r\n\r\n"

    async def connect(sent: bytes, then: bytes = b"") -> bytes:
        loop = asyncio.get_running_loop()
        made = await loop.create_server(lambda: server._Protocol(config, ServerState(), {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*made.sockets[0].getsockname())
        writer.write(sent)
        if then:
            await asyncio.sleep(0.5)
            writer.write(then)
        found = await asyncio.wait_for(reader.read(), 50)
        writer.close()
        made.close()
        return found

    assert asyncio.run(connect(b"GET / HT")) == b""
    assert asyncio.run(connect(whole + b"GET / HT")).count(b"HTTP/1.1 200") == 1
    last = whole.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert asyncio.run(connect(whole, last)).count(b"HTTP/1.1 200") == 2


def test_an_address_has_a_limit_of_connections(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_OF_ONE", 2)
    monkeypatch.setattr(server._Protocol, "open", Counter())
    config = uvicorn.Config(client.app, log_config=None)
    config.load()

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        made = await loop.create_server(lambda: server._Protocol(config, ServerState(), {}), "127.0.0.1", 0)
        some = [await asyncio.open_connection(*made.sockets[0].getsockname()) for _ in range(3)]
        assert await some[2][0].read() == b""  # closed
        some[0][1].close()
        while server._Protocol.open["127.0.0.1"] > 1:
            await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_connection(*made.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nhost: 127.0.0.1:8765\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        for end in (writer, some[1][1], some[2][1]):
            end.close()
        while +server._Protocol.open:
            await asyncio.sleep(0.001)
        made.close()

    asyncio.run(connect())


def test_what_a_client_says_of_its_own_address_is_not_believed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[uvicorn.Config] = []

    class Server(server._Server):
        def run(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 (as uvicorn calls it)
            made.append(self.config)

    monkeypatch.setattr(server, "_Server", Server)
    with bind("127.0.0.1", 0) as listener:
        server.serve(site, listener, Workers(site.cases, []))
    made[0].load()
    assert made[0].loaded_app is made[0].app  # nothing that reads X-Forwarded-For stands before it


@pytest.mark.parametrize("name", ["uploads", "pictures", "previews", "queue.sqlite", "sessions.json", "log.jsonl"])
def test_a_file_in_the_place_of_a_folder_is_named(site: Site, name: str) -> None:
    place = site.state / name
    if is_folder := place.is_dir() or name == "previews":
        shutil.rmtree(place, ignore_errors=True)
        place.write_bytes(b"")
    else:
        for file in site.state.glob(f"{name}*"):
            file.unlink()
        place.mkdir()
    with pytest.raises(OutputError, match=rf"{name}: is a {'file' if is_folder else 'folder'}, where this program"):
        Site(site.cases, site.address, decoder=site.pictures.decoder)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="is in use, perhaps by another 'zssr-gan web'"):
            bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(SettingsError, match=r"--host 203\.0\.113\.7: cannot be listened on"):
        bind("203.0.113.7", 0)


def test_a_host_that_others_reach_has_names() -> None:
    address = Address("https", "0.0.0.0", 443, ["lab.example"])
    assert address.accepts("lab.example")
    assert address.accepts("LAB.example:443")
    assert address.accepts("192.0.2.1")
    assert not address.accepts("evil.example")
    assert not address.accepts("lab.example:8443")
    assert not address.accepts("lab.example:443:443")
    assert not address.accepts("")
    assert address.url == "https://lab.example:443"
    assert Address("https", "0.0.0.0", 443).url == f"https://{socket.getfqdn()}:443"
    assert Address("http", "::1", 80, ["lab.example"]).url == "http://[::1]:80"
