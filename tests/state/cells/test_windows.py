"""Windows of cells by hand: an event counts in its own bucket, however late it came, and leaves with it."""

import msgspec
import numpy as np
import pytest

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.state.cells.cells import CellOwners
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
from tests.support.events import START_MS, tiny_settings

HOUR = 3_600_000
BEGIN = (START_MS // HOUR + 100) * HOUR
WINDOW = Cell("item", ("view",), window_ms=12 * HOUR)
SHORT = Cell("item", ("view",), window_ms=12 * HOUR // 60)


def counted(*events, cell=WINDOW):
    """Return a fold of views of one item, each a pair of log time and event time in hours."""
    fold = Fold(msgspec.structs.replace(tiny_settings(), cells=(cell,)))
    views = [
        Event(
            Kind.INTERACTION,
            action="view",
            user_id="u",
            item_id="a",
            log_time_ms=int(BEGIN + log * HOUR),
            event_time_ms=int(BEGIN + event * HOUR),
        )
        for log, event in events
    ]
    fold.apply(LogPosition(0), build(views))
    return fold


def read(fold, hour, cell=WINDOW):
    """Return the number of views in the window as of an hour."""
    keys = CellOwners(np.zeros(1, dtype=np.int32))
    return fold.cells.read((cell,), keys, int(BEGIN + hour * HOUR))[0, 0]


@pytest.mark.parametrize("back", [1, 5, 10])
def test_a_late_event_leaves_with_its_own_bucket(back):
    """One of now and one of some hours ago: the second is gone as many hours earlier."""
    fold = counted((0.5, 0.5), (0.5, 0.5 - back))
    assert [read(fold, hour) for hour in (0.5, 11.5 - back, 12.5 - back, 11.5, 12.5)] == [2, 2, 1, 1, 0]


def test_late_events_leave_when_the_row_is_written_later_too():
    """As above, where a third event moves the row's own time on in between."""
    fold = counted((0.5, 0.5), (0.5, -4.5), (6.5, 6.5))
    assert [read(fold, hour) for hour in (6.5, 7.5, 11.5, 12.5, 17.5, 18.5)] == [3, 2, 2, 1, 1, 0]


def test_one_before_the_window_counts_for_nothing():
    """Twelve hours and more behind log time is in no bucket that is kept."""
    assert read(counted((0.5, 0.5), (0.5, -11.6)), 0.5) == 1


@pytest.mark.parametrize("later", [(), ((1.5, 1.5),)])
def test_what_is_ahead_counts_at_once_and_leaves_with_the_next_bucket(later):
    """Three minutes ahead of log time lies in the next hour: an hour later than its log time it is gone."""
    fold = counted((0.98, 1.03), *later)
    own = len(later)
    assert [read(fold, hour) - own for hour in (1.6, 12.5)] == [1, 1]
    assert read(fold, 13.5) == 0


@pytest.mark.parametrize("log", [0.0, 0.5])
def test_what_is_ahead_of_the_first_moment_of_a_bucket_leaves_with_the_next_one_too(log):
    """By minutes, so that a whole bucket is as far as an event may be ahead."""
    fold = counted((log / 60, 1.5 / 60), cell=SHORT)
    assert [read(fold, minute / 60, SHORT) for minute in (1.5, 12.5, 13.5)] == [1, 1, 0]
