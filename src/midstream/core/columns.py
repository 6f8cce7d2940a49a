"""Columns of a few elements, as those of one event, looked at without a reduction of NumPy: any takes 2 µs."""

import numpy as np
from numpy.typing import NDArray

FEW = 16
"""Up to so many elements Python's own loop takes less."""


def has_any(column: NDArray[np.integer]) -> bool:
    """Return whether an element is not 0. Cost: 0.2 µs for one element.

    Example:
        >>> has_any(np.array([0, 3], np.uint8)), has_any(np.zeros(1, np.uint8)), has_any(np.zeros(0, np.uint8))
        (True, False, False)
    """
    return any(column.tolist()) if len(column) <= FEW else bool(column.any())


def has_all(column: NDArray[np.integer]) -> bool:
    """Return whether no element is 0; none of nothing is. Cost: 0.2 µs for one element.

    Example:
        >>> has_all(np.array([2, 3], np.uint8)), has_all(np.array([2, 0], np.uint8)), has_all(np.zeros(0, np.uint8))
        (True, False, True)
    """
    return all(column.tolist()) if len(column) <= FEW else bool(column.all())
