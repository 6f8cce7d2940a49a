"""In-process client of the API: each page of the console shows what the routes for programs answer.

So a page and a program see the same, and no page reads the engine in a way of its own. Requests do not leave the
process: they are calls of the app that has the routes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from midstream.serving.http.responses import ASGI, JSON, Message

BODY_BYTES_MAX = 4 * 2**20
"""Of an answer that a page shows. Lists are paged and records bounded, so none comes near it."""


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """Status and decoded body of a route."""

    status: int
    body: Any

    @property
    def is_good(self) -> bool:
        """Whether it is what was asked for, and no problem."""
        return self.status < 300  # noqa: PLR2004  2xx


class ApiReader:
    """Calls routes of an app that are not hot."""

    def __init__(self, app: ASGI, actions: Callable[[], Iterable[str]] = tuple) -> None:
        """Read from ``app``; ``actions`` gives the names of the configured interactions, which no route answers."""
        self._app = app
        self._actions = actions

    @property
    def actions(self) -> Sequence[str]:
        """Names of the configured interactions."""
        return sorted(self._actions())

    async def get(self, path: str, query: str = "") -> ApiAnswer:
        """Return the answer of a path, whose ids are percent-encoded."""
        return await self._call("GET", path, query, b"")

    async def post(self, path: str, document: object) -> ApiAnswer:
        """Return the answer to a body in JSON. For routes that change nothing, as a preview."""
        return await self._call("POST", path, "", msgspec.json.encode(document))

    async def text(self, path: str) -> str:
        """Return the answer of a route that answers text."""
        return (await self._sent("GET", path, "", b""))[1].decode()

    async def _call(self, method: str, path: str, query: str, body: bytes) -> ApiAnswer:
        status, found = await self._sent(method, path, query, body)
        return ApiAnswer(status, msgspec.json.decode(found) if found else None)

    async def _sent(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"content-type", JSON), (b"content-length", b"%d" % len(body))],
            "client": None,
            "server": None,
        }
        status, parts = 0, bytearray()

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.extend(message.get("body", b"")[: BODY_BYTES_MAX - len(parts)])

        await self._app(scope, receive, send)
        return status, bytes(parts)
