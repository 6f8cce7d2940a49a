"""The kernels of the users table: one call folds the interactions and impressions of a batch into rows of users."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Mask
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import LINE_BYTES, block_ahead, prefetch
from midstream.state.structures.windows import LATE_MS_MAX

SEEN_COUNT_MAX = 65_535
"""Where the count of an item's impressions stays: the largest number of 2 bytes."""
_INTERACTION = int(Kind.INTERACTION)
_IMPRESSION = int(Kind.IMPRESSION)
_USER = int(Kind.USER)
_SECOND_MS = 1_000
_LOW32 = 0xFFFFFFFF


class UserRows(NamedTuple):
    """The rows as numbers of each kind, and where in a row which lie (``users._places``)."""

    at: NDArray[np.int64]
    octets: NDArray[np.uint8]
    shorts: NDArray[np.uint16]
    ints: NDArray[np.int32]
    longs: NDArray[np.int64]
    used: NDArray[np.int64]


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
    octets: NDArray[np.uint8],
    shorts: NDArray[np.uint16],
    ints: NDArray[np.int32],
    longs: NDArray[np.int64],
    used: NDArray[np.int64],
) -> int:
    """Fold all but affinities; return the number of events that concern a document."""
    document_events = 0
    at, octets, shorts, ints, longs = borrowed((at, octets, shorts, ints, longs))
    for i in range(len(kind)):
        _look_ahead(i, user_index, at, octets, shorts, ints, longs)
        if not folded[i] or user_index[i] < 0:
            continue
        user = signed(user_index[i])
        if user_is_new[i]:
            if user < used[0]:  # behind that every row is empty, and no page was paid
                longs[user, : at[11]] = 0
            used[0] = max(used[0], user + 1)
        if user_is_new[i] or kind[i] == _USER:
            document_events += 1
        acts = kind[i] == _INTERACTION and action[i] >= 0
        if not (acts or kind[i] == _IMPRESSION) or log_time_ms[i] - event_time_ms[i] > LATE_MS_MAX:
            continue
        if longs[user, 0] == 0:
            longs[user, 0] = log_time_ms[i]
        longs[user, 1] = log_time_ms[i]
        if acts:
            ints[user, at[0] + action[i]] += 1
        if item_index[i] < 0:
            continue
        if acts:
            _push(user, item_index[i], action[i], event_time_ms[i], at, octets, shorts, ints)
        else:
            _see(user, item_index[i], event_time_ms[i], at, shorts, ints)
    return document_events


@inlined
def _look_ahead(
    event: int,
    user_index: NDArray[np.int32],
    at: NDArray[np.int64],
    octets: NDArray[np.uint8],
    shorts: NDArray[np.uint16],
    ints: NDArray[np.int32],
    longs: NDArray[np.int64],
) -> None:
    """Ask for the row of a later event: first for its head, then for the places of its ring that are taken next."""
    start, stop = block_ahead(event, len(user_index), 2)
    for i in range(start, stop):
        prefetch(longs, max(signed(user_index[i]), 0), 0)
        prefetch(longs, max(signed(user_index[i]), 0), LINE_BYTES)
    start, stop = block_ahead(event, len(user_index), 1)
    for i in range(start, stop):
        user = max(signed(user_index[i]), 0)
        added = signed(ints[user, at[1]])
        place = added if added < at[10] else added - at[10]
        prefetch(ints, user, 4 * (at[3] + place))
        prefetch(ints, user, 4 * (at[4] + place))
        prefetch(shorts, user, 2 * (at[7] + place))
        prefetch(octets, user, at[9] + place)


@inlined
def _push(
    user: int,
    item: int,
    action: int,
    event_time_ms: int,
    at: NDArray[np.int64],
    octets: NDArray[np.uint8],
    shorts: NDArray[np.uint16],
    ints: NDArray[np.int32],
) -> None:
    """Add an interaction to the ring; full, the oldest goes."""
    ring_max = at[10]
    added = signed(ints[user, at[1]])
    place = added if added < ring_max else added - ring_max
    ints[user, at[3] + place] = item
    ints[user, at[4] + place] = event_time_ms & _LOW32
    shorts[user, at[7] + place] = event_time_ms >> 32
    octets[user, at[9] + place] = action
    # Kept below twice the length: its remainder is the place of the oldest, and it never overflows.
    ints[user, at[1]] = added + 1 if added + 1 < 2 * ring_max else ring_max


@kernel
def _see(
    user: int,
    item: int,
    event_time_ms: int,
    at: NDArray[np.int64],
    shorts: NDArray[np.uint16],
    ints: NDArray[np.int32],
) -> None:
    """Count an impression and move its item to the end of the list; full, the longest unseen goes."""
    length = signed(ints[user, at[2]])
    place = 0
    while place < length and ints[user, at[5] + place] != item:
        place += 1
    count = 0
    if place < length:
        count = signed(shorts[user, at[8] + place])
    elif length < at[10]:
        length += 1
        ints[user, at[2]] = length
    else:
        place = 0
    for each in range(place, length - 1):
        ints[user, at[5] + each] = ints[user, at[5] + each + 1]
        ints[user, at[6] + each] = ints[user, at[6] + each + 1]
        shorts[user, at[8] + each] = shorts[user, at[8] + each + 1]
    ints[user, at[5] + length - 1] = item
    ints[user, at[6] + length - 1] = event_time_ms // _SECOND_MS
    shorts[user, at[8] + length - 1] = min(count + 1, SEEN_COUNT_MAX)
