"""Counts of the last hour, day, week and month, exact to a bucket of 5 minutes, an hour or a day.

One row of cells holds three rings of buckets for one item and one action. The ring of a width has one bucket
more than the longest window that is read from it, because an event may be up to 5 minutes ahead of log time and
so lie in the bucket that has not begun. Expiry is lazy: a row that gets an event first empties the buckets that
log time has passed since the row's last event, and a reader leaves out what is older than its window. So a quiet
item costs nothing as time goes by, and nothing depends on how the log is cut.

The rows of all items for one action lie together: an action that nobody does takes no page.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.durations import format_duration
from midstream.core.errors import NotFound
from midstream.core.types import Index
from midstream.state.structures.kernel import inlined, kernel

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
_NOW, _HEAD, _THEN, _BUCKET, CELL = range(5)
"""Of a ring's span: where the bucket of a log time begins, and the head that it makes; where the bucket of an event
time begins, its number and its cell in a row."""
_SPAN = 5
_WINDOW_RINGS = (0, 1, 2, 2)
_WINDOW_BUCKETS = (12, 24, 7, 30)

_LOOKED_AT = 4_096
"""Items, the first that came, that show which actions are counted at all."""

Cells = NDArray[np.uint32]
Counts = NDArray[np.float64]


def no_spans() -> NDArray[np.int64]:
    """Return spans that hold no time."""
    return np.full((len(BUCKETS), _SPAN), -(1 << 62), dtype=np.int64)


@inlined
def count_in_ring(
    cells: Cells, spans: NDArray[np.int64], ring: int, width_ms: int, event_time_ms: int, log_time_ms: int
) -> None:
    """Count one event in one ring, if the ring still holds its bucket."""
    start, size, head_cell = STARTS[ring], BUCKETS[ring], HEADS_START + ring
    if not 0 <= log_time_ms - spans[ring, _NOW] < width_ms:
        spans[ring, _NOW] = log_time_ms // width_ms * width_ms
        spans[ring, _HEAD] = log_time_ms // width_ms + 1
    head = spans[ring, _HEAD]
    held = int(cells[head_cell])
    if head > held:
        for bucket in range(max(held + 1, head - size + 1), head + 1):
            cells[start + bucket % size] = 0
        cells[head_cell] = head
    if not 0 <= event_time_ms - spans[ring, _THEN] < width_ms:
        bucket = event_time_ms // width_ms
        spans[ring, _THEN] = bucket * width_ms
        spans[ring, _BUCKET] = bucket
        spans[ring, CELL] = start + bucket % size
    if spans[ring, _BUCKET] > head - size:
        cells[spans[ring, CELL]] += 1


@inlined
def count_in_windows(cells: Cells, spans: NDArray[np.int64], event_time_ms: int, log_time_ms: int) -> None:
    """Count one event in a row of cells, shape (ROW_CELLS,).

    The event goes to the bucket of its event time, in every ring that still holds it. Event time is at most 5 min
    ahead of log time. Log time never goes back from one call to the next.

    Args:
        cells: The row.
        spans: Of the event before, of whatever row, ``no_spans`` at first: most events lie in the same buckets.
        event_time_ms: Where it belongs.
        log_time_ms: When it was appended.
    """
    if log_time_ms - event_time_ms <= LATE_MS_MAX:
        # Three calls and no loop: a division by a constant costs a tenth of another.
        count_in_ring(cells, spans, 0, BUCKET_MS[0], event_time_ms, log_time_ms)
        count_in_ring(cells, spans, 1, BUCKET_MS[1], event_time_ms, log_time_ms)
        count_in_ring(cells, spans, 2, BUCKET_MS[2], event_time_ms, log_time_ms)


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
        head = int(cells[row, item, HEADS_START + ring])
        total = 0
        for bucket in range(max(first, head - size + 1, 0), head + 1):
            total += int(cells[row, item, start + bucket % size])
        counts[index] = total


def count_window(cells: Cells, row: int, item_index: Index, window_ms: int, now_ms: int) -> Counts:
    """Return the number of events of each item in a window that ends now, shape (n,), NaN for item -1.

    Args:
        cells: The cells of all items and actions, shape (rows, items, ROW_CELLS).
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


def row_place(numbers: NDArray[np.integer], cells: Cells) -> tuple[Index, Index]:
    """Return action and item of the rows of numbers, which count action by action of an item, and item by item.

    Args:
        numbers: Below items * actions, shape (n,).
        cells: Shape (rows, items, ROW_CELLS).
    """
    item, action = np.divmod(numbers.astype(np.int64), len(cells))
    return action.astype(np.int32), item.astype(np.int32)


def unused_bytes(cells: Cells) -> int:
    """Return the bytes of the actions that none of the first items has seen, about what takes no page."""
    used = int(np.count_nonzero(cells[:, :_LOOKED_AT, -1].any(axis=1)))
    return cells.nbytes // len(cells) * (len(cells) - used)
