"""The whole state: every table, folded from the log in one order, event by event.

state = fold(log). However the log is cut into batches the tables come out the same, because each kernel
treats one event after another and no table reads another one further on than the event it is at: event ids
say what is folded, the vocabulary gives indices, sessions give numbers, then items, users, segments, pairs,
session index, requests, outcomes, promotions and placements follow. Users and segments read items, so a batch in
which the catalogue changes after other events is handed to them in parts. A merge of two users and an erasure change
whose later events are, and a user who is deleted starts cold, so each is folded by itself, the events before and after
it as batches of their own.

The digest covers the logical content of every table in index order: not capacities, not where an entry
happens to lie.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, Index, IndexedBatch, LogPosition, Models, Moment, Query
from midstream.events.schema import texts_of
from midstream.events.values import merged_id
from midstream.state.cells.cells import Cells
from midstream.state.cells.coverage import CountCoverage
from midstream.state.control.placements import Placements
from midstream.state.control.promotions import Promotions
from midstream.state.ids.aliases import Aliases
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.ids.erased_users import Erasures, asked_at, blanked_hashes
from midstream.state.ids.event_ids import EventAdmission, EventIds, Fingerprints
from midstream.state.ids.vocabulary import Vocabulary, VocabularyCount
from midstream.state.items.items import Items
from midstream.state.outcomes.outcomes import Leaving, Outcomes
from midstream.state.outcomes.requests import Requests
from midstream.state.pairs.covisitation import Pairs
from midstream.state.segments.segments import Segments
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.sessions import Sessions
from midstream.state.settings import FoldSettings
from midstream.state.structures.hashing import id_hash
from midstream.state.structures.kernel import frozen_columns, kernel
from midstream.state.users.users import Users

Table: TypeAlias = (
    EventIds
    | Vocabulary
    | Aliases
    | Erasures
    | Sessions
    | Items
    | Users
    | Cells
    | CountCoverage
    | Segments
    | Pairs
    | SessionIndex
    | Requests
    | Outcomes
    | Promotions
    | Placements
)
LEAVES: frozenset[type] = frozenset((Segments, Pairs, SessionIndex, Requests, Outcomes))
"""Tables that no other table reads."""
_PLACE = "fold.place"
# As plain numbers: NumPy asks an enum's member for its array protocols at each comparison, which costs 1 µs.
_NEW = int(EventAdmission.NEW)
_CONFLICT = int(EventAdmission.CONFLICT)
_CONFLICTS = int(VocabularyCount.CONFLICT)
_ERASED = int(VocabularyCount.ERASED)
_ITEM = int(Kind.ITEM)
_USER = int(Kind.USER)
_ERASE = int(Kind.ERASE)
_MERGE = int(Operation.MERGE)
_DELETE = int(Operation.DELETE)
_BODY = 6
_COLUMNS = (
    "kind",
    "operation",
    "action",
    "folded",
    "user_index",
    "user_hash",
    "user_is_new",
    "item_index",
    "item_hash",
    "session_hash",
    "request_hash",
    "event_time_ms",
    "log_time_ms",
    "value",
    "quantity",
)


@dataclass(frozen=True, slots=True)
class Size:
    """Memory of one table."""

    bytes_now: int
    """What it has touched, about."""
    bytes_max: int
    """What it holds when it is full: the sum of its arrays, and of its documents at their maximum."""


class Fold:
    """All tables at one log position. One thread owns it; whoever reads does so between two ``apply``."""

    def __init__(self, settings: FoldSettings, dropped: Dropped = NOTHING) -> None:
        """Reserve every table at its maximum; pages are paid when touched.

        Args:
            settings: Decide what the state is after the same events.
            dropped: The items that ``settings.compaction`` names.

        Raises:
            ValueError: More interaction types than a user's row has counts for, or other items are dropped than the
                settings say.
        """
        if dropped.name != settings.compaction:
            message = f"the compaction {dropped.name!r} came where the settings name {settings.compaction!r}"
            raise ValueError(message)
        limits = settings.limits
        self.settings = settings
        self.dropped = dropped
        """The items that are passed by."""
        self.event_ids = EventIds(limits.event_ids_max, settings.hash_key())
        self.vocabulary = Vocabulary(settings, dropped)
        self.sessions = Sessions(settings)
        self.items = Items(settings, self.vocabulary)
        self.users = Users(settings, self.items.category)
        self.cells = Cells(settings, self.vocabulary, self.items)
        self.counted = CountCoverage(settings)
        self.segments = Segments(settings, self.vocabulary, self.items, self.users)
        self.pairs = Pairs(settings, self.vocabulary)
        self.session_index = SessionIndex(limits, self.vocabulary)
        self.requests = Requests(settings)
        self.outcomes = Outcomes(settings)
        self.promotions = Promotions()
        self.placements = Placements()
        self._position = LogPosition(0)
        self._log_time_ms = 0
        self._left: frozenset[type] = frozenset()
        self.leaving: Leaving | None = None
        """Is given each slate as it leaves ``outcomes``. No part of the state."""
        self._named: dict[str, Table] = {
            "event_ids": self.event_ids,
            "vocabulary": self.vocabulary,
            "aliases": self.vocabulary.aliases,
            "erasures": self.vocabulary.erasures,
            "sessions": self.sessions,
            "items": self.items,
            "users": self.users,
            "cells": self.cells,
            "counted": self.counted,
            "segments": self.segments,
            "pairs": self.pairs,
            "session_index": self.session_index,
            "requests": self.requests,
            "outcomes": self.outcomes,
            "promotions": self.promotions,
            "placements": self.placements,
        }
        self.tables: Mapping[type, object] = MappingProxyType({type(table): table for table in self._named.values()})
        """Each table by its type: what a ``Moment`` is given."""

    @property
    def log_position(self) -> LogPosition:
        """Number of events that were folded: the position before the next one."""
        return self._position

    @property
    def log_time_ms(self) -> int:
        """Log time of the last event, 0 while there is none."""
        return self._log_time_ms

    def leave_out(self, tables: Collection[type]) -> None:
        """From here on fold without some tables that no other one reads: for who reads others alone, in less time.

        They are gone from ``tables``, and this fold is none to digest or to write down any more.

        Args:
            tables: Of ``LEAVES``.

        Raises:
            ValueError: Others read one of them.
        """
        if others := frozenset(tables) - LEAVES:
            message = f"other tables read {', '.join(sorted(each.__name__ for each in others))}"
            raise ValueError(message)
        self._left |= frozenset(tables)
        self.tables = MappingProxyType({kind: each for kind, each in self.tables.items() if kind not in self._left})

    def begin_with(self, position: LogPosition, count: int, batches: Iterable[EventBatch]) -> None:
        """Stand at a log position with events folded that stand for all that was before it.

        Args:
            position: Where a log begins whose older events are gone.
            count: Number of events in ``batches``; they take the places before the position.
            batches: They say what is known. They know nothing of items that an earlier compaction dropped: what they
                name came back since.

        Raises:
            ValueError: Events were folded already.
        """
        if self._position:
            message = f"the fold stands at {self._position} and cannot begin at {position}"
            raise ValueError(message)
        self._position = LogPosition(position - count)
        self.counted.begin_at(position)
        drops = self.vocabulary.dropped
        self.vocabulary.dropped = drops if drops.before > position else NOTHING
        for batch in batches:
            self.apply(self._position, batch)
        self.vocabulary.dropped = drops

    def apply(self, first: LogPosition, batch: EventBatch, prints: Fingerprints | None = None) -> None:
        """Fold a batch; event i has log position ``first + i``.

        Args:
            first: Position before the first event.
            batch: Stamped with log times.
            prints: Of the batch, where somebody has taken them already.

        Cost: about 1 µs an interaction in batches of 1,000; 50 µs a batch of one, and a deletion of a user; 30 µs an
        item or user event, 0.5 ms a merge, and 10 µs more for each pair of the user that features count by; 5 to 50 ms
        an erasure at a million sessions.

        Raises:
            ValueError: The batch does not begin at ``log_position``.
        """
        if first != self._position:
            message = f"a batch at {first} came where one at {self._position} is due"
            raise ValueError(message)
        if not len(batch):
            return
        found = self.event_ids.admit(prints or self.event_ids.fingerprints(batch), batch.rows["log_time_ms"].copy())
        for start, stop in edges(batch):
            piece = EventBatch(batch.rows[start:stop], batch.text)
            self._fold(LogPosition(first + start), piece, found[start:stop])

    def _fold(self, first: LogPosition, batch: EventBatch, found: NDArray[np.uint8]) -> None:
        """Fold a merge or an erasure, or events none of which is one."""
        indexed = self.vocabulary.index(first, batch, found == _NEW)
        self.vocabulary.counts[_CONFLICTS] += np.count_nonzero(found == _CONFLICT)
        numbered = self.sessions.number(indexed)
        numbered_count = 0
        for part in parts(indexed):
            self.items.apply(part)
            self.users.apply(part)
            self.cells.apply(part, numbered.number[numbered_count : numbered_count + len(part)])
            if Segments not in self._left:
                self.segments.apply(part)
            numbered_count += len(part)
        if Pairs not in self._left:
            self.pairs.apply(indexed, numbered.before)
        if SessionIndex not in self._left:
            self.session_index.apply(indexed, numbered.number, numbered.user)
        if Requests not in self._left:
            self.requests.apply(indexed)
        if Outcomes not in self._left:
            self.outcomes.apply(indexed, self.leaving)
        self.promotions.apply(indexed)
        self.placements.apply(indexed)
        self.counted.apply(indexed)
        self._position = LogPosition(first + len(batch))
        self._log_time_ms = int(batch.rows["log_time_ms"][-1])
        if indexed.operation[0] == _MERGE and indexed.kind[0] == _USER and indexed.folded[0]:
            self._merge(indexed)
        elif indexed.kind[0] == _ERASE and indexed.folded[0]:
            self._erase(indexed)
        elif indexed.operation[0] == _DELETE and indexed.kind[0] == _USER and indexed.folded[0]:
            self.cells.forget(int(indexed.user_index[0]), int(indexed.user_hash[0]))
            self.outcomes.start_cold(int(indexed.user_hash[0]))
        self.vocabulary.erasures.expire(self._log_time_ms)

    def _merge(self, merge: IndexedBatch) -> None:
        """Let one user be another: the row, the open sessions, and all that comes under the id from here on."""
        vocabulary = self.vocabulary
        from_hash = id_hash(merged_id(texts_of(merge.source, 0)[_BODY]), vocabulary.id_key)
        if vocabulary.erasures.refused(merge.source.rows, np.array([from_hash], dtype=np.uint64)):
            vocabulary.counts[_ERASED] += 1
            return
        pair = vocabulary.aliases.merge(int(merge.user_hash[0]), from_hash)
        if pair is None:
            return
        into, other = vocabulary.merge_users(*pair)
        if other >= 0:
            self.users.merge(into, other)
            self.segments.merge(into, other)
            vocabulary.release(other)
        self.cells.merge(into, other, *pair)
        self.outcomes.merge(*pair)
        self.sessions.merge(*pair)

    def _erase(self, erase: IndexedBatch) -> None:
        """Forget a user under every id that stands for it; of a blanked erase only refuse what is late."""
        vocabulary = self.vocabulary
        position, log_time_ms = erase.first, int(erase.log_time_ms[0])
        user_hash, body = int(erase.user_hash[0]), texts_of(erase.source, 0)[_BODY]
        if not user_hash:
            vocabulary.erasures.add(blanked_hashes(body), log_time_ms, position, log_time_ms, is_pending=False)
            return
        asked_ms = asked_at(body, log_time_ms)
        vocabulary.erasures.add(self._forgotten(user_hash), log_time_ms, position, asked_ms, is_pending=True)

    def forget(self, user_hashes: Iterable[int]) -> None:
        """Be without users, under every id that stands for them, as if their acts had been nobody's.

        For a state that stands for events that are gone: no erase of its own is pending then, as nothing is left in
        which a user could be blanked; those after it are in the log.
        """
        for each in user_hashes:
            self._forgotten(self.vocabulary.aliases.resolve(each))
        self.vocabulary.erasures.carry_out(self._log_time_ms)

    def _forgotten(self, user_hash: int) -> list[int]:
        """Forget one user; return the hashes of all ids that stood for it, ascending."""
        vocabulary = self.vocabulary
        members = vocabulary.aliases.members(user_hash)
        hashes = sorted((user_hash, *members.tolist()))
        vocabulary.aliases.forget(user_hash)
        slot = vocabulary.user_slot(user_hash)
        if slot >= 0:
            self.users.forget(slot)
            self.segments.forget(slot)
            vocabulary.release(slot)
        for each in hashes:
            self.cells.forget(slot, each)
        self.sessions.forget(user_hash)
        self.session_index.forget(np.array(hashes, dtype=np.uint64))
        self.outcomes.forget(np.array(hashes, dtype=np.uint64))
        return hashes

    def moment(self, query: Query, models: Models) -> Moment:
        """Return all that may be read to answer a query, at this log position. Valid until the next ``apply``.

        The asking session is the one named by the query's session id, or without one by its user id.
        """
        session_hash = id_hash(query.session_id or "", self.vocabulary.id_key)
        user_hash = self.vocabulary.user_hash_of(query.user_id or "")
        session = self.sessions.find(session_hash, user_hash, query.now_ms)
        recent = session.item_index if session is not None else np.empty(0, dtype=np.int32)
        sent = self._sent(query)
        return Moment(
            query=query,
            log_position=self._position,
            user_index=self.vocabulary.user_slot(user_hash),
            user_hash=user_hash,
            session_hash=session_hash,
            recent_item_index=np.concatenate((recent, sent)) if len(sent) else recent,
            tables=self.tables,
            models=models,
            session_number=session.number if session is not None else -1,
            sent_item_index=sent,
        )

    def counts(self) -> dict[str, int]:
        """Return how many events or rows met a limit or did not fit, each by name."""
        named = {count.name.lower(): int(self.vocabulary.counts[count]) for count in VocabularyCount}
        return {
            **named,
            "merge_void": self.vocabulary.aliases.void_count,
            "alias_evicted": self.vocabulary.aliases.evicted_count,
            "erasure_forgotten": self.vocabulary.erasures.forgotten_count,
            "control_refused": self.promotions.refused_count + self.placements.refused_count,
            "session_expired": self.sessions.expired_count,
            "session_evicted": self.sessions.evicted_count,
            "cell_evicted": self.cells.evicted_count,
            **self.outcomes.totals,
            "item_document_refused": self.items.refused_documents_count,
            "item_value_refused": self.items.refused_values_count,
            "segment_value_refused": self.segments.refused_values_count,
            "user_document_refused": self.users.refused_documents_count,
        }

    def sizes(self) -> dict[str, Size]:
        """Return the memory of each table, by name."""
        return {name: self._size(table) for name, table in self._named.items()}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all of the state by ``table.name``. Large ones are views: copy or write them before ``apply``."""
        found: dict[str, NDArray[np.generic]] = {}
        for _, arrays in self._each_table():
            found.update(arrays)
        return found

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become the state whose ``arrays`` these are, of the same settings."""
        for name, table in self._named.items():
            prefix = f"{name}."
            table.restore({key.removeprefix(prefix): each for key, each in arrays.items() if key.startswith(prefix)})
        position, log_time_ms = arrays[_PLACE].tolist()
        self._position = LogPosition(position)
        self._log_time_ms = log_time_ms
        self.vocabulary.erasures.expire(log_time_ms)

    def digest(self) -> str:
        """Return 32 hex digits of an XXH3 over the names, types, shapes and bytes of all arrays.

        Cost: that of ``arrays``, one table at a time, and 0.1 s a GB.
        """
        digest = xxhash.xxh3_128()
        for _, arrays in self._each_table():
            for key in sorted(arrays):
                array = arrays[key]
                digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def _size(self, table: Table) -> Size:
        if isinstance(table, Items):
            documents_max = self.settings.limits.document_bytes_max
            used = int(table.byte_count() * self.vocabulary.item_count / self.settings.limits.items_max)
            return Size(used + table.document_bytes, table.byte_count() + documents_max)
        return Size(table.bytes_now, table.bytes_max)

    def _each_table(self) -> Iterator[tuple[str, dict[str, NDArray[np.generic]]]]:
        """Yield the arrays of one table after another, in the order of their names, by full name."""
        if self._left:
            message = "a fold that left tables out is not the state"
            raise ValueError(message)
        place: NDArray[np.generic] = np.array([self._position, self._log_time_ms], dtype=np.int64)
        yield "fold", {_PLACE: place}
        for name in sorted(self._named):
            arrays = self._named[name].arrays()
            yield name, {f"{name}.{key}": array for key, array in arrays.items()}

    def _sent(self, query: Query) -> Index:
        """Return the items that the query sent and that are known."""
        if not query.items:
            return np.empty(0, dtype=np.int32)
        found = self.vocabulary.item_indices(query.items)
        return found[found >= 0]


def edges(batch: EventBatch) -> Iterator[tuple[int, int]]:
    """Yield from where to before where events are folded together: each that ends a user by itself."""
    rows, start = frozen_columns(batch)[0], 0
    while start < len(rows):
        stop = _next_change(rows, start)
        if stop > start:
            yield start, stop
        if stop < len(rows):
            yield stop, stop + 1
        start = stop + 1


@kernel
def _next_change(rows: NDArray[np.void], start: int) -> int:
    """Return the place of the next merge, deletion of a user or erasure, the number of rows when there is none."""
    for i in range(start, len(rows)):
        is_user = rows[i]["kind"] == _USER
        if rows[i]["kind"] == _ERASE or (is_user and (rows[i]["operation"] in (_MERGE, _DELETE))):
            return i
    return len(rows)


def parts(batch: IndexedBatch) -> Iterator[IndexedBatch]:
    """Yield a batch in parts in which no item event follows an event of another kind.

    So attributes as they stand after a part's item events are those that hold at all its other events.
    """
    if len(batch) == 1:
        yield batch
        return
    is_item = batch.kind == _ITEM
    cuts = np.flatnonzero(is_item[1:] & ~is_item[:-1]) + 1
    if not len(cuts):
        yield batch
        return
    edges = [0, *cuts.tolist(), len(batch)]
    for start, stop in pairwise(edges):
        yield part(batch, start, stop)


def part(batch: IndexedBatch, start: int, stop: int) -> IndexedBatch:
    """Return the events from ``start`` to before ``stop``; nothing is copied."""
    columns = {name: getattr(batch, name)[start:stop] for name in _COLUMNS}
    source = EventBatch(batch.source.rows[start:stop], batch.source.text)
    return IndexedBatch(first=LogPosition(batch.first + start), source=source, **columns)
