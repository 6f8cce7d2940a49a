"""Admission of event batches: deduplicates against applied and in-flight events, rejects what is not configured.

The fold repeats the dedupe, so an event that passes it (its first copy was in flight when a process died) is still
applied once. This step keeps duplicates out of the log and gives each its answer.
"""

from asyncio import Future, wait
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import count
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.columns import has_any
from midstream.core.errors import Overloaded
from midstream.core.fold_step import Fingerprints
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, Index, Mask
from midstream.engine.ingest.writer import RepeatedEvent, Ticket
from midstream.engine.types import Outcome
from midstream.events.schema import pick, texts_of
from midstream.events.values import merged_id
from midstream.state.fold import Fold
from midstream.state.ids.pending_ids import PendingIds
from midstream.state.structures.hashing import id_hash

COPY_LOOKS_MAX = 100
"""After each the copies that were pending are durable or failed: one is enough unless a client sends them on and on."""
_NO_ROWS: Index = np.empty(0, dtype=np.int32)
_NO_ITEMS: Counter[str] = Counter()
"""Of nearly every batch; nothing is added to it."""
_CONTROL = int(Kind.CONTROL)
_ITEM_TEXT, _BODY_TEXT = 3, 6
"""Places of the item id and of the body among the texts of a row."""


class Admitted(msgspec.Struct, eq=False):
    """Rows to append, and the outcomes of the others."""

    batch: EventBatch
    outcome: NDArray[np.uint8]
    """``Outcome`` of each row of the batch."""
    first_copies: tuple[Ticket, ...]
    """Of duplicates of pending events: wait for these before answering."""
    erased: Index
    """Rows refused because their user was erased, ascending."""
    prints: Fingerprints
    """Of the events to be appended; pending until ``release``."""
    lot: int
    """Number of the batch among the admitted ones."""
    items: Counter[str]
    """Items of its item events: in flight until ``release``. Empty unless unknown items are refused."""
    is_new: bool
    """Every row is to be appended: none is a copy, and none refused."""
    waiter: Future[None] | None = None
    """Resolved once the fate of the appended rows is known, or the time of whoever waits is over."""

    def note(self, copies: Iterable[RepeatedEvent]) -> None:
        """Change the outcome of appended rows that were copies after all; copies of others are passed by.

        Told again it changes nothing.
        """
        told = {(copy.id_hash, copy.check): copy.admission for copy in copies}
        if not told:
            return
        self.is_new = False
        rows: list[int] = np.flatnonzero(self.outcome == Outcome.RECORDED).tolist()
        if len(rows) < len(self.prints.id_hash):
            return
        names = zip(self.prints.id_hash.tolist(), self.prints.check.tolist(), strict=True)
        for row, name in zip(rows, names, strict=True):
            self.outcome[row] = told.get(name, Outcome.RECORDED)


