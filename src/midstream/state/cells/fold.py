"""The kernels that fold events into the rows of cells, all scopes in one call.

What moves a row on happens when it is next written and follows from its log time alone: fading sums are forward-decayed
to a landmark, and a landmark moves by an exact power of two; windows end in the bucket of the row's log time.

Log time hardly ever goes back and events lie close together, so what depends on a time and a period alone (landmarks,
buckets, decay weights) is kept from event to event with the times for which it holds: divisions would take most of the
time. Most events then add to the sums of a row in one straight loop.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Index, Mask
from midstream.state.cells.layout import (
    ADDS,
    BASE,
    DECAY,
    DISTINCT,
    FIRST,
    LAST,
    MAX,
    MIN,
    MODE,
    NOTHING,
    OF,
    PERIOD,
    PLACE,
    REST,
    STOP,
    STRIDE,
    TAKES,
    WINDOW,
)
from midstream.state.cells.rows import Hashes, Places, place_events
from midstream.state.cells.windows import Octets, Words, add_ahead, add_distinct, add_late, advance_window
from midstream.state.structures.decay import LANDMARK_HALF_LIVES, STEPS, decay_weight, landmark_at, rebase_factor
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.prefetch import AHEAD as EVENTS_AHEAD
from midstream.state.structures.prefetch import LINE_BYTES, prefetch
from midstream.state.structures.prefetch import NEAR as EVENTS_NEAR

LATE_MS_MAX: Final = 86_400_000
"""An event further behind its log time feeds fading sums only."""
SENT_MAX: Final = 1e18
"""A larger number counts as not sent: it would leave nothing of others. The square of this one fits in float32."""
_INTERACTION, _IMPRESSION = int(Kind.INTERACTION), int(Kind.IMPRESSION)
_ITEM, _SESSION = 1, 2
_STEP_BITS: Final = 12
_EVER: Final = 1 << 62
_BEGIN, _END, _LOW, _HIGH = 0, 1, 2, 3
"""Of ``times``, for each cell: where the landmark span or bucket of now begins and ends; between which event times its
decay weight holds."""
_UNTIL, _NEWEST, _WINDOW_BEGIN, _WINDOW_END, _WEIGHT_LOW, _WEIGHT_HIGH = 0, 1, 2, 3, 4, 5
"""Of ``clock``, for the scope: until when all spans hold, the newest of their beginnings, between which event times all
windows take the bucket of now, and all decay weights hold."""


class CellRows(NamedTuple):
    """Parameters and rows of all cells, as ``fold_cells`` is given them."""

    groups: Places
    spec: Places
    take_of: NDArray[np.uint8]
    counts: Mask
    weights: Words
    codes: Places
    """Of each attribute: address, items and width of its codes, and the first of its columns in those of all."""
    code_count: int
    """Columns of codes of all attributes."""
    words: Words
    octets: Octets
    keys: NDArray[np.void]
    tables: Index
    metas: NDArray[np.void]


@kernel
def fold_cells(
    groups: Places,
    spec: Places,
    take_of: NDArray[np.uint8],
    counts: Mask,
    weights: Words,
    kind: NDArray[np.uint8],
    folded: Mask,
    action: NDArray[np.int16],
    value: Words,
    quantity: NDArray[np.float32],
    event_time_ms: Places,
    log_time_ms: Places,
    user_index: Index,
    user_hash: Hashes,
    user_is_new: Mask,
    session_hash: Hashes,
    session_number: Places,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    words: Words,
    octets: Octets,
    keys: NDArray[np.void],
    tables: Index,
    metas: NDArray[np.void],
) -> None:
    """Fold events into the rows of all scopes of events, one after another.

    Args:
        groups: Parameters of the scopes, (GROUP_ROWS, scopes).
        spec: Parameters of the cells, (SPEC_ROWS, cells).
        take_of: What each cell takes of each number of an action, (numbers, cells).
        counts: Whether any cell of a scope takes something of it, (numbers, scopes).
        weights: Of each number of an action; impressions have one more, and what counts for nothing the last.
        kind: Of each event, (n,).
        folded: False for a duplicate.
        action: Number of its action, -1 = none.
        value: As sent, NaN = was not.
        quantity: The same.
        event_time_ms: Where it belongs.
        log_time_ms: When it was appended.
        user_index: Slot, -1 = none.
        user_hash: 0 = none.
        user_is_new: The slot starts cold at this event.
        session_hash: 0 = none.
        session_number: -1 = none.
        item_index: -1 = none.
        item_hash: Of the id of each item, by index.
        codes: Of the values of its item, -1 = none, (n, columns).
        words: All rows.
        octets: The same memory.
        keys: Of the rows that have some.
        tables: From hash to key, and heads of chains.
        metas: Of the keys of each scope, (scopes,).
    """
    if not counts.any():  # outcomes alone are counted, by the join
        return
    number, most = _numbers(len(weights), kind, folded, action), len(kind) * max(1, codes.shape[1])
    event_of, row_of, is_new = np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(most, np.bool_)
    for g in range(groups.shape[1]):
        group = groups[:, g].copy()
        pairs = place_events(
            group, counts[:, g], number, user_index, user_hash, user_is_new, session_number, item_index, item_hash,
            codes, keys, tables, metas[g : g + 1], event_of, row_of, is_new,
        )  # fmt: skip
        _fold_group(
            group, spec, take_of, pairs, event_of, row_of, is_new, number, weights, value, quantity, event_time_ms,
            log_time_ms, user_hash, session_hash, item_index, item_hash, words, octets,
        )  # fmt: skip


@kernel
def _numbers(count: int, kind: NDArray[np.uint8], folded: Mask, action: NDArray[np.int16]) -> Places:
    """Return the number of each event's action, of so many: that of impressions and of all else are the last two."""
    number = np.empty(len(kind), dtype=np.int64)
    for i in range(len(kind)):
        number[i] = count - 1
        if folded[i] and kind[i] == _INTERACTION and action[i] >= 0:
            number[i] = action[i]
        elif folded[i] and kind[i] == _IMPRESSION:
            number[i] = count - 2
    return number


