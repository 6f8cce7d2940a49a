"""What the state must be after some events, in plain Python dicts: the oracle that stands outside the engine.

It shares no code with the fold: no arrays, no kernels, no caps. It is right for workloads that stay below every
maximum and within 24 h of log time, which is what the crash tests make.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from midstream.core.kinds import Kind
from midstream.events.schema import Event

DAY_MS = 86_400_000
AHEAD_MS = 300_000
"""An event time further ahead of log time than this is set to log time."""


@dataclass(slots=True)
class OpenSession:
    """Items of one session, oldest first."""

    number: int
    last_log_time_ms: int
    items: list[str]


@dataclass(slots=True)
class Reference:
    """Counters, rings and sessions of the events folded so far."""

    weights: dict[str, float]
    """Interaction name to weight."""
    session_gap_ms: int
    ring_max: int
    session_items_max: int
    item_counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """(item id, action) to number of interactions."""
    user_counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    rings: defaultdict[str, list[tuple[str, str, int]]] = field(
        default_factory=lambda: defaultdict[str, list[tuple[str, str, int]]](list)
    )
    """User id to the last (item id, action, event time), oldest first."""
    sessions: dict[tuple[str, str], OpenSession] = field(default_factory=dict[tuple[str, str], OpenSession])
    """("session", session id), or ("user", user id) where none was sent, to the newest session under that name."""
    session_count: int = 0
    seen: set[str] = field(default_factory=set[str])

    def fold(self, events: Iterable[Event]) -> None:
        """Fold events in log order; a second event of an id changes nothing."""
        for event in events:
            if event.event_id in self.seen:
                continue
            if event.event_id:
                self.seen.add(event.event_id)
            if event.kind == Kind.INTERACTION and event.action in self.weights:
                self._interaction(event)

    def _interaction(self, event: Event) -> None:
        log_time = event.log_time_ms
        time = log_time if event.event_time_ms is None else event.event_time_ms
        if time > log_time + AHEAD_MS:
            time = log_time
        self.item_counts[event.item_id, event.action] += 1
        if event.user_id:
            self.user_counts[event.user_id, event.action] += 1
            ring = self.rings[event.user_id]
            ring.append((event.item_id, event.action, time))
            del ring[: -self.ring_max]
        if self.weights[event.action] > 0:
            self._session(event)

    def _session(self, event: Event) -> None:
        key = ("session", event.session_id) if event.session_id else ("user", event.user_id)
        found = self.sessions.get(key)
        if found is None or event.log_time_ms - found.last_log_time_ms > self.session_gap_ms:
            found = self.sessions[key] = OpenSession(self.session_count, event.log_time_ms, [])
            self.session_count += 1
        found.last_log_time_ms = event.log_time_ms
        found.items.append(event.item_id)
        del found.items[: -self.session_items_max]
