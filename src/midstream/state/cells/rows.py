"""Rows of cells that an event or a question concerns.

Rows of items and users lie where the vocabulary puts those, rows of values at the code of the value; those of sessions
and of pairs are found by their key. A question about many candidates of a user with few pairs looks at those pairs
once, by their chain, instead of looking each candidate up.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.state.cells.keys import key_of_parts, key_of_second, key_seed, take_key
from midstream.state.cells.layout import (
    ATTRIBUTE,
    BASE,
    CODE,
    CODES,
    ENTRIES,
    GLOBAL,
    HEADS,
    ITEM,
    ITEM_OUTCOMES,
    KEY,
    OUTCOMES,
    ROWS,
    SCOPE,
    SESSION,
    STRIDE,
    TABLE,
    USER,
    USER_ATTRIBUTE,
    USER_ITEM,
)
from midstream.state.structures.hash_table import find
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.prefetch import AHEAD, FURTHER, prefetch

UNKNOWN: Final = -2
"""No row, and the key is one of something that is not known."""
NO_ROW: Final = -1
"""No row: nothing was folded for the key."""
_FEW_MIN: Final = 4
_LOOKUPS_A_PAIR: Final = 8
"""A pair in a chain is one wait for memory; lookups, which wait together, are 30 to 80 ns each."""
_NONE = np.uint64(0)

Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@kernel
def place_events(
    group: Places,
    counts: Mask,
    number: NDArray[np.int64],
    user_index: Index,
    user_hash: Hashes,
    user_is_new: Mask,
    session_number: Places,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    keys: NDArray[np.void],
    tables: Index,
    metas: NDArray[np.void],
    event_of: Places,
    row_of: Places,
    is_new: Mask,
) -> int:
    """Write pairs of an event and a row of one scope, in the order of the events; return how many there are.

    Args:
        group: Parameters of the scope, (GROUP_ROWS,).
        counts: Whether events of a number count for any of its cells.
        number: Of the action of each event, (n,).
        user_index: Slot, -1 = none.
        user_hash: 0 = none.
        user_is_new: The slot starts cold at this event.
        session_number: -1 = none.
        item_index: -1 = none.
        item_hash: Of the id of each item, by index.
        codes: Of values, (n, columns).
        keys: Of all scopes that have keys.
        tables: From hash to key, and heads of chains, of the same.
        metas: Of this scope's keys, (1,).
        event_of: For the pairs.
        row_of: The same.
        is_new: The row starts cold.
    """
    scope, found = group[SCOPE], 0
    if scope >= OUTCOMES:  # the join of outcomes writes those
        return 0
    if scope in (GLOBAL, USER, ITEM):
        return _place_known(scope, counts, number, user_index, user_is_new, item_index, event_of, row_of, is_new)
    second = np.empty(len(event_of), dtype=np.uint64)
    for i in range(len(number)):
        if not counts[number[i]] or (scope in (USER_ITEM, USER_ATTRIBUTE) and user_hash[i] == _NONE):
            continue
        if scope == SESSION and session_number[i] >= 0:
            event_of[found], row_of[found], is_new[found] = i, 0, False
            found += 1
        elif scope == USER_ITEM and item_index[i] >= 0:
            event_of[found], row_of[found], second[found] = i, 0, item_hash[item_index[i]]
            found += 1
        elif scope in (ATTRIBUTE, USER_ATTRIBUTE):
            for column in range(group[CODE], group[CODE] + group[CODES]):
                if codes[i, column] >= 0:
                    event_of[found], row_of[found], is_new[found] = i, codes[i, column], False
                    second[found] = np.uint64(codes[i, column])
                    found += 1
    if scope != ATTRIBUTE:
        first = user_hash
        if scope == SESSION:
            first, second = session_number.view(np.uint64), np.zeros(found, dtype=np.uint64)
        _take_rows(group, event_of[:found], first, second, keys, tables, metas, row_of, is_new)
    return found


@kernel
def _place_known(
    scope: int,
    counts: Mask,
    number: Places,
    user_index: Index,
    user_is_new: Mask,
    item_index: Index,
    event_of: Places,
    row_of: Places,
    is_new: Mask,
) -> int:
    """Write the pairs of a scope whose rows lie where others have put what they are of."""
    found = 0
    for i in range(len(number)):
        row = 0
        if scope == ITEM:
            row = signed(item_index[i])
        elif scope == USER:
            row = signed(user_index[i])
        is_cold = scope == USER and user_is_new[i]
        if row >= 0 and (counts[number[i]] or is_cold):
            event_of[found], row_of[found], is_new[found] = i, row, is_cold
            found += 1
    return found


@kernel
def _take_rows(
    group: Places,
    event_of: Places,
    first: Hashes,
    second: Hashes,
    keys: NDArray[np.void],
    tables: Index,
    metas: NDArray[np.void],
    row_of: Places,
    is_new: Mask,
) -> None:
    """Write the row of each key, now the newest, and whether it starts cold."""
    mine = keys[group[KEY] : group[KEY] + group[ROWS]]
    table = tables[group[TABLE] : group[TABLE] + group[ENTRIES]]
    heads = tables[group[TABLE] + group[ENTRIES] : group[TABLE] + group[ENTRIES] + group[HEADS]]
    mask, count = group[ENTRIES] - 1, len(event_of)
    hashes = np.empty(count, dtype=np.uint64)
    for j in range(count):
        hashes[j] = key_of_parts(np.uint64(first[event_of[j]]), np.uint64(second[j]))
    for j in range(count):
        if j + FURTHER < count:
            prefetch(table, signed(hashes[j + FURTHER]) & mask, 0)
        if j + AHEAD < count:
            prefetch(mine, max(signed(table[signed(hashes[j + AHEAD]) & mask]) - 1, 0), 0)
        mine_first, mine_second = np.uint64(first[event_of[j]]), np.uint64(second[j])
        row_of[j], is_new[j] = take_key(hashes[j], mine_first, mine_second, mine, table, heads, metas)


@kernel
def place_items(
    group: Places,
    user_index: int,
    user_hash: np.uint64,
    session_number: int,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    keys: NDArray[np.void],
    tables: Index,
    row_of: Places,
) -> None:
    """Write where the rows of one scope begin that a question reads, or ``NO_ROW`` or ``UNKNOWN``. Changes nothing.

    Args:
        group: Parameters of the scope, (GROUP_ROWS,).
        user_index: Slot of the user, -1 = not known.
        user_hash: 0 = none.
        session_number: -1 = none.
        item_index: Of the candidates, -1 = not known, (n,).
        item_hash: Of the id of each item, by index.
        codes: Of their values, (n, columns).
        keys: Of all scopes that have keys.
        tables: From hash to key, of the same.
        row_of: For the first word of each row, (columns of the scope, at least n); of a scope without items one alone.
    """
    _place_rows(group, user_index, user_hash, session_number, item_index, item_hash, codes, keys, tables, row_of)
    columns, count = (row_of.shape[0], len(item_index)) if is_of_items(group[SCOPE]) else (1, 1)
    for column in range(columns):
        for k in range(count):
            if row_of[column, k] >= 0:
                row_of[column, k] = group[BASE] + row_of[column, k] * group[STRIDE]


@kernel
def is_of_items(scope: int) -> bool:
    """Return whether the rows of a scope differ from candidate to candidate."""
    return scope not in (GLOBAL, USER, SESSION, OUTCOMES)


@kernel
def _place_rows(
    group: Places,
    user_index: int,
    user_hash: np.uint64,
    session_number: int,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    keys: NDArray[np.void],
    tables: Index,
    row_of: Places,
) -> None:
    """Write the numbers of the rows."""
    scope = group[SCOPE]
    mine = keys[group[KEY] : group[KEY] + group[ROWS]]
    table = tables[group[TABLE] : group[TABLE] + group[ENTRIES]]
    if scope in (GLOBAL, OUTCOMES):
        row_of[0, 0] = 0
    elif scope == USER:
        row_of[0, 0] = user_index if user_index >= 0 else UNKNOWN
    elif scope == SESSION:
        row_of[0, 0] = UNKNOWN
        if session_number >= 0:
            row_of[0, 0] = find(key_of_parts(np.uint64(session_number), _NONE), mine["hash"], table)
    elif scope in (ITEM, ITEM_OUTCOMES):
        for k in range(len(item_index)):
            row_of[0, k] = item_index[k] if item_index[k] >= 0 else UNKNOWN
    elif scope == ATTRIBUTE:
        for k in range(len(item_index)):
            for column in range(group[CODES]):
                code = codes[k, group[CODE] + column]
                row_of[column, k] = code if code >= 0 else UNKNOWN
    elif user_hash == _NONE or user_index < 0:
        row_of[:] = UNKNOWN
    else:
        heads = tables[group[TABLE] + group[ENTRIES] : group[TABLE] + group[ENTRIES] + group[HEADS]]
        if not _find_few(group, user_hash, item_index, item_hash, codes, mine, heads, row_of):
            _find_rows(group, key_seed(user_hash), item_index, item_hash, codes, mine["hash"], table, row_of)


@kernel
def _find_few(
    group: Places,
    user_hash: np.uint64,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    keys: NDArray[np.void],
    heads: Index,
    row_of: Places,
) -> bool:
    """Write the rows of a user's pairs, by their chain, and return whether that is short enough; else nothing is."""
    few_max = max(_FEW_MIN, row_of.size // _LOOKUPS_A_PAIR)
    second, row = np.empty(few_max, dtype=np.uint64), np.empty(few_max, dtype=np.int64)
    met = count = 0
    at = signed(heads[signed(key_seed(user_hash)) & (len(heads) - 1)])
    while at:
        if met == few_max:
            return False
        met += 1
        if keys[at - 1]["first"] == user_hash:
            second[count], row[count] = keys[at - 1]["second"], at - 1
            count += 1
        at = signed(keys[at - 1]["after"])
    size = 1
    while size < 4 * count:
        size *= 2
    table, mask = np.zeros(size, dtype=np.int64), size - 1
    for j in range(count):
        at = signed(second[j]) & mask
        while table[at]:
            at = (at + 1) & mask
        table[at] = j + 1
    is_item = group[SCOPE] == USER_ITEM
    for column in range(row_of.shape[0]):
        for k in range(len(item_index)):
            code = item_index[k] if is_item else codes[k, group[CODE] + column]
            row_of[column, k] = NO_ROW if code >= 0 else UNKNOWN
            if code >= 0 and count > 0:
                wanted = np.uint64(item_hash[code]) if is_item else np.uint64(code)
                at = signed(wanted) & mask
                while table[at] and second[table[at] - 1] != wanted:
                    at = (at + 1) & mask
                if table[at]:
                    row_of[column, k] = row[table[at] - 1]
    return True


@kernel
def _find_rows(
    group: Places,
    seed: np.uint64,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    hashes: Hashes,
    table: Index,
    row_of: Places,
) -> None:
    """Write the rows of a user's pairs; in three passes, so that table and keys come while others are looked at."""
    mask = len(table) - 1
    wanted = np.zeros(row_of.shape, dtype=np.uint64)
    for column in range(row_of.shape[0]):
        for k in range(len(item_index)):
            if group[SCOPE] == USER_ITEM and item_index[k] >= 0:
                wanted[column, k] = key_of_second(seed, np.uint64(item_hash[item_index[k]]))
            elif group[SCOPE] == USER_ATTRIBUTE and codes[k, group[CODE] + column] >= 0:
                wanted[column, k] = key_of_second(seed, np.uint64(codes[k, group[CODE] + column]))
            else:
                continue
            prefetch(table, signed(wanted[column, k]) & mask, 0)
    for column in range(row_of.shape[0]):
        for k in range(len(item_index)):
            if wanted[column, k] != _NONE:
                prefetch(hashes, max(signed(table[signed(wanted[column, k]) & mask]) - 1, 0), 0)
    for column in range(row_of.shape[0]):
        for k in range(len(item_index)):
            row_of[column, k] = UNKNOWN
            if wanted[column, k] != _NONE:
                row_of[column, k] = find(wanted[column, k], hashes, table)


@kernel
def write_codes(values: Index, item_index: Index, codes: Index) -> None:
    """Write the codes of the values that items have in one attribute, -1 = none, (n, columns)."""
    for k in range(len(item_index)):
        for column in range(values.shape[1]):
            codes[k, column] = values[item_index[k], column] if item_index[k] >= 0 else -1
