"""Caller of a request: who it is and what its key allows, as the gate leaves it in the scope for the routes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from midstream.core.errors import Fault
from midstream.serving.access.api_keys import PAGE
from midstream.serving.access.key_ring import OPERATOR_WHO
from midstream.serving.access.measured_app import Measured
from midstream.serving.access.scopes import ADMIN, CATALOGUE, EVENTS, METRICS, NODES, OPEN, scope_needed
from midstream.serving.http.problems import KeyNeeded, MethodNotAllowed, RouteUnknown, problem_reply
from midstream.serving.http.responses import Receive, Scope, Send, send_reply

CALLER: Final = "midstream.caller"
"""Field of a scope: the ``Caller``; without it no key is asked for."""
OPERATOR_HEADER: Final = b"midstream-user"
"""Who runs a command that sends a request."""
_WHO_MAX: Final = 64
KEY_HEADERS: Final = frozenset((b"authorization", b"x-api-key"))
CALLER_HEADER: Final = b"midstream-caller"
"""Of a request that one process of a server passes to another."""
KEY_NEEDED: Final = KeyNeeded(
    (
        Fault(
            "authorization",
            "No key came, or one that is not known, expired or revoked.",
            "Authorization: Bearer KEY, or X-API-Key: KEY; midstream keys create NAME --scope SCOPE makes one.",
            PAGE,
        ),
    )
)
CATALOGUE_TYPES: Final = frozenset({"item", "user"})
"""Types of events that change the catalogue and profiles."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and what it may do."""

    who: str
    """``key:ID``, or ``cli:USER`` for a command of the machine."""
    address: str
    scopes: frozenset[str]
    placements: frozenset[str] = frozenset()
    """The only placements of which it may ask; empty = all."""
    key_name: str = ""
    """Of its API key; empty = a token, or a command of the machine."""
    is_limited: bool = field(init=False)
    """Whether bodies of questions have to be looked at: for their placements, or for the events in them."""

    def __post_init__(self) -> None:
        """Find out once what each request asks."""
        is_limited = bool(self.placements) or not (self.has(EVENTS) and self.has(CATALOGUE))
        object.__setattr__(self, "is_limited", is_limited)

    def has(self, scope: str) -> bool:
        """Return whether it has a scope; ``admin`` has all."""
        return scope in self.scopes or ADMIN in self.scopes

    def sign(self, author: str) -> str:
        """Return an author's name behind the proven one of the key or token; a command of the machine has none.

        Example:
            >>> Caller("key:1f", "", frozenset(), key_name="shop-team").sign("eve")
            'key shop-team: eve'
        """
        kind, _, subject = self.who.partition(":")
        proven = f"key {self.key_name}" if self.key_name else f"{kind} {subject}"
        return author if kind == OPERATOR_WHO or not author.strip() else f"{proven}: {author}"

    @property
    def refused_types(self) -> frozenset[str]:
        """Types of events that it may not send."""
        return frozenset() if self.has(CATALOGUE) else CATALOGUE_TYPES


class PassedCaller(msgspec.Struct, frozen=True):
    """Caller as one process of a server tells another."""

    who: str
    address: str
    scopes: tuple[str, ...]
    key_name: str = ""


def caller_of(scope: Scope) -> Caller | None:
    """Return the caller of a request, None = no key was asked for."""
    found: Caller | None = scope.get(CALLER)
    return found


def operator_of(scope: Scope) -> str:
    """Return the user who runs a command, as the command says."""
    value = next((value for name, value in scope["headers"] if name == OPERATOR_HEADER), b"")
    text = value[:_WHO_MAX].decode("ascii", "replace")
    return "".join(each for each in text if each.isascii() and (each.isalnum() or each in "._-")) or "unknown"


def refused_types(scope: Scope) -> frozenset[str]:
    """Return the types of events that the caller of a request may not send."""
    caller = caller_of(scope)
    return frozenset() if caller is None else caller.refused_types


def as_header(caller: Caller) -> bytes:
    """Return a caller as the value of a header between processes of one server."""
    return msgspec.json.encode(PassedCaller(caller.who, caller.address, tuple(sorted(caller.scopes)), caller.key_name))


def from_header(value: bytes) -> Caller:
    """Return the caller of such a header.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    told = msgspec.json.decode(value, type=PassedCaller)
    return Caller(told.who, told.address, frozenset(told.scopes), key_name=told.key_name)


OWN_EVENTS: Final = as_header(Caller("follower", "", frozenset((EVENTS, CATALOGUE))))
"""Caller of events that came with a question: the gate of the process that answers it has judged them."""

_PROBE_WHO: Final = "freshness-probe"
"""Name of no key and of no command."""
OWN_PROBE: Final = as_header(Caller(_PROBE_WHO, "", frozenset((EVENTS, CATALOGUE))))
"""Caller of the events of a follower's freshness probe."""


def is_probe(scope: Scope) -> bool:
    """Return whether a request is of the freshness probe of another process of the server."""
    caller = caller_of(scope)
    return caller is not None and caller.who == _PROBE_WHO


def with_caller(scope: Scope) -> Scope:
    """Return a scope whose headers tell its caller to another process, and nothing that the client put there."""
    caller = caller_of(scope)
    headers = [each for each in scope["headers"] if each[0] != CALLER_HEADER]
    if caller is not None:
        headers.append((CALLER_HEADER, as_header(caller)))
    return {**scope, "headers": headers}


class TellingCaller:
    """ASGI app behind a socket between processes of one server: takes the caller from the header that has it.

    A request without one is of a process that asks for no key. Where this one does, only open routes are answered: one
    process that lacks the keys does not open the others.
    """

    def __init__(self, app: Measured, asks: Callable[[], bool]) -> None:
        """Front of ``app``, which needs a caller while ``asks`` returns that a key is asked for."""
        self._app = app
        self._asks = asks
        self.arrivals = app.arrivals
        self.metrics = app.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            told = next((value for name, value in scope["headers"] if name == CALLER_HEADER), None)
            if told is not None:
                scope[CALLER] = from_header(told)
            elif self._asks() and not _is_open(scope):
                await send_reply(scope, send, problem_reply(KEY_NEEDED))
                return
        await self._app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    """Return whether a route is answered without a caller: the gate that passed it on let it in without a key."""
    try:
        return scope_needed(scope) in {OPEN, NODES, METRICS}
    except (RouteUnknown, MethodNotAllowed):
        return False