class Deduplication:
    """Ids in flight to the log, checked before the applied ones."""

    def __init__(self, fold: Fold) -> None:
        """Look applied ids up in ``fold``."""
        self.fold = fold
        """The state in service. Another one at the same log position may take its place between two calls."""
        self._pending = PendingIds()
        self._tickets: dict[int, Ticket] = {}
        """Of each lot with pending events."""
        self._lots = count()
        self._coming: Counter[str] = Counter()
        self._waiting: dict[Admitted, list[_Named] | None] = {}
        """What is not applied yet, with the items it names once somebody had to know."""
        self._waiting_count = 0

    def admit(self, batch: EventBatch, ticket: Ticket) -> Admitted:
        """Sort a batch into new events, duplicates and refusals; the new ones are pending under ``ticket``.

        Cost: about 0.2 µs an event and 15 µs a batch.
        """
        fold, count, lot = self.fold, len(batch.rows), next(self._lots)
        free = fold.settings.limits.items_max - fold.vocabulary.item_count
        # Whatever the events are, none of them can be refused: as nearly always.
        takes_all = free >= self._waiting_count + count and not self._refuses_unknown
        if takes_all and not len(fold.vocabulary.erasures.refused_hash):
            prints, outcome, first = self._pending.admit_batch(fold.event_ids, batch, lot)
            erased = _NO_ROWS
        else:
            prints = fold.event_ids.fingerprints(batch)
            outcome = fold.event_ids.find(prints)
            erased = self._erased(batch, outcome)
            if len(erased):
                outcome[erased] = Outcome.REFUSED
            for index in self._refused(batch, outcome):
                outcome[index] = Outcome.REFUSED
            first = self._pending.admit(prints, outcome, lot)
            if not has_any(outcome):
                first = None
        waits: list[Ticket] = []
        fresh = batch
        if first is not None:  # else no event is a copy, of what is pending neither
            waits = [self._tickets[each] for each in np.unique(first[first >= 0]).tolist() if each != lot]
            chosen = np.flatnonzero(outcome == Outcome.RECORDED)
            fresh, prints = pick(batch, chosen), prints[chosen]
            count = len(chosen)
        items = _NO_ITEMS if takes_all else Counter(self._items_of(fresh).keys())
        if items:
            self._coming.update(items)
        admitted = Admitted(fresh, outcome, tuple(waits), erased, prints, lot, items, first is None)
        if count:
            self._tickets[lot] = ticket
            self._waiting[admitted] = None
            self._waiting_count += count
        return admitted

    @staticmethod
    def ends_in_positions(batch: EventBatch) -> bool:
        """Return whether a batch has the positions of an input behind its events."""
        return len(batch.rows) > 1 and batch.rows["kind"].item(-1) == _CONTROL

    async def await_copies(self, batch: EventBatch) -> None:
        """Wait, for a batch that ``ends_in_positions``, until none of its events is pending.

        The positions say that all before them is durable, and a first copy may still fail: its event is new then. What
        is found out here holds until the next turn of the event loop. Other batches are not held up.

        Raises:
            Overloaded: Copies came all the time.
        """
        for _ in range(COPY_LOOKS_MAX):
            if not self._tickets:
                return
            ticket: Ticket = Future()
            ticket.cancel()
            found = self.admit(batch, ticket)
            if len(found.batch):
                self.release(found, ticket)
            if not found.first_copies:
                return
            await wait(found.first_copies)
        message = f"events of an input were on their way from elsewhere at {COPY_LOOKS_MAX} looks"
        raise Overloaded(message)

    def _erased(self, batch: EventBatch, outcome: NDArray[np.uint8]) -> Index:
        """Return the new rows that are late copies of an erased user's events, or merges of one.

        Costs nothing without erased users.
        """
        erasures = self.fold.vocabulary.erasures
        late = erasures.late_copies(batch, self.fold.vocabulary.id_key)
        if late is None:
            return _NO_ROWS
        is_merge = (batch.rows["kind"] == Kind.USER) & (batch.rows["operation"] == Operation.MERGE)
        for row in np.flatnonzero(is_merge & ~late).tolist():  # they name another id, and so would the log
            other = id_hash(merged_id(texts_of(batch, row)[_BODY_TEXT]), self.fold.vocabulary.id_key)
            late[row] = bool(erasures.refused(batch.rows[row : row + 1], np.array([other], dtype=np.uint64)))
        return np.flatnonzero(late & (outcome == Outcome.RECORDED)).astype(np.int32)

    def release(self, admitted: Admitted, ticket: Ticket) -> None:
        """The events are applied, or were not stored: they are on their way no more. Wakes whoever waits for them."""
        if not ticket.cancelled():
            ticket.exception()  # seen here, for the case that its request was given up
        self._pending.release(admitted.prints, admitted.lot)
        del self._tickets[admitted.lot]
        if admitted.items:
            self._coming -= admitted.items
        del self._waiting[admitted]
        self._waiting_count -= len(admitted.batch.rows)
        if admitted.waiter is not None and not admitted.waiter.done():
            admitted.waiter.set_result(None)

    def _refused(self, batch: EventBatch, outcome: NDArray[np.uint8]) -> list[int]:
        """Return rows of unknown items that may not become known: by configuration, or because there is no room."""
        refused = self._surplus(batch, outcome)
        if self._refuses_unknown:
            kinds = batch.rows["kind"]
            acts = np.flatnonzero((kinds == Kind.INTERACTION) | (kinds == Kind.IMPRESSION))
            made = self._items_of(batch, refused)
            items = {int(row): _item_id(batch, int(row)) for row in acts}
            unknown = self._unknown(set(items.values()) - self._coming.keys())
            refused.extend(row for row, item in items.items() if item in unknown and made.get(item, row) >= row)
        return refused

    def _surplus(self, batch: EventBatch, outcome: NDArray[np.uint8]) -> list[int]:
        """Return the rows that add an item for which the catalogue has no place left.

        Earlier rows and events in flight take places too. They are counted only where they could reach the maximum, at
        about 5 µs each.
        """
        free = self.fold.settings.limits.items_max - self.fold.vocabulary.item_count
        if free >= self._waiting_count + len(batch) or not _puts(batch).any():
            return []
        places = self._places(free)
        named = _named(batch, outcome == Outcome.RECORDED)
        unknown = self._unknown({name.item for name in named})
        return [name.row for name in named if name.item in unknown and not places.take(name)]

    def _places(self, free: int) -> "_Places":
        """Return the places that are free once all that waits is applied."""
        settings, vocabulary = self.fold.settings, self.fold.vocabulary
        makes_items = settings.unknown_items != "reject"
        clicks_free = settings.limits.click_items_max - vocabulary.click_item_count if makes_items else 0
        places = _Places(free, clicks_free)
        if free <= 0:
            return places
        for admitted, found in self._waiting.items():
            if found is None:
                self._waiting[admitted] = _named(admitted.batch)
        waiting = [name for found in self._waiting.values() if found is not None for name in found]
        unknown = self._unknown({name.item for name in waiting})  # the others are applied already
        for name in waiting:
            if name.item in unknown:
                places.take(name)
        return places

    def _items_of(self, batch: EventBatch, refused: Collection[int] = ()) -> dict[str, int]:
        """Return the items that a batch adds, each with its first row; none where all items are accepted."""
        if not self._refuses_unknown:
            return {}
        rows: list[int] = np.flatnonzero(_puts(batch))[::-1].tolist()
        return {_item_id(batch, row): row for row in rows if row not in refused}

    @property
    def _refuses_unknown(self) -> bool:
        return self.fold.settings.unknown_items == "reject"

    def _unknown(self, items: Collection[str]) -> set[str]:
        """Return those of the items that the state has not."""
        listed = list(items)
        found: list[int] = self.fold.vocabulary.item_indices(listed).tolist() if listed else []
        return {item for item, index in zip(listed, found, strict=True) if index < 0}


