"""Import of item and user changes without a time: skips rows that would change nothing.

Such a row sets the current values, so an id cannot tell whether it is known. The rows of one item or user are known if
the log holds them all and, applied to its current state, they change nothing. So importing a catalogue twice adds
nothing, and earlier prices are recorded again once others came between.

Rows are checked in their order, up to the first that the log does not hold. Where they would change something, the last
of them do, and only these are recorded. A change whose time is before that of another one makes the result depend on
the order of arrival; then the row is recorded, which does no harm.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition, Mask
from midstream.events.content_ids import content_hashes
from midstream.events.schema import TEXTS, TIME_SENT, pick, texts_of
from midstream.state.ids.erased_users import hash_column
from midstream.state.structures.hashing import IdKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PICKED_ROWS = 100_000
"""Rows of the file that are looked at, at once: 20 MB at 200 B."""
_USER_TEXT, _ITEM_TEXT, _BODY_TEXT = TEXTS.index("user_id"), TEXTS.index("item_id"), TEXTS.index("body")
_OF_USERS = np.uint64(0x9E3779B97F4A7C15)
"""Turned into hashes of users, so that a user and an item of one id are two."""
ROWS_TRIED_MAX = 32
"""Rows of one item or user of which the last ones are sought that matter; of more all are recorded."""
Rows: TypeAlias = NDArray[np.intp]
State: TypeAlias = dict[str, int] | None
"""Hash of the value of each attribute; None = deleted, or nothing is known."""
_UNKNOWN = -1
"""Instead of a hash, which is none of a value."""
_HASH_MASK = (1 << 62) - 1
"""Above 0, so that no hash is that of what is not known."""
_NULL = b"null"
_read = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Change(NamedTuple):
    """What one event says of an item or user."""

    content: int
    """Hash of the event."""
    operation: int
    values: dict[str, int | None]
    """Hash of the value of each attribute that it names, None = it takes it away."""
    time_ms: int = 0
    """When that was so; 0 = when it was recorded."""


@dataclass(slots=True)
class _Known:
    """What the log says of one item or user."""

    contents: set[int] = field(default_factory=set[int])
    """Of all changes."""
    state: State = None
    time_ms: int = 0
    """Of the newest change."""

    def add(self, change: _Change) -> None:
        """Take the next change."""
        self.contents.add(change.content)
        if change.time_ms < self.time_ms:
            named = self.state or {} if change.operation != Operation.PATCH else change.values
            self.state = {**(self.state or {}), **dict.fromkeys(named, _UNKNOWN), "": _UNKNOWN}
            return
        self.time_ms = change.time_ms
        self.state = _applied(self.state, (change,))


class ImportedDocuments:
    """The changes without a time of an import, against a log."""

    def __init__(self, picked: Callable[[Rows], EventBatch], rows: Rows, dated: Rows, key: IdKey) -> None:
        """Look at rows of an import.

        Args:
            picked: Gives rows of the import by number.
            rows: Numbers of those that are such changes, ascending.
            dated: Numbers of the changes that have a time: beside them, those without one say how it was before.
            key: Under which contents are hashed.
        """
        self._picked, self._rows, self._key = picked, rows, key
        self._owner, self._content = np.empty(len(rows), np.uint64), np.empty(len(rows), np.uint64)
        for own in _pieces(len(rows)):
            batch = picked(rows[own])
            self._owner[own], self._content[own] = _owners(batch, key), content_hashes(batch, key)[:, 0]
        self._owners = np.unique(self._owner)
        pieces = _pieces(len(dated) if len(rows) else 0)
        owners = [_owners(picked(dated[own]), key) for own in pieces]
        self.is_dated: Mask = np.isin(self._owner, np.concatenate([np.empty(0, np.uint64), *owners]))
        """Which of the rows have one with a time beside them, (n,): they are known by their ids, as acts are."""
        self._logged_dated = np.zeros(len(self._owners), dtype=np.bool_)
        self._known: dict[int, _Known] = {}
        self._acted = np.zeros(len(self._owners), dtype=np.bool_)

    def seen(self, logged: "Iterable[tuple[LogPosition, EventBatch]]") -> "Iterator[tuple[LogPosition, EventBatch]]":
        """Pass the batches of a log on, and look at each. Cost: 5 µs for each change of an item or user of the file."""
        for first, batch in logged:
            if len(self._owners):
                self._see_acts(batch)
                self._see(batch)
            yield first, batch

    def count_logged_dates(self) -> None:
        """Let changes with a time in the log count as beside the rows: of a history that is imported in parts."""
        self.is_dated |= np.isin(self._owner, self._owners[self._logged_dated])

    def late_count(self) -> int:
        """Return how many items the log has acts on and no change of before those of the file."""
        acted: list[int] = self._owners[self._acted].tolist()
        return sum(owner not in self._known for owner in acted)

    def in_log(self) -> Mask:
        """Return which of the rows the log holds, whatever came after them, (n,)."""
        every = zip(self._owner.tolist(), self._content.tolist(), strict=True)
        return np.array([own in self._known and content in self._known[own].contents for own, content in every], bool)

    def known(self) -> Rows:
        """Return the numbers of the rows that would change nothing, ascending; of dated ones it is not said."""
        contested = np.flatnonzero(np.isin(self._owner, self._owner[self.in_log()]) & ~self.is_dated)
        rows: dict[int, list[tuple[int, _Change]]] = {}
        for piece in _pieces(len(contested)):
            own = contested[piece]
            batch = self._picked(self._rows[own])
            for at, place in enumerate(own.tolist()):
                change = _change_of(batch, at, int(self._content[place]))
                rows.setdefault(int(self._owner[place]), []).append((place, change))
        found = [place for owner, changes in rows.items() for place in _known_of(self._known[owner], changes)]
        return self._rows[np.array(sorted(found), dtype=np.intp)]

    def _see_acts(self, batch: EventBatch) -> None:
        acts = np.flatnonzero(batch.rows["kind"] == Kind.INTERACTION)
        if len(acts):
            items = hash_column(batch, _ITEM_TEXT, self._key)[acts]
            place = np.minimum(np.searchsorted(self._owners, items), len(self._owners) - 1)
            self._acted[place[self._owners[place] == items]] = True

    def _see(self, batch: EventBatch) -> None:
        kinds = batch.rows["kind"]
        changes = np.flatnonzero((kinds == Kind.ITEM) | (kinds == Kind.USER))
        if not len(changes):
            return
        batch = pick(batch, changes)
        owner = _owners(batch, self._key)
        place = np.minimum(np.searchsorted(self._owners, owner), len(self._owners) - 1)
        own = np.flatnonzero(self._owners[place] == owner)
        if not len(own):
            return
        batch = pick(batch, own)
        self._logged_dated[place[own[(batch.rows["flags"] & TIME_SENT) > 0]]] = True
        for at, content in enumerate(content_hashes(batch, self._key)[:, 0].tolist()):
            known = self._known.setdefault(int(owner[own[at]]), _Known())
            known.add(_change_of(batch, at, content))


def _pieces(count: int) -> "Iterator[slice]":
    """Yield which of so many rows are looked at, at once."""
    return (slice(start, start + PICKED_ROWS) for start in range(0, count, PICKED_ROWS))


def _known_of(known: _Known, rows: list[tuple[int, _Change]]) -> list[int]:
    """Return the places of those rows of one item or user that would change nothing, in any order."""
    found = [at for at, change in rows if change.operation == Operation.MERGE and change.content in known.contents]
    changes = [(at, change) for at, change in rows if change.operation != Operation.MERGE]
    held = [change.content in known.contents for _, change in changes]
    count = held.index(False) if False in held else len(held)
    first = [change for _, change in changes[:count]]
    wanted = _applied(known.state, first)
    idle = count if wanted == known.state else 0
    while idle < count <= ROWS_TRIED_MAX and _applied(known.state, first[idle + 1 :]) == wanted:
        idle += 1
    return found + [at for at, _ in changes[:idle]]


def _applied(state: State, changes: "Iterable[_Change]") -> State:
    """Return what changes make of a state, one after another."""
    for change in changes:
        if change.operation == Operation.DELETE:
            state = None
        elif change.operation != Operation.MERGE:
            kept = (state or {}) if change.operation == Operation.PATCH else {}
            told = {**kept, **change.values}
            state = {name: value for name, value in told.items() if value is not None}
    return state


def _owners(batch: EventBatch, key: IdKey) -> NDArray[np.uint64]:
    """Return the hash of the item or user that each event is about, (n,)."""
    is_user = batch.rows["kind"] == Kind.USER
    users = hash_column(batch, _USER_TEXT, key) ^ _OF_USERS
    return np.where(is_user, users, hash_column(batch, _ITEM_TEXT, key))


def _change_of(batch: EventBatch, at: int, content: int) -> _Change:
    """Return what an event says."""
    row = batch.rows[at]
    operation = int(row["operation"])
    time_ms = int(row["event_time_ms"] if row["flags"] & TIME_SENT else row["log_time_ms"])
    if operation not in (Operation.PUT, Operation.PATCH):
        return _Change(content, operation, {}, time_ms)
    told = _read(texts_of(batch, at)[_BODY_TEXT] or b"{}")
    values = {name: None if bytes(raw) == _NULL else hash(bytes(raw)) & _HASH_MASK for name, raw in told.items()}
    return _Change(content, operation, values, time_ms)
