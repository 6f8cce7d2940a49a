"""Retraction of one act in the row of its user: the ring of interactions, the items seen, and the affinities."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.decay import decay_weight
from midstream.state.structures.kernel import kernel
from midstream.state.structures.row_merge import ring_places
from midstream.state.users.affinities import AFFINITIES_MAX, AFFINITY_HALF_LIFE_MS

RESIDUE: Final = 1e-5
"""Share of what an act added to an affinity below which the rest is rounding, 6e-8 of a float32 for each sum: then the
act was all that there was, and the value goes."""
_LOW32 = 0xFFFFFFFF
_HIGH16 = 0xFFFF
_ITEM, _LOW, _HIGH = range(3)


def ring_without(
    acts: NDArray[np.int32], added: int, act: tuple[int, int, int], action_bits: int
) -> NDArray[np.int32] | None:
    """Return the places of a ring without the newest interaction that is an act, the oldest first; None = none is it.

    Args:
        acts: All places, (n, 3): item, low half of the event time, its high quarter with the action above.
        added: How many were added, as the row counts.
        act: Item, action and event time.
        action_bits: Bits below the action.
    """
    item, action, time_ms = act
    order = ring_places(added, len(acts))
    held = acts[order].astype(np.int64)
    low = (held[:, _LOW] & _LOW32) == (time_ms & _LOW32)
    high = held[:, _HIGH] == (((time_ms >> 32) & _HIGH16) | action << action_bits)
    found = np.flatnonzero((held[:, _ITEM] == item) & low & high)
    if not len(found):
        return None
    left = np.zeros_like(acts)
    left[: len(order) - 1] = np.delete(acts[order], found[-1], axis=0)
    return left


def seen_without(
    items: NDArray[np.int32], seconds: NDArray[np.int32], counts: NDArray[np.uint16], length: int, item: int
) -> int:
    """Take one impression of an item out of the columns of items seen; return how many items are left.

    When it was the only one the item goes; else it keeps its place and the time of its last impression.
    """
    found = np.flatnonzero(items[:length] == item)
    if not len(found):
        return length
    place = int(found[0])
    if counts[place] > 1:
        counts[place] -= 1
        return length
    for column in (items, seconds, counts):
        column[place : length - 1] = column[place + 1 : length].copy()
        column[length - 1] = 0
    return length - 1


@kernel
def retract_affinity(
    user: int,
    code: int,
    weight: float,
    event_time_ms: int,
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    longs: NDArray[np.int64],
) -> None:
    """Take what an act added to one value out of a user's affinities; a value of which nothing is left goes.

    Args:
        user: Slot.
        code: Of the value that the item has now.
        weight: Of the action.
        event_time_ms: Of the act.
        at: As ``fold_affinities`` is given it, with what follows.
        ints: As above.
        floats: As above.
        longs: As above.
    """
    taken = weight * decay_weight(event_time_ms, longs[user, at[0]], AFFINITY_HALF_LIFE_MS)
    for each in range(AFFINITIES_MAX):
        if ints[user, at[1] + each] != code + 1:
            continue
        left = np.float64(floats[user, at[2] + each]) - taken
        if abs(left) > RESIDUE * abs(taken):
            floats[user, at[2] + each] = np.float32(left)
            return
        for later in range(each, AFFINITIES_MAX - 1):
            ints[user, at[1] + later] = ints[user, at[1] + later + 1]
            floats[user, at[2] + later] = floats[user, at[2] + later + 1]
        ints[user, at[1] + AFFINITIES_MAX - 1] = 0
        floats[user, at[2] + AFFINITIES_MAX - 1] = 0
        return
