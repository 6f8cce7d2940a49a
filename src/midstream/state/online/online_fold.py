"""Learning from joined outcomes, one event after another: the kernels of ``state.online.online_models``.

A slate that an online model scored is held with the bins of its items. A position is a row of the model once it was
seen: of no click when ``wait_ms`` of log time have passed since its slate, of a click as soon as it is acted on. A
click that comes after its position was learned as none takes back what that was: the gradient that was added then is
subtracted, so both together are the gradient of the click at the weights of now. Nothing is assumed of how late clicks
come; the sums of squares, which slow steps down, keep both.

Reference: the update is algorithm 1 of H. B. McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013.
S. I. Ktena et al., "Addressing delayed feedback for continuous training with neural networks in CTR prediction", RecSys
2019, weigh rows that may yet be clicked (FNW, FNC), for a stream that knows a late click's negative no more; here it is
held.
"""

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ServedSlates
from midstream.core.kinds import Kind
from midstream.core.types import Mask
from midstream.state.online.bins_parser import SlateBins, WantedBins, find_bins
from midstream.state.online.part_lanes import LANES, RowStep, step_lanes, weight_at
from midstream.state.outcomes.early_outcomes import await_slate, drop_oldest, release
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.hash_table import find, insert, remove
from midstream.state.structures.hashing import IdKey, hash_id
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.logistic import logistic

if TYPE_CHECKING:
    from midstream.state.online.bound_learning import BoundLearning

SLATE = np.dtype(
    [("request", "u8"), ("log_time_ms", "i8"), ("first", "i8"), ("place", "i4"), ("length", "i2"), ("is_seen", "i2")]
)
"""32 bytes. ``first`` is the place of its first row in the ring of rows, ``place`` that row's position."""
ROW = np.dtype([("item", "u8"), ("expected", "f8"), ("state", "i8")])
"""24 bytes, beside one for each input. ``expected`` is the gradient that was added when it was learned as no click."""
RINGS = np.dtype([("head", "i8"), ("count", "i8"), ("used", "i8")])
"""Of the slates, and of their rows."""
SEEN, CLICKED, LEARNED_NONE, LEARNED_CLICK = 1, 2, 4, 8
"""Bits of the state of a row."""
LEARNED, CORRECTED, EVICTED, PROMOTED, REFUSED = range(5)
"""Places in the totals: rows learned, clicks after their row was learned as none, slates that made room, promotions,
those of sums that are none."""
TOTALS: Final = 5
INPUTS, BINS, BY_POSITION, SETTLED = range(4)
"""Places in ``numbers``; of the slates, the oldest ``SETTLED`` have waited long enough."""
NUMBERS: Final = 4
WEIGHT, Z, N, ROOT = range(4)
"""Columns of ``sums``: by how much a part is weighed now; its z and n; the root of that."""
ALPHA, BETA, L1, L2 = range(4)
"""Places in ``rates``."""
PARTS_AND_BIAS: Final = 2
"""Of a row beside its inputs: its position, and the bias."""
PLACES: Final = 64
"""Positions with a weight of their own, as in ``models.rows.ftrl``."""
_SERVED, _INTERACTION, _IMPRESSION = int(Kind.SERVED), int(Kind.INTERACTION), int(Kind.IMPRESSION)
_NONE = np.uint64(0)
_NO_WORTH = np.nan
_NEVER: Final = 2**62
"""A log time that does not come."""
Rows = NDArray[np.void]
Real = NDArray[np.float64]
Numbers = NDArray[np.int64]


class OnlineColumns(NamedTuple):
    """Columns of an ``IndexedBatch`` that are folded, and of its source, all (n,).

    Those of ``OutcomeColumns`` that are read here: an array takes 0.2 µs to hand to a kernel.
    """

    kind: NDArray[np.uint8]
    folded: Mask
    action: NDArray[np.int16]
    item_hash: NDArray[np.uint64]
    request_hash: NDArray[np.uint64]
    log_time_ms: Numbers
    rows: Rows
    text: NDArray[np.uint8]
    key: IdKey
    """Of ids."""


class Learning(NamedTuple):
    """The state of one model."""

    slates: Rows
    table: NDArray[np.int32]
    rows: Rows
    bins: NDArray[np.uint8]
    """Of each row, (rows, inputs)."""
    rings: Rows
    waiting: Rows
    waiting_table: NDArray[np.int32]
    waiting_meta: Rows
    sums: Real
    """Of each part what a row reads of it, side by side, (parts + 1, 4); the last is no part, and 0."""
    rates: Real
    numbers: Numbers
    totals: Numbers
    is_click: NDArray[np.bool_]
    """Of each configured action, whether it makes a row a click. No part of what is learned, but of the settings."""
    parts: Numbers
    """For a row: the places of its parts in ``sums``, (inputs + 2 and what is left to ``LANES``)."""


