"""Cross-origin sharing with the pages of browser keys: preflights are answered, and answers may be read.

Pages of no other origin get a permission. No cookie is ever read, so credentials are not allowed either.

Reference: WHATWG, Fetch, 3.2 (CORS protocol).
"""

from http import HTTPMethod
from typing import Final

from midstream.serving.access.user_tokens import HEADER
from midstream.serving.http.responses import Message, Reply, Scope, Send

PREFLIGHT_S: Final = 600
"""How long a browser keeps a permission: a key that is revoked is refused all the same."""
_ASKED: Final = b"access-control-request-method"
_ALLOWED: Final = (
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, x-api-key, " + HEADER),
    (b"access-control-max-age", b"%d" % PREFLIGHT_S),
)


def is_preflight(scope: Scope) -> bool:
    """Return whether a browser asks what a page may send."""
    return scope["method"] == HTTPMethod.OPTIONS and any(name == _ASKED for name, _ in scope["headers"])


def preflight_reply(origin: bytes) -> Reply:
    """Return the permission for pages of an origin."""
    return Reply(204, b"", headers=(*_shared(origin), *_ALLOWED))


def sharing(send: Send, origin: bytes) -> Send:
    """Return a ``send`` whose answers may be read by pages of an origin."""

    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_shared(origin)]}
        await send(message)

    return send_shared


def _shared(origin: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", b"retry-after"),
        (b"vary", b"origin"),
    )
