import importlib.util
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zssr_gan.cli.main import main
from zssr_gan.errors import OutputError
from zssr_gan.files import locked
from zssr_gan.web.case_folder import CASE_FILE, SERVER_FOLDER, create_case

ROOT = Path(__file__).parents[2]


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence with which the command ends before it serves."""
    assert main(["web", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return " ".join(err.split())


def test_what_cannot_be_served_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, file = str(tmp_path / "cases"), tmp_path / "file"
    file.write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"--port {port}: is in use" in refusal(capsys, "--cases", cases, "--port", port)
    assert "--cases " in (said := refusal(capsys, "--cases", str(file / "x"), "--port", "0"))
    assert "cannot be written" in said
    with locked(Path(cases) / SERVER_FOLDER / "lock", OutputError("held")):
        assert "another 'zssr-gan web' works on it" in refusal(capsys, "--cases", cases, "--port", "0")
    assert "needs --users FILE" in refusal(capsys, "--cases", cases, "--host", "0.0.0.0")
    assert "--cert and --key belong together" in refusal(capsys, "--cases", cases, "--cert", str(file))
    assert "'zssr-gan web-user add NAME" in refusal(capsys, "--cases", cases, "--port", "0", "--users", str(file) + "x")
    assert "is damaged" in refusal(capsys, "--cases", cases, "--port", "0", "--users", str(file))
    words = ("--cases", cases, "--port", "0", "--cert", str(file), "--key", str(file), "--users", str(file))
    assert "cannot be used together" in refusal(capsys, *words)
    assert "--device banana: is none" in refusal(capsys, "--cases", cases, "--port", "0", "--device", "banana")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert "the page needs uvicorn: pip install 'zssr-gan[web]'." in refusal(capsys, "--cases", cases)


@contextmanager
def served(cases: Path, port: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server and the address that it prints."""
    words = [sys.executable, "-m", "zssr_gan", "web", "--cases", str(cases), "--port", str(port)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield server, server.stdout.readline().split()[1]
        finally:
            server.kill()


def test_sigterm_ends_the_server_in_order(tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    case = create_case(cases, "newer", "me")
    facts = json.loads((case.folder / CASE_FILE).read_text())
    (case.folder / CASE_FILE).write_text(json.dumps({**facts, "version": 99}))
    with served(cases, 0) as (server, address):
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        place = address.partition("/enter")[0]
        opener.open(address).close()
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            opener.open(f"{place}/api/cases/newer")
        assert "is a case of version 99" in json.load(refused.value)["error"]
        events = opener.open(f"{place}/api/events")
        assert events.readline() == b": hello\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 143  # though someone still listens
        events.close()
        assert server.stderr
        assert "Traceback" not in server.stderr.read()
    with served(cases, int(place.rpartition(":")[2])) as (_, address):  # the same port and folder, at once
        assert address.startswith(place)
        opener.open(f"{place}/api/me").close()  # the cookie is as good as before
