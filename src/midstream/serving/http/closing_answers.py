"""Answers that end their connection, because its bytes cannot be parsed further: made once, sent unchanged."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from midstream.core.answers.problems import Problem
from midstream.core.errors import Fault
from midstream.engine.requests.schema import PAGE
from midstream.serving.http.problems import PROBLEM_JSON, fault_body
from midstream.serving.http.responses import Receive, Reply, Scope, Send, send_reply


@dataclass(frozen=True, slots=True)
class ClosingAnswer:
    """An answer, and the word under which it is counted."""

    reason: str
    reply: Reply
    text: bytes
    """The same as it is written, behind the status line and the headers of every answer."""

    def written(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return all of it, with the headers that every answer of the port has."""
        return b"".join((STATUS_LINE[self.reply.status], *(b"%b: %b\r\n" % each for each in headers), self.text))


def _words(status: HTTPStatus, reason: str, title: str, came: str, right: str, *, allow: bytes = b"") -> ClosingAnswer:
    problem = Problem(
        type=f"urn:midstream:{reason.replace('_', '-')}",
        title=title,
        status=status,
        detail=f"{came} {right}",
        page=PAGE,
        pointer="connection",
        came=came,
        right=right,
        errors=(fault_body(Fault("connection", came, right, PAGE)),),
        retry_after=1 if status == HTTPStatus.SERVICE_UNAVAILABLE else 0,
    )
    retry = ((b"retry-after", b"1"),) if problem.retry_after else ()
    allowed = ((b"allow", allow),) if allow else ()
    headers = ((b"cache-control", b"no-store"), *retry, *allowed, (b"connection", b"close"))
    reply = Reply(status, msgspec.json.encode(problem), PROBLEM_JSON, headers)
    lines = (
        (b"content-type", reply.media_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    )
    text = b"".join((*(b"%b: %b\r\n" % each for each in lines), b"\r\n", reply.body))
    return ClosingAnswer(reason, reply, text)


MALFORMED: Final = _words(
    HTTPStatus.BAD_REQUEST,
    "malformed",
    "This is no HTTP/1.1",
    "Bytes came that are no request, or no body as its head announces it.",
    "HTTP/1.1 or 1.0 as RFC 9112 has it; HTTP/2 is not spoken here.",
)
TOO_LARGE: Final = _words(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_too_large",
    "Request line and headers are too long",
    "Request line and headers, or what stands around the chunks of a body, are too long or too many.",
    "At most head_bytes_max of [server] (32 KiB unless said otherwise) and 100 headers.",
)
NO_TUNNEL: Final = _words(
    HTTPStatus.METHOD_NOT_ALLOWED,
    "no_tunnel",
    "This server is no proxy",
    "CONNECT came.",
    "A method that a path takes; OPTIONS names them.",
    allow=b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
)
NO_PLACE: Final = _words(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "no_place",
    "There are too many connections",
    "All connections that there may be, or that one client may hold, are in use.",
    "Fewer connections that are kept; connections_max and connections_per_client_max of [server] say how many.",
)


async def no_place(scope: Scope, _receive: Receive, send: Send) -> None:
    """Refuse a request on a connection that has no place, as an app."""
    await send_reply(scope, send, NO_PLACE.reply)
