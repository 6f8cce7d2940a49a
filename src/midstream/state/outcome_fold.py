"""Slates that were served and what followed at each position: the kernels of ``state.outcomes``.

Slates lie in a ring in the order of the log, their positions in another one, so the oldest is always the next to go
and nothing is moved. An outcome finds its slate by the request's hash, and its position by the item's: a slate has
few, which lie side by side.

A kernel that is given room for what leaves copies a slate there before its place is taken again. When the room is full
it stops before the event that it is at, having changed nothing for it but what it is told to go on with.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Mask
from midstream.state.hash_table import find, insert, remove
from midstream.state.hashing import hash_id
from midstream.state.kernel import kernel, signed
from midstream.state.outcome_waiting import await_slate, drop_oldest, release
from midstream.state.prefetch import AHEAD, FURTHER, NEAR, prefetch

SLATE = np.dtype(
    [
        ("request", "u8"),
        ("user", "u8"),
        ("log_position", "i8"),
        ("log_time_ms", "i8"),
        ("first", "i8"),
        ("group", "i4"),
        ("length", "i4"),
    ]
)
"""48 bytes. ``first`` is the place of position 0 in the ring of positions."""
OUTCOME = np.dtype(
    [("value", "f8"), ("bits", "u4"), ("count", "u4"), ("seen_after_ms", "i4"), ("acted_after_ms", "i4")]
)
"""24 bytes, beside 8 of the item's hash."""
RINGS = np.dtype([("head", "i8"), ("count", "i8"), ("used", "i8")])
"""Of the slates, and of the positions: the oldest, how many, and how many places were ever taken."""
NEVER: Final = -(2**31)
"""Milliseconds until something that did not come."""
_AFTER_MS_MAX: Final = 2**31 - 1
SLATES, POSITIONS, ACTIONS = 0, 1, 2
"""Columns of the counts of a group; from ``ACTIONS`` on by number of the action, impressions last."""
UNREAD, EVICTED, EXPIRED, JOINED, ELSEWHERE, UNATTRIBUTED, WAITING_EVICTED = range(7)
"""Places in the totals."""
TOTALS: Final = 7
_SERVED, _INTERACTION, _IMPRESSION = int(Kind.SERVED), int(Kind.INTERACTION), int(Kind.IMPRESSION)
_NONE = np.uint64(0)
Rows = NDArray[np.void]
Hashes = NDArray[np.uint64]
Table = NDArray[np.int32]
Numbers = NDArray[np.int64]


