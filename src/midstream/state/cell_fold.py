"""The kernels of the cells: one folds events into the rows of a scope, one reads cells as of a time.

A row is a line of float64. Its first word is the log time of the last event that was folded into it, 0 = none was; then
come the words of each cell. Eight words of a distinct count are 64 registers of a byte each, through the same memory as
uint8. Parameters of the cells stand in columns, ``spec``, so that any program is run by the same machine code.

Fading sums are forward-decayed to a landmark that a row brings up to date by itself when it is next written: what moves
it is an exact power of two, so it does not matter when that is.

Reference: P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, HyperLogLog: the analysis of a near-optimal cardinality
estimation algorithm, AofA 2007.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.state.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at, rebase_factor
from midstream.state.kernel import kernel, signed
from midstream.state.logarithm import log2_of
from midstream.state.prefetch import AHEAD, LINE_BYTES, prefetch

SUM: Final = 0
DECAY: Final = 1
WINDOW: Final = 2
MIN: Final = 3
MAX: Final = 4
LAST: Final = 5
DISTINCT: Final = 6
ONE: Final = 0
WEIGHT: Final = 1
VALUE: Final = 2
SQUARED: Final = 3
QUANTITY: Final = 4
TIME: Final = 5
HAS_VALUE: Final = 6
BUCKETS: Final = 12
"""Of a window: what it holds is exact to a twelfth."""
RING: Final = BUCKETS + 1
"""Buckets kept: an event may be ahead of log time, in the bucket that has not begun."""
REGISTERS: Final = 64
"""Of a distinct count: the standard error is 1.04 / 8 = 13 %, less while there are few."""
WORDS: Final = (1, 1, RING + 1, 1, 1, 2, REGISTERS // 8)
"""Of a cell in a row, by its mode."""
LATE_MS_MAX: Final = 86_400_000
"""An event further behind its log time feeds fading sums only."""
ACTIONS, MODE, TAKE, PLACE, PERIOD, OF = 0, 1, 2, 3, 4, 5
"""Rows of ``spec``: bits of the actions, mode, what is taken, first word, half-life or width of a bucket in
milliseconds, what is counted (0 user, 1 item, 2 session)."""
SPEC_ROWS: Final = 6
_ALPHA: Final = 0.709
_FEW: Final = 2.5
_LN2: Final = 0.6931471805599453
_NONE = np.uint64(0)
_RANK_MAX: Final = 58

Rows = NDArray[np.float64]
Octets = NDArray[np.uint8]
Spec = NDArray[np.int64]


@kernel
def fold_cells(
    event_of: NDArray[np.int64],
    row_of: NDArray[np.int64],
    is_new: Mask,
    bit: NDArray[np.int64],
    weight: NDArray[np.float64],
    value: NDArray[np.float64],
    quantity: NDArray[np.float32],
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    spec: Spec,
    fresh: Rows,
    rows: Rows,
    octets: Octets,
) -> None:
    """Fold events into the rows of one scope, one after another.

    Args:
        event_of: Place of the event of each pair of an event and a row, rising, (m,).
        row_of: Its row, (m,).
        is_new: The row starts cold, (m,).
        bit: 1 << number of the action of each event, one more for impressions, 0 = counts for nothing, (n,).
        weight: Of its action.
        value: As sent, NaN = was not.
        quantity: The same.
        event_time_ms: Where it belongs.
        log_time_ms: When it was appended.
        hashes: Of its user, item and session, (3, n).
        spec: Parameters of the cells, (SPEC_ROWS, cells).
        fresh: A row into which nothing was folded, (1, words).
        rows: Of the scope, (capacity, words).
        octets: The same memory, (capacity, 8 * words).
    """
    # Log time never goes back, so what depends on it and a period alone is found anew a few times a batch at most:
    # divisions would take most of the time.
    begins, ends = np.zeros(spec.shape[1], dtype=np.int64), np.zeros(spec.shape[1], dtype=np.int64)
    for j in range(len(event_of)):
        _ask_for(row_of[min(j + AHEAD, len(row_of) - 1)], rows)
        i, row = signed(event_of[j]), signed(row_of[j])
        now, time_ms = signed(log_time_ms[i]), signed(event_time_ms[i])
        if is_new[j] or rows[row, 0] == 0.0:
            rows[row] = fresh[0]
            rows[row, 0] = now
        before = signed(rows[row, 0])
        is_late = now - time_ms > LATE_MS_MAX
        for cell in range(spec.shape[1]):
            mode, place, period = signed(spec[MODE, cell]), signed(spec[PLACE, cell]), signed(spec[PERIOD, cell])
            if mode in (DECAY, WINDOW) and now >= ends[cell]:
                length = period * LANDMARK_HALF_LIVES if mode == DECAY else period
                begins[cell] = now // length * length
                ends[cell] = begins[cell] + length
            begin = signed(begins[cell])
            if mode == DECAY and before < begin:
                rows[row, place] *= rebase_factor(landmark_at(before, period), begin, period)
            if spec[ACTIONS, cell] & bit[i] == 0 or (is_late and mode != DECAY):
                continue
            if mode == DISTINCT:
                add_distinct(octets[row], 8 * place, np.uint64(hashes[spec[OF, cell], i]))
                continue
            taken = taken_of(signed(spec[TAKE, cell]), float(weight[i]), float(value[i]), float(quantity[i]), time_ms)
            if np.isnan(taken):
                continue
            add_number(rows[row], mode, place, period, taken, time_ms, begin)
        rows[row, 0] = now


@kernel
def _ask_for(row: int, rows: Rows) -> None:
    """Ask for all of a row."""
    for start in range(0, rows.strides[0], LINE_BYTES):
        prefetch(rows, signed(row), start)


@kernel
def add_number(row: Rows, mode: int, place: int, period: int, taken: float, time_ms: int, begin_ms: int) -> None:
    """Fold a number into a cell: ``begin_ms`` is its landmark where it fades, in a window where now's bucket begins."""
    if mode == DECAY:
        row[place] += taken * decay_weight(time_ms, begin_ms, period)
    elif mode == WINDOW:
        add_to_window(row, place, period, taken, time_ms, begin_ms)
    elif mode == SUM:
        row[place] += taken
    elif mode == MIN:
        row[place] = taken if np.isnan(row[place]) else min(row[place], taken)
    elif mode == MAX:
        row[place] = taken if np.isnan(row[place]) else max(row[place], taken)
    elif time_ms >= row[place + 1]:
        row[place] = taken
        row[place + 1] = time_ms


