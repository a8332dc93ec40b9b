"""The queue of jobs, in SQLite: each is a command in a case's folder, and users take turns.

A job's row changes in one transaction at a time, so that several servers' threads and workers can use one file. What
was answered outlives a power cut (WAL, synchronous=FULL); progress alone may be lost.
"""

import json
import shlex
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from zssr_gan.errors import ZssrGanError
from zssr_gan.web.database import Database
from zssr_gan.web.log import now

State = Literal["queued", "running", "done", "failed", "stopped"]

_ENDED = ("done", "failed", "stopped")

QUICK = "quick"
"""The worker of the jobs that are quick and use no device: they wait for no other kind."""
_IS_QUICK = "(kind in ('camera', 'report', 'package'))"

_SCHEMA = f"""
create table if not exists jobs (
    id integer primary key autoincrement,
    "case" text not null,
    user text not null,
    kind text not null,
    title text not null,
    argv text not null,
    pictures integer not null,
    pixels integer not null,
    state text not null check (state in {get_args(State)}),
    place real not null,
    attempt integer not null default 1,
    stop integer not null default 0,
    worker text,
    turn integer,
    progress text,
    message text,
    created text not null,
    started text,
    ended text,
    changed integer not null
);
create index if not exists jobs_by_state on jobs (state, place);
create index if not exists jobs_by_change on jobs (changed);
"""


class QueueError(ZssrGanError):
    """A job that is not there, or whose state does not allow what is asked."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command of a case."""

    id: int
    case: str
    user: str
    kind: str
    title: str
    argv: tuple[str, ...]
    """Without the program's name."""
    pictures: int
    """Images or frames; 0: not known."""
    pixels: int
    """Of all of them."""
    state: State
    position: int | None
    """Of a queued job in the order of the queue, from 1."""
    attempt: int
    """From 1: how often it was begun, kills not counted."""
    stop: bool
    """Whether a running job was asked to stop."""
    progress: dict[str, Any] | None
    message: str | None
    """Of an ended job: what the command says of it."""
    created: str
    started: str | None
    ended: str | None

    @property
    def command(self) -> str:
        """What a terminal in the case's folder takes."""
        return shlex.join(["zssr-gan", *self.argv])

    @property
    def seconds(self) -> float | None:
        """From its start to its end, or to now."""
        if self.started is None:
            return None
        end = datetime.now().astimezone() if self.ended is None else datetime.fromisoformat(self.ended)
        return (end - datetime.fromisoformat(self.started)).total_seconds()


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"[{name}]" for name in names)  # in double quotes a missing column would be a string


_COLUMNS = [field.name for field in fields(Job) if field.name != "position"]
ANY_JOB = f"select {_quoted([*_COLUMNS, 'worker', 'place', 'turn', 'changed'])} from jobs limit 1"
"""A query that the file of a queue answers."""


