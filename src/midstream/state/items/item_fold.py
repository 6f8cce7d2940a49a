"""The kernels of the items table: one call folds the interactions and impressions of a batch.

Rows are actions: row a is the configured interaction a, the last row is the impressions. Everything is added to one
event at a time in log order.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Index, Mask
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at, rebase_factor
from midstream.state.structures.hot_lists import rescale_heat
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import block_ahead, prefetch
from midstream.state.structures.top_list import bar_of, raise_item, settle_items
from midstream.state.structures.windows import CELL, HEADS_START, Cells, count_in_windows

_INTERACTION = int(Kind.INTERACTION)
_IMPRESSION = int(Kind.IMPRESSION)
_ITEM = int(Kind.ITEM)
UNSEEN: Final = 0
CLICKED: Final = 1
"""Known from interactions alone."""
CATALOGUED: Final = 2
COUNT: Final = 0
"""Cell of the clock: 1 + the highest item index that an event named."""
LOG_TIME: Final = 1
"""Cell of the clock: log time of the last event."""
SETTLED_MIN: Final = 256
"""Events of a batch whose hot lists are brought in line once, at its end: for fewer, event by event takes less."""
RISEN_MAX: Final = 16_384
"""Rises of items outside a hot list after which it is brought in line: more than ten runs of events have."""
LANDMARKS_START: Final = 2
"""Cell of the clock: the landmark of the first half-life, the others after it."""

Columns = NDArray[np.float64]


class ItemCountRows(NamedTuple):
    """Arrays of the items table that interactions and impressions change, and its options."""

    weights: Columns
    half_lives: NDArray[np.int64]
    accepts: bool
    clock: NDArray[np.int64]
    counters: Columns
    windows: Cells
    status: NDArray[np.uint8]
    available: Mask
    heat: Columns
    list_values: Columns
    list_items: Index
    list_states: NDArray[np.int64]
    risen: NDArray[np.int64]
    """How many items of ``touched`` each list has to be brought in line with, and last whether any has to be at all:
    it is once the last run of a batch is folded, so this is no part of the state."""
    touched: Index
    spans: NDArray[np.int64]
    """Of the windows, for ``count_in_windows``."""


@kernel
def move_landmarks(
    half_lives: NDArray[np.int64],
    clock: NDArray[np.int64],
    counters: Columns,
    available: Mask,
    heat: Columns,
    list_values: Columns,
    list_items: Index,
    list_states: NDArray[np.int64],
    item_hash: NDArray[np.uint64],
    risen: NDArray[np.int64],
) -> None:
    """Move every landmark that log time has passed on to the next, and all sums with it.

    The lists of one that moves are built anew, with what rose and waits to be settled: it need not be any more, and
    ``risen``, how many do by list, is set to 0.
    """
    count = clock[COUNT]
    for h in range(len(half_lives)):
        if clock[LOG_TIME] - clock[LANDMARKS_START + h] >= half_lives[h] * LANDMARK_HALF_LIVES:
            landmark = landmark_at(clock[LOG_TIME], half_lives[h])
            factor = rebase_factor(clock[LANDMARKS_START + h], landmark, half_lives[h])
            clock[LANDMARKS_START + h] = landmark
            risen[h] = 0
            counters[:count, h] *= factor
            rescale_heat(factor, count, heat[h], available, list_values[h], list_items[h], list_states[h], item_hash)


@kernel
def fold_events(
    kind: NDArray[np.uint8],
    action: NDArray[np.int16],
    folded: Mask,
    item_index: Index,
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    weights: Columns,
    half_lives: NDArray[np.int64],
    accepts: bool,  # noqa: FBT001  # a kernel has no keyword arguments
    clock: NDArray[np.int64],
    counters: Columns,
    windows: Cells,
    status: NDArray[np.uint8],
    available: Mask,
    heat: Columns,
    list_values: Columns,
    list_items: Index,
    list_states: NDArray[np.int64],
    risen: NDArray[np.int64],
    touched: Index,
    spans: NDArray[np.int64],
    item_hash: NDArray[np.uint64],
    is_last: bool,  # noqa: FBT001  # as above
) -> None:
    """Fold the interactions and impressions of a batch.

    Shapes, with i items, r rows, h half-lives: counters (i, h, r), windows (r, i, ROW_CELLS), heat (h, i),
    lists (h, capacity), list states (h, 2). Every other event, and a copy that is passed by, moves the clock alone.
    Hot lists are in line after the run that ``is_last`` of a batch.
    """
    impressions, lists, item_hash = len(weights), len(half_lives), borrowed(item_hash)
    clock, counters, windows, status, available = borrowed((clock, counters, windows, status, available))
    heat, list_values, list_items, list_states = borrowed((heat, list_values, list_items, list_states))
    risen, touched, spans = borrowed((risen, touched, spans))
    settles = len(kind) >= SETTLED_MIN or not is_last or risen[lists] > 0
    risen[lists] = settles and not is_last
    bars = np.empty(lists, dtype=np.float64)
    due = _next_landmark(half_lives, clock, list_values, list_states, bars)
    for event in range(len(kind)):
        _look_ahead(event, item_index, action, spans, counters, windows, heat, available)
        now = log_time_ms[event]
        clock[LOG_TIME] = max(clock[LOG_TIME], now)
        if now >= due and now == clock[LOG_TIME]:
            move_landmarks(
                half_lives, clock, counters, available, heat, list_values, list_items, list_states, item_hash, risen
            )
            due = _next_landmark(half_lives, clock, list_values, list_states, bars)
        item = item_index[event]
        row = _row_of(kind[event], action[event], impressions)
        if item < 0 or not folded[event] or (row < 0 and kind[event] != _ITEM):
            continue
        clock[COUNT] = max(clock[COUNT], item + 1)
        if row < 0:
            continue
        if row < impressions and status[item] == UNSEEN:
            status[item], available[item] = CLICKED, accepts
        count_in_windows(windows[row, item], spans, event_time_ms[event], now)
        for h in range(lists):
            weight = decay_weight(event_time_ms[event], clock[LANDMARKS_START + h], half_lives[h])
            counters[item, h, row] += weight
            if row < impressions and weights[row] > 0.0:
                old, new = heat[h, item], heat[h, item] + weights[row] * weight
                heat[h, item] = new
                if settles and available[item] and old <= bars[h] <= new and new != old:
                    _note_risen(h, item, bars, heat, list_values, list_items, list_states, risen, touched, item_hash)
                elif not settles and available[item]:
                    raise_item(list_values[h], list_items[h], list_states[h], item, old, new, item_hash)
    for h in range(lists if settles and is_last else 0):
        _settle(h, heat, list_values, list_items, list_states, risen, touched, item_hash)


@inlined
def _row_of(kind: np.uint8, action: np.int16, impressions: int) -> int:
    """Return the row in which an event is counted, -1 = in none."""
    row = np.int64(impressions) if kind == _IMPRESSION else np.int64(-1)
    return int(np.int64(action) if kind == _INTERACTION else row)


@inlined
def _note_risen(
    h: int,
    item: int,
    bars: Columns,
    heat: Columns,
    list_values: Columns,
    list_items: Index,
    list_states: NDArray[np.int64],
    risen: NDArray[np.int64],
    touched: Index,
    item_hash: NDArray[np.uint64],
) -> None:
    """Note an item that rose to a list's bar; where there is room for no more, bring the list in line, and its bar."""
    touched[h, risen[h]] = item
    risen[h] += 1
    if risen[h] == touched.shape[1]:
        _settle(h, heat, list_values, list_items, list_states, risen, touched, item_hash)
        bars[h] = bar_of(list_values[h], list_states[h])


