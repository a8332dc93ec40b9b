import io
from pathlib import Path

import pytest

from tests.web.client import Client
from zssr_gan.cli.main import main
from zssr_gan.web import log, users
from zssr_gan.web.guard import Address
from zssr_gan.web.server import build_app
from zssr_gan.web.site import Site

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_N", 2)


def add(monkeypatch: pytest.MonkeyPatch, file: Path, name: str, *options: str, password: str = PASSWORD) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    return main(["web-user", "add", name, "--users", str(file), *options])


def test_users_are_added_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lab.json"
    assert add(monkeypatch, file, "ada", "--admin") == 0
    assert add(monkeypatch, file, "bob") == 0
    assert PASSWORD not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    capsys.readouterr()
    for name, password, why in (
        ("bob", PASSWORD, "bob is there already; --overwrite gives a new password"),
        ("eve", "short", "a password has at least 10 characters; this one has 5"),
        ("../eve", PASSWORD, "'../eve' cannot be a name"),
    ):
        assert add(monkeypatch, file, name, password=password) == 2
        assert why in capsys.readouterr().err.replace("\n", " ")
    assert add(monkeypatch, file, "bob", "--overwrite", password="a new password") == 0
    found = users.read_users(file)
    assert found.check("ada", PASSWORD) == found.find("ada")
    assert found.check("bob", PASSWORD) is None
    assert found.check("bob", "a new password")
    assert found.check("eve", "") is None
    assert main(["web-user", "remove", "bob", "--users", str(file)]) == 0
    assert users.read_users(file).find("bob") is None
    assert main(["web-user", "remove", "bob", "--users", str(file)]) == 2


def test_users_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lab.json"
    add(monkeypatch, file, "ada", "--admin")
    add(monkeypatch, file, "bob")
    site = Site(tmp_path / "cases", Address("http", "127.0.0.1", 8765), users=file)
    bob = Client(build_app(site))
    assert bob.get(f"/enter?token={site.sessions.token}").header("location") == "/"
    refused = bob.get("/api/me")
    assert (refused.status, refused.json["users"]) == (401, True)
    assert bob.post("/api/login", {"name": "bob"}).error == "the request cannot be read (password: Field required)."
    assert bob.post("/api/login", {"name": "bob", "password": "wrong"}).status == 403
    assert bob.post("/api/login", {"name": "bob", "password": PASSWORD}).status == 429  # too soon
    refusal = log.read_log(site.state)[-1]
    assert (refusal["act"], refusal["facts"], refusal["user"]) == ("sign-in refused", {"name": "bob"}, "")
    assert bob.post("/api/login", {"name": PASSWORD, "password": ""}).status == 403
    assert log.read_log(site.state)[-1]["facts"] == {"name": "unknown name"}
    assert PASSWORD not in (site.state / log.NAME).read_text()
    site._failures.clear()
    assert bob.post("/api/login", {"name": "bob", "password": PASSWORD}).json == {"name": "bob", "admin": False}
    me = bob.get("/api/me").json
    assert (me["name"], me["admin"], me["users"]) == ("bob", False, True)
    alone = Client(build_app(Site(site.cases, site.address)))  # the same folder without users: its account is an admin
    alone.cookies = dict(bob.cookies)
    assert alone.get("/api/me").status == 401
    assert add(monkeypatch, file, "bob", "--overwrite", password="a new password") == 0
    assert bob.get("/api/me").status == 401  # at once, without a restart
    assert bob.post("/api/login", {"name": "bob", "password": "a new password"}).status == 200
    assert main(["web-user", "remove", "bob", "--users", str(file)]) == 0
    assert bob.get("/api/me").status == 401
