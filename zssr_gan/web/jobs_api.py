"""The routes of jobs."""

import asyncio
from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from zssr_gan.web.body import Form, body
from zssr_gan.web.queue import Job, QueueError
from zssr_gan.web.refusals import Refusal
from zssr_gan.web.site import Person, Site, job_facts
from zssr_gan.web.worker import preview_of


class Place(Form):
    """Of POST /api/jobs/J/move: a place among the jobs that wait, from 1."""

    place: Annotated[int, Field(ge=1, le=1_000_000)]


async def all_jobs(site: Site, _request: Request, person: Person) -> Response:
    """GET /api/jobs: of the cases that this person sees."""

    def found() -> list[dict[str, object]]:
        jobs = site.queue.jobs()
        seen = {case for case in {job.case for job in jobs} if site.sees(person, case)}
        return [job_facts(job) for job in jobs if job.case in seen]

    return JSONResponse(await asyncio.to_thread(found))


async def stop(site: Site, request: Request, person: Person) -> Response:
    """POST /api/jobs/J/stop."""
    return await _change(site, request, person, site.queue.stop)


async def resume(site: Site, request: Request, person: Person) -> Response:
    """POST /api/jobs/J/resume."""
    return await _change(site, request, person, site.queue.resume)


async def move(site: Site, request: Request, person: Person) -> Response:
    """POST /api/jobs/J/move."""
    form = await body(request, Place)
    return await _change(site, request, person, lambda number: site.queue.move(number, form.place))


async def preview(site: Site, request: Request, person: Person) -> Response:
    """GET /api/jobs/J/preview.png: the image in work, as it is by now."""
    job = await asyncio.to_thread(_job, site, request, person)
    path = preview_of(site.cases, job.id)
    if not path.is_file():
        raise Refusal(404, f"job {job.id} has no preview now.")
    return Response(await asyncio.to_thread(path.read_bytes), media_type="image/png")


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
    except (QueueError, OverflowError):  # a number that SQLite has not
        seen = False
    if not seen:
        raise Refusal(404, f"there is no job {number}; load the page again.")
    return job