@kernel
def _fold_group(
    group: Places,
    spec: Places,
    take_of: NDArray[np.uint8],
    pairs: int,
    event_of: Places,
    row_of: Places,
    is_new: Mask,
    number: Places,
    weights: Words,
    value: Words,
    quantity: NDArray[np.float32],
    event_time_ms: Places,
    log_time_ms: Places,
    user_hash: Hashes,
    session_hash: Hashes,
    item_index: Index,
    item_hash: Hashes,
    words: Words,
    octets: Octets,
) -> None:
    """Fold pairs of an event and a row of one scope."""
    base, stride, first, adds, stop = group[BASE], group[STRIDE], group[FIRST], group[ADDS], group[STOP]
    rings = _first_ring(spec, first, adds, stride)
    factors = np.ones(adds - first, dtype=np.float64)
    times = np.zeros((4, adds - first), dtype=np.int64)
    clock = np.zeros(6, dtype=np.int64)
    taken, sums = np.zeros(TAKES + 1, dtype=np.float64), np.zeros(TAKES + 1, dtype=np.float64)
    for j in range(pairs):
        later = base + row_of[min(j + EVENTS_AHEAD, pairs - 1)] * stride
        near = base + row_of[min(j + EVENTS_NEAR, pairs - 1)] * stride
        _ask_for(words, later, later + rings)
        if rings < stride and words[near] < clock[_NEWEST]:  # it begins or moves on
            _ask_for(words, near + rings, near + stride)
        i, at = signed(event_of[j]), signed(base + row_of[j] * stride)
        now, time_ms = signed(log_time_ms[i]), signed(event_time_ms[i])
        if is_new[j] or words[at] == 0.0:
            begin_row(words, at, stride, spec, first, stop)
            words[at] = now
        if now >= clock[_UNTIL]:
            _set_spans(spec, first, adds, now, times, clock)
        if time_ms < clock[_WEIGHT_LOW] or time_ms >= clock[_WEIGHT_HIGH]:
            _set_factors(spec, first, adds, time_ms, times, clock, factors)
        before = signed(words[at])
        if before < clock[_NEWEST]:
            _move_on(words, at, spec, first, before, times)
        words[at] = now
        take = take_of[number[i]]
        set_taken(taken, sums, float(weights[number[i]]), float(value[i]), float(quantity[i]), time_ms)
        is_late = now - time_ms > LATE_MS_MAX
        if clock[_WINDOW_BEGIN] <= time_ms < clock[_WINDOW_END] and not is_late:
            for cell in range(adds - first):
                words[at + 1 + cell] += sums[take[first + cell]] * factors[cell]
        else:
            _add_apart(words, at, spec, first, take, sums, factors, times, time_ms, is_late)
        if is_late:
            continue
        for cell in range(adds, stop):
            if take[cell] == NOTHING:
                continue
            if spec[MODE, cell] == DISTINCT:
                hashed = user_hash[i]
                if spec[OF, cell] == _ITEM:
                    hashed = item_hash[item_index[i]] if item_index[i] >= 0 else np.uint64(0)
                elif spec[OF, cell] == _SESSION:
                    hashed = session_hash[i]
                add_distinct(words, octets, at + spec[PLACE, cell], at + spec[REST, cell], np.uint64(hashed))
            else:
                fold_number(words, at + spec[PLACE, cell], spec[MODE, cell], float(taken[take[cell]]), time_ms)