@kernel
def fold_online(
    start: int,
    stop: int,
    wait_ms: int,
    window_ms: int,
    columns: OnlineColumns,
    slates: ServedSlates,
    wanted: WantedBins,
    bound: "BoundLearning",
) -> None:
    """Fold events of a batch.

    Args:
        start: Place of the first.
        stop: Place behind the last.
        wait_ms: Log time after its slate at which a position that was seen counts as not clicked.
        window_ms: Log time for which a slate is held, and what waits for one.
        columns: Of the batch.
        slates: Of its served events.
        wanted: Bins of the version that learns: a slate without them was scored by another one.
        bound: Holds the state, which is changed.
    """
    columns, slates = borrowed((columns, slates))
    held = borrowed(bound.held)
    slate, due = 0, _due(wait_ms, window_ms, held)
    known, place = _NONE, -1
    requests, kinds, folded, log_time_ms = columns.request_hash, columns.kind, columns.folded, columns.log_time_ms
    for i in range(start, stop):
        now = signed(log_time_ms[i])
        if now >= due:
            _pass_time(now, wait_ms, window_ms, held)
            due = _due(wait_ms, window_ms, held)
            known = _NONE
        request, kind = requests[i], kinds[i]
        if request == _NONE or not folded[i]:
            continue
        if request != known:  # outcomes of one slate mostly come together: it is looked up once
            known, place = request, find(request, held.slates["request"], held.table)
        if kind == _SERVED:
            while slate < len(slates.event) and slates.event[slate] < i:
                slate += 1
            if slate < len(slates.event) and slates.event[slate] == i and place < 0:
                found = find_bins(columns.text, slates, slate, wanted)
                if found.first >= 0:
                    _open(request, now, slate, found, columns.text, slates, wait_ms, held)
                    due = _due(wait_ms, window_ms, held)
                    known = _NONE
        elif kind == _IMPRESSION or (kind == _INTERACTION and columns.action[i] >= 0):
            number = -1 if kind == _IMPRESSION else signed(columns.action[i])
            item = columns.item_hash[i]
            if item == _NONE:
                item = _named_item(i, columns)
            if place >= 0:
                _note(place, item, number, now, wait_ms, held)
            else:
                _wait(request, item, number, now, held)
                due = _due(wait_ms, window_ms, held)


@kernel
def begin_anew(held: Learning) -> None:
    """Learn the rows that are held once more, as what they are known to be now, onto sums that were put in their place.

    The slates of the oldest first. A training leaves out what is younger than the window of outcomes, which is what is
    held here: so a new version has not learned these rows.
    """
    held = borrowed(held)
    for part in range(len(held.sums) - 1):
        _weigh(part, held)
    for number in range(signed(held.rings[0]["count"])):
        slate = held.slates[(signed(held.rings[0]["head"]) + number) % len(held.slates)]
        for each in range(signed(slate["length"])):
            at = (signed(slate["first"]) + each) % len(held.rows)
            state = signed(held.rows[at]["state"])
            held.rows[at]["state"] = state & (SEEN | CLICKED)
            if state & LEARNED_CLICK:
                _learn(at, signed(slate["place"]) + each, LEARNED_CLICK, held)
            elif state & LEARNED_NONE:
                _learn(at, signed(slate["place"]) + each, LEARNED_NONE, held)


@kernel
def weigh_all(held: Learning) -> None:
    """Make the weights those of the sums."""
    held = borrowed(held)
    for part in range(len(held.sums) - 1):
        _weigh(part, held)


@inlined
def _due(wait_ms: int, window_ms: int, held: Learning) -> int:
    """Return from which log time on a slate has waited long enough or is too old, or what waits for one is."""
    count, settled, found = signed(held.rings[0]["count"]), held.numbers[SETTLED], _NEVER
    if settled < count:
        place = (signed(held.rings[0]["head"]) + settled) % len(held.slates)
        found = signed(held.slates[place]["log_time_ms"]) + wait_ms
    if count > 0:
        found = min(found, signed(held.slates[held.rings[0]["head"]]["log_time_ms"]) + window_ms + 1)
    if held.waiting_meta[0]["count"] > 0:
        found = min(found, signed(held.waiting[held.waiting_meta[0]["oldest"]]["log_time_ms"]) + window_ms + 1)
    return found


@kernel
def _wait(request: np.uint64, item: np.uint64, number: int, now: int, held: Learning) -> None:
    """Let an outcome wait for its slate; when there is no room, the one that waited longest waits no more."""
    rows, table, meta = held.waiting, held.waiting_table, held.waiting_meta
    if meta[0]["count"] == len(rows):
        drop_oldest(rows, table, meta)
    await_slate(request, item, -1, _NONE, number, _NO_WORTH, 0, now, rows, table, meta)


