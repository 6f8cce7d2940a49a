"""Ring of the newest rows with a hash table over it: a row is found by its 64-bit hash; full, the oldest row goes.

Columns of a ring are parallel arrays, the first of them the hashes. The place of the oldest row and the number of rows
stand in ``meta``, so that kernels move both. A ring of millions begins with a small table: hashes fall anywhere in a
table, so the first few hundred of them touch all of its pages.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from midstream.state.structures.hash_table import fill, table_size

RING_META = np.dtype([("head", "i8"), ("count", "i8")])
_PAGE_BYTES = 4_096
TABLE_BEGIN = 1 << 21
"""Entries of a table that grows, until it has its whole length: 8 MiB for 1.2 M rows, which are then entered anew."""


def ring_bytes(rows_max: int, row_bytes: int) -> int:
    """Return the bytes of a ring of rows of so many bytes."""
    return rows_max * row_bytes + 4 * table_size(rows_max)


class HashRing:
    """Columns, the table over them, and where the rows in use are."""

    def __init__(self, rows_max: int, columns: Mapping[str, DTypeLike], *, table_begin: int | None = None) -> None:
        """Reserve the maximum; pages are paid when touched. The first column is the hashes.

        Args:
            rows_max: Rows at most.
            columns: Their types by name.
            table_begin: Entries of the table at first, a power of two: ``make_room`` comes before rows then. None = the
                table has its whole length.
        """
        self._names = tuple(columns)
        self.columns = tuple(np.zeros(rows_max, dtype=dtype) for dtype in columns.values())
        self._table_max = table_size(rows_max)
        self.table = np.zeros(min(self._table_max, table_begin or self._table_max), dtype=np.int32)
        self.meta = np.zeros(1, dtype=RING_META)

    def __len__(self) -> int:
        """Return the number of rows in use."""
        return int(self.meta["count"][0])

    @property
    def bytes_now(self) -> int:
        """Memory of what is in use, about."""
        # Hashes fall anywhere in the table: each touches a page of its own until all are.
        row = sum(each.itemsize for each in self.columns)
        return len(self) * row + min(self.table.nbytes, len(self) * _PAGE_BYTES)

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return sum(each.nbytes for each in self.columns) + self._table_max * self.table.itemsize

    def make_room(self, count: int) -> bool:
        """Have a table for so many more rows; return whether it is another array than before.

        Cost: 15 to 30 ms where it is another one, once.
        """
        rows = min(len(self) + count, len(self.columns[0]))
        if len(self.table) == self._table_max or table_size(rows) <= len(self.table):
            return False
        head, used = int(self.meta["head"][0]), len(self)
        table = np.zeros(self._table_max, dtype=np.int32)
        if head:  # rows were forgotten, and their hashes are still there
            rows_in_use = {name: each.copy() for name, each in self.arrays().items()}
            self.table = table
            self.restore(rows_in_use)
        else:
            fill(self.columns[0], used, table)
            self.table = table
        return True

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the rows in use by column, oldest first: views, unless the ring has come round."""
        start, length = int(self.meta["head"][0]), len(self.columns[0])
        stop = start + len(self)
        parts = [slice(start, min(stop, length)), slice(0, max(stop - length, 0))]
        return {
            name: np.concatenate([column[part] for part in parts]) if stop > length else column[parts[0]]
            for name, column in zip(self._names, self.columns, strict=True)
        }

    def rooms(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns that ``restore`` does not read, by name."""
        return dict(zip(self._names[1:], self.columns[1:], strict=True))

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the ring by what ``arrays`` returned; columns that lie where they belong are not read."""
        count = len(arrays[self._names[0]])
        if table_size(count) > len(self.table):
            self.table = np.zeros(self._table_max, dtype=np.int32)
        for name, column in zip(self._names, self.columns, strict=True):
            if arrays[name].ctypes.data != column.ctypes.data:
                column[:count] = arrays[name]
        self.meta["head"] = 0
        self.meta["count"] = count
        fill(self.columns[0], count, self.table)
