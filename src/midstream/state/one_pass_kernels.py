"""The one pass: a kernel that folds a run of usual events into all tables, in one call.

Usual are interactions, impressions, served records and ticks; whatever changes an item, a user or a setting is not, and
the kernel says so before it changes anything. The kernels of the tables are called as they stand in their own files, a
run of events at a time, so that the columns of a run are at hand while table after table folds them. ``Fold`` runs the
same kernels table by table for all other events: that is the twin to which this one is held equal.

Reference: ``state.one_pass`` hands the arrays over.
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numba.core import types  # pyright: ignore[reportMissingTypeStubs]
from numba.experimental import structref  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Index, Mask
from midstream.state.cells.coverage import CoverageRows, fold_coverage
from midstream.state.cells.fold import CellRows, fold_cells
from midstream.state.ids.aliases import AliasRows, resolve_each
from midstream.state.ids.erased_users import refuse_each
from midstream.state.ids.event_columns import read_columns
from midstream.state.ids.event_ids import EventAdmission, EventIdRows, admit_events, fingerprint_events
from midstream.state.ids.id_indexing import VocabularyCount, index_events
from midstream.state.ids.vocabulary import VocabularyRows
from midstream.state.items.item_fold import ItemCountRows, fold_events
from midstream.state.outcomes.outcome_columns import OutcomeColumns
from midstream.state.outcomes.outcome_fold import OutcomeRows, fold_outcomes, is_due
from midstream.state.outcomes.requests import RequestRows, fold_requests
from midstream.state.pairs.covisitation import PairRows, fold_pairs
from midstream.state.sessions.session_index import SessionIndexRows, fold_sessions
from midstream.state.sessions.sessions import SessionRows, number_events
from midstream.state.structures.borrowed import borrowed, codes_at
from midstream.state.structures.kernel import kernel, optional_kernel
from midstream.state.users.affinities import AffinityRows, fold_affinities
from midstream.state.users.user_fold import fold_users
from midstream.state.users.user_rows import UserRows

IDS, ITEMS, USERS, CELLS, PAIRS, SESSION_INDEX, REQUESTS, OUTCOMES = (1 << number for number in range(8))
"""Bits of the tables to fold. ``IDS`` are event ids, vocabulary and sessions, which make the columns of the others."""
LAST: Final = 1 << 8
"""Beside them: the run is the last one of a batch, so lists of hot items have to be in line after it."""
UNUSUAL: Final = -1
"""Nothing was folded: an event of the run is not usual."""
STARTS_COLD, SERVES = 1, 2
"""Bits of what is left to the general way: users that start cold may have documents, served records open slates."""
_INTERACTION, _IMPRESSION, _SERVED, _TICK = (
    int(kind) for kind in (Kind.INTERACTION, Kind.IMPRESSION, Kind.SERVED, Kind.TICK)
)
_NEW, _CONFLICT = int(EventAdmission.NEW), int(EventAdmission.CONFLICT)
_CONFLICTS, _DUPLICATES, _ERASED = (
    int(count) for count in (VocabularyCount.CONFLICT, VocabularyCount.DUPLICATE, VocabularyCount.ERASED)
)
_NONE = np.uint64(0)


class RunColumns(NamedTuple):
    """Room for the columns of a run of at most ``length`` events; those of several columns lie end to end."""

    id_hash: NDArray[np.uint64]
    check: NDArray[np.uint32]
    content: NDArray[np.uint32]
    admission: NDArray[np.uint8]
    folded: Mask
    codes: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    action: NDArray[np.int16]
    times: NDArray[np.int64]
    indices: NDArray[np.int32]
    is_new: Mask
    value: NDArray[np.float64]
    quantity: NDArray[np.float32]
    number: NDArray[np.int64]
    before: NDArray[np.int32]
    user: NDArray[np.uint64]
    item_codes: NDArray[np.int32]


if TYPE_CHECKING:

    class Tables(NamedTuple):
        """The arrays of all tables as one value: to hand 100 arrays to a kernel costs 10 µs, to hand one value 1 µs."""

        columns: RunColumns
        ids: EventIdRows
        vocabulary: VocabularyRows
        aliases: AliasRows
        sessions: SessionRows
        items: ItemCountRows
        users: UserRows
        pairs: PairRows
        session_index: SessionIndexRows
        requests: RequestRows
        outcomes: OutcomeRows
        affinities: AffinityRows
        cells: CellRows
        coverage: CoverageRows
else:

    class Tables(structref.StructRefProxy):
        """As above."""


_FIELDS = (
    "columns",
    "ids",
    "vocabulary",
    "aliases",
    "sessions",
    "items",
    "users",
    "pairs",
    "session_index",
    "requests",
    "outcomes",
    "affinities",
    "cells",
    "coverage",
)


@structref.register  # pyright: ignore[reportUnknownMemberType]  # numba has no types
class TablesType(types.StructRef):
    """Type of ``Tables`` in kernels."""

    def preprocess_fields(self, fields: Any) -> Any:  # noqa: ANN401  # numba's own
        """Return the fields as they are kept: a number as one that may change."""
        return tuple((name, types.unliteral(each)) for name, each in fields)  # type: ignore[no-untyped-call]  # numba's


structref.define_proxy(Tables, TablesType, _FIELDS)  # type: ignore[no-untyped-call]  # numba's


@optional_kernel
def make_tables(
    columns: RunColumns,
    ids: EventIdRows,
    vocabulary: VocabularyRows,
    aliases: AliasRows,
    sessions: SessionRows,
    items: ItemCountRows,
    users: UserRows,
    pairs: PairRows,
    session_index: SessionIndexRows,
    requests: RequestRows,
    outcomes: OutcomeRows,
    affinities: AffinityRows,
    cells: CellRows,
    coverage: CoverageRows,
) -> Tables:
    """Return the value to hand over. By a kernel, since ``Tables(...)`` in Python compiles anew in each process."""
    return Tables(
        columns, ids, vocabulary, aliases, sessions, items, users, pairs, session_index, requests, outcomes, affinities,
        cells, coverage,
    )  # fmt: skip


@kernel
def usual_until(rows: NDArray[np.void], start: int) -> int:
    """Return the place of the next event that is not usual, the number of rows when there is none."""
    for i in range(start, len(rows)):
        kind = rows[i]["kind"]
        if kind not in (_INTERACTION, _IMPRESSION, _SERVED, _TICK):
            return i
    return len(rows)


@optional_kernel
def fold_run(
    tables: Tables,
    which: int,
    first: int,
    rows: NDArray[np.void],
    text: NDArray[np.uint8],
    id_hash: NDArray[np.uint64],
    check: NDArray[np.uint32],
    content: NDArray[np.uint32],
    refused_hash: NDArray[np.uint64],
    refused_until: NDArray[np.int64],
) -> int:
    """Fold a run of usual events into the tables of some bits; return what is left to the general way, or ``UNUSUAL``.

    Args:
        tables: Arrays of the tables, and room for at least so many events.
        which: Bits of the tables; without ``IDS`` the columns are those that a call with it made.
        first: Log position before the run.
        rows: Of the run.
        text: Of the batch.
        id_hash: Of its fingerprints, with ``check`` and ``content``; of no length where nobody has taken them.
        check: As above.
        content: As above.
        refused_hash: Ids of erased users, ascending, refused until ``refused_until``.
        refused_until: As above.
    """
    n = len(rows)
    if usual_until(rows, 0) < n:
        return UNUSUAL
    c, v = borrowed(tables.columns), borrowed(tables.vocabulary)
    rows, text = borrowed(rows), borrowed(text)
    codes, hashes = c.codes[: 2 * n].reshape(2, n), c.hashes[: 4 * n].reshape(4, n)
    times, indices = c.times[: 2 * n].reshape(2, n), c.indices[: 2 * n].reshape(2, n)
    folded, action, is_new = c.folded[:n], c.action[:n], c.is_new[:n]
    number, before, user = c.number[:n], c.before[:n], c.user[:n]
    if which & IDS:
        read_columns(rows, text, v.key, v.actions, codes, hashes, action, times, c.value[:n], c.quantity[:n])
        if len(id_hash):
            _copy(id_hash, check, content, c)
        else:
            fingerprint_events(rows, text, v.key, c.id_hash[:n], c.check[:n], c.content[:n])
        _admit(n, times[1], c, borrowed(tables.ids), v.counts)
        if len(refused_hash):
            refused = refuse_each(rows, hashes[0], refused_hash, refused_until, folded)
            v.counts[_ERASED] += refused
            v.counts[_DUPLICATES] -= refused  # as which everything counts that is not to be folded
        _resolve(hashes[0], borrowed(tables.aliases))
        index_events(
            rows, text, folded, v.makes_items, hashes, action, times, indices, is_new, v.users, v.user_table,
            v.user_meta, v.item_hash, v.item_start, v.in_catalogue, v.item_text, v.item_table, v.meta, v.counts,
        )  # fmt: skip
        s = borrowed(tables.sessions)
        number_events(
            codes[0], action, folded, indices[1], hashes[0], hashes[2], times[0], times[1], s.weights, number, before,
            user, s.sessions, s.items, s.table, s.user_heads, s.meta,
        )  # fmt: skip
    return _fold_columns(
        tables, which, first, rows, text, v.item_hash, codes, hashes, times, indices, folded, action, is_new, number,
        before, user,
    )  # fmt: skip


@kernel
def _copy(
    id_hash: NDArray[np.uint64], check: NDArray[np.uint32], content: NDArray[np.uint32], columns: RunColumns
) -> None:
    """Put fingerprints that somebody has taken where those of a run lie."""
    for i in range(len(id_hash)):
        columns.id_hash[i] = id_hash[i]
        columns.check[i] = check[i]
        columns.content[i] = content[i]


@kernel
def _resolve(user_hash: NDArray[np.uint64], aliases: AliasRows) -> None:
    """Replace each hash by that of the user it stands for, as ``Aliases.resolve_all`` does."""
    if aliases.meta[0]["users"] > 0:
        resolve_each(user_hash, aliases.rows, aliases.table, aliases.into)


@kernel
def _admit(n: int, log_time_ms: NDArray[np.int64], c: RunColumns, ids: EventIdRows, counts: NDArray[np.int64]) -> None:
    """Say which events are to be folded, as ``EventIds.admit`` and ``Vocabulary.apply`` do."""
    admit_events(
        c.id_hash[:n], c.check[:n], c.content[:n], log_time_ms, c.admission[:n], ids.id_hash, ids.check, ids.content,
        ids.second, ids.table, ids.meta,
    )  # fmt: skip
    for i in range(n):
        c.folded[i] = c.admission[i] == _NEW
        if c.admission[i] == _CONFLICT:
            counts[_CONFLICTS] += 1


@kernel
def _fold_columns(
    tables: Tables,
    which: int,
    first: int,
    rows: NDArray[np.void],
    text: NDArray[np.uint8],
    item_hash: NDArray[np.uint64],
    codes: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
    times: NDArray[np.int64],
    indices: NDArray[np.int32],
    folded: Mask,
    action: NDArray[np.int16],
    is_new: Mask,
    number: NDArray[np.int64],
    before: Index,
    user: NDArray[np.uint64],
) -> int:
    """Fold the columns of a run into the tables of some bits; return what is left to the general way."""
    left = 0
    kind, item_index = codes[0], indices[1]
    if which & ITEMS:
        t = borrowed(tables.items)
        fold_events(
            kind, action, folded, item_index, times[0], times[1], t.weights, t.half_lives, t.accepts, t.clock,
            t.counters, t.windows, t.status, t.available, t.heat, t.list_values, t.list_items, t.list_states, t.risen,
            t.touched, t.spans, item_hash, (which & LAST) != 0,
        )  # fmt: skip
    if which & USERS:
        u = borrowed(tables.users)
        concerned = fold_users(
            kind, action, folded, indices[0], is_new, item_index, times[0], times[1], u.at, u.ints, u.longs, u.tails,
            u.seen, u.shorts, u.used,
        )  # fmt: skip
        left |= STARTS_COLD * (concerned > 0)
        _fold_affinities(kind, action, folded, indices[0], is_new, item_index, times, u, borrowed(tables.affinities))
    if which & CELLS:
        y = borrowed(tables.coverage)
        fold_coverage(first, kind, folded, action, times[1], y.since, y.last_ms, y.has_cells)
        if y.has_cells:
            _fold_cells(
                borrowed(tables.columns), borrowed(tables.cells), item_hash, codes, hashes, times, indices, folded,
                action, is_new, number,
            )  # fmt: skip
    if which & PAIRS:
        p = borrowed(tables.pairs)
        fold_pairs(
            item_index, before, times[0], times[1], p.half_life_ms, p.row, p.clock, p.words, p.numbers, p.values,
            p.shares, p.lows, item_hash,
        )  # fmt: skip
    if which & SESSION_INDEX:
        x = borrowed(tables.session_index)
        fold_sessions(item_index, number, user, x.items, x.lengths, x.users, x.postings, x.heads, x.state)
    if which & REQUESTS:
        r = borrowed(tables.requests)
        fold_requests(kind, folded, hashes[3], first, r.request_hash, r.position, r.table, r.meta)
    if _serves(kind, folded, hashes[3]):
        left |= SERVES
    elif which & OUTCOMES and _has_outcomes(hashes[3], times[1], tables.outcomes):
        o, c, n = borrowed(tables.outcomes), borrowed(tables.columns), len(kind)
        value, quantity = c.value[:n], c.quantity[:n]
        columns = OutcomeColumns(
            kind, folded, action, hashes[0], item_index, hashes[1], hashes[3], hashes[2], times[0], times[1], value,
            quantity, rows, text, o.key,
        )  # fmt: skip
        fold_outcomes(0, n, first, o.window_ms, columns, o.told, o.state, o.left)
    return left


@kernel
def _fold_affinities(
    kind: NDArray[np.uint8],
    action: NDArray[np.int16],
    folded: Mask,
    user_index: Index,
    is_new: Mask,
    item_index: Index,
    times: NDArray[np.int64],
    users: UserRows,
    rows: AffinityRows,
) -> None:
    """Fold a run into the affinities to each attribute."""
    for name in range(len(rows.at)):
        codes = codes_at(rows.codes[name, 0], rows.codes[name, 1], 1).reshape(rows.codes[name, 1])
        fold_affinities(
            kind, action, folded, user_index, is_new, item_index, times[0], times[1], rows.weights, codes,
            rows.at[name], users.ints, rows.floats, users.longs,
        )  # fmt: skip


@kernel
def _fold_cells(
    columns: RunColumns,
    rows: CellRows,
    item_hash: NDArray[np.uint64],
    codes: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
    times: NDArray[np.int64],
    indices: NDArray[np.int32],
    folded: Mask,
    action: NDArray[np.int16],
    is_new: Mask,
    number: NDArray[np.int64],
) -> None:
    """Fold a run into the cells of all scopes."""
    n = len(folded)
    item_codes = columns.item_codes[: n * rows.code_count].reshape(n, rows.code_count)
    for name in range(len(rows.codes)):
        values = codes_at(rows.codes[name, 0], rows.codes[name, 1], rows.codes[name, 2])
        for i in range(n):
            item = indices[1, i]
            for place in range(values.shape[1]):
                item_codes[i, rows.codes[name, 3] + place] = values[item, place] if item >= 0 else -1
    fold_cells(
        rows.groups, rows.spec, rows.take_of, rows.counts, rows.weights, codes[0], folded, action, columns.value[:n],
        columns.quantity[:n], times[0], times[1], indices[0], hashes[0], is_new, hashes[2], number, indices[1],
        item_hash, item_codes, rows.words, rows.octets, rows.keys, rows.tables, rows.metas,
    )  # fmt: skip


@kernel
def _has_outcomes(request_hash: NDArray[np.uint64], log_time_ms: NDArray[np.int64], outcomes: OutcomeRows) -> bool:
    """Return whether an event names a request, or something that is held has become too old by the last event."""
    found = False
    for i in range(len(request_hash)):
        found |= request_hash[i] != _NONE
    held = borrowed(outcomes.state)
    now = log_time_ms[len(log_time_ms) - 1]
    return found or is_due(now, outcomes.window_ms, held.slates, held.rings, held.waiting, held.waiting_meta)


@kernel
def _serves(kind: NDArray[np.uint8], folded: Mask, request_hash: NDArray[np.uint64]) -> bool:
    """Return whether an event is a served record that opens a slate."""
    found = False
    for i in range(len(kind)):
        found |= kind[i] == _SERVED and folded[i] and request_hash[i] != _NONE
    return found
