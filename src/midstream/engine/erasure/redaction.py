"""Redaction of a log: the same number of events, at the same positions and log times, without erased users.

Passes over the whole log first find the erased users, with every id that had been merged into each according to the
fold, and the sessions that came with an erased id and, before its erase, with no other user. Then each batch is
redacted by itself, in order:

- an act or an impression before the erase keeps type, item, value, quantity, position, times and, if the engine made
  it, the request id (``STAYS``); its other fields, user, session, context and event id are removed;
- a served record keeps its slate and propensities, without the user and the request;
- a retraction keeps the log position of the act, so that the act stays taken back; it goes by that position, so one
  that was written behind the erase of its owner is redacted too;
- profile changes, merges, late copies that the fold ignored, and copies of erases become ticks;
- the erase itself keeps hashes alone, for as long as late copies are refused; then it is a tick too. Events that arrive
  in this time are recognized by those hashes, so the next rewrite, which has no ids any more, makes a tick of them.

If an event id, or content with a time, identified copies of a redacted event, a neutral event id replaces it, in every
event with the same one, of any user. So the fold applies the same events as before, and counts of items stay exactly
the same. Events after the erase that are no late copies are a new start and stay unchanged, and so do all events of
others.

The owner of a session is decided by the events before the erase alone. Another owner is each user who came with the
session and was not erased by then. A new start of an erased id counts as one, so the session stays when the next user
is erased; events that this erase or an earlier one redacts count as none, and so does a late copy. Later events change
nothing, so several rewrites leave the same log as a single one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.erasure.merged_people import KnownPeople, MergedPeople
from midstream.engine.tokens import has_form
from midstream.events.schema import Event, build, concat, event_at, pick
from midstream.events.values import merged_id
from midstream.ranking.record.served import blank_served
from midstream.state.control.retractions import blanked_retraction, retracted_act
from midstream.state.ids.erased_users import REFUSED_MS, blanked_body, blanked_hashes, hash_column
from midstream.state.ids.event_ids import SPAN_S, EventAdmission, EventIds, fingerprints
from midstream.state.structures.hashing import IdKey, id_hash

Batches: TypeAlias = Iterable[tuple[LogPosition, EventBatch]]
Read: TypeAlias = Callable[[], Batches]
"""Returns the whole log in order, anew with each call."""
STAYS = (
    *("kind", "operation", "action", "item_id", "request_id"),
    *("event_time_ms", "value", "quantity", "position", "log_time_ms"),
)
"""Fields that a redacted event keeps: its counts for an item and a slate, and its times."""
NEUTRAL = "erased:"
"""Begins the event ids that stand for others; the first position at which a blanked event had the same follows."""
_USER_TEXT, _SESSION_TEXT = 2, 4
_BEFORE_ALL = -1
"""Log position of an erase whose event is not in the log any more."""
REMEMBERED_MS = (SPAN_S + 1) * 1_000
"""For no longer of log time the fold tells copies apart."""


@dataclass(frozen=True, slots=True)
class Erase:
    """One erase of one id."""

    position: int
    log_time_ms: int


class Print(NamedTuple):
    """Place of blanked events that are copies of each other."""

    position: int
    """Of the first."""
    log_time_ms: int
    """Of the last."""


@dataclass(frozen=True, slots=True, eq=False)
class ErasedIds:
    """Erased ids, and the positions up to which each is blanked."""

    key: IdKey
    """Of ids."""
    ids: dict[str, list[Erase]] = field(default_factory=dict[str, list[Erase]])
    """Each erased id to its erases, in order."""
    refused: dict[int, list[Erase]] = field(default_factory=dict[int, list[Erase]])
    """Hash of each id that is known by it alone to its erases, in order: a rewrite left no more of it, or it was
    merged before the log begins and no event names it. Nothing of it is to be blanked from before them; late copies
    after them may be there."""
    groups: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    """Log position of an erase to all ids that it erased."""
    sessions: dict[str, int] = field(default_factory=dict[str, int])
    """Session id to the position of the last erase of a user who came with it before which nobody else had."""
    prints: dict[int, Print] = field(default_factory=dict[int, Print])
    """By what tells a blanked event's copies apart, as a 64-bit fingerprint."""
    end_log_time_ms: int = 0
    """Log time of the last event that was looked at."""
    copies: set[int] = field(default_factory=set[int])
    """Log positions of erases that the fold drops as copies: they erase nobody."""

    def __bool__(self) -> bool:
        """Return whether there was any erase."""
        return bool(self.ids or self.refused or self.copies)

    def refuses(self, user_id: str, event: Event, position: int) -> bool:
        """Say whether the fold passes an event by because it is a late copy that names an erased id."""
        time_ms = event.event_time_ms
        if time_ms is None:
            return False
        erases = (
            *self.ids.get(user_id, ()),
            *(self.refused.get(id_hash(user_id, self.key), ()) if self.refused else ()),
        )
        return any(
            each.position < position
            and time_ms <= each.log_time_ms
            and event.log_time_ms - each.log_time_ms <= REFUSED_MS
            for each in erases
        )

    def next_erase(self, user_id: str, position: int) -> int | None:
        """Return the position of the first erase of an id after a log position; None = there is none."""
        return next((each.position for each in self.ids.get(user_id, ()) if each.position > position), None)

    def nameless_between(self, user_id: str, start: int, end: int) -> bool:
        """Return whether an erase of which only hashes are left erased an id between two log positions."""
        erases = self.refused.get(id_hash(user_id, self.key), ()) if self.refused else ()
        return any(start < each.position < end for each in erases)

    def recent_prints(self) -> dict[int, Print]:
        """Return those of which copies that come from now on would still be known for what they are."""
        since_ms = self.end_log_time_ms - REMEMBERED_MS
        return {each: one for each, one in self.prints.items() if one.log_time_ms >= since_ms}

    def hashes(self) -> Sequence[int]:
        """Return the 64-bit hashes of all erased ids that are named, ascending."""
        return sorted(id_hash(each, self.key) for each in self.ids)


