"""Expected state after some events, in plain Python: counted events, items on sale, known users.

What came of slates is said by ``tests.support.join``, which is told the same events.

It shares no code with the fold. It knows no maximum of items and none of documents, and a run stays below those.
"""

import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TypeAlias

from midstream.core.kinds import Kind, Operation
from midstream.events.schema import Event
from midstream.state.ids.compacted_items import Dropped
from midstream.state.ids.erased_users import blanked_hashes
from midstream.state.settings import FoldSettings
from midstream.state.structures.hashing import id_hash
from tests.support.join import ReferenceJoin

AHEAD_MS = 300_000
"""An event time further ahead of log time is set to log time."""
SPAN_S = 86_400
"""Seconds of log time for which an event id is remembered."""
_NEVER = -(1 << 62)
Identity: TypeAlias = str | tuple[object, ...] | None


class SeenIds:
    """Ids of the newest events: at most so many, and none older than 24 h of log time."""

    def __init__(self, ids_max: int) -> None:
        """Begin with none."""
        self._ids_max = ids_max
        self._ids: dict[Identity, None] = {}
        self._order: deque[tuple[Identity, int]] = deque()

    def is_new(self, event: Event) -> bool:
        """Remember an event; return False when it was remembered already."""
        second = event.log_time_ms // 1_000
        while self._order and self._order[0][1] < second - SPAN_S:
            del self._ids[self._order.popleft()[0]]
        identity = identity_of(event)
        if identity is None:
            return True
        if identity in self._ids:
            return False
        if len(self._order) == self._ids_max:
            del self._ids[self._order.popleft()[0]]
        self._ids[identity] = None
        self._order.append((identity, second))
        return True


def identity_of(event: Event) -> Identity:
    """Return what two copies of an event have in common; None = copies cannot be told from others."""
    if event.event_id:
        return event.event_id
    if event.kind == Kind.SERVED:
        return ("served", event.request_id)
    if event.kind == Kind.TICK or event.event_time_ms is None:
        return None
    return ("content", repr(event._replace(log_time_ms=0)))


def time_of(event: Event) -> int:
    """Return when an event happened: when it says, unless that is too far ahead of log time."""
    said = event.event_time_ms
    return event.log_time_ms if said is None or said > event.log_time_ms + AHEAD_MS else said


@dataclass(slots=True)
class Sold:
    """What the catalogue says of one item."""

    floor_ms: int = _NEVER
    changed_ms: int = _NEVER
    is_deleted: bool = False
    fields: dict[str, tuple[int, object]] = field(default_factory=dict[str, tuple[int, object]])

    def value(self, name: str) -> object:
        """Return a field, None = not there."""
        return self.fields.get(name, (0, None))[1]

    @property
    def is_available(self) -> bool:
        """Whether it may be served."""
        return not self.is_deleted and self.value("available") in {None, True}

    def change(self, event: Event) -> None:
        """Fold one item event: field by field the newest event time wins."""
        time_ms = event.log_time_ms if event.event_time_ms is None else event.event_time_ms
        if event.event_time_ms is None:
            time_ms = max(time_ms, self.floor_ms, self.changed_ms)
        elif time_ms > event.log_time_ms + AHEAD_MS:
            time_ms = event.log_time_ms
        if time_ms < self.floor_ms:
            return
        sent: dict[str, object] = json.loads(event.body or b"{}")
        if event.operation != Operation.PATCH:
            self.fields = {name: each for name, each in self.fields.items() if each[0] > time_ms}
            self.floor_ms = time_ms
        if event.operation == Operation.DELETE:
            self.is_deleted = self.is_deleted or time_ms >= self.changed_ms
            return
        self.is_deleted = False
        self.changed_ms = max(self.changed_ms, time_ms)
        for name, value in sent.items():
            is_void = value is None and event.operation == Operation.PUT
            if not is_void and time_ms >= self.fields.get(name, (_NEVER, None))[0]:
                self.fields[name] = (time_ms, value)