@kernel
def taken_of(take: int, weight: float, value: float, quantity: float, time_ms: int) -> float:
    """Return what is taken of an event; NaN = it was not sent."""
    found = 1.0
    if take == WEIGHT:
        found = weight
    elif take == VALUE:
        found = value
    elif take == SQUARED:
        found = value * value
    elif take == QUANTITY:
        found = quantity
    elif take == TIME:
        found = float(time_ms)
    elif take == HAS_VALUE and np.isnan(value):
        found = np.nan
    return found


@kernel
def add_to_window(row: Rows, place: int, width_ms: int, taken: float, event_time_ms: int, begin_ms: int) -> None:
    """Add to the bucket of an event's time, if it is held; first empty those that log time has passed since.

    ``begin_ms`` is where the bucket of now begins.
    """
    head = begin_ms // width_ms + 1
    held = signed(row[place + RING])
    if head > held:
        for bucket in range(max(held + 1, head - RING + 1), head + 1):
            row[place + bucket % RING] = 0.0
        row[place + RING] = head
    bucket = head - 1
    if event_time_ms >= begin_ms + width_ms:
        bucket = head
    elif event_time_ms < begin_ms:
        bucket = event_time_ms // width_ms
    if bucket > head - RING:
        row[place + bucket % RING] += taken


@kernel
def add_distinct(octets: Octets, place: int, hashed: np.uint64) -> None:
    """Note one of what is counted: the register that its last bits name holds the longest run of zeros before them."""
    if hashed == _NONE:
        return
    register = signed(hashed & np.uint64(REGISTERS - 1))
    rest = hashed >> np.uint64(6)
    rank = 1
    while rank <= _RANK_MAX and rest & np.uint64(1) == _NONE:
        rest >>= np.uint64(1)
        rank += 1
    octets[place + register] = max(octets[place + register], np.uint8(rank))


@kernel
def distinct_of(octets: Octets, place: int) -> float:
    """Return about how many different ones were noted."""
    total = 0.0
    empty = 0
    for register in range(REGISTERS):
        rank = signed(octets[place + register])
        empty += rank == 0
        total += 1.0 / np.float64(1 << rank)
    found = _ALPHA * REGISTERS * REGISTERS / total
    if found <= _FEW * REGISTERS and empty > 0:
        return REGISTERS * _LN2 * log2_of(REGISTERS / empty)
    return found


