"""The vectors of one item attribute: lists of a fixed length of numbers, as float32, by item index.

A mark says which items have one. An item without one is zeros without a mark, so pages that no vector was written to
are not in memory.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.events.wire import FLOAT32_MAX

Vector = NDArray[np.float32]
MARK_BYTES = 1
NUMBER_BYTES = 4


class Vectors:
    """Room for a vector of each item, reserved at ``items_max``."""

    def __init__(self, items_max: int, length: int) -> None:
        """Reserve room for vectors of so many numbers each."""
        self._values = np.zeros((items_max, length), dtype=np.float32)
        self._known = np.zeros(items_max, dtype=np.bool_)

    @property
    def length(self) -> int:
        """Numbers of each vector."""
        return self._values.shape[1]

    def set(self, index: int, value: object) -> None:
        """Set the vector of an item to a value of its document; one that is none becomes not known."""
        vector = vector_of(value, self.length)
        if vector is not None:
            self._values[index] = vector
            self._known[index] = True
        elif self._known[index]:
            self._values[index] = 0.0
            self._known[index] = False

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
        rows = items.astype(np.intp)
        self._values[rows] = values
        self._known[rows] = True

    def byte_count(self) -> int:
        """Return the bytes reserved."""
        return self._values.nbytes + self._known.nbytes


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