def find_erased(read: Read, event_ids_max: int, key: IdKey, known: KnownPeople | None = None) -> ErasedIds:
    """Return who was erased in a log, by name where their events are not blanked yet, and by hash where they are.

    Args:
        read: Gives all of it, to its end.
        event_ids_max: Event ids that the fold remembers, of ``Limits``: so the same merges and erases are copies.
        key: Of ids.
        known: What is known of users from before the log's beginning; None = it begins with the first event.

    Cost: a pass of about 0.1 µs an event; where there is an erase, one more of 0.3 µs and three of 0.1 µs, and memory
    for the merged and erased ids, their sessions and their events' prints, and in the second pass for the event ids as
    the fold's: 28 bytes each at most.
    """
    found = _find_people(read, event_ids_max, key, known)
    if found:
        fates = _Fates(found)
        for first, batch in read():
            fates.find_prints(first, batch)
    return found


def _find_people(read: Read, event_ids_max: int, key: IdKey, known: KnownPeople | None = None) -> ErasedIds:
    """Return who was erased, with their sessions and without their events' prints."""
    known = known or KnownPeople(0)
    found = _find_ids(read(), event_ids_max, key, known) if known.refused or _has_erase(read()) else ErasedIds(key)
    if found.ids:
        covering = _find_sessions(read(), found)
        _leave_shared(read(), found, covering)
        found.sessions.update({session: max(erases) for session, erases in covering.items() if erases})
    return found


def _has_erase(batches: Batches) -> bool:
    return any(bool((batch.rows["kind"] == Kind.ERASE).any()) for _, batch in batches)


class Hidden:
    """Predicate of events of erased users, while the log still has their ids."""

    def __init__(self, read: Read, event_ids_max: int, key: IdKey) -> None:
        """Look through a log. Cost: as ``find_erased``, less a pass.

        Args:
            read: Gives all of it, to its end: an erase hides what lies before.
            event_ids_max: Event ids that the fold remembers, of ``Limits``.
            key: Of ids.
        """
        erased = _find_people(read, event_ids_max, key)
        self._fates = _Fates(erased) if erased else None

    def __call__(self, event: Event, position: int) -> bool:
        """Return whether an event at a log position is to be blanked, and so is nobody's from its user's erase on."""
        return self._fates is not None and self._fates.of(event, position) is not _Fate.KEEP

    def of(self, first: LogPosition, batch: EventBatch) -> NDArray[np.bool_]:
        """Return which events of a batch are to be blanked, (n,): as one by one, and faster where few are."""
        found = np.zeros(len(batch), dtype=np.bool_)
        if self._fates is not None:
            for place in np.flatnonzero(self._fates.concerned(batch)).tolist():
                found[place] = self(event_at(batch, place), first + place)
        return found


