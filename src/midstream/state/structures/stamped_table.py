"""Hash tables that are free again with every query, without being cleared, and as large as the query needs.

A cell holds a stamp, (number of the query << 32 | key), and the place of what belongs to the key, -1 = to be left
out. What earlier queries left has another number and counts as free. Open addressing; at most half of the cells
are taken.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.kernel import kernel

STAMP: Final = 0
PLACE: Final = 1
EPOCH_MAX: Final = 2**31 - 2
_BITS_MIN: Final = 6

Table = NDArray[np.int64]


class Epochs:
    """Numbers of queries over stamped tables."""

    def __init__(self, *tables: Table) -> None:
        """Start before the first query."""
        self._tables = tables
        self.last = 0
        """Number of the last query, 0 = none yet."""

    def next(self) -> int:
        """Return the number of a new query."""
        return self.take(1)

    def take(self, count: int) -> int:
        """Return the first of so many numbers in a row, each of a new query.

        When numbers run out all marks go, so that none is taken for a new one.
        """
        if self.last > EPOCH_MAX - count:
            for table in self._tables:
                table[:] = 0
            self.last = 0
        first = self.last + 1
        self.last += count
        return first


@kernel
def table_bits(entries: int) -> int:
    """Return the bits of a table that stays at most half full."""
    bits = _BITS_MIN
    while 1 << bits < 2 * entries:
        bits += 1
    return bits


def table_size(entries: int) -> int:
    """Return the cells of a table for at most so many entries."""
    return int(1 << table_bits(entries))


@kernel
def cell_of(table: Table, bits: int, stamp: int) -> int:
    """Return the cell that holds a stamp, or the free one where it belongs."""
    epoch = stamp >> 32
    cell = (((stamp & 0xFFFFFFFF) * 0x9E3779B1) & 0xFFFFFFFF) >> (32 - bits)
    while table[cell, STAMP] != stamp and table[cell, STAMP] >> 32 == epoch:
        cell = (cell + 1) & ((1 << bits) - 1)
    return cell


@kernel
def leave_out(key: int, epoch: int, bits: int, table: Table) -> None:
    """Mark a key so that it is met but not taken."""
    cell = cell_of(table, bits, epoch << 32 | key)
    table[cell, STAMP] = epoch << 32 | key
    table[cell, PLACE] = -1
