"""The routes below /api: JSON in, JSON out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from pydantic import Field
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from zssr_gan.errors import ZssrGanError
from zssr_gan.provenance import LABELS, VERSION
from zssr_gan.web import cases_api, jobs_api, pictures_api, results_api
from zssr_gan.web.body import Form, body
from zssr_gan.web.guard import cookie_of
from zssr_gan.web.sessions import LIFE_S
from zssr_gan.web.site import Person, Site


class _Number(IntegerConvertor):
    regex = "[0-9]{1,15}"  # Python refuses to read thousands of digits, and SQLite has no room for more


register_url_convertor("number", _Number())

Handler = Callable[[Site, Request, Person], Awaitable[Response]]


class SignIn(Form):
    """Of POST /api/login."""

    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1024)]


def set_cookie(response: Response, site: Site, value: str) -> None:
    """Let an answer carry the cookie of a session."""
    response.set_cookie(
        site.cookie, value, max_age=int(LIFE_S), httponly=True, samesite="strict", secure=site.address.scheme == "https"
    )


def routes(site: Site) -> list[BaseRoute]:
    """All routes, for a site."""

    def route(method: str, path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            return await handler(site, request, request.state.person)

        return Route(f"/api/{path}", endpoint, methods=[method])

    async def login(request: Request) -> Response:
        form = await body(request, SignIn)
        user = await site.sign_in(form.name, form.password)
        response = JSONResponse({"name": user.name, "admin": user.admin})
        set_cookie(response, site, await asyncio.to_thread(site.sessions.begin, user.name, user.proof))
        return response

    result = "cases/{case}/results/{result}"
    original = "cases/{case}/originals/{original}"
    return [
        Route("/api/login", login, methods=["POST"]),
        route("POST", "logout", _logout),
        route("GET", "me", _me),
        route("GET", "events", _events),
        route("GET", "cases", cases_api.all_cases),
        route("POST", "cases", cases_api.new_case),
        route("POST", "cases/open", cases_api.open_folder),
        route("GET", "cases/{case}", cases_api.one_case),
        route("PUT", "cases/{case}", cases_api.edit_case),
        route("DELETE", "cases/{case}", cases_api.delete_case),
        route("POST", "cases/{case}/uploads", cases_api.new_upload),
        route("GET", "cases/{case}/uploads", cases_api.all_uploads),
        route("GET", "cases/{case}/uploads/{upload}/proof", cases_api.upload_proof),
        route("GET", "cases/{case}/uploads/{upload}", cases_api.upload_state),
        route("PUT", "cases/{case}/uploads/{upload}", cases_api.upload_bytes),
        route("DELETE", "cases/{case}/uploads/{upload}", cases_api.delete_upload),
        route("GET", "jobs", jobs_api.all_jobs),
        route("POST", "jobs/{job:number}/stop", jobs_api.stop),
        route("POST", "jobs/{job:number}/resume", jobs_api.resume),
        route("POST", "jobs/{job:number}/move", jobs_api.move),
        route("GET", "jobs/{job:number}/preview.png", jobs_api.preview),
        route("GET", f"{original}/thumb.png", pictures_api.thumb),
        route("GET", f"{original}/view.png", pictures_api.view),
        route("GET", f"{original}/file", pictures_api.file),
        route("POST", f"{original}/look", pictures_api.look_again),
        route("GET", f"{original}/frames", pictures_api.frames),
        route("GET", f"{original}/frames/{{frame:number}}.png", pictures_api.frame),
        route("GET", "methods", jobs_api.methods),
        route("POST", "cases/{case}/plan", jobs_api.plan_job),
        route("POST", "cases/{case}/jobs", jobs_api.new_job),
        route("GET", f"{result}/view.png", results_api.view),
        route("GET", f"{result}/frames", results_api.frames),
        route("GET", f"{result}/bicubic.png", results_api.bicubic),
        route("GET", f"{result}/evidence.png", results_api.evidence),
        route("GET", f"{result}/record.json", results_api.record),
        route("GET", f"{result}/file", results_api.file),
        route("GET", f"{result}/lossy", results_api.lossy),
        route("GET", "cases/{case}/estimates/{estimate}/plot.png", results_api.plot),
        route("GET", "cases/{case}/tracks/{track}", results_api.track),
        route("PUT", "cases/{case}/tracks/{track}", results_api.edit_track),
        route("PUT", "cases/{case}/tracks/{track}/name", results_api.name_track),
        route("GET", "cases/{case}/tracks/{track}/sheet.png", results_api.sheet),
        route("GET", "cases/{case}/package.zip", results_api.package),
        route("GET", "cases/{case}/report/index.html", results_api.report),
    ]


async def _logout(site: Site, request: Request, _person: Person) -> Response:
    await asyncio.to_thread(site.sessions.end, cookie_of(request, site.cookie))
    response = JSONResponse({})
    response.delete_cookie(site.cookie)
    return response


async def _me(site: Site, _request: Request, person: Person) -> Response:
    free = await asyncio.to_thread(site.uploads.free_bytes, person.name)
    return JSONResponse(
        {
            "name": person.name,
            "admin": person.admin,
            "users": site.has_users,
            "version": VERSION,
            "labels": dict(LABELS),
            "device": site.device,
            "cases_folder": str(site.cases),
            "upload_limit_bytes": site.uploads.limit_bytes,
            "free_bytes": free,
        }
    )


async def _events(site: Site, request: Request, person: Person) -> Response:
    def sees(case: str) -> bool:
        return site.sees(person, case)

    def is_admitted() -> bool:
        try:
            return site.admit(request) == person
        except ZssrGanError:
            return False

    return StreamingResponse(site.events.listen(sees, is_admitted), media_type="text/event-stream")