class Queue:
    """The queue in a file; for use by several threads and processes.

    Args:
        path: of the file, which is made.

    Raises:
        OutputError: it cannot be written, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    @property
    def is_complete(self) -> bool:
        """Whether it holds the jobs of the cases' logs: not before `restore`."""
        return bool(self._database.connection.execute("pragma user_version").fetchone()[0])

    def restore(self, jobs: Iterable[Job]) -> list[Job]:
        """Add jobs as they are, but those with a number that is taken; returns the added ones. `is_complete` then."""
        names = [name for name in _COLUMNS if name not in ("stop", "progress")] + ["place", "changed"]
        insert = f"insert or ignore into jobs ({_quoted(names)}) values ({', '.join(f':{name}' for name in names)})"
        added = []
        with self._database.writing() as db:
            for job in jobs:
                place = 0 if job.started else job.id  # what was interrupted comes first
                row = asdict(job) | {"argv": json.dumps(job.argv), "place": place, "changed": self._change(db)}
                added += [job] * db.execute(insert, row).rowcount
            db.execute("pragma user_version = 1")
        return added

    def add(
        self,
        case: str,
        user: str,
        kind: str,
        argv: Callable[[int], Sequence[str]],
        title: str,
        *,
        above: int = 0,
        pictures: int = 0,
        pixels: int = 0,
    ) -> Job:
        """Queue a job.

        Args:
            case: its id.
            user: whose turn it takes.
            kind: "enhance", ...
            argv: makes the arguments of the command from the job's number.
            title: for people.
            above: the number is larger than this, as those of the case's results of another machine.
            pictures, pixels: see `Job`.
        """
        with self._database.writing() as db:
            number = self._next(db, above)
            words = json.dumps(list(argv(number)))
            row = (number, case, user, kind, title, words, pictures, pixels, number, now(), self._change(db))
            db.execute(
                'insert into jobs (id, "case", user, kind, title, argv, pictures, pixels, state, place, created, '
                "changed) values (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
                row,
            )
        return self.job(number)

    def next_number(self, above: int = 0) -> int:
        """The number that the next job gets, unless another comes first."""
        return self._next(self._database.connection, above)

    def job(self, number: int) -> Job:
        """One job. Raises QueueError: there is none."""
        for one in self._jobs("where id = ?", number):
            return one
        raise QueueError(f"there is no job {number}; load the page again")

    def jobs(self, case: str | None = None) -> list[Job]:
        """All jobs, or those of a case, by number."""
        return self._jobs("order by id") if case is None else self._jobs('where "case" = ? order by id', case)

    def changes(self, since: int) -> tuple[int, list[Job]]:
        """The number of the last change, and the jobs that changed after the change `since`; cheap where none did."""
        (latest,) = self._database.connection.execute("select coalesce(max(changed), 0) from jobs").fetchone()
        return latest, self._jobs("where changed > ? order by id", since) if latest > since else []

    def claim(self, worker: str) -> Job | None:
        """Take the next job for a device's worker, or for `QUICK`; None where nothing waits.

        It is the first of the user whose last turn is longest ago.
        """
        with self._database.writing() as db:
            row = db.execute(
                f"select id from jobs waiting where state = 'queued' and {_IS_QUICK} = ? order by "
                "(select coalesce(max(turn), 0) from jobs theirs where theirs.user = waiting.user), place, id limit 1",
                (worker == QUICK,),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "update jobs set state = 'running', worker = ?, progress = null, message = null, "
                "ended = null, started = ?, turn = (select coalesce(max(turn), 0) + 1 from jobs), changed = ? "
                "where id = ?",
                (worker, now(), self._change(db), row[0]),
            )
        return self.job(row[0])

    def requeue(self, worker: str) -> list[Job]:
        """Put the jobs that a killed worker left back, before all others; each goes on as the same attempt."""
        with self._database.writing() as db:
            left = [
                row[0] for row in db.execute("select id from jobs where state = 'running' and worker = ?", (worker,))
            ]
            for number in left:
                db.execute(
                    "update jobs set state = 'queued', turn = null, place = (select min(place) - 1 from jobs), "
                    "changed = ? where id = ?",
                    (self._change(db), number),
                )
        return [self.job(number) for number in left]

    def progress(self, number: int, facts: Mapping[str, Any]) -> bool:
        """Note where a running job stands; returns whether it was asked to stop."""
        with self._database.writing(durable=False) as db:
            db.execute(
                "update jobs set progress = ?, changed = ? where id = ? and state = 'running'",
                (json.dumps(dict(facts)), self._change(db), number),
            )
        return self.stops(number)

    def stops(self, number: int) -> bool:
        """Whether a running job was asked to stop."""
        row = self._database.connection.execute("select stop from jobs where id = ?", (number,)).fetchone()
        return row is None or bool(row[0])

    def finish(self, number: int, state: State, message: str | None, ended: str | None = None) -> None:
        """Note the end of a running job: done, failed, stopped, or queued again, which gives its turn back."""
        with self._database.writing() as db:
            db.execute(
                "update jobs set state = ?1, message = ?2, ended = ?3, stop = 0, changed = ?4, "
                "turn = case ?1 when 'queued' then null else turn end where id = ?5 and state = 'running'",
                (state, message, None if state == "queued" else ended or now(), self._change(db), number),
            )

    def stop(self, number: int) -> Job:
        """Stop a job: a queued one at once, a running one when its worker sees it. Raises QueueError: it has ended."""
        with self._database.writing() as db:
            row = db.execute("select state from jobs where id = ?", (number,)).fetchone()
            if row is not None and row[0] in _ENDED:
                raise QueueError(f"job {number} has ended already ({row[0]})")
            change = self._change(db)
            db.execute("update jobs set stop = 1, changed = ? where id = ? and state = 'running'", (change, number))
            db.execute(
                "update jobs set state = 'stopped', message = 'stopped before it began', ended = ?, changed = ? "
                "where id = ? and state = 'queued'",
                (now(), change, number),
            )
        return self.job(number)

    def resume(self, number: int) -> Job:
        """Queue a stopped or failed job again, as its next attempt. Raises QueueError: it is done, or has not ended."""
        with self._database.writing() as db:
            done = db.execute(
                "update jobs set state = 'queued', attempt = attempt + 1, place = (select max(place) + 1 from jobs), "
                "message = null, progress = null, ended = null, stop = 0, changed = ? "
                "where id = ? and state in ('stopped', 'failed')",
                (self._change(db), number),
            )
            if done.rowcount == 0:
                raise QueueError(f"job {number} is not stopped and has not failed: there is nothing to resume")
        return self.job(number)

    def move(self, number: int, place: int) -> Job:
        """Give a queued job another place among its user's that wait, from 1. Raises QueueError: it does not wait."""
        with self._database.writing() as db:
            own = db.execute(
                "select id, place from jobs where state = 'queued' and user = (select user from jobs where id = ?) "
                "order by place, id",
                (number,),
            ).fetchall()
            waiting, places = [row[0] for row in own], [row[1] for row in own]
            if number not in waiting:
                raise QueueError(f"job {number} does not wait any more, so its place cannot change")
            waiting.remove(number)
            waiting.insert(max(0, place - 1), number)
            for one, new in zip(waiting, places, strict=True):
                db.execute("update jobs set place = ?, changed = ? where id = ?", (new, self._change(db), one))
        return self.job(number)

    def forget(self, case: str) -> None:
        """Remove the jobs of a deleted case. Raises QueueError: one of them runs."""
        with self._database.writing() as db:
            running = db.execute("select id from jobs where \"case\" = ? and state = 'running'", (case,)).fetchone()
            if running is not None:
                raise QueueError(f"job {running[0]} of this case runs; stop it first")
            db.execute('delete from jobs where "case" = ?', (case,))

    def seconds_of(self, kind: str) -> list[tuple[Job, float]]:
        """The last done jobs of a kind with the seconds that they took, the newest first."""
        done = self._jobs("where kind = ? and state = 'done' order by id desc limit 50", kind)
        return [(job, job.seconds) for job in done if job.seconds is not None]

    def _change(self, db: sqlite3.Connection) -> int:
        (latest,) = db.execute("select coalesce(max(changed), 0) + 1 from jobs").fetchone()
        return int(latest)

    def _next(self, db: sqlite3.Connection, above: int) -> int:
        row = db.execute("select seq from sqlite_sequence where name = 'jobs'").fetchone()
        return 1 + max(above, 0 if row is None else int(row[0]))

    def _jobs(self, where: str, *values: object) -> list[Job]:
        rows = self._database.connection.execute(f"select {_quoted(_COLUMNS)} from jobs {where}", values).fetchall()
        jobs = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        places = self._positions() if any(job["state"] == "queued" for job in jobs) else {}
        for job in jobs:
            job |= {
                "argv": tuple(json.loads(job["argv"])),
                "stop": bool(job["stop"]),
                "position": places.get(job["id"]),
            }
            job["progress"] = None if job["progress"] is None else json.loads(job["progress"])
        return [Job(**job) for job in jobs]

    def _positions(self) -> dict[int, int]:
        """In which order queued jobs are claimed, by number: users take turns, and `QUICK` takes its own jobs."""
        execute, found = self._database.connection.execute, dict[int, int]()
        for quick in (False, True):
            waiting = execute(
                f"select user, id from jobs where state = 'queued' and {_IS_QUICK} = ? order by place, id",
                (quick,),
            ).fetchall()
            turns = dict(execute("select user, coalesce(max(turn), 0) from jobs group by user").fetchall())
            last = max(turns.values(), default=0)
            for position in range(1, len(waiting) + 1):
                first = min(waiting, key=lambda row: turns[row[0]])  # the first of several with one turn
                waiting.remove(first)
                last += 1
                turns[first[0]] = last
                found[first[1]] = position
        return found
