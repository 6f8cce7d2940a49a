"""The cells of all declared features: numbers kept for users, items, sessions, values, and pairs of them.

Cells of one scope share a row. Rows of items and users lie where the vocabulary puts those, rows of values at the code
of the value; those of sessions and pairs are found by their key, and when all are taken the one that was counted
longest ago makes room. Reading changes nothing, not even that order.

What a cell counts is said in ``state.program.Cell``, how it is folded in ``state.cell_fold``. A session is one between
two silences, as everywhere: acts that open no session, impressions among them, count for none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import Index, IndexedBatch, Mask
from midstream.state.cell_fold import (
    ACTIONS,
    BUCKETS,
    DECAY,
    LAST,
    MAX,
    MIN,
    MODE,
    OF,
    PERIOD,
    PLACE,
    SPEC_ROWS,
    TAKE,
    Rows,
    Spec,
    add_rows,
    fold_cells,
    read_cells,
)
from midstream.state.cell_keys import CellKeys
from midstream.state.cell_layout import KEYED, cells_in, groups_of, mode_of, rows_max, words_of
from midstream.state.items import Items
from midstream.state.program import Cell, TakeName
from midstream.state.settings import FoldSettings
from midstream.state.vocabulary import Vocabulary

_TAKES = {name: number for number, name in enumerate(get_args(TakeName))}
"""In the order of the kernel's numbers."""
_OF = {"": 0, "user": 0, "item": 1, "session": 2}
_INTERACTION, _IMPRESSION = int(Kind.INTERACTION), int(Kind.IMPRESSION)
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class Keys(NamedTuple):
    """Whose cells are read: of one user and session, and of each of some items."""

    item_index: Index
    """(n,), -1 = none, or one that is not known."""
    user_index: int = -1
    """Slot, -1 = none, or one that is not known."""
    user_hash: int = 0
    session_number: int = -1


@dataclass(slots=True, eq=False)
class Group:
    """The rows of one scope, or of one attribute in a scope."""

    name: str
    scope: str
    attribute: str
    cells: tuple[Cell, ...]
    spec: Spec
    fresh: Rows
    rows: Rows
    keys: CellKeys | None

    @property
    def octets(self) -> NDArray[np.uint8]:
        """The same memory, byte by byte."""
        return self.rows.view(np.uint8)