@kernel
def _first_ring(spec: Places, first: int, adds: int, stride: int) -> int:
    """Return the word of a row at which its rings begin: the last parts; its length when it has none."""
    found = stride
    for cell in range(first, adds):
        found = min(found, spec[REST, cell]) if spec[MODE, cell] == WINDOW else found
    return found


@kernel
def _ask_for(words: Words, start: int, stop: int) -> None:
    """Ask for the words from one to before another."""
    for word in range(start, stop, LINE_BYTES // 8):
        prefetch(words, word, 0)
    prefetch(words, stop - 1, 0)


@kernel
def begin_row(words: Words, at: int, stride: int, spec: Places, first: int, stop: int) -> None:
    """Make a row one into which nothing was folded."""
    words[at : at + stride] = 0.0
    for cell in range(first, stop):
        if MIN <= spec[MODE, cell] <= LAST:
            words[at + spec[PLACE, cell]] = np.nan


@kernel
def _set_spans(spec: Places, first: int, adds: int, now: int, times: Places, clock: Places) -> None:
    """Find the landmark spans and buckets that hold now, and where the next of them ends."""
    clock[_UNTIL], clock[_NEWEST], clock[_WINDOW_BEGIN], clock[_WINDOW_END] = _EVER, 0, -_EVER, _EVER
    for cell in range(adds - first):
        mode = spec[MODE, first + cell]
        if mode in (DECAY, WINDOW):
            if now >= times[_END, cell]:
                length = spec[PERIOD, first + cell]
                if mode == DECAY:
                    length *= LANDMARK_HALF_LIVES
                    times[_LOW, cell] = times[_HIGH, cell] = 0
                    clock[_WEIGHT_HIGH] = 0
                times[_BEGIN, cell] = now // length * length
                times[_END, cell] = times[_BEGIN, cell] + length
            clock[_UNTIL] = min(clock[_UNTIL], times[_END, cell])
            clock[_NEWEST] = max(clock[_NEWEST], times[_BEGIN, cell])
            if mode == WINDOW:
                clock[_WINDOW_BEGIN] = max(clock[_WINDOW_BEGIN], times[_BEGIN, cell])
                clock[_WINDOW_END] = min(clock[_WINDOW_END], times[_END, cell])


@kernel
def _set_factors(
    spec: Places, first: int, adds: int, time_ms: int, times: Places, clock: Places, factors: Words
) -> None:
    """Find the decay weights of an event time, and between which others they hold."""
    clock[_WEIGHT_LOW], clock[_WEIGHT_HIGH] = -_EVER, _EVER
    for cell in range(adds - first):
        if spec[MODE, first + cell] != DECAY:
            continue
        if time_ms < times[_LOW, cell] or time_ms >= times[_HIGH, cell]:
            begin, period = times[_BEGIN, cell], spec[PERIOD, first + cell]
            step = (time_ms - begin) * STEPS // period
            # Rounded up: these are the first whole milliseconds of this step and of the next.
            times[_LOW, cell] = begin - (-step * period >> _STEP_BITS)
            times[_HIGH, cell] = begin - (-(step + 1) * period >> _STEP_BITS)
            factors[cell] = decay_weight(time_ms, begin, period)
        clock[_WEIGHT_LOW] = max(clock[_WEIGHT_LOW], times[_LOW, cell])
        clock[_WEIGHT_HIGH] = min(clock[_WEIGHT_HIGH], times[_HIGH, cell])


@kernel
def _move_on(words: Words, at: int, spec: Places, first: int, before: int, times: Places) -> None:
    """Bring the fading sums and windows of a row from its log time to the spans that hold now."""
    for cell in range(times.shape[1]):
        begin = times[_BEGIN, cell]
        if before >= begin:
            continue
        mode, period = spec[MODE, first + cell], spec[PERIOD, first + cell]
        if mode == DECAY:
            words[at + 1 + cell] *= rebase_factor(landmark_at(before, period), begin, period)
        elif mode == WINDOW:
            advance_window(words, at + 1 + cell, at + spec[REST, first + cell], before // period, begin // period)


@kernel
def set_taken(taken: Words, sums: Words, weight: float, value: float, quantity: float, time_ms: int) -> None:
    """Write what is taken of an event, in the order of ``TakeName``; NaN = it was not sent, of which sums get 0."""
    value = sent(value)
    taken[0], taken[1], taken[2], taken[3] = 1.0, sent(weight), value, value * value
    taken[4], taken[5], taken[6] = sent(quantity), time_ms, 1.0
    if np.isnan(value):
        taken[6] = np.nan
    for take in range(TAKES):
        sums[take] = 0.0 if np.isnan(taken[take]) else taken[take]


@kernel
def sent(number: float) -> float:
    """Return a number as it counts: NaN, as if it had not been sent, where it is larger than ``SENT_MAX``."""
    return number if abs(number) <= SENT_MAX else np.nan


@kernel
def _add_apart(
    words: Words,
    at: int,
    spec: Places,
    first: int,
    take: NDArray[np.uint8],
    sums: Words,
    factors: Words,
    times: Places,
    time_ms: int,
    is_late: bool,  # noqa: FBT001  # kernels have no keywords
) -> None:
    """Add an event that is late, or not in the bucket of now of some window."""
    for cell in range(times.shape[1]):
        mode, added = spec[MODE, first + cell], sums[take[first + cell]]
        if mode == DECAY:
            words[at + 1 + cell] += added * factors[cell]
        elif is_late:
            continue
        elif mode != WINDOW or times[_BEGIN, cell] <= time_ms < times[_END, cell]:
            words[at + 1 + cell] += added
        else:
            period, ring = spec[PERIOD, first + cell], at + spec[REST, first + cell]
            bucket = times[_BEGIN, cell] // period
            if time_ms >= times[_END, cell]:
                add_ahead(words, at + 1 + cell, ring, bucket, float(added))
            else:
                add_late(words, at + 1 + cell, ring, bucket, bucket - time_ms // period, float(added))


@kernel
def fold_number(words: Words, place: int, mode: int, taken: float, time_ms: int) -> None:
    """Fold a number into a cell that is no sum; NaN passes it by."""
    if np.isnan(taken):
        return
    if mode == MIN:
        words[place] = taken if np.isnan(words[place]) else min(words[place], taken)
    elif mode == MAX:
        words[place] = taken if np.isnan(words[place]) else max(words[place], taken)
    elif time_ms >= words[place + 1]:
        words[place] = taken
        words[place + 1] = time_ms
