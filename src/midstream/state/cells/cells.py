"""The cells of all declared features: numbers kept for users, items, sessions, values, and pairs of them.

Cells of one scope share a row. Rows of items and users lie where the vocabulary puts those, rows of values at the code
of the value; those of sessions and pairs are found by their key, and when all are taken the one that was counted
longest ago makes room. Reading changes nothing, not even that order.

``state.expressions.program.Cell`` says what a cell counts, ``state.cells.fold`` how it is folded. A session is one
between two silences, as everywhere: acts that open no session, impressions among them, count for none. Of an item with
several values of an attribute the rows of all of them are read as if they were one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep, UserChange, UserForgotten, UserMerged, UserRestarted
from midstream.core.types import Index
from midstream.state.cells.columns import CellQuestion, Reading, read_columns, read_matrix
from midstream.state.cells.fold import CellRows, fold_cells
from midstream.state.cells.keys import KEY_ROW, CellKeys
from midstream.state.cells.layout import (
    BASE,
    ENTRIES,
    FIRST,
    HEADS,
    KEY,
    ROWS,
    STOP,
    STRIDE,
    TABLE,
    cells_in,
    groups_of,
    layout_of,
    words_of,
)
from midstream.state.cells.merge import add_rows
from midstream.state.cells.outcome_cells import outcome_cell_rows
from midstream.state.cells.rows import write_codes
from midstream.state.expressions.program import Cell, Program
from midstream.state.expressions.program_kernel import ProgramTables, steps_of
from midstream.state.ids.user_slots import new_meta
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.settings import FoldSettings
from midstream.state.structures.borrowed import address_of

T = TypeVar("T")
_PAGE_BYTES = 4_096
_PROGRAMS_MAX: Final = 256
"""Programs whose tables are kept: a few a plan, of plans that come and go."""
Places = NDArray[np.int64]
Rows = NDArray[np.float64]


class CellOwners(NamedTuple):
    """Owners of the cells that are read: one user, one session, and a number of items."""

    item_index: Index
    """(n,), -1 = none, or one that is not known."""
    user_index: int = -1
    """Slot, -1 = none, or one that is not known."""
    user_hash: int = 0
    session_number: int = -1


class CellParts(NamedTuple):
    """What a kernel needs to read the cells of a program, and does not change with the question."""

    reading: Reading
    spec: Places
    """Parameters of all cells."""
    codes: Places
    """Address, rows, width and first column of the codes of each attribute whose values are keys, (attributes, 4)."""
    code_count: int
    """Columns of all codes; 0 without such attributes."""
    words: Rows
    """All rows, and the same memory as octets: they stay the same for as long as the table is."""
    octets: NDArray[np.uint8]
    keys: NDArray[np.void]
    tables: Index


@dataclass(frozen=True, slots=True, eq=False)
class CellGroup:
    """The rows of one scope, or of one attribute in a scope."""

    name: str
    scope: str
    attribute: str
    cells: tuple[Cell, ...]
    """In the order in which they lie in a row."""
    rows: Rows
    """(rows, words), a view."""
    keys: CellKeys | None


class Cells:
    """All rows of cells."""

    def __init__(self, settings: FoldSettings, vocabulary: Vocabulary, items: Items) -> None:
        """Reserve the rows of ``settings.cells`` at their maxima; without cells nothing is."""
        self._vocabulary = vocabulary
        self._items = items
        self._weights = np.array([settings.types[name].weight for name in settings.action_names()] + [0.0, 0.0])
        self._layout = layout_of(settings)
        self._words = np.zeros(self._layout.word_count, dtype=np.float64)
        self._octets = self._words.view(np.uint8)
        self._keys = np.zeros(self._layout.key_count, dtype=KEY_ROW)
        self._tables = np.zeros(self._layout.entry_count, dtype=np.int32)
        self._columns = {
            name: items.tags(name) if settings.attributes[name] == "tags" else items.category(name)[:, None]
            for name in self._layout.attributes
        }
        self._attributes = tuple(self._layout.attributes)
        named = groups_of(settings.cells)
        self._metas = np.concatenate([new_meta() for _ in range(len(named) + 1)])[: len(named)]
        self._touched = np.zeros(len(named), dtype=np.int64)
        """1 + the highest row of each scope that was written: behind it all is 0, and no page was paid."""
        self.rows = self._all_rows()
        """For the one pass over all tables (``state.one_pass``)."""
        self.outcome_rows = outcome_cell_rows(settings, self._layout, self._words)
        """Rows that the join of outcomes writes: ``apply`` leaves them as they are."""
        self.groups = [self._group(settings, number, *each) for number, each in enumerate(named)]
        self._place = {
            cell: (number, int(self._layout.groups[FIRST, number]) + place)
            for number, group in enumerate(self.groups)
            for place, cell in enumerate(group.cells)
        }
        self._programs: dict[Program, tuple[Reading, ProgramTables]] = {}
        self._kept: dict[int, tuple[object, object]] = {}

    @property
    def bytes_now(self) -> int:
        """Memory of the rows, keys and tables in use, about."""
        return sum(self._bytes(number)[0] for number in range(len(self.groups)))

    @property
    def bytes_max(self) -> int:
        """Memory of all rows and keys."""
        return self._words.nbytes + self._keys.nbytes + self._tables.nbytes

    def share_of(self, cells: Collection[Cell]) -> tuple[float, float]:
        """Return the memory of some cells, now and at the maxima, in bytes: their share of their scopes' rows and keys.

        Of all cells together it is that of the table.
        """
        now = full = 0.0
        for number, group in enumerate(self.groups):
            mine = [cell for cell in group.cells if cell in cells]
            share = (words_of(mine) - 1) / (words_of(group.cells) - 1)
            each_now, each_full = self._bytes(number)
            now, full = now + share * each_now, full + share * each_full
        return now, full

    @property
    def evicted_count(self) -> int:
        """Keys of sessions and pairs that made room for others."""
        return sum(group.keys.evicted_count for group in self.groups if group.keys is not None)

    def apply(self, step: FoldStep) -> None:
        """Fold a part of a step, in which no item event follows one of another kind (``state.steps.parts``).

        Cost: about 5 ns an event and cell, 0.1 µs an event and scope with keys, and 20 µs a batch.
        """
        if not self.groups:
            return
        layout, batch = self._layout, step.events
        fold_cells(
            layout.groups, layout.spec, layout.take_of, layout.counts, self._weights, batch.kind, batch.folded,
            batch.action, batch.value, batch.quantity, batch.event_time_ms, batch.log_time_ms, batch.user_index,
            batch.user_hash, batch.user_is_new, batch.session_hash, step.sessions.number, batch.item_index,
            self._vocabulary.item_hash, self._codes(batch.item_index, self._attributes), self._words, self._octets,
            self._keys, self._tables, self._metas,
        )  # fmt: skip
        self.note_used()
        if step.change is not None:
            self._follow(step.change)

    def note_used(self) -> None:
        """Remember how many rows of each scope may have been written, before anything that counts them is replaced."""
        for number, group in enumerate(self.groups):
            used = self._used(group) if group.keys is None else int(self._metas["used"][number])
            self._touched[number] = max(int(self._touched[number]), used)

    def _all_rows(self) -> CellRows:
        """Return the arrays that folding is given, and addresses and places of the codes that it reads."""
        layout = self._layout
        codes: list[tuple[int, int, int, int]] = []
        for attribute in self._attributes:
            values, place = self._columns[attribute], layout.attributes[attribute]
            codes.append((address_of(values), len(values), values.shape[1], place[0]))
        return CellRows(
            layout.groups, layout.spec, layout.take_of, layout.counts, self._weights,
            np.array(codes, dtype=np.int64).reshape(-1, 4), layout.code_count if codes else 0, self._words,
            self._octets, self._keys, self._tables, self._metas,
        )  # fmt: skip

    def _follow(self, change: UserChange) -> None:
        """Merge a user's cells into another user's, or delete them."""
        if isinstance(change, UserMerged):
            self.merge(change.into, change.other, change.into_hash, change.other_hash)
        elif isinstance(change, UserForgotten):
            for each in change.hashes.tolist():
                self.forget(change.slot, each)
        elif isinstance(change, UserRestarted):
            self.forget(change.slot, change.user_hash)

    def read(self, cells: Sequence[Cell], keys: CellOwners, now_ms: int) -> Rows:
        """Return the values of cells as of a time not before the last event's, (n, cells).

        NaN = nothing is known: the key itself is not, or nothing was folded into a cell that is no sum. Never counted
        is 0 in a sum. Fading sums and windows are as of ``now_ms``.
        """
        found = np.empty((len(cells), len(keys.item_index)), dtype=np.float64)
        if not len(keys.item_index):  # what is the same for all is read into the first candidate
            return found.T
        reading = self._reading(cells, np.arange(len(cells)))
        read_matrix(*self._question(reading, keys, now_ms), found)
        return found.T

    def columns(self, program: Program, keys: CellOwners, inputs: Rows, now_ms: int) -> NDArray[np.float32]:
        """Return the columns of a program as of a time not before the last event's, (n, columns).

        The same as ``program_kernel.compute`` of what ``read`` gives, to the bit, then as float32. NaN = nothing is
        known, or float32 cannot hold it. Cost: about 0.2 µs a candidate with 40 columns.

        Args:
            program: Of cells that are kept here. What it needs is found once and kept.
            keys: Whose cells are read.
            inputs: Values of its inputs, (inputs, n).
            now_ms: Time of the question.
        """
        reading, steps = self._programs.get(program) or self._prepared(program)
        found = np.empty((len(steps.outputs), len(keys.item_index)), dtype=np.float32)
        if not len(keys.item_index):  # what is computed once a question reads the first candidate
            return found.T
        question = self._question(reading, keys, now_ms)
        read_columns(
            *question, steps.table, steps.constants, steps.once, steps.each, steps.outputs,
            np.ascontiguousarray(inputs, dtype=np.float64), found,
        )  # fmt: skip
        return found.T

    def parts_of(self, program: Program) -> CellParts:
        """Return what a kernel needs to read the cells of a program. Whoever keeps it keeps the rows."""
        reading = (self._programs.get(program) or self._prepared(program))[0]
        asked = [place for place, name in enumerate(self._attributes) if name in reading.attributes]
        codes = np.ascontiguousarray(self.rows.codes[asked])
        count = self._layout.code_count if asked else 0
        return CellParts(reading, self._layout.spec, codes, count, self._words, self._octets, self._keys, self._tables)

    def kept(self, owner: object, make: Callable[[], T]) -> T:
        """Return what ``make`` returned when this owner, an object that is no value, first asked for it.

        It is kept as long as this table is, or until too many others are; the owner is kept as well.
        """
        found = self._kept.get(id(owner))
        if found is None:
            if len(self._kept) >= _PROGRAMS_MAX:
                self._kept.clear()
            found = self._kept[id(owner)] = (owner, make())
        return cast("T", found[1])

    def merge(self, into: int, other: int, into_hash: int, other_hash: int) -> None:
        """Merge the counts of one user into another's; users are given by slot and by hash of the id.

        Its pairs are now the newest, in the order of the log times at which they were last counted, of equal ones in
        that of what they are with. Cost: about 10 µs for each of its pairs.
        """
        for number, group in enumerate(self.groups):
            if group.scope == "user" and other >= 0:
                self._add(number, into, group.rows[other])
                group.rows[other] = 0.0
            elif group.keys is not None and group.scope != "session":
                self._merge_keys(number, group.keys, into_hash, other_hash)

    def forget(self, slot: int, user_hash: int) -> None:
        """Delete the cells of a user: its slot, -1 = none, and hash of the id. Cost: by its pairs, as in ``merge``."""
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

    def rooms(self) -> dict[str, NDArray[np.generic]]:
        """Return the memory of all rows of each scope without keys: its first ones are those of ``arrays``."""
        return {f"{group.name}.rows": group.rows for group in self.groups if group.keys is None}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned, of the same settings. Only rows once in use are touched.

        Rows that lie where they belong are not read.
        """
        for number, group in enumerate(self.groups):
            rows = arrays[f"{group.name}.rows"]
            group.rows[len(rows) : int(self._touched[number])] = 0.0
            if not np.may_share_memory(rows, group.rows):
                group.rows[: len(rows)] = rows
            self._touched[number] = len(rows)
            if group.keys is not None:
                group.keys.restore({name: arrays[f"{group.name}.{name}"] for name in ("first", "second", "evicted")})

    def _group(self, settings: FoldSettings, number: int, scope: str, attribute: str) -> CellGroup:
        """Return the views of one scope."""
        at = self._layout.groups[:, number].tolist()
        rows = self._words[at[BASE] : at[BASE] + at[ROWS] * at[STRIDE]].reshape(at[ROWS], at[STRIDE])
        keys = None
        if at[ENTRIES]:
            table = self._tables[at[TABLE] : at[TABLE] + at[ENTRIES]]
            heads = self._tables[at[TABLE] + at[ENTRIES] : at[TABLE] + at[ENTRIES] + at[HEADS]]
            meta = self._metas[number : number + 1]
            keys = CellKeys(self._keys[at[KEY] : at[KEY] + at[ROWS]], table, heads, meta)
        name = f"{scope}.{attribute}" if attribute else scope
        return CellGroup(name, scope, attribute, cells_in(settings.cells, scope, attribute), rows, keys)

    def _prepared(self, program: Program) -> tuple[Reading, ProgramTables]:
        """Return what a program needs, and keep it."""
        if len(self._programs) >= _PROGRAMS_MAX:
            self._programs.clear()
        register = {step.leaf: place for place, step in enumerate(program.steps) if isinstance(step.leaf, Cell)}
        places = np.array([register[cell] for cell in program.cells], dtype=np.int64)
        found = self._programs[program] = (self._reading(program.cells, places), steps_of(program))
        return found

    def _reading(self, cells: Sequence[Cell], place_of: Places) -> Reading:
        """Return the tables for reading cells into these rows."""
        found = [self._place[cell] for cell in cells]
        order = sorted(range(len(cells)), key=found.__getitem__)
        groups = sorted({group for group, _ in found})
        numbers = [found[place][0] for place in order]
        starts = [numbers.index(group) for group in groups] + [len(cells)]
        return Reading(
            np.ascontiguousarray(self._layout.groups[:, groups]),
            np.array(starts, dtype=np.int64),
            np.array([found[place][1] for place in order], dtype=np.int64),
            np.asarray(place_of, dtype=np.int64)[order],
            tuple(sorted({self.groups[group].attribute for group in groups} - {""})),
        )

    def _question(self, reading: Reading, keys: CellOwners, now_ms: int) -> CellQuestion:
        """Return what both kernels that read are given."""
        item_index = np.ascontiguousarray(keys.item_index, dtype=np.int32)
        return CellQuestion(
            reading.groups, reading.starts, reading.wanted, reading.place_of, self._layout.spec, keys.user_index,
            np.uint64(keys.user_hash), keys.session_number, item_index,
            self._vocabulary.item_hash, self._codes(item_index, reading.attributes), now_ms, self._words,
            self._octets, self._keys, self._tables,
        )  # fmt: skip

    def _codes(self, item_index: Index, attributes: Sequence[str]) -> Index:
        """Return the codes of the values that items have in attributes, -1 = none, (n, columns)."""
        codes = np.empty((len(item_index), self._layout.code_count if attributes else 0), dtype=np.int32)
        for attribute in attributes:
            column, width = self._layout.attributes[attribute]
            write_codes(self._columns[attribute], item_index, codes[:, column : column + width])
        return codes

    def _add(self, number: int, into: int, other: Rows) -> None:
        """Add what was folded into one row of a scope, which is given, to another."""
        base, stride, first, stop = self._layout.groups[[BASE, STRIDE, FIRST, STOP], number].tolist()
        row = np.ascontiguousarray(other)
        self._touched[number] = max(int(self._touched[number]), into + 1)
        at = base + into * stride
        add_rows(self._words, self._octets, at, row, row.view(np.uint8), 0, stride, self._layout.spec, first, stop)

    def _merge_keys(self, number: int, keys: CellKeys, into_hash: int, other_hash: int) -> None:
        """Give the rows of one user's keys to another's, from the one with the least log time on."""
        rows = self.groups[number].rows
        found = keys.of_first(other_hash)
        for row in found[np.argsort(rows[found, 0], kind="stable")].tolist():
            kept = rows[row].copy()
            second = np.array([keys.second(row)], dtype=np.uint64)
            rows[row] = 0.0
            keys.release(row)
            (into,), (is_new,) = keys.take(np.array([into_hash], dtype=np.uint64), second)
            if is_new:
                rows[into] = kept
            else:
                self._add(number, int(into), kept)

    def _used(self, group: CellGroup) -> int:
        """Return how many rows of a scope may be in use, from the first on."""
        if group.keys is not None:
            return len(group.keys)
        if group.scope == "user":
            return self._vocabulary.user_slots_used
        if group.scope in {"item", "item_outcomes"}:
            return self._vocabulary.item_count
        return self._items.value_count(group.attribute) if group.scope == "attribute" else 1

    def _bytes(self, number: int) -> tuple[int, int]:
        """Return the memory of one scope, now, about, and at its maximum."""
        group, tables = self.groups[number], 4 * self._layout.groups[[ENTRIES, HEADS], number]
        row = group.rows.strides[0] + (KEY_ROW.itemsize if group.keys is not None else 0)
        used = self._used(group)  # each key touches a page of its table and of its heads, as long as there are others
        return used * row + int(np.minimum(tables, used * _PAGE_BYTES).sum()), len(group.rows) * row + int(tables.sum())
