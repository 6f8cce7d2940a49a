"""Reference fold in plain Python dicts: the oracle that stands outside the engine.

It shares no code with the fold: no arrays, no kernels, no caps. It is right for workloads that stay below every
maximum and within 24 h of log time, which is what the crash tests make. Users may be merged and erased in them.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from midstream.core.kinds import Kind, Operation
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
    user: str = ""
    """The first user named in it."""


@dataclass(slots=True)
class Reference:
    """Counters, rings, sessions and pairs of the events folded so far."""

    weights: dict[str, float]
    """Interaction name to weight."""
    session_gap_ms: int
    ring_max: int
    session_items_max: int
    pair_items_max: int = 10
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
    held: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    """Number of each session that nobody erased to its items."""
    neighbours: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict[str, set[str]](set))
    """Item id to the items that were acted on in the same sessions, of everybody, erased ones too."""
    owners: dict[int, str] = field(default_factory=dict[int, str])
    """Number of a session to the user it belongs to."""
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    """User id to the one it was merged into."""
    erased: dict[str, int] = field(default_factory=dict[str, int])
    """User id to the log time of its last erase."""
    seen: set[str] = field(default_factory=set[str])

    def fold(self, events: Iterable[Event]) -> None:
        """Fold events in log order; a second event of an id changes nothing."""
        for event in events:
            if event.event_id in self.seen:
                continue
            if event.event_id:
                self.seen.add(event.event_id)
            if event.kind == Kind.ERASE:
                self._erase(event)
            elif self._is_late_copy(event.user_id, event):
                continue
            elif event.kind == Kind.USER and event.operation == Operation.MERGE:
                self._merge(event)
            elif event.kind == Kind.INTERACTION and event.action in self.weights:
                self._interaction(event._replace(user_id=self.who(event.user_id)))

    def who(self, user_id: str) -> str:
        """Return the user that an id stands for."""
        return self.aliases.get(user_id, user_id)

    def _is_late_copy(self, user_id: str, event: Event) -> bool:
        erased = self.erased.get(user_id)
        if erased is None or event.event_time_ms is None:
            return False
        return event.event_time_ms <= erased and event.log_time_ms - erased <= DAY_MS

    def _merge(self, event: Event) -> None:
        from_id = json.loads(event.body)["from"]
        into, other = self.who(event.user_id), self.who(from_id)
        if self._is_late_copy(from_id, event) or into == other:
            return
        self.aliases[other] = into
        self.aliases.update({each: into for each, target in self.aliases.items() if target == other})
        theirs, mine = self.rings.pop(other, []), self.rings.pop(into, [])
        if theirs or mine:
            # A ring that meets no other stays as it is: in the order of arrival.
            both = sorted(theirs + mine, key=lambda act: act[2]) if theirs and mine else theirs or mine
            self.rings[into] = both[-self.ring_max :]
        for user, action in [key for key in self.user_counts if key[0] == other]:
            self.user_counts[into, action] += self.user_counts.pop((user, action))
        self.owners.update({number: into for number, owner in self.owners.items() if owner == other})
        for session in self.sessions.values():
            session.user = into if session.user == other else session.user
        own = self.sessions.get(("user", into))
        goes_on = own is not None and event.log_time_ms - own.last_log_time_ms <= self.session_gap_ms
        if ("user", other) in self.sessions and not goes_on:
            self.sessions["user", into] = self.sessions.pop(("user", other))

    def _erase(self, event: Event) -> None:
        user = self.who(event.user_id)
        members = {user, *(each for each, target in self.aliases.items() if target == user)}
        self.aliases = {each: target for each, target in self.aliases.items() if target != user}
        self.rings.pop(user, None)
        self.user_counts = Counter({key: count for key, count in self.user_counts.items() if key[0] != user})
        self.sessions = {name: each for name, each in self.sessions.items() if each.user != user}
        self.held = {number: items for number, items in self.held.items() if self.owners.get(number) != user}
        self.owners = {number: owner for number, owner in self.owners.items() if owner != user}
        self.erased.update(dict.fromkeys(members, event.log_time_ms))

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
        found.user = found.user or event.user_id
        if found.user:
            self.owners[found.number] = found.user
        self.held.setdefault(found.number, set()).add(event.item_id)
        self._pair(event.item_id, list(dict.fromkeys(reversed(found.items)))[: self.pair_items_max])
        found.last_log_time_ms = event.log_time_ms
        found.items.append(event.item_id)
        del found.items[: -self.session_items_max]

    def _pair(self, item_id: str, before: list[str]) -> None:
        """Make an item and those that its session had before it neighbours, unless it was among them."""
        for other in before if item_id not in before else ():
            self.neighbours[item_id].add(other)
            self.neighbours[other].add(item_id)
