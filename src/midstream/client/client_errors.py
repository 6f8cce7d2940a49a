"""Exceptions of the client: a refusal has the four parts of its problem document (RFC 9457), by status one class each.

Every exception here is a ``ClientError``. Those with a ``problem`` come from the server, the others say that no answer
came, or none that a server of midstream gives.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus

import msgspec

from midstream.core.answers.events import BulkAnswer, EventsAnswer, Rejection
from midstream.core.answers.problems import Problem
from midstream.core.errors import Fault, MidstreamError


class ClientError(MidstreamError):
    """A call did not succeed."""

    partial: BulkAnswer | None = None
    """Of a table whose recording broke off: counts of what the server said of it before; None of any other call."""


class ServerUnreachable(ClientError):
    """No answer came within the attempts and the deadline of the call."""


class AnswerUnreadable(ClientError):
    """The answer is no document of this version of the server, such as the page of a proxy."""


class AnswerPending(ClientError):
    """What a process of the server makes is not there yet; the same call later returns it."""


class BufferFull(ClientError):
    """The buffer holds its maximum of events, and none left within ``room_s_max``."""


class BufferEnded(ClientError):
    """The buffer ended by an error of the program, such as a client that was closed before it."""


class RequestRefused(ClientError):
    """The server refused the request, with a problem document."""

    def __init__(self, problem: Problem, server: str, rejections: Sequence[Rejection] = ()) -> None:
        """Keep the document; ``server`` makes addresses of its pages. Rejections of events are faults as well."""
        self.problem = problem
        first = Fault(problem.pointer or "", problem.came or problem.detail, problem.right, problem.page)
        named = [Fault(each.pointer, each.came, each.right, each.page) for each in problem.errors]
        named += [Fault(each.pointer, each.came, each.right, each.page) for each in rejections]
        self.faults = tuple(replace(each, page=_address(server, each.page)) for each in named or [first])
        """Every fault that the server named, at least one; ``page`` is an address that a browser opens."""
        lines = [f"{problem.title} ({problem.status}, {problem.type})."]
        for fault in self.faults:
            lines += [f"  {part}" for part in (fault.where, fault.came, fault.right, fault.page) if part]
        super().__init__("\n".join(lines))

    @property
    def where(self) -> str:
        """Pointer of the first fault: a place in the body, or the name of a query field or header; may be empty."""
        return self.faults[0].where

    @property
    def came(self) -> str:
        """Value that came."""
        return self.faults[0].came

    @property
    def right(self) -> str:
        """What would be right; empty where the fault is not in the request."""
        return self.faults[0].right

    @property
    def page(self) -> str:
        """Address of the page that explains it."""
        return self.faults[0].page

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.problem.status


class InvalidRequest(RequestRefused):
    """Something in the request is wrong (400, 405, 408, 415, 421, 431)."""


class KeyRejected(RequestRefused):
    """No API key came, or one that is unknown, expired or revoked (401)."""


class AccessDenied(RequestRefused):
    """The key lacks the scope of the route (403)."""


class IdUnknown(RequestRefused):
    """Nothing of that id is known, or there is no such route (404)."""


class StateConflict(RequestRefused):
    """The request does not fit what is there now, such as a newer version of a placement (409)."""


class RequestTooLarge(RequestRefused):
    """More came than one request may hold (413)."""


class QuotaExceeded(RequestRefused):
    """The quota of this caller is used up, and was at each attempt (429)."""


class ServerFailed(RequestRefused):
    """The server failed in a way that a repetition does not mend (500)."""


class ServerBusy(RequestRefused):
    """The server could not take the request now, at any attempt (502, 503, 504, 507)."""


class EventsRejected(RequestRefused):
    """Events came and none of them was taken (422)."""

    def __init__(self, problem: Problem, server: str, answer: EventsAnswer | BulkAnswer) -> None:
        """Keep the outcome of each event, or the counts of a table."""
        super().__init__(problem, server, answer.rejections if isinstance(answer, BulkAnswer) else answer.rejected)
        self.answer = answer


_BY_STATUS: dict[int, type[RequestRefused]] = {
    HTTPStatus.UNAUTHORIZED: KeyRejected,
    HTTPStatus.FORBIDDEN: AccessDenied,
    HTTPStatus.NOT_FOUND: IdUnknown,
    HTTPStatus.CONFLICT: StateConflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: RequestTooLarge,
    HTTPStatus.TOO_MANY_REQUESTS: QuotaExceeded,
    HTTPStatus.INTERNAL_SERVER_ERROR: ServerFailed,
}
_BODY_SHOWN = 200


def refusal_of(
    status: int, body: bytes, server: str, counts: type[EventsAnswer | BulkAnswer] = EventsAnswer
) -> ClientError:
    """Return the exception of an answer that is no success; ``counts`` are those of the route where it took nothing."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return EventsRejected(problem, server, msgspec.json.decode(body, type=counts))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        shown = body[:_BODY_SHOWN].decode(errors="replace")
        return AnswerUnreadable(f"{server} answered {status} without a problem document: {shown!r}.")
    other = ServerBusy if status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidRequest
    refusal = _BY_STATUS.get(status, other)(problem, server)
    if counts is BulkAnswer:
        with suppress(msgspec.MsgspecError):
            refusal.partial = msgspec.json.decode(body, type=BulkAnswer)
    return refusal


def _address(server: str, page: str) -> str:
    """Return the address of a page, which a server names relative to its root."""
    return f"{server}{page}" if page.startswith("/") else page