class Cells:
    """All rows of cells."""

    def __init__(self, settings: FoldSettings, vocabulary: Vocabulary, items: Items) -> None:
        """Reserve the rows of ``settings.cells`` at their maxima; without cells nothing is."""
        self._vocabulary = vocabulary
        self._items = items
        self._bits = {name: 1 << number for number, name in enumerate((*settings.action_names(), IMPRESSION))}
        self._weights = np.array([settings.types[name].weight for name in settings.action_names()] + [0.0])
        self.groups = [self._group(settings, scope, attribute) for scope, attribute in groups_of(settings.cells)]
        self._place = {cell: (group, number) for group in self.groups for number, cell in enumerate(group.cells)}

    @property
    def bytes_now(self) -> int:
        """Memory of the rows in use, about."""
        return sum(self._used(group) * group.rows.strides[0] for group in self.groups)

    @property
    def bytes_max(self) -> int:
        """Memory of all rows and keys."""
        return sum(
            group.rows.nbytes + (group.keys.byte_count if group.keys is not None else 0) for group in self.groups
        )

    @property
    def evicted_count(self) -> int:
        """Keys of sessions and pairs that made room for others."""
        return sum(group.keys.evicted_count for group in self.groups if group.keys is not None)

    def apply(self, batch: IndexedBatch, session_number: Places) -> None:
        """Fold a batch in which no item event follows one of another kind.

        Args:
            batch: A part of what is folded, as ``fold.parts`` cuts it.
            session_number: What ``Sessions.number`` gave for these events, (n,).

        Cost: about 0.1 µs an event and cell, and 30 µs a batch and scope.
        """
        if not self.groups:
            return
        acts = batch.folded & (batch.kind == _INTERACTION) & (batch.action >= 0)
        seen = batch.folded & (batch.kind == _IMPRESSION)
        number = np.where(acts, batch.action, len(self._weights) - 1).astype(np.int64)
        bit = np.where(acts | seen, np.int64(1) << number, 0)
        hashes = np.stack((batch.user_hash, self._item_hashes(batch.item_index), batch.session_hash))
        events = (bit, self._weights[number], batch.value, batch.quantity, batch.event_time_ms, batch.log_time_ms)
        for group in self.groups:
            event_of, row_of, is_new = self._rows_of(group, batch, session_number, bit)
            if len(event_of):
                fold_cells(event_of, row_of, is_new, *events, hashes, group.spec, group.fresh, group.rows, group.octets)

    def read(self, cells: Sequence[Cell], keys: Keys, now_ms: int) -> Rows:
        """Return the values of cells as of a time not before the last event's, (n, cells).

        NaN = nothing is known: the key itself is not, or nothing was folded into a cell that is no sum. Never counted
        is 0 in a sum. Fading sums and windows are as of ``now_ms``.
        """
        found = np.empty((len(cells), len(keys.item_index)), dtype=np.float64)
        for group in self.groups:
            wanted = [number for number, cell in enumerate(cells) if self._place[cell][0] is group]
            if wanted:
                numbers = np.array([self._place[cells[number]][1] for number in wanted], dtype=np.int32)
                row_of, known = self._find(group, keys)
                values = np.empty((len(wanted), len(row_of)), dtype=np.float64)
                read_cells(row_of, known, now_ms, group.spec, numbers, group.rows, group.octets, values)
                found[wanted] = values  # of one user or session for all items
        return found.T

    def merge(self, into: int, other: int, into_hash: int, other_hash: int) -> None:
        """Let all that was counted of one user be another's; slots, and hashes of the ids."""
        for group in self.groups:
            if group.scope == "user" and other >= 0:
                add_rows(into, other, group.spec, group.rows, group.octets)
                group.rows[other] = 0.0
            elif group.keys is not None and group.scope != "session":
                self._merge_keys(group, group.keys, into_hash, other_hash)

    def forget(self, slot: int, user_hash: int) -> None:
        """Be without a user: a slot, -1 = it has none, and the hash of the id."""
        for group in self.groups:
            if group.scope == "user" and slot >= 0:
                group.rows[slot] = 0.0
            elif group.keys is not None and group.scope != "session":
                for row in group.keys.of_first(user_hash).tolist():
                    group.rows[row] = 0.0
                    group.keys.release(row)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the rows of each scope up to the last one in use; of keys in the order in which they were counted."""
        found: dict[str, NDArray[np.generic]] = {}
        for group in self.groups:
            if group.keys is None:
                found[f"{group.name}.rows"] = group.rows[: self._used(group)].copy()
            else:
                found[f"{group.name}.rows"] = group.rows[group.keys.order()]
                found.update({f"{group.name}.{name}": array for name, array in group.keys.arrays().items()})
        return found

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become the table whose ``arrays`` these are, of the same settings."""
        for group in self.groups:
            rows = arrays[f"{group.name}.rows"]
            group.rows[: len(rows)] = rows
            group.rows[len(rows) :] = 0.0
            if group.keys is not None:
                group.keys.restore({name: arrays[f"{group.name}.{name}"] for name in ("first", "second", "evicted")})

    def _group(self, settings: FoldSettings, scope: str, attribute: str) -> Group:
        """Lay out the row of a scope and reserve its rows."""
        cells = cells_in(settings.cells, scope, attribute)
        spec = np.zeros((SPEC_ROWS, len(cells)), dtype=np.int64)
        for number, cell in enumerate(cells):
            spec[:, number] = self._parameters(cell, words_of(cells[:number]))
        fresh = np.zeros((1, words_of(cells)), dtype=np.float64)
        fresh[0, spec[PLACE, np.isin(spec[MODE], (MIN, MAX, LAST))]] = np.nan
        capacity = rows_max(scope, settings.limits)
        keys = CellKeys(capacity) if scope in KEYED else None
        name = f"{scope}.{attribute}" if attribute else scope
        return Group(name, scope, attribute, cells, spec, fresh, np.zeros((capacity, fresh.shape[1])), keys)

    def _parameters(self, cell: Cell, place: int) -> list[int]:
        """Return what the kernels know of a cell, in the order of the rows of ``spec``."""
        mode = mode_of(cell)
        found = {
            ACTIONS: sum(self._bits[action] for action in cell.actions),
            MODE: mode,
            TAKE: _TAKES[cell.take],
            PLACE: place,
            PERIOD: cell.half_life_ms if mode == DECAY else -(-cell.window_ms // BUCKETS),
            OF: _OF[cell.of],
        }
        return [found[row] for row in range(SPEC_ROWS)]

    def _rows_of(
        self, group: Group, batch: IndexedBatch, session_number: Places, bit: Places
    ) -> tuple[Places, Places, Mask]:
        """Return pairs of an event and a row of the scope, in the order of the events; and which rows start cold."""
        counts = bit & np.bitwise_or.reduce(group.spec[ACTIONS]) != 0
        if group.scope == "user":
            at = np.flatnonzero((counts | batch.user_is_new) & (batch.user_index >= 0))
            return at, batch.user_index[at].astype(np.int64), batch.user_is_new[at]
        if group.scope == "session":
            counts &= session_number >= 0
        elif group.scope != "global":
            counts &= batch.item_index >= 0
        if group.scope.startswith("user_"):
            counts &= batch.user_hash != 0
        at = np.flatnonzero(counts)
        code = batch.item_index[at].astype(np.int64)
        if group.attribute:
            at, code = self._values(group.attribute, batch.item_index, at)
        if group.keys is None:
            row_of = np.zeros(len(at), dtype=np.int64) if group.scope == "global" else code
            return at, row_of, np.zeros(len(at), dtype=np.bool_)
        if group.scope == "session":
            return at, *group.keys.take(session_number[at].astype(np.uint64), np.zeros(len(at), dtype=np.uint64))
        second = code.astype(np.uint64) if group.attribute else self._item_hashes(batch.item_index[at])
        return at, *group.keys.take(batch.user_hash[at], second)

    def _values(self, attribute: str, item_index: Index, at: Places) -> tuple[Places, Places]:
        """Return pairs of one of ``at`` and the code of a value that its item has, in order."""
        codes = self._codes(attribute)[item_index[at]]
        has = codes >= 0
        if codes.ndim == 1:
            return at[has], codes[has].astype(np.int64)
        return np.repeat(at, codes.shape[1])[has.ravel()], codes[has].astype(np.int64)

    def _codes(self, attribute: str) -> Index:
        kinds = dict(self._items.declared)
        return self._items.tags(attribute) if kinds[attribute] == "tags" else self._items.category(attribute)

    def _find(self, group: Group, keys: Keys) -> tuple[Places, Mask]:
        """Return the row of each key, -1 = none, and whether the key is one of something that is known.

        As many as items, or one where a scope knows no items.
        """
        if group.scope in {"global", "user", "session"}:
            place = {"global": 0, "user": keys.user_index, "session": keys.session_number}[group.scope]
            row_of = np.array([place], dtype=np.int64)
            if group.keys is not None and place >= 0:
                row_of = group.keys.find(row_of.astype(np.uint64), np.zeros(1, dtype=np.uint64))
            return row_of, np.array([place >= 0])
        item = keys.item_index.astype(np.int64)
        value = self._first_code(group.attribute, item) if group.attribute else item
        if group.keys is None:
            return value, value >= 0
        second = value.astype(np.uint64) if group.attribute else self._item_hashes(keys.item_index)
        row_of = group.keys.find(np.full(len(item), keys.user_hash, dtype=np.uint64), second)
        named = (value >= 0) & (keys.user_hash != 0)
        return np.where(named, row_of, -1), named & (keys.user_index >= 0)

    def _first_code(self, attribute: str, item: Places) -> Places:
        """Return the code of the first value that each item has, -1 = none."""
        codes = self._codes(attribute)[np.maximum(item, 0)]
        first = codes if codes.ndim == 1 else codes[:, 0]
        return np.where(item >= 0, first, -1).astype(np.int64)

    def _merge_keys(self, group: Group, keys: CellKeys, into_hash: int, other_hash: int) -> None:
        """Give the rows of one user's keys to another's, from the one counted longest ago on."""
        for row in keys.of_first(other_hash).tolist():
            kept = group.rows[row].copy()
            second = np.array([keys.second(row)], dtype=np.uint64)
            group.rows[row] = 0.0
            keys.release(row)
            (into,), (is_new,) = keys.take(np.array([into_hash], dtype=np.uint64), second)
            if is_new:
                group.rows[into] = kept
            else:
                both = np.stack((group.rows[into], kept))
                add_rows(0, 1, group.spec, both, both.view(np.uint8))
                group.rows[into] = both[0]

    def _item_hashes(self, item_index: Index) -> Hashes:
        """Return the id hash of each item, 0 = none."""
        hashes = np.zeros(len(item_index), dtype=np.uint64)
        named = item_index >= 0
        hashes[named] = self._vocabulary.item_hash[item_index[named]]
        return hashes

    def _used(self, group: Group) -> int:
        """Return how many rows of a scope may be in use, from the first on."""
        if group.keys is not None:
            return len(group.keys)
        if group.scope == "user":
            return self._vocabulary.user_slots_used
        if group.scope == "item":
            return self._vocabulary.item_count
        return self._items.value_count(group.attribute) if group.scope == "attribute" else 1
