"""The routes below /api: JSON in, JSON out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from zssr_gan.provenance import VERSION
from zssr_gan.web.guard import cookie_of
from zssr_gan.web.refusals import Refusal
from zssr_gan.web.sessions import LIFE_S
from zssr_gan.web.site import Person, Site

_MOST_JSON_BYTES = 1 << 20

_F = TypeVar("_F", bound=BaseModel)
Handler = Callable[[Site, Request, Person], Awaitable[Response]]


class Form(BaseModel):
    """What a request's body may hold: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SignIn(Form):
    """Of POST /api/login."""

    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1024)]


async def body(request: Request, form: type[_F]) -> _F:
    """A request's body as a form. Raises Refusal: too long, no JSON, or other than the form."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _MOST_JSON_BYTES:
            raise Refusal(413, f"the request is longer than {_MOST_JSON_BYTES >> 20} MiB.")
    try:
        return form.model_validate_json(bytes(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refusal(400, f"the request cannot be read ({': '.join(filter(None, (where, first['msg'])))}).") from error


def set_cookie(response: Response, site: Site, value: str) -> None:
    """Let an answer carry the cookie of a session."""
    response.set_cookie(
        site.cookie, value, max_age=int(LIFE_S), httponly=True, samesite="strict", secure=site.address.scheme == "https"
    )


def routes(site: Site) -> list[BaseRoute]:
    """All routes, for a site."""

    def route(path: str, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            return await handler(site, request, request.state.person)

        return Route(path, endpoint, methods=[method])

    async def login(request: Request) -> Response:
        form = await body(request, SignIn)
        person = await site.sign_in(form.name, form.password)
        response = JSONResponse({"name": person.name, "admin": person.admin})
        set_cookie(response, site, await asyncio.to_thread(site.sessions.begin, person.name))
        return response

    return [
        Route("/api/login", login, methods=["POST"]),
        route("/api/logout", "POST", _logout),
        route("/api/me", "GET", _me),
    ]


async def _logout(site: Site, request: Request, _person: Person) -> Response:
    await asyncio.to_thread(site.sessions.end, cookie_of(request, site.cookie))
    response = JSONResponse({})
    response.delete_cookie(site.cookie)
    return response


async def _me(site: Site, _request: Request, person: Person) -> Response:
    free = await asyncio.to_thread(site.uploads.free_bytes)
    return JSONResponse(
        {
            "name": person.name,
            "admin": person.admin,
            "users": site.has_users,
            "version": VERSION,
            "device": site.device,
            "cases_folder": str(site.cases),
            "upload_limit_bytes": site.uploads.limit_bytes,
            "free_bytes": free,
        }
    )
