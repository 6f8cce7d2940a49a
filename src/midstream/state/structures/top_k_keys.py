"""Choose and sort the best of many by one unsigned key: a score in the upper half, its place in the lower.

The order is total and every method here takes a bounded number of steps: a heap to find the k-th largest key, bins and
merging to sort. Nothing recurses.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.structures.kernel import kernel

BINS: Final = 2_048
"""Bins of scores: by sign, exponent and the first three bits after it."""
_BIN_SHIFT: Final = 52
_HALF_SHIFT: Final = 32
_LOW_HALF: Final = 0xFFFFFFFF
_RUN: Final = 16


Keys = NDArray[np.uint64]


@kernel
def key_of(value: float, low: int) -> np.uint64:
    """Return a key in the order of a value of at least 0 as float32, then of the 32 bits ``low``."""
    return (np.uint64(np.float32(value).view(np.uint32)) << np.uint64(_HALF_SHIFT)) | np.uint64(low)


@kernel
def value_of(key: np.uint64) -> np.float32:
    """Return the value of a key."""
    return np.float32(np.uint32(key >> np.uint64(_HALF_SHIFT)).view(np.float32))


@kernel
def place_of(key: np.uint64) -> int:
    """Return the lower half of a key."""
    return int(key & np.uint64(_LOW_HALF))


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
def rank_keys(keys: Keys, spare: Keys, start: int, stop: int) -> None:
    """Sort a few distinct keys in place, largest first.

    Each goes where the number of larger ones says: more comparisons than insertion, but none that has to be guessed.
    """
    part = keys[start:stop]
    sorted_part = spare[start:stop]
    for position in range(len(part)):
        key = part[position]
        rank = 0
        for other in range(len(part)):
            rank += part[other] > key
        sorted_part[rank] = key
    for position in range(len(part)):
        part[position] = sorted_part[position]


@kernel
def sort_keys(keys: Keys, spare: Keys, start: int, stop: int) -> None:
    """Sort distinct keys in place, largest first: short runs, then merged. ``spare`` is as long as ``keys``."""
    for run_start in range(start, stop, _RUN):
        rank_keys(keys, spare, run_start, min(run_start + _RUN, stop))
    run = _RUN
    while run < stop - start:
        for left_start in range(start, stop, 2 * run):
            middle = min(left_start + run, stop)
            end = min(left_start + 2 * run, stop)
            left = left_start
            right = middle
            for place in range(left_start, end):
                if right >= end or (left < middle and keys[left] >= keys[right]):
                    spare[place] = keys[left]
                    left += 1
                else:
                    spare[place] = keys[right]
                    right += 1
        for place in range(start, stop):
            keys[place] = spare[place]
        run *= 2


@kernel
def break_ties(keys: Keys, spare: Keys, count: int, items: Index, item_hash: Keys) -> None:
    """Put sorted keys of equal value in the order of the hash, then of the index, of the item at each key's place."""
    start = 0
    while start < count:
        half = keys[start] >> np.uint64(_HALF_SHIFT)
        stop = start + 1
        while stop < count and keys[stop] >> np.uint64(_HALF_SHIFT) == half:
            stop += 1
        if stop - start > 1:
            for position in range(start, stop):
                place = keys[position] & np.uint64(_LOW_HALF)
                rest = np.uint64(_LOW_HALF) - (item_hash[items[place]] >> np.uint64(_HALF_SHIFT))
                keys[position] = rest << np.uint64(_HALF_SHIFT) | place
            sort_keys(keys, spare, start, stop)
            order_by_hash(keys, start, stop, items, item_hash)
            for position in range(start, stop):
                keys[position] = half << np.uint64(_HALF_SHIFT) | (keys[position] & np.uint64(_LOW_HALF))
        start = stop


@kernel
def order_by_hash(keys: Keys, start: int, stop: int, items: Index, item_hash: Keys) -> None:
    """Order keys that are sorted by the upper half of their items' hashes by all of it, then by index.

    Nothing moves unless 32 bits of two hashes are equal.
    """
    for position in range(start + 1, stop):
        key = keys[position]
        item = items[place_of(key)]
        place = position
        while place > start and keys[place - 1] >> np.uint64(_HALF_SHIFT) == key >> np.uint64(_HALF_SHIFT):
            other = items[place_of(keys[place - 1])]
            if item_hash[other] < item_hash[item] or (item_hash[other] == item_hash[item] and other < item):
                break
            keys[place] = keys[place - 1]
            place -= 1
        keys[place] = key


@kernel
def best_keys(
    keys: Keys, count: int, limit: int, items: Index, item_hash: Keys, bins: Index, found: Keys, spare: Keys
) -> int:
    """Write the largest keys to ``found``, best first, equal values by id hash; return how many, at most ``limit``.

    Args:
        keys: Value and place in ``items``; keys of value 0 are left out.
        count: Number of keys.
        limit: Number of keys wanted.
        items: Item at each place.
        item_hash: By item index.
        bins: Room for ``BINS`` counts.
        found: Room for ``count`` keys.
        spare: Room for as many.
    """
    bins[:] = 0
    highest = np.int64(0)
    lowest = np.int64(BINS)
    for place in range(count):
        bin_number = np.int64(keys[place] >> np.uint64(_BIN_SHIFT))
        bins[bin_number] += 1
        highest = max(highest, bin_number)
        lowest = min(lowest, bin_number)
    # From the highest bin down, counts become the positions at which each bin begins, and then ends.
    start = 0
    for number in range(highest, lowest - 1, -1):
        size = bins[number]
        bins[number] = start
        start += size
    for place in range(count):
        bin_number = np.int64(keys[place] >> np.uint64(_BIN_SHIFT))
        found[bins[bin_number]] = keys[place]
        bins[bin_number] += 1
    kept = 0
    for number in range(highest, lowest - 1, -1):
        if kept >= limit:
            break
        sort_keys(found, spare, kept, bins[number])
        kept = bins[number]
    while kept > 0 and found[kept - 1] >> np.uint64(_HALF_SHIFT) == 0:
        kept -= 1
    break_ties(found, spare, kept, items, item_hash)
    return min(kept, limit)
