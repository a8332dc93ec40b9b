"""The server of `zssr-gan web` under load, and an upload that is cut: python -m benchmarks.web load|upload

`load`: so many clients at once (default 50), each with an open stream of events, ask for the page, its script, the
cases, one case, a thumbnail and the jobs, with a pause after each answer, while a job enhances 100 faces; a minute.
`upload`: sends 2 GB, cuts the connection five times at places drawn by seed 0, goes on where the server says; compares
the bytes that arrived, and shows the server's largest memory; half a minute. Writes below /tmp alone.
"""

import argparse
import hashlib
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 1 << 20


@dataclass
class Server:
    """A running server and the cookie of a browser that is signed in."""

    process: "subprocess.Popen[str]"
    port: int
    cookie: str

    def connect(self) -> http.client.HTTPConnection:
        """A connection of its own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    @property
    def headers(self) -> dict[str, str]:
        """What the page's own requests carry."""
        return {"cookie": self.cookie, "x-zssr-gan": "1", "origin": f"http://127.0.0.1:{self.port}"}

    def call(self, method: str, path: str, content: object = None) -> Any:
        """A request with a new connection; the JSON of its answer."""
        connection = self.connect()
        connection.request(method, path, None if content is None else json.dumps(content), self.headers)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {found['error']}")
        return found

    @property
    def peak_mb(self) -> float:
        """Largest resident memory of the process that answers, by now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1000

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the process that answers, by now."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(cases: Path) -> Iterator[Server]:
    """A server on any port, ended by SIGTERM."""
    words = [sys.executable, "-m", "zssr_gan", "web", "--cases", str(cases), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r":(\d+)(/enter\?token=\S+)", process.stdout.readline())
            assert found, "the server did not start"
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]))
            connection.request("GET", found[2])
            cookie = (connection.getresponse().getheader("set-cookie") or "").partition(";")[0]
            yield Server(process, int(found[1]), cookie)
        finally:
            process.terminate()


def main() -> None:
    """Run one of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("load", "upload"))
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30, help="that clients ask for")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds after each answer")
    parser.add_argument("--gb", type=float, default=2, help="size of the upload")
    parser.add_argument("--idle", action="store_true", help="no job beside the load")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zssr-gan-web-") as folder, server(Path(folder) / "cases") as running:
        if options.part == "upload":
            upload(running, Path(folder), round(options.gb * 1e9))
        else:
            load(running, options.clients, options.seconds, options.pause, idle=options.idle)


def upload(running: Server, folder: Path, size: int, cuts: int = 5) -> None:
    """Send a file of random bytes, cut so many times."""
    source = folder / "sent.bin"
    draws = np.random.default_rng(0)
    digest = hashlib.sha256()
    with source.open("wb") as file:
        for start in range(0, size, _BLOCK):
            block = draws.bytes(min(_BLOCK, size - start))
            digest.update(block)
            file.write(block)
    places = sorted(int(place) for place in draws.integers(1, size, cuts))
    before = running.peak_mb
    case = running.call("POST", "/api/cases", {"title": "upload"})["id"]
    address = f"/api/cases/{case}/uploads"
    address += "/" + running.call("POST", address, {"name": "clip.bin", "bytes": size})["id"]
    started = time.perf_counter()
    for end in [*places, size]:
        offset = running.call("GET", address)["offset"]
        original = _put(running, address, source, offset, end, size)
        print(f"sent to byte {end:,}; began at {offset:,}", flush=True)
    seconds = time.perf_counter() - started
    assert original is not None
    (stored,) = (folder / "cases" / case / "originals").iterdir()
    with stored.open("rb") as file:
        equal = hashlib.file_digest(file, "sha256").hexdigest() == digest.hexdigest() == original["sha256"]
    print(
        f"bytes equal: {equal}; {size / 1e6 / seconds:.0f} MB/s; memory {before:.0f} -> {running.peak_mb:.0f} MB (peak)"
    )


