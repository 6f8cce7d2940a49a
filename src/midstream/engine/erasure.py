"""The events of a log without the users who were erased: as many, at the same positions and log times.

What is found first, in passes over the whole log: who was erased, with every id that had been merged into each, and the
sessions that came with an erased id and with nobody else. Then each batch is blanked by itself, in order:

- an act or an impression before the erase keeps type, item, value, quantity, position, times and request id; user,
  session, context and event id are gone. A neutral event id stands where one was or where equal content would have told
  copies apart, the same for the same, so that counts of items stay exactly what they were;
- a served record keeps its slate and propensities, and no longer who asked, and with what;
- profile changes, merges, and late copies that the fold passed by become ticks;
- the erase itself keeps hashes alone, for as long as late copies are refused; then it is a tick too.

Events after the erase that are no late copies are a new start and stay as they are, and so is every event of others.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import Event, build, concat, event_at, pick
from midstream.events.values import merged_id
from midstream.ranking.served import blank_served
from midstream.state.erasures import REFUSED_MS, blanked_body, hash_column
from midstream.state.hashing import id_hash

Batches: TypeAlias = Iterable[tuple[LogPosition, EventBatch]]
Read: TypeAlias = Callable[[], Batches]
"""Gives the whole log in order, anew with each call."""
NEUTRAL = "erased:"
"""Begins the event ids that stand for others; the first position at which such an event lay follows."""
_USER_TEXT, _SESSION_TEXT = 2, 4
_ACTS = (Kind.INTERACTION, Kind.IMPRESSION)


@dataclass(frozen=True, slots=True)
class Erase:
    """One erase of one id."""

    position: int
    log_time_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Erased:
    """Who is to be blanked where."""

    ids: dict[str, list[Erase]] = field(default_factory=dict[str, list[Erase]])
    """Each erased id to its erases, in order."""
    groups: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    """Log position of an erase to all ids that it erased."""
    sessions: dict[str, int] = field(default_factory=dict[str, int])
    """Session id that nobody else came with to the position of the erase before which its events are the user's."""
    end_log_time_ms: int = 0
    """Log time of the last event that was looked at."""

    def hashes(self) -> Sequence[int]:
        """Return the 64-bit hashes of all erased ids, ascending."""
        return sorted(id_hash(each) for each in self.ids)


class _People:
    """Which ids are one user, as merges make them."""

    def __init__(self) -> None:
        self._user_of: dict[str, str] = {}
        self._ids_of: dict[str, list[str]] = {}

    def merge(self, into_id: str, from_id: str) -> None:
        """Let all ids of one user be another's."""
        into, other = (self._user_of.get(each, each) for each in (into_id, from_id))
        if into != other:
            moved = self._ids_of.pop(other, [other])
            self._ids_of.setdefault(into, [into]).extend(moved)
            self._user_of.update(dict.fromkeys(moved, into))

    def forget(self, user_id: str) -> tuple[str, ...]:
        """Return all ids of a user; from here on each is a user of its own."""
        user = self._user_of.get(user_id, user_id)
        group = tuple(self._ids_of.pop(user, [user]))
        for each in group:
            self._user_of.pop(each, None)
        return group


def find_erased(read: Read) -> Erased:
    """Return who was erased in a log whose events are not blanked yet.

    Cost: three passes of about 0.1 µs an event, and memory for the erased ids and their sessions.
    """
    found = _find_ids(read())
    if found.ids:
        found.sessions.update(_find_sessions(read(), found))
        for session in _shared(read(), found):
            del found.sessions[session]
    return found


