"""The items with the highest sums, kept sorted as single events raise them.

A list holds up to ``capacity`` items, best first: higher sum, then lower id hash, then lower index. One thing holds
after every call: *the list is exactly the best of all eligible items with a sum above 0*, as many as it holds. So an
item is in the list if and only if it does not come after the list's last item, which a search over the sums finds
without a second table. A sum only rises, so an event moves one item up, over the few it overtakes.

An item that stops being eligible leaves, and the list gets shorter: what is outside still comes after its new last
item. When it falls below half its capacity although more items have a sum, it is built anew from all sums. Readers
are therefore served exactly as long as they ask for half the capacity or less.

``state`` of a list is int64: [length, 1 when every eligible item with a sum is in the list].
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.state.structures.kernel import inlined, kernel

LENGTH = 0
COMPLETE = 1
_SORTED_RUN: Final = 8
"""Items that are sorted one after another before sorted ones are merged."""

Sums = NDArray[np.float64]
Hashes = NDArray[np.uint64]
State = NDArray[np.int64]


@inlined
def comes_before(value: float, item: int, other_value: float, other: int, item_hash: Hashes) -> bool:
    """Return whether an item with a sum comes before another: higher sum, lower id hash, lower index."""
    before = value > other_value
    if value == other_value:
        before = item_hash[item] < item_hash[other] or (item_hash[item] == item_hash[other] and item < other)
    return before


@kernel
def place_of(values: Sums, items: Index, stop: int, value: float, item: int, item_hash: Hashes) -> int:
    """Return how many of the first ``stop`` entries come before an item with a sum. Cost: log2(stop)."""
    low = 0
    size = stop
    # By the sum alone, without a branch that a CPU would have to foresee; the rest only among equal ones.
    while size > 0:
        half = size >> 1
        is_more = values[low + half] > value
        low = low + half + 1 if is_more else low
        size = size - half - 1 if is_more else half
    high = stop if low < stop and values[low] == value else low
    while low < high:
        middle = (low + high) >> 1
        if comes_before(values[middle], items[middle], value, item, item_hash):
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def place_above(values: Sums, items: Index, stop: int, value: float, item: int, item_hash: Hashes) -> int:
    """Return what ``place_of`` does, sooner the nearer that is to ``stop``: an event moves an item by a few places."""
    high = stop
    step = 1
    low = max(high - step, 0)
    while low < high and not comes_before(values[low], items[low], value, item, item_hash):
        high = low
        step <<= 1
        low = max(high - step, 0)
    # What comes before ``low`` comes before, what is at ``high`` does not.
    while low < high:
        middle = (low + high) >> 1
        if comes_before(values[middle], items[middle], value, item, item_hash):
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def is_listed(values: Sums, items: Index, state: State, value: float, item: int, item_hash: Hashes) -> bool:
    """Return whether an eligible item with a sum is in the list."""
    last = int(state[LENGTH]) - 1
    listed = last >= 0 and value > 0.0
    if listed:
        listed = not comes_before(values[last], items[last], value, item, item_hash)
    return listed


@kernel
def raise_item(  # a kernel
    values: Sums, items: Index, state: State, item: int, old: float, new: float, item_hash: Hashes
) -> None:
    """Move an eligible item from its old sum to a new one that is not lower, 0 = none.

    Cost: two searches, and one step for each item that it overtakes.
    """
    length = int(state[LENGTH])
    gap = -1  # the place that becomes free, -1 = the item stays outside
    if new > 0.0 and is_listed(values, items, state, old, item, item_hash):
        gap = place_of(values, items, length, old, item, item_hash)
    elif new > 0.0 and not (
        state[COMPLETE] == 0
        and (length == 0 or comes_before(values[length - 1], items[length - 1], new, item, item_hash))
    ):
        if length < len(items):
            gap = length
            state[LENGTH] = length + 1
        else:
            state[COMPLETE] = 0
            if not comes_before(values[length - 1], items[length - 1], new, item, item_hash):
                gap = length - 1
    if gap >= 0:
        place = place_above(values, items, gap, new, item, item_hash)
        for position in range(gap, place, -1):
            values[position] = values[position - 1]
            items[position] = items[position - 1]
        values[place] = new
        items[place] = item


@inlined
def bar_of(values: Sums, state: State) -> float:
    """Return the sum that an item which is not in the list has to reach, or to pass, to be in it: ``settle_items``."""
    length = int(state[LENGTH])
    bar = 0.0 if state[COMPLETE] == 1 else np.inf
    if state[COMPLETE] == 0 and length > 0:
        bar = values[length - 1]
    return bar


@kernel
def settle_items(
    values: Sums, items: Index, state: State, sums: Sums, touched: Index, count: int, item_hash: Hashes
) -> None:
    """Bring a list in line with the sums of eligible items that rose since it was right: ``raise_item`` of all at once.

    Args:
        values: This and the next two are the list.
        items: Of it.
        state: Of it.
        sums: Of all items as they are now. Those of the list have what it says of them, or rose since.
        touched: Items outside that rose from the list's ``bar_of`` or below to it or above, in any order; may hold one
            more than once, and items of the list too.
        count: How many of these.
        item_hash: Of all items.

    Cost: one pass over the list, and a sort of what rose in it, which is nearly in order.
    """
    length, capacity = int(state[LENGTH]), len(items)
    size = count + capacity
    keys, risen = np.empty(size, dtype=np.float64), np.empty(size, dtype=np.int32)
    new_values, new_items = np.empty(size, dtype=np.float64), np.empty(size, dtype=np.int32)
    kept = 0
    for place in range(length):
        keys[kept], risen[kept] = sums[items[place]], items[place]
        kept += values[place] != sums[items[place]]
    for each in range(count):
        item = touched[each]
        is_near = state[COMPLETE] == 1
        if not is_near and length > 0:
            # Outside are others, of which nothing is known but that they come after the last one as it was.
            last, other = values[length - 1], items[length - 1]
            is_near = not comes_before(last, other, sums[item], item, item_hash)  # pyright: ignore[reportArgumentType]
        if is_near:
            keys[kept], risen[kept] = sums[item], item
            kept += 1
    sort_items(kept, keys, risen, new_values, new_items, item_hash)
    place, next_risen, written = 0, 0, 0
    is_done = kept == 0
    while not is_done:
        while place < length and values[place] != sums[items[place]]:  # it rose, and is among the others
            place += 1
        while 0 < next_risen < kept and risen[next_risen] == risen[next_risen - 1]:
            next_risen += 1
        if place >= length and next_risen >= kept:
            is_done = True
        elif written == capacity:
            state[COMPLETE] = 0
            is_done = True
        else:
            stays = next_risen >= kept
            if not stays and place < length:
                stays = comes_before(values[place], items[place], keys[next_risen], risen[next_risen], item_hash)
            new_values[written] = values[place] if stays else keys[next_risen]
            new_items[written] = items[place] if stays else risen[next_risen]
            place, next_risen = (place + 1, next_risen) if stays else (place, next_risen + 1)
            written += 1
    for each in range(written):
        values[each], items[each] = new_values[each], new_items[each]
    state[LENGTH] = max(written, length)


@kernel
def sort_items(count: int, keys: Sums, items: Index, other_keys: Sums, others: Index, item_hash: Hashes) -> None:
    """Sort the first ``count`` items with their sums, best first, by merging; the others are room for it."""
    run = _SORTED_RUN
    for start in range(0, count, run):
        for place in range(start + 1, min(start + run, count)):
            key, item, at = keys[place], items[place], place
            while at > start and comes_before(key, item, keys[at - 1], items[at - 1], item_hash):
                keys[at], items[at] = keys[at - 1], items[at - 1]
                at -= 1
            keys[at], items[at] = key, item
    while run < count:
        for start in range(0, count, 2 * run):
            middle, stop = min(start + run, count), min(start + 2 * run, count)
            first, second = start, middle
            is_sorted = middle >= stop
            if not is_sorted:
                is_sorted = not comes_before(
                    keys[middle], items[middle], keys[middle - 1], items[middle - 1], item_hash
                )
            for at in range(start, stop if is_sorted else start):
                other_keys[at], others[at] = keys[at], items[at]
            for at in range(stop if is_sorted else start, stop):
                is_first = second >= stop
                if not is_first and first < middle:
                    is_first = not comes_before(keys[second], items[second], keys[first], items[first], item_hash)
                taken = first if is_first else second
                other_keys[at], others[at] = keys[taken], items[taken]
                first, second = (first + 1, second) if is_first else (first, second + 1)
        for at in range(count):
            keys[at], items[at] = other_keys[at], others[at]
        run *= 2


@kernel
def drop_item(values: Sums, items: Index, state: State, item: int, value: float, item_hash: Hashes) -> bool:
    """Take an item out that is no longer eligible; return whether the list must be built anew."""
    if not is_listed(values, items, state, value, item, item_hash):
        return False
    length = int(state[LENGTH]) - 1
    for position in range(place_of(values, items, length, value, item, item_hash), length):
        values[position] = values[position + 1]
        items[position] = items[position + 1]
    state[LENGTH] = length
    return bool(state[COMPLETE] == 0 and length < len(items) // 2)


@kernel
def sink(values: Sums, items: Index, position: int, stop: int, item_hash: Hashes) -> None:
    """Restore a heap whose root comes last, after the entry at ``position`` changed."""
    value = values[position]
    item = items[position]
    while True:
        child = 2 * position + 1
        if child >= stop:
            break
        right = child + 1
        if right < stop and comes_before(values[child], items[child], values[right], items[right], item_hash):
            child = right
        if not comes_before(value, item, values[child], items[child], item_hash):
            break
        values[position] = values[child]
        items[position] = items[child]
        position = child
    values[position] = value
    items[position] = item


@kernel
def build_list(  # a kernel
    values: Sums, items: Index, state: State, sums: Sums, eligible: Mask, count: int, item_hash: Hashes
) -> None:
    """Build a list from the sums of the first ``count`` items.

    Cost: a pass over all items, and a heap of the capacity: about 1 ms for 200,000 items.
    """
    capacity = len(items)
    length = 0
    state[COMPLETE] = 1
    for item in range(count):
        value = sums[item]
        if value <= 0.0 or not eligible[item]:
            continue
        if length < capacity:
            values[length] = value
            items[length] = item
            length += 1
            if length == capacity:
                for position in range(capacity // 2 - 1, -1, -1):
                    sink(values, items, position, capacity, item_hash)
        else:
            state[COMPLETE] = 0
            if comes_before(value, item, values[0], items[0], item_hash):
                values[0] = value
                items[0] = item
                sink(values, items, 0, capacity, item_hash)
    state[LENGTH] = length
    if length < capacity:
        for position in range(length // 2 - 1, -1, -1):
            sink(values, items, position, length, item_hash)
    for stop in range(length - 1, 0, -1):
        values[0], values[stop] = values[stop], values[0]
        items[0], items[stop] = items[stop], items[0]
        sink(values, items, 0, stop, item_hash)
