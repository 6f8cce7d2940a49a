"""The kernels of the users table: one call folds the interactions and impressions of a batch into rows of users."""

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Mask
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import block_ahead, prefetch
from midstream.state.structures.windows import LATE_MS_MAX
from midstream.state.users.user_rows import (
    ACTION_BITS,
    ADDED,
    COUNTS,
    INLINE,
    PLACE_WORDS,
    RING,
    RING_BLOCK,
    RING_MAX,
    RING_POOL,
    SEEN_BLOCK,
    SEEN_LENGTH,
    SEEN_POOL,
    USED,
    WORDS,
    release_blocks,
    take_block,
)

SEEN_COUNT_MAX = 65_535
"""Where the count of an item's impressions stays: the largest number of 2 bytes."""
_INTERACTION = int(Kind.INTERACTION)
_IMPRESSION = int(Kind.IMPRESSION)
_USER = int(Kind.USER)
_SECOND_MS = 1_000
_LOW32 = 0xFFFFFFFF
_HIGH16 = 0xFFFF


@kernel
def fold_users(
    kind: NDArray[np.uint8],
    action: NDArray[np.int16],
    folded: Mask,
    user_index: NDArray[np.int32],
    user_is_new: Mask,
    item_index: NDArray[np.int32],
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    longs: NDArray[np.int64],
    tails: NDArray[np.int32],
    seen: NDArray[np.int32],
    shorts: NDArray[np.uint16],
    used: NDArray[np.int64],
) -> int:
    """Fold all but affinities; return the number of events that concern a document.

    What follows ``log_time_ms`` are the fields of ``UserRows``.
    """
    document_events = 0
    at, ints, longs, tails, seen, shorts, used = borrowed((at, ints, longs, tails, seen, shorts, used))
    for i in range(len(kind)):
        _look_ahead(i, user_index, at, ints, tails)
        if not folded[i] or user_index[i] < 0:
            continue
        user = signed(user_index[i])
        if user_is_new[i]:
            if user < used[USED]:  # behind that every head is empty, and no page was paid
                release_blocks(user, ints, tails, seen, used)
                longs[user, : at[WORDS]] = 0
            used[USED] = max(used[USED], user + 1)
        if user_is_new[i] or kind[i] == _USER:
            document_events += 1
        acts = kind[i] == _INTERACTION and action[i] >= 0
        if not (acts or kind[i] == _IMPRESSION) or log_time_ms[i] - event_time_ms[i] > LATE_MS_MAX:
            continue
        if longs[user, 0] == 0:
            longs[user, 0] = log_time_ms[i]
        longs[user, 1] = log_time_ms[i]
        if acts:
            ints[user, COUNTS + action[i]] += 1
        if item_index[i] < 0:
            continue
        if acts:
            _push(user, item_index[i], action[i], event_time_ms[i], at, ints, tails, used)
        else:
            _see(user, item_index[i], event_time_ms[i], at[RING_MAX], ints, seen, shorts, used)
    return document_events


@inlined
def _look_ahead(
    event: int,
    user_index: NDArray[np.int32],
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    tails: NDArray[np.int32],
) -> None:
    """Ask for the head of a later user: first for its beginning, then for the place of the ring that is taken next."""
    start, stop = block_ahead(event, len(user_index), 2)
    for i in range(start, stop):
        prefetch(ints, max(signed(user_index[i]), 0), 0)
    start, stop = block_ahead(event, len(user_index), 1)
    for i in range(start, stop):
        user = max(signed(user_index[i]), 0)
        added = signed(ints[user, ADDED])
        place = added if added < at[RING_MAX] else added - at[RING_MAX]
        if place < at[INLINE]:
            word = at[RING] + PLACE_WORDS * place
            prefetch(ints, user, 4 * word)
            prefetch(ints, user, 4 * (word + PLACE_WORDS - 1))
        else:
            block, word = max(signed(ints[user, RING_BLOCK]) - 1, 0), PLACE_WORDS * (place - at[INLINE])
            prefetch(tails, block, 4 * word)
            prefetch(tails, block, 4 * (word + PLACE_WORDS - 1))


@inlined
def _push(
    user: int,
    item: int,
    action: int,
    event_time_ms: int,
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    tails: NDArray[np.int32],
    used: NDArray[np.int64],
) -> None:
    """Add an interaction to the ring; full, the oldest goes."""
    ring_max = at[RING_MAX]
    added = signed(ints[user, ADDED])
    place = added if added < ring_max else added - ring_max
    told = ((event_time_ms >> 32) & _HIGH16) | signed(action) << ACTION_BITS
    if place < at[INLINE]:
        word = at[RING] + PLACE_WORDS * place
        ints[user, word] = item
        ints[user, word + 1] = event_time_ms & _LOW32
        ints[user, word + 2] = told
    else:
        if ints[user, RING_BLOCK] == 0:
            ints[user, RING_BLOCK] = take_block(tails, used, RING_POOL)
        block, word = signed(ints[user, RING_BLOCK]) - 1, PLACE_WORDS * (place - at[INLINE])
        tails[block, word] = item
        tails[block, word + 1] = event_time_ms & _LOW32
        tails[block, word + 2] = told
    # Kept below twice the length: its remainder is the place of the oldest, and it never overflows.
    ints[user, ADDED] = added + 1 if added + 1 < 2 * ring_max else ring_max


@kernel
def _see(
    user: int,
    item: int,
    event_time_ms: int,
    ring_max: int,
    ints: NDArray[np.int32],
    seen: NDArray[np.int32],
    shorts: NDArray[np.uint16],
    used: NDArray[np.int64],
) -> None:
    """Count an impression and move its item to the end of the list; full, the longest unseen goes."""
    if ints[user, SEEN_BLOCK] == 0:
        ints[user, SEEN_BLOCK] = take_block(seen, used, SEEN_POOL)
    block, length = signed(ints[user, SEEN_BLOCK]) - 1, signed(ints[user, SEEN_LENGTH])
    seconds, counts = ring_max, 4 * ring_max
    place = 0
    while place < length and seen[block, place] != item:
        place += 1
    count = 0
    if place < length:
        count = signed(shorts[block, counts + place])
    elif length < ring_max:
        length += 1
        ints[user, SEEN_LENGTH] = length
    else:
        place = 0
    for each in range(place, length - 1):
        seen[block, each] = seen[block, each + 1]
        seen[block, seconds + each] = seen[block, seconds + each + 1]
        shorts[block, counts + each] = shorts[block, counts + each + 1]
    seen[block, length - 1] = item
    seen[block, seconds + length - 1] = event_time_ms // _SECOND_MS
    shorts[block, counts + length - 1] = min(count + 1, SEEN_COUNT_MAX)
