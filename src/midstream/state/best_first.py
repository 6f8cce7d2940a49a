"""Choose and sort the best of many by one unsigned key: a score in the upper half, what breaks ties in the lower.

The order is total and every method here takes a bounded number of steps: a heap to find the k-th largest key, merging
to sort. Nothing recurses.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.kernel import kernel

_RUN: Final = 8

Keys = NDArray[np.uint64]


@kernel
def key_of(value: float, low: int) -> np.uint64:
    """Return a key in the order of a value of at least 0 as float32, then of the 32 bits ``low``."""
    return (np.uint64(np.float32(value).view(np.uint32)) << np.uint64(32)) | np.uint64(low)


@kernel
def largest_key(keys: Keys, count: int, rank: int, heap: Keys) -> np.uint64:
    """Return the key of which ``rank`` keys are at least as large, 0 if there are fewer. Keys are distinct."""
    if count <= rank:
        return np.uint64(0)
    heap[:rank] = keys[:rank]
    for start in range(rank // 2 - 1, -1, -1):
        sink_key(heap, start, rank, heap[start])
    for place in range(rank, count):
        if keys[place] > heap[0]:
            sink_key(heap, 0, rank, keys[place])
    return np.uint64(heap[0])


@kernel
def sink_key(heap: Keys, position: int, stop: int, key: np.uint64) -> None:
    """Put a key where the smallest-first heap has a hole at ``position``, or below it."""
    while True:
        child = 2 * position + 1
        if child >= stop:
            break
        if child + 1 < stop and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[position] = heap[child]
        position = child
    heap[position] = key


@kernel
def is_ahead(key: np.uint64, item: int, other_key: np.uint64, other: int, item_hash: Keys) -> bool:
    """Return whether an item comes before another: higher key, lower id hash, lower index."""
    if key != other_key:
        return bool(key > other_key)
    if item_hash[item] != item_hash[other]:
        return bool(item_hash[item] < item_hash[other])
    return item < other


@kernel
def sort_runs(keys: Keys, items: Index, count: int, item_hash: Keys) -> None:
    """Sort each run of 8, best first."""
    for start in range(0, count, _RUN):
        for position in range(start + 1, min(start + _RUN, count)):
            key = keys[position]
            item = items[position]
            place = position
            while place > start and is_ahead(key, item, keys[place - 1], items[place - 1], item_hash):
                keys[place] = keys[place - 1]
                items[place] = items[place - 1]
                place -= 1
            keys[place] = key
            items[place] = item


@kernel
def sort_best_first(keys: Keys, items: Index, count: int, item_hash: Keys) -> int:
    """Sort keys (2, n) and items (2, n) of row 0 by merging runs to and fro; return the row with the result."""
    sort_runs(keys[0], items[0], count, item_hash)
    row = 0
    run = _RUN
    while run < count:
        for start in range(0, count, 2 * run):
            left = start
            middle = min(start + run, count)
            right = middle
            stop = min(start + 2 * run, count)
            for place in range(start, stop):
                takes_right = right < stop and (
                    left == middle
                    or is_ahead(keys[row, right], items[row, right], keys[row, left], items[row, left], item_hash)
                )
                source = right if takes_right else left
                keys[1 - row, place] = keys[row, source]
                items[1 - row, place] = items[row, source]
                if takes_right:
                    right += 1
                else:
                    left += 1
        row = 1 - row
        run *= 2
    return row