@kernel
def fold_outcomes(
    start: int,
    first: int,
    window_ms: int,
    kind: NDArray[np.uint8],
    folded: Mask,
    action: NDArray[np.int16],
    user_hash: Hashes,
    item_hash: Hashes,
    request_hash: Hashes,
    event_time_ms: Numbers,
    log_time_ms: Numbers,
    value: NDArray[np.float64],
    quantity: NDArray[np.float32],
    events: Rows,
    text: NDArray[np.uint8],
    slate_event: Numbers,
    slate_group: Table,
    slate_start: Numbers,
    slate_items: Hashes,
    slates: Rows,
    hashes: Hashes,
    outcomes: Rows,
    table: Table,
    rings: Rows,
    waiting: Rows,
    waiting_table: Table,
    waiting_meta: Rows,
    counts: NDArray[np.int64],
    totals: Numbers,
    left: Rows,
    left_hashes: Hashes,
    left_outcomes: Rows,
    left_rings: Rows,
) -> int:
    """Fold events from ``start`` on; return the event to go on with, their number when all are folded.

    The columns from ``kind`` to ``quantity`` are those of the ``IndexedBatch`` that begins at log position ``first``;
    ``events`` and ``text`` are what it came in. Of its served events ``slate_event`` has the places, rising, (m,),
    ``slate_group`` the group, -1 = the body could not be read, (m,), ``slate_start`` where the items begin among
    ``slate_items``, the hashes of all, (m + 1,). For ``window_ms`` of log time a slate is held, and what waits for one.

    From ``slates`` to ``totals`` it is the state. ``left`` to ``left_rings`` are the room for slates that leave, which
    whoever reads it sets back; empty = nobody wants them.
    """
    impression = counts.shape[1] - ACTIONS - 1
    slate, last = 0, len(kind) - 1
    for i in range(start, len(kind)):
        _look_ahead(i, last, request_hash, slates, table, hashes)
        now = signed(log_time_ms[i])
        while rings[0]["count"] > 0 and now - slates[rings[0]["head"]]["log_time_ms"] > window_ms:
            if not leave(slates, hashes, outcomes, table, rings, left, left_hashes, left_outcomes, left_rings):
                return i
            totals[EXPIRED] += 1
        while waiting_meta[0]["count"] > 0 and now - waiting[waiting_meta[0]["oldest"]]["log_time_ms"] > window_ms:
            drop_oldest(waiting, waiting_table, waiting_meta)
            totals[UNATTRIBUTED] += 1
        if not folded[i] or request_hash[i] == _NONE:
            continue
        place = find(request_hash[i], slates["request"], table)
        if kind[i] == _SERVED:
            while slate_event[slate] < i:
                slate += 1
            length = signed(slate_start[slate + 1] - slate_start[slate])
            if slate_group[slate] < 0:
                totals[UNREAD] += 1
                continue
            if place >= 0:
                continue
            while rings[0]["count"] == len(slates) or rings[1]["count"] + length > len(hashes):
                if not leave(slates, hashes, outcomes, table, rings, left, left_hashes, left_outcomes, left_rings):
                    return i
                totals[EVICTED] += 1
            items = slate_items[slate_start[slate] : slate_start[slate + 1]]
            place = open_slate(request_hash[i], items, slates, hashes, outcomes, table, rings)
            slates[place]["user"] = user_hash[i]
            slates[place]["log_position"] = first + i
            slates[place]["log_time_ms"] = now
            slates[place]["group"] = slate_group[slate]
            counts[slate_group[slate], SLATES] += 1
            counts[slate_group[slate], POSITIONS] += length
            _join_waiting(place, slates, hashes, outcomes, waiting, waiting_table, waiting_meta, counts, totals)
            continue
        number = signed(action[i]) if kind[i] == _INTERACTION else impression if kind[i] == _IMPRESSION else -1
        if number < 0:
            continue
        item = item_hash[i] if item_hash[i] != _NONE else _named_item(events[i], text)
        worth = _worth(value[i], quantity[i]) if number != impression else np.nan
        time_ms = signed(event_time_ms[i])
        if place >= 0:
            add_outcome(place, item, number, worth, time_ms, slates, hashes, outcomes, counts, totals)
            continue
        if waiting_meta[0]["count"] == len(waiting):
            drop_oldest(waiting, waiting_table, waiting_meta)
            totals[UNATTRIBUTED] += 1
            totals[WAITING_EVICTED] += 1
        await_slate(
            request_hash[i], item, user_hash[i], number, worth, time_ms, now, waiting, waiting_table, waiting_meta
        )
    return len(kind)


@kernel
def open_slate(
    request: np.uint64,
    items: Hashes,
    slates: Rows,
    hashes: Hashes,
    outcomes: Rows,
    table: Table,
    rings: Rows,
) -> int:
    """Return the place of a new slate, after which nothing came yet. There must be room."""
    place = (signed(rings[0]["head"]) + signed(rings[0]["count"])) % len(slates)
    at = (signed(rings[1]["head"]) + signed(rings[1]["count"])) % len(hashes)
    slates[place]["request"] = request
    slates[place]["first"] = at
    slates[place]["length"] = len(items)
    for item in items:
        hashes[at] = item
        row = outcomes[at]
        row["value"] = 0.0
        row["bits"] = 0
        row["count"] = 0
        row["seen_after_ms"] = NEVER
        row["acted_after_ms"] = NEVER
        rings[1]["used"] = max(rings[1]["used"], at + 1)
        at = at + 1 if at + 1 < len(hashes) else 0
    rings[0]["count"] += 1
    rings[1]["count"] += len(items)
    rings[0]["used"] = max(rings[0]["used"], place + 1)
    insert(place, slates["request"], table)
    return place


