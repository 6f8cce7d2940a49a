"""The whole state: every table, folded from the log in one order, event by event.

state = fold(log). However the log is cut into batches the tables come out the same, because each kernel
treats one event after another and no table reads another one further on than the event it is at. The tables and their
order stand in ``state.tables``, what they are handed in ``core.fold_step``, and where a batch is cut for them in
``state.steps``. Usual events take one call for all tables (``state.one_pass``); any other, and every event where
``is_general`` says so, is handed from table to table.

The digest covers the logical content of every table in index order: not capacities, not where an entry
happens to lie.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import xxhash
from numpy.typing import NDArray

from midstream.core.fold_step import Fingerprints, FoldStep
from midstream.core.types import EventBatch, Index, LogPosition, Models, Moment, Query
from midstream.events.schema import build
from midstream.state.cells.cells import Cells
from midstream.state.cells.coverage import CountCoverage
from midstream.state.cells.outcome_cells import has_outcome_cells
from midstream.state.control.input_positions import InputPositions
from midstream.state.control.placements import Placements
from midstream.state.control.promotions import Promotions
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.ids.event_ids import EventIds
from midstream.state.ids.id_indexing import VocabularyCount
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.one_pass import OnePass
from midstream.state.online.online_models import OnlineModels
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.outcomes.requests import Requests
from midstream.state.pairs.covisitation import Pairs
from midstream.state.search.text_index import TextIndex
from midstream.state.segments.segments import Segments
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.sessions import Sessions
from midstream.state.settings import FoldSettings
from midstream.state.steps import parts, steps
from midstream.state.structures.hashing import id_hash
from midstream.state.tables import TABLES, TablesAbove
from midstream.state.users.users import PARTS, Users

_NO_EVENTS = build([])
_FOLD, _EVENT_IDS, _USERS, _CELLS = "fold", "event_ids", "users", "cells"
_PLACE = "place"


@dataclass(frozen=True, slots=True)
class Size:
    """Memory of one table."""

    bytes_now: int
    """What it has touched, about."""
    bytes_max: int
    """What it holds when it is full: the sum of its arrays, and of its documents at their maximum."""


class Fold:
    """All tables at one log position. One thread owns the fold; it is read between two calls of ``apply``."""

    def __init__(self, settings: FoldSettings, dropped: Dropped = NOTHING) -> None:
        """Reserve every table at its maximum; pages are paid when touched.

        Args:
            settings: Decide what the state is after the same events.
            dropped: What ``settings.compaction`` names.

        Raises:
            ValueError: More interaction types than a user's row has counts for, or something else is passed by than the
                settings say.
        """
        if dropped.name != settings.compaction:
            message = f"the compaction {dropped.name!r} came where the settings name {settings.compaction!r}"
            raise ValueError(message)
        self.settings = settings
        self.dropped = dropped
        """The items and acts that are passed by."""
        above = TablesAbove(settings, dropped)
        self._named = {entry.name: above.add(entry) for entry in TABLES}
        self.tables: Mapping[type, object] = MappingProxyType(above.tables)
        """Each table by its type: what a ``Moment`` is given."""
        self._left: frozenset[type] = frozenset()
        self._order_tables()
        self.event_ids = above.table(EventIds)
        self.vocabulary = above.table(Vocabulary)
        self.sessions = above.table(Sessions)
        self.items = above.table(Items)
        self.users = above.table(Users)
        self.cells = above.table(Cells)
        self.counted = above.table(CountCoverage)
        self.segments = above.table(Segments)
        self.pairs = above.table(Pairs)
        self.session_index = above.table(SessionIndex)
        self.text_index = above.table(TextIndex)
        self.requests = above.table(Requests)
        self.outcomes = above.table(Outcomes)
        self.online = above.table(OnlineModels)
        self.promotions = above.table(Promotions)
        self.placements = above.table(Placements)
        self.inputs = above.table(InputPositions)
        self._one_pass = OnePass(above)
        self.is_general = False
        """Hand every event from table to table, usual ones too: slower, and the twin of the one pass. No state."""
        self._position = LogPosition(0)
        self._log_time_ms = 0
        self._is_torn = False
        """An exception came in the middle of a batch, so some tables have folded more of it than others."""

    def _order_tables(self) -> None:
        """List the tables to fold: those above all that fold parts of a step, those, and those below."""
        kept = [each for each in TABLES if type(self._named[each.name]) not in self._left]
        start = next(place for place, each in enumerate(kept) if each.by_part)
        self._before = tuple(self._named[each.name] for each in kept[:start])
        self._by_part = tuple(self._named[each.name] for each in kept if each.by_part)
        self._after = tuple(self._named[each.name] for each in kept[start:] if not each.by_part)

    @property
    def log_position(self) -> LogPosition:
        """Number of events that were folded: the position before the next one."""
        return self._position

    @property
    def log_time_ms(self) -> int:
        """Log time of the last event, 0 while there is none."""
        return self._log_time_ms

    @property
    def leaves(self) -> frozenset[type]:
        """Tables that no other table reads, nor is written by."""
        found = frozenset(type(self._named[each.name]) for each in TABLES if each.is_leaf)
        return found - {Outcomes} if has_outcome_cells(self.settings) else found

    def leave_out(self, tables: Collection[type]) -> None:
        """From here on fold without some tables that no other one reads: for who reads others alone, in less time.

        They are gone from ``tables``, and this fold is none to digest or to write down any more.

        Args:
            tables: Of ``leaves``.

        Raises:
            ValueError: Others read one of them.
        """
        if others := frozenset(tables) - self.leaves:
            message = f"other tables read {', '.join(sorted(each.__name__ for each in others))}"
            raise ValueError(message)
        self._left |= frozenset(tables)
        self._order_tables()
        self._one_pass.leave_out(self._left)
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
        self.vocabulary.dropped = drops.at_base(position)
        for batch in batches:
            self.apply(self._position, batch)
        self.vocabulary.dropped = drops

    def apply(self, first: LogPosition, batch: EventBatch, prints: Fingerprints | None = None) -> None:
        """Fold a batch; event i has log position ``first + i``.

        Args:
            first: Position before the first event.
            batch: Stamped with log times.
            prints: Of the batch, where somebody has taken them already.

        Cost: about 1 µs an interaction in batches of 1,000, 15 µs one alone; 50 µs a deletion of a user; 30 µs an
        item or user event, 0.5 ms a merge, and 10 µs more for each pair of the user that features count by; 5 to 50 ms
        an erasure at a million sessions.

        Raises:
            ValueError: The batch does not begin at ``log_position``.
            RuntimeError: An exception, as one of a reader of slates or an interrupt, has come in the middle of a batch
                before: the state is none, until another is restored.
        """
        self._check_whole()
        if first != self._position:
            message = f"a batch at {first} came where one at {self._position} is due"
            raise ValueError(message)
        if not len(batch):
            return
        self._is_torn = True
        is_possible = not self.is_general and self._one_pass.is_possible(first, len(batch))
        if not (is_possible and self._one_pass.fold(first, batch, prints)):
            self._apply_steps(first, batch, prints)
        else:
            self._position = LogPosition(first + len(batch))
            self._log_time_ms = int(batch.rows["log_time_ms"][-1])
            self.vocabulary.erasures.expire(self._log_time_ms)
        self._is_torn = False

    def _check_whole(self) -> None:
        """Raise ``RuntimeError`` where a batch was folded in part."""
        if self._is_torn:
            message = (
                f"the state after {self._position} came with a part of a batch in it, where an exception ended its "
                "fold; restore a state, or fold the log into a new one (docs/data.md)"
            )
            raise RuntimeError(message)

    def _apply_steps(self, first: LogPosition, batch: EventBatch, prints: Fingerprints | None) -> None:
        """Fold events of any kind, step by step and table by table."""
        for step in steps(first, batch, prints):
            self._run(step)
            self._position = LogPosition(step.first + len(step.source))
            self._log_time_ms = int(step.events.log_time_ms[-1])

    def _run(self, step: FoldStep) -> None:
        """Hand a step to all tables."""
        for table in self._before:
            table.apply(step)
        for part in parts(step):
            for table in self._by_part:
                table.apply(part)
        for table in self._after:
            table.apply(step)

    def is_taken_back(self, position: int) -> bool:
        """Return whether the act at a log position was taken back."""
        return position in self.vocabulary.retractions or self.dropped.has(position)

    def forget(self, user_hashes: Iterable[int]) -> None:
        """Be without users, under every id that stands for them, as if their acts had been nobody's.

        For a state that stands for events that are gone: no erase of its own is pending then, as nothing is left in
        which a user could be blanked; those after it are in the log.
        """
        for each in user_hashes:
            change = self.vocabulary.forget(self.vocabulary.aliases.resolve(each))
            self._run(FoldStep(self._position, _NO_EVENTS, change=change))
        self.vocabulary.erasures.carry_out(self._log_time_ms)

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
            "retraction_refused": self.vocabulary.retractions.refused_count,
            "merge_void": self.vocabulary.aliases.void_count,
            "alias_evicted": self.vocabulary.aliases.evicted_count,
            "erasure_forgotten": self.vocabulary.erasures.forgotten_count,
            "control_refused": self.promotions.refused_count + self.placements.refused_count,
            "session_expired": self.sessions.expired_count,
            "session_evicted": self.sessions.evicted_count,
            "cell_evicted": self.cells.evicted_count,
            **self.outcomes.totals,
            **self.online.totals,
            "item_document_refused": self.items.refused_documents_count,
            "item_value_refused": self.items.refused_values_count,
            "search_word_refused": self.text_index.refused_count,
            "segment_value_refused": self.segments.refused_values_count,
            "user_document_refused": self.users.refused_documents_count,
        }

    def sizes(self) -> dict[str, Size]:
        """Return the memory of each table, by name. Cost: 2 ms, as some tables count their pages."""
        return dict(self.each_size())

    def each_size(self) -> Iterator[tuple[str, Size]]:
        """Yield name and memory of each table, read when it is asked for."""
        for name, table in tuple(self._named.items()):
            yield name, Size(table.bytes_now, table.bytes_max)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all of the state by ``table.name``. Large ones are views: copy or write them before ``apply``."""
        found: dict[str, NDArray[np.generic]] = {}
        for _, arrays in self._each_table():
            found.update(arrays)
        return found

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by what ``arrays`` returned, of the same settings."""

        def of_table(name: str) -> dict[str, NDArray[np.generic]]:
            prefix = f"{name}."
            return {key.removeprefix(prefix): each for key, each in arrays.items() if key.startswith(prefix)}

        self.restore_each(of_table)

    def restore_each(self, of_table: Callable[[str], Mapping[str, NDArray[np.generic]]]) -> None:
        """Replace the state table by table, so that the arrays of one can be gone before those of the next come.

        Args:
            of_table: Gives the arrays of a table, by their names in it. Those that lie in ``rooms`` need no content
                yet: no table reads one here.
        """
        self.cells.note_used()
        for name, table in self._named.items():
            table.restore(of_table(name))
        position, log_time_ms = of_table(_FOLD)[_PLACE].tolist()
        self._position = LogPosition(position)
        self._log_time_ms = log_time_ms
        self.vocabulary.erasures.expire(log_time_ms)
        self._is_torn = False

    def rooms(self) -> dict[str, NDArray[np.generic]]:
        """Return memory by ``table.name`` whose first rows are that array: whoever restores may fill it there.

        Only of a fold to which nothing came yet. The array is then handed to ``restore`` as a view of its room.
        """
        rooms = {_EVENT_IDS: self.event_ids.rooms(), _USERS: self.users.rooms(), _CELLS: self.cells.rooms()}
        return {f"{table}.{name}": each for table, found in rooms.items() for name, each in found.items()}

    def digest(self, before: Callable[[str], None] | None = None) -> str:
        """Return 32 hex digits of an XXH3 over the names, types, shapes and bytes of all arrays.

        Of rows of users those are covered that are packed, and not where their parts lie.

        Cost: that of ``arrays``, one table at a time, and 0.1 s a GB; of users 0.2 s a million.

        Args:
            before: Called with the name of each table before it is read.
        """
        digest = xxhash.xxh3_128()
        for table, arrays in self._each_table(before):
            parts = {f"{_USERS}.{name}" for name in PARTS} if table == _USERS else set[str]()
            for key in sorted(arrays.keys() - parts):
                array = arrays[key]
                digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            if table == _USERS:
                digest.update(f"{_USERS}.rows |u1 {self.users.packed_shape}\n".encode())
                for rows in self.users.packed_rows():
                    digest.update(rows.reshape(-1).data)
        return digest.hexdigest()

    def _each_table(
        self, before: Callable[[str], None] | None = None
    ) -> Iterator[tuple[str, dict[str, NDArray[np.generic]]]]:
        """Yield the arrays of one table after another, in the order of their names, by full name."""
        if self._left:
            message = "a fold that left tables out is not the state"
            raise ValueError(message)
        self._check_whole()
        place: NDArray[np.generic] = np.array([self._position, self._log_time_ms], dtype=np.int64)
        yield _FOLD, {f"{_FOLD}.{_PLACE}": place}
        for name in sorted(self._named):
            if before is not None:
                before(name)
            arrays = self._named[name].arrays()
            yield name, {f"{name}.{key}": array for key, array in arrays.items()}

    def _sent(self, query: Query) -> Index:
        """Return the items that the query sent and that are known."""
        if not query.items:
            return np.empty(0, dtype=np.int32)
        found = self.vocabulary.item_indices(query.items)
        return found[found >= 0]
