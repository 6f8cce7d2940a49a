"""The items table: what is known of each item, how often it was acted on and seen, and which are hottest now.

A batch is folded in two steps that give what event by event would give. One kernel call adds all interactions and
impressions to counts and sums, in log order; then the item events change documents, columns and availability, in log
order. Neither reads what the other writes, but for one thing: the first interaction makes an item that is not in
the catalogue available, or not, by ``unknown_items``. Whichever comes first, the catalogue has the last word.

Which counts and sums an item has:

- decayed counters, float64, for each half-life and action (impressions are the last row): each event adds its decay
  weight, whatever its age;
- counts in windows (``state.structures.windows``), for each action and for impressions;
- one sum for each half-life, its *heat*: decay weight times the action's weight, of actions with a weight above 0.

The catalogue's newest items are kept in the order in which item events first named them (``state.items.arrivals``).

The hottest available items of each half-life are kept sorted (``state.structures.top_list``). The lists are no state of
their own: answers follow from heat and availability alone, and ``restore`` builds the lists from those.
"""

from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import NotFound
from midstream.core.fold_step import FoldStep
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import Index, IndexedBatch, Mask, Score
from midstream.events.schema import TIME_SENT, texts_of
from midstream.events.wire import AttributeKind, plain_kind, vector_length
from midstream.state.attributes.attributes import Attributes
from midstream.state.attributes.documents import DOCUMENT_BYTES_MAX, Change, Documents
from midstream.state.attributes.vectors import MARK_BYTES, NUMBER_BYTES, Vectors
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.arrivals import Arrivals
from midstream.state.items.availability import hides, is_true
from midstream.state.items.item_fold import (
    CATALOGUED,
    COUNT,
    LANDMARKS_START,
    LOG_TIME,
    RISEN_MAX,
    UNSEEN,
    ItemCountRows,
    fold_events,
    read_decayed,
)
from midstream.state.search.text_index import TextIndex
from midstream.state.settings import FoldSettings
from midstream.state.structures.decay import decay_weight
from midstream.state.structures.hot_lists import HotColumns, HotLists, switch_item
from midstream.state.structures.windows import ROW_CELLS, count_window, no_spans, row_place, unused_bytes

_ITEM = np.uint8(Kind.ITEM)
AVAILABLE = "available"
"""The reserved attribute: an item with any other value than true is not served. True where it is missing."""
VECTOR_NUMBER_BYTES = 26
"""Bytes of text of one number of a vector, at most: ``-1.2345678901234567e-308`` and a comma, rounded up. A document
may be longer by those of all declared vectors, so that it holds them beside as much else as it would without."""


def item_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    limits = settings.limits
    lists, rows = len(settings.half_lives), len(settings.types) + 1
    columns = {"number": 8, "boolean": 1, "category": 4, "tags": 4 * limits.item_tags_max, "vector": MARK_BYTES}
    item = lists * rows * 8 + rows * ROW_CELLS * 4 + 2 + 8 + lists * 8
    item += sum(columns[plain_kind(kind)] for kind in settings.attributes.values())
    item += sum(vector_length(kind) * NUMBER_BYTES for kind in settings.attributes.values())
    listed = lists * 2 * limits.hot_items_max * (8 + 4) + limits.new_items_max * (4 + 8)
    coded = sum(kind in {"category", "tags"} for kind in settings.attributes.values())
    listed += coded * limits.attribute_values_max * 8
    return limits.items_max * item + listed + limits.document_bytes_max


