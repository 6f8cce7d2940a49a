"""Ring of the newest rows with a hash table over it: a row is found by its 64-bit hash; full, the oldest row goes.

Columns of a ring are parallel arrays, the first of them the hashes. The place of the oldest row and the number of rows
stand in ``meta``, so that kernels move both.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from midstream.state.structures.hash_table import fill, table_size

RING_META = np.dtype([("head", "i8"), ("count", "i8")])
_PAGE_BYTES = 4_096


def ring_bytes(rows_max: int, row_bytes: int) -> int:
    """Return the bytes of a ring of rows of so many bytes."""
    return rows_max * row_bytes + 4 * table_size(rows_max)


class HashRing:
    """Columns, the table over them, and where the rows in use are."""

    def __init__(self, rows_max: int, columns: Mapping[str, DTypeLike]) -> None:
        """Reserve the maximum; pages are paid when touched. The first column is the hashes."""
        self._names = tuple(columns)
        self.columns = tuple(np.zeros(rows_max, dtype=dtype) for dtype in columns.values())
        self.table = np.zeros(table_size(rows_max), dtype=np.int32)
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
        return sum(each.nbytes for each in self.columns) + self.table.nbytes

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
        for name, column in zip(self._names, self.columns, strict=True):
            if arrays[name].ctypes.data != column.ctypes.data:
                column[:count] = arrays[name]
        self.meta["head"] = 0
        self.meta["count"] = count
        fill(self.columns[0], count, self.table)