@kernel
def leave(
    slates: Rows,
    hashes: Hashes,
    outcomes: Rows,
    table: Table,
    rings: Rows,
    left: Rows,
    left_hashes: Hashes,
    left_outcomes: Rows,
    left_rings: Rows,
) -> bool:
    """Let the oldest slate go, to the room for those that leave; False = that is full, and nothing was done."""
    place = signed(rings[0]["head"])
    length = signed(slates[place]["length"])
    if len(left):
        count, at = signed(left_rings[0]["count"]), signed(left_rings[1]["count"])
        if count == len(left) or at + length > len(left_hashes):
            return False
        copy_slate(place, slates, hashes, outcomes, left, left_hashes, left_outcomes, left_rings)
    remove(place, slates["request"], table)
    rings[0]["head"] = (place + 1) % len(slates)
    rings[0]["count"] -= 1
    rings[1]["head"] = (signed(rings[1]["head"]) + length) % len(hashes)
    rings[1]["count"] -= length
    return True


@kernel
def copy_slate(
    place: int,
    slates: Rows,
    hashes: Hashes,
    outcomes: Rows,
    left: Rows,
    left_hashes: Hashes,
    left_outcomes: Rows,
    left_rings: Rows,
) -> None:
    """Copy a slate with its positions behind those that are in ``left``."""
    count, at = signed(left_rings[0]["count"]), signed(left_rings[1]["count"])
    length = signed(slates[place]["length"])
    left[count] = slates[place]
    left[count]["first"] = at
    for each in range(length):
        source = (signed(slates[place]["first"]) + each) % len(hashes)
        left_hashes[at + each] = hashes[source]
        left_outcomes[at + each] = outcomes[source]
    left_rings[0]["count"] = count + 1
    left_rings[1]["count"] = at + length


@kernel
def add_outcome(
    place: int,
    item: np.uint64,
    number: int,
    worth: float,
    time_ms: int,
    slates: Rows,
    hashes: Hashes,
    outcomes: Rows,
    counts: NDArray[np.int64],
    totals: Numbers,
) -> None:
    """Note an outcome at its position of a slate; count it when the slate does not have the item."""
    slate = slates[place]
    at = signed(slate["first"])
    for _ in range(signed(slate["length"])):
        if hashes[at] == item and item != _NONE:
            totals[JOINED] += 1
            row = outcomes[at]
            bit = np.uint32(1) << np.uint32(number)
            if row["bits"] & bit == 0:
                row["bits"] |= bit
                counts[slate["group"], ACTIONS + number] += 1
            row["count"] += 1
            if not np.isnan(worth):
                row["value"] += worth
            after = min(max(time_ms - signed(slate["log_time_ms"]), NEVER + 1), _AFTER_MS_MAX)
            if number == counts.shape[1] - ACTIONS - 1:
                row["seen_after_ms"] = _sooner(signed(row["seen_after_ms"]), after)
            else:
                row["acted_after_ms"] = _sooner(signed(row["acted_after_ms"]), after)
            return
        at = at + 1 if at + 1 < len(hashes) else 0
    totals[ELSEWHERE] += 1


@kernel
def forget_slates(users: Hashes, slates: Rows, hashes: Hashes, outcomes: Rows, table: Table, rings: Rows) -> None:
    """Drop the slates of some users; those after them move up, in order."""
    kept, kept_at = 0, signed(rings[1]["head"])
    head, count = signed(rings[0]["head"]), signed(rings[0]["count"])
    positions = 0
    for number in range(count):
        place, into = (head + number) % len(slates), (head + kept) % len(slates)
        length = signed(slates[place]["length"])
        if _is_in(slates[place]["user"], users):
            remove(place, slates["request"], table)
            continue
        if place != into:
            remove(place, slates["request"], table)
            source = signed(slates[place]["first"])
            slates[into] = slates[place]
            slates[into]["first"] = kept_at
            for each in range(length):
                hashes[(kept_at + each) % len(hashes)] = hashes[(source + each) % len(hashes)]
                outcomes[(kept_at + each) % len(hashes)] = outcomes[(source + each) % len(hashes)]
            insert(into, slates["request"], table)
        kept += 1
        kept_at = (kept_at + length) % len(hashes)
        positions += length
    rings[0]["count"] = kept
    rings[1]["count"] = positions


