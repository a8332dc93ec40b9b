"""The routes of cases and of uploads into them."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from zssr_gan.errors import OutputError
from zssr_gan.web import case_folder, opened
from zssr_gan.web.body import Form, body
from zssr_gan.web.case_folder import Case, Original
from zssr_gan.web.pictures_api import facts_of, look, wait_for
from zssr_gan.web.refusals import Refusal
from zssr_gan.web.results import estimates, handed_over, results
from zssr_gan.web.results_api import keys_of, public
from zssr_gan.web.site import Person, Site, job_facts
from zssr_gan.web.tracks import tracks
from zssr_gan.web.uploads import CHUNK_BYTES, PROOF_BYTES, Upload
from zssr_gan.web.worker import preview_of

_PATIENCE_S = 3.0  # for the facts of a file that just came

_Line = Annotated[str, Field(max_length=200)]


class CaseForm(Form):
    """Of POST /api/cases and PUT /api/cases/ID."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    number: _Line = ""
    operator: _Line = ""


class Folder(Form):
    """Of POST /api/cases/open."""

    folder: Annotated[str, Field(min_length=1, max_length=4096)]


class Confirmation(Form):
    """Of DELETE /api/cases/ID: the case's title, typed again."""

    title: str


class NewUpload(Form):
    """Of POST /api/cases/ID/uploads."""

    name: str
    bytes: Annotated[int, Field(lt=1 << 60)]


async def all_cases(site: Site, _request: Request, person: Person) -> Response:
    """GET /api/cases."""

    def found() -> list[dict[str, Any]]:
        running = Counter(job.case for job in site.queue.jobs() if job.state in ("queued", "running"))
        return [
            {**_summary(site, case), "results": len(site.made(case, "results", results)), "running": running[case.id]}
            for case in site.cases_of(person)
        ] + site.unreadable(person)

    return JSONResponse(await asyncio.to_thread(found))


async def new_case(site: Site, request: Request, person: Person) -> Response:
    """POST /api/cases."""
    form = await body(request, CaseForm)
    case = await asyncio.to_thread(
        case_folder.create_case, site.cases, form.title, person.name, number=form.number, operator=form.operator
    )
    return await _answer(site, case)


async def open_folder(site: Site, request: Request, person: Person) -> Response:
    """POST /api/cases/open: by an admin alone where there are users, since it reads any folder of this machine."""
    form = await body(request, Folder)
    if not person.admin:
        raise Refusal(403, "only an admin may open a folder of this machine as a case.")
    if "\0" in form.folder:
        raise Refusal(400, "no folder has such a name.")
    folder = Path(form.folder)
    with contextlib.suppress(RuntimeError):  # no such user's home
        folder = folder.expanduser()
    if not folder.is_absolute():
        raise Refusal(400, f"{form.folder}: give the whole path of the folder, such as {Path.home() / 'footage'}.")
    return await _answer(site, await asyncio.to_thread(opened.open_folder, site.cases, folder, person.name))


async def one_case(site: Site, request: Request, person: Person) -> Response:
    """GET /api/cases/ID."""
    return await _answer(site, await asyncio.to_thread(site.case, request.path_params["case"], person))


async def edit_case(site: Site, request: Request, person: Person) -> Response:
    """PUT /api/cases/ID."""
    form = await body(request, CaseForm)

    def edit() -> Case:
        case = site.case(request.path_params["case"], person)
        return case_folder.edit_case(case, person.name, form.title, form.number, form.operator)

    case = await asyncio.to_thread(edit)
    site.events.changed(case.id)
    return await _answer(site, case)


async def delete_case(site: Site, request: Request, person: Person) -> Response:
    """DELETE /api/cases/ID."""
    form = await body(request, Confirmation)

    def delete() -> None:
        case = site.case(request.path_params["case"], person)
        if form.title != case.facts.title:
            raise Refusal(400, f"to delete this case, type its title: {case.facts.title}")
        jobs, shown = site.queue.jobs(case.id), keys_of(case)
        site.queue.forget(case.id)
        site.uploads.drop_all(case.id)
        site.events.changed(case.id, lambda: case_folder.delete_case(case, person.name))
        site.pictures.forget(shown)
        for job in jobs:
            preview_of(site.cases, job.id).unlink(missing_ok=True)

    await asyncio.to_thread(delete)
    return JSONResponse({})