class Blanker:
    """Blanks the batches of a log, one after another from its beginning."""

    def __init__(self, erased: Erased) -> None:
        """Blank what ``find_erased`` found; what is appended later is taken for events after it."""
        self._erased = erased
        self._hashes = _hashes_of(erased.ids)
        self._sessions = _hashes_of(erased.sessions)
        self._neutral: dict[str, str] = {}
        self.blanked_counts: dict[str, int] = {}
        """How many events of each kind were changed, by the kind's name in small letters."""

    def blank(self, first: LogPosition, batch: EventBatch) -> EventBatch:
        """Return a batch without erased users; the same object when none is in it.

        Args:
            first: Log position before its first event.
            batch: The next one of the log.
        """
        changed: list[Event] = []
        order = np.arange(len(batch))
        for place in np.flatnonzero(self._concerned(batch)).tolist():
            event = event_at(batch, place)
            blanked = self._blanked(event, first + place)
            if blanked is not event:
                name = Kind(event.kind).name.lower()
                self.blanked_counts[name] = self.blanked_counts.get(name, 0) + 1
                order[place] = len(batch) + len(changed)
                changed.append(blanked)
        return pick(concat((batch, build(changed))), order) if changed else batch

    def _concerned(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Return which events have to be looked at, (n,)."""
        kind, operation = batch.rows["kind"], batch.rows["operation"]
        user = hash_column(batch, _USER_TEXT)
        alone = (user == 0) & np.isin(hash_column(batch, _SESSION_TEXT), self._sessions)
        changes = (kind == Kind.ERASE) | ((kind == Kind.USER) & (operation == Operation.MERGE))
        found: NDArray[np.bool_] = np.isin(user, self._hashes) | alone | changes
        return found

    def _blanked(self, event: Event, position: int) -> Event:
        """Return what is left of an event; the same object when all is."""
        if event.kind == Kind.ERASE:
            return self._erase(event, position)
        erases = self._erased.ids.get(event.user_id, ())
        if _is_late_copy(event, position, erases):
            return _tick(event)
        is_before = any(each.position > position for each in erases)
        if event.kind == Kind.USER and event.operation == Operation.MERGE:
            theirs = self._erased.ids.get(merged_id(event.body), ())
            is_late = _is_late_copy(event, position, theirs)
            is_before = is_before or is_late or any(each.position > position for each in theirs)
        elif not event.user_id:
            is_before = self._erased.sessions.get(event.session_id, 0) > position
        if not is_before:
            return event
        if event.kind == Kind.USER:
            return _tick(event)
        nobody = event._replace(user_id="", session_id="", event_id=self._neutral_id(event, position))
        if event.kind in _ACTS:
            return nobody._replace(body=b"")
        return nobody._replace(body=blank_served(event.body)) if event.kind == Kind.SERVED else nobody

    def _erase(self, event: Event, position: int) -> Event:
        if self._erased.end_log_time_ms - event.log_time_ms > REFUSED_MS and (
            not event.user_id or position in self._erased.groups
        ):
            return _tick(event)
        group = self._erased.groups.get(position)
        if not event.user_id or group is None:
            return event
        body = blanked_body(sorted(id_hash(each) for each in group))
        return Event(Kind.ERASE, body=body, log_time_ms=event.log_time_ms)

    def _neutral_id(self, event: Event, position: int) -> str:
        """Return what tells copies of an event apart when its id and its content no longer do."""
        if not event.event_id and (event.event_time_ms is None or event.kind == Kind.SERVED):
            return ""
        name = f"i{event.event_id}" if event.event_id else f"c{event._replace(log_time_ms=0)!r}"
        return self._neutral.setdefault(name, f"{NEUTRAL}{position}")


def _find_ids(batches: Batches) -> Erased:
    """Return the erased ids and their groups: merges and erases in the order of the log, as the fold takes them."""
    found = Erased()
    people = _People()
    end_log_time_ms = 0
    for first, batch in batches:
        kind, operation = batch.rows["kind"], batch.rows["operation"]
        is_merge = (kind == Kind.USER) & (operation == Operation.MERGE)
        for place in np.flatnonzero(is_merge | (kind == Kind.ERASE)).tolist():
            event = event_at(batch, place)
            if event.kind == Kind.USER:
                _merge(people, event, first + place, found)
            elif event.user_id:
                _erase(people, event, first + place, found)
        end_log_time_ms = int(batch.rows["log_time_ms"][-1]) if len(batch) else end_log_time_ms
    return Erased(found.ids, found.groups, found.sessions, end_log_time_ms)


def _merge(people: _People, event: Event, position: int, found: Erased) -> None:
    from_id = merged_id(event.body)
    named = (event.user_id, from_id)
    if not all(named) or any(_is_late_copy(event, position, found.ids.get(each, ())) for each in named):
        return
    people.merge(*named)


def _erase(people: _People, event: Event, position: int, found: Erased) -> None:
    group = people.forget(event.user_id)
    for each in group:
        found.ids.setdefault(each, []).append(Erase(position, event.log_time_ms))
    found.groups[position] = group


def _find_sessions(batches: Batches, erased: Erased) -> dict[str, int]:
    """Return the session ids that came with an erased id, each with the position of the erase that covers it."""
    hashes = _hashes_of(erased.ids)
    found: dict[str, int] = {}
    for first, batch in batches:
        is_erased = np.isin(hash_column(batch, _USER_TEXT), hashes) & (batch.rows["session_id_length"] > 0)
        for place in np.flatnonzero(is_erased).tolist():
            event = event_at(batch, place)
            covering = [each.position for each in erased.ids.get(event.user_id, ()) if each.position > first + place]
            if covering:
                found[event.session_id] = max(found.get(event.session_id, 0), covering[0])
    return found


def _shared(batches: Batches, erased: Erased) -> set[str]:
    """Return those of the session ids that somebody else came with too."""
    hashes, sessions = _hashes_of(erased.ids), _hashes_of(erased.sessions)
    found: set[str] = set()
    for _, batch in batches:
        user = hash_column(batch, _USER_TEXT)
        is_shared = np.isin(hash_column(batch, _SESSION_TEXT), sessions) & (user != 0) & ~np.isin(user, hashes)
        found.update(event_at(batch, place).session_id for place in np.flatnonzero(is_shared).tolist())
    return found & erased.sessions.keys()


def _is_late_copy(event: Event, position: int, erases: Sequence[Erase]) -> bool:
    """Say whether the fold passes an event by because its user was erased."""
    time_ms = event.event_time_ms
    if time_ms is None:
        return False
    return any(
        each.position < position and time_ms <= each.log_time_ms and event.log_time_ms - each.log_time_ms <= REFUSED_MS
        for each in erases
    )


def _tick(event: Event) -> Event:
    """Return an event that moves log time as this one did, and nothing else."""
    return Event(Kind.TICK, log_time_ms=event.log_time_ms)


def _hashes_of(ids: Iterable[str]) -> NDArray[np.uint64]:
    return np.array(sorted(id_hash(each) for each in ids), dtype=np.uint64)