@inlined
def _pass_time(now: int, wait_ms: int, window_ms: int, held: Learning) -> None:
    """Settle what has waited long enough, and let go what is too old."""
    rings, meta = held.rings, held.waiting_meta
    while held.numbers[SETTLED] < rings[0]["count"]:
        place = (signed(rings[0]["head"]) + held.numbers[SETTLED]) % len(held.slates)
        if now - signed(held.slates[place]["log_time_ms"]) < wait_ms:
            break
        _settle(place, held)
    while rings[0]["count"] > 0 and now - signed(held.slates[rings[0]["head"]]["log_time_ms"]) > window_ms:
        _leave(held)
    while meta[0]["count"] > 0 and now - signed(held.waiting[meta[0]["oldest"]]["log_time_ms"]) > window_ms:
        drop_oldest(held.waiting, held.waiting_table, meta)


@inlined
def _settle(place: int, held: Learning) -> None:
    """Learn what was seen of a slate and not acted on; it is the next one to settle. Without an impression none is."""
    held.numbers[SETTLED] += 1
    if held.slates[place]["is_seen"]:
        _learn_slate(place, SEEN, held)


@kernel
def _leave(held: Learning) -> None:
    """Let the oldest slate go; what was seen of it is learned before."""
    rings = held.rings
    place = signed(rings[0]["head"])
    if held.numbers[SETTLED] == 0:
        _settle(place, held)
    held.numbers[SETTLED] -= 1
    length = signed(held.slates[place]["length"])
    remove(place, held.slates["request"], held.table)
    rings[0]["head"] = (place + 1) % len(held.slates)
    rings[0]["count"] -= 1
    rings[1]["head"] = (signed(rings[1]["head"]) + length) % len(held.rows)
    rings[1]["count"] -= length


@inlined
def _open(
    request: np.uint64,
    now: int,
    number: int,
    found: SlateBins,
    text: NDArray[np.uint8],
    slates: ServedSlates,
    wait_ms: int,
    held: Learning,
) -> None:
    """Hold a slate, after which nothing came yet but what waited for it; the oldest make room."""
    rings, size, inputs = held.rings, len(held.rows), held.numbers[INPUTS]
    length = slates.start[number + 1] - slates.start[number]
    while rings[0]["count"] == len(held.slates) or rings[1]["count"] + length > size:
        _leave(held)
        held.totals[EVICTED] += 1
    place = (signed(rings[0]["head"]) + signed(rings[0]["count"])) % len(held.slates)
    first = (signed(rings[1]["head"]) + signed(rings[1]["count"])) % size
    slate = held.slates[place]
    slate["request"] = request
    slate["log_time_ms"] = now
    slate["first"] = first
    slate["place"] = found.place
    slate["length"] = length
    slate["is_seen"] = 0
    at, begin, number = first, found.first, slates.start[number]
    for each in range(length):
        row, own = held.rows[at], held.bins[at]
        row["item"] = slates.items[number + each]
        row["expected"] = 0.0
        row["state"] = 0
        for column in range(inputs):
            own[column] = text[begin + column]
        begin += inputs
        rings[1]["used"] = max(rings[1]["used"], at + 1)
        at = at + 1 if at + 1 < size else 0
    rings[0]["count"] += 1
    rings[1]["count"] += length
    rings[0]["used"] = max(rings[0]["used"], place + 1)
    insert(place, held.slates["request"], held.table)
    if held.waiting_meta[0]["count"] > 0:
        _join_waiting(place, now, wait_ms, held)


@kernel
def _join_waiting(place: int, now: int, wait_ms: int, held: Learning) -> None:
    """Note what has waited for a slate, in the order in which it came."""
    at = find(held.slates[place]["request"], held.waiting["request"], held.waiting_table)
    if at >= 0:
        remove(at, held.waiting["request"], held.waiting_table)
    while at >= 0:
        row = held.waiting[at]
        following, number, item = signed(row["next"]), signed(row["action"]), row["item"]
        _note(place, item, number, now, wait_ms, held)
        release(at, held.waiting, held.waiting_meta)
        at = following


@inlined
def _note(place: int, item: np.uint64, number: int, now: int, wait_ms: int, held: Learning) -> None:
    """Note an outcome at its position of a slate, and learn what that makes known; -1 = it is an impression."""
    slate = held.slates[place]
    first, length, size = signed(slate["first"]), signed(slate["length"]), len(held.rows)
    at, each = first, 0
    while each < length and held.rows[at]["item"] != item:
        at, each = at + 1 if at + 1 < size else 0, each + 1
    if each == length or item == _NONE:
        return
    is_click = number >= 0 and held.is_click[number]
    held.rows[at]["state"] |= SEEN | CLICKED if is_click else SEEN
    stop = each + 1
    if not slate["is_seen"]:  # no row is known before the first impression, which makes clicks before it known as well
        at, each, stop = first, 0, length if number < 0 else 0
    if number < 0:
        slate["is_seen"] = 1
    known = SEEN if now - signed(slate["log_time_ms"]) >= wait_ms else CLICKED
    while each < stop:
        _learn_known(at, signed(slate["place"]) + each, known, held)
        at, each = at + 1 if at + 1 < size else 0, each + 1


