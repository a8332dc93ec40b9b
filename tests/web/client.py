"""A client that speaks ASGI with the server's application, without a socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from zssr_gan.web.guard import Guard


@dataclass
class Answer:
    """What came back; `body` may be cut short."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        sentence: str = self.json["error"]
        return sentence


class Client:
    """A browser: it has cookies, and says where its requests come from."""

    def __init__(self, app: Guard, host: str = "127.0.0.1:8765") -> None:
        self.app, self.cookies = app, dict[str, str]()
        self.headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin", "x-zssr-gan": "1"}

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, content: object = None, **headers: str | None) -> Answer:
        return self.send("POST", path, [json.dumps(content).encode()], headers=headers)

    def send(
        self, method: str, path: str, pieces: Iterable[bytes] = (), *, headers: Mapping[str, str | None] = {},
        breaks: bool = False,
    ) -> Answer:  # fmt: skip
        """`breaks`: the connection does after the last piece. A header of None is left out; `_` stands for `-`."""
        given = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            given.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        answer = asyncio.run(self._send(method, path, pieces, given, breaks))
        for name, value in answer.headers:
            if name == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return answer

    async def _send(
        self, method: str, path: str, pieces: Iterable[bytes], headers: Mapping[str, str | None], breaks: bool
    ) -> Answer:
        place, _, query = path.partition("?")
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": unquote(place),
            "raw_path": place.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in headers.items() if v is not None],
        }  # fmt: skip
        answer = Answer(0, [], b"")
        messages = self._messages(pieces, breaks)

        async def receive() -> dict[str, Any]:
            return await anext(messages)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
            else:
                answer.body += message.get("body", b"")

        await self.app(scope, receive, send)
        return answer

    async def _messages(self, pieces: Iterable[bytes], breaks: bool) -> AsyncIterator[dict[str, Any]]:
        for piece in pieces:
            yield {"type": "http.request", "body": piece, "more_body": True}
        if not breaks:
            yield {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.Event().wait()
        while True:
            yield {"type": "http.disconnect"}
