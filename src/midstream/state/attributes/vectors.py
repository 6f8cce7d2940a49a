"""The vectors of one item attribute: lists of a fixed length of numbers, as float32, by item index.

A mark says which items have one. An item without one is zeros without a mark, so pages that no vector was written to
are not in memory. Beside each vector stands its *scale*, the inverse of its length. It follows from the vector, so it
is no state of its own.

Structures that are made of the vectors, such as an index, learn by ``changed_since`` what they have to read again.
"""

from math import sqrt
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.events.wire import FLOAT32_MAX
from midstream.state.structures.kernel import kernel, signed

Vector = NDArray[np.float32]
MARK_BYTES = 5
"""Beside the numbers: a mark and the scale."""
NUMBER_BYTES = 4
CHANGES_MAX: Final = 65_536
"""Changes that are remembered, 4 B each: what is further behind reads all vectors again, which takes as long."""
LENGTH_MAX: Final = 2.0**56
"""Longest vector with a direction, and its inverse the shortest: float32 holds the product of two such numbers."""


class Vectors:
    """Room for a vector of each item, reserved at ``items_max``."""

    def __init__(self, items_max: int, length: int) -> None:
        """Reserve room for vectors of so many numbers each."""
        self._values = np.zeros((items_max, length), dtype=np.float32)
        self._known = np.zeros(items_max, dtype=np.bool_)
        self._scale = np.zeros(items_max, dtype=np.float32)
        self._changed = np.zeros(CHANGES_MAX, dtype=np.int32)
        self._change_count = 0
        self._told_from = 0
        self.index: object | None = None
        """An index of the vectors, kept by who made it; no state, and in no snapshot."""

    @property
    def length(self) -> int:
        """Numbers of each vector."""
        return self._values.shape[1]

    def set(self, index: int, value: object) -> None:
        """Set the vector of an item to a value of its document; one that is none becomes not known."""
        vector = vector_of(value, self.length)
        if vector is not None:
            if self._known[index] and self._values[index].tobytes() == vector.tobytes():
                return
            self._values[index] = vector
            self._known[index] = True
        elif self._known[index]:
            self._values[index] = 0.0
            self._known[index] = False
        else:
            return
        write_scales(self._values, np.array([index], dtype=np.int32), self._scale)
        self._changed[self._change_count % CHANGES_MAX] = index
        self._change_count += 1

    @property
    def values(self) -> Vector:
        """Vectors by item index, (items_max, length), read-only; zeros where there is none. A view: copy it."""
        return _read_only(self._values)

    @property
    def scale(self) -> Vector:
        """Inverse of each vector's length, (items_max,), read-only; 0 = no vector, or one without a direction."""
        return _read_only(self._scale)

    @property
    def change_count(self) -> int:
        """Number of vectors that were set, changed or taken away so far, in this process."""
        return self._change_count

    def changed_since(self, change_count: int) -> Index | None:
        """Return the distinct items whose vectors changed since an earlier count, ascending; None = any may have."""
        behind = self._change_count - change_count
        if change_count < self._told_from or behind > CHANGES_MAX:
            return None
        return np.unique(self._changed[np.arange(change_count, self._change_count) % CHANGES_MAX])

    def read(self, item_index: Index) -> Vector:
        """Return the vectors of items, (n, length), a copy; NaN throughout = not known, or -1 asked for."""
        found: Vector = self._values[item_index]
        found[(item_index < 0) | ~self._known[item_index]] = np.nan
        return found

    def arrays(self, count: int) -> tuple[NDArray[np.uint32], Vector]:
        """Return which of the first ``count`` items have a vector, ascending, and those vectors, a row each."""
        items = np.flatnonzero(self._known[:count])
        return items.astype(np.uint32), self._values[items]

    def restore(self, items: NDArray[np.uint32], values: Vector) -> None:
        """Replace the vectors by what ``arrays`` returned."""
        before = np.flatnonzero(self._known)
        self._values[before] = 0.0
        self._known[before] = False
        self._scale[before] = 0.0
        rows = items.astype(np.intp)
        self._values[rows] = values
        self._known[rows] = True
        write_scales(self._values, rows.astype(np.int32), self._scale)
        self._change_count += 1
        self._told_from = self._change_count

    def byte_count(self) -> int:
        """Return the bytes reserved."""
        return self._values.nbytes + self._known.nbytes + self._scale.nbytes


@kernel
def write_scales(values: Vector, rows: Index, scale: Vector) -> None:
    """Write the inverse length of some vectors: a sum in the order of their numbers, the same on every CPU.

    A vector has no direction, and gets 0, where its length is 0 or float32 could not hold products with it.
    """
    for place in range(len(rows)):
        row = signed(rows[place])
        total = 0.0
        for column in range(values.shape[1]):
            number = np.float64(values[row, column])  # ``float`` would keep it float32 here
            total += number * number
        length = sqrt(total)
        has_direction = 1.0 / LENGTH_MAX <= length <= LENGTH_MAX
        scale[row] = np.float32(1.0 / length) if has_direction else np.float32(0.0)


def _read_only(array: Vector) -> Vector:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def vector_of(value: object, length: int) -> Vector | None:
    """Return a list of so many finite numbers as float32, None for all else and for what float32 cannot hold."""
    if not isinstance(value, list):
        return None
    numbers = cast("list[object]", value)
    if len(numbers) != length or not all(type(each) in {int, float} for each in numbers):
        return None
    try:
        exact = np.array(numbers, dtype=np.float64)
    except OverflowError:  # a whole number that float64 cannot hold
        return None
    # NaN is not within bounds.
    return exact.astype(np.float32) if bool((np.abs(exact) <= FLOAT32_MAX).all()) else None
