"""Quota of a tenant: two token buckets, of its requests and of its durable events, behind the gate of its keys.

The number of events in a request is known once it is decoded, so events are debited when they are durable and the
level may go below zero: the next requests that may record are refused until it is above again. Those are found by the
table of scopes, so a new route is among them; of questions the ones with ``events`` in their body. Over any time of t
seconds a tenant records by requests at most ``rate * (t + 1)`` events and the events of those that were in progress.

A caller without a key of the tenant is refused before: strangers take nothing of a quota.

Reference: Turner, New directions in communications (or which way to the information age?), IEEE Communications
Magazine 24(10), 1986: the leaky bucket as a meter.
"""

import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from midstream.core.errors import MidstreamError, RequestInvalid
from midstream.serving.access.callers import caller_of
from midstream.serving.access.gate import replayed
from midstream.serving.access.measured_app import Measured
from midstream.serving.access.questions import asked_body, events_within
from midstream.serving.access.scopes import ANY, METRICS, NODES, OPEN, READ, RECOMMEND, scope_needed
from midstream.serving.http.admission import FREE, RETRY_S, whole_s
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import decode_any
from midstream.serving.http.problems import (
    Disconnected,
    MethodNotAllowed,
    QuotaSpent,
    RouteUnknown,
    problem_reply,
)
from midstream.serving.http.responses import Receive, Scope, Send, send_reply, sent_path
from midstream.serving.options import ServerOptions
from midstream.serving.tenants.types import TenantQuota

_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_RECORDS_NOTHING: Final = frozenset((READ, OPEN, NODES, METRICS, ANY))
_KEYS: Final = "/v1/keys"
"""A key that floods is revoked while the account of events is below zero."""


class Bucket:
    """Level of one rate: a second's worth at most, and below zero after a large debit."""

    def __init__(self, per_second: float, now: float) -> None:
        """Begin full; a rate of 0 limits nothing."""
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._level = self._most
        self._at = now

    def lacks_s(self, now: float, needed: float) -> float:
        """Return the seconds until the level is ``needed``, 0 = it is."""
        if not self._per_second:
            return 0.0
        self._level = min(self._most, self._level + (now - self._at) * self._per_second)
        self._at = now
        return max(0.0, needed - self._level) / self._per_second

    def debit(self, amount: float) -> None:
        """Take an amount."""
        if self._per_second:
            self._level -= amount


class TenantMeter:
    """Levels of one tenant."""

    def __init__(self, quota: TenantQuota, now: float) -> None:
        """Begin with full buckets."""
        self._requests = Bucket(quota.requests_per_second, now)
        self._events = Bucket(quota.events_per_second, now)

    def events_lack_s(self, now: float) -> float:
        """Return the seconds until the account of events allows one, 0 = it does."""
        return self._events.lacks_s(now, 1.0)

    def take(self, now: float, *, records: bool) -> float:
        """Count a request; return the seconds until it may come, 0 = now. One that is refused takes nothing.

        Args:
            now: Seconds.
            records: Whether it may record events.
        """
        lacks_s = self._requests.lacks_s(now, 1.0)
        if records:
            lacks_s = max(lacks_s, self.events_lack_s(now))
        if not lacks_s:
            self._requests.debit(1.0)
        return lacks_s

    def debit_events(self, count: int) -> None:
        """Take events that became durable."""
        self._events.debit(count)


class QuotaGate:
    """ASGI app behind the gate of a tenant's keys: refuses what is beyond the quota of the tenant.

    A request without a caller is of a route that needs no key: it counts for no quota, as anybody may send it.
    """

    def __init__(
        self, app: Measured, meter: Callable[[], TenantMeter], options: ServerOptions, clock: Callable[[], float]
    ) -> None:
        """Front of an app.

        Args:
            app: Gets the requests that are let in.
            meter: Returns the levels, which are new ones when the quota is set.
            options: Sizes and waits of bodies.
            clock: Seconds, of which the meter counts.
        """
        self._app = app
        self._meter = meter
        self._clock = clock
        self._limits = BodyLimits(options.body_bytes_max, options.body_wait_max.ms / 1_000)
        self.metrics = app.metrics
        self.arrivals = app.arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] != "http" or scope["path"] in FREE or caller_of(scope) is None:
            await self._app(scope, receive, send)
            return
        records = records_by_route(scope)
        refusal: MidstreamError | None = None
        try:
            if records is None:
                records, receive = await self._asked(scope, receive)
        except Disconnected:
            self._leave(scope)
            return
        except MidstreamError as error:
            refusal = error
        if refusal is None and (lacks_s := self._meter().take(self._clock(), records=bool(records))):
            self.metrics.refusals.labels("tenant_quota").inc()
            refusal = QuotaSpent(whole_s(lacks_s) + secrets.randbelow(RETRY_S))
        if refusal is not None:
            self._leave(scope)
            await send_reply(scope, send, problem_reply(refusal))
            return
        await self._app(scope, receive, send)

    def _leave(self, scope: Scope) -> None:
        """End the turn of a request in the queue."""
        self.arrivals.begin(scope)
        self.arrivals.refuse()

    async def _asked(self, scope: Scope, receive: Receive) -> tuple[bool, Receive]:
        """Return whether a question has events, and where its body is read; it is looked at below zero alone.

        Raises:
            MidstreamError: The body cannot be read.
        """
        if not self._meter().events_lack_s(self._clock()):
            return False, receive
        body = await read_body(scope, receive, self._limits)
        return _has_events(body), replayed(scope, receive, body)


def records_by_route(scope: Scope) -> bool | None:
    """Return whether a request may record events, None = a question, of which the body says it.

    Example:
        >>> [records_by_route({"method": "POST", "path": each}) for each in ("/v1/events", "/v1/features/read")]
        [True, False]
    """
    if scope["method"] in _READS or sent_path(scope).startswith(_KEYS):
        return False
    try:
        needed = scope_needed(scope)
    except (RouteUnknown, MethodNotAllowed):
        return False
    return None if needed == RECOMMEND else needed not in _RECORDS_NOTHING


def _has_events(body: bytes) -> bool:
    """Return whether a question has events; one that cannot be read has none, as its route refuses it."""
    try:
        told = asked_body(body).events
        return isinstance(told, msgspec.Raw) and bool(events_within(decode_any(told, "/events")))
    except RequestInvalid:
        return False
