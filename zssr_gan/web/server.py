"""The server of the page: its static files, the sign-in, and the routes of `api`."""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router
from uvicorn.protocols.http.h11_impl import H11Protocol

from zssr_gan.errors import SettingsError
from zssr_gan.files import sha256_bytes
from zssr_gan.web import api
from zssr_gan.web.guard import Guard
from zssr_gan.web.refusals import Refusal
from zssr_gan.web.site import Site, account
from zssr_gan.web.workers import Workers

STATIC = Path(__file__).with_name("static")

# Not by the system's own table, which may lack them or hold others.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_SHUTDOWN_S = 3
_SILENCE_S = 30.0
_MOST_OF_ONE = 256  # connections of one address; a browser has some 7
_TOO_OLD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>zssr-gan</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/tokens.css"><link rel="stylesheet" href="/static/style.css">
<header id="top"><a class="brand" href="/">zssr-gan</a></header>
<main id="main"><h1>This address does not open the page any more</h1>
<p>This address was used before, or is of an earlier start: open the one that <code>zssr-gan web</code> printed last in
its window.</p></main></html>
"""


def build_app(site: Site) -> Guard:
    """The ASGI application."""
    routes: list[BaseRoute] = [
        Route("/", _index),
        Route("/static/{name:path}", _static),
        Route("/enter", _enter(site)),
        *api.routes(site),
    ]
    return Guard(Router(routes, redirect_slashes=False), site.address, site.admit)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingsError: the port is in use, or the host is not of this machine."""
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a server just left
        try:
            listener.bind(place)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except socket.gaierror as error:
        raise SettingsError(f"--host {host}: is no address of this machine ({error.strerror}).") from error
    except OverflowError as error:
        raise SettingsError(f"--port {port}: a port is a number from 0 to 65535.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"--port {port}: is in use, perhaps by another 'zssr-gan web'; name another one, or 0 for any."
            ) from error
        if error.errno == errno.EACCES:
            raise SettingsError(
                f"--port {port}: only the system's own programs may use it; name one from 1024 on."
            ) from error
        raise SettingsError(f"--host {host}: cannot be listened on ({error.strerror}).") from error
    return listener


def check_certificate(certificate: Path, key: Path) -> None:
    """Raise SettingsError where certificate and key cannot be read or do not belong together."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise SettingsError(f"--cert {certificate}, --key {key}: cannot be used together ({error}).") from error


def serve(
    site: Site, listener: socket.socket, workers: Workers, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Answer requests, with workers beside, until SIGTERM or Ctrl-C, which end what is in work within seconds."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file
    config = uvicorn.Config(
        build_app(site),
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # what a client says of its own address is not believed
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # a request that is none is answered, and no news
    _Server(config, site, workers).run(sockets=[listener])


class _Protocol(H11Protocol):
    """HTTP, of clients that send a request's head in time and have few connections: others would hold all there are."""

    open: ClassVar = Counter[str]()
    """Connections by the address at their other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look whether requests come."""
        super().connection_made(transport)
        self._peer = str((transport.get_extra_info("peername") or [""])[0])
        self.open[self._peer] += 1
        if self.open[self._peer] > _MOST_OF_ONE:
            transport.close()
        self.loop.call_later(_SILENCE_S, self._close_silent, False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self.open[self._peer] -= 1
        super().connection_lost(exc)

    def _close_silent(self, had_part: bool) -> None:
        """Close where no request has come yet, or where the part of a head that was there before is still one."""
        cycle = getattr(self, "cycle", None)
        part = cycle is not None and cycle.response_complete and bool(self.conn.trailing_data[0])
        if cycle is None or (part and had_part):
            self.transport.close()
        elif not self.transport.is_closing():
            self.loop.call_later(_SILENCE_S, self._close_silent, part)


class _Server(uvicorn.Server):
    """Has workers beside it, and ends open pages' streams first when it is to stop."""

    def __init__(self, config: uvicorn.Config, site: Site, workers: Workers) -> None:
        super().__init__(config)
        self.site, self.workers = site, workers

    async def main_loop(self) -> None:
        """Run until it is to stop."""
        self.site.pictures.decoder.warm()
        watching = asyncio.create_task(self.workers.watch())
        await super().main_loop()
        watching.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop answering."""
        self.site.close()
        await super().shutdown(sockets)
        self.workers.end()


async def _index(request: Request) -> Response:
    return await asyncio.to_thread(_file, request, "index.html")


async def _static(request: Request) -> Response:
    return await asyncio.to_thread(_file, request, request.path_params["name"])


def _file(request: Request, name: str) -> Response:
    known = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in _TYPES}
    if name not in known:
        raise Refusal(404, "the page has no such file.")
    data = known[name].read_bytes()
    headers = {"etag": f'"{sha256_bytes(data)[:32]}"', "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_TYPES[known[name].suffix])


def _enter(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def enter(request: Request) -> Response:
        """Let the browser in that has the token of the printed address."""
        if not site.has_users and site.sessions.spend(request.query_params.get("token", "")):
            response = RedirectResponse("/", 303)
            api.set_cookie(response, site, await asyncio.to_thread(site.sessions.begin, account()))
            return response
        try:
            site.admit(request)
        except Refusal:
            if not site.has_users:
                return HTMLResponse(_TOO_OLD, 403)
        return RedirectResponse("/", 303)

    return enter
