import threading
from pathlib import Path

import pytest

from zssr_gan.errors import OutputError
from zssr_gan.web.queue import QUICK, Job, Queue, QueueError


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite")


def add(queue: Queue, user: str, case: str = "a", above: int = 0, kind: str = "enhance") -> Job:
    return queue.add(case, user, kind, lambda n: ["enhance", "x y.png", "-o", f"results/{n}_enhance"], "t", above=above)


def test_a_job_is_the_command_line_that_is_shown(queue: Queue) -> None:
    job = add(queue, "ann", above=6)
    assert job.id == 7
    assert job.command == "zssr-gan enhance 'x y.png' -o results/7_enhance"
    assert (job.state, job.position, job.seconds) == ("queued", 1, None)
    assert queue.next_number() == 8


def test_users_take_turns_as_their_positions_say(queue: Queue) -> None:
    ann = [add(queue, "ann").id for _ in range(3)]
    bob = [add(queue, "bob").id for _ in range(2)]
    expected = [ann[0], bob[0], ann[1], bob[1], ann[2]]
    by_position = sorted(queue.jobs(), key=lambda job: job.position or 0)
    assert [job.id for job in by_position] == expected
    claimed = []
    while (job := queue.claim("cpu")) is not None:
        claimed.append(job.id)
    assert claimed == expected


def test_reports_and_packages_wait_for_no_other_job(queue: Queue) -> None:
    long = [add(queue, "ann") for _ in range(3)]
    report, package = add(queue, "ann", kind="report"), add(queue, "ann", kind="package")
    assert [queue.job(job.id).position for job in (*long, report, package)] == [1, 2, 3, 1, 2]
    claimed = [queue.claim(worker) for worker in (QUICK, "cpu", QUICK, QUICK, "cpu")]
    assert [job and job.id for job in claimed] == [report.id, long[0].id, package.id, None, long[1].id]


def test_each_job_is_claimed_once_by_several_workers(queue: Queue) -> None:
    numbers = [add(queue, f"user{n % 3}").id for n in range(30)]
    claimed: list[int] = []

    def work(worker: str) -> None:
        while (job := queue.claim(worker)) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == numbers


def test_what_a_killed_worker_left_comes_first_as_the_same_attempt(queue: Queue) -> None:
    first = add(queue, "ann")
    add(queue, "ann")
    add(queue, "bob")
    assert queue.claim("cpu") is not None
    assert queue.requeue("cuda:0") == []
    assert [job.id for job in queue.requeue("cpu")] == [first.id]
    again = queue.claim("cpu")
    assert again is not None
    assert (again.id, again.attempt) == (first.id, 1)


def test_a_stop_outlives_a_kill_of_the_worker(queue: Queue) -> None:
    job = add(queue, "ann")
    queue.claim("cpu")
    queue.stop(job.id)
    queue.requeue("cpu")
    queue.claim("cpu")
    assert queue.stops(job.id)
    queue.finish(job.id, "stopped", None)
    queue.resume(job.id)
    queue.claim("cpu")
    assert not queue.stops(job.id)


def test_stop_and_resume(queue: Queue) -> None:
    running, waiting = add(queue, "ann"), add(queue, "ann")
    queue.claim("cpu")
    assert queue.stop(waiting.id).state == "stopped"
    assert queue.stop(running.id).stop
    assert queue.progress(running.id, {"done": 1})
    queue.finish(running.id, "stopped", "stopped")
    with pytest.raises(QueueError, match="has ended already"):
        queue.stop(running.id)
    resumed = queue.resume(running.id)
    assert (resumed.state, resumed.attempt, resumed.progress) == ("queued", 2, None)
    queue.claim("cpu")
    queue.finish(running.id, "done", "done")
    with pytest.raises(QueueError, match="nothing to resume"):
        queue.resume(running.id)
    with pytest.raises(QueueError, match="no job 99"):
        queue.stop(99)


def test_a_waiting_job_moves(queue: Queue) -> None:
    one, two, three = (add(queue, "ann").id for _ in range(3))
    assert queue.move(three, 1).position == 1
    assert [queue.job(number).position for number in (one, two, three)] == [2, 3, 1]
    queue.claim("cpu")
    with pytest.raises(QueueError, match="does not wait"):
        queue.move(three, 2)


def test_a_job_moves_among_those_of_its_user(queue: Queue) -> None:
    ann = [add(queue, "ann").id for _ in range(2)]
    bob = [add(queue, "bob").id for _ in range(3)]
    assert queue.move(bob[2], 1).position == 2
    assert [queue.job(number).position for number in (*ann, *bob)] == [1, 3, 4, 5, 2]


def test_who_is_interrupted_goes_on_before_others(queue: Queue) -> None:
    first = add(queue, "ann").id
    add(queue, "ann")
    add(queue, "bob")
    assert queue.claim("cpu") is not None
    queue.finish(first, "queued", None)
    again = queue.claim("cpu")
    assert again is not None
    assert (again.id, again.attempt) == (first, 1)


def test_changes_name_the_jobs_that_changed(queue: Queue) -> None:
    one, two = add(queue, "ann"), add(queue, "ann")
    latest, jobs = queue.changes(0)
    assert [job.id for job in jobs] == [one.id, two.id]
    assert queue.changes(latest) == (latest, [])
    queue.claim("cpu")
    queue.progress(one.id, {"done": 3, "total": 9})
    latest, (job,) = queue.changes(latest)
    assert job.progress == {"done": 3, "total": 9}


def test_a_case_with_a_running_job_is_not_forgotten(queue: Queue) -> None:
    job = add(queue, "ann", "a")
    queue.claim("cpu")
    with pytest.raises(QueueError, match="stop it first"):
        queue.forget("a")
    queue.finish(job.id, "done", None)
    queue.forget("a")
    assert queue.jobs() == []
    assert add(queue, "ann").id == job.id + 1


def test_a_damaged_file_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(OutputError, match=r"the queue cannot be used \(file is not a database\); start 'zssr-gan web'"):
        Queue(tmp_path / "queue.sqlite")
