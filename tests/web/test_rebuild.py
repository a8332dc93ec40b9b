import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from zssr_gan.web import log
from zssr_gan.web.case_folder import SERVER_FOLDER, Case, create_case
from zssr_gan.web.commands import log_queued, why_refused
from zssr_gan.web.queue import Job, Queue
from zssr_gan.web.rebuild import open_queue


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return tmp_path / "cases"


@pytest.fixture
def case(cases: Path) -> Case:
    return create_case(cases, "A", "ann")


def file_of(cases: Path) -> Path:
    return cases / SERVER_FOLDER / "queue.sqlite"


def add(queue: Queue, case: Case, *words: str, user: str = "ann") -> Job:
    argv: Callable[[int], Sequence[str]] = lambda n: words or ["enhance", "originals/a.png", "-o", f"results/{n}_enhance/"]  # noqa: E731, E501  # fmt: skip
    job = queue.add(case.id, user, "enhance", argv, "Enhance 1 picture x2", pictures=1, pixels=9)
    log_queued(case, job)
    return job


def lose(path: Path) -> None:
    for file in path.parent.glob("queue.sqlite*"):
        file.unlink()


def checkpoint(path: Path) -> None:
    """Move all that is in the write-ahead log into the file."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma wal_checkpoint(truncate)")


def fill_with_garbage(path: Path) -> None:
    checkpoint(path)
    path.write_bytes(random.Random(0).randbytes(20_000))


def cut(path: Path) -> None:
    checkpoint(path)
    path.write_bytes(path.read_bytes()[:9000])


def overwrite_a_page(path: Path) -> None:
    checkpoint(path)
    data = bytearray(path.read_bytes())
    data[4096:8192] = random.Random(1).randbytes(4096)
    path.write_bytes(data)


def drop_a_column(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("alter table jobs drop column message")


@pytest.mark.parametrize("damage", [lose, fill_with_garbage, cut, overwrite_a_page, drop_a_column])
def test_a_queue_that_is_lost_or_damaged_is_made_again(cases: Path, case: Case, damage: Callable[[Path], None]) -> None:
    queue, notice = open_queue(cases)
    assert notice is None
    other = create_case(cases, "B", "bob")
    waiting, done, started = add(queue, case), add(queue, case), add(queue, other, user="bob")
    ended = {"code": 0, "state": "done", "message": "1 image", "files": {}}
    log.append(case.folder, "ann", "job started", job=done.id, attempt=1)
    when = log.append_once(case.folder, "ann", "job ended", done.id, 1, **ended)["time"]
    log.append(other.folder, "bob", "job started", job=started.id, attempt=1)
    expected = queue.job(waiting.id)
    del queue
    damage(file_of(cases))
    queue, notice = open_queue(cases)
    assert notice is not None
    assert "3 jobs were read from the logs of the cases, 2 of them wait again" in notice
    assert queue.job(waiting.id).command == expected.command
    assert (queue.job(waiting.id).title, queue.job(waiting.id).pixels) == ("Enhance 1 picture x2", 9)
    found = queue.job(done.id)
    assert (found.state, found.message, found.ended) == ("done", "1 image", when)
    claimed = [queue.claim("cpu"), queue.claim("cpu")]
    assert [job.id for job in claimed if job] == [started.id, waiting.id]  # what was interrupted comes first
    assert add(queue, case).id == 4
    moved = list(cases.glob(f"{SERVER_FOLDER}/queue-damaged-*.sqlite"))
    assert len(moved) == (damage is not lose)
    assert all(path.name in notice for path in moved)
    assert open_queue(cases)[1] is None  # nothing is added twice
    assert len(queue.jobs()) == 4


def test_what_was_stopped_or_resumed_stays_so(cases: Path, case: Case) -> None:
    queue, _ = open_queue(cases)
    stopped, resumed = add(queue, case), add(queue, case)
    for job in (stopped, resumed):
        log.append_once(case.folder, "ann", "job ended", job.id, 1, code=130, state="stopped", message="m", files={})
    log.append(case.folder, "ann", "job resumed", job=resumed.id, attempt=2)
    lose(file_of(cases))
    queue, _ = open_queue(cases)
    assert [(job.state, job.attempt) for job in queue.jobs()] == [("stopped", 1), ("queued", 2)]


@pytest.mark.parametrize(
    "words",
    [
        ["enhance", "originals/a.png", "-o", "/etc/x.png"],
        ["enhance", "originals/a.png", "-o/etc/x.png"],
        ["enhance", "originals/a.png", "--output=/etc/x.png"],
        ["enhance", "originals/a.png", "-o", "results/../../x.png"],
        ["enhance", "originals/a.png", "-o", ".."],
        ["enhance", "originals/a.png", "-o", "~"],
        ["enhance", "/etc/passwd", "-o", "results/1.png"],
        ["train", "a.yaml"],
        ["web-worker", "a"],
        [],
    ],
)
def test_a_strangers_log_starts_nothing_outside_its_case(cases: Path, case: Case, words: list[str]) -> None:
    log.append(case.folder, "eve", "job queued", job=1, attempt=1, kind="enhance", argv=words)
    (job,) = open_queue(cases)[0].jobs()
    assert (job.state, job.attempt) == ("stopped", 1)
    assert (
        job.message == "the queue was lost before this job ended, and its command leads out of the case: it is not run"
    )
    assert "leads out of its case" in (why_refused(case, job.argv) or "")  # also when it is resumed


@pytest.mark.parametrize(
    ("act", "facts"),
    [
        ("job queued", {"job": [1]}),
        ("job queued", {"job": 10**30, "kind": "enhance", "argv": []}),
        ("job queued", {"job": -1, "kind": "enhance", "argv": []}),
        ("job queued", {"job": 1, "kind": "enhance", "argv": "enhance"}),
        ("job queued", {"job": 1, "kind": "enhance", "argv": [], "pixels": 10**30}),
        ("job queued", {"job": 1, "kind": {"a": 1}, "argv": [[[1]]]}),
        ("job ended", {"job": 5, "state": "running", "attempt": 1}),
        ("job ended", {"job": 5, "state": "gone", "attempt": "x"}),
    ],
)
def test_lines_that_name_no_job_are_left_out(cases: Path, case: Case, act: str, facts: dict[str, Any]) -> None:
    if act != "job queued":
        log.append(case.folder, "eve", "job queued", job=5, kind="enhance", argv=["enhance"])
    log.append(case.folder, "eve", act, **facts)
    queue, _ = open_queue(cases)
    assert queue.jobs() == []


def test_an_older_log_has_no_titles(cases: Path, case: Case) -> None:
    log.append(case.folder, "ann", "job queued", job=7, attempt=1, kind="fuse", argv=["fuse", "-o", "results/7_fuse"])
    (job,) = open_queue(cases)[0].jobs()
    assert (job.id, job.title, job.state, job.created[:2]) == (7, "Fuse", "queued", "20")


def test_a_number_of_the_log_is_not_given_again(case: Case) -> None:
    log.append(case.folder, "ann", "job queued", job=7, attempt=1, kind="fuse", argv=["fuse"])
    for stranger in ("8", 10**9 + 1, 10**15 - 1):
        log.append(case.folder, "ann", "job queued", job=stranger, kind="fuse", argv=["fuse"])
    (case.folder / "results" / "999999999999999_fuse").mkdir()
    assert case.highest_job() == 7


def test_a_copied_case_takes_no_number_of_another(cases: Path, case: Case) -> None:
    queue, _ = open_queue(cases)
    add(queue, case)
    copied = create_case(cases, "B", "bob")
    log.append(copied.folder, "bob", "job queued", job=1, attempt=1, kind="fuse", argv=["fuse", "-o", "results/1_fuse"])
    for _ in range(2):  # the second time by what the first one logged
        lose(file_of(cases))
        jobs = {job.id: job for job in open_queue(cases)[0].jobs() if job.state == "queued"}
        assert {number: job.case for number, job in jobs.items()} == {1: case.id, 2: copied.id}
        assert (jobs[1].argv[-1], jobs[2].argv) == ("results/1_enhance/", ("fuse", "-o", "results/2_fuse"))
    entries = [(entry["act"], entry["facts"]["job"]) for entry in log.read_log(copied.folder)[1:]]
    assert entries == [("job queued", 1), ("job queued", 2), ("job ended", 1)]


def test_a_job_that_waits_has_its_number_before_an_older_one_that_ended(
    cases: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = create_case(cases, "B", "bob")
    with monkeypatch.context() as patch:
        patch.setattr(log, "now", lambda: "2020-01-01T00:00:00+00:00")
        log.append(copied.folder, "bob", "job queued", job=1, attempt=1, kind="fuse", argv=["fuse"])
        log.append_once(copied.folder, "bob", "job ended", 1, 1, code=0, state="done", message="m", files={})
    queue, _ = open_queue(cases)
    lose(file_of(cases))
    log.append(case.folder, "ann", "job queued", job=1, attempt=1, kind="fuse", argv=["fuse", "-o", "results/1_fuse"])
    del queue
    queue, notice = open_queue(cases)
    assert [(job.id, job.case, job.state) for job in queue.jobs()] == [(1, case.id, "queued")]
    assert notice is not None
    assert f"left out; the logs of their cases have them: 1 of {copied.id}." in notice