def _put(running: Server, address: str, source: Path, offset: int, end: int, size: int) -> Any:
    """Send the bytes from `offset` to `end`, and break the connection there unless it is the end."""
    connection = running.connect()
    connection.putrequest("PUT", address)
    for name, value in (running.headers | {"content-length": str(size - offset), "upload-offset": str(offset)}).items():
        connection.putheader(name, value)
    connection.endheaders()
    with source.open("rb") as file:
        file.seek(offset)
        while (left := end - file.tell()) > 0:
            connection.send(file.read(min(_BLOCK, left)))
    if end < size:
        connection.close()
        return None
    return json.loads(connection.getresponse().read())["original"]


def load(running: Server, clients: int, seconds: float, pause: float, *, idle: bool) -> None:
    """Ask from so many clients at once, and print the times of the answers."""
    case = _case_of_faces(running)
    place = f"/api/cases/{case}"
    if not idle:
        originals = [one["id"] for one in running.call("GET", place)["originals"]]
        options = {"method": "fast", "scale": 2, "degradation": "bicubic"}
        running.call("POST", f"{place}/jobs", {"kind": "enhance", "originals": originals, "options": options})
    paths = ["/", "/static/app.js", "/api/me", "/api/cases", place, f"{place}/originals/1/thumb.png", "/api/jobs"]
    times: dict[str, list[float]] = {path: [] for path in paths}
    events, errors = [0] * clients, list[str]()
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        draws = np.random.default_rng(number)
        connection = running.connect()
        time.sleep(draws.uniform(0, pause))
        while time.monotonic() < end:
            path = paths[draws.integers(len(paths))]
            started = time.perf_counter()
            connection.request("GET", path, headers=running.headers)
            answer = connection.getresponse()
            answer.read()
            times[path].append(time.perf_counter() - started)
            if answer.status != 200:
                errors.append(f"{path}: {answer.status}")
            time.sleep(pause)

    def listen(number: int) -> None:
        connection = running.connect()
        connection.request("GET", "/api/events", headers=running.headers)
        answer = connection.getresponse()
        while time.monotonic() < end and (line := answer.readline()):
            events[number] += line.startswith(b"event: job")

    before = running.cpu_s
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(clients) for work in (ask, listen)]
    for thread in threads:
        thread.start()
    for thread in threads[::2]:
        thread.join()
    for path, found in times.items():
        print(f"{path.replace(case, 'ID'):36} {_shown(found)}")
    print(f"{'all':36} {_shown([one for found in times.values() for one in found])}")
    spent = running.cpu_s - before
    print(f"CPU of the server: {spent:.1f} s; load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"errors: {len(errors)} {errors[:3]}; events of jobs a client: {min(events)} to {max(events)}")
    print(f"memory of the server: {running.peak_mb:.0f} MB (peak); client: {resource.getrusage(0).ru_utime:.0f} CPU s")


def _shown(seconds: list[float]) -> str:
    middle, high, most = (1000 * float(np.quantile(seconds, share)) for share in (0.5, 0.95, 1))
    return f"{len(seconds):5} answers: median {middle:.0f}, 95 % {high:.0f}, longest {most:.0f} ms"


def _case_of_faces(running: Server) -> str:
    """A case with the 100 faces of scikit-image's lfw_subset, by its id."""
    from skimage import data

    from zssr_gan.imaging.picture import Metadata
    from zssr_gan.imaging.png import encode_png

    case: str = running.call("POST", "/api/cases", {"title": "faces"})["id"]
    for number, face in enumerate(data.lfw_subset()[:100]):
        content = encode_png(np.round(face * 255).astype(np.uint8)[:, :, None], Metadata(), {})
        address = f"/api/cases/{case}/uploads"
        address += "/" + running.call("POST", address, {"name": f"face-{number:03}.png", "bytes": len(content)})["id"]
        connection = running.connect()
        connection.request("PUT", address, content, {**running.headers, "upload-offset": "0"})
        connection.getresponse().read()
        connection.close()
    return case


if __name__ == "__main__":
    main()
