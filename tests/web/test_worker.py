import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from tests.processes import ROOT, Running
from zssr_gan.errors import OutputError
from zssr_gan.files import is_leftover, sha256_file
from zssr_gan.inference.verify import verify_record
from zssr_gan.settings.base import write_yaml
from zssr_gan.web import log
from zssr_gan.web.case_folder import SERVER_FOLDER, Case, create_case
from zssr_gan.web.queue import QUICK, Job, Queue
from zssr_gan.web.worker import _Worker, preview_of

TINY = {
    "network": {"depth": 2, "width": 4},
    "schedule": {"kind": "cosine", "iterations": 3},
    "refinement": {"back_projections": 1},
}

Start = Callable[..., Running]


@pytest.fixture
def case(tmp_path: Path, face: Tensor) -> Case:
    """A case with three pictures, and settings in `tiny.yaml` and `slow.yaml`."""
    made = create_case(tmp_path / "cases", "A", "ann")
    pixels = np.round(face[0].numpy() * 255).astype(np.uint8)
    for number in range(3):
        Image.fromarray(np.roll(pixels, number, 0)).save(tmp_path / "upload.png")
        made.add_original(tmp_path / "upload.png", f"{number}.png", "ann")
    for name, iterations in (("tiny", 3), ("slow", 1_000_000)):
        settings = TINY | {"schedule": {"kind": "cosine", "iterations": iterations}}
        (made.folder / f"{name}.yaml").write_text(write_yaml(settings), encoding="utf-8")
    return made


@pytest.fixture
def queue(case: Case) -> Queue:
    return Queue(case.folder.parent / SERVER_FOLDER / "queue.sqlite")


@pytest.fixture
def start(case: Case) -> Iterator[Start]:
    """What starts a worker; all end with the test."""
    started: list[Running] = []

    def begin(device: str = "cpu") -> Running:
        started.append(Running("tests.web.workers", str(case.folder.parent), device))
        return started[-1]

    yield begin
    for worker in started:
        if worker.alive:
            os.kill(worker.pid, signal.SIGKILL)


def enhance(queue: Queue, case: Case, *images: str, preset: str = "tiny") -> Job:
    options = ["--preset", f"{preset}.yaml", "--skip-existing", "--threads", "1", "--init", "scratch"]
    return queue.add(
        case.id, "ann", "enhance", lambda n: ["enhance", *images, "-o", f"results/{n}_enhance/", *options], "Enhance"
    )


def wait(worker: Running, condition: Callable[[], object]) -> None:
    worker.until(condition, 60)


def ended(queue: Queue, *jobs: Job) -> bool:
    return all(queue.job(job.id).state in ("done", "failed", "stopped") for job in jobs)


def starts(case: Case) -> int:
    return sum(entry["act"] == "job started" for entry in log.read_log(case.folder))


def check_whole(case: Case, jobs: list[Job]) -> None:
    """Each job ended once, with the files of its log's line, and the chain is unbroken."""
    assert log.verify_log(case.folder).ok
    entries = [entry["facts"] for entry in log.read_log(case.folder) if entry["act"] == "job ended"]
    assert Counter(facts["job"] for facts in entries) == Counter(job.id for job in jobs)
    for facts in entries:
        for name, sha256 in facts["files"].items():
            assert sha256_file(case.folder / name) == sha256
    assert not [path for path in case.folder.rglob("*") if is_leftover(path)]
    for record in case.folder.glob("results/*/*.json"):
        assert verify_record(record).ok


def test_jobs_run_as_the_commands_that_they_show(case: Case, queue: Queue, start: Start) -> None:
    good = enhance(queue, case, "originals/0.png", "originals/1.png")
    bad = enhance(queue, case, "originals/none.png")
    worker = start()
    wait(worker, lambda: ended(queue, good, bad))
    done, failed = queue.job(good.id), queue.job(bad.id)
    assert (done.state, failed.state) == ("done", "failed")
    assert failed.message is not None
    assert failed.message.startswith("error: originals/none.png: no such file")
    folder = case.folder / "results" / f"{good.id}_enhance"
    assert {path.name for path in folder.iterdir()} == {
        *("0_x2.png", "0_x2.json", "1_x2.png", "1_x2.json", "printed.txt")
    }
    assert (folder / "printed.txt").read_text().startswith(f"$ {good.command}\n")
    assert not preview_of(case.folder.parent, good.id).exists()
    check_whole(case, [good, bad])
    acts = [entry["act"] for entry in log.read_log(case.folder) if entry["facts"].get("job") == good.id]
    assert acts == ["job queued", "job started", "job ended"]
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.finish()[0] == 0


