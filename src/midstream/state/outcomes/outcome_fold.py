"""Slates that were served and what followed at each position: the kernels of ``state.outcomes.outcomes``.

Slates lie in a ring in the order of the log, their positions in another one, so the oldest is always the next to go
and nothing is moved. An outcome finds its slate by the request's hash, and its position by the item's: a slate has
few, which lie side by side.

A kernel that is given room for what leaves copies a slate there before its place is taken again. When the room is full
it stops before the event that it is at, having changed nothing for it but what it is told to go on with.

What is learned of a position is counted in the cells of outcomes as well (``state.cells.outcome_cells``), if there are
any: once it was seen, for the item that its impression named. A bit beside those of the actions says that it was.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.state.cells.fold import sent
from midstream.state.cells.outcome_cells import OutcomeCellRows, add_positions, ask_for_item
from midstream.state.outcomes.early_outcomes import await_slate, drop_oldest, release
from midstream.state.outcomes.outcome_columns import OutcomeColumns
from midstream.state.outcomes.recipients import asker_of, link, unlink
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.hash_table import find, insert, remove
from midstream.state.structures.hashing import IdKey, hash_id
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import AHEAD, FURTHER, NEAR, prefetch

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
COUNTED: Final = 1 << 31
"""Among the bits of a position: it was seen, and is counted in cells. Of the table alone: no reader is given it."""
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


class ServedColumns(NamedTuple):
    """Content of the served events of a batch."""

    event: Numbers
    """Their places, rising, (m,)."""
    group: Table
    """-1 = the body could not be read, (m,). Of events before the one to stop at; others are not looked at."""
    start: Numbers
    """Where the items of each begin, (m + 1,)."""
    items: Hashes
    """Of all, by position."""
    placement: Hashes
    """Of the name of what each was served for, (m,)."""
    counted: Table
    """Number of the placement that cells of outcomes know each by, 0 = none names it, (m,). As ``group`` has them."""


class OutcomeState(NamedTuple):
    """The state."""

    slates: Rows
    hashes: Hashes
    outcomes: Rows
    table: Table
    asked: Rows
    askers: Table
    rings: Rows
    waiting: Rows
    waiting_table: Table
    waiting_meta: Rows
    counts: NDArray[np.int64]
    totals: Numbers
    cells: OutcomeCellRows


class Left(NamedTuple):
    """Buffers for slates that leave. Their reader sets ``rings`` back; buffers of no size = no reader."""

    slates: Rows
    hashes: Hashes
    outcomes: Rows
    rings: Rows


class OutcomeRows(NamedTuple):
    """What is handed to ``fold_outcomes`` where nothing is served and nobody reads what leaves."""

    window_ms: int
    told: ServedColumns
    """Of no event."""
    state: OutcomeState
    left: Left
    """Of no size."""
    key: IdKey


@kernel
def fold_outcomes(
    start: int,
    stop: int,
    first: int,
    window_ms: int,
    columns: OutcomeColumns,
    told: ServedColumns,
    held: OutcomeState,
    left: Left,
) -> int:
    """Fold events from ``start`` on; return the event to go on with, ``stop`` when all before it are folded.

    Args:
        start: Place of the first event to fold.
        stop: Place of the event after the last; what is too old by then has gone, too.
        first: Log position before the batch.
        window_ms: Log time for which a slate is held, and what waits for one.
        columns: Of the batch.
        told: By its served events.
        held: The state, which is changed.
        left: Where slates go that leave.
    """
    impression = held.counts.shape[1] - ACTIONS - 1
    slate = 0
    columns, told, held, left = borrowed((columns, told, held, left))
    requests, log_time_ms, slates, waiting = columns.request_hash, columns.log_time_ms, held.slates, held.waiting
    rings, meta = held.rings, held.waiting_meta
    for i in range(start, stop):
        ahead = min(i + FURTHER, len(requests) - 1)
        if (
            (requests[ahead] != _NONE)
            | (requests[min(i + AHEAD, ahead)] != _NONE)
            | (requests[min(i + NEAR, ahead)] != _NONE)
        ):
            _look_ahead(i, requests, columns.item_index, held)
        now = signed(log_time_ms[i])
        if is_due(now, window_ms, slates, rings, waiting, meta) and not _pass_time(now, window_ms, held, left):
            return i
        request = requests[i]
        if request == _NONE or not columns.folded[i]:
            continue
        kind = columns.kind[i]
        if kind == _SERVED:
            while told.event[slate] < i:
                slate += 1
            user, session = columns.user_hash[i], columns.session_hash[i]
            if not _serve(first + i, request, user, session, now, slate, told, held, left):
                return i
        elif kind == _IMPRESSION or (kind == _INTERACTION and columns.action[i] >= 0):
            number = impression if kind == _IMPRESSION else signed(columns.action[i])
            worth = np.nan if kind == _IMPRESSION else _worth(columns.value[i], columns.quantity[i])
            item, item_index = columns.item_hash[i], signed(columns.item_index[i])
            if item == _NONE:
                item = _named_item(columns.rows[i], columns.text, columns.key)
            time_ms = signed(columns.event_time_ms[i])
            place = find(request, held.slates["request"], held.table)
            if place >= 0:
                add_outcome(place, item, item_index, number, worth, time_ms, now, held)
            else:
                _wait(request, item, item_index, columns.user_hash[i], number, worth, time_ms, now, held)
    if stop < len(columns.kind):
        _pass_time(signed(columns.log_time_ms[stop]), window_ms, held, left)
    return stop


@kernel
def is_due(now: int, window_ms: int, slates: Rows, rings: Rows, waiting: Rows, meta: Rows) -> bool:
    """Return whether the oldest slate, or what has waited longest for one, is older than the window."""
    found = rings[0]["count"] > 0 and now - slates[rings[0]["head"]]["log_time_ms"] > window_ms
    return bool(found or (meta[0]["count"] > 0 and now - waiting[meta[0]["oldest"]]["log_time_ms"] > window_ms))


@kernel
def _pass_time(now: int, window_ms: int, held: OutcomeState, left: Left) -> bool:
    """Let what is older than the window go; False = there is no room for what leaves."""
    rings, meta = held.rings, held.waiting_meta
    while rings[0]["count"] > 0 and now - held.slates[rings[0]["head"]]["log_time_ms"] > window_ms:
        if not _leave(held, left):
            return False
        held.totals[EXPIRED] += 1
    while meta[0]["count"] > 0 and now - held.waiting[meta[0]["oldest"]]["log_time_ms"] > window_ms:
        drop_oldest(held.waiting, held.waiting_table, meta)
        held.totals[UNATTRIBUTED] += 1
    return True


@inlined
def _serve(
    log_position: int,
    request: np.uint64,
    user: np.uint64,
    session: np.uint64,
    now: int,
    slate: int,
    told: ServedColumns,
    held: OutcomeState,
    left: Left,
) -> bool:
    """Open the slate of a served event, unless its request has one; False = there is no room for what leaves."""
    group = signed(told.group[slate])
    if group >= 0 and find(request, held.slates["request"], held.table) < 0:
        items = told.items[told.start[slate] : told.start[slate + 1]]
        rings = held.rings
        while rings[0]["count"] == len(held.slates) or rings[1]["count"] + len(items) > len(held.hashes):
            if not _leave(held, left):
                return False
            held.totals[EVICTED] += 1
        place = _open(request, items, held)
        held.slates[place]["user"] = user
        held.slates[place]["log_position"] = log_position
        held.slates[place]["log_time_ms"] = now
        held.slates[place]["group"] = group
        link(place, asker_of(user, session), told.placement[slate], held.asked, held.askers)
        held.asked[place]["counted"] = told.counted[slate]
        held.counts[group, SLATES] += 1
        held.counts[group, POSITIONS] += len(items)
        _join_waiting(place, now, held)
    elif group < 0:
        held.totals[UNREAD] += 1
    return True


@kernel
def _wait(
    request: np.uint64,
    item: np.uint64,
    item_index: int,
    user: np.uint64,
    number: int,
    worth: float,
    time_ms: int,
    now: int,
    held: OutcomeState,
) -> None:
    """Let an outcome wait for its slate; when there is no room, the one that waited longest waits no more."""
    if held.waiting_meta[0]["count"] == len(held.waiting):
        drop_oldest(held.waiting, held.waiting_table, held.waiting_meta)
        held.totals[UNATTRIBUTED] += 1
        held.totals[WAITING_EVICTED] += 1
    rows, table, meta = held.waiting, held.waiting_table, held.waiting_meta
    await_slate(request, item, item_index, user, number, worth, time_ms, now, rows, table, meta)


@inlined
def _open(request: np.uint64, items: Hashes, held: OutcomeState) -> int:
    """Return the place of a new slate, after which nothing came yet. There must be room."""
    rings, size = held.rings, len(held.hashes)
    place = (signed(rings[0]["head"]) + signed(rings[0]["count"])) % len(held.slates)
    at = (signed(rings[1]["head"]) + signed(rings[1]["count"])) % size
    held.slates[place]["request"] = request
    held.slates[place]["first"] = at
    held.slates[place]["length"] = len(items)
    for number in range(len(items)):
        held.hashes[at] = items[number]
        row = held.outcomes[at]
        row["value"] = 0.0
        row["bits"] = 0
        row["count"] = 0
        row["seen_after_ms"] = NEVER
        row["acted_after_ms"] = NEVER
        rings[1]["used"] = max(rings[1]["used"], at + 1)
        at = at + 1 if at + 1 < size else 0
    rings[0]["count"] += 1
    rings[1]["count"] += len(items)
    rings[0]["used"] = max(rings[0]["used"], place + 1)
    insert(place, held.slates["request"], held.table)
    return place


@kernel
def _leave(held: OutcomeState, left: Left) -> bool:
    """Let the oldest slate go, to the room for those that leave; False = that is full, and nothing was done."""
    rings = held.rings
    place = signed(rings[0]["head"])
    length = signed(held.slates[place]["length"])
    if len(left.slates) and not copy_slate(place, held, left):
        return False
    remove(place, held.slates["request"], held.table)
    unlink(place, held.asked, held.askers)
    rings[0]["head"] = (place + 1) % len(held.slates)
    rings[0]["count"] -= 1
    rings[1]["head"] = (signed(rings[1]["head"]) + length) % len(held.hashes)
    rings[1]["count"] -= length
    return True


@kernel
def copy_slate(place: int, held: OutcomeState, left: Left) -> bool:
    """Copy a slate with its positions behind those that are in ``left``; False = there is no room."""
    count, at = signed(left.rings[0]["count"]), signed(left.rings[1]["count"])
    length = signed(held.slates[place]["length"])
    if count == len(left.slates) or at + length > len(left.hashes):
        return False
    left.slates[count] = held.slates[place]
    left.slates[count]["first"] = at
    for each in range(length):
        source = (signed(held.slates[place]["first"]) + each) % len(held.hashes)
        left.hashes[at + each] = held.hashes[source]
        left.outcomes[at + each] = held.outcomes[source]
        left.outcomes[at + each]["bits"] = signed(left.outcomes[at + each]["bits"]) & (COUNTED - 1)
    left.rings[0]["count"] = count + 1
    left.rings[1]["count"] = at + length
    return True


@inlined
def add_outcome(
    place: int,
    item: np.uint64,
    item_index: int,
    number: int,
    worth: float,
    time_ms: int,
    now: int,
    held: OutcomeState,
) -> None:
    """Note an outcome at its position of a slate; count it when the slate does not have the item."""
    slate = held.slates[place]
    at, impression = signed(slate["first"]), held.counts.shape[1] - ACTIONS - 1
    for _ in range(signed(slate["length"])):
        if held.hashes[at] == item and item != _NONE:
            held.totals[JOINED] += 1
            row = held.outcomes[at]
            before, bit = signed(row["bits"]), 1 << number
            if before & bit == 0:
                row["bits"] = before | bit
                held.counts[slate["group"], ACTIONS + number] += 1
            if held.cells.groups.shape[1] > 0 and item_index >= 0:
                _count(place, at, item_index, before, number == impression, now, held)
            row["count"] += 1
            if not np.isnan(worth):
                row["value"] += worth
            after = min(max(time_ms - signed(slate["log_time_ms"]), NEVER + 1), _AFTER_MS_MAX)
            if number == impression:
                row["seen_after_ms"] = _sooner(signed(row["seen_after_ms"]), after)
            else:
                row["acted_after_ms"] = _sooner(signed(row["acted_after_ms"]), after)
            return
        at = at + 1 if at + 1 < len(held.hashes) else 0
    held.totals[ELSEWHERE] += 1


@inlined
def _count(
    place: int,
    at: int,
    item_index: int,
    before: int,
    is_seen: bool,  # noqa: FBT001  # kernels have no keywords
    now: int,
    held: OutcomeState,
) -> None:
    """Count a position of a slate in the cells of outcomes by its bits, if it was seen and they are others now."""
    after = signed(held.outcomes[at]["bits"])
    if is_seen and after & COUNTED == 0:
        after |= COUNTED
        held.outcomes[at]["bits"] = after
    if after != before and after & COUNTED != 0:
        known, placement = before if before & COUNTED else 0, signed(held.asked[place]["counted"])
        add_positions(item_index, known, after, placement, signed(held.slates[place]["log_time_ms"]), now, held.cells)


@kernel
def forget_users(users: Hashes, held: OutcomeState) -> None:
    """Make the slates of some users, and what waits of them, nobody's."""
    head, count = signed(held.rings[0]["head"]), signed(held.rings[0]["count"])
    for number in range(count):
        slate = held.slates[(head + number) % len(held.slates)]
        if _is_in(slate["user"], users):
            slate["user"] = _NONE
    place = signed(held.waiting_meta[0]["oldest"])
    while place >= 0:
        row = held.waiting[place]
        if _is_in(row["user"], users):
            row["user"] = _NONE
        place = signed(row["newer"])