@inlined
def _learn_slate(place: int, known: int, held: Learning) -> None:
    """Learn the rows of a slate with an impression that are known now and were not."""
    slate = held.slates[place]
    at, position = signed(slate["first"]), signed(slate["place"])
    for each in range(signed(slate["length"])):
        _learn_known(at, position + each, known, held)
        at = at + 1 if at + 1 < len(held.rows) else 0


@inlined
def _learn_known(at: int, position: int, known: int, held: Learning) -> None:
    """Learn a row if it is known now and was not: if it was clicked, or where ``known`` is ``SEEN``, if it was seen."""
    state, came = signed(held.rows[at]["state"]), 0
    if state & CLICKED:
        came = LEARNED_CLICK & ~state
    elif state & known:
        came = LEARNED_NONE & ~state
    if came:
        _learn(at, position, came, held)


@inlined
def _learn(at: int, position: int, came: int, held: Learning) -> None:
    """Learn one row, ``LEARNED_NONE`` or ``LEARNED_CLICK``. Of parts that are 1 or 0 all have the same gradient.

    The last lanes are stepped first: they have the bias, which the next row waits for, whichever bins it has.
    """
    sums, parts, count = held.sums, held.parts, _gather(at, position, held)
    whole = (count + LANES - 1) // LANES * LANES
    expected = logistic(_total(sums, parts, whole))
    row = held.rows[at]
    gradient = expected
    if came == LEARNED_CLICK:
        gradient = expected - 1.0
        if signed(row["state"]) & LEARNED_NONE:
            gradient -= row["expected"]
            held.totals[CORRECTED] += 1
    else:
        row["expected"] = expected
    row["state"] |= came
    held.totals[LEARNED] += 1
    rates = held.rates
    step = RowStep(gradient, gradient * gradient, 1.0 / rates[ALPHA], rates[BETA], rates[L1], rates[L2])
    for each in range(whole - LANES, -1, -LANES):
        step_lanes(sums, parts, each, step)
    for column in range(ROOT + 1):  # what fills the last lanes up has moved with them
        sums[len(sums) - 1, column] = 0.0


@inlined
def _total(sums: Real, parts: Numbers, count: int) -> float:
    """Return the sum of the weights of parts, a whole number of lanes, each lane summed by itself.

    A single sum would wait for one addition after another, longer than all else that a row waits for.
    """
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for each in range(0, count, LANES):
        first += weight_at(sums, parts, each)
        second += weight_at(sums, parts, each + 1)
        third += weight_at(sums, parts, each + 2)
        fourth += weight_at(sums, parts, each + 3)
    return (first + second) + (third + fourth)


@inlined
def _gather(at: int, position: int, held: Learning) -> int:
    """Write the places of a row's parts, and that of none up to a whole number of lanes; return how many there are."""
    parts, bins = held.parts, held.bins[at]
    inputs, width = signed(held.numbers[INPUTS]), signed(held.numbers[BINS]) + 2
    start = 0
    for column in range(inputs):
        parts[column] = start + min(signed(bins[column]), width - 2)
        start += width
    parts[inputs] = start + PLACES
    count = inputs + 1
    if held.numbers[BY_POSITION]:
        parts[count] = start + min(position, PLACES - 1)
        count += 1
    for each in range(count, count + LANES - 1):
        parts[each] = len(held.sums) - 1
    return count


@kernel
def _weigh(part: int, held: Learning) -> None:
    """Make the weight of a part that of its sums: 0 where the gradients have not overcome l1."""
    z, l1, rate = held.sums[part, Z], held.rates[L1], 1.0 / held.rates[ALPHA]
    root = math.sqrt(held.sums[part, N])
    free = ((-l1 if z < 0.0 else l1) - z) / ((held.rates[BETA] + root) * rate + held.rates[L2])
    held.sums[part, ROOT], held.sums[part, WEIGHT] = root, free if abs(z) > l1 else 0.0


@kernel
def _named_item(i: int, columns: OnlineColumns) -> np.uint64:
    """Return the hash of the item that an event names although the state has no room for it any more."""
    event = columns.rows[i]
    start = signed(event["text_start"]) + signed(event["event_id_length"])
    start += signed(event["action_length"]) + signed(event["user_id_length"])
    return hash_id(columns.text, start, signed(event["item_id_length"]), columns.key)
