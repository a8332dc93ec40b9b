"""The routes of jobs: methods to choose from, plans, the queue."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from zssr_gan.web import log
from zssr_gan.web.body import Form, body
from zssr_gan.web.case_folder import Case
from zssr_gan.web.commands import plan_json, queue_job
from zssr_gan.web.methods import METHODS
from zssr_gan.web.pictures import CHANGED
from zssr_gan.web.pictures_api import facts_of, list_frames, listed
from zssr_gan.web.plans import Body, CommandError, Size
from zssr_gan.web.queue import Job, QueueError
from zssr_gan.web.refusals import Refusal
from zssr_gan.web.site import Person, Site, job_facts
from zssr_gan.web.worker import hashes_of, preview_of


class Place(Form):
    """Of POST /api/jobs/J/move: a place among its user's jobs that wait, from 1."""

    place: Annotated[int, Field(ge=1, le=1_000_000)]


async def methods(_site: Site, _request: Request, _person: Person) -> Response:
    """GET /api/methods."""
    return JSONResponse([asdict(method) for method in METHODS])


async def plan_job(site: Site, request: Request, person: Person) -> Response:
    """POST /api/cases/ID/plan: what a job would do; nothing is run."""
    asked = await body(request, Body)

    def find() -> dict[str, Any]:
        case = site.case(request.path_params["case"], person)
        return plan_json(case, site.queue, asked, _sizes(site, case, asked))

    return JSONResponse(await asyncio.to_thread(find))


async def new_job(site: Site, request: Request, person: Person) -> Response:
    """POST /api/cases/ID/jobs."""
    asked = await body(request, Body)

    def queue() -> dict[str, object]:
        case = site.case(request.path_params["case"], person)
        return job_facts(queue_job(case, site.queue, asked, person.name, _sizes(site, case, asked)))

    return JSONResponse(await asyncio.to_thread(queue), 201)


async def all_jobs(site: Site, _request: Request, person: Person) -> Response:
    """GET /api/jobs: of the cases that this person sees."""

    def found() -> list[dict[str, object]]:
        jobs = site.queue.jobs()
        seen = {case for case in {job.case for job in jobs} if site.sees(person, case)}
        return [job_facts(job) for job in jobs if job.case in seen]

    return JSONResponse(await asyncio.to_thread(found))


async def stop(site: Site, request: Request, person: Person) -> Response:
    """POST /api/jobs/J/stop."""

    def stop_job(number: int) -> Job:
        job = site.queue.stop(number)
        case = site.case(job.case, person)
        if job.state == "stopped":
            facts: dict[str, Any] = {"code": None, "message": job.message, "kind": job.kind, "state": job.state}
            files = hashes_of(case, job, job.state)  # of a run that a stop of the server interrupted
            log.append_once(case.folder, person.name, "job ended", job.id, job.attempt, **facts, files=files)
        else:
            log.append(case.folder, person.name, "job stop asked", job=job.id, attempt=job.attempt)
        return job

    return await _change(site, request, person, stop_job)


async def resume(site: Site, request: Request, person: Person) -> Response:
    """POST /api/jobs/J/resume."""

    def resume_job(number: int) -> Job:
        job = site.queue.resume(number)
        folder = site.case(job.case, person).folder
        log.append(folder, person.name, "job resumed", job=job.id, attempt=job.attempt)
        return job

    return await _change(site, request, person, resume_job)


async def move(site: Site, request: Request, person: Person) -> Response:
    """POST /api/jobs/J/move."""
    form = await body(request, Place)

    def move_job(number: int) -> Job:
        job = site.queue.move(number, form.place)
        log.append(site.case(job.case, person).folder, person.name, "job moved", job=job.id, place=form.place)
        return job

    return await _change(site, request, person, move_job)


async def preview(site: Site, request: Request, person: Person) -> Response:
    """GET /api/jobs/J/preview.png: the image in work, as it is by now; no content where there is none any more."""
    job = await asyncio.to_thread(_job, site, request, person)
    try:
        data = await asyncio.to_thread(preview_of(site.cases, job.id).read_bytes)
    except OSError:  # the job has ended since the page was told of it
        return Response(status_code=204)
    return Response(data, media_type="image/png")


def _sizes(site: Site, case: Case, asked: Body) -> dict[str, Size]:
    """Width, height and frames of the originals of which they are known; frames are counted for the next time.

    Raises CommandError: one that is asked for was changed, or has not the frame that is asked for.
    """
    found = {}
    for original in site.originals(case).values():
        known, is_asked = facts_of(site, case, original), original.id in asked.originals
        if is_asked and known["problem"] == CHANGED:
            raise CommandError(f"{original.name}: {CHANGED}")
        frames = known["frames"] or (1 if original.kind == "image" else 0)
        if is_asked and original.kind == "video" and known["width"] is not None:
            if (all_frames := listed(site, case, original)) is not None:
                frames, frame = all_frames["count"], asked.options.get("frame")
                if asked.kind == "track" and isinstance(frame, int) and frame >= frames:
                    raise CommandError(f"{original.name}: has no frame {frame}; it has {frames}, from 0 on")
            elif not frames:
                list_frames(site, case, original)
        if known["width"] is not None:
            found[original.id] = known["width"], known["height"], frames
    return found


async def _change(site: Site, request: Request, person: Person, change: Callable[[int], Job]) -> Response:
    def changed() -> Job:
        return change(_job(site, request, person).id)

    return JSONResponse(job_facts(await asyncio.to_thread(changed)))


def _job(site: Site, request: Request, person: Person) -> Job:
    """The job of a request. Raises Refusal, also for one of a case that this person does not see."""
    number = request.path_params["job"]
    try:
        job = site.queue.job(number)
        seen = site.sees(person, job.case)
    except QueueError:
        seen = False
    if not seen:
        raise Refusal(404, f"there is no job {number}; load the page again.")
    return job
