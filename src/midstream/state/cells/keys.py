"""Rows that are found by a key: of sessions, and of a user together with an item or a value.

A key is a hash of its two parts, which are kept beside it. Rows whose first parts hash to one entry of ``heads`` are
chained, so that those of a user are found without a look at those of others. The chains are a matter of layout: no
snapshot holds them. When every row is taken, the one whose key was counted longest ago is taken, in the order of the
log.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.state.ids.user_slots import new_meta, read_order, release_user, take_user, write_order
from midstream.state.structures.hash_table import find, insert
from midstream.state.structures.hashing import combine
from midstream.state.structures.kernel import kernel, signed

KEY_ROW = np.dtype(
    [
        ("hash", "u8"), ("first", "u8"), ("second", "u8"), ("older", "i4"), ("newer", "i4"),
        ("before", "i4"), ("after", "i4"),
    ]
)  # fmt: skip
"""``before`` and ``after`` are the neighbours in the chain: a row + 1, 0 = none, as in ``heads``."""
_NONE = np.uint64(0)
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


class CellKeys:
    """Keys of two parts, each with a row."""

    def __init__(self, keys: NDArray[np.void], table: Index, heads: Index, meta: NDArray[np.void]) -> None:
        """Keep keys in memory that was reserved.

        Args:
            keys: KEY_ROW a row.
            table: Of ``table_size`` rows.
            heads: First row of each chain; a power of two, or none where nobody asks for ``of_first``.
            meta: ``new_meta``.
        """
        self._keys = keys
        self._table = table
        self._heads = heads
        self._meta = meta

    def __len__(self) -> int:
        """Return the number of keys."""
        return int(self._meta["users"][0])

    @property
    def evicted_count(self) -> int:
        """Keys that made room for others."""
        return int(self._meta["evicted"][0])

    def take(self, first: Hashes, second: Hashes) -> tuple[Places, Mask]:
        """Return the row of each key, now the newest, and whether it starts cold, both (n,)."""
        row_of, is_new = np.empty(len(first), dtype=np.int64), np.empty(len(first), dtype=np.bool_)
        _take_keys(first, second, self._keys, self._table, self._heads, self._meta, row_of, is_new)
        return row_of, is_new

    def find(self, first: Hashes, second: Hashes) -> Places:
        """Return the row of each key, -1 = none, (n,). Changes nothing."""
        row_of = np.empty(len(first), dtype=np.int64)
        _find_keys(first, second, self._keys["hash"], self._table, row_of)
        return row_of

    def of_first(self, first: int) -> Places:
        """Return the rows whose key's first part is this, in the order of the second. Cost: by these rows alone."""
        found = _chained(np.uint64(first), self._keys, self._heads)
        return found[np.argsort(self._keys["second"][found])]

    def release(self, row: int) -> None:
        """Give the row of a key up."""
        unchain(row, self._keys, self._heads)
        release_user(row, self._keys, self._table, self._meta)

    def second(self, row: int) -> int:
        """Return the second part of a row's key."""
        return int(self._keys["second"][row])

    def order(self) -> Places:
        """Return the rows from the one counted longest ago to the newest."""
        return self._order().astype(np.int64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the parts of the keys, from the one counted longest ago to the newest, and the counter."""
        order = self._order()
        return {
            "first": self._keys["first"][order],
            "second": self._keys["second"][order],
            "evicted": self._meta["evicted"].copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the keys by what ``arrays`` returned: key i has row i."""
        count, used = len(arrays["first"]), int(self._meta["used"][0])  # no row behind those was ever taken
        _leave_tables(self._keys, used, self._table, self._heads)
        self._keys[:used] = np.zeros(1, dtype=KEY_ROW)
        self._keys["first"][:count] = arrays["first"]
        self._keys["second"][:count] = arrays["second"]
        _enter_tables(self._keys, count, self._table, self._heads)
        self._meta[:] = new_meta()
        self._meta["users"] = self._meta["used"] = count
        self._meta["evicted"] = arrays["evicted"]
        read_order(np.arange(count, dtype=np.int32), self._keys, self._meta)

    def _order(self) -> NDArray[np.int32]:
        order = np.empty(len(self), dtype=np.int32)
        write_order(self._keys, self._meta, order)
        return order


@kernel
def key_of_parts(first: np.uint64, second: np.uint64) -> np.uint64:
    """Return the hash of a key, never 0."""
    return key_of_second(key_seed(first), second)


@kernel
def key_seed(first: np.uint64) -> np.uint64:
    """Return what the hashes of all keys of one first part are made of."""
    return combine(np.uint64(0), first)


@kernel
def key_of_second(seed: np.uint64, second: np.uint64) -> np.uint64:
    """Return the hash of a key of whose first part this is the seed."""
    return combine(seed, second) | np.uint64(1)


@kernel
def take_key(
    hashed: np.uint64,
    first: np.uint64,
    second: np.uint64,
    keys: NDArray[np.void],
    table: Index,
    heads: Index,
    meta: NDArray[np.void],
) -> tuple[int, bool]:
    """Return the row of a key of this hash and these parts, now the newest, and whether it starts cold."""
    evicted = meta[0]["evicted"]
    row, is_cold = take_user(hashed, keys, table, meta)
    if is_cold:
        if meta[0]["evicted"] != evicted:
            unchain(row, keys, heads)
        keys[row]["first"] = first
        keys[row]["second"] = second
        _chain(row, keys, heads)
    return row, is_cold


@kernel
def unchain(row: int, keys: NDArray[np.void], heads: Index) -> None:
    """Take a row out of the chain of its first part."""
    if not len(heads):
        return
    before, after = signed(keys[row]["before"]), signed(keys[row]["after"])
    if before:
        keys[before - 1]["after"] = after
    else:
        heads[signed(key_seed(keys[row]["first"])) & (len(heads) - 1)] = after
    if after:
        keys[after - 1]["before"] = before


@kernel
def _chain(row: int, keys: NDArray[np.void], heads: Index) -> None:
    """Put a row at the head of the chain of its first part."""
    if not len(heads):
        return
    at = signed(key_seed(keys[row]["first"])) & (len(heads) - 1)
    after = signed(heads[at])
    keys[row]["before"] = 0
    keys[row]["after"] = after
    if after:
        keys[after - 1]["before"] = row + 1
    heads[at] = row + 1


@kernel
def _chained(first: np.uint64, keys: NDArray[np.void], heads: Index) -> Places:
    """Return the rows of a first part, in the order of their chain."""
    count = 0
    start = signed(heads[signed(key_seed(first)) & (len(heads) - 1)])
    at = start
    while at:
        count += keys[at - 1]["first"] == first
        at = signed(keys[at - 1]["after"])
    found = np.empty(count, dtype=np.int64)
    at, count = start, 0
    while at:
        if keys[at - 1]["first"] == first:
            found[count] = at - 1
            count += 1
        at = signed(keys[at - 1]["after"])
    return found


@kernel
def _take_keys(
    first: Hashes,
    second: Hashes,
    keys: NDArray[np.void],
    table: Index,
    heads: Index,
    meta: NDArray[np.void],
    row_of: Places,
    is_new: Mask,
) -> None:
    for j in range(len(first)):
        hashed = key_of_parts(first[j], second[j])
        row_of[j], is_new[j] = take_key(hashed, first[j], second[j], keys, table, heads, meta)


@kernel
def _find_keys(first: Hashes, second: Hashes, hashes: Hashes, table: Index, row_of: Places) -> None:
    for j in range(len(first)):
        row_of[j] = find(key_of_parts(first[j], second[j]), hashes, table)


@kernel
def _enter_tables(keys: NDArray[np.void], count: int, table: Index, heads: Index) -> None:
    """Hash and chain the first rows, and enter them into a table in which nothing is."""
    for row in range(count):
        keys[row]["hash"] = key_of_parts(keys[row]["first"], keys[row]["second"])
        insert(row, keys["hash"], table)
        _chain(row, keys, heads)


@kernel
def _leave_tables(keys: NDArray[np.void], count: int, table: Index, heads: Index) -> None:
    """Empty a table and chains that hold nothing but the first rows, and touch no other page of them."""
    mask = len(table) - 1
    for row in range(count):
        if keys[row]["hash"] == _NONE:
            continue
        at = signed(keys[row]["hash"]) & mask
        while table[at] != row + 1:
            at = (at + 1) & mask
        table[at] = 0
        if len(heads):
            heads[signed(key_seed(keys[row]["first"])) & (len(heads) - 1)] = 0