@kernel
def copy_held(
    start: int,
    slates: Rows,
    hashes: Hashes,
    outcomes: Rows,
    rings: Rows,
    left: Rows,
    left_hashes: Hashes,
    left_outcomes: Rows,
    left_rings: Rows,
) -> int:
    """Copy slates from the ``start``-th oldest on until there are no more or no room; return the next one's number."""
    for number in range(start, signed(rings[0]["count"])):
        place = (signed(rings[0]["head"]) + number) % len(slates)
        length = signed(slates[place]["length"])
        if left_rings[0]["count"] == len(left) or left_rings[1]["count"] + length > len(left_hashes):
            return number
        copy_slate(place, slates, hashes, outcomes, left, left_hashes, left_outcomes, left_rings)
    return signed(rings[0]["count"])


@kernel
def hash_items(arena: NDArray[np.uint8], lengths: Numbers, found: Hashes) -> None:
    """Write the hash of each id; they lie end to end in the arena."""
    start = 0
    for at in range(len(lengths)):
        found[at] = hash_id(arena, start, signed(lengths[at]))
        start += signed(lengths[at])


@kernel
def _join_waiting(
    place: int,
    slates: Rows,
    hashes: Hashes,
    outcomes: Rows,
    waiting: Rows,
    waiting_table: Table,
    waiting_meta: Rows,
    counts: NDArray[np.int64],
    totals: Numbers,
) -> None:
    """Note what has waited for a slate, in the order in which it came."""
    if waiting_meta[0]["count"] == 0:
        return
    at = find(slates[place]["request"], waiting["request"], waiting_table)
    if at >= 0:
        remove(at, waiting["request"], waiting_table)
    while at >= 0:
        row = waiting[at]
        following = signed(row["next"])
        add_outcome(
            place,
            row["item"],
            signed(row["action"]),
            row["value"],
            signed(row["event_time_ms"]),
            slates,
            hashes,
            outcomes,
            counts,
            totals,
        )
        release(at, waiting, waiting_meta)
        at = following


@kernel
def _look_ahead(i: int, last: int, request_hash: Hashes, slates: Rows, table: Table, hashes: Hashes) -> None:
    """Ask for what the events after one need: the entry of the table, then the slate, then its items."""
    mask = len(table) - 1
    further = request_hash[min(i + FURTHER, last)]
    if further != _NONE:
        prefetch(table, signed(further) & mask, 0)
    ahead = request_hash[min(i + AHEAD, last)]
    if ahead != _NONE:
        prefetch(slates, signed(table[signed(ahead) & mask]) - 1, 0)
    near = request_hash[min(i + NEAR, last)]
    if near != _NONE and table[signed(near) & mask] > 0:
        prefetch(hashes, signed(slates[table[signed(near) & mask] - 1]["first"]), 0)


@kernel
def _named_item(event: np.void, text: NDArray[np.uint8]) -> np.uint64:
    """Return the hash of the item that an event names although the state has no room for it any more."""
    start = signed(event["text_start"]) + signed(event["event_id_length"])
    start += signed(event["action_length"]) + signed(event["user_id_length"])
    return hash_id(text, start, signed(event["item_id_length"]))


@kernel
def _worth(value: float, quantity: float) -> float:
    """Return value x quantity; NaN = no value was sent. Without a quantity it is one."""
    return value if np.isnan(quantity) else value * quantity


@kernel
def _sooner(known: int, after: int) -> int:
    return after if known == NEVER else min(known, after)


@kernel
def _is_in(user: np.uint64, users: Hashes) -> bool:
    found = False
    for at in range(len(users)):
        found |= user == users[at] and user != _NONE
    return found