def test_the_log_has_the_hash_of_a_report(case: Case, queue: Queue, start: Start) -> None:
    def report(*options: str) -> Job:
        argv = ["case", "report", ".", "-o", "report/index.html", *options]
        return queue.add(case.id, "ann", "report", lambda _n: argv, "Report")

    first, second, refused = report(), report("--overwrite"), report()
    start(QUICK).until(lambda: ended(queue, first, second, refused), 60)
    files = {
        entry["facts"]["job"]: entry["facts"]["files"]
        for entry in log.read_log(case.folder)
        if entry["act"] == "job ended"
    }
    assert files[first.id]["report/index.html"] != files[second.id]["report/index.html"]
    assert files[second.id]["report/index.html"] == sha256_file(case.folder / "report" / "index.html")
    assert queue.job(refused.id).state == "failed"
    assert "report/index.html" not in files[refused.id]


def test_a_running_job_shows_itself_stops_and_resumes(case: Case, queue: Queue, start: Start) -> None:
    job = enhance(queue, case, "originals/0.png", preset="slow")
    worker, preview = start(), preview_of(case.folder.parent, job.id)
    wait(worker, lambda: (queue.job(job.id).progress or {}).get("stage") and preview.exists())
    progress = queue.job(job.id).progress
    assert progress is not None
    assert progress["total"] == 1_000_000
    with Image.open(preview) as picture, Image.open(case.folder / "originals" / "0.png") as source:
        assert picture.size == (2 * source.width, 2 * source.height)
    queue.stop(job.id)
    wait(worker, lambda: ended(queue, job))
    stopped = queue.job(job.id)
    assert (stopped.state, stopped.message) == ("stopped", "stopped; it can go on")
    queue.resume(job.id)
    wait(worker, lambda: queue.job(job.id).state == "running")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.finish()[0] == 0
    assert (queue.job(job.id).state, queue.job(job.id).attempt) == ("queued", 2)
    assert log.verify_log(case.folder).ok
    assert [entry["act"] for entry in log.read_log(case.folder)][-1] == "job interrupted"


def test_a_second_worker_is_refused(case: Case, queue: Queue, start: Start) -> None:
    job = enhance(queue, case, "originals/0.png", preset="slow")
    wait(start(), lambda: queue.job(job.id).state == "running")
    code, printed, _ = Running("tests.web.workers", str(case.folder.parent), "cpu", "0.2").finish()
    assert code == 2
    assert "another zssr-gan web works on these cases on cpu" in printed


def test_a_job_that_was_logged_before_a_kill_is_not_run_again(case: Case, queue: Queue, start: Start) -> None:
    job = enhance(queue, case, "originals/0.png")
    queue.claim("cpu")
    log.append_once(case.folder, "ann", "job ended", job.id, 1, code=0, state="done", message="as logged", files={})
    wait(start(), lambda: ended(queue, job))
    assert queue.job(job.id).message == "as logged"
    assert not (case.folder / "results" / f"{job.id}_enhance").exists()


def test_a_run_that_a_kill_ended_is_logged_at_the_next_start(case: Case, queue: Queue, start: Start) -> None:
    job = enhance(queue, case, "originals/0.png")
    queue.claim("cpu")
    log.append(case.folder, "ann", "job started", job=job.id, attempt=1)
    wait(start(), lambda: ended(queue, job))
    acts = [one for one in log.read_log(case.folder) if one["act"].startswith("job ") and one["act"] != "job queued"]
    assert [one["act"] for one in acts] == ["job started", "job interrupted", "job started", "job ended"]
    assert "noticed" in acts[1]["facts"]


def test_the_child_ends_with_a_killed_worker(case: Case, queue: Queue, start: Start) -> None:
    job = enhance(queue, case, "originals/0.png", preset="slow")
    worker = start()
    wait(worker, lambda: (queue.job(job.id).progress or {}).get("stage"))
    (child,) = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    os.kill(worker.pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("kills", "count"), [(2, 2), pytest.param(50, 20, marks=pytest.mark.slow)])
def test_kills_lose_nothing(case: Case, queue: Queue, start: Start, kills: int, count: int) -> None:
    draws = random.Random(0)
    jobs = [enhance(queue, case, *(f"originals/{n}.png" for n in range(3))) for _ in range(count)]
    for _ in range(kills):
        if ended(queue, *jobs):
            jobs.append(enhance(queue, case, "originals/0.png", "originals/1.png"))
        before, worker = starts(case), start()
        wait(worker, lambda at=before: starts(case) > at)  # type: ignore[misc]
        time.sleep(draws.uniform(0, 0.5))
        os.kill(worker.pid, signal.SIGKILL)
        worker.finish()
    start().until(lambda: ended(queue, *jobs), 600)
    assert [queue.job(job.id).state for job in jobs] == ["done"] * len(jobs)
    check_whole(case, jobs)


