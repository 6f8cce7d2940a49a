"""The kernel that draws a number for each item of a request from its seed: the same whenever it is answered again.

Reference: G. L. Steele Jr., D. Lea, C. H. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014: the
finishing steps of SplitMix64.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.structures.kernel import kernel

_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@kernel
def draw(seed: np.uint64, item_hash: NDArray[np.uint64], item_index: Index, found: NDArray[np.float64]) -> None:
    """Write a number from 0 to below 1 for each item, (n,), by the seed and the hash of its id; NaN of index -1.

    24 bits, so that float32 holds each number and none becomes 1.
    """
    start = mixed(seed)
    for k in range(len(item_index)):
        found[k] = draw_one(start, np.uint64(item_hash[item_index[k]])) if item_index[k] >= 0 else np.nan


@kernel
def draw_one(start: np.uint64, item_hash: np.uint64) -> float:
    """Return the number of one item; ``start`` is the mixed seed."""
    return np.float64(mixed(np.uint64(item_hash ^ start)) >> np.uint64(40)) * 2.0**-24


@kernel
def mixed(value: np.uint64) -> np.uint64:
    """Return a number with every bit spread over all."""
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))
