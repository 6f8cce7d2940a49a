"""Quota of a tenant: two token buckets, of its requests and of its durable events, in front of everything of the shop.

The number of events in a request is known once it is decoded, so events are debited when they are durable and the
level may go below zero: the next requests with events are refused until it is above again. Over any time of t seconds
a tenant records at most ``rate * (t + 1)`` events and the events of the requests that were in progress.

Reference: Turner, New directions in communications (or which way to the information age?), IEEE Communications
Magazine 24(10), 1986: the leaky bucket as a meter.
"""

from typing import Final

from midstream.serving.http.admission import FREE
from midstream.serving.http.responses import Scope
from midstream.serving.tenants.types import TenantQuota

_EVENT_PATHS: Final = ("/v1/events", "/v1/events/bulk", "/v1/items", "/v1/users")
_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))


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

    def take(self, scope: Scope, now: float) -> float:
        """Count a request; return the seconds until it may come, 0 = now. One that is refused takes nothing."""
        path: str = scope["path"]
        if path in FREE:
            return 0.0
        lacks_s = self._requests.lacks_s(now, 1.0)
        if scope["method"] not in _READS and path.startswith(_EVENT_PATHS):
            lacks_s = max(lacks_s, self._events.lacks_s(now, 1.0))
        if not lacks_s:
            self._requests.debit(1.0)
        return lacks_s

    def debit_events(self, count: int) -> None:
        """Take events that became durable."""
        self._events.debit(count)
