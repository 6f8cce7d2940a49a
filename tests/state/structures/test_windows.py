"""Windows against plain counting of the events in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import NotFound
from midstream.state.structures.windows import (
    LATE_MS_MAX,
    ROW_CELLS,
    WINDOWS_MS,
    count_in_windows,
    count_window,
    no_spans,
)

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WIDTHS = {HOUR: 5 * MINUTE, DAY: HOUR, 7 * DAY: DAY, 30 * DAY: DAY}
START = 1_700_000_000_000
ONE = np.zeros(1, dtype=np.int32)

# Times at and near the edges of buckets of one width, about as many as a ring has, so that buckets come round again.
EVENTS = st.sampled_from(tuple(WIDTHS.values())).flatmap(
    lambda width: st.lists(
        st.tuples(
            st.one_of(st.integers(0, 16).map(lambda count: count * width), st.integers(0, 3 * width)),
            st.one_of(
                st.sampled_from((0, 0, 0, -5 * MINUTE, DAY, DAY + 1)),
                st.integers(0, 14).map(lambda count: count * width),
                st.integers(-5 * MINUTE, 2 * DAY),
            ),
        ),
        max_size=40,
    )
)
LATER = st.one_of(st.just(0), st.integers(0, 2 * HOUR), st.integers(0, 60 * DAY))


def counted(events):
    """Count events given as (step of log time, lateness); return the cells, the events and the last log time."""
    cells, spans = np.zeros((1, 1, ROW_CELLS), dtype=np.uint32), no_spans()
    log_time, taken = START, []
    for step, lateness in events:
        log_time += step
        count_in_windows(cells[0, 0], spans, log_time - lateness, log_time)
        if lateness <= LATE_MS_MAX:
            taken.append(log_time - lateness)
    return cells, taken, log_time


@given(EVENTS, LATER)
def test_a_window_counts_the_events_of_its_buckets(events, later):
    """Exact to the bucket for each window, for every event that was at most 24 h late, however it came in between."""
    cells, taken, log_time = counted(events)
    now = log_time + later
    for window in WINDOWS_MS:
        width = WIDTHS[window]
        oldest = now // width - window // width + 1
        expected = sum(time // width >= oldest for time in taken)
        assert count_window(cells, 0, ONE, window, now).tolist() == [expected]


@given(EVENTS, LATER)
def test_counting_once_more_adds_one_to_every_window(events, later):
    """An event that is on time is in all four windows at once, even after a long silence."""
    cells, _, log_time = counted(events)
    now = log_time + later
    before = [count_window(cells, 0, ONE, window, now)[0] for window in WINDOWS_MS]
    count_in_windows(cells[0, 0], no_spans(), now, now)
    assert [count_window(cells, 0, ONE, window, now)[0] for window in WINDOWS_MS] == [each + 1 for each in before]


@given(EVENTS)
def test_reading_writes_nothing(events):
    """Expiry is left to the next event: a read in the far future changes no cell."""
    cells, _, log_time = counted(events)
    before = cells.copy()
    for window in WINDOWS_MS:
        assert count_window(cells, 0, ONE, window, log_time + 100 * DAY).tolist() == [0.0]
    assert np.array_equal(cells, before)


def test_unknown_items_have_no_count_and_unknown_windows_none_at_all():
    """-1 gives NaN; a window that is not kept is refused by name."""
    cells, _, _ = counted([(0, 0)])
    counts = count_window(cells, 0, np.array([-1, 0], dtype=np.int32), HOUR, START)
    assert np.isnan(counts[0])
    assert counts[1] == 1.0
    with pytest.raises(NotFound, match="2h is not kept"):
        count_window(cells, 0, ONE, 2 * HOUR, START)


@pytest.mark.parametrize("window", WINDOWS_MS)
@pytest.mark.parametrize("ahead", [0, 5 * MINUTE])
def test_the_oldest_bucket_is_kept_until_log_time_leaves_it(window, ahead):
    """Also when an event ahead of log time begins the next bucket; one bucket later it is gone."""
    width = WIDTHS[window]
    start = START // DAY * DAY
    buckets = window // width
    for passed, expected in ((buckets - 1, 2), (buckets, 1)):
        cells = np.zeros((1, 1, ROW_CELLS), dtype=np.uint32)
        count_in_windows(cells[0, 0], no_spans(), start, start)
        now = start + passed * width
        count_in_windows(cells[0, 0], no_spans(), now + ahead, now)
        assert count_window(cells, 0, ONE, window, now).tolist() == [expected]
