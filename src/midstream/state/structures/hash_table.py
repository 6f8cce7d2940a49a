"""From a 64-bit hash to a place: open addressing over the arrays that hold the hashes anyway.

A table entry is a place plus 1, 0 is free, so a fresh table is untouched zeros. Collisions probe the next
entry; deletion shifts entries back instead of leaving marks, so a table that is always full stays as fast
as a fresh one. The table is a matter of layout: no snapshot holds it and no answer depends on it.

In all kernels ``hashes`` (places,) may be a column of a structured array, and ``table`` has a power of two
entries.

Reference: D. Knuth, The Art of Computer Programming 3, 6.4, algorithm R.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import block_ahead, prefetch

_LOAD_MAX = 0.6
"""Entries probed on average at this load: 1.75 for what is there, 3.6 for what is not."""
_SIZE_MIN = 8
_NONE = np.uint64(0)


def table_size(places_max: int) -> int:
    """Return the length of a table for this many places: a power of two, at most 0.6 full."""
    size = _SIZE_MIN
    while size * _LOAD_MAX < places_max:
        size *= 2
    return size


@inlined
def find(wanted: np.uint64, hashes: NDArray[np.uint64], table: NDArray[np.int32]) -> int:
    """Return the place that holds a hash, -1 when none does.

    One way out, as in every kernel that is called for each event: with two, numba counts references to the arrays.
    """
    mask = len(table) - 1
    at = signed(wanted) & mask
    place = signed(table[at]) - 1
    while place >= 0 and hashes[place] != wanted:
        at = (at + 1) & mask
        place = signed(table[at]) - 1
    return place


@kernel
def find_each(
    wanted: NDArray[np.uint64], hashes: NDArray[np.uint64], table: NDArray[np.int32], found: NDArray[np.int32]
) -> None:
    """Write the place that holds each hash, -1 when none does, to ``found`` (n,)."""
    for i in range(len(wanted)):
        found[i] = find(wanted[i], hashes, table)


@inlined
def insert(place: int, hashes: NDArray[np.uint64], table: NDArray[np.int32]) -> None:
    """Enter a place whose hash is set and not in the table."""
    mask = len(table) - 1
    at = signed(hashes[place]) & mask
    while table[at] != 0:
        at = (at + 1) & mask
    table[at] = place + 1


@kernel
def remove(place: int, hashes: NDArray[np.uint64], table: NDArray[np.int32]) -> None:
    """Take a place out, its hash being unchanged, and shift back what probed past it."""
    mask = len(table) - 1
    hole = signed(hashes[place]) & mask
    while table[hole] != place + 1:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        if table[at] == 0:
            break
        home = signed(hashes[table[at] - 1]) & mask
        # It may move into the hole unless its home lies behind the hole, going round.
        if ((at - home) & mask) >= ((at - hole) & mask):
            table[hole] = table[at]
            hole = at
    table[hole] = 0


@kernel
def fill(hashes: NDArray[np.uint64], count: int, table: NDArray[np.int32]) -> None:
    """Make the table that of the first ``count`` places; one with hash 0 holds nothing."""
    table[:] = 0
    mask = len(table) - 1
    for place in range(count):
        start, stop = block_ahead(place, count, 2)
        for ahead in range(start, stop):
            prefetch(table, signed(hashes[ahead]) & mask, 0)
        if hashes[place] != _NONE:
            insert(place, hashes, table)
