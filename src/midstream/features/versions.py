"""Rows of many keys, each of a time: which row of a key was the newest before a moment, for many keys at once.

Rows lie by key and time, in the order in which they came where both are equal. A key is found by the leading bits of
its hash, which say where to look: hashes are spread evenly, so that there is about one key to compare. Each step is
made for all keys before the next one, so that the memory of many is waited for at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.state.expressions.program import Columns
from midstream.state.structures.kernel import kernel, signed

_BITS = 64
_NONE = np.uint64(0)


@dataclass(frozen=True, slots=True, eq=False)
class Versions:
    """Immutable once made: ``versions_of``."""

    keys: NDArray[np.uint64]
    """Distinct hashes, rising, (k,)."""
    starts: NDArray[np.int64]
    """First row of each key, and the number of rows, (k + 1,)."""
    times: NDArray[np.int64]
    """Of each row, (n,)."""
    values: Columns
    """Of each row, (n, columns): what is read of one row lies side by side."""
    prefix: NDArray[np.int32]
    """First key of each value of the leading bits, and the number of keys."""

    @property
    def byte_count(self) -> int:
        """Memory of it."""
        return sum(each.nbytes for each in (self.keys, self.starts, self.times, self.values, self.prefix))

    def read(self, hashes: NDArray[np.uint64], now_ms: int, ttl_ms: int, places: NDArray[np.int64]) -> Columns:
        """Return columns of the newest row of each key whose time is before ``now_ms``, (len(places), n).

        NaN = the key is 0 or has no row before, or that row is ``ttl_ms`` old or older.

        Args:
            hashes: Of the keys, (n,).
            now_ms: Time of the question; a row of this very time was not there yet.
            ttl_ms: 0 = rows do not age.
            places: Of the columns, (columns that are wanted,).

        Cost: 20 µs for 500 of a million rows.
        """
        found = np.empty((len(places), len(hashes)), dtype=np.float64)
        read_newest(hashes, now_ms, ttl_ms, self.keys, self.starts, self.times, self.values, self.prefix, places, found)
        return found


def versions_of(hashes: NDArray[np.uint64], times: NDArray[np.int64], values: Columns) -> Versions:
    """Return rows by key and time; of equal ones the later stays behind the earlier.

    Args:
        hashes: Key of each row, (n,).
        times: Of each row, (n,).
        values: (n, columns).
    """
    order = np.lexsort((times, hashes))
    hashes = hashes[order]
    first = np.flatnonzero(np.append(np.True_, hashes[1:] != hashes[:-1])) if len(hashes) else np.empty(0, np.int64)
    keys = hashes[first]
    bits = max(1, len(keys).bit_length())
    leading = np.arange(1 << bits, dtype=np.uint64) << np.uint64(_BITS - bits)
    prefix = np.append(np.searchsorted(keys, leading), len(keys)).astype(np.int32)
    starts = np.append(first, len(hashes)).astype(np.int64)
    return Versions(keys, starts, times[order], np.ascontiguousarray(values[order], dtype=np.float64), prefix)


@kernel
def read_newest(
    hashes: NDArray[np.uint64],
    now_ms: int,
    ttl_ms: int,
    keys: NDArray[np.uint64],
    starts: NDArray[np.int64],
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    prefix: NDArray[np.int32],
    places: NDArray[np.int64],
    found: NDArray[np.float64],
) -> None:
    """Fill ``found`` (places, n) as ``Versions.read`` says."""
    bits = 0
    while 1 << bits < len(prefix) - 1:
        bits += 1
    shift = np.uint64(_BITS - bits)
    row = np.empty(len(hashes), dtype=np.int64)
    for i in range(len(hashes)):
        row[i] = prefix[signed(hashes[i] >> shift)]
    for i in range(len(hashes)):
        key, wanted = row[i], hashes[i]
        while key < len(keys) and keys[key] < wanted:
            key += 1
        row[i] = key if wanted != _NONE and key < len(keys) and keys[key] == wanted else -1
    for i in range(len(hashes)):
        if row[i] >= 0:
            first, stop = signed(starts[row[i]]), signed(starts[row[i] + 1])
            row[i] = _newest(times, first, stop, now_ms)
            if row[i] >= 0 and ttl_ms > 0 and now_ms - times[row[i]] >= ttl_ms:
                row[i] = -1
    for i in range(len(hashes)):
        for each in range(len(places)):
            found[each, i] = values[row[i], places[each]] if row[i] >= 0 else np.nan


@kernel
def _newest(times: NDArray[np.int64], first: int, stop: int, now_ms: int) -> int:
    """Return the last row from ``first`` to before ``stop`` whose time is before now, -1 when there is none."""
    if times[stop - 1] < now_ms:
        return stop - 1
    low, high = first, stop
    while low < high:
        middle = (low + high) // 2
        if times[middle] < now_ms:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low > first else -1