@kernel
def copy_held(start: int, held: OutcomeState, left: Left) -> int:
    """Copy slates from the ``start``-th oldest on until there are no more or no room; return the next one's number."""
    count = signed(held.rings[0]["count"])
    for number in range(start, count):
        if not copy_slate((signed(held.rings[0]["head"]) + number) % len(held.slates), held, left):
            return number
    return count


@inlined
def _join_waiting(place: int, now: int, held: OutcomeState) -> None:
    """Note what has waited for a slate, in the order in which it came."""
    if held.waiting_meta[0]["count"] == 0:
        return
    at = find(held.slates[place]["request"], held.waiting["request"], held.waiting_table)
    if at >= 0:
        remove(at, held.waiting["request"], held.waiting_table)
    while at >= 0:
        row = held.waiting[at]
        following, number, item_index = signed(row["next"]), signed(row["action"]), signed(row["item_index"])
        time_ms = signed(row["event_time_ms"])
        add_outcome(place, row["item"], item_index, number, row["value"], time_ms, now, held)
        release(at, held.waiting, held.waiting_meta)
        at = following


@inlined
def _look_ahead(i: int, request_hash: Hashes, item_index: Table, held: OutcomeState) -> None:
    """Ask for what the events after one need: the entry of the table, then the slate, then its items."""
    mask, last = len(held.table) - 1, len(request_hash) - 1
    further = request_hash[min(i + FURTHER, last)]
    if further != _NONE:
        prefetch(held.table, signed(further) & mask, 0)
    ahead = request_hash[min(i + AHEAD, last)]
    if ahead != _NONE:
        ask_for_item(signed(item_index[min(i + AHEAD, last)]), held.cells)
        prefetch(held.slates, signed(held.table[signed(ahead) & mask]) - 1, 0)
    near = request_hash[min(i + NEAR, last)]
    if near != _NONE and held.table[signed(near) & mask] > 0:
        prefetch(held.hashes, signed(held.slates[held.table[signed(near) & mask] - 1]["first"]), 0)


@kernel
def _named_item(event: np.void, text: NDArray[np.uint8], key: IdKey) -> np.uint64:
    """Return the hash of the item that an event names although the state has no room for it any more."""
    start = signed(event["text_start"]) + signed(event["event_id_length"])
    start += signed(event["action_length"]) + signed(event["user_id_length"])
    return hash_id(text, start, signed(event["item_id_length"]), key)


@kernel
def _worth(value: float, quantity: float) -> float:
    """Return value x quantity; NaN = no value was sent. Without a quantity it is one.

    Both within the bound of ``sent``, so that no sum becomes infinite, nor two of them nothing that is a number.
    """
    worth, times = sent(value), sent(quantity)
    return worth if np.isnan(times) else worth * times


@kernel
def _sooner(known: int, after: int) -> int:
    return after if known == NEVER else min(known, after)


@kernel
def _is_in(user: np.uint64, users: Hashes) -> bool:
    found = False
    for at in range(len(users)):
        found |= user == users[at] and user != _NONE
    return found