@kernel
def read_cells(
    row_of: NDArray[np.int64],
    known: Mask,
    now_ms: int,
    spec: Spec,
    wanted: Index,
    rows: Rows,
    octets: Octets,
    found: Rows,
) -> None:
    """Write values of cells as of a time. Nothing is changed.

    Args:
        row_of: Row of each key, -1 = none, (n,).
        known: The key is one of something that is known, (n,): then what was never counted is 0, else NaN.
        now_ms: What fades has faded until then, and windows end then.
        spec: Of all cells of the scope.
        wanted: Numbers of those that are read, (c,).
        rows: Of the scope.
        octets: The same memory.
        found: For the values, (c, n).
    """
    for k in range(len(row_of)):
        if row_of[k] >= 0:
            _ask_for(row_of[k], rows)
    for c in range(len(wanted)):
        cell = signed(wanted[c])
        mode, place, period = signed(spec[MODE, cell]), signed(spec[PLACE, cell]), signed(spec[PERIOD, cell])
        begin, factor = 0, 1.0
        if mode == DECAY:
            begin = landmark_at(now_ms, period)
            factor = decay_weight(begin, now_ms, period)
        elif mode == WINDOW:
            begin = now_ms // period - BUCKETS + 1
        for k in range(len(row_of)):
            row = signed(row_of[k])
            if row < 0 or rows[row, 0] == 0.0:
                is_sum = mode <= WINDOW or mode == DISTINCT
                found[c, k] = 0.0 if known[k] and is_sum else np.nan
            elif mode == DECAY and rows[row, 0] < begin:
                landmark = landmark_at(signed(rows[row, 0]), period)
                found[c, k] = rows[row, place] * decay_weight(landmark, now_ms, period)
            elif mode == DECAY:
                found[c, k] = rows[row, place] * factor
            elif mode == WINDOW:
                found[c, k] = window_from(rows[row], place, begin)
            elif mode == DISTINCT:
                found[c, k] = distinct_of(octets[row], 8 * place)
            else:
                found[c, k] = rows[row, place]


@kernel
def window_from(row: Rows, place: int, first: int) -> float:
    """Return the sum of the buckets from one on, and of what is ahead of now."""
    head = signed(row[place + RING])
    bucket = max(first, head - RING + 1, 0)
    at = bucket % RING
    total = 0.0
    while bucket <= head:
        total += row[place + at]
        at = at + 1 if at + 1 < RING else 0
        bucket += 1
    return total


@kernel
def add_rows(into: int, other: int, spec: Spec, rows: Rows, octets: Octets) -> None:
    """Add what was folded into one row to another, as if both had been one; the first is as new as the newer."""
    if rows[other, 0] == 0.0:
        return
    if rows[into, 0] == 0.0:
        rows[into] = rows[other]
        return
    now = signed(max(rows[into, 0], rows[other, 0]))
    for cell in range(spec.shape[1]):
        mode, place, period = spec[MODE, cell], spec[PLACE, cell], spec[PERIOD, cell]
        if mode == SUM:
            rows[into, place] += rows[other, place]
        elif mode == DECAY:
            landmark = landmark_at(now, period)
            mine = rows[into, place] * rebase_factor(landmark_at(signed(rows[into, 0]), period), landmark, period)
            theirs = rows[other, place] * rebase_factor(landmark_at(signed(rows[other, 0]), period), landmark, period)
            rows[into, place] = mine + theirs
        elif mode == WINDOW:
            _add_windows(rows[into], rows[other], place)
        elif mode == MIN:
            if np.isnan(rows[into, place]) or rows[other, place] < rows[into, place]:
                rows[into, place] = rows[other, place]
        elif mode == MAX:
            if np.isnan(rows[into, place]) or rows[other, place] > rows[into, place]:
                rows[into, place] = rows[other, place]
        elif mode == LAST:
            if rows[other, place + 1] > rows[into, place + 1]:
                rows[into, place] = rows[other, place]
                rows[into, place + 1] = rows[other, place + 1]
        else:
            for register in range(8 * place, 8 * place + REGISTERS):
                octets[into, register] = max(octets[into, register], octets[other, register])
    rows[into, 0] = now


@kernel
def _add_windows(into: Rows, other: Rows, place: int) -> None:
    """Add the buckets of one window that another's ring still holds, and bring that up to the newer of both."""
    head, theirs = signed(into[place + RING]), signed(other[place + RING])
    if theirs > head:
        for bucket in range(max(head + 1, theirs - RING + 1), theirs + 1):
            into[place + bucket % RING] = 0.0
        into[place + RING] = theirs
        head = theirs
    for bucket in range(max(head - RING + 1, theirs - RING + 1, 0), theirs + 1):
        into[place + bucket % RING] += other[place + bucket % RING]
