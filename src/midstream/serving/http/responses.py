"""Answer before it is sent, and the one place that sends."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from starlette.responses import Response


Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGI: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An app as a server takes it."""

JSON = b"application/json"
NO_STORE = ((b"cache-control", b"no-store"),)
AT_ONCE = "midstream.at_once"
"""Field of a scope: takes the scope and a ``Reply``, writes it in one piece and returns True, or returns False and has
written nothing. Servers of others have none."""
MOUNTED_AT = "midstream.mounted_at"
"""Field of a scope: the part of the path before this app's own, where it is mounted in another one."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Status, body and headers of an answer. Length and type are added when it is sent."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler: TypeAlias = Callable[[Scope, Receive], Awaitable[Reply]]
"""A route in plain ASGI: from a request to an answer. Expected failures are raised."""


async def send_reply(scope: Scope, send: Send, reply: Reply) -> None:
    """Send an answer to the question of a scope that may have a shorter way than ``send``."""
    at_once: Callable[[Scope, Reply], bool] | None = scope.get(AT_ONCE)
    if at_once is not None and at_once(scope, reply):
        return
    headers = [
        (b"content-type", reply.media_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def sent_path(scope: Scope) -> str:
    """Return the path as it was sent, so that a slash in an id, sent as ``%2F``, is no slash of the path."""
    raw: bytes | None = scope.get("raw_path")
    return str(scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")


def to_response(reply: Reply) -> "Response":
    """Return the same answer for a FastAPI route."""
    from starlette.responses import Response

    response = Response(reply.body, reply.status)
    response.raw_headers = [
        (b"content-type", reply.media_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    return response