class _Fate(Enum):
    """Treatment of an event."""

    KEEP = auto()
    TICK = auto()
    """Only its log time stays."""
    NOBODY = auto()
    """It stays, as nobody's."""
    HASHES = auto()
    """An erase of which only hashes stay."""


class _Fates:
    """Decides the treatment of events."""

    def __init__(self, erased: ErasedIds) -> None:
        self.erased = erased
        self._hashes = _sorted({*erased.hashes(), *erased.refused})
        self._sessions = _hashes_of(erased.sessions, erased.key)

        self._nameless: dict[int, list[int]] = {position: [] for position in erased.groups}
        for each, erases in erased.refused.items():
            for one in erases:
                if one.position in self._nameless:
                    self._nameless[one.position].append(each)

    def erased_at(self, position: int) -> Sequence[int]:
        """Return the hashes of all ids that an erase at a log position erased, ascending."""
        named = [id_hash(each, self.erased.key) for each in self.erased.groups[position]]
        return sorted((*named, *self._nameless[position]))

    def concerned(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Return which events have to be looked at, (n,)."""
        kind, operation = batch.rows["kind"], batch.rows["operation"]
        user = hash_column(batch, _USER_TEXT, self.erased.key)
        session = hash_column(batch, _SESSION_TEXT, self.erased.key)
        alone = (user == 0) & np.isin(session, self._sessions)
        changes = (kind == Kind.ERASE) | ((kind == Kind.USER) & (operation == Operation.MERGE))
        found: NDArray[np.bool_] = np.isin(user, self._hashes) | alone | changes
        return found

    def find_prints(self, first: LogPosition, batch: EventBatch) -> None:
        """Remember what tells the blanked events of a batch apart."""
        places = np.flatnonzero(self.concerned(batch))
        if not len(places):
            return
        prints = told_apart(batch, self.erased.key)
        for place in places[prints[places] != 0].tolist():
            event = event_at(batch, place)
            if self.of(event, first + place) is not _Fate.KEEP:
                known = self.erased.prints.get(int(prints[place]))
                position = known.position if known is not None else first + place
                self.erased.prints[int(prints[place])] = Print(position, event.log_time_ms)

    def of(self, event: Event, position: int) -> _Fate:
        """Return the fate of one event."""
        if event.kind == Kind.ERASE:
            return self._of_erase(event, position)
        if self.erased.refuses(event.user_id, event, position):
            return _Fate.TICK
        stands_at, position = position, decided_at(event, position)
        is_before = self._is_before(event.user_id, position)
        is_before = is_before or self.erased.nameless_between(event.user_id, position, stands_at)
        if event.kind == Kind.USER and event.operation == Operation.MERGE:
            other = merged_id(event.body)
            is_late = self.erased.refuses(other, event, position)
            is_before = is_before or is_late or self._is_before(other, position)
        elif not event.user_id:
            is_before = self.erased.sessions.get(event.session_id, 0) > position
        if not is_before:
            return _Fate.KEEP
        return _Fate.TICK if event.kind == Kind.USER else _Fate.NOBODY

    def _is_before(self, user_id: str, position: int) -> bool:
        return self.erased.next_erase(user_id, position) is not None

    def _of_erase(self, event: Event, position: int) -> _Fate:
        if position in self.erased.copies:
            return _Fate.TICK
        is_carried_out = position in self.erased.groups
        is_over = self.erased.end_log_time_ms - event.log_time_ms > REFUSED_MS
        if is_over and (is_carried_out or not event.user_id):
            return _Fate.TICK
        return _Fate.HASHES if event.user_id and is_carried_out else _Fate.KEEP


class Blanker:
    """Blanks the batches of a log, one after another from its beginning."""

    def __init__(self, erased: ErasedIds) -> None:
        """Blank what ``find_erased`` found; what is appended later is taken for events after it, and added to it."""
        self._fates = _Fates(erased)
        self._prints = _sorted(erased.prints)
        self.blanked_counts: dict[str, int] = {}
        """How many events of each kind were changed, by the kind's name in small letters."""

    def blank(self, first: LogPosition, batch: EventBatch) -> EventBatch:
        """Return a batch without erased users; the same object when none is in it.

        Args:
            first: Log position before its first event.
            batch: The next one of the log.
        """
        self._fates.find_prints(first, batch)
        if len(self._fates.erased.prints) != len(self._prints):
            self._prints = _sorted(self._fates.erased.prints)
        prints = (
            told_apart(batch, self._fates.erased.key) if len(self._prints) else np.zeros(len(batch), dtype=np.uint64)
        )
        is_told = np.isin(prints, self._prints) & (prints != 0)
        changed: list[Event] = []
        order = np.arange(len(batch))
        for place in np.flatnonzero(self._fates.concerned(batch) | is_told).tolist():
            event = event_at(batch, place)
            blanked = self._blanked(event, first + place)
            if is_told[place]:
                neutral = f"{NEUTRAL}{self._fates.erased.prints[int(prints[place])].position}"
                blanked = blanked if blanked.event_id == neutral else blanked._replace(event_id=neutral)
            if blanked is not event:
                name = Kind(event.kind).name.lower()
                self.blanked_counts[name] = self.blanked_counts.get(name, 0) + 1
                order[place] = len(batch) + len(changed)
                changed.append(blanked)
        return pick(concat((batch, build(changed))), order) if changed else batch

    def _blanked(self, event: Event, position: int) -> Event:
        """Return what is left of an event; the same object when all is."""
        fate = self._fates.of(event, position)
        if fate is _Fate.KEEP:
            return event
        if fate is _Fate.TICK:
            return Event(Kind.TICK, log_time_ms=event.log_time_ms)
        if fate is _Fate.HASHES:
            body = blanked_body(self._fates.erased_at(position))
            return Event(Kind.ERASE, body=body, log_time_ms=event.log_time_ms)
        return _nobodys(event, self._fates.erased)


def _nobodys(event: Event, erased: ErasedIds) -> Event:
    """Return what may stay of an event of a user: it is made of that, so a field that is added later is not in it."""
    body = event.body if event.kind == Kind.ITEM else b""  # attributes of an item are nobody's
    if event.kind == Kind.SERVED:
        body = blank_served(event.body)
    elif event.kind == Kind.RETRACTION:
        body = blanked_retraction(event.body)
    stays: dict[str, Any] = {name: getattr(event, name) for name in STAYS}
    # That of an act is a text that a client sent; that of a slate is from the engine, and copies are told by it.
    names_someone = event.request_id == event.session_id or event.request_id in erased.ids
    if event.kind != Kind.SERVED and (names_someone or not has_form(event.request_id)):
        stays["request_id"] = ""
    return Event(**stays, body=body)


def decided_at(event: Event, position: int) -> int:
    """Return the log position by which an event at a log position is redacted: that of a retraction is its act's."""
    act = retracted_act(event.body) if event.kind == Kind.RETRACTION else None
    return position if act is None else min(position, act.log_position)


def told_apart(batch: EventBatch, key: IdKey) -> NDArray[np.uint64]:
    """Return what tells the copies of each event apart, (n,); 0 = nothing, or a request id, which stays."""
    prints = fingerprints(batch, key).id_hash
    prints[(batch.rows["kind"] == Kind.SERVED) & (batch.rows["event_id_length"] == 0)] = 0
    return prints


def _sorted(prints: Iterable[int]) -> NDArray[np.uint64]:
    return np.array(sorted(prints), dtype=np.uint64)


def _find_ids(batches: Batches, event_ids_max: int, key: IdKey, known: KnownPeople) -> ErasedIds:
    """Return the erased ids and their groups: merges and erases in the order of the log, as the fold takes them."""
    found = ErasedIds(key)
    people = MergedPeople(key)
    is_begun = False
    event_ids = EventIds(event_ids_max, key)
    end_log_time_ms = 0
    for first, batch in batches:
        if first >= known.log_position and not is_begun:
            is_begun = True
            _begin_with(people, known, found)
        people.look(batch)
        kind, operation = batch.rows["kind"], batch.rows["operation"]
        is_merge = (kind == Kind.USER) & (operation == Operation.MERGE)
        admitted = event_ids.admit(event_ids.fingerprints(batch), batch.rows["log_time_ms"].astype(np.int64))
        is_copy = admitted != int(EventAdmission.NEW)
        found.copies.update((first + np.flatnonzero((kind == Kind.ERASE) & is_copy)).tolist())
        for place in np.flatnonzero((is_merge | (kind == Kind.ERASE)) & ~is_copy).tolist():
            event = event_at(batch, place)
            if event.kind == Kind.USER:
                _merge(people, event, first + place, found)
            elif event.user_id:
                _erase(people, event, first + place, found)
            else:
                for each in blanked_hashes(event.body):
                    found.refused.setdefault(each, []).append(Erase(first + place, event.log_time_ms))
        end_log_time_ms = int(batch.rows["log_time_ms"][-1]) if len(batch) else end_log_time_ms
    return replace(found, end_log_time_ms=end_log_time_ms)


def _merge(people: MergedPeople, event: Event, position: int, found: ErasedIds) -> None:
    from_id = merged_id(event.body)
    named = (event.user_id, from_id)
    if not all(named) or any(found.refuses(each, event, position) for each in named):
        return
    people.merge(people.hash_of(event.user_id), people.hash_of(from_id))


def _erase(people: MergedPeople, event: Event, position: int, found: ErasedIds) -> None:
    group, erase = people.forget(people.hash_of(event.user_id)), Erase(position, event.log_time_ms)
    names = tuple(people.names[each] for each in group if each in people.names)
    for each in names:
        found.ids.setdefault(each, []).append(erase)
    for nameless in (each for each in group if each not in people.names):
        found.refused.setdefault(nameless, []).append(erase)
    found.groups[position] = names


def _begin_with(people: MergedPeople, known: KnownPeople, found: ErasedIds) -> None:
    """Take in what is known from before the log's beginning, beside what the events of a base said of it."""
    people.begin_with(known.aliases)
    told = {*found.refused, *found.hashes()}
    for each, log_time_ms in known.refused.items():
        if each not in told:
            found.refused[each] = [Erase(_BEFORE_ALL, log_time_ms)]


def _find_sessions(batches: Batches, erased: ErasedIds) -> dict[str, set[int]]:
    """Return the session ids that came with an erased id, each with the positions of the erases that cover it."""
    hashes = _hashes_of(erased.ids, erased.key)
    found: dict[str, set[int]] = {}
    for first, batch in batches:
        is_erased = np.isin(hash_column(batch, _USER_TEXT, erased.key), hashes) & (batch.rows["session_id_length"] > 0)
        for place in np.flatnonzero(is_erased).tolist():
            event = event_at(batch, place)
            position = decided_at(event, first + place)
            covering = erased.next_erase(event.user_id, position)
            if covering is not None and not erased.refuses(event.user_id, event, position):
                found.setdefault(event.session_id, set()).add(covering)
    return found


def _leave_shared(batches: Batches, erased: ErasedIds, covering: dict[str, set[int]]) -> None:
    """Take from the erases that cover each session those before which somebody else came with it."""
    sessions = _hashes_of(covering, erased.key)
    for first, batch in batches:
        is_one = np.isin(hash_column(batch, _SESSION_TEXT, erased.key), sessions) & (batch.rows["user_id_length"] > 0)
        for place in np.flatnonzero(is_one).tolist():
            event = event_at(batch, place)
            position = decided_at(event, first + place)
            erases = covering.get(event.session_id)
            if not erases or erased.refuses(event.user_id, event, position):
                continue
            blanked_by = erased.next_erase(event.user_id, position)
            erases -= {each for each in erases if position < each and (blanked_by is None or each < blanked_by)}


def _hashes_of(ids: Iterable[str], key: IdKey) -> NDArray[np.uint64]:
    return _sorted(id_hash(each, key) for each in ids)