@kernel
def _settle(
    h: int,
    heat: Columns,
    list_values: Columns,
    list_items: Index,
    list_states: NDArray[np.int64],
    risen: NDArray[np.int64],
    touched: Index,
    item_hash: NDArray[np.uint64],
) -> None:
    """Bring the hot list of a half-life in line with what rose."""
    settle_items(list_values[h], list_items[h], list_states[h], heat[h], touched[h], risen[h], item_hash)
    risen[h] = 0


@inlined
def _next_landmark(
    half_lives: NDArray[np.int64],
    clock: NDArray[np.int64],
    list_values: Columns,
    list_states: NDArray[np.int64],
    bars: Columns,
) -> int:
    """Return the log time from which on a landmark has to move; write the bar of each list as it is until then."""
    due = np.int64(2**62)
    for h in range(len(half_lives)):
        bars[h] = bar_of(list_values[h], list_states[h])
        due = min(due, clock[LANDMARKS_START + h] + half_lives[h] * LANDMARK_HALF_LIVES)
    return int(due)


@inlined
def _look_ahead(
    event: int,
    item_index: Index,
    action: NDArray[np.int16],
    spans: NDArray[np.int64],
    counters: Columns,
    windows: Cells,
    heat: Columns,
    available: Mask,
) -> None:
    """Ask for what later events are counted in, as if in the buckets of this one; without an action: an impression."""
    start, stop = block_ahead(event, len(item_index), 1)
    size = windows.itemsize
    for i in range(start, stop):
        item = max(signed(item_index[i]), 0)
        row = signed(action[i]) if action[i] >= 0 else counters.shape[2] - 1
        cells = item * windows.strides[1]
        prefetch(windows, row, cells + HEADS_START * size)
        prefetch(windows, row, cells + max(spans[0, CELL], 0) * size)
        prefetch(windows, row, cells + max(spans[1, CELL], 0) * size)
        prefetch(windows, row, cells + max(spans[2, CELL], 0) * size)
        for h in range(len(heat)):
            prefetch(counters, item, h * counters.strides[1] + row * counters.itemsize)
            prefetch(heat, h, item * heat.itemsize)
        prefetch(available, item, 0)


@kernel
def read_decayed(
    counters: Columns, h: int, row: int, item_index: Index, factor: float, counts: NDArray[np.float64]
) -> None:
    """Write one counter of each item times ``factor`` to ``counts``, NaN for item -1."""
    for index in range(len(item_index)):
        item = item_index[index]
        counts[index] = counters[item, h, row] * factor if item >= 0 else np.nan
