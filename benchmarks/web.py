"""The page, measured: python -m benchmarks.web load|upload|preview|overhead FACES

`load`: so many clients at once (default 50), each with an open stream of events, ask for the page, its script, the
cases, one case, a thumbnail and the jobs, with a pause after each answer, while a job enhances --count faces.
`upload`: sends 2 GB, cuts the connection five times at places drawn by seed 0, goes on where the server says; compares
the bytes that arrived, and shows the server's largest memory; half a minute.
`preview`: seconds from the click (the job is queued) to the first preview, to its being known to the page, and to
the second one; the worker is warm. `overhead`: CPU seconds of the command and of a job with progress, previews, log and
hashes, in turn; both are forked from one process, so that neither imports anything. CPU seconds, as a clock tells
little on a busy machine. All but `upload` take --count faces of FACES, made 32 px wide, and `fast`.
"""

import argparse
import hashlib
import http.client
import importlib
import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zssr_gan.cli.main import main as command
from zssr_gan.web import worker
from zssr_gan.web.case_folder import SERVER_FOLDER, Case, create_case
from zssr_gan.web.child import Child
from zssr_gan.web.commands import queue_job
from zssr_gan.web.plans import Body
from zssr_gan.web.queue import Job, Queue

_BLOCK = 1 << 20
_SIDE = 32
_PREVIEWS = 5


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


def load(running: Server, case: str, clients: int, seconds: float, pause: float, *, idle: bool) -> None:
    """Ask from so many clients at once, and print the times of the answers."""
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


def preview(case: Case, queue: Queue) -> None:
    """Times of previews, see the module."""
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(case.folder.parent,))
    process.start()
    _finish(queue, _enhance(case, queue, ["1"]))
    for number in range(2, 2 + _PREVIEWS):
        _time_preview(case, queue, number)
    process.terminate()
    process.join()


def _time_preview(case: Case, queue: Queue, number: int) -> None:
    clicked, job = time.monotonic(), _enhance(case, queue, [str(number)])
    file = worker.preview_of(case.folder.parent, job.id)
    _wait(file.exists)
    first, changed = time.monotonic(), file.stat().st_mtime_ns
    _wait(lambda: (queue.job(job.id).progress or {}).get("preview"))
    shown = time.monotonic()
    _wait(lambda: not file.exists() or file.stat().st_mtime_ns != changed)
    times = (first - clicked, shown - clicked, time.monotonic() - clicked)
    print("first preview {:.2f} s, on the page {:.2f} s, second preview {:.2f} s".format(*times))
    _finish(queue, job)


def overhead(case: Case, queue: Queue) -> None:
    """A job against its command, see the module."""
    for module in worker._IMPORTED:
        importlib.import_module(module)
    runner = worker._Worker(case.folder.parent, "cpu", command)
    ids, paths = zip(*((one.id, one.path) for one in case.originals()), strict=True)
    for turn in range(2):
        began = _cpu()
        argv = ["enhance", *paths, "-o", f"alone{turn}/", "--preset", "fast", "-s", "2", "--evidence"]
        child = Child(command, argv, case.folder, {"CUDA_VISIBLE_DEVICES": ""})
        while not child.ended:
            child.read(1)
        assert child.code() == 0
        alone, began = _cpu() - began, _cpu()
        job = _enhance(case, queue, ids)
        claimed = queue.claim("cpu")
        assert claimed is not None
        runner._do(claimed)
        assert queue.job(job.id).state == "done"
        page = _cpu() - began
        print(f"command {alone:.1f} s, job {page:.1f} s of CPU: {page / alone - 1:+.1%}")


def _work(cases: Path) -> None:
    worker.run(cases, "cpu", command)


def _enhance(case: Case, queue: Queue, ids: Sequence[str]) -> Job:
    body = Body(kind="enhance", originals=list(ids), options={"method": "fast"})
    return queue_job(case, queue, body, "benchmark", {})


def _finish(queue: Queue, job: Job) -> None:
    _wait(lambda: queue.job(job.id).state == "done")


def _wait(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.005)


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Make a case of faces, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("load", "upload", "preview", "overhead"))
    parser.add_argument("faces", type=Path, nargs="?", help="a folder; not of `upload`")
    parser.add_argument("--count", type=int, default=100, help="of faces")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30, help="that clients ask for")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds after each answer")
    parser.add_argument("--gb", type=float, default=2, help="size of the upload")
    parser.add_argument("--idle", action="store_true", help="no job beside the load")
    options = parser.parse_args()
    if (options.faces is None) != (options.part == "upload"):
        parser.error("give a folder of faces to load, preview and overhead, and none to upload")
    with tempfile.TemporaryDirectory(prefix="zssr-gan-web-") as folder:
        cases = Path(folder) / "cases"
        cases.mkdir()
        if options.part == "upload":
            with server(cases) as running:
                upload(running, Path(folder), round(options.gb * 1e9))
            return
        case = create_case(cases, "Benchmark", "benchmark")
        count = 1 + _PREVIEWS if options.part == "preview" else options.count
        for path in sorted(options.faces.glob("*.png"))[:count]:
            with Image.open(path) as picture:
                picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(f"{folder}/upload.png")
            case.add_original(Path(folder, "upload.png"), path.name, "benchmark")
        if options.part == "load":
            with server(cases) as running:
                load(running, case.id, options.clients, options.seconds, options.pause, idle=options.idle)
        else:
            queue = Queue(cases / SERVER_FOLDER / "queue.sqlite")
            (preview if options.part == "preview" else overhead)(case, queue)


if __name__ == "__main__":
    main()
