"""Marks are the same on every node, however it cut the log into frames and wherever its search begins."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.snapshots.digest_marks import mark_before
from midstream.events.schema import Event, build


class Times:
    """A reader of a log that has log times alone."""

    generation, begin = 0, LogPosition(0)

    def __init__(self, times):
        self.times = times
        self.reads = 0

    def read(self, after, limit, durable):
        assert 0 <= after < durable <= len(self.times)
        self.reads += 1
        return [(after, build((Event(Kind.TICK, log_time_ms=self.times[after]),)))]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60).map(sorted), st.integers(1, 20), st.data())
def test_the_mark_is_the_first_event_of_the_newest_interval(times, interval, data):
    """As a plain search finds it; None where that interval began at or before the beginning of the search."""
    begin = data.draw(st.integers(0, len(times) - 1))
    end = data.draw(st.integers(begin, len(times)))
    found = mark_before(Times(times), LogPosition(begin), LogPosition(end), interval)
    starts = [n for n in range(begin + 1, end) if times[n] // interval > times[n - 1] // interval]
    assert found == (starts[-1] if starts else None)


def test_the_search_reads_few_events():
    """Of a log of a million."""
    reader = Times(range(1_000_000))
    assert mark_before(reader, LogPosition(0), LogPosition(1_000_000), 300_000) == 900_000
    assert reader.reads < 30
