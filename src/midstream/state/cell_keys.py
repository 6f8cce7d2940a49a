"""Rows that are found by a key: of sessions, and of a user together with an item or a value.

A key is a hash of its two parts, which are kept beside it, so that all rows of a user can be found. When every row is
taken, the one whose key was counted longest ago is taken, in the order of the log.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask
from midstream.state.hash_table import fill, find
from midstream.state.hashing import combine
from midstream.state.kernel import kernel
from midstream.state.user_slots import new_meta, read_order, release_user, take_user, write_order

KEY_ROW = np.dtype([("hash", "u8"), ("first", "u8"), ("second", "u8"), ("older", "i4"), ("newer", "i4")])
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


class CellKeys:
    """Keys of two parts, each with a row."""

    def __init__(self, keys: NDArray[np.void], table: NDArray[np.int32], meta: NDArray[np.void]) -> None:
        """Keep keys in memory that was reserved: KEY_ROW a row, a table of ``table_size`` rows, and ``new_meta``."""
        self._keys = keys
        self._table = table
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
        _take_keys(first, second, self._keys, self._table, self._meta, row_of, is_new)
        return row_of, is_new

    def find(self, first: Hashes, second: Hashes) -> Places:
        """Return the row of each key, -1 = none, (n,). Changes nothing."""
        row_of = np.empty(len(first), dtype=np.int64)
        _find_keys(first, second, self._keys["hash"], self._table, row_of)
        return row_of

    def of_first(self, first: int) -> Places:
        """Return the rows whose key's first part is this, from the one counted longest ago to the newest."""
        order = self._order()
        found: Places = order[self._keys["first"][order] == np.uint64(first)].astype(np.int64)
        return found

    def release(self, row: int) -> None:
        """Give the row of a key up."""
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
        """Become the keys whose ``arrays`` these are: key i has row i."""
        count = len(arrays["first"])
        self._keys[:] = np.zeros(1, dtype=KEY_ROW)
        self._keys["first"][:count] = arrays["first"]
        self._keys["second"][:count] = arrays["second"]
        _hash_keys(self._keys, count)
        self._meta[:] = new_meta()
        self._meta["users"] = self._meta["used"] = count
        self._meta["evicted"] = arrays["evicted"]
        read_order(np.arange(count, dtype=np.int32), self._keys, self._meta)
        fill(self._keys["hash"], count, self._table)

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
def _take_keys(
    first: Hashes,
    second: Hashes,
    keys: NDArray[np.void],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
    row_of: Places,
    is_new: Mask,
) -> None:
    for j in range(len(first)):
        row_of[j], is_new[j] = take_user(key_of_parts(first[j], second[j]), keys, table, meta)
        if is_new[j]:
            keys[row_of[j]]["first"] = first[j]
            keys[row_of[j]]["second"] = second[j]


@kernel
def _find_keys(first: Hashes, second: Hashes, hashes: Hashes, table: NDArray[np.int32], row_of: Places) -> None:
    for j in range(len(first)):
        row_of[j] = find(key_of_parts(first[j], second[j]), hashes, table)


@kernel
def _hash_keys(keys: NDArray[np.void], count: int) -> None:
    for row in range(count):
        keys[row]["hash"] = key_of_parts(keys[row]["first"], keys[row]["second"])
