"""Before any request is answered: where it comes from, who sends it; and what every answer carries."""

import http.cookies
import ipaddress
import json
import socket
import sys
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zssr_gan.errors import OutputError, ZssrGanError
from zssr_gan.web.queue import QueueError
from zssr_gan.web.refusals import Refusal, sentence

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_READS = ("GET", "HEAD")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach a server of this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass
class Address:
    """Where the server is reached: `scheme`, `port`, and the `names` that a request's Host may have.

    Another name than ours in Host is DNS rebinding: a page from elsewhere whose name was pointed at this machine.
    """

    scheme: str
    host: str
    port: int
    more: Collection[str] = ()
    names: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = {*_LOOPBACK, self.host, *self.more}
        if not is_loopback(self.host):
            self.names |= {socket.gethostname(), socket.getfqdn()}

    @property
    def url(self) -> str:
        """What a browser takes: by a further name where there is one, by this machine's where it listens on all."""
        host = self.host
        if not is_loopback(host):
            host = next(iter(self.more), socket.getfqdn() if host in ("0.0.0.0", "::") else host)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def accepts(self, host: str) -> bool:
        """Whether a header Host names this server."""
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        standard = {"http": "80", "https": "443"}[self.scheme]
        if (port or standard) != str(self.port):
            return False
        name = name.strip("[]").lower()
        return name in {known.lower() for known in self.names} or (not is_loopback(self.host) and _is_address(name))


def _is_address(name: str) -> bool:
    """Whether a host is given by number, which no foreign name can be pointed at."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(request: Request, address: Address) -> None:
    """Raise Refusal where a request comes from another site's page, or to another name than ours."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not address.accepts(hosts[0]):
        raise Refusal(421, "this server does not answer to that name: use the address that 'zssr-gan web' printed.")
    navigates = request.url.path in ("/", "/enter") and request.method in _READS
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") and not navigates:
        raise Refusal(403, "a page of another site may not ask this server for anything.")
    if request.method in _READS:
        return
    if request.headers.get("origin", f"{address.scheme}://{hosts[0]}") != f"{address.scheme}://{hosts[0]}":
        raise Refusal(403, "a page of another site may not change anything here.")
    if request.headers.get("x-zssr-gan") != "1":
        raise Refusal(403, "a request that changes something needs the header 'X-Zssr-Gan: 1'.")


def cookie_of(request: Request, name: str) -> str:
    """The value of a cookie, "" without one."""
    try:
        jar = http.cookies.SimpleCookie(request.headers.get("cookie", ""))
    except http.cookies.CookieError:
        return ""
    return jar[name].value if name in jar else ""


class Guard:
    """Answers with a refusal, or passes a request on; whatever goes wrong becomes one sentence as JSON.

    Args:
        app: that answers.
        address: of the server.
        admit: gives who sends a request; raises Refusal where that is nobody.
    """

    def __init__(self, app: ASGIApp, address: Address, admit: Callable[[Request], object]) -> None:
        self.app, self.address, self.admit = app, address, admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        started = False

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in _HEADERS.items() if n.encode() not in present),
                ]
            await send(message)

        try:
            request = Request(scope)
            check_origin(request, self.address)
            if request.url.path.startswith("/api/") and request.url.path != "/api/login":
                request.state.person = self.admit(request)
            scope["app"] = self  # so that the router raises what it does not find
            return await self.app(scope, receive, secured)
        except ClientDisconnect:
            return None
        except Exception as error:
            if started:  # too late to say anything: the connection ends, and the client sees that something is missing
                raise
            return await answer(error)(scope, receive, secured)


def answer(error: Exception) -> JSONResponse:
    """What the client gets to hear of an error; the traceback of one of ours goes to standard error."""
    if isinstance(error, Refusal):
        return JSONResponse({"error": str(error), **error.facts}, error.status)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": f"there is nothing at this address ({error.detail})."}, error.status_code)
    if isinstance(error, ZssrGanError):
        status = 409 if isinstance(error, QueueError) else 507 if isinstance(error, OutputError) else 400
        return JSONResponse({"error": sentence(error)}, status)
    if isinstance(error, UnicodeError | json.JSONDecodeError | RecursionError):
        return JSONResponse({"error": "the request cannot be read."}, 400)
    traceback.print_exception(error, file=sys.stderr)
    return JSONResponse({"error": "an error of zssr-gan itself: the window in which it runs shows it."}, 500)
