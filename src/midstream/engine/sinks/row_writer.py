"""Row writer of a sink: reads rows in bounded turns of the event loop, and writes each under its log position.

A row is read at the position of its turn, which is its version, so it is at least as new as the event that touched it.
Rows of one turn, and of turns in between which nothing was folded, are written together. A store takes a row only over
one of a lower version, so writes may come twice, late and out of order.

Another state with other values at the same position (a rebuild, another declaration) would give one version two
contents. So after such a change nothing is read until the log has moved past the newest version that was written.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from midstream.core.errors import MidstreamError
from midstream.core.kinds import Kind
from midstream.core.protocols import EventLog
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.answer.feature_reads import declared_by
from midstream.engine.sinks.row_columns import OwnerRowReader, RowColumns, SinkScope, row_columns
from midstream.engine.sinks.touched_rows import TouchedRows
from midstream.engine.sinks.write_window import WriteGroup, WriteWindow
from midstream.engine.sinks.written_rows import WrittenRows
from midstream.engine.stores.online_store import TEXT_BYTES_MAX, OnlineStore, StoreKind, StoreValue, is_storable
from midstream.engine.types import Recorded
from midstream.events.schema import Event, build
from midstream.features.declarations import Declarations
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold
from midstream.state.structures.hashing import IdKey, id_hash

if TYPE_CHECKING:
    from midstream.state.settings import FoldSettings

TURN_S = 0.001
"""Reading holds the event loop for so long at once: about 30 users, of whom each takes 30 µs."""
TURN_ITEMS = 200
"""Items of a turn: a field of one takes 3 µs."""
TURN_IDS = 200
"""Ids that are looked up in one turn: one takes 3 µs."""
FLOOR_WAIT_S = 0.05
"""Between two looks whether the log has moved past the versions of an earlier declaration."""
FLOOR_LOOKS = 4
"""After so many the log is moved by a tick: a shop without visitors would wait for long."""
MakeStore = Callable[[Mapping[str, StoreKind]], OnlineStore]
"""Returns a store of a table with these columns."""


class SinkStopped(MidstreamError):
    """A sink that cannot go on with what is in service now."""


class DeclarationChanged(MidstreamError):
    """Other features, or another state, came into service since the declaration was read."""


class SinkEngine(Protocol):
    """The engine as a sink sees it."""

    @property
    def fold(self) -> Fold:
        """The state in service."""
        ...

    @property
    def plans(self) -> Mapping[str, Plan]:
        """Plans in service; each has the declared features."""
        ...

    @property
    def concerns(self) -> MutableMapping[str, str]:
        """Texts for an operator, by subject; health shows them."""
        ...

    @property
    def log(self) -> EventLog:
        """The log in service."""
        ...

    def record(self, batch: EventBatch) -> Coroutine[Any, Any, Recorded]:
        """Make events durable and apply them."""
        ...


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """One of ``[[sinks]]``."""

    name: str
    scope: SinkScope
    columns: tuple[str, ...]
    """Names of declared features and of fields."""
    every_s: float = 1.0
    """Between two batches while few events come: a user who acts ten times in it is written once."""
    refresh_ms: int = 0
    """Log time after which all rows are read anew; 0 = they are not."""


@dataclass(slots=True)
class SinkCounts:
    """Rows since the start."""

    written: int = 0
    deleted: int = 0
    passed: int = 0
    """Rows that were new enough already."""
    unheld: Counter[str] = field(default_factory=Counter[str])
    """Values that are written as missing, since no store can hold them, by column."""


@dataclass(frozen=True, slots=True)
class _Demand:
    """Demand of a batch for rows of users."""

    ended: Mapping[int, str]
    """Users that were erased or merged into others, by hash."""
    need: int
    """A row that was written under this version or a later one is passed by."""
    done: set[int] = field(default_factory=set[int])
    """Users whose rows were looked at."""


class RowWriter:
    """Rows of one sink, from the state into its table."""

    def __init__(
        self, options: SinkOptions, engine: SinkEngine, make_store: MakeStore, monotonic: Callable[[], float]
    ) -> None:
        """Prepare a writer; nothing is opened."""
        self.options = options
        self.counts = SinkCounts()
        self.texts: dict[int, str] = {}
        """Ids of users that others were merged into, by hash: the state has hashes alone."""
        self._engine = engine
        self._make_store = make_store
        self._monotonic = monotonic
        self._settings: FoldSettings | None = None
        self._declared = Declarations()
        self._reader: OwnerRowReader | None = None
        self._store: OnlineStore | None = None
        self._retired: list[OnlineStore] = []
        """Stores of earlier columns, to be closed."""
        limits = engine.fold.settings.limits
        self._written = WrittenRows(limits.users_max if options.scope == "user" else limits.items_max)
        self._floor = -1
        """Highest version that may be of another declaration."""
        self._declaration = ""

    @property
    def store(self) -> OnlineStore:
        """The table.

        Raises:
            SinkStopped: The features in service are others than the sink names.
        """
        self.declaration()
        if self._store is None:
            self._store = self._make_store(self.columns.kinds)
        return self._store

    @property
    def columns(self) -> RowColumns:
        """Columns of the features in service."""
        self.declaration()
        return self._read_with.columns

    @property
    def known_columns(self) -> RowColumns | None:
        """Columns that were read last, None = none were yet."""
        return None if self._reader is None else self._reader.columns

    @property
    def fold(self) -> Fold:
        """The state in service."""
        return self._engine.fold

    @property
    def position(self) -> LogPosition:
        """Log position of the state in service."""
        return self._engine.fold.log_position

    @property
    def generation(self) -> int:
        """Number of times that the log in service was rewritten."""
        return self._engine.log.generation

    @property
    def id_key(self) -> IdKey:
        """Key of the hashes of ids."""
        return self._engine.fold.vocabulary.id_key

    @property
    def _is_settled(self) -> bool:
        """Whether state and declarations are those that ``declaration`` saw last."""
        return self._engine.fold.settings is self._settings and declared_by(self._engine.plans) is self._declared

    def declaration(self) -> str:
        """Return a hash of all that decides what a row says at a position: columns, declarations, fold version.

        Raises:
            SinkStopped: The features in service are others than the sink names.
        """
        options, fold, declared = self.options, self._engine.fold, declared_by(self._engine.plans)
        if not self._is_settled:
            known = {each.name for each in declared.features}
            gone = [each for each in options.columns if "." not in each and each not in known]
            if gone:
                message = (
                    f"the sink {options.name} has columns of {', '.join(gone)}, which the configuration in service "
                    "does not declare; the next start takes up [[sinks]] as they are then"
                )
                raise SinkStopped(message)
            columns = row_columns(options.scope, options.columns, declared.features, dict(declared.attributes))
            if self._store is not None and self._reader is not None and columns.kinds != self._reader.columns.kinds:
                self._retired.append(self._store)
                self._store = None
            self._reader, self._settings, self._declared = OwnerRowReader(columns), fold.settings, declared
            said = (options.scope, options.columns, declared.features, fold.settings.version())
            text = msgspec.json.encode(said, enc_hook=str, order="deterministic")
            self._declaration = blake2b(text, digest_size=8).hexdigest()
        return self._declaration

    def is_of(self, declaration: str) -> bool:
        """Return whether a declaration is known to be the one in service."""
        return self._is_settled and self._declaration == declaration

    async def reopen(self) -> OnlineStore:
        """Return the store, connected, also after a failure of it."""
        store = self.store
        while self._retired:
            await self._retired.pop().close()
        await store.open()
        return store

    async def close(self) -> None:
        """Release the store."""
        for each in (self._store, *self._retired):
            if each is not None:
                await each.close()

    def forget_written(self) -> None:
        """Take nothing that was written before for new enough."""
        self._written.clear()

    def begin_anew(self, floor: int) -> None:
        """Forget what was written, and read above a version alone."""
        self.forget_written()
        self._floor = max(self._floor, floor)

    async def write(self, touched: TouchedRows, need: int) -> None:
        """Write the rows that events touched; durable on return.

        Args:
            touched: By the events.
            need: A row that was written under this version or a later one is passed by.

        Raises:
            StoreUnavailable: Some rows may be as they were.
            SinkStopped: The features in service are others than the sink names.
            DeclarationChanged: Other features, or another state, came into service meanwhile.
        """
        self._know_texts(touched)
        async with self._window() as window:
            if self.options.scope == "user":
                await self._users(touched, need, window)
            else:
                indices = self._engine.fold.vocabulary.item_indices(list(touched.items.values())).tolist()
                await self._items([each for each in indices if each >= 0], need, window)
        self._forget_texts(touched)

    async def write_items(self, indices: Sequence[int], need: int) -> None:
        """Write the rows of items by index; as ``write``."""
        async with self._window() as window:
            await self._items(indices, need, window)

    async def delete_unknown(self, rows: Mapping[str, int]) -> int:
        """Delete the rows of those whom the state does not know, in turns; return their number.

        Each is looked up and deleted as of one position, so the row of one who comes meanwhile is newer, and stays.

        Args:
            rows: Ids with the versions of their rows, as far as they are known: nothing is deleted under the same one.
        """
        deleted, wanted = 0, [each for each in rows if each]
        for start in range(0, len(wanted), TURN_IDS):
            await self._above_floor()
            gone = self._unknown(wanted[start : start + TURN_IDS])
            if any(rows[each] == self._engine.fold.log_position for each in gone):
                self._floor = max(self._floor, self._engine.fold.log_position)
                await self._above_floor()
                gone = self._unknown(wanted[start : start + TURN_IDS])
            version = self._engine.fold.log_position
            await (self.store.delete(gone, version) if gone else asyncio.sleep(0))
            deleted += len(gone)
            self.counts.deleted += len(gone)
        return deleted

    def _unknown(self, ids: Sequence[str]) -> list[str]:
        """Return the ids that have no row in the state: of nobody, of a deleted user, or of one who is another now.

        A merged id has no slot of its own.
        """
        fold, vocabulary = self._engine.fold, self._engine.fold.vocabulary
        if self.options.scope == "item":
            places = vocabulary.item_indices(ids).tolist()
            return [each for each, place in zip(ids, places, strict=True) if place < 0]
        gone: list[str] = []
        for each in ids:
            slot = vocabulary.user_slot(id_hash(each, vocabulary.id_key))
            if slot < 0 or fold.users.is_forgotten(slot):
                gone.append(each)
        return gone

    def tell(self, subject: str, concern: str) -> None:
        """Say in health what an operator should know about a subject; empty = nothing any more."""
        subject = f"sink_{self.options.name}_{subject}"
        if concern:
            self._engine.concerns[subject] = concern
        else:
            self._engine.concerns.pop(subject, None)

    def _window(self) -> WriteWindow:
        return WriteWindow(self.store, self._sent)

    def _sent(self, group: WriteGroup) -> None:
        """Note what the store has taken."""
        for place, row_hash in group.places:
            self._written.note(place, row_hash, group.version)
        self.counts.written += len(group.ids)
        self.counts.deleted += len(group.gone)
        if left := self.store.left:
            self.tell(
                "left",
                f"the sink {self.options.name} left {left} rows unwritten since the start: what lies under their keys "
                "is not of this sink and log. Give the sink a `prefix` or a `table` of its own, or empty the table",
            )

    @property
    def _read_with(self) -> OwnerRowReader:
        if self._reader is None:
            message = f"the sink {self.options.name} has no columns"
            raise SinkStopped(message)
        return self._reader

    async def _above_floor(self) -> None:
        """Have the next read be of the declaration that was read last, and above the versions of earlier ones.

        Nothing is awaited in the usual case, so what is read next is what was looked at here.
        """
        looks = 0
        while self._engine.fold.log_position <= self._floor:
            looks += 1
            if looks % FLOOR_LOOKS == 0:
                await self._engine.record(build((Event(Kind.TICK),)))
            else:
                await asyncio.sleep(FLOOR_WAIT_S)
        if not self._is_settled:
            before = self._declaration
            if self.declaration() != before:
                message = f"the sink {self.options.name} begins anew with other features or another state"
                raise DeclarationChanged(message)

    def _know_texts(self, touched: TouchedRows) -> None:
        """Know the ids of users that others stand for, and end those that an alias of theirs merged or erased."""
        self.texts.update(touched.into)
        vocabulary = self._engine.fold.vocabulary
        while len(self.texts) > self._engine.fold.settings.limits.aliases_max:
            self.texts.pop(next(iter(self.texts)))
        gone = self._merged_texts() if touched.ended else []
        if touched.erased_at:
            at = set(touched.erased_at)
            gone += [row.user_hash for row in vocabulary.erasures.pending if row.position in at]
        for each in gone:
            if each in self.texts:
                touched.users[each] = touched.ended[each] = self.texts[each]

    def _merged_texts(self) -> list[int]:
        """Return the users of known ids who are somebody else by now. Cost: 5 ns each."""
        known = np.fromiter(self.texts, dtype=np.uint64, count=len(self.texts))
        found = known.copy()
        self._engine.fold.vocabulary.aliases.resolve_all(found)
        return [int(each) for each in known[found != known]]

    def _forget_texts(self, touched: TouchedRows) -> None:
        """Know the ids of users no more whose rows are gone, and for whom no other stands."""
        aliases = self._engine.fold.vocabulary.aliases
        for each in touched.ended:
            if each in self.texts and not len(aliases.members(each)):
                del self.texts[each]

    async def _users(self, touched: TouchedRows, need: int, window: WriteWindow) -> None:
        queue = list(touched.users.items())
        demand = _Demand(touched.ended, need)
        place = 0
        while place < len(queue):
            await self._above_floor()
            fold, group = self._engine.fold, window.group(self._engine.fold.log_position)
            until_s = self._monotonic() + TURN_S
            while place < len(queue) and self._monotonic() < until_s:
                self._user(fold, queue[place], demand, group)
                place += 1
            await window.turn()

    def _user(self, fold: Fold, touched: tuple[int, str], demand: _Demand, group: WriteGroup) -> None:
        """Put what becomes of a user's row into a group."""
        user_hash, text = touched
        vocabulary = fold.vocabulary
        found = vocabulary.aliases.resolve(user_hash)
        if found != user_hash:
            if user_hash in demand.ended:
                group.gone.append(text)
            text = self.texts.get(found, "")
        if found in demand.done or not text:  # of a merge whose event is still to come
            return
        demand.done.add(found)
        slot = vocabulary.user_slot(found)
        if slot < 0 or fold.users.is_forgotten(slot):
            if slot >= 0 or found in demand.ended:
                group.gone.append(text)
            return
        if self._written.version(slot, found) >= demand.need:
            self.counts.passed += 1
            return
        group.ids.append(text)
        group.rows.append(self._held(self._read_with.user(fold, self._declared, text, slot)))
        group.places.append((slot, found))

    def _held(self, row: list[StoreValue]) -> list[StoreValue]:
        """Return a row whose values a store can hold: others are missing, and are counted and named in health.

        Whoever may send events may send a NUL in a profile, and that must not hold up the rows of others.
        """
        unheld = self.counts.unheld
        for place, name, kind in self._read_with.texts:
            if row[place] is not None and not is_storable(kind, row[place]):
                row[place] = None
                unheld[name] += 1
                self.tell(
                    "values",
                    f"the sink {self.options.name} wrote {unheld.total()} values as missing since the start, in "
                    f"{', '.join(sorted(unheld))}: a text with a NUL, or of more than {TEXT_BYTES_MAX:,} bytes",
                )
        return row

    async def _items(self, indices: Sequence[int], need: int, window: WriteWindow) -> None:
        for start in range(0, len(indices), TURN_ITEMS):
            await self._above_floor()
            fold, group = self._engine.fold, window.group(self._engine.fold.log_position)
            wanted = list(dict.fromkeys(indices[start : start + TURN_ITEMS]))
            chosen = [each for each in wanted if self._written.version(each, 0) < need]
            self.counts.passed += len(wanted) - len(chosen)
            if chosen:
                group.ids += fold.vocabulary.item_ids(np.array(chosen, dtype=np.int32))
                group.rows += map(self._held, self._read_with.items(fold, self._declared, chosen))
                group.places += [(each, 0) for each in chosen]
            await window.turn()