class ExpectedState:
    """Catalogue, users and who touched what, after the events so far."""

    def __init__(self, settings: FoldSettings, dropped: Dropped) -> None:
        """Begin with nothing; ``dropped`` says which items are passed by, and up to where."""
        self.catalogue: dict[str, Sold] = {}
        self.users: dict[str, None] = {}
        """Those who have a row, the least recently seen first."""
        self.touched: defaultdict[str, set[str]] = defaultdict(set)
        """Of a user or a session, as ``user:u1``: the items that its events name."""
        self.deleted: set[str] = set()
        """Items of which a delete was the first that the catalogue said: whether it counts depends on the room for what
        acts make, so nothing is known of them here."""
        self.aliases: dict[str, str] = {}
        """User id to the one that it was merged into, if that was not forgotten."""
        self.join = ReferenceJoin(settings)
        """Slates that are held, and what followed."""
        self.erased_at: dict[int, int] = {}
        """Hash of a user id to the log position at which it was erased last."""
        self._erased: dict[int, int] = {}
        """Hash of a user id to the log time at which it was erased last."""
        self._key = settings.hash_key()
        self._seen = SeenIds(settings.limits.event_ids_max)
        self._actions = frozenset(settings.types)
        self._users_max = settings.limits.users_max
        self._dropped = frozenset(dropped.item_hash.tolist())
        self._dropped_before = int(dropped.before)
        self._position = 0

    def fold(self, event: Event) -> None:
        """Fold the next event."""
        self._position += 1
        self.join.pass_time(event.log_time_ms)
        if not self._seen.is_new(event):
            return
        if event.kind == Kind.ERASE:
            self._erase(event)
        elif self._is_late_copy(event.user_id, event):
            return
        elif event.kind == Kind.USER and event.operation == Operation.MERGE:
            self._merge(event)
        else:
            told = event._replace(user_id=self.who(event.user_id))
            self._fold(told)
            self.join.add(told, self._position - 1, time_of(event))

    def who(self, user_id: str) -> str:
        """Return the user that an id stands for."""
        return self.aliases.get(user_id, user_id)

    def _fold(self, event: Event) -> None:
        acts = event.kind == Kind.INTERACTION and event.action in self._actions
        if event.user_id:
            self._see(event, makes=acts or (event.kind == Kind.USER and event.operation != Operation.DELETE))
        if event.kind in {Kind.INTERACTION, Kind.IMPRESSION}:
            self.touched[f"user:{event.user_id}"].add(event.item_id)
            self.touched[f"session:{event.session_id}"].add(event.item_id)
        is_dropped = self._position <= self._dropped_before and id_hash(event.item_id, self._key) in self._dropped
        if event.kind == Kind.ITEM and not is_dropped:
            if event.operation != Operation.DELETE or event.item_id in self.catalogue:
                self.catalogue.setdefault(event.item_id, Sold()).change(event)
            else:
                self.deleted.add(event.item_id)

    def _merge(self, event: Event) -> None:
        from_id = str(json.loads(event.body)["from"])
        into, other = self.who(event.user_id), self.who(from_id)
        if self._is_late_copy(from_id, event) or into == other:
            return
        self.aliases.update({alias: into for alias, target in self.aliases.items() if target == other})
        self.aliases[other] = into
        self.touched[f"user:{into}"] |= self.touched[f"user:{other}"]
        is_known = into in self.users or other in self.users
        self.users.pop(into, None)
        self.users.pop(other, None)
        if is_known:
            self.users[into] = None

    def _erase(self, event: Event) -> None:
        if not event.user_id:  # blanked
            self._erased.update(dict.fromkeys(blanked_hashes(event.body), event.log_time_ms))
            return
        user = self.who(event.user_id)
        members = {user, *(alias for alias, target in self.aliases.items() if target == user)}
        self.aliases = {alias: target for alias, target in self.aliases.items() if target != user}
        self.users.pop(user, None)
        hashes = {id_hash(each, self._key) for each in members}
        self._erased.update(dict.fromkeys(hashes, event.log_time_ms))
        self.erased_at.update(dict.fromkeys(hashes, self._position - 1))
        self.join.forget(hashes)

    def _is_late_copy(self, user_id: str, event: Event) -> bool:
        erased_ms = self._erased.get(id_hash(user_id, self._key))
        if erased_ms is None or event.event_time_ms is None:
            return False
        return event.event_time_ms <= erased_ms and event.log_time_ms - erased_ms <= SPAN_S * 1_000

    def _see(self, event: Event, *, makes: bool) -> None:
        user = event.user_id
        is_known = user in self.users
        if makes or (is_known and event.kind == Kind.IMPRESSION):
            self.users.pop(user, None)
            self.users[user] = None
            if len(self.users) > self._users_max:
                del self.users[next(iter(self.users))]
