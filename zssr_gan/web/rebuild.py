"""The queue, made again from the logs of the cases where its file is lost or damaged."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zssr_gan.web import log
from zssr_gan.web.case_folder import SERVER_FOLDER, Case, list_cases
from zssr_gan.web.commands import is_inside, log_queued
from zssr_gan.web.database import set_aside_damaged
from zssr_gan.web.names import LARGEST_JOB
from zssr_gan.web.queue import ANY_JOB, Job, Queue

_LOST = "the queue was lost before this job ended, and its command leads out of the case: it is not run"

_JOB = TypeAdapter(Job)


def open_queue(cases: Path) -> tuple[Queue, str | None]:
    """The queue of a folder of cases; nobody else may have it open.

    A damaged file is renamed. Jobs of the logs that the queue lacks are added: those that had not ended wait again.

    Returns:
        The queue, and a sentence where jobs were added or the file was damaged.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = cases / SERVER_FOLDER / "queue.sqlite"
    damaged = set_aside_damaged(path, ANY_JOB)
    queue = Queue(path)
    if queue.is_complete:
        return queue, None
    jobs = [(case, job) for case in list_cases(cases) for job in _jobs_of(case)]
    jobs, left_out = _with_own_numbers(sorted(jobs, key=lambda one: (one[1].state != "queued", one[1].created)), queue)
    added = queue.restore(job for _, job in jobs)
    if not (added or damaged):
        return queue, None
    waiting = sum(job.state == "queued" for job in added)
    what = (
        f"{path} was damaged and is renamed {damaged.name}" if damaged else f"{path} was missing or of an old version"
    )
    text = f"{what}: {len(added)} jobs were read from the logs of the cases, {waiting} of them wait again."
    if left_out:
        named = ", ".join(f"{job.id} of {job.case}" for job in left_out[:10])
        text += f" Ended jobs with the number of another are left out; the logs of their cases have them: {named}"
        text += f" and {len(left_out) - 10} more." if len(left_out) > 10 else "."
    return queue, text


def _with_own_numbers(jobs: list[tuple[Case, Job]], queue: Queue) -> tuple[list[tuple[Case, Job]], list[Job]]:
    """The jobs, a waiting one whose number is taken, as copied cases may have it, under a new one; and the left out.

    Args:
        jobs: those that wait come first.
        queue: whose jobs have their numbers.
    """
    taken = {job.id: job.case for job in queue.jobs()}
    last = queue.next_number(above=max((job.id for _, job in jobs), default=0)) - 1
    found, left_out = list[tuple[Case, Job]](), list[Job]()
    for case, job in jobs:
        if taken.setdefault(job.id, job.case) == job.case:
            found.append((case, job))
        elif job.state == "queued":
            last += 1
            found.append((case, _renumbered(case, job, last)))
        else:
            left_out.append(job)
    return found, left_out


def _renumbered(case: Case, job: Job, number: int) -> Job:
    """The job under another number, which also its output gets; its log says so."""
    own = re.compile(rf"(results|tracks|report)/{job.id}_")
    argv = tuple(own.sub(rf"\g<1>/{number}_", word) if own.match(word) else word for word in job.argv)
    new = replace(job, id=number, argv=argv, attempt=1, started=None)
    log_queued(case, new)
    facts = {"code": None, "state": "stopped", "message": f"another job has this number: it is job {number} now"}
    log.append_once(case.folder, job.user, "job ended", job.id, job.attempt, **facts, files={})
    return new


def _jobs_of(case: Case) -> Iterator[Job]:
    """The jobs in the log of a case, in the state that it leaves them in; what is no job is left out."""
    found: dict[str, dict[str, Any]] = {}
    originals = {one.path for one in case.originals()}
    for entry in log.read_log(case.folder):
        act, facts, time, number = entry["act"], entry["facts"], entry["time"], str(entry["facts"].get("job"))
        again = {"state": "queued", "ended": None, "message": None, "attempt": facts.get("attempt", 1)}
        if act == "job queued":
            known = {name: facts[name] for name in ("kind", "argv", "title", "pictures", "pixels") if name in facts}
            default = {"title": str(facts.get("kind")).capitalize(), "pictures": 0, "pixels": 0}  # of an older log
            of_row = {"stop": False, "position": None, "progress": None, "started": None, "created": time}
            who = {"id": facts.get("job"), "case": case.id, "user": entry["user"]}
            found[number] = default | known | of_row | who | again
        elif number in found and act == "job started":
            found[number] |= again | {"started": time}
        elif number in found and act == "job resumed" and facts.get("attempt") != found[number]["attempt"]:
            found[number] |= again
        elif number in found and act == "job ended":
            found[number] |= again | {"state": facts.get("state"), "message": facts.get("message"), "ended": time}
    for facts in found.values():
        argv = facts["argv"] if isinstance(facts.get("argv"), list) else []
        if facts["state"] == "queued" and not is_inside([str(word) for word in argv], originals):
            facts |= {"state": "stopped", "message": _LOST, "ended": log.now()}
        try:
            job = _JOB.validate_python(facts)
            sound = job.state != "running" and (job.seconds or 0) >= 0
        except (ValidationError, ValueError, TypeError):  # a time that is none
            continue
        if sound and all(0 <= number <= LARGEST_JOB for number in (job.id, job.attempt, job.pictures, job.pixels)):
            yield job
