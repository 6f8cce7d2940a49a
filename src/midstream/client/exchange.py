"""Sans-IO exchange with a server: a generator that yields attempts and pauses, and is sent what came of them.

All that a call is stands here and in the operations, once: repetition, deadline, event ids, log positions, errors. Two
drivers run the generators, one that blocks and one on an event loop; they send bytes and sleep, and decide nothing.

Repetition: an attempt without an answer, or with 429, 502, 503, 504 or 507, is made again after a pause, at most
``attempts_max`` times and within ``deadline_s``. The pause is drawn from 0 to a bound that doubles (full jitter), and
is at least the server's ``Retry-After``. A request that might count twice is made again only when it surely had no
effect: the connection failed, or the server refused it.

Reference: Brooker, Exponential Backoff and Jitter, 2015: full jitter.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, TypeAlias, TypeVar, cast

import msgspec

from midstream.client.client_errors import AnswerUnreadable, ServerUnreachable, refusal_of
from midstream.client.positions import Positions
from midstream.core.answers.events import BulkAnswer, EventsAnswer

T = TypeVar("T")
JSON = "application/json"
PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
        HTTPStatus.INSUFFICIENT_STORAGE,
    }
)
"""Statuses that a later attempt may not get."""
WITHOUT_EFFECT = frozenset({HTTPStatus.TOO_MANY_REQUESTS})
"""Of these: the request surely did nothing. A 503 may say that events were not durable in time, and are later."""


class ClientOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a client waits and repeats."""

    attempts_max: int = 4
    """Attempts of one request, the first included."""
    deadline_s: float = 10.0
    """Of a call with all its attempts and pauses; a stream of events has as much for each part."""
    timeout_s: float = 5.0
    """Of one attempt: the longest deadline of a question is 10 s, that of most is 50 ms."""
    pause_s: float = 0.1
    """Bound of the first pause; it doubles with each attempt."""
    pause_s_max: float = 2.0
    """Largest bound of a pause; ``Retry-After`` may ask for more."""
    visitors_max: int = 10_000
    """Visitors whose log positions are remembered: some 200 bytes each."""
    read_your_writes: bool = True
    """Send the remembered log position with questions."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Clock and randomness of a client, which tests replace."""

    monotonic: Callable[[], float]
    new_id: Callable[[], str]
    """Event ids; no two are equal."""
    uniform: Callable[[], float]
    """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class ClientSession:
    """What the calls of one client share."""

    url: str
    """Without a slash at the end."""
    options: ClientOptions
    edge: Edge
    positions: Positions


Repeat = Literal["always", "without_effect", "never"]
"""``always``: a second copy changes nothing. ``without_effect``: only when the first one surely did nothing."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, complete but for the server's address."""

    method: str
    target: str
    """Path and query."""
    body: bytes | None = field(default=None, repr=False)
    content_type: str = JSON
    repeat: Repeat = "always"
    wait_s: float = 0.0
    """How long the server itself may wait before it answers; the attempt has as much more time."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Step: send a request, and resume with a ``HttpReply`` or ``NoReply``."""

    request: HttpRequest
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Step: wait, and resume with None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Answer to an attempt."""

    status: int
    body: bytes
    retry_after: str = ""
    """Header of that name."""

    @property
    def retry_after_s(self) -> float:
        """Seconds of the header; 0 where it names none (a date is not read)."""
        text = self.retry_after.strip()
        return float(text) if text.isascii() and text.isdigit() else 0.0


@dataclass(frozen=True, slots=True)
class NoReply:
    """Failure of an attempt."""

    reason: str
    was_sent: bool
    """Whether the server may have received the request."""


Step: TypeAlias = Attempt | Pause
Outcome: TypeAlias = HttpReply | NoReply | None
Exchange: TypeAlias = Generator[Step, Outcome, T]


def reply_to(session: ClientSession, request: HttpRequest) -> Exchange[HttpReply]:
    """Make attempts until an answer comes that no repetition would change, and return it.

    Raises:
        ServerUnreachable: No answer came.
    """
    options, edge = session.options, session.edge
    end = edge.monotonic() + options.deadline_s + request.wait_s
    bound_s = options.pause_s
    for attempt in range(1, options.attempts_max + 1):
        left_s = max(end - edge.monotonic(), 0.001)
        # A driver resumes an attempt with its outcome, and nothing but a pause with None.
        outcome = cast("HttpReply | NoReply", (yield Attempt(request, min(options.timeout_s + request.wait_s, left_s))))
        pause_s = edge.uniform() * bound_s
        if isinstance(outcome, HttpReply):
            pause_s = max(pause_s, outcome.retry_after_s)
        is_last = attempt == options.attempts_max or edge.monotonic() + pause_s >= end
        if is_last or not _is_repeated(request, outcome):
            if isinstance(outcome, HttpReply):
                return outcome
            raise ServerUnreachable(_unreachable(session, request, outcome, attempt))
        yield Pause(pause_s)
        bound_s = min(2 * bound_s, options.pause_s_max)
    message = "attempts_max is 1 or more"
    raise ValueError(message)


def answer_to(session: ClientSession, request: HttpRequest, kind: type[T]) -> Exchange[T]:
    """Return the decoded answer to a request.

    Raises:
        ServerUnreachable: No answer came.
        RequestRefused: The answer is a problem document.
        AnswerUnreadable: The answer is no such document.
    """
    reply = yield from reply_to(session, request)
    return decoded(session, reply, kind)


def decoded(session: ClientSession, reply: HttpReply, kind: type[T]) -> T:
    """Return the document of an answer, or raise what it says.

    Raises:
        RequestRefused: The answer is a problem document.
        AnswerUnreadable: The answer is no document of this kind.
    """
    if not HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        counts = BulkAnswer if kind is BulkAnswer else EventsAnswer
        raise refusal_of(reply.status, reply.body, session.url, counts)
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AnswerUnreadable(f"{session.url} answered {reply.status} with another document: {error}.") from error


def _is_repeated(request: HttpRequest, outcome: HttpReply | NoReply) -> bool:
    if request.repeat == "never":
        return False
    if isinstance(outcome, NoReply):
        return request.repeat == "always" or not outcome.was_sent
    return outcome.status in (PASSING if request.repeat == "always" else WITHOUT_EFFECT)


def _unreachable(session: ClientSession, request: HttpRequest, outcome: NoReply, attempts: int) -> str:
    times = "once" if attempts == 1 else f"{attempts} times"
    return f"{request.method} {request.target} of {session.url}: {outcome.reason} (tried {times})."
