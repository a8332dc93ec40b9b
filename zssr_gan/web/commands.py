"""Plans and jobs of what the page asks for, with the time that they take on this machine."""

import functools
import math
import re
import shlex
from collections.abc import Container, Hashable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from zssr_gan.files import sha256_file
from zssr_gan.provenance import LABELS
from zssr_gan.web import log, results, tracks
from zssr_gan.web.calibration import Point, expected, measured
from zssr_gan.web.case_folder import SERVER_FOLDER, Case
from zssr_gan.web.memo import stamp
from zssr_gan.web.pictures import CHANGED
from zssr_gan.web.plans import Body, Size, method_of, plan
from zssr_gan.web.queue import Job, Queue

_COMMANDS = ("enhance ", "fuse ", "compare ", "degradation ", "video track ", "case report ", "case package ")
_FOLDERS = ("originals/", "tracks/", "results/", "report/")


def queue_job(case: Case, queue: Queue, body: Body, user: str, sizes: Mapping[str, Size]) -> Job:
    """Queue what a body asks for, and log it. Raises what `plan` does, and OutputError."""
    made = plan(case, body, sizes)
    pictures, pixels = _count_pixels(case, body, sizes)
    job = queue.add(
        case.id, user, made.kind, made.argv, made.title, above=case.highest_job(), pictures=pictures, pixels=pixels
    )
    log_queued(case, job)
    return job


def why_refused(case: Case, argv: Sequence[str]) -> str | None:
    """Why a command is not run: it leads out of the case, or an original is not what was received; None: it may be."""
    originals = {one.path: one for one in case.originals()}
    if not is_inside(argv, originals):
        return "error: this command leads out of its case, as that of a stranger's log may: it is not run"
    for one in (originals[word] for word in argv if word in originals):
        path = case.path_of(one)
        if (now := stamp(path)) is None:
            return f"error: {one.name}: is not there any more"
        if _sha256_of(path, now) != one.sha256:
            return f"error: {one.name}: {CHANGED}"
    return None


def is_inside(argv: Sequence[str], originals: Container[str]) -> bool:
    """Whether a command is one of ours, and works in the case's folder alone."""
    if not " ".join([*argv, ""]).startswith(_COMMANDS):
        return False
    return all(word in originals or _is_inside(word) for word in argv)


def _is_inside(word: str) -> bool:
    if word.startswith(_FOLDERS):
        return ".." not in PurePosixPath(word).parts
    return not re.search(r"/|\.\.|~", word)


@functools.lru_cache(10_000)
def _sha256_of(path: Path, _stamp: Hashable) -> str:
    """`sha256_file`, until the file changes."""
    return sha256_file(path)


def log_queued(case: Case, job: Job) -> None:
    """Log that a job was queued, unless the log says so. Raises OutputError."""
    facts = {name: getattr(job, name) for name in ("kind", "title", "argv", "pictures", "pixels")}
    log.append_once(case.folder, job.user, "job queued", job.id, 1, **facts)


def plan_json(case: Case, queue: Queue, body: Body, sizes: Mapping[str, Size]) -> dict[str, Any]:
    """A plan for the page: command, label, sentence, expected seconds, notices. Raises what `plan` does."""
    made = plan(case, body, sizes)
    pictures, pixels = _count_pixels(case, body, sizes)
    seconds = expected_seconds(queue, case.folder.parent / SERVER_FOLDER, made.kind, made.method, pictures, pixels)
    counted = "time not measured yet on this machine" if pixels else "time not known until the files are read"
    return {
        "command": shlex.join(["zssr-gan", *made.argv(queue.next_number(case.highest_job()))]),
        "label": made.label,
        "tag": f"{made.label} or internal" if made.perhaps_internal else made.label,
        "means": None if made.label is None else LABELS[made.label],
        "sentence": made.sentence,
        "seconds": seconds,
        "untimed": counted if seconds is None else None,
        "notices": list(made.notices),
    }


def _count_pixels(case: Case, body: Body, sizes: Mapping[str, Size]) -> tuple[int, int]:
    """Pictures or frames, and their pixels, of a region its own; 0 where these are not known of all."""
    if name := body.options.get("track"):
        track = results.find(tracks.tracks(case), name, "track")
        frames = min(track["tracked"], body.options.get("frames") or math.inf)
        return int(frames), int(frames) * math.prod(track["region"][2:])
    if body.kind == "enhance" and (region := body.options.get("region")):
        return 1, math.prod(region[2:])
    if not all(number in sizes for number in body.originals):
        return 0, 0
    found = [sizes[number] for number in dict.fromkeys(body.originals)]
    return sum(count for _, _, count in found), sum(width * height * count for width, height, count in found)


def expected_seconds(queue: Queue, server: Path, kind: str, method: str, pictures: int, pixels: int) -> float | None:
    """How long a job takes on this machine, by those that were done here and by what was measured; None: not known.

    Args:
        queue: that holds the jobs.
        server: the folder of what was measured.
        kind, method: of the job.
        pictures, pixels: see `Job`.
    """
    done = [Point(kind, method_of(job.argv), job.pictures, job.pixels, took) for job, took in queue.seconds_of(kind)]
    seconds = expected([*done, *measured(server)], kind, method, pictures, pixels)
    return None if seconds is None else round(seconds, 1)
