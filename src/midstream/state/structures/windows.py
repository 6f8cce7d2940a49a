"""Counts of the last hour, day, week and month, exact to a bucket of 5 minutes, an hour or a day.

One row of cells holds three rings of buckets for one item and one action. The ring of a width has one bucket
more than the longest window that is read from it, because an event may be up to 5 minutes ahead of log time and
so lie in the bucket that has not begun. Expiry is lazy: a row that gets an event first empties the buckets that
log time has passed since the row's last event, and a reader leaves out what is older than its window. So a quiet
item costs nothing as time goes by, and nothing depends on how the log is cut.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.durations import format_duration
from midstream.core.errors import NotFound
from midstream.core.types import Index
from midstream.state.structures.kernel import kernel

_MINUTE = 60_000
_HOUR = 3_600_000
_DAY = 86_400_000
BUCKET_MS = (5 * _MINUTE, _HOUR, _DAY)
"""Width of the buckets of each ring."""
BUCKETS = (13, 25, 31)
"""Buckets of each ring: 1 h, 24 h and 30 d, and the one that has not begun."""
STARTS = (0, 13, 38)
"""First cell of each ring."""
HEADS_START = 69
"""Cell of the first ring's head: 1 + the bucket of the log time of the row's last event = the newest bucket held."""
ROW_CELLS = 72
"""Cells of a row: 288 bytes as uint32. Bucket numbers of 5 min fit in uint32 for 40,000 years."""
LATE_MS_MAX = _DAY
"""An event further behind its log time than this enters no window."""
WINDOWS_MS = (_HOUR, _DAY, 7 * _DAY, 30 * _DAY)
"""The windows that can be read."""
_WINDOW_RINGS = (0, 1, 2, 2)
_WINDOW_BUCKETS = (12, 24, 7, 30)

Cells = NDArray[np.uint32]
Counts = NDArray[np.float64]


@kernel
def count_in_ring(
    cells: Cells, start: int, size: int, head_cell: int, width_ms: int, event_time_ms: int, log_time_ms: int
) -> None:
    """Count one event in one ring, if the ring still holds its bucket."""
    head = log_time_ms // width_ms + 1
    held = int(cells[head_cell])
    if head > held:
        for bucket in range(max(held + 1, head - size + 1), head + 1):
            cells[start + bucket % size] = 0
        cells[head_cell] = head
    bucket = event_time_ms // width_ms
    if bucket > head - size:
        cells[start + bucket % size] += 1


@kernel
def count_in_windows(cells: Cells, event_time_ms: int, log_time_ms: int) -> None:
    """Count one event in a row of cells, shape (ROW_CELLS,).

    The event goes to the bucket of its event time, in every ring that still holds it. Event time is at most 5 min
    ahead of log time. Log time never goes back from one call to the next.
    """
    if log_time_ms - event_time_ms <= LATE_MS_MAX:
        # Three calls and no loop: a division by a constant costs a tenth of another.
        count_in_ring(cells, STARTS[0], BUCKETS[0], HEADS_START, BUCKET_MS[0], event_time_ms, log_time_ms)
        count_in_ring(cells, STARTS[1], BUCKETS[1], HEADS_START + 1, BUCKET_MS[1], event_time_ms, log_time_ms)
        count_in_ring(cells, STARTS[2], BUCKETS[2], HEADS_START + 2, BUCKET_MS[2], event_time_ms, log_time_ms)


@kernel
def sum_windows(
    cells: Cells, row: int, item_index: Index, ring: int, buckets: int, now_ms: int, counts: Counts
) -> None:
    """Write the count in the last ``buckets`` buckets of one row of each item to ``counts``, NaN for item -1.

    The bucket that ``now_ms`` lies in is the last of them; what is ahead of it is counted too.
    """
    size = BUCKETS[ring]
    start = STARTS[ring]
    first = now_ms // BUCKET_MS[ring] - buckets + 1
    for index in range(len(item_index)):
        item = int(item_index[index])
        if item < 0:
            counts[index] = np.nan
            continue
        head = int(cells[item, row, HEADS_START + ring])
        total = 0
        for bucket in range(max(first, head - size + 1, 0), head + 1):
            total += int(cells[item, row, start + bucket % size])
        counts[index] = total


def count_window(cells: Cells, row: int, item_index: Index, window_ms: int, now_ms: int) -> Counts:
    """Return the number of events of each item in a window that ends now, shape (n,), NaN for item -1.

    Args:
        cells: The cells of all items and actions, shape (items, rows, ROW_CELLS).
        row: The action.
        item_index: Items, shape (n,).
        window_ms: One of ``WINDOWS_MS``.
        now_ms: Usually log time or later; with an earlier one, what lies ahead of it is counted too.

    Raises:
        NotFound: There is no such window.
    """
    if window_ms not in WINDOWS_MS:
        kept = ", ".join(map(format_duration, WINDOWS_MS))
        raise NotFound(f"a window of {format_duration(window_ms)} is not kept; these are: {kept}")
    which = WINDOWS_MS.index(window_ms)
    counts = np.zeros(len(item_index), dtype=np.float64)
    sum_windows(cells, row, item_index, _WINDOW_RINGS[which], _WINDOW_BUCKETS[which], now_ms, counts)
    return counts
