"""The kernel that reads a user's ring of last interactions: its distinct items, the newest first."""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.state.structures.kernel import kernel, signed


def newest_distinct(items: Index, actions: NDArray[np.int8], added: int, wanted: Mask, count_max: int) -> Index:
    """Return the distinct items of a ring that were acted on in some ways, the newest first.

    Args:
        items: The ring, (places,).
        actions: Number of the action at each place.
        added: How many came; the newest lies before ``added`` modulo the places.
        wanted: Whether each action counts, by its number.
        count_max: At most so many come back.

    Cost: 2 µs for 50 places, where a dozen array operations take 60.
    """
    found = np.empty(min(count_max, len(items)), dtype=np.int32)
    return found[: _newest_distinct(items, actions, added, wanted, found)]


@kernel
def _newest_distinct(items: Index, actions: NDArray[np.int8], added: int, wanted: Mask, found: Index) -> int:
    length, count = len(items), 0
    for back in range(1, min(added, length) + 1):
        if count == len(found):
            break
        place = signed(added - back) % length
        if not wanted[actions[place]]:
            continue
        is_new = True
        for other in range(count):
            is_new = is_new and found[other] != items[place]
        if is_new:
            found[count] = items[place]
            count += 1
    return count