def test_sigterm_ends_a_worker_that_only_begins(case: Case) -> None:
    command = [sys.executable, "-c", f"from tests.web.workers import main; main([{str(case.folder.parent)!r}])"]
    worker = subprocess.Popen(command, cwd=ROOT)
    lock = case.folder.parent / SERVER_FOLDER / "worker-cpu.lock"
    while not lock.exists():
        assert worker.poll() is None
        time.sleep(0.005)
    worker.terminate()
    assert worker.wait(60) == 0


def do(case: Case, queue: Queue) -> Job:
    """The next job, after a worker has done it in this process."""
    claimed = queue.claim("cpu")
    assert claimed is not None
    _Worker(case.folder.parent, "cpu", lambda _: 0)._do(claimed)
    return queue.job(claimed.id)


@pytest.mark.parametrize("name", ["results/1_fuse", "results/1_fuse/printed.txt", "results/1_fuse/sub", "tracks/1_a"])
def test_a_job_writes_and_removes_nothing_behind_a_link(case: Case, queue: Queue, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("precious")
    link = case.folder / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere" / ("a.txt" if "." in name else ""))
    queue.add(case.id, "ann", "fuse", lambda n: ["fuse", "originals/0.png", "-o", f"results/{n}_fuse/x.png"], "Fuse")
    failed = do(case, queue)
    assert (failed.state, failed.message) == (
        "failed",
        f"error: {name}: is a link, which may lead out of the case; remove it, then go on",
    )
    assert [path.read_text() for path in (tmp_path / "elsewhere").iterdir()] == ["precious"]
    assert log.read_log(case.folder)[-1]["facts"]["files"] == {}


@pytest.mark.parametrize(("data", "message"), [(b"x", "was changed after it was received"), (None, "is not there any")])
def test_a_changed_original_is_given_to_no_job(case: Case, queue: Queue, data: bytes | None, message: str) -> None:
    path = case.folder / "originals" / "1.png"
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    enhance(queue, case, "originals/0.png")
    enhance(queue, case, "originals/0.png", "originals/1.png")
    assert do(case, queue).state == "done"
    failed = do(case, queue)
    assert failed.state == "failed"
    assert (failed.message or "").startswith(f"error: 1.png: {message}")


def test_a_full_disk_delays_the_end_of_a_job(
    case: Case, queue: Queue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results are whole, and the log's line is written as soon as there is room."""
    job, full = enhance(queue, case, "originals/0.png"), [True, True]
    real, stages = log.append_once, []

    def append_once(folder: Path, user: str, act: str, *more: Any, **facts: Any) -> dict[str, Any]:
        if act == "job ended" and full:
            stages.append((queue.job(job.id).progress or {}).get("stage"))
            full.pop()
            raise OutputError("log.jsonl: no room.")
        return real(folder, user, act, *more, **facts)

    monkeypatch.setattr(log, "append_once", append_once)
    monkeypatch.setattr("zssr_gan.web.worker._SECONDS_FOR_ROOM", 0.01)
    assert do(case, queue).state == "done"
    assert not full
    assert stages[-1] == "waiting: log.jsonl: no room."
    assert capsys.readouterr().err == "log.jsonl: no room. Jobs wait until then.\n"
    check_whole(case, [job])


@pytest.mark.slow
def test_kills_of_the_server_and_of_its_worker_lose_nothing(case: Case, queue: Queue) -> None:
    draws = random.Random(1)
    jobs = [enhance(queue, case, *(f"originals/{n}.png" for n in range(3))) for _ in range(20)]
    cases = case.folder.parent
    command = [sys.executable, "-m", "zssr_gan", "web", "--cases", str(cases), "--port", "0"]

    def begin() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def running() -> bool:
        return any(job.state == "running" and (job.progress or {}).get("stage") for job in queue.jobs())

    server = begin()
    for kill in range(12):
        end = time.monotonic() + 120
        while not (running() or ended(queue, *jobs)):
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        if ended(queue, *jobs):
            jobs.append(enhance(queue, case, "originals/0.png", "originals/1.png"))
        time.sleep(draws.uniform(0, 0.5))
        workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        if kill % 2 and workers:
            os.kill(int(workers[0]), signal.SIGKILL)
        else:
            server.kill()
            server.wait()
            server = begin()
    while not ended(queue, *jobs):
        assert server.poll() is None
        time.sleep(0.1)
    server.terminate()
    assert server.wait(60) == 143
    assert [queue.job(job.id).state for job in jobs] == ["done"] * len(jobs)
    check_whole(case, jobs)


def test_a_worker_does_not_outlive_a_server_that_was_killed_before_it_began(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    command = [sys.executable, "-P", "-m", "zssr_gan", "web-worker", tmp_path / "cases", "cpu", gone.stdout.strip()]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False).returncode == 1