class _Named(NamedTuple):
    """An event that may make an item."""

    row: int
    item: str
    is_put: bool


class _Places:
    """The free places of the catalogue, given away in the order of the log as the fold will do it."""

    def __init__(self, free: int, clicks_free: int) -> None:
        self._free = free
        self._clicks_free = clicks_free
        self._taken: set[str] = set()
        self._clicks: set[str] = set()

    def take(self, name: _Named) -> bool:
        """Give the item a place; return False for a put that gets none."""
        if name.item not in self._taken:
            has_room = len(self._taken) < self._free
            if not has_room or not (name.is_put or len(self._clicks) < self._clicks_free):
                return not name.is_put
            self._taken.add(name.item)
            if not name.is_put:
                self._clicks.add(name.item)
        if name.is_put:
            self._clicks.discard(name.item)
        return True


def _item_id(batch: EventBatch, row: int) -> str:
    return texts_of(batch, row)[_ITEM_TEXT].decode()


def _puts(batch: EventBatch) -> Mask:
    """Return which rows make an item known: a delete only takes away."""
    return np.asarray((batch.rows["kind"] == Kind.ITEM) & (batch.rows["operation"] != Operation.DELETE))


def _named(batch: EventBatch, wanted: Mask | None = None) -> list[_Named]:
    """Return the rows of events that may add an item, in order; optionally of the wanted rows alone."""
    is_put = _puts(batch)
    makes = is_put | (batch.rows["kind"] == Kind.INTERACTION)
    if wanted is not None:
        makes &= wanted
    rows: list[int] = np.flatnonzero(makes).tolist()
    named = [_Named(row, _item_id(batch, row), bool(is_put[row])) for row in rows]
    return [name for name in named if name.item]
