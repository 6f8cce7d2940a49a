"""Trail of changes: each request that changed something leaves a record in the log before it is answered.

Events and questions leave none: they are in the log themselves. Acts that are taken back leave one. What a change was,
is in the event of the change; the record says who made it and from where.
"""

import secrets
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from midstream.core.errors import MidstreamError
from midstream.core.tracebacks import raised_of
from midstream.core.types import EventBatch
from midstream.engine.lists.audit_pages import AuditRecord, audit_event
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact
from midstream.serving.access.callers import OPERATOR_HEADER, caller_of, operator_of
from midstream.serving.access.measured_app import Measured
from midstream.serving.access.scopes import audited_route
from midstream.serving.http.responses import AT_ONCE, Message, Receive, Scope, Send, sent_path

ANONYMOUS: Final = "anonymous"
TARGET: Final = "midstream.audit_target"
"""Field of a scope: a list to which a route adds what it changed, where the path does not name that."""
_PERSONAL: Final = ("/v1/users", "/v1/events")
"""Beginnings of paths that name a user, or an event whose id may name one."""
_TARGET_MAX: Final = 128
Append: TypeAlias = Callable[[EventBatch], Awaitable[object]]
"""Makes an event durable."""


class AuditTrail:
    """ASGI app in front of another one: records who changed something."""

    def __init__(self, app: Measured, append: Append) -> None:
        """Front of ``app``; ``append`` writes into its log."""
        self._app = app
        self._append = append
        self.arrivals = app.arrivals
        self.metrics = app.metrics

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request, or take part in the lifespan."""
        route = audited_route(scope) if scope["type"] == "http" else None
        if route is None:
            return self._app(scope, receive, send)
        return self._answer(route, scope, receive, send)

    async def _answer(self, route: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may change something, and record it before its answer."""
        scope.pop(AT_ONCE, None)
        scope[TARGET] = []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < HTTPStatus.BAD_REQUEST:
                await self._note(scope, route, message["status"])
            await send(message)

        await self._app(scope, receive, noting)

    async def _note(self, scope: Scope, route: str, status: int) -> None:
        """Record a change; it was made all the same where its record cannot be written, which is logged."""
        caller = caller_of(scope)
        client = scope.get("client")
        address = caller.address if caller is not None else str(client[0]) if client else ""
        who = caller.who if caller is not None else _claimed(scope)
        named: list[str] = scope[TARGET]
        target = named[0][:_TARGET_MAX] if named else _target(route, sent_path(scope))
        record = AuditRecord(secrets.token_hex(8), who, address, scope["method"], route, target, status)
        try:
            await self._append(audit_event(record))
        except MidstreamError as error:
            log_fact(Fact("audit_lost", "error", {"route": route}, raised=raised_of(error)))


def name_target(scope: Scope, target: str) -> None:
    """Have the record of a request name what it changed; without an audit in front nothing is done."""
    named: list[str] | None = scope.get(TARGET)
    if named is not None:
        named.append(target)


def _claimed(scope: Scope) -> str:
    """Return who sends a request without a key: a command says its user, which nobody checks."""
    if any(name == OPERATOR_HEADER for name, _ in scope["headers"]):
        return f"cli:{operator_of(scope)}"
    return ANONYMOUS


def _target(route: str, path: str) -> str:
    """Return the name in a path: of a placement, an item, a model; never that of a user, nor of an act: erasures."""
    if route.startswith(_PERSONAL) or "{" not in route:
        return ""
    parts = zip(route.split("/"), path.split("/"), strict=False)
    return next((unquote(sent)[:_TARGET_MAX] for part, sent in parts if part.startswith("{")), "")
