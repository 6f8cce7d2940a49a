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
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.prefetch import AHEAD, LINE_BYTES, prefetch
from midstream.state.structures.top_list import raise_item, settle_items
from midstream.state.structures.windows import Cells, count_in_windows

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
    item_hash: NDArray[np.uint64],
) -> None:
    """Fold the interactions and impressions of a batch.

    Shapes, with i items, r rows, h half-lives: counters (i, h, r), windows (i, r, ROW_CELLS), heat (h, i),
    lists (h, capacity), list states (h, 2). Every other event, and a copy that is passed by, moves the clock alone.
    """
    impressions, item_hash = len(weights), borrowed(item_hash)
    clock, counters, windows, status, available = borrowed((clock, counters, windows, status, available))
    heat, list_values, list_items, list_states = borrowed((heat, list_values, list_items, list_states))
    settles = len(kind) >= SETTLED_MIN
    touched = np.empty((len(half_lives), len(kind) if settles else 0), dtype=np.int32)
    risen = np.zeros(len(half_lives), dtype=np.int64)
    for event in range(len(kind)):
        ahead = min(event + AHEAD, len(kind) - 1)
        if item_index[ahead] >= 0:
            _look_ahead(item_index[ahead], action[ahead], counters, windows, heat, available)
        now = log_time_ms[event]
        if now > clock[LOG_TIME]:
            clock[LOG_TIME] = now
            move_landmarks(
                half_lives, clock, counters, available, heat, list_values, list_items, list_states, item_hash, risen
            )
        item = item_index[event]
        if item < 0 or not folded[event]:
            continue
        row = np.int64(impressions) if kind[event] == _IMPRESSION else np.int64(-1)
        row = np.int64(action[event]) if kind[event] == _INTERACTION else row
        if row < 0 and kind[event] != _ITEM:
            continue
        clock[COUNT] = max(clock[COUNT], item + 1)
        if row < 0:
            continue
        if row < impressions and status[item] == UNSEEN:
            status[item] = CLICKED
            available[item] = accepts
        count_in_windows(windows[item, row], event_time_ms[event], now)
        for h in range(len(half_lives)):
            weight = decay_weight(event_time_ms[event], clock[LANDMARKS_START + h], half_lives[h])
            counters[item, h, row] += weight
            if row < impressions and weights[row] > 0.0:
                old = heat[h, item]
                new = old + weights[row] * weight
                heat[h, item] = new
                if available[item] and settles and new != old:
                    touched[h, risen[h]] = item
                    risen[h] += 1
                elif available[item] and not settles:
                    raise_item(list_values[h], list_items[h], list_states[h], item, old, new, item_hash)
    for h in range(len(half_lives) if settles else 0):
        settle_items(list_values[h], list_items[h], list_states[h], heat[h], touched[h], risen[h], item_hash)


@kernel
def _look_ahead(item: int, action: int, counters: Columns, windows: Cells, heat: Columns, available: Mask) -> None:
    """Ask for what an event of an item is counted in; without an action it may be an impression."""
    place, row = signed(item), signed(action) if action >= 0 else counters.shape[2] - 1
    for start in range(0, counters.strides[0], LINE_BYTES):
        prefetch(counters, place, start)
    for start in range(0, windows.strides[1], LINE_BYTES):
        prefetch(windows, place, row * windows.strides[1] + start)
    for h in range(len(heat)):
        prefetch(heat, h, place * heat.itemsize)
    prefetch(available, place, 0)


@kernel
def read_decayed(
    counters: Columns, h: int, row: int, item_index: Index, factor: float, counts: NDArray[np.float64]
) -> None:
    """Write one counter of each item times ``factor`` to ``counts``, NaN for item -1."""
    for index in range(len(item_index)):
        item = item_index[index]
        counts[index] = counters[item, h, row] * factor if item >= 0 else np.nan