async def new_upload(site: Site, request: Request, person: Person) -> Response:
    """POST /api/cases/ID/uploads."""
    form = await body(request, NewUpload)

    def begin() -> Upload:
        case = site.case(request.path_params["case"], person)
        return site.uploads.begin(case.id, person.name, form.name, form.bytes)

    upload = await asyncio.to_thread(begin)
    return JSONResponse({"id": upload.id, "offset": 0, "chunk_bytes": CHUNK_BYTES}, 201)


async def all_uploads(site: Site, request: Request, person: Person) -> Response:
    """GET /api/cases/ID/uploads: those that are not whole yet."""
    case = await asyncio.to_thread(site.case, request.path_params["case"], person)
    found = site.uploads.of_case(case.id)
    return JSONResponse(
        [{"id": one.id, "name": one.facts.name, "bytes": one.facts.bytes, "offset": one.offset} for one in found]
    )


async def upload_proof(site: Site, request: Request, person: Person) -> Response:
    """GET /api/cases/ID/uploads/U/proof: where it goes on, and the hash of what is there."""
    _, upload = await _upload(site, request, person)
    async with upload.lock:
        proof = await asyncio.to_thread(upload.proof)
        return JSONResponse({"offset": upload.offset, "proof": proof, "piece_bytes": PROOF_BYTES})


async def upload_state(site: Site, request: Request, person: Person) -> Response:
    """GET /api/cases/ID/uploads/U: where it goes on, once what came before is on the disk."""
    _, upload = await _upload(site, request, person)
    async with upload.lock:
        return JSONResponse({"offset": upload.offset})


async def upload_bytes(site: Site, request: Request, person: Person) -> Response:
    """PUT /api/cases/ID/uploads/U: raw bytes from Upload-Offset on; the last ones make it an original."""
    case, upload = await _upload(site, request, person)
    offset = request.headers.get("upload-offset", "")
    if not (offset.isascii() and offset.isdecimal() and len(offset) < 20):
        raise Refusal(400, "the header Upload-Offset says at which byte the upload goes on.")
    await upload.receive(int(offset), request.stream())
    async with upload.lock:
        if upload.offset < upload.facts.bytes:
            return JSONResponse({"offset": upload.offset, "original": None})
        original = await asyncio.to_thread(_received, site, case, upload)
    if original.kind != "other":
        with contextlib.suppress(Refusal):  # which the facts will tell
            await wait_for(look(site, case, original), _PATIENCE_S)
    site.events.changed(case.id)
    return JSONResponse({"offset": upload.facts.bytes, "original": facts_of(site, case, original)})


async def delete_upload(site: Site, request: Request, person: Person) -> Response:
    """DELETE /api/cases/ID/uploads/U."""
    _, upload = await _upload(site, request, person)
    async with upload.lock:
        await asyncio.to_thread(site.uploads.drop, upload)
    return JSONResponse({})


async def _upload(site: Site, request: Request, person: Person) -> tuple[Case, Upload]:
    case = await asyncio.to_thread(site.case, request.path_params["case"], person)
    return case, site.uploads.find(case.id, request.path_params["upload"])


def _received(site: Site, case: Case, upload: Upload) -> Original:
    """Make a whole upload an original. Raises OutputError where the disk gives other bytes than came."""
    site.uploads.find(case.id, upload.id)  # another request may have done so meanwhile
    came = upload.sha256()
    original = case.add_original(upload.path, upload.facts.name, upload.facts.user)
    site.uploads.drop(upload)
    if original.sha256 != came:
        raise OutputError(f"{original.name}: the disk gives other bytes than were received; check the disk.")
    return original


async def _answer(site: Site, case: Case) -> Response:
    return JSONResponse(await asyncio.to_thread(_case_json, site, case))


def _summary(site: Site, case: Case) -> dict[str, Any]:
    facts = case.facts.model_dump(mode="json", exclude={"version", "program"})
    return {"id": case.id, **facts, "files": len(site.originals(case))}


def _case_json(site: Site, case: Case) -> dict[str, Any]:
    log = site.log_of(case)
    jobs = [job_facts(job) for job in site.queue.jobs(case.id)]
    return _summary(site, case) | {
        "folder": str(case.folder),
        "running": sum(job["state"] in ("queued", "running") for job in jobs),
        "originals": [facts_of(site, case, original) for original in site.originals(case).values()],
        "tracks": [public(one) for one in site.made(case, "tracks", tracks)],
        "estimates": [public(one) for one in site.made(case, "estimates", estimates)],
        "results": [public(one) | {"lossy": "lossy" in one["_paths"]} for one in site.made(case, "results", results)],
        "jobs": jobs,
        "handed_over": site.made(case, "handed_over", handed_over),
        "log": {"entries": log.entries, "ok": log.ok, "text": log.text},
    }