class Items:
    """Documents, attribute columns, counts and hot lists of all items, by item index."""

    def __init__(self, settings: FoldSettings, vocabulary: Vocabulary) -> None:
        limits = settings.limits
        actions = settings.action_names()
        half_lives = [each.ms for each in settings.half_lives]
        rows = len(actions) + 1
        lists = len(half_lives)
        self._vocabulary = vocabulary
        self._accepts = settings.unknown_items == "accept"
        self._row = {name: row for row, name in enumerate((*actions, IMPRESSION))}
        self._list = {half_life: number for number, half_life in enumerate(half_lives)}
        self._weights = np.array([settings.types[name].weight for name in actions], dtype=np.float64)
        self._half_lives = np.array(half_lives, dtype=np.int64)
        vectors = sum(map(vector_length, settings.attributes.values()))
        self._documents = Documents(limits.document_bytes_max, DOCUMENT_BYTES_MAX + vectors * VECTOR_NUMBER_BYTES)
        self._attributes = Attributes(settings.attributes, limits)
        self._arrivals = Arrivals(limits.new_items_max)
        self.texts = TextIndex(settings)
        """Words of documents. A table of its own; only item events change it."""
        self._clock = np.zeros(LANDMARKS_START + lists, dtype=np.int64)
        self._counters = np.zeros((limits.items_max, lists, rows), dtype=np.float64)
        self._windows = np.zeros((rows, limits.items_max, ROW_CELLS), dtype=np.uint32)
        self._status = np.zeros(limits.items_max, dtype=np.uint8)
        self._available = np.zeros(limits.items_max, dtype=np.bool_)
        self._arrived_ms = np.zeros(limits.items_max, dtype=np.int64)
        self._hot = HotLists(lists, limits.items_max, limits.hot_items_max)
        self._risen, self._spans = np.zeros(lists + 1, dtype=np.int64), no_spans()
        self._touched = np.empty((lists, RISEN_MAX), dtype=np.int32)
        self.rows = ItemCountRows(
            self._weights, self._half_lives, self._accepts, self._clock, self._counters, self._windows, self._status,
            self._available, self._hot.heat, self._hot.values, self._hot.items, self._hot.states, self._risen,
            self._touched, self._spans,
        )  # fmt: skip
        """For the one pass over all tables (``state.one_pass``)."""

    def apply(self, step: FoldStep) -> None:
        """Fold a part of a step (``state.steps.parts``).

        Cost: about 0.4 µs an interaction in a large batch, 20 µs an item event.
        """
        batch = step.events
        self._count(batch)
        changes = (batch.kind == _ITEM) & batch.folded & (batch.item_index >= 0)
        for event in np.flatnonzero(changes).tolist():
            self._change(batch, event)

    def _count(self, batch: IndexedBatch) -> None:
        """Fold interactions and impressions, and move the clock."""
        fold_events(
            batch.kind, batch.action, batch.folded, batch.item_index, batch.event_time_ms, batch.log_time_ms,
            *self.rows, self._vocabulary.item_hash, True,  # noqa: FBT003  # kernels have no keywords
        )  # fmt: skip

    def _change(self, batch: IndexedBatch, event: int) -> None:
        """Fold one item event into documents, columns and availability."""
        index = int(batch.item_index[event])
        operation = int(batch.operation[event])
        body = texts_of(batch.source, event)[-1]
        refused_count = self._documents.refused_count
        is_timed = bool(batch.source.rows["flags"][event] & TIME_SENT)
        self._documents.apply(index, operation, body, int(batch.event_time_ms[event]), is_timed=is_timed)
        if self._status[index] != CATALOGUED:
            self._status[index] = CATALOGUED
            self._arrived_ms[index] = batch.log_time_ms[event]
            self._arrivals.add(index, int(batch.log_time_ms[event]))
        document = self._documents.get(index)
        self._attributes.set(index, document)
        self.texts.put(index, document)
        available = not self._documents.is_deleted(index) and is_true(document.get(AVAILABLE, True))
        if self._documents.refused_count > refused_count and hides(operation, body):
            # There was no room to keep it, and what may be served fails closed.
            available = False
        if self._available[index] != available:
            self._available[index] = available
            lists = len(self._half_lives)
            switch_item(index, lists, self.count, self._available, *self._hot.columns, self._vocabulary.item_hash)

    @property
    def count(self) -> int:
        """Return 1 + the highest item index that was folded."""
        return int(self._clock[COUNT])

    @property
    def available(self) -> Mask:
        """What may be served, by item index, shape (items_max,), read-only.

        True for an item of the catalogue that is not deleted and whose attribute ``available`` is true or missing, and
        for an item known from interactions alone when ``unknown_items`` is ``accept``.
        """
        return _read_only(self._available)

    @property
    def hot_columns(self) -> HotColumns:
        """The arrays themselves: they stay the same for as long as the table is."""
        return HotColumns(self._available, self._clock, *self._hot.columns[1:])

    def hot_row(self, half_life_ms: int, limit: int) -> tuple[int, int]:
        """Return the row of a half-life in ``hot_columns``, and how many of ``limit`` items ``hottest`` gives at most.

        Raises:
            NotFound: No list is kept for that half-life.
        """
        return self._list_number(half_life_ms), self._hot.longest(limit)

    def uncatalogued(self, first: int) -> Index:
        """Return the items from an index on that no row of the catalogue has named so far, ascending."""
        found = first + np.flatnonzero(self._status[first : self.count] != CATALOGUED)
        return found.astype(np.int32)

    def is_catalogued(self, item_index: Index) -> Mask:
        """Return which items a row of the catalogue has named, (n,)."""
        found: Mask = self._status[item_index] == CATALOGUED
        return found

    def assume_attributes(self, index: int, attributes: Mapping[str, object]) -> None:
        """Let columns say attributes of an item that the catalogue has not named, until it does.

        For a fold that answers about the past alone: its document, its availability and what is served stay as they
        are, and so is no state of service that this was called on.
        """
        self._attributes.set(index, attributes)

    def exists(self, index: int) -> bool:
        """Return whether an item is in the catalogue and not deleted, or known from interactions and not deleted."""
        return bool(self._status[index] != UNSEEN) and not self._documents.is_deleted(index)

    @property
    def deleted_count(self) -> int:
        """Number of items that are deleted; each keeps its slot until a compaction."""
        return self._documents.deleted_count

    def deleted(self) -> Index:
        """Return the deleted items, ascending."""
        return self._documents.deleted()

    def document_text(self, index: int) -> bytes:
        """Return what tells one document from another: of equal texts ``document`` is equal; empty = none."""
        return self._documents.text(index)

    def document(self, index: int) -> dict[str, object]:
        """Return the attributes of an item as they were sent, declared or not; empty = none."""
        return self._documents.get(index)

    def value(self, index: int, name: str) -> object:
        """Return one attribute of an item as it was sent, declared or not; None = none."""
        return self._documents.value(index, name)

    def changes(self) -> Iterator[tuple[int, Change]]:
        """Yield the changes that make each item's attributes out of nothing: item index and change, by index."""
        return ((index, change) for index in self._documents.indices() for change in self._documents.changes(index))

    def hottest(self, half_life_ms: int, limit: int) -> tuple[Index, Score]:
        """Return the available items with the highest heat, best first; equal ones by id hash.

        The score is the heat as of the log time of the last event: 1 = one event of weight 1 just now. Costs
        microseconds, whatever the number of items.

        Args:
            half_life_ms: One of the configured half-lives.
            limit: At most ``hot_items_max`` come back, and fewer when fewer items have any heat.

        Raises:
            NotFound: No list is kept for that half-life.
        """
        h = self._list_number(half_life_ms)
        found = self._hot.hottest(h, limit)
        return found, (self._hot.values[h, : len(found)] * self._factor(h)).astype(np.float32)

    def heat(self, half_life_ms: int, item_index: Index) -> NDArray[np.float64]:
        """Return the heat of items as of the log time of the last event, shape (n,).

        Raises:
            NotFound: No sums are kept for that half-life.
        """
        h = self._list_number(half_life_ms)
        heat: NDArray[np.float64] = self._hot.heat[h, item_index]
        return heat * self._factor(h)

    def _factor(self, h: int) -> float:
        """Return what heat of a half-life is multiplied by to be that of the last event's log time."""
        landmark = int(self._clock[LANDMARKS_START + h])
        return decay_weight(landmark, int(self._clock[LOG_TIME]), int(self._half_lives[h]))

    def newest(self) -> tuple[Index, NDArray[np.int64]]:
        """Return the items that the catalogue named last, the newest first, and the log time of each.

        At most ``new_items_max``; items that are deleted or not available among them.
        """
        return self._arrivals.newest()

    def heat_of_all(self) -> tuple[NDArray[np.float64], float]:
        """Return the heat of the longest half-life by item index, (items_max,), and what it is multiplied by.

        The product is the heat as of the log time of the last event. A view of the state: copy or use it at once.
        """
        h = int(self._half_lives.argmax())
        return self._hot.heat[h], self._factor(h)

    @property
    def arrival_times(self) -> NDArray[np.int64]:
        """What ``arrived_ms`` reads, by item index, (items_max,): it stays the same for as long as the table is."""
        return self._arrived_ms

    def arrived_ms(self, item_index: Index) -> NDArray[np.int64]:
        """Return the log time at which the catalogue first named items, 0 = it never did, shape (n,)."""
        found: NDArray[np.int64] = self._arrived_ms[item_index]
        return np.where(item_index >= 0, found, 0)

    def window_count(self, action: str, window_ms: int, now_ms: int, item_index: Index) -> NDArray[np.float64]:
        """Return how often each item was acted on, or seen, in a window that ends now, shape (n,).

        Args:
            action: A configured interaction or ``impression``.
            window_ms: 1 h (12 buckets of 5 min), 24 h (24 of an hour), 7 d or 30 d (of a day); exact to the bucket.
            now_ms: The bucket it lies in is the window's last. Events up to 5 min ahead of it are counted too.
            item_index: Items, shape (n,); -1 gives NaN.

        Raises:
            NotFound: No such action or window.
        """
        # A copy, because numba compiles anew for an array that is read-only or of another type.
        items = np.array(item_index, dtype=np.int32)
        return count_window(self._windows, self._row_number(action), items, window_ms, now_ms)

    def decayed_count(self, action: str, half_life_ms: int, now_ms: int, item_index: Index) -> NDArray[np.float64]:
        """Return how often each item was acted on, or seen, each event weighing 2^(-age / half-life), shape (n,).

        Args:
            action: A configured interaction or ``impression``.
            half_life_ms: One of the configured half-lives.
            now_ms: The moment from which ages are counted.
            item_index: Items, shape (n,); -1 gives NaN.

        Raises:
            NotFound: No such action or half-life.
        """
        h = self._list_number(half_life_ms)
        factor = decay_weight(int(self._clock[LANDMARKS_START + h]), now_ms, half_life_ms)
        counts = np.empty(len(item_index), dtype=np.float64)
        items = np.array(item_index, dtype=np.int32)
        read_decayed(self._counters, h, self._row_number(action), items, factor, counts)
        return counts

    def number(self, name: str) -> NDArray[np.float64]:
        """Return a number attribute by item index, NaN = not known, shape (items_max,), read-only."""
        return cast("NDArray[np.float64]", self._attributes.column(name, "number"))

    def boolean(self, name: str) -> NDArray[np.int8]:
        """Return a boolean attribute by item index: 1, 0, -1 = not known, shape (items_max,), read-only.

        ``available`` is always there, and is what ``Items.available`` says.
        """
        if name == AVAILABLE:
            return _read_only(self._available).view(np.int8)
        return cast("NDArray[np.int8]", self._attributes.column(name, "boolean"))

    def category(self, name: str) -> Index:
        """Return the value codes of a category attribute by item index, -1 = not known, (items_max,), read-only."""
        return cast("Index", self._attributes.column(name, "category"))

    def tags(self, name: str) -> Index:
        """Return the value codes of a tags attribute, shape (items_max, item_tags_max), -1-padded, read-only."""
        return cast("Index", self._attributes.column(name, "tags"))

    def vectors(self, name: str, item_index: Index) -> NDArray[np.float32]:
        """Return a vector attribute of items, (n, its length), a copy; NaN throughout = not known, or -1 asked for.

        Raises:
            NotFound: It is not declared, or of another kind.
        """
        return self._attributes.vectors(name).read(item_index)

    def all_vectors(self, name: str) -> Vectors:
        """Return the vectors of an attribute, to be read from end to end.

        Raises:
            NotFound: It is not declared, or of another kind.
        """
        return self._attributes.vectors(name)

    def kind(self, name: str) -> AttributeKind:
        """Return the kind of a declared attribute, or of ``available``; or raise ``NotFound``."""
        return "boolean" if name == AVAILABLE else self._attributes.kind(name)

    def codes(self, name: str) -> Index:
        """Return the value codes of a category (items_max,) or tags attribute (items_max, item_tags_max), read-only."""
        return self.tags(name) if self.kind(name) == "tags" else self.category(name)

    def value_hashes(self, name: str) -> NDArray[np.uint64]:
        """Return ``attributes.value_hash`` of each value of a category or tags attribute, by code."""
        return self._attributes.codes(name).hashes

    @property
    def declared(self) -> tuple[tuple[str, AttributeKind], ...]:
        """Name and kind of each declared attribute, by name."""
        return self._attributes.declared

    def value_count(self, name: str) -> int:
        """Return how many values of a category or tags attribute there are; their codes are the numbers below it."""
        return len(self._attributes.codes(name))

    def value_code(self, name: str, text: str) -> int:
        """Return the code of a value of a category or tags attribute, -1 = no item ever had it."""
        return self._attributes.codes(name).find(text)

    def value_text(self, name: str, code: int) -> str | None:
        """Return the value behind a code, None = no such code."""
        return self._attributes.codes(name).text(code)

    @property
    def refused_values_count(self) -> int:
        """Attribute values that got no code because they were too long or no code was left."""
        return self._attributes.refused_count

    @property
    def document_bytes(self) -> int:
        """Memory of all documents, about."""
        return self._documents.bytes_used

    @property
    def document_share(self) -> float:
        """Share of the room for documents that is in use."""
        return self._documents.bytes_used / self._documents.bytes_max

    @property
    def refused_documents_count(self) -> int:
        """Item events whose attributes were not kept: no JSON object, too long, or no room."""
        return self._documents.refused_count

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the state of the first ``count`` items; of windows, the rows that ever counted anything."""
        count = self.count
        touched = np.flatnonzero(self._windows[:, :count, -1].T)  # item by item, and action by action of each
        found: dict[str, NDArray[np.generic]] = {
            "clock": self._clock.copy(),
            "status": self._status[:count].copy(),
            "available": self._available[:count].copy(),
            "arrived_ms": self._arrived_ms[:count].copy(),
            "counters": self._counters[:count].copy(),
            "heat": self._hot.heat[:, :count].copy(),
            "window_row": touched.astype(np.uint32),
            "window_cells": self._windows[row_place(touched, self._windows)],
        }
        found.update({f"attributes.{name}": each for name, each in self._attributes.arrays(count).items()})
        found.update({f"documents.{name}": each for name, each in self._documents.arrays().items()})
        found.update({f"arrivals.{name}": each for name, each in self._arrivals.arrays().items()})
        return found

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned. Cost: reading them, and one pass for each hot list."""
        before = self.count
        for zeroed in (self._status, self._available, self._arrived_ms, self._counters):
            zeroed[:before] = 0
        self._windows[:, :before] = self._hot.heat[:, :before] = 0
        self._risen[:] = 0
        self._clock[:] = arrays["clock"]
        count = self.count
        self._status[:count] = arrays["status"]
        self._available[:count] = arrays["available"]
        self._arrived_ms[:count] = arrays["arrived_ms"]
        self._counters[:count] = arrays["counters"]
        self._hot.heat[:, :count] = arrays["heat"]
        self._windows[row_place(arrays["window_row"].astype(np.int64), self._windows)] = arrays["window_cells"]
        self._attributes.restore(_part(arrays, "attributes."))
        self._documents.restore(_part(arrays, "documents."))
        self._arrivals.restore(_part(arrays, "arrivals."))
        self._hot.build(self._available, self.count, self._vocabulary.item_hash)

    @property
    def bytes_now(self) -> int:
        """Memory of the items that are known and of all documents, about. Cost: 0.2 ms."""
        reserved = self._reserved() - unused_bytes(self._windows)
        return int(reserved * self._vocabulary.item_count / len(self._status)) + self._documents.bytes_used

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched and no more document fits."""
        return self._reserved() + self._documents.bytes_max

    def _reserved(self) -> int:
        """Return the bytes reserved for all but documents; pages that no item came to are not in memory."""
        reserved = (self._counters, self._windows, self._status, self._available, self._arrived_ms, self._hot)
        return sum(each.nbytes for each in reserved) + self._attributes.byte_count() + self._arrivals.byte_count()

    def _row_number(self, action: str) -> int:
        """Return the row of an action, or raise ``NotFound``."""
        if action not in self._row:
            raise NotFound(f"{action!r} is not counted; these are: {', '.join(self._row)}")
        return self._row[action]

    def _list_number(self, half_life_ms: int) -> int:
        """Return the number of a half-life, or raise ``NotFound``."""
        if half_life_ms not in self._list:
            kept = ", ".join(str(each) for each in self._list)
            raise NotFound(f"no sums with a half-life of {half_life_ms} ms are kept; these are: {kept}")
        return self._list[half_life_ms]


def _part(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}


def _read_only(array: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
